"""What ``dl.open_rows`` recognises, says and refuses; types follow the rule of the real data."""

import dataclasses
import datetime
import decimal
import io
import json

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import scipy.sparse
from PIL import Image
from safetensors.numpy import save_file

import driftlaw as dl
from driftlaw.errors import ConfigError, DataNotFoundError, InputError

RNG = np.random.default_rng(3)


def whole(rows):
    chunks = list(rows)
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def kinds(rows):
    return {c.name: c.kind for c in rows.columns}


def test_kinds_and_units():
    table = pa.table(
        {
            "day": pa.array([datetime.date(1970, 1, 11), None]),
            "at": pa.array([datetime.datetime(1970, 1, 2, 12), datetime.datetime(1970, 1, 1)]),
            "zone": pa.array([datetime.datetime(1970, 1, 1, 6), None], pa.timestamp("ms", tz="Europe/Oslo")),
            "hour": pa.array([datetime.time(0, 1), datetime.time(1)]),
            "took": pa.array([datetime.timedelta(milliseconds=1500), None]),
            "price": pa.array([decimal.Decimal("12.50"), decimal.Decimal("3.25")]),
            "half": pa.array([np.float16(1.5), None], pa.float16()),
            "flag": pa.array([True, None]),
            "code": pa.array([7, 7], pa.uint8()),
            "name": pa.array(["ö", None]).dictionary_encode(),
        }
    )
    rows = dl.open_rows(table)
    assert kinds(rows) == {
        "day": "date", "at": "date", "zone": "date", "hour": "time", "took": "duration", "price": "number",
        "half": "number", "flag": "boolean", "code": "number", "name": "text",
    }  # fmt: skip
    got = whole(rows)
    np.testing.assert_array_equal(got["day"], [10, np.nan])
    np.testing.assert_array_equal(got["at"], [1.5, 0])
    assert got["zone"][0] == 0.25
    np.testing.assert_array_equal(got["hour"], [60, 3600])
    np.testing.assert_array_equal(got["took"], [1.5, np.nan])
    np.testing.assert_array_equal(got["price"], [12.5, 3.25])
    np.testing.assert_array_equal(got["flag"], [1, np.nan])
    assert got["name"].tolist() == ["ö", None]
    assert {c.unit for c in rows.columns if c.kind == "date"} == {"days since 1970-01-01"}
    assert "column 'took' is read as seconds" in rows.notes


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1,234.5", "99", "12,000"], [1234.5, 99, 12000]),
        (["1'234", "5'678'901"], [1234, 5678901]),
        (["12 500", "1 000"], [12500, 1000]),
        (["3,5", "1.200,75", "-4"], [3.5, 1200.75, -4]),
        (["$1,050.00", "$7.50"], [1050, 7.5]),
        (["12.5%", "3.0 %"], [12.5, 3]),
        (["1.5", "", "2e3"], [1.5, np.nan, 2000]),
    ],
)
def test_numbers_written_as_text(texts, numbers):
    rows = dl.open_rows({"v": texts * 3, "k": list("abc")[: len(texts)] * 3})
    assert kinds(rows)["v"] == "number"
    np.testing.assert_array_equal(whole(rows)["v"], numbers * 3)
    assert any("numbers written as text" in note for note in rows.notes)


@pytest.mark.parametrize("texts", [["007", "042"], ["17", "23"], ["12a", "1,5"], ["1,2,3", "4"], ["yes", "no"]])
def test_text_that_stays_text(texts):
    rows = dl.open_rows({"v": texts, "n": [1.0, 2.0]})
    assert kinds(rows)["v"] == "text"
    assert whole(rows)["v"].tolist() == texts


def test_a_number_that_is_none_is_named():
    values = ["1,000.5"] * 5000 + ["many"]
    with pytest.raises(InputError, match=r"row 5000 of column 'v' of the table is 'many', no number"):
        list(dl.open_rows({"v": values, "w": np.arange(5001.0)}))


