"""Arrays in memory and in files: the split, the units, and every way in which a table can be bad."""

import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from driftlaw.data import ArraySource, DataSource, as_source, build
from driftlaw.data import finite as finite_module
from driftlaw.errors import ConfigError, DataExhaustedError, DataNotFoundError, InputError
from driftlaw.seeding import generator, numpy_generator


def table(n=40, d=3, seed=0):
    return numpy_generator(seed, "test").normal(3.0, 2.0, (n, d))


def all_rows(source):
    g = generator(0, "test")
    return source.rows(torch.arange(source.size)).x, source.held_out(source.held_out_size, g).x


def hashes(x):
    return {row.tobytes() for row in x.numpy()}


def test_the_split_is_disjoint_complete_and_stable():
    x = table(101)
    source = ArraySource(x, held_out=0.3, seed=5, standardize=False)
    assert isinstance(source, DataSource)
    train, held = all_rows(source)
    assert (len(train), len(held)) == (71, 30)
    assert hashes(train) | hashes(held) == hashes(torch.from_numpy(x).float())
    assert not hashes(train) & hashes(held)
    again, held_again = all_rows(ArraySource(x, held_out=0.3, seed=5, standardize=False))
    assert torch.equal(train, again)
    assert hashes(held) == hashes(held_again)
    assert hashes(all_rows(ArraySource(x, held_out=0.3, seed=6, standardize=False))[1]) != hashes(held)


def test_the_split_of_published_runs_does_not_move():
    numbers = ArraySource(np.arange(12.0)[:, None], held_out=4, seed=0, standardize=False)
    assert all_rows(numbers)[0].flatten().tolist() == [1, 2, 3, 4, 5, 6, 8, 11]


def test_draws_are_distinct_rows_of_their_part():
    source = ArraySource(table(30), held_out=10)
    train, held = all_rows(source)
    drawn, kept = source.draw(20, generator(1, "a")).x, source.held_out(10, generator(1, "a")).x
    assert hashes(drawn) == hashes(train)
    assert hashes(kept) == hashes(held)
    assert not torch.equal(drawn, train)
    assert len(source.draw(0, generator(0, "a"))) == 0
    with pytest.raises(DataExhaustedError, match="21 training rows of array were asked for and it has 20"):
        source.draw(21, generator(0, "a"))
    with pytest.raises(DataExhaustedError, match="11 held-out rows"):
        source.held_out(11, generator(0, "a"))
    for index in (-1, 20):
        with pytest.raises(InputError, match=f"row {index} of array"):
            source.rows(torch.tensor([0, index]))


