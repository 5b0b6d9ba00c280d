"""Data of any size as chunks of rows in constant memory: files, folders, arrays, tables, iterators.

A chunk is an array ``[m, ...]`` or, for data with named columns, a dict of arrays ``[m]``. A :class:`RowStream` can be
read again unless it came from an iterator, and it can be read in part: rows that are not wanted are passed over before
they are decoded where the format allows that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from driftlaw.data.finite import Array
from driftlaw.data.images import image_files, stream_images
from driftlaw.data.rows import table_stream
from driftlaw.data.rows.tables import SUFFIXES, read_table
from driftlaw.errors import ConfigError, DataNotFoundError, InputError

#: Numbers in one chunk.
CHUNK = 1 << 20

Chunk = Array | dict[str, Array]
#: Of a first row number and a count: a mask ``[count]`` of the rows that are wanted.
Keep = Callable[[int, int], Array]


@dataclass(frozen=True)
class RowStream:
    """Chunks of rows in a fixed order.

    Args:
        name: for messages.
        read: chunks of all rows, or of the wanted ones.
        rows: how many there are, or None when only reading tells.
        repeatable: whether it can be read more than once.
    """

    name: str
    read: Callable[[Keep | None], Iterator[Chunk]]
    rows: int | None = None
    repeatable: bool = True


def open_stream(
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    key: str | None = None,
    size: int | None = None,
    mode: Literal["L", "RGB"] | None = None,
) -> RowStream:
    """Anything that holds rows, as a stream.

    Args:
        data: a .npy, .npz, .parquet or .csv file, a folder of images or of such files, a list of paths (read as one
            data set), an array or tensor, a table (DataFrame, or arrays by column name), or an iterator of arrays or
            tables. A .npz file and a table in memory are in memory already.
        columns: of tables, which ones; a single parquet column of lists of numbers is read as an array ``[n, d]``.
        key: of a .npz file, which array.
        size: of images, crop to the centre square and resize to this many pixels.
        mode: of images, "L" or "RGB".

    Raises:
        DataNotFoundError: no such file or folder.
        InputError: something that does not hold rows, an empty folder, a damaged file.
        ConfigError: options that do not fit the data.
    """
    if isinstance(data, RowStream):
        return data
    if isinstance(data, str | os.PathLike):
        return _path(Path(data).expanduser(), columns, key, size, mode)
    if isinstance(data, list | tuple) and data and all(isinstance(p, str | os.PathLike) for p in data):
        return _joined([_path(Path(p).expanduser(), columns, key, size, mode) for p in data])
    _options("data in memory", key=key, size=size, mode=mode)
    if _is_table(data):
        return _table(data, columns)
    if isinstance(data, np.ndarray | torch.Tensor):
        if columns is not None:
            raise ConfigError("columns were named for an array without names", "leave columns out, or slice the array")
        return _array(data, "the array")
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return _chunks(data, columns)
    raise InputError(f"a {type(data).__name__} does not hold rows", "give a path, an array, a table or an iterator")


def masked(chunk: Chunk, mask: Array) -> Chunk:
    """The wanted rows of a chunk."""
    return {k: v[mask] for k, v in chunk.items()} if isinstance(chunk, dict) else chunk[mask]


def length(chunk: Chunk) -> int:
    """Rows in a chunk."""
    return len(next(iter(chunk.values()))) if isinstance(chunk, dict) else len(chunk)


def chunk_rows(numbers: int) -> int:
    """Rows in a chunk when a row has so many numbers."""
    return max(1, min(65_536, CHUNK // max(1, numbers)))


def _options(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} = {value!r} has no meaning for {what}", f"leave {name} out")


def _path(
    path: Path, columns: Sequence[str] | None, key: str | None, size: int | None, mode: Literal["L", "RGB"] | None
) -> RowStream:
    if path.is_dir():
        parts = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        if parts:
            kinds = sorted({p.suffix.lower() for p in parts})
            if len(kinds) > 1:
                raise InputError(f"{path} mixes {', '.join(kinds)} files", "give one kind, or a list of files")
            return _joined([_path(p, columns, key, size, mode) for p in parts], str(path))
        _options(f"the images of {path}", columns=columns, key=key)
        files = image_files(path, size, mode)
        return RowStream(str(path), lambda keep: stream_images(path, size, mode, keep), len(files))
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".csv"}:
        _options(path.name, key=key, size=size, mode=mode)
        if not path.is_file():
            raise DataNotFoundError(f"there is no file {path}", "check the path, it is relative to the working folder")
        rows, read = table_stream.open_table(path, columns)
        return RowStream(str(path), lambda keep: _filtered(read(), keep), rows)
    _options(path.name, columns=columns, size=size, mode=mode)
    values = read_table(path, key).values
    if suffix == ".npy" and isinstance(values, np.memmap) and values.flags.c_contiguous:
        return _npy(path, values)
    return _array(values, str(path))


def _joined(parts: list[RowStream], name: str | None = None) -> RowStream:
    """One data set in several parts; row numbers run on."""

    def read(keep: Keep | None) -> Iterator[Chunk]:
        done = 0
        for part in parts:
            seen = 0
            if keep is None:
                yield from part.read(None)
                continue
            start = done

            def inner(first: int, n: int, start: int = start) -> Array:
                nonlocal seen
                seen = max(seen, first + n)
                return keep(start + first, n)

            yield from part.read(inner)
            done += seen

    rows = [part.rows for part in parts]
    known = [r for r in rows if r is not None]
    return RowStream(name or f"{len(parts)} files", read, sum(known) if len(known) == len(rows) else None)


def _filtered(chunks: Iterable[Chunk], keep: Keep | None) -> Iterator[Chunk]:
    first = 0
    for chunk in chunks:
        n = length(chunk)
        if keep is None:
            yield chunk
        elif (mask := keep(first, n)).any():
            yield masked(chunk, mask)
        first += n


def _array(values: Any, name: str) -> RowStream:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    _check_dtype(values.dtype, name)
    if values.ndim == 0:
        raise InputError(f"{name} is a single number", "rows are [n, d] or [n, c, h, w]")
    step = chunk_rows(int(np.prod(values.shape[1:], dtype=np.int64)))

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(values), step):
            yield np.asarray(values[start : start + step])

    return RowStream(name, lambda keep: _filtered(chunks(), keep), len(values))


def _npy(path: Path, mapped: np.memmap[Any, Any]) -> RowStream:
    """Read, not mapped: pages of a mapped file would count as this process's memory."""
    dtype, shape, offset = mapped.dtype, mapped.shape, mapped.offset
    _check_dtype(dtype, str(path))
    row = int(np.prod(shape[1:], dtype=np.int64))
    step = chunk_rows(row)

    def chunks() -> Iterator[Chunk]:
        with path.open("rb", buffering=0) as f:
            f.seek(offset)
            for start in range(0, shape[0], step):
                n = min(step, shape[0] - start)
                values = np.empty((n, *shape[1:]), dtype)
                view, got = values.reshape(-1).view(np.uint8).data, 0
                while got < len(view):
                    if not (more := f.readinto(view[got:])):
                        raise InputError(f"{path} became shorter while it was read", "write it again, then sketch it")
                    got += more
                yield values

    return RowStream(str(path), lambda keep: _filtered(chunks(), keep), shape[0])