def test_the_real_type_rules(tmp_path):
    real = pd.DataFrame(
        {
            "post": RNG.choice(["00501", "06390", "99950"], 300),
            "rent": RNG.lognormal(6, 0.4, 300).round(2),
            "moved": pd.Timestamp("2015-05-05") + pd.to_timedelta(RNG.integers(0, 99, 300), unit="D"),
            "owner": RNG.random(300) < 0.5,
        }
    )
    sketch = dl.sketch(real, "identity")
    plain = dl.sketch(real, like=sketch)
    changed = real.assign(
        post=real["post"].astype(int),
        rent=[f"{v:,.2f}" for v in real["rent"]],
        moved=real["moved"].dt.strftime("%Y-%m-%d"),
        owner=real["owner"].map({True: "True", False: "False"}),
    )
    changed.to_csv(tmp_path / "gen.csv", index=False)
    for data in (changed, tmp_path / "gen.csv", changed.to_dict("records"), polars.from_pandas(changed)):
        got = dl.sketch(data, like=sketch)
        np.testing.assert_allclose(got.mean, plain.mean, atol=1e-12)
        assert got.unseen == {}
        words = " ".join(got.notes)
        assert "'post' holds numbers here and text in the real data: read as text, filled up to 5 digits" in words
        assert "'rent' holds numbers written as text" in words
    text = real.assign(rent=real["rent"].astype(str) + " EUR")
    with pytest.raises(InputError, match=r"row 0 of column 'rent' of the table is '.* EUR', no number"):
        dl.sketch(text, like=sketch)
    with pytest.raises(InputError, match=r"column 'moved' of .* holds numbers, the real data date"):
        dl.sketch(real.assign(moved=3), like=sketch)
    with pytest.raises(InputError, match=r"'rent' of the real data is not in the table"):
        dl.sketch(real.drop(columns="rent"), like=sketch)
    more = dl.sketch(real.assign(extra=1), like=sketch)
    assert any("1 columns of the table are not in the real data and are left out: 'extra'" in n for n in more.notes)
    empty = dl.sketch(real.assign(rent=np.nan, post=None), like=sketch)
    assert (empty.missing["rent"], empty.missing["post"]) == (300, 300)
    opened = dl.open_rows(changed)  # opened without a rule, read by it
    np.testing.assert_allclose(dl.sketch(opened, like=sketch).mean, plain.mean, atol=1e-12)


def test_new_categories_survive():
    real = dl.sketch({"c": [f"k{i}" for i in range(60)] * 20, "x": RNG.normal(size=1200)}, "identity")
    got = dl.sketch({"c": ["k3", "k59", "new"] * 50, "x": RNG.normal(size=150)}, like=real)
    assert got.unseen["c"]["new"] == 50
    assert set(got.unseen["c"]) - set(real.unseen["c"]) == {"new"}


@pytest.mark.parametrize(
    ("text", "names", "index"),
    [
        (",a,b\n0,1.5,2\n1,2.5,3\n2,3.5,1\n", ["a", "b"], ""),
        ("Unnamed: 0,a\n5,1.5\n6,2.5\n7,0.5\n", ["a"], "Unnamed: 0"),
        ("index;a;b\n1;2,5;x\n2;3,5;y\n3;1,5;x\n", ["a", "b"], "index"),
        ("index,a\n4,1.5\n4,2.5\n9,0.5\n", ["index", "a"], None),
        ("id,a\n0,1.5\n1,2.5\n2,0.5\n", ["id", "a"], None),
    ],
)
def test_index_columns(tmp_path, text, names, index):
    (tmp_path / "t.csv").write_text(text)
    rows = dl.open_rows(tmp_path / "t.csv")
    assert [c.name for c in rows.columns] == names
    assert rows.index == index
    assert any("only counts the rows" in n for n in rows.notes) == (index is not None)
    if index:
        assert [c.name for c in dl.open_rows(tmp_path / "t.csv", columns=[index, "a"]).columns] == [index, "a"]


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("0,1,2\n.5,1.5,2.5\n3,4,5\n", ["0", "1", "2"], 2),
        ("1,2\n.5,1.5\n", ["1", "2"], 1),
        ("1,2\n3,4\n5,6\n", ["f0", "f1"], 3),
        ("0\n1\n2\n", ["f0"], 3),
        ("0.3,1,2\n.5,1.5,2.5\n", ["f0", "f1", "f2"], 2),
        ('"first, name",b\n1,2\n', ["first, name", "b"], 1),
        ("﻿a,b\n1,2\n", ["a", "b"], 1),
        ("a|b\n1|2\n", ["a", "b"], 1),
        ("a b\n1 2\n3 4\n", ["a", "b"], 2),
        ("a\r\n1\r\n2\r\n", ["a"], 2),
    ],
)
def test_headers_and_separators(tmp_path, text, names, rows):
    (tmp_path / "t.csv").write_bytes(text.encode())
    opened = dl.open_rows(tmp_path / "t.csv")
    got = whole(opened)
    assert list(got) == names
    assert len(got[names[0]]) == rows


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    table = pd.DataFrame({"Größe": [1.5, 2.5], "Stadt": ["Zürich", "Genève"]})
    table.to_csv(tmp_path / "t.csv", index=False, encoding=encoding, sep=";")
    rows = dl.open_rows(tmp_path / "t.csv")
    assert whole(rows)["Stadt"].tolist() == ["Zürich", "Genève"]
    assert rows.separator == ";"
    assert any("read as" in n for n in rows.notes) == (encoding != "utf-8-sig")
    same = dl.open_rows(tmp_path / "t.csv", encoding=encoding, separator=";")
    assert list(whole(same)) == ["Größe", "Stadt"]