def test_units_come_from_the_training_part_only():
    x = table(60)
    source = ArraySource(x, held_out=0.5)
    train, held = all_rows(source)
    assert train.dtype == torch.float32
    torch.testing.assert_close(train.double().mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        train.double().std(0, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert (held.double().mean(0).abs() > 1e-3).any()
    raw = all_rows(ArraySource(x, held_out=0.5, standardize=False))[0].double()
    torch.testing.assert_close(source.location, raw.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(source.restore(train), raw, atol=1e-5, rtol=0)
    changed = x.copy()
    changed[
        np.isin(x.astype(np.float32)[:, 0], all_rows(ArraySource(x, held_out=0.5, standardize=False))[1][:, 0])
    ] *= 100
    assert torch.equal(ArraySource(changed, held_out=0.5).scale, source.scale)


def test_a_large_offset_does_not_eat_the_digits():
    x = table(50) + 1e9
    torch.testing.assert_close(all_rows(ArraySource(x))[0], all_rows(ArraySource(table(50)))[0], atol=1e-5, rtol=0)


def test_blocks_do_not_change_anything(monkeypatch):
    x = table(50)
    whole = ArraySource(x)
    monkeypatch.setattr(finite_module, "fitting", lambda row_bytes: 7)
    torch.testing.assert_close(ArraySource(x).scale, whole.scale, rtol=1e-14, atol=0)
    x[13, 1], x[48, 0] = np.nan, np.inf
    with pytest.raises(InputError, match=r"2 of 50 rows .* the first is row 13"):
        ArraySource(x)


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "csv"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_all_formats_give_the_same_rows(tmp_path, suffix, dtype):
    x = np.round(table() * 1000).astype(dtype)
    path = tmp_path / f"rows.{suffix}"
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    write = {
        "npy": lambda: np.save(path, x),
        "npz": lambda: np.savez_compressed(path, rows=x),
        "parquet": lambda: frame.to_parquet(path),
        "csv": lambda: frame.to_csv(path, index=False),
    }
    write[suffix]()
    source, expected = as_source(path), ArraySource(x)
    for a, b in zip(all_rows(source), all_rows(expected), strict=True):
        assert torch.equal(a, b)
    assert source.name == path.name
    rebuilt = build(json.loads(json.dumps(source.config())))
    assert rebuilt.config() == source.config()
    assert torch.equal(all_rows(rebuilt)[0], all_rows(source)[0])
    assert as_source(str(path)).config() == source.config()


def test_every_setting_survives_the_round_trip(tmp_path):
    np.savez(tmp_path / "a.npz", rows=table(), other=table(seed=1), kind=np.arange(40) % 3)
    source = ArraySource.from_file(tmp_path / "a.npz", "other", "kind", held_out=7, seed=3, standardize=False)
    config = source.config()
    assert config == {
        "kind": "array",
        "path": str(tmp_path / "a.npz"),
        "key": "other",
        "label": "kind",
        "held_out": 7,
        "seed": 3,
        "standardize": False,
    }
    assert torch.equal(all_rows(build(config))[0], all_rows(source)[0])
    assert source.classes == ("0", "1", "2")


def test_a_npy_file_stays_on_disk(tmp_path):
    np.save(tmp_path / "a.npy", table())
    assert isinstance(ArraySource.from_file(tmp_path / "a.npy")._values, np.memmap)


def test_labels_of_tables_and_archives(tmp_path):
    frame = pd.DataFrame(table(6, 2), columns=["a", "b"]).assign(species=["cat", "dog", "cat", "ant", "dog", "cat"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        source = ArraySource.from_file(tmp_path / name, label="species", standardize=False)
        assert source.classes == ("ant", "cat", "dog")
        assert source.shape == (2,)
        batch = source.draw(source.size, generator(0, "t"))
        lookup = {row[0]: source.classes[y] for row, y in zip(batch.x.tolist(), batch.y.tolist(), strict=True)}
        expected = dict(zip(frame.a.astype(np.float32).tolist(), frame.species, strict=True))
        assert lookup.items() <= expected.items()
    np.savez(tmp_path / "t.npz", x=table(6, 2), y=np.array([5, 5, 7, 7, 5, 9]))
    assert as_source(tmp_path / "t.npz").classes == ("5", "7", "9")


def test_a_csv_without_header_keeps_its_first_row(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n5,7\n")
    source = as_source(tmp_path / "a.csv")
    assert source.size + source.held_out_size == 3


def test_images():
    x = numpy_generator(0, "images").integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)
    source = ArraySource(x, held_out=2)
    assert source.shape == (3, 4, 5)
    train, _ = all_rows(source)
    assert train.min() >= -1
    assert train.max() <= 1
    assert {tuple(r.flatten().tolist()) for r in source.restore(train).round().byte()} <= {
        tuple(r.flatten().tolist()) for r in x
    }
    assert ArraySource(torch.from_numpy(x / 255).float()).warnings[0].endswith("black is -1 in [-1, 1], not 0")
    assert ArraySource(x / 127.5 - 1).warnings == ()


def test_tensors_are_taken_and_cannot_be_written():
    source = as_source(torch.from_numpy(table()).to(torch.bfloat16).requires_grad_())
    assert source.size == 30
    with pytest.raises(ConfigError, match=r"array in memory.*numpy\.save.*kind: array"):
        source.config()


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((0, 3)), "has 0 rows"),
        (np.zeros((1, 3)), "has 1 row; at least 2"),
        (np.zeros(5), r"shape \(5,\).*x\[:, None\]"),
        (np.zeros((5, 4, 4)), r"shape \(5, 4, 4\).*need a channel"),
        (np.zeros((5, 0)), r"shape \(5, 0\)"),
        (np.zeros((5, 28, 28, 3)), r"looks like \[n, h, w, c\].*transpose"),
        (np.full((5, 1, 4, 4), 3.0), r"\[3, 3\].*uint8 bytes, or floats scaled to \[-1, 1\]"),
        (np.zeros((5, 1, 4, 4), dtype=np.int64), "images of array are int64"),
        (np.array([[object()], [1]]), "holds Python objects"),
        (np.array([["a"], ["b"]]), "dtype <U1"),
        (np.zeros((5, 2), dtype=complex), "dtype complex128"),
        (np.array([[1.0], [1e39], [2.0]]), "1 of 3 rows .* infinite .* first is row 1"),
        ([[1.0], [2.0]], "array is a list"),
    ],
)
def test_bad_arrays(x, words):
    with pytest.raises(InputError, match=words):
        ArraySource(x)


@pytest.mark.parametrize("held_out", [0, 1.0, 5, -1, 0.0, 2.5, True, "half", float("nan")])
def test_bad_held_out(held_out):
    with pytest.raises(ConfigError, match=r"cannot split the 5 rows.*fraction between 0 and 1, or a number"):
        ArraySource(table(5), held_out=held_out)


def test_small_sets_keep_a_row_on_each_side():
    for held_out in (0.001, 0.999):
        source = ArraySource(table(2), held_out=held_out)
        assert (source.size, source.held_out_size) == (1, 1)


def test_images_are_not_standardized():
    with pytest.raises(ConfigError, match="standardize is for columns"):
        ArraySource(np.zeros((5, 1, 4, 4)), standardize=True)


def test_constant_columns_are_named(tmp_path):
    frame = pd.DataFrame(table(), columns=["a", "b", "c"]).assign(b=1.1, z=2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    source = as_source(tmp_path / "t.csv")
    assert source.warnings == ("2 of 4 columns of t.csv are constant: b, z",)
    assert torch.isfinite(all_rows(source)[0]).all()
    assert ArraySource(frame.to_numpy()).warnings == ("2 of 4 columns of array are constant: column 1, column 3",)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros(3), "labels of shape"),
        (np.array([0, 1, np.nan, np.nan, 0]), "2 labels of array are missing; the first is row 2"),
        (np.zeros(5, dtype=complex), "labels of array have dtype"),
    ],
)
def test_bad_labels(y, words):
    with pytest.raises(InputError, match=words):
        ArraySource(table(5), y=y)


