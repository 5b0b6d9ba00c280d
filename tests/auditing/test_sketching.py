"""dl.sketch: every kind of input gives the same sketch; what fits is not counted; bad data is refused."""

import importlib.util
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import driftlaw as dl
from driftlaw.auditing import sketching
from driftlaw.errors import ConfigError, CorruptFileError, DataNotFoundError, InputError

N = 3000


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32) + 2


@pytest.fixture(scope="module")
def frame(x):
    table = pd.DataFrame(x.astype(float), columns=list("abcd"))
    table["kind"] = np.random.default_rng(1).choice(["u", "v", "w"], N)
    table.loc[::20, "b"] = np.nan
    return table


def same(a, b):
    assert a.features.fingerprint == b.features.fingerprint
    assert a.n == b.n
    assert (a.counts == b.counts).all()
    np.testing.assert_allclose(a.means, b.means, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-10, atol=1e-12)
    assert a.missing == b.missing


def test_arrays_in_all_their_forms(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(N))
    (tmp_path / "parts").mkdir()
    for i, part in enumerate(np.split(x, [700, 701])):
        np.save(tmp_path / "parts" / f"{i}.npy", part)
    pq.write_table(pa.table({"id": np.arange(N), "v": list(x)}), tmp_path / "e.parquet", row_group_size=450)
    whole = dl.sketch(x, "identity")
    for data in (
        torch.from_numpy(x),
        tmp_path / "x.npy",
        str(tmp_path / "fortran.npy"),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        tmp_path / "x.npz",
        tmp_path / "parts",
        sorted((tmp_path / "parts").iterdir()),
        [x[:10], x[10:]],
    ):
        same(dl.sketch(data, "identity"), whole)
    same(dl.sketch(tmp_path / "e.parquet", "identity", columns=["v"]), whole)


def test_tables_in_all_their_forms(frame, tmp_path):
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=450)
    frame.to_csv(tmp_path / "t.csv", index=False)
    whole = dl.sketch(frame, "quadratic")
    fitted = sketching._uniform(0, N, sketching.stream_seed(0, "sketch", "fit")) < sketching.SHARE
    assert whole.missing == {"b": int(frame["b"].isna()[~fitted].sum())}
    for data in (tmp_path / "t.parquet", {name: frame[name].to_numpy() for name in frame}):
        same(dl.sketch(data, "quadratic"), whole)
    # text of a csv is read to the last digit
    same(dl.sketch(tmp_path / "t.csv", "quadratic"), whole)
    chosen = dl.sketch(tmp_path / "t.parquet", "identity", columns=["kind", "a"])
    assert chosen.features.labels == ["a", *[f"kind={c}" for c in chosen.features.categories["kind"][1:]]]
    same(dl.sketch(tmp_path / "t.csv", like=chosen), dl.sketch(frame[["a", "kind"]], like=chosen))