def test_a_late_letter_of_another_encoding_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("driftlaw.data.rows.delimited.SNIFFED", 64)
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,x\n" * 100 + "2,ü\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"t.csv is not utf-8 text .*--encoding"):
        list(dl.open_rows(tmp_path / "t.csv"))
    assert whole(dl.open_rows(tmp_path / "t.csv", encoding="latin-1"))["b"][-1] == "ü"


BAD_TEXT = {
    "a,b,a\n1,2,3\n": r"a column more than once: 'a'",
    "a,b\n1,2\n3\n": r"row 1 of .*t.csv has 1 fields, the table 2 columns",
    "": r"t.csv is empty",
}


@pytest.mark.parametrize("text", BAD_TEXT)
def test_bad_text_files(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=BAD_TEXT[text]):
        list(dl.open_rows(tmp_path / "t.csv"))


def test_text_in_a_numeric_column_is_located(tmp_path, monkeypatch):
    monkeypatch.setattr("driftlaw.data.rows.delimited.BLOCK", 1 << 8)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("n,m\n" + "1,2\n" * 10)
    (tmp_path / "d" / "b.csv").write_text("n,m\n" + "1,2\n" * 300 + "3,oops\n" + "1,2\n" * 9)
    with pytest.raises(InputError, match=r"row 300, column 'm' of .*b.csv is 'oops', the rows before are numbers"):
        list(dl.open_rows(tmp_path / "d"))
    (tmp_path / "d" / "b.csv").write_text("n,k\n1,2\n")
    with pytest.raises(InputError, match=r"b.csv has the columns 'n', 'k', .*a.csv has 'n', 'm'"):
        dl.open_rows(tmp_path / "d")


def test_arrays_that_look_like_images():
    bytes_ = RNG.integers(0, 256, (9, 6, 5), dtype=np.uint8)
    rows = dl.open_rows(bytes_)
    assert (rows.kind, rows.shape) == ("images", (1, 6, 5))
    last = dl.open_rows(RNG.normal(size=(9, 6, 5, 3)))
    assert (last.kind, last.shape) == ("images", (3, 6, 5))
    clear = dl.open_rows(RNG.integers(0, 256, (9, 6, 5, 4), dtype=np.uint8))
    assert clear.shape == (3, 6, 5)
    assert "without the alpha channel" in clear.notes[0]
    assert dl.open_rows(RNG.normal(size=(9, 6, 5))).kind == "vectors"


def test_lists_and_other_columns():
    table = pa.table({"id": [3, 1], "pos": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "kind": ["a", "b"]})
    rows = dl.open_rows(table)
    assert [c.name for c in rows.columns] == ["id", "pos[0]", "pos[1]", "pos[2]", "kind"]
    np.testing.assert_array_equal(whole(rows)["pos[1]"], [2, 5])
    only = dl.open_rows(table, columns=["pos"])
    assert (only.kind, only.shape) == ("vectors", (3,))
    nested = dl.open_rows({"grid": [[[1.0, 2.0]] * 3] * 4})
    assert (nested.kind, nested.shape) == ("vectors", (3, 2))


def test_masks_are_missing_cells():
    x = np.ma.masked_array(RNG.normal(size=(50, 3)), mask=False)
    x[7, 1] = np.ma.masked
    rows = dl.open_rows(x)
    assert np.isnan(whole(rows)["x1"][7])
    sketch = dl.sketch(x, "identity")
    assert dl.sketch(np.asarray(x.data), like=sketch).n == 50
    with pytest.raises(InputError, match=r"1 cells of the array are masked, the first is row 7, column 1"):
        dl.sketch(x.reshape(50, 3, 1), "identity")