def test_columns_that_are_not_numeric_are_named(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "when": ["monday", "tuesday"], "who": ["x", "y"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(InputError, match=r"2 of 3 columns are not numeric: 'when' .*'who' .*label: NAME"):
            as_source(tmp_path / name)
        with pytest.raises(ConfigError, match=r"no column 'whom'. Did you mean 'who'"):
            ArraySource.from_file(tmp_path / name, label="whom")


def test_missing_values_of_a_table_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,\nNaN,4\n5,6\n")
    with pytest.raises(InputError, match=r"2 of 4 rows of t.csv hold NaN.*first is row 1"):
        as_source(tmp_path / "t.csv")
    pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1.0, 2, 3]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"1 of 3 rows of t.parquet.*first is row 1"):
        as_source(tmp_path / "t.parquet")
    pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "y"]}).to_parquet(tmp_path / "u.parquet")
    with pytest.raises(InputError, match=r"1 labels in column 'b' .* first is row 1"):
        ArraySource.from_file(tmp_path / "u.parquet", label="b")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_objects_are_refused_without_unpickling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.array([[Bomb()], [1]], dtype=object)
    np.save("a.npy", x, allow_pickle=True)
    np.savez("a.npz", x=x)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match=rf"{name} holds Python objects, which are refused without unpickling"):
            as_source(tmp_path / name)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04cposix\nmkdir\nX\x08\x00\x00\x00exploded\x85R.")
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npy").read_bytes())
    for name in ("b.npy", "b.npz"):
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            as_source(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


CUTS = [(suffix, keep) for suffix in ("npy", "npz", "parquet") for keep in (0, 20, 0.5, 0.98)] + [("csv", 0)]


@pytest.mark.parametrize(("suffix", "keep"), CUTS)
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path = tmp_path / f"t.{suffix}"
    frame = pd.DataFrame(table(400), columns=["a", "b", "c"])
    if suffix == "npy":
        np.save(path, frame.to_numpy())
    elif suffix == "npz":
        np.savez(path, x=frame.to_numpy())
    else:
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    words = "is empty" if suffix == "csv" else "cannot be read, it is damaged"
    with pytest.raises(InputError, match=rf"t.{suffix} {words}"):
        as_source(path)


def test_a_damaged_member_of_an_archive_is_found(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x=table(400))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.infolist()[0].header_offset + 3000] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t.npz cannot be read.*CRC"):
        as_source(path)


def test_keys_of_archives(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, left=table(), right=table(seed=1))
    with pytest.raises(ConfigError, match=r"holds 2 arrays: left, right. Say which one with key: NAME"):
        as_source(path)
    with pytest.raises(ConfigError, match=r"no array 'rihgt'. Did you mean 'right'"):
        ArraySource.from_file(path, key="rihgt")
    assert ArraySource.from_file(path, key="left").size == 30
    np.save(tmp_path / "t.npy", table())
    with pytest.raises(ConfigError, match=r"key = 'x' is for .npz"):
        ArraySource.from_file(tmp_path / "t.npy", key="x")
    with pytest.raises(ConfigError, match="label = 'y' has no meaning"):
        ArraySource.from_file(tmp_path / "t.npy", label="y")


def test_files_that_are_not_there_or_not_known(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no file .*t.npy"):
        as_source(tmp_path / "t.npy")
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(InputError, match=r"not a file that driftlaw reads. Use one of .npy, .npz, .parquet, .*.csv"):
        as_source(tmp_path / "t.xlsx")
