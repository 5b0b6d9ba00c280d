"""One reader of rows: any file, folder, address, array, frame, dataset or iterator as :class:`Rows`."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from PIL import Image

from driftlaw.data.rows import arrays, arrow, delimited, items, pictures, tables
from driftlaw.data.rows.frames import as_arrow, is_frame, module_of
from driftlaw.data.rows.opened import Options, Rows, joined, refuse_unused
from driftlaw.data.rows.places import FORMATS, IMAGES, TEXT, Place, damaged, listing, place_of
from driftlaw.errors import InputError


def open_rows(
    x: Any,
    columns: Sequence[str] | None = None,
    key: str | None = None,
    size: int | None = None,
    mode: Literal["L", "RGB"] | None = None,
    categorical: Sequence[str] = (),
    *,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad: bool = False,
) -> Rows:
    """Anything that holds rows, and what was recognised.

    Args:
        x: a file (.npy, .npz, .parquet, .arrow, .feather, .csv, .tsv, .json, .jsonl, packed or not, .tar), a folder of
            images or of such files, what ``save_to_disk`` or zarr wrote, an fsspec address, a list of these; an array
            or tensor; a table of pandas, polars, pyarrow, dask, modin or xarray, or arrays by column name; a dataset
            of Hugging Face, PyTorch or WebDataset; a list or an iterator of vectors, records, images or chunks.
        columns: of tables, which ones; one column of lists of numbers is read as vectors.
        key: of .npz files and groups of arrays, which array.
        size: of images, crop to the centre square and resize to this many pixels.
        mode: of images, "L" or "RGB".
        categorical: of tables, numeric columns that are categories.
        encoding: of text files; found out if not given.
        separator: of text files; found out if not given.
        skip_bad: leave unreadable images out and count them.

    Returns:
        A frozen :class:`Rows`. Iterating gives chunks: arrays ``[m, ...]``, or dicts of columns.

    Raises:
        DataNotFoundError: no such file or folder.
        InputError: something that does not hold rows, an empty folder, a damaged file, a mixture.
        ConfigError: an option that has no meaning for the data.

    Example:
        >>> rows = open_rows([{"age": 31, "city": "Bonn"}, {"age": 45, "city": "Oslo"}])
        >>> rows.kind, [(c.name, c.kind) for c in rows.columns]
        ('table', [('age', 'number'), ('city', 'text')])
    """
    options = Options(
        None if columns is None else tuple(columns), key, size, mode, tuple(categorical), encoding, separator, skip_bad
    )
    rows = open_any(x, options)
    refuse_unused(options, [rows])
    if not rows.repeatable:
        return rows
    return dataclasses.replace(rows, reopen=lambda kinds: open_any(x, dataclasses.replace(options, kinds=kinds)))


def open_any(x: Any, options: Options, name: str | None = None) -> Rows:
    """The same without a complaint about options that do not fit; :func:`refuse_unused` makes it for several sets."""
    if isinstance(x, Rows):
        return x
    if isinstance(x, str | os.PathLike):
        return _path(place_of(x), options)
    if isinstance(x, list | tuple) and x and all(isinstance(p, str | os.PathLike) for p in x):
        return _paths([place_of(p) for p in x], options)
    if isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1 and len(x):
        x = list(x)
    if isinstance(x, np.ndarray) and x.dtype.names is not None:
        x = {n: x[n] for n in x.dtype.names}
    if hasattr(x, "to_frame") and not hasattr(x, "columns"):  # a column of pandas, polars, dask
        x = x.to_frame()
    found = open_frame(x, name or "the table", options)
    if found is not None:
        return found
    if isinstance(x, np.ma.MaskedArray) and x.ndim == 2 and np.ma.getmaskarray(x).any():
        table = {f"x{j}": x[:, j] for j in range(x.shape[1])}
        return open_any(table, options, name or "the masked array").noted("masked cells are read as missing")
    if isinstance(x, np.ndarray) or arrays.is_tensor(x) or arrays.is_array(x):
        return arrays.open_array(x, name or "the array")
    if (loader := _torch(x, options, name)) is not None:
        return loader
    if isinstance(x, list | tuple):
        if x and all(isinstance(i, Image.Image | bytes) for i in x):
            return pictures.open_images(name or "the list", list(x), options)
        return items.open_items(
            lambda: iter(x), name or "the list", options, rows=len(x), repeatable=True, single=False
        )
    if isinstance(x, Iterable) and not isinstance(x, str | bytes | set | frozenset):
        again: Iterator[Any] = x.as_numpy_iterator() if hasattr(x, "as_numpy_iterator") else iter(x)
        first = list(itertools.islice(again, 1))
        again = itertools.chain(first, again)
        if first and isinstance(first[0], str | os.PathLike):
            return _paths([place_of(p) for p in again], options)
        return items.open_items(
            lambda: again, name or "the iterator", options, rows=None, repeatable=False, single=_is_webdataset(x)
        )
    raise InputError(f"a {type(x).__name__} does not hold rows", "give a path, an array, a table or an iterator")


def open_frame(data: Any, name: str, options: Options) -> Rows | None:
    """A frame, table, mapping of columns, or dataset of a library that is known; None for anything else."""
    if isinstance(data, ds.Scanner):
        data = data.to_reader()
    if isinstance(data, pa.RecordBatchReader):
        return tables.open_batches(_reader(data, name), options)
    if isinstance(data, ds.Dataset):
        return tables.open_batches(arrow.of_dataset(data, name), options)
    if isinstance(data, pa.Array | pa.ChunkedArray):
        data = pa.table([data], names=["x"])
    if module_of(data) == "ray" and hasattr(data, "iter_batches"):
        batches = data.iter_batches(batch_format="pyarrow")
        return tables.open_batches(items.batches_of(lambda: batches, name, repeatable=False), options)
    if hasattr(data, "data_vars") and hasattr(data, "to_dataframe"):  # xarray.Dataset
        return _xarray(data, name, options)
    if hasattr(data, "with_format") and module_of(data) == "datasets":
        return tables.open_batches(_huggingface(data, name), options)
    if isinstance(data, Mapping):
        if data and all(hasattr(v, "with_format") or hasattr(v, "columns") for v in data.values()):
            splits = ", ".join(map(str, data))
            raise InputError(f"{name} holds the splits {splits}", f"give one: data[{next(iter(data))!r}]")
        return tables.open_batches(tables.of_table(as_arrow(data, name), name), options)
    if hasattr(data, "partitions") and hasattr(data, "map_partitions") and hasattr(data, "npartitions"):
        return tables.open_batches(_partitions(data, name), options)
    if isinstance(data, pa.Table | pa.RecordBatch) or is_frame(data):
        if hasattr(data, "collect_batches") and hasattr(data, "collect_schema"):
            return tables.open_batches(_lazy(data, name), options)
        rows = tables.open_batches(tables.of_table(as_arrow(data, name), name), options)
        named = [str(n) for n in getattr(getattr(data, "index", None), "names", ()) if n is not None]
        if not named:
            return rows
        return rows.noted(f"the index {', '.join(named)} of {name} is left out: reset_index() makes it columns")
    return None


def _is_webdataset(x: Any) -> bool:
    return module_of(x) == "webdataset"


def _torch(x: Any, options: Options, name: str | None) -> Rows | None:
    """A map-style dataset, or a loader, of PyTorch."""
    if not any(c.__module__.startswith("torch.utils.data") for c in type(x).__mro__):
        return None
    if hasattr(x, "batch_sampler") and hasattr(x, "dataset"):
        in_order = type(getattr(x, "sampler", None)).__name__ == "SequentialSampler"
        import torch

        def again() -> Iterator[Any]:
            with torch.random.fork_rng(devices=[]):  # a loader draws a seed for its workers
                return iter(x)

        return items.open_items(again, name or "the loader", options, rows=None, repeatable=in_order, single=False)
    name = name or "the dataset"
    if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        count = len(x)
        return items.open_items(
            lambda: (x[i] for i in range(count)), name, options, rows=count, repeatable=True, single=True
        )
    stream = iter(x)
    return items.open_items(lambda: stream, name, options, rows=None, repeatable=False, single=True)


def _path(place: Place, options: Options) -> Rows:
    if not place.is_dir():
        return _files(str(place), [place], options)
    if (saved := arrow.saved_to_disk(place)) is not None:
        return tables.open_batches(arrow.open_arrow(str(place), saved, "arrow", (), None), options)
    if any(place.has(n) for n in (".zarray", "zarr.json", ".zgroup")):
        return arrays.open_zarr(place, options)
    found = listing(place)
    rows = _files(str(place), list(found.files), options, place)
    return dataclasses.replace(rows, skipped=(*rows.skipped, *found.skipped))


def _paths(places: list[Place], options: Options) -> Rows:
    if len(places) == 1:
        return _path(places[0], options)
    if all(not p.is_dir() for p in places) and len({p.format for p in places}) == 1:
        return _files(f"{len(places)} files", places, options)
    parts = [_path(p, options) for p in places]
    kinds = sorted({p.kind for p in parts})
    if len(kinds) > 1:
        raise InputError(f"the list mixes {', '.join(kinds)}", "give data of one kind")
    return joined(parts, f"{len(places)} places")


def _files(name: str, files: list[Place], options: Options, root: Place | None = None) -> Rows:
    """Files of one format."""
    form = files[0].format or ("csv" if files[0].suffix in TEXT else None)
    if form is None:
        raise InputError(
            f"{files[0]} is not a file that driftlaw reads",
            f"use one of {', '.join((*FORMATS, *IMAGES))}, or a folder",
        )
    if form == "image":
        return pictures.open_files(name, files, options)
    if form in {"npy", "npz", "safetensors"}:
        read = {"npz": arrays.open_npz, "safetensors": arrays.open_safetensors}.get(form)
        parts = [arrays.open_npy(p) if read is None else read(p, options) for p in files]
        odd = next((p for p in parts if p.shape != parts[0].shape), None)
        if odd is not None:
            raise InputError(
                f"{odd.name} has rows of shape {odd.shape}, {parts[0].name} of {parts[0].shape}",
                "bring all to one shape",
            )
        return joined(parts, name)
    if form == "tar":
        return _shards(name, files, options)
    if form == "csv":
        return tables.open_batches(delimited.open_text(name, files, options, ()), options)
    return tables.open_batches(arrow.open_arrow(name, files, form, (), root), options)


def _shards(name: str, files: list[Place], options: Options) -> Rows:
    """WebDataset shards: files of one key, one after another in a tar archive, are one sample."""

    def samples() -> Iterator[dict[str, Any]]:
        for place in files:
            sample: dict[str, Any] = {}
            try:
                with place.open() as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                    for member in archive:
                        base = member.name.rpartition("/")[2]
                        if not member.isfile() or base.startswith("."):
                            continue
                        stem, _, ending = base.partition(".")
                        identity = f"{member.name.rpartition('/')[0]}/{stem}"
                        if sample and sample["__key__"] != identity:
                            yield sample
                            sample = {}
                        content = archive.extractfile(member)
                        sample |= {"__key__": identity, ending: b"" if content is None else content.read()}
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                raise damaged(place, error) from None
            if sample:
                yield sample

    return items.open_items(samples, name, options, rows=None, repeatable=True, single=True)


def _reader(reader: pa.RecordBatchReader, name: str) -> tables.Batches:
    return items.batches_of(lambda: (pa.Table.from_batches([b]) for b in reader), name, repeatable=False)


def _huggingface(data: Any, name: str) -> tables.Batches:
    """Datasets of Hugging Face: arrow tables batch by batch, images still encoded."""
    counted = hasattr(data, "__len__")

    def pieces() -> Iterator[pa.Table]:
        for item in data.with_format("arrow").iter(1000):
            yield item if isinstance(item, pa.Table) else as_arrow(item, name)

    return items.batches_of(pieces, name, repeatable=counted, rows=len(data) if counted else None)


def _partitions(data: Any, name: str) -> tables.Batches:
    """Dask frames, one partition in memory."""

    def pieces() -> Iterator[pa.Table]:
        for i in range(data.npartitions):
            yield as_arrow(data.partitions[i].compute(), name)

    return items.batches_of(pieces, name, repeatable=True)


def _lazy(data: Any, name: str) -> tables.Batches:
    """Lazy frames of polars, streamed."""

    def pieces() -> Iterator[pa.Table]:
        for frame in data.collect_batches(maintain_order=True):
            yield frame.to_arrow()

    return items.batches_of(pieces, name, repeatable=True)


def _xarray(data: Any, name: str, options: Options) -> Rows:
    """One variable is an array; several along one dimension are columns."""
    names = [str(n) for n in data.data_vars]
    if options.key is not None or len(names) == 1:
        return arrays.open_array(data[arrays.group_member(names, options.key, name)], name, frozenset({"key"}))
    if all(data[n].ndim == 1 for n in names):
        return tables.open_batches(
            tables.of_table(as_arrow({n: np.asarray(data[n]) for n in names}, name), name), options
        )
    raise InputError(f"{name} holds {len(names)} variables: {', '.join(names)}", "say which one with key")