def test_other_holders(tmp_path):
    x = RNG.normal(size=(40, 3))
    save_file({"x": x, "bias": x[0]}, tmp_path / "t.safetensors")
    np.savetxt(tmp_path / "t.txt", x)
    np.save(tmp_path / "a.npy", x[:20])
    np.save(tmp_path / "b.npy", x[20:])
    records = np.rec.fromarrays([x[:, 0], np.arange(40)], names="a,b")
    pyarrow.parquet.write_table(pa.table({"v": list(x)}), tmp_path / "v.parquet")
    for data in (
        tmp_path / "t.safetensors",
        scipy.sparse.csr_matrix(x),
        (p for p in [tmp_path / "a.npy", tmp_path / "b.npy"]),
        pd.Series(list(x)),
        polars.Series("v", x),
        pa.array(list(x)),
        pyarrow.dataset.dataset(tmp_path / "v.parquet"),
        pyarrow.dataset.dataset(tmp_path / "v.parquet").scanner(),
    ):
        np.testing.assert_array_equal(np.concatenate(list(dl.open_rows(data))), x)
    text = whole(dl.open_rows(tmp_path / "t.txt"))
    np.testing.assert_allclose(np.stack(list(text.values()), axis=1), x)
    assert kinds(dl.open_rows(records)) == {"a": "number", "b": "number"}
    assert kinds(dl.open_rows(pd.Series([1, None, 3], dtype="Int64", name="n"))) == {"n": "number"}


def test_records_of_classes():
    @dataclasses.dataclass
    class Person:
        age: float
        city: str

    people = [Person(31.0, "Bonn"), Person(45.0, "Oslo")]
    frame = pd.DataFrame({"age": [31.0, 45.0], "city": ["Bonn", "Oslo"]})
    for data in (people, list(frame.itertuples(index=False))):
        assert kinds(dl.open_rows(data)) == {"age": "number", "city": "text"}
    assert kinds(dl.open_rows([(31.0, "Bonn"), (45.0, "Oslo")])) == {"f0": "number", "f1": "text"}
    indexed = dl.open_rows(frame.set_index("city"))
    assert list(kinds(indexed)) == ["age"]
    assert "the index city of the table is left out: reset_index() makes it columns" in indexed.notes


def picture(path, size=(6, 6), **settings):
    Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, **settings)


def test_folders_count_what_they_leave_out(tmp_path):
    for i in range(40):
        picture(tmp_path / f"{i}.png")
    pd.DataFrame({"file": ["0.png"], "caption": ["x"]}).to_csv(tmp_path / "metadata.csv")
    for name in ("readme.md", "more.md", "x.heic", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    rows = dl.open_rows(tmp_path)
    assert (rows.kind, rows.rows) == ("images", 40)
    assert {(s.suffix, s.reason, s.count) for s in rows.skipped} == {
        (".csv", "describes the images", 1), (".md", "not a format that is read", 2),
        (".heic", "not a format that is read", 1), ("", "hidden", 1),
    }  # fmt: skip
    assert any("2 .md files" in note for note in dl.sketch(tmp_path, dimension=2).notes)
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"mixes .csv \(1\), .npy \(1\), images \(40\)"):
        dl.open_rows(tmp_path)


