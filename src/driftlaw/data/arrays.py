r"""Arrays of the user, in memory or in files, as finite sources.

Vectors ``[n, d]`` are standardised per column, :math:`x = (r - m) / s`, with mean :math:`m` and standard deviation
:math:`s` of the training part only, recorded as `location` and `scale`. Images ``[n, c, h, w]`` are bytes (mapped to
[-1, 1]) or floats already in [-1, 1].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from driftlaw.data.finite import Array, FiniteSource, blocks, label_classes, split_rows
from driftlaw.data.stored import Table, read_table
from driftlaw.errors import ConfigError, InputError


class ArraySource(FiniteSource):
    """A finite source from an array.

    Args:
        x: ``[n, d]`` vectors or ``[n, c, h, w]`` images, Tensor or ndarray (a memory mapped one stays on disk).
        y: ``[n]`` class labels, or None.
        held_out: fraction in (0, 1), or number of rows, kept apart from training.
        seed: of the split.
        standardize: per-column standardisation; None means yes for vectors and no for images.
        name: what messages and reports call it.

    Raises:
        InputError: a wrong number of dimensions, fewer than two rows, NaN or infinite rows (count and first index),
            object arrays, images outside [-1, 1].
        ConfigError: a held-out part that does not fit.

    Example:
        >>> source = ArraySource(torch.arange(40.0).reshape(20, 2), held_out=5)
        >>> source.size, source.held_out_size, source.shape
        (15, 5, (2,))
    """

    def __init__(
        self,
        x: Tensor | Array,
        y: Tensor | Array | None = None,
        held_out: float | int = 0.25,
        seed: int = 0,
        standardize: bool | None = None,
        name: str = "array",
    ) -> None:
        values, labels = _as_numpy(x, name), None if y is None else _as_numpy(y, name)
        self._set_up(Table(values, labels=labels), held_out, seed, standardize, name, None)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        key: str | None = None,
        label: str | None = None,
        held_out: float | int = 0.25,
        seed: int = 0,
        standardize: bool | None = None,
    ) -> ArraySource:
        """The same from a file, folder or address of rows that :func:`driftlaw.open_rows` reads.

        Args:
            path: the file or folder; a .npy file is memory mapped and its rows are read when they are drawn.
            key: .npz only: which array holds the rows (default ``x``, or the only one).
            label: .npz: the array of labels (default ``y`` if there is one); .parquet and .csv: the label column.
            held_out: as for the class.
            seed: as for the class.
            standardize: as for the class.

        Raises:
            DataNotFoundError: there is no such file.
            InputError: it cannot be read, or its content cannot be used.
        """
        where = str(path) if "://" in str(path) else str(Path(path).expanduser().absolute())
        recipe = {"kind": "array", "path": where, "key": key, "label": label}
        recipe = {k: v for k, v in recipe.items() if v is not None}
        self = cls.__new__(cls)
        name = where.rstrip("/").rpartition("/")[2]
        self._set_up(read_table(where, key, label), held_out, seed, standardize, name, recipe)
        return self

    def _set_up(
        self,
        table: Table,
        held_out: float | int,
        seed: int,
        standardize: bool | None,
        name: str,
        recipe: dict[str, Any] | None,
    ) -> None:
        values = table.values
        _check_form(values, name)
        train, held = split_rows(len(values), held_out, seed, name)
        _check_finite(values, name)
        images = values.ndim == 4
        standardize = not images if standardize is None else standardize
        location: float | Array = 0.0
        scale: float | Array = 1.0
        warnings: tuple[str, ...] = ()
        if images:
            if standardize:
                raise ConfigError(
                    f"{name} holds images, and standardize is for columns of vectors", "leave standardize out"
                )
            location, scale, warnings = _image_range(values, name)
        else:
            mean, deviation, constant = _moments(values, train)
            if constant.any():
                names = [table.columns[i] if table.columns else f"column {i}" for i in np.flatnonzero(constant)]
                shown = f"{', '.join(names[:8])}{' ...' if names[8:] else ''}"
                warnings = (f"{len(names)} of {values.shape[1]} columns of {name} are constant: {shown}",)
            if standardize:
                location, scale = mean, np.where(constant, 1.0, deviation)
        labels = None if table.labels is None else label_classes(table.labels, len(values), name)
        if recipe is not None:
            recipe |= {"held_out": held_out, "seed": seed, "standardize": standardize}
        FiniteSource.__init__(
            self,
            name,
            values,
            train,
            held,
            location=location,
            scale=scale,
            labels=None if labels is None else labels[0],
            classes=None if labels is None else labels[1],
            recipe=recipe,
            warnings=warnings,
        )


def _as_numpy(x: Tensor | Array, name: str) -> Array:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return np.asarray(x.float() if x.dtype == torch.bfloat16 else x)
    if not isinstance(x, np.ndarray):
        raise InputError(f"{name} is a {type(x).__name__}", "give a Tensor or a numpy array")
    return x


def _check_form(values: Array, name: str) -> None:
    if values.dtype.kind == "O":
        raise InputError(f"{name} holds Python objects", "convert the array to numbers of one dtype")
    if values.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {values.dtype}", "use real numbers (float or integer)")
    if values.ndim not in (2, 4) or 0 in values.shape[1:]:
        hint = {1: "; for one column use x[:, None]", 3: "; grey images [n, h, w] need a channel: x[:, None]"}
        raise InputError(
            f"{name} has shape {values.shape}",
            f"vectors are [n, d] and images are [n, c, h, w]{hint.get(values.ndim, '')}",
        )
    if values.ndim == 4 and values.shape[3] in (1, 3, 4) and values.shape[1] not in (1, 3, 4):
        raise InputError(
            f"{name} has shape {values.shape}, which looks like [n, h, w, c]",
            "images are [n, c, h, w]: transpose with (0, 3, 1, 2)",
        )


def _check_finite(values: Array, name: str) -> None:
    if values.dtype.kind != "f":
        return
    count, first = 0, -1
    for start, block in blocks(values):
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(block.astype(np.float32, copy=False)).reshape(len(block), -1).all(axis=1)
        if bad.any():
            first = start + int(bad.argmax()) if first < 0 else first
            count += int(bad.sum())
    if count:
        raise InputError(
            f"{count} of {len(values)} rows of {name} hold NaN, infinite or missing values; the first is row {first}",
            "remove or repair those rows (rows are counted from 0)",
        )


def _image_range(values: Array, name: str) -> tuple[float, float, tuple[str, ...]]:
    if values.dtype == np.uint8:
        return 127.5, 127.5, ()
    low = min(float(block.min()) for _, block in blocks(values))
    high = max(float(block.max()) for _, block in blocks(values))
    if values.dtype.kind != "f" or low < -1 or high > 1:
        raise InputError(
            f"the images of {name} are {values.dtype} in [{low:g}, {high:g}]",
            "images are uint8 bytes, or floats scaled to [-1, 1]",
        )
    if low >= 0:
        return 0.0, 1.0, (f"the images of {name} lie in [{low:g}, {high:g}]: black is -1 in [-1, 1], not 0",)
    return 0.0, 1.0, ()


def _moments(values: Array, train: Array) -> tuple[Array, Array, Array]:
    """Mean and standard deviation (float64, two passes) and which columns are constant, on the training part."""
    d = values.shape[1]
    total, square = np.zeros(d), np.zeros(d)
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    for _, block in blocks(values, train):
        total += block.sum(axis=0, dtype=np.float64)
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    mean = total / train.size
    for _, block in blocks(values, train):
        square += ((block - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(square / train.size), low == high