def _check_dtype(dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {dtype}", "use real numbers (float or integer)")


def _is_table(data: Any) -> bool:
    return isinstance(data, Mapping) or (hasattr(data, "columns") and hasattr(data, "iloc"))


def _table(data: Any, columns: Sequence[str] | None) -> RowStream:
    """A table in memory, sliced."""
    n = len(data) if not isinstance(data, Mapping) else len(next(iter(data.values()), ()))
    names = table_stream.chosen(list(map(str, data.columns if hasattr(data, "columns") else data)), columns, "table")
    whole = {str(name): data[name] for name in (data.columns if hasattr(data, "columns") else data)}
    for name in names:
        if len(whole[name]) != n:
            raise InputError(
                f"column {name!r} has {len(whole[name])} rows, the first one {n}", "give columns of one length"
            )
    step = chunk_rows(len(names))

    def chunks() -> Iterator[Chunk]:
        for start in range(0, n, step):
            yield {name: np.asarray(whole[name][start : start + step]) for name in names}

    return RowStream("the table", lambda keep: _filtered(chunks(), keep), n)


def _chunks(data: Iterable[Any], columns: Sequence[str] | None) -> RowStream:
    """An iterator of chunks, each cut to a bounded size."""

    def chunks() -> Iterator[Chunk]:
        for number, chunk in enumerate(data):
            if not (_is_table(chunk) or isinstance(chunk, np.ndarray | torch.Tensor)):
                raise InputError(
                    f"chunk {number} of the iterator is a {type(chunk).__name__}", "yield arrays or tables"
                )
            yield from open_stream(chunk, columns=columns).read(None)

    repeatable = isinstance(data, list | tuple)
    return RowStream("the iterator", lambda keep: _filtered(chunks(), keep), None, repeatable)