def test_unreadable_images(tmp_path):
    for i in range(40):
        picture(tmp_path / f"{i}.jpg")
    content = (tmp_path / "4.jpg").read_bytes()
    (tmp_path / "4.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"4.jpg cannot be read .*--skip-bad") as caught:
        list(dl.open_rows(tmp_path))
    assert "driftlaw run" not in str(caught.value)
    rows = dl.open_rows(tmp_path, skip_bad=True)
    assert rows.rows == 39
    assert len(np.concatenate(list(rows))) == 39
    assert any("1 of 40 images" in note for note in rows.notes)
    assert dl.sketch(tmp_path, dimension=1, skip_bad=True).n < 39


BAD_DATA = {
    "no file": lambda d: d / "nothing.npy",
    "empty rows": lambda d: _header(d / "z.npy", (10**12, 0)),
    "short file": lambda d: _header(d / "s.npy", (10**9, 4)),
    "objects": lambda d: np.array([{}, {}], dtype=object).reshape(2, 1),
    "complex": lambda d: np.zeros((3, 2), complex),
    "scalar": lambda d: np.float64(3.0),
    "uneven": lambda d: [[1.0, 2.0], [3.0]],
    "uneven lists": lambda d: {"v": [[1.0, 2.0], [3.0]]},
    "mixed list": lambda d: [np.zeros(3), {"a": 1}],
    "byte matrices": lambda d: [np.zeros((4, 4), np.uint8)] * 2,
    "types change": lambda d: [{"a": 1.0}, {"a": "x"}],
    "equal names": lambda d: pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "structs": lambda d: {"s": [{"a": 1}, {"a": 2}]},
    "empty list": lambda d: [],
    "empty folder": lambda d: d,
    "pickle": lambda d: _write(d / "x.pkl", b""),
    "splits": lambda d: {"train": polars.DataFrame({"a": [1]}), "test": polars.DataFrame({"a": [1]})},
    "json": lambda d: _write(d / "x.json", b"[1, 2]"),
    "jsonl": lambda d: _write(d / "x.jsonl", b'{"a": 1}\n{"a": '),
    "tar": lambda d: _write(d / "x.tar", b"no archive" * 99),
    "bytes": lambda d: [b"no image", b"at all"],
    "address": lambda d: "nowhere://bucket/x.npy",
    "memory": lambda d: "memory://driftlaw/not-there.csv",
}
WORDS = {
    "no file": "there is no file", "empty rows": "its rows hold no numbers", "short file": "damaged or incomplete",
    "objects": "Python objects", "complex": "dtype complex128", "scalar": "single number",
    "uneven": "item 1 of the list has shape", "uneven lists": r"row 1 of column 'v' .* list of 1 numbers",
    "mixed list": "chunk 1 of the list is a dict", "byte matrices": r"byte arrays of shape \(4, 4\)",
    "types change": r"row 1, column 'a' of the list is 'x', a str", "equal names": "more than once: 'a'",
    "structs": "neither numbers nor text: 's'", "empty list": "holds no rows", "empty folder": "holds no images",
    "pickle": "not a file that driftlaw reads", "splits": "holds the splits train, test",
    "json": "no list of objects", "jsonl": "damaged or incomplete", "tar": "damaged or incomplete",
    "bytes": "0 of the list cannot be read", "address": "cannot be opened", "memory": "there is no file",
}  # fmt: skip


def _header(path, shape):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return path


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_named(tmp_path, case):
    data = BAD_DATA[case](tmp_path)
    with pytest.raises((InputError, DataNotFoundError), match=WORDS[case]) as caught:
        list(dl.open_rows(data))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (np.zeros((4, 2)), {"size": 8}, "size = 8 has no meaning for the array: it is for images"),
        (np.zeros((4, 2)), {"columns": ["a"]}, "columns were named for an array"),
        ({"a": [1.0]}, {"skip_bad": True}, "it is for images"),
        ({"a": [1.0]}, {"encoding": "latin-1"}, "it is for text files"),
        ({"a": [1.0]}, {"columns": ["b"]}, "no column 'b'"),
        ({"a": [1.0]}, {"size": 0}, "size = 0"),
        ({"a": [1.0]}, {"mode": "CMYK"}, "mode = 'CMYK'"),
        ({"a": [1.0]}, {"separator": ";;"}, "not one character"),
    ],
)
def test_options_that_do_not_fit(data, options, words):
    with pytest.raises(ConfigError, match=words):
        dl.open_rows(data, **options)


def test_files_of_one_folder_must_be_one_table(tmp_path):
    pa.parquet.write_table(pa.table({"a": [1, 2], "b": [1.0, 2.0]}), tmp_path / "1.parquet")
    pa.parquet.write_table(pa.table({"a": [1.5], "b": [3.0]}), tmp_path / "2.parquet")
    assert whole(dl.open_rows(tmp_path))["a"].tolist() == [1, 2, 1.5]
    pa.parquet.write_table(pa.table({"a": [1.5], "c": [3.0]}), tmp_path / "3.parquet")
    with pytest.raises(InputError, match=r"3.parquet lacks 'b'"):
        dl.open_rows(tmp_path)
    (tmp_path / "3.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"3.parquet cannot be read"):
        dl.open_rows(tmp_path)


def test_what_was_recognised_is_json(tmp_path):
    pd.DataFrame({"a": [1.5, 2.5], "t": ["x", "y"]}).to_csv(tmp_path / "t.csv", sep=";")
    document = json.loads(json.dumps(dl.open_rows(tmp_path / "t.csv").to_json()))
    assert document["kind"] == "table"
    assert document["separator"] == ";"
    assert document["index"] == ""
    assert [c["kind"] for c in document["columns"]] == ["number", "text"]
    buffer = io.BytesIO()
    picture(buffer, format="PNG")
    assert dl.open_rows([buffer.getvalue()]).to_json()["shape"] == [3, 6, 6]
