"""Files of numbers: .npy (memory mapped), .npz, .parquet and .csv, read without ever unpickling.

Every reader returns a :class:`Table`; what the numbers mean is decided in :mod:`driftlaw.data.arrays`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest

#: File endings that :func:`read_table` understands.
SUFFIXES = (".npy", ".npz", ".parquet", ".csv")


@dataclass(frozen=True)
class Table:
    """Raw content of a file.

    Args:
        values: ``[n, ...]`` as stored.
        columns: column names when the file has them.
        labels: ``[n]`` raw labels when the file has them.
    """

    values: Array
    columns: tuple[str, ...] | None = None
    labels: Array | None = None


def read_table(path: Path, key: str | None = None, label: str | None = None) -> Table:
    """Read a file of numbers.

    Args:
        path: ends in .npy, .npz, .parquet or .csv.
        key: .npz only: which array holds the rows (default: ``x``, or the only array besides the labels).
        label: .npz: which array holds the labels (default ``y`` if there is one); .parquet and .csv: which column.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: a key or column that the file does not have, or an option that this format does not know.
        InputError: an unreadable or truncated file, objects instead of numbers, columns that are not numeric.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path} is not a file that driftlaw reads", f"use one of {', '.join(SUFFIXES)}, or an image folder"
        )
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}", "check the path, it is relative to the working directory")
    if key is not None and suffix != ".npz":
        raise ConfigError(f"key = {key!r} is for .npz files and {path.name} is not one", "leave key out")
    if suffix == ".npy":
        if label is not None:
            raise ConfigError(
                f"label = {label!r} has no meaning for {path.name}: a .npy file holds one array", "use .npz"
            )
        return _npy(path)
    if suffix == ".npz":
        return _npz(path, key, label)
    return _parquet(path, label) if suffix == ".parquet" else _csv(path, label)


def unreadable(path: Path, reason: object) -> InputError:
    """The error of a file that does not hold what its format promises."""
    return InputError(f"{path} cannot be read, it is damaged or incomplete ({reason})", "write or copy the file again")


def _objects(path: Path) -> InputError:
    return InputError(
        f"{path} holds Python objects, which are refused without unpickling them",
        "convert the array to numbers of one dtype and save it again",
    )


def _npy(path: Path) -> Table:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise unreadable(path, "no .npy header")
    try:
        return Table(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise _objects(path) if "Python objects" in str(error) else unreadable(path, error) from None
    except (EOFError, OSError, SyntaxError, TypeError) as error:
        raise unreadable(path, error) from None


def _npz(path: Path, key: str | None, label: str | None) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise unreadable(path, "not a zip archive")
            names = list(archive.files)
            label = "y" if label is None and "y" in names and key != "y" else label
            rest = [name for name in names if name != label]
            key = key if key is not None else ("x" if "x" in rest else rest[0] if len(rest) == 1 else None)
            if key is None:
                raise ConfigError(
                    f"{path} holds {len(names)} arrays: {', '.join(names)}", "say which one with key: NAME"
                )
            for name in (key, label):
                if name is not None and name not in names:
                    raise ConfigError(f"{path} has no array {name!r}", nearest(name, names))
            return Table(archive[key], labels=None if label is None else archive[label])
    except InputError:
        raise
    except ValueError as error:
        text = str(error)
        raise _objects(path) if "Object arrays" in text else unreadable(path, text) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError) as error:
        raise unreadable(path, error) from None


def _columns(path: Path, names: list[str], types: list[Any], label: str | None) -> list[int]:
    """Positions of the numeric columns; anything else must be the label."""
    import pyarrow as pa

    if label is not None and label not in names:
        raise ConfigError(f"{path} has no column {label!r}", nearest(label, names))
    keep = [i for i, name in enumerate(names) if name != label]
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    bad = [f"{names[i]!r} ({types[i]})" for i in keep if not any(test(types[i]) for test in numeric)]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(names)} columns are not numeric: "
            f"{', '.join(bad[:8])}{' ...' if bad[8:] else ''}",
            "remove them, turn them into numbers, or name the one that holds the class with label: NAME",
        )
    if not keep:
        raise InputError(f"{path} has no numeric columns", "add the columns to study")
    return keep


def _fill(path: Path, schema: Any, n: int, batches: Iterator[Any], label: str | None) -> Table:
    names = [str(name) for name in schema.names]
    keep = _columns(path, names, list(schema.types), label)
    dtype = np.result_type(np.float32, *(schema.types[i].to_pandas_dtype() for i in keep))
    values = np.empty((n, len(keep)), dtype=dtype)
    labels: list[Array] = []
    start = 0
    for batch in batches:
        stop = start + batch.num_rows
        for j, i in enumerate(keep):
            values[start:stop, j] = batch.column(i).to_numpy(zero_copy_only=False)
        if label is not None:
            labels.append(np.asarray(batch.column(names.index(label)).to_numpy(zero_copy_only=False)))
        start = stop
    found = None if label is None else np.concatenate(labels) if labels else np.empty(0, dtype=np.int64)
    if found is not None and found.dtype == object:
        missing = np.array([entry is None for entry in found])
        if missing.any():
            raise InputError(
                f"{int(missing.sum())} labels in column {label!r} of {path} are missing; "
                f"the first is row {int(missing.argmax())}",
                "remove those rows or give them a class of their own",
            )
        found = found.astype(str)
    return Table(values, tuple(names[i] for i in keep), found)


def _parquet(path: Path, label: str | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _fill(path, file.schema_arrow, file.metadata.num_rows, file.iter_batches(), label)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def _csv(path: Path, label: str | None) -> Table:
    import pyarrow as pa
    from pyarrow import csv

    try:
        options = csv.ReadOptions(autogenerate_column_names=not has_header(path))
        table = csv.read_csv(path, read_options=options)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    return _fill(path, table.schema, table.num_rows, iter(table.to_batches()), label)


def has_header(path: Path) -> bool:
    """Whether the first line of a csv file holds names: anything but numbers."""
    with path.open("rb") as file:
        first = file.readline().decode(errors="replace").strip().split(",")
    return not all(map(_is_number, first))


def _is_number(text: str) -> bool:
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return True
