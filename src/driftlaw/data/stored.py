"""Whole files as sources need them: rows of numbers with their labels, .npy memory mapped, never unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.data.rows import arrays
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import Options, Rows
from driftlaw.data.rows.places import FORMATS, damaged, place_of
from driftlaw.errors import ConfigError, InputError, nearest
from driftlaw.system import memory


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


def read_table(path: str | Path, key: str | None = None, label: str | None = None) -> Table:
    """Read a file of numbers.

    Args:
        path: .npy, .npz, or a table that :func:`driftlaw.open_rows` reads.
        key: .npz only: which array holds the rows (default: ``x``, or the only array besides the labels).
        label: .npz: which array holds the labels (default ``y`` if there is one); of tables: which column.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: a key or column that the file does not have, or an option that this format does not know.
        InputError: an unreadable or truncated file, objects instead of numbers, columns that are not numeric.
    """
    place = place_of(path)
    form = "folder" if place.is_dir() else place.format
    if form not in {*FORMATS.values(), "folder"}:
        raise InputError(
            f"{path} is not a file that driftlaw reads", f"use one of {', '.join(FORMATS)}, or an image folder"
        )
    if key is not None and form not in {"npz", "safetensors", "folder"}:
        raise ConfigError(f"key = {key!r} is for .npz files and {place.name} is not one", "leave key out")
    if form == "npy":
        if label is not None:
            raise ConfigError(
                f"label = {label!r} has no meaning for {place.name}: a .npy file holds one array", "use .npz"
            )
        dtype, shape, fortran, offset = arrays.npy_header(place)
        if not shape or not all(shape):
            return Table(np.empty(shape, dtype))
        if place.system is not None:
            return whole(open_any(path, Options()))
        return Table(np.memmap(place.path, dtype, "r", offset, shape, "F" if fortran else "C"))
    if form == "npz":
        return _npz(path, key, label)
    return whole(open_any(path, Options(key=key))) if label is None else _labelled(path, label)


def whole(rows: Rows, label: str | None = None, labels: Array | None = None) -> Table:
    """All rows in memory.

    Raises:
        InputError: a table with columns that are not numbers.
        LimitError: they do not fit.
    """
    text = [c for c in rows.columns if c.kind == "text"]
    if text:
        shown = ", ".join(f"{c.name!r} ({c.stored})" for c in text[:8]) + (" ..." if text[8:] else "")
        raise InputError(
            f"{rows.name}: {len(text)} of {len(rows.columns) + (label is not None)} columns are not numeric: {shown}",
            "remove them, turn them into numbers, or name the one that holds the class with label: NAME",
        )
    if rows.rows is not None:
        _check_room(rows, rows.rows * max(1, math.prod(rows.shape) or len(rows.columns)))
    chunks: list[Any] = []
    for c in rows:
        chunks.append(np.stack(list(c.values()), axis=1) if isinstance(c, dict) else c)
        _check_room(rows, sum(part.nbytes for part in chunks))
    values = np.concatenate(chunks) if chunks else np.empty((0, *rows.shape))
    return Table(values, tuple(c.name for c in rows.columns) or None, labels)


def _check_room(rows: Rows, count: int) -> None:
    memory.check(count, f"holding all rows of {rows.name}", "give fewer rows or columns, or audit them from a sketch")


def _labelled(path: str | Path, label: str) -> Table:
    every = open_any(path, Options())
    names = [c.name for c in every.columns]
    if label not in names:
        raise ConfigError(f"{path} has no column {label!r}", nearest(label, names))
    if names == [label]:
        raise InputError(f"{path} has no numeric columns", "add the columns to study")
    marked = open_any(path, Options(columns=(label,)))
    values = [c[label] for c in marked if isinstance(c, dict)]
    labels: Array = np.concatenate(values) if values else np.empty(0)
    if labels.dtype == object:
        missing = np.array([entry is None for entry in labels])
        if missing.any():
            raise InputError(
                f"{int(missing.sum())} labels in column {label!r} of {path} are missing; "
                f"the first is row {int(missing.argmax())}",
                "remove those rows or give them a class of their own",
            )
        labels = labels.astype(str)
    rest = open_any(path, Options(columns=tuple(n for n in names if n != label)))
    return whole(rest, label, labels)


def _npz(path: str | Path, key: str | None, label: str | None) -> Table:
    try:
        with place_of(path).open() as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise damaged(path, "not a zip archive")
            names = list(archive.files)
            label = "y" if label is None and "y" in names and key != "y" else label
            key = arrays.group_member(names if key else [n for n in names if n != label], key, str(path))
            if label is not None and label not in names:
                raise ConfigError(f"{path} has no array {label!r}", nearest(label, names))
            values, labels = (None if k is None else arrays.read_member(archive, k) for k in (key, label))
            assert values is not None
            return Table(values, labels=labels)
    except InputError:
        raise
    except ValueError as error:
        raise arrays.objects(place_of(path)) if "Object arrays" in str(error) else damaged(path, error) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, *arrays.BAD_ARCHIVE) as error:
        raise damaged(path, error) from None
