"""The same rows through every container are the same rows, and give the same sketch."""

import gzip
import io
import itertools
import json
import tarfile

import dask.array
import dask.dataframe
import datasets
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
import webdataset
import xarray
import zarr
from PIL import Image

import driftlaw as dl

N, D = 400, 5
RNG = np.random.default_rng(5)
VECTORS = RNG.normal(1.0, 2.0, size=(N, D)).astype(np.float32)
IMAGES = RNG.integers(0, 256, size=(60, 3, 7, 9), dtype=np.uint8)


def people():
    rng = np.random.default_rng(6)
    height = rng.normal(170.0, 9.0, N).round(3)
    height[::37] = np.nan
    return pd.DataFrame(
        {
            "height": height,
            "town": rng.choice(["Graz", "Lyon", "Pisa"], N),
            "visits": rng.integers(0, 40, N),
            "member": rng.random(N) < 0.4,
            "since": pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 900, N), unit="D"),
        }
    )


TABLE = people()
RECORDS = [
    {k: None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in TABLE.to_dict("records")
]


def same(a, b):
    assert a.features.fingerprint == b.features.fingerprint
    assert a.n == b.n
    assert (a.counts == b.counts).all()
    np.testing.assert_allclose(a.means, b.means, rtol=1e-10, atol=1e-12)
    assert a.missing == b.missing
    assert {n: h.counts.tolist() for n, h in a.histograms.items()} == {
        n: h.counts.tolist() for n, h in b.histograms.items()
    }


def memory(name, data):
    """Write a file of fsspec's memory file system."""
    import fsspec

    with fsspec.open(f"memory://driftlaw/{name}", "wb") as file:
        file.write(data)
    return f"memory://driftlaw/{name}"


class Items(torch.utils.data.Dataset):
    """A map-style dataset of pairs."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], i % 3


def npy(x):
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def shard(path, samples, mode="w"):
    with tarfile.open(path, mode) as archive:
        for number, files in enumerate(samples):
            for ending, content in files.items():
                info = tarfile.TarInfo(f"{number:05d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def vectors_in(folder):
    """Every container of VECTORS."""
    x = VECTORS
    np.save(folder / "x.npy", x)
    np.save(folder / "big.npy", x.astype(">f4"))
    np.save(folder / "fortran.npy", np.asfortranarray(x))
    np.savez_compressed(folder / "x.npz", x=x, y=np.arange(N))
    table = pa.table({"emb": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), D)})
    pa.parquet.write_table(table, folder / "emb.parquet")
    pa.feather.write_feather(pa.table({"emb": list(x)}), folder / "emb.feather")
    (folder / "emb.jsonl").write_text("\n".join(json.dumps({"emb": row}) for row in x.astype(float).tolist()))
    (folder / "parts").mkdir()
    for i, part in enumerate(np.split(x, [11, 250])):
        np.save(folder / "parts" / f"{i}.npy", part)
    zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(64, D))
    datasets.Dataset.from_dict({"emb": x.tolist()}).save_to_disk(str(folder / "saved"))
    wide = x.astype(np.longdouble)
    flipped = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x)), batch_size=33)
    yield from {
        "file": folder / "x.npy",
        "big endian": folder / "big.npy",
        "fortran file": folder / "fortran.npy",
        "npz": folder / "x.npz",
        "parquet lists": folder / "emb.parquet",
        "feather lists": folder / "emb.feather",
        "folder": folder / "parts",
        "list of files": sorted((folder / "parts").iterdir()),
        "zarr file": folder / "x.zarr",
        "zarr": zarr.open_array(str(folder / "x.zarr"), mode="r"),
        "address": memory("x.npy", npy(x)),
        "address of lists": memory("emb.parquet", (folder / "emb.parquet").read_bytes()),
        "big endian array": x.astype(">f4"),
        "fortran": np.asfortranarray(x),
        "negative strides": flipped,
        "unmasked": np.ma.masked_array(x, mask=np.zeros_like(x, dtype=bool)),
        "tensor": torch.from_numpy(x),
        "dask": dask.array.from_array(x, chunks=(90, 2)),
        "xarray": xarray.DataArray(x, dims=("row", "feature")),
        "xarray set": xarray.Dataset({"x": (("row", "feature"), x)}),
        "list of vectors": list(x),
        "list of tensors": list(torch.from_numpy(x)),
        "object array": np.array([*list(x), None], dtype=object)[:-1],
        "list of chunks": [x[:10], x[10:]],
        "records of vectors": [{"emb": v} for v in x],
        "columns of vectors": {"emb": list(x)},
        "pandas": pd.DataFrame({"emb": list(x)}),
        "polars": polars.DataFrame({"emb": x}),
        "torch dataset": Items(x),
        "loader": loader,
        "pairs": [(v, 1) for v in x],
        "hugging face": datasets.Dataset.from_dict({"emb": x.tolist()}),
        "tar": shard(folder / "x.tar", [{"npy": npy(v), "cls": b"1"} for v in x]),
        "packed tar": shard(folder / "x.tgz", [{"npy": npy(v)} for v in x], "w:gz"),
    }.items()  # fmt: skip
    doubles = {
        "long double": wide,
        "jsonl lists": folder / "emb.jsonl",
        "nested lists": x.astype(float).tolist(),
        "saved to disk": folder / "saved",
        "records of lists": [{"emb": v} for v in x.astype(float).tolist()],
    }
    yield from doubles.items()
    for name, again in {
        "iterator of vectors": lambda: iter(x),
        "iterator of chunks": lambda: iter([x[:100], x[100:]]),
        "iterator of records": lambda: ({"emb": v.tolist()} for v in x),
        "reader": lambda: pa.RecordBatchReader.from_batches(table.schema, table.to_batches(64)),
        "stream of hugging face": lambda: datasets.IterableDataset.from_generator(lambda: ({"emb": v} for v in x)),
        "webdataset": lambda: webdataset.WebDataset(str(folder / "x.tar"), shardshuffle=False),
        "iterable dataset": lambda: _Stream(x),
    }.items():
        yield name, again()


class _Stream(torch.utils.data.IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(torch.from_numpy(self.x))


def test_vectors(tmp_path):
    whole = dl.sketch(VECTORS, "identity")
    for name, data in vectors_in(tmp_path):
        rows = dl.open_rows(data)
        assert rows.kind == "vectors", name
        assert rows.shape == (D,), name
        read = np.concatenate(list(rows))
        assert read.dtype.isnative, name
        np.testing.assert_array_equal(read, VECTORS, err_msg=name)
        if rows.repeatable:
            same(dl.sketch(data, "identity"), whole)


def tables_in(folder):
    t = TABLE
    plain = t.assign(since=t["since"].dt.strftime("%Y-%m-%d"))
    t.to_parquet(folder / "t.parquet", row_group_size=71)
    t.to_feather(folder / "t.feather")
    arrow = pa.Table.from_pandas(t)
    with pa.OSFile(str(folder / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, arrow.schema) as stream:
        stream.write_table(arrow, max_chunksize=90)
    plain.to_csv(folder / "t.csv", index=False)
    plain.to_csv(folder / "i.csv")
    plain.to_csv(folder / "s.csv", index=False, sep=";")
    plain.to_csv(folder / "t.tsv", index=False, sep="\t")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    plain.to_json(folder / "t.jsonl", orient="records", lines=True)
    plain.to_json(folder / "t.json", orient="records")
    (folder / "parts").mkdir()
    for i, (a, b) in enumerate(itertools.pairwise([0, 130, 131, N])):
        plain[a:b].to_csv(folder / "parts" / f"{i}.csv", index=False)
    pa.dataset.write_dataset(pa.Table.from_pandas(t[:200]), folder / "data", format="parquet", max_rows_per_group=64,
                             max_rows_per_file=128)  # fmt: skip
    datasets.Dataset.from_pandas(t).save_to_disk(str(folder / "saved"))
    datasets.DatasetDict({"train": datasets.Dataset.from_pandas(t)}).save_to_disk(str(folder / "splits"))
    nullable = t.convert_dtypes()
    lazy = polars.from_pandas(t).lazy()
    return {
        "parquet": folder / "t.parquet",
        "feather": folder / "t.feather",
        "arrow stream": folder / "t.arrow",
        "csv": folder / "t.csv",
        "csv with an index": folder / "i.csv",
        "semicolons": folder / "s.csv",
        "tsv": folder / "t.tsv",
        "csv.gz": folder / "t.csv.gz",
        "json lines": folder / "t.jsonl",
        "json list": folder / "t.json",
        "folder of csv": folder / "parts",
        "saved to disk": folder / "saved",
        "one split on disk": folder / "splits",
        "address": memory("t.csv", (folder / "t.csv").read_bytes()),
        "address of parquet": memory("t.parquet", (folder / "t.parquet").read_bytes()),
        "nullable": nullable,
        "categorical": t.astype({"town": "category"}),
        "reindexed": t.set_index(np.arange(N)[::-1] * 3),
        "arrow": arrow,
        "polars": polars.from_pandas(t),
        "lazy": lazy,
        "dask": dask.dataframe.from_pandas(t, npartitions=3),
        "columns": {c: t[c].to_numpy() for c in t},
        "masked columns": {
            **{c: t[c].to_numpy() for c in t},
            "height": np.ma.masked_invalid(t["height"].to_numpy()),
        },
        "lists": {c: t[c].tolist() for c in t},
        "xarray": xarray.Dataset({c: ("row", t[c].to_numpy()) for c in t}),
        "hugging face": datasets.Dataset.from_pandas(t),
        "records": RECORDS,
        "list of frames": [t[:99], t[99:]],
        "tar": shard(folder / "t.tar", [{"json": json.dumps(r).encode()} for r in plain.assign(
            height=plain["height"].astype(object).where(plain["height"].notna(), None)).to_dict("records")]),
    }  # fmt: skip


def test_tables(tmp_path):
    whole = dl.sketch(TABLE, "quadratic")
    first = dl.open_rows(TABLE)
    assert [(c.name, c.kind) for c in first.columns] == [
        ("height", "number"), ("town", "text"), ("visits", "number"), ("member", "boolean"), ("since", "date"),
    ]  # fmt: skip
    for name, data in tables_in(tmp_path).items():
        rows = dl.open_rows(data)
        assert rows.kind == "table", name
        assert [(c.name, c.kind) for c in rows.columns] == [(c.name, c.kind) for c in first.columns], name
        same(dl.sketch(data, "quadratic"), whole)
        same(dl.sketch(data, like=whole), dl.sketch(TABLE, like=whole))


def test_tables_that_can_be_read_once(tmp_path):
    whole = dl.sketch(TABLE, "quadratic")
    arrow = pa.Table.from_pandas(TABLE)
    for data in (
        iter(RECORDS),
        (TABLE[a : a + 50] for a in range(0, N, 50)),
        pa.RecordBatchReader.from_batches(arrow.schema, arrow.to_batches(64)),
        datasets.Dataset.from_pandas(TABLE).to_iterable_dataset(),
        ({c: t[c].to_numpy() for c in t} for t in (TABLE[:37], TABLE[37:])),
    ):
        same(dl.sketch(data, like=whole), dl.sketch(TABLE, like=whole))


def test_folders_with_keys_in_their_names(tmp_path):
    by = TABLE.assign(part=np.where(np.arange(N) < 150, "a", "b"))
    pa.dataset.write_dataset(
        pa.Table.from_pandas(by), tmp_path / "hive", format="parquet", partitioning=["part"], partitioning_flavor="hive"
    )
    rows = dl.open_rows(tmp_path / "hive")
    assert [c.name for c in rows.columns] == [*TABLE.columns, "part"]
    read = {k: np.concatenate([c[k] for c in rows]) for k in ("visits", "part")}
    assert (read["visits"] == by["visits"]).all()
    assert (read["part"] == by["part"]).all()
    assert [c.name for c in dl.open_rows(tmp_path / "hive", columns=["town"]).columns] == ["town"]


def pictures_in(folder):
    pictures = [Image.fromarray(x.transpose(1, 2, 0)) for x in IMAGES]
    kinds = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
    for ending, form in kinds.items():
        (folder / ending).mkdir()
        for i, picture in enumerate(pictures):
            picture.save(folder / ending / f"{i:03d}.{ending}", form, **({"lossless": True} if form == "WEBP" else {}))
    for i in range(len(pictures)):
        sub = folder / "classes" / f"{'ab'[i >= 30]}"
        sub.mkdir(parents=True, exist_ok=True)
        (sub / f"{i:03d}.PNG").write_bytes((folder / "png" / f"{i:03d}.png").read_bytes())
    encoded = [(folder / "png" / f"{i:03d}.png").read_bytes() for i in range(len(pictures))]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": b, "path": None} for b in encoded], struct)
    pa.parquet.write_table(pa.table({"image": cells, "label": range(60)}), folder / "hf.parquet", row_group_size=7)
    pa.parquet.write_table(pa.table({"png": pa.array(encoded, pa.binary())}), folder / "bytes.parquet")
    np.save(folder / "x.npy", IMAGES)
    np.save(folder / "last.npy", IMAGES.transpose(0, 2, 3, 1))
    hf = datasets.Dataset.from_dict({"image": pictures, "label": list(range(60))})
    hf.save_to_disk(str(folder / "saved"))
    for name, content in zip(sorted(p.name for p in (folder / "png").iterdir()), encoded, strict=True):
        memory(f"png/{name}", content)
    tar = shard(folder / "x.tar", [{"png": b, "cls": b"1"} for b in encoded])
    return {
        **{ending: folder / ending for ending in kinds},
        "classes": folder / "classes",
        "list of files": sorted((folder / "png").iterdir()),
        "address": "memory://driftlaw/png",
        "npy": folder / "x.npy",
        "channels last": folder / "last.npy",
        "hugging face parquet": folder / "hf.parquet",
        "bytes in parquet": folder / "bytes.parquet",
        "hugging face": hf,
        "saved": folder / "saved",
        "list of pictures": pictures,
        "list of bytes": encoded,
        "records": [{"image": p, "label": 3} for p in pictures],
        "torch dataset": Items(pictures),
        "arrays": list(IMAGES),
        "tar": tar,
        "decoded shards": webdataset.WebDataset(str(tar), shardshuffle=False).decode("pil"),
        "iterator": iter(pictures),
    }


def test_images(tmp_path):
    whole = dl.sketch(IMAGES, dimension=3)
    for name, data in pictures_in(tmp_path).items():
        rows = dl.open_rows(data)
        assert rows.kind == "images", name
        if rows.repeatable:
            assert rows.shape == IMAGES.shape[1:], name
            same(dl.sketch(data, dimension=3), whole)
        else:
            assert (np.concatenate(list(rows)) == IMAGES).all(), name


def test_grey_pictures_of_lossy_and_animated_kinds(tmp_path):
    levels = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    for i in range(5):
        frames = [Image.fromarray(np.roll(levels, i + k)) for k in range(3)]
        frames[0].save(tmp_path / f"{i}.gif", save_all=True, append_images=frames[1:])
    rows = dl.open_rows(tmp_path)
    assert rows.shape == (1, 8, 8)
    read = np.concatenate(list(rows))
    assert all((read[i, 0] == np.roll(levels, i)).all() for i in range(5)), "the first frame is taken"
    (tmp_path / "j").mkdir()
    for i, ending in enumerate(["jpg", "jpeg", "jfif", "JPG"]):
        Image.fromarray(levels).save(tmp_path / "j" / f"{i}.{ending}", "JPEG")
    assert dl.open_rows(tmp_path / "j").rows == 4


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_wanted_rows_are_those_of_the_whole(tmp_path, keep):
    wanted = np.random.default_rng(1).random(N) < keep

    def mask(first, n):
        return wanted[first : first + n]

    def table(chunks):
        return [tuple(row) for c in chunks for row in zip(*(map(str, v) for v in c.values()), strict=True)]

    for data in (TABLE, RECORDS, [TABLE[:50], TABLE[50:]]):
        rows = dl.open_rows(data)
        whole = table(rows)
        assert table(rows.read(mask)) == [row for row, w in zip(whole, wanted, strict=True) if w]
    pictures = dl.open_rows([Image.fromarray(x.transpose(1, 2, 0)) for x in IMAGES])
    got = list(pictures.read(mask))
    assert (np.concatenate(got) if got else IMAGES[:0]).tolist() == IMAGES[wanted[:60]].tolist()