def test_what_fits_is_a_seeded_fifth_and_is_not_counted(x):
    a, b = dl.sketch(x), dl.sketch(x, seed=1)
    assert a.n + a.features.fitted_on == N
    assert abs(a.features.fitted_on / N - 0.2) < 5 * np.sqrt(0.16 / N)  # five binomial errors: 6e-7
    assert a.features.fingerprint != b.features.fingerprint
    fitted = sketching._uniform(0, N, sketching.stream_seed(0, "sketch", "fit")) < sketching.SHARE
    np.testing.assert_allclose(a.mean, a.features(x[~fitted]).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(a.features(x[fitted]).mean(axis=0), 0, atol=1e-6)  # pca is centred on its fitting rows
    every = dl.sketch(x[:1000], fit_on=x[1000:])
    assert (every.n, every.features.fitted_on) == (1000, 2000)
    again = dl.sketch(x, a.features)
    assert again.n == N


@pytest.mark.parametrize("known", [True, False])
def test_the_fitting_part_is_bounded(x, known, tmp_path, monkeypatch):
    monkeypatch.setattr(sketching, "FIT_ROWS", 100)
    monkeypatch.setattr("driftlaw.data.rows.delimited.BLOCK", 1 << 12)
    pd.DataFrame(x, columns=list("abcd")).to_csv(tmp_path / "x.csv", index=False)
    sketch = dl.sketch(x if known else tmp_path / "x.csv", "identity")
    assert sketch.n + sketch.features.fitted_on == N
    assert 40 <= sketch.features.fitted_on <= 150


def test_an_iterator_is_read_once(x, monkeypatch):
    def chunks():
        yield x[:100]
        yield torch.from_numpy(x[100:])

    short = dl.sketch(chunks(), "identity")
    same(short, dl.sketch(x, "identity"))
    assert short.warnings == ()
    monkeypatch.setattr(sketching, "FIT_ROWS", 500)
    long = dl.sketch((x[i : i + 50] for i in range(0, N, 50)), "identity")
    assert long.n + long.features.fitted_on == N
    assert "among the first 500 of an iterator" in long.warnings[0]
    tables = dl.sketch(iter([pd.DataFrame(x[:600]), pd.DataFrame(x[600:])]), "identity")
    assert tables.features.labels == ["0", "1", "2", "3"]


def test_shards_with_their_row_numbers_are_the_whole(x, tmp_path):
    real = dl.sketch(x, "identity")
    real.save(tmp_path / "real.sketch")
    parts = [dl.sketch(x[a:b], like=tmp_path / "real.sketch", first_row=a) for a, b in ((0, 333), (333, N))]
    same(parts[1].merge(parts[0]), dl.sketch(x, like=real))


def test_images(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(200, 3, 6, 6), dtype=np.uint8)
    for i, image in enumerate(images):
        folder = tmp_path / "set" / ("even" if i < 100 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03d}.png")
    folder = dl.sketch(tmp_path / "set", dimension=4)
    same(folder, dl.sketch(images, dimension=4))
    scaled = (images.astype(np.float32) - 127.5) / 127.5  # generated images come as floats in [-1, 1]
    same(dl.sketch(images, like=folder), dl.sketch(scaled, like=folder))
    grey = dl.sketch(tmp_path / "set", mode="L", size=4, dimension=2)
    assert grey.features.encoder.config()["shape"] == [1, 4, 4]
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / "set" / "odd" / "zzz.png")
    with pytest.raises(InputError, match=r"different sizes: .* is 6x6, zzz.png is 6x5"):
        dl.sketch(tmp_path / "set", like=folder)
    (tmp_path / "set" / "odd" / "zzz.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"zzz.png cannot be read"):
        dl.sketch(tmp_path / "set", like=folder)


def test_a_network_map_is_given_back(x, tmp_path):
    class Half:
        name, dimension, fingerprint = "half", 2, "v1"

        def __call__(self, rows):
            return rows[:, :2] / 2

    real = dl.sketch(x, Half())
    real.save(tmp_path / "s")
    with pytest.raises(InputError, match="not stored in the sketch"):
        dl.sketch(x, like=tmp_path / "s")
    assert dl.sketch(x, Half(), like=tmp_path / "s").n == N


def test_memory_does_not_grow_with_rows():
    def peak(chunks):
        rng = np.random.default_rng(0)
        tracemalloc.start()
        dl.sketch((rng.normal(size=(20_000, 8)) for _ in range(chunks)), "identity")
        value = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value

    peak(1)
    assert peak(24) < 1.15 * peak(6)


def test_bad_files(x, tmp_path):
    bad = x.copy()
    bad[2500, 1] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    real = dl.sketch(x)
    for data in (tmp_path / "nan.npy", bad):
        with pytest.raises(InputError, match=r"1 cells in 1 of the rows .* the first is row 2500, column x1"):
            dl.sketch(data, like=real)
    whole = (tmp_path / "nan.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    pd.DataFrame({"both": [{"a": 1}] * 9}).to_parquet(tmp_path / "structs.parquet")
    pd.DataFrame({"a": [1.0, 2.0]}).iloc[:0].to_parquet(tmp_path / "norows.parquet")
    (tmp_path / "mixed").mkdir()
    np.save(tmp_path / "mixed" / "a.npy", x)
    (tmp_path / "mixed" / "b.csv").write_text("a\n1\n")
    for name, words in (
        ("cut.npy", "damaged or incomplete"),
        ("text.parquet", "damaged or incomplete"),
        ("empty", "holds no images"),
        ("none.npy", "0 rows of .* to fit"),
        ("objects.npy", "objects"),
        ("structs.parquet", "neither numbers nor text: 'both'"),
        ("norows.parquet", "0 rows of .* to fit"),
        ("mixed", r"mixes \.csv \(1\), \.npy \(1\)"),
    ):
        with pytest.raises(InputError, match=words):
            dl.sketch(tmp_path / name)
    with pytest.raises(DataNotFoundError, match="no file"):
        dl.sketch(tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match=r"holds no rows"):
        dl.sketch(np.zeros((0, 4)), like=real)
    (tmp_path / "broken.sketch").write_bytes(b"\0" * 50)
    with pytest.raises(InputError, match="is not a sketch"):
        dl.sketch(x, like=tmp_path / "broken.sketch")
    real.save(tmp_path / "broken.sketch")
    (tmp_path / "broken.sketch").write_bytes((tmp_path / "broken.sketch").read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match="damaged"):
        dl.sketch(x, like=tmp_path / "broken.sketch")


def test_a_csv_whose_type_changes_or_that_has_no_names(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 300 + "1.5,\n")
    sketch = dl.sketch(
        tmp_path / "a.csv", like=dl.sketch({"a": np.arange(50.0), "b": np.arange(50.0) ** 2}, "identity")
    )
    assert (sketch.n, sketch.missing) == (301, {"b": 1})
    (tmp_path / "b.csv").write_text("1,2\n2,5\n" * 50)
    assert dl.sketch(tmp_path / "b.csv", "identity").features.labels == ["f0", "f1"]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("array", {"features": "pcaa"}, "Did you mean 'pca'"),
        ("array", {"columns": ["a"]}, "array without names"),
        ("frame", {"columns": ["kin"]}, "Did you mean 'kind'"),
        ("frame", {"categorical": ["x"], "features": "identity"}, "no column 'x'"),
        ("array", {"size": 3}, "size = 3 has no meaning"),
        ("array", {"like": "real", "dimension": 3}, "dimension was given with like"),
        ("array", {"like": "real", "blocks": 8}, "blocks = 8"),
        ("array", {"like": "real", "features": "quadratic"}, "features = 'quadratic'"),
        ("frame", {"like": "real"}, "a table with named columns was given"),
        ("wide", {"like": "real"}, r"shape \(3,\), the sketch is of rows of shape \(4,\)"),
        ("few", {}, "rows of the array are there to fit"),
        ("number", {}, "a int does not hold rows"),
        ("words", {}, "chunk 0 of the iterator is a set"),
    ],
)
def test_options_and_data_that_do_not_fit(x, frame, data, options, words):
    given = {"array": x, "frame": frame, "wide": x[:, :3], "few": x[:1], "number": 3, "words": iter([{1}])}[data]
    if options.get("like"):
        options = {**options, "like": dl.sketch(x, "identity")}
    with pytest.raises((ConfigError, InputError), match=words):
        dl.sketch(given, **options)


def test_the_public_names_are_never_modules():
    """A submodule named like a function would replace it in the package once imported."""
    assert all(importlib.util.find_spec(f"driftlaw.{name}") is None for name in ("sketch", "audit", "plan"))
    assert callable(dl.sketch)
    assert isinstance(dl.Sketch, type)
