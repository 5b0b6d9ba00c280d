r"""Finite sources: a table of real rows, split once into a training part and a held-out part that share no row.

Row :math:`r` of the table is handed out in model units

.. math:: x = (r - \mathrm{location}) / \mathrm{scale},

with `location` and `scale` scalars (images: 127.5 and 127.5 map bytes to [-1, 1]) or one number per column. The split
is a seeded permutation of row numbers; it depends on the number of rows and the seed only. Reference: this project.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftlaw.data.source import Batch
from driftlaw.errors import ConfigError, DataExhaustedError, InputError
from driftlaw.numerics.memory import fitting
from driftlaw.seeding import numpy_generator

Array = NDArray[Any]


def split_rows(n: int, held_out: float | int, seed: int, name: str) -> tuple[Array, Array]:
    """Row numbers of the training part and of the held-out part, each in increasing order.

    Args:
        n: rows in the table.
        held_out: a fraction in (0, 1) of the rows (at least one is held out and at least one is kept), or their number.
        seed: seed of the permutation that assigns rows to the two parts.
        name: of the source, for messages.

    Raises:
        InputError: fewer than two rows, or a held-out part that leaves nothing on one side.

    Example:
        >>> split_rows(5, 0.4, seed=0, name="table")[1].size
        2
    """
    if n < 2:
        raise InputError(
            f"{name} has {n} {'row' if n == 1 else 'rows'}; at least 2 are needed, one to train on and one to hold out",
            "add rows, or check that the file is complete",
        )
    if isinstance(held_out, float) and 0 < held_out < 1:
        count = min(max(1, round(held_out * n)), n - 1)
    elif isinstance(held_out, int) and not isinstance(held_out, bool) and 1 <= held_out < n:
        count = held_out
    else:
        raise ConfigError(
            f"held_out = {held_out!r} cannot split the {n} rows of {name}",
            f"give a fraction between 0 and 1, or a number of rows from 1 to {n - 1}",
        )
    order = numpy_generator(seed, "data", "split").permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def label_classes(labels: Array, n: int, name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 class numbers, with the class names in sorted order.

    Raises:
        InputError: the wrong number of labels, or missing ones.
    """
    if labels.shape != (n,):
        raise InputError(f"{name} has {n} rows but labels of shape {labels.shape}", "give one label per row")
    if labels.dtype.kind not in "iubUSf":
        raise InputError(f"the labels of {name} have dtype {labels.dtype}", "use integers or text")
    if labels.dtype.kind == "f":
        missing = ~np.isfinite(labels)
        if missing.any():
            raise InputError(
                f"{int(missing.sum())} labels of {name} are missing; the first is row {int(missing.argmax())}",
                "remove those rows or give them a class of their own",
            )
        if (labels == np.round(labels)).all():
            labels = labels.astype(np.int64)
    names, number = np.unique(labels, return_inverse=True)
    return torch.from_numpy(number.astype(np.int64)), tuple(str(c) for c in names)


class FiniteSource:
    """A finite table of rows as a :class:`~driftlaw.data.source.DataSource`.

    Args:
        name: what messages and reports call it.
        values: ``[N, ...]`` raw rows of any real dtype; may be memory mapped (rows are converted when they are drawn).
        train: row numbers of the training part.
        held: row numbers of the held-out part; disjoint from `train`.
        location: subtracted from raw rows, scalar or ``[d]``, raw units.
        scale: raw rows are divided by it after that, scalar or ``[d]``, raw units, positive.
        labels: ``[N]`` int64 class numbers, or None.
        classes: class names, or None.
        recipe: what :meth:`config` returns; None when the rows exist in memory only.
        warnings: what a reader must know about the data.
    """

    def __init__(
        self,
        name: str,
        values: Array,
        train: Array,
        held: Array,
        *,
        location: float | Array = 0.0,
        scale: float | Array = 1.0,
        labels: Tensor | None = None,
        classes: tuple[str, ...] | None = None,
        recipe: Mapping[str, Any] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.shape: tuple[int, ...] = tuple(int(s) for s in values.shape[1:])
        self.size: int | None = int(train.size)
        self.held_out_size = int(held.size)
        self.classes = classes
        self.warnings = warnings
        self.location = torch.as_tensor(location, dtype=torch.float64)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self._values, self._labels, self._recipe = values, labels, recipe
        self._train, self._held = torch.from_numpy(train.astype(np.int64)), torch.from_numpy(held.astype(np.int64))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, shape={self.shape}, size={self.size}, held_out={self.held_out_size})"
        )

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """`n` distinct rows of the training part in random order.

        Raises:
            DataExhaustedError: the training part has fewer rows.
        """
        return self._gather(self._pick(self._train, n, generator, "training"))

    def rows(self, index: Tensor) -> Batch:
        """Rows `index` (``[m]`` int64, 0 to ``size - 1``) of the training part.

        Raises:
            InputError: an index outside the training part.
        """
        size = self._train.numel()
        outside = (index < 0) | (index >= size)
        if bool(outside.any()):
            raise InputError(f"row {int(index[outside][0])} of {self.name} does not exist", f"use 0 to {size - 1}")
        return self._gather(self._train[index])

    def held_out(self, n: int, generator: torch.Generator) -> Batch:
        """`n` distinct rows of the held-out part in random order.

        Raises:
            DataExhaustedError: the held-out part has fewer rows.
        """
        return self._gather(self._pick(self._held, n, generator, "held-out"))

    def restore(self, x: Tensor) -> Tensor:
        """Rows in the units of the raw table: ``x * scale + location``, float64."""
        return x.double() * self.scale.to(x.device) + self.location.to(x.device)

    def config(self) -> dict[str, Any]:
        """Description that :func:`driftlaw.data.build` inverts.

        Raises:
            ConfigError: the rows exist in memory only.
        """
        if self._recipe is None:
            raise ConfigError(
                f"{self.name} is an array in memory and cannot be written to a study file",
                "save it with numpy.save and give the path: kind: array, path: FILE.npy",
            )
        return dict(self._recipe)

    def _pick(self, part: Tensor, n: int, generator: torch.Generator, which: str) -> Tensor:
        if not 0 <= n <= part.numel():
            raise DataExhaustedError(
                f"{n} {which} rows of {self.name} were asked for and it has {part.numel()}",
                "ask for fewer rows, use a larger source, or change held_out",
            )
        return part[torch.randperm(part.numel(), generator=generator)[:n]]

    def _gather(self, index: Tensor) -> Batch:
        x = encode(self._values[index.numpy()], self.location.numpy(), self.scale.numpy())
        return Batch(x, None if self._labels is None else self._labels[index])


def encode(raw: Array, location: Array, scale: Array) -> Tensor:
    """``(raw - location) / scale`` as float32; computed in float64 unless raw is bytes, so large offsets cancel."""
    exact = np.float32 if raw.dtype == np.uint8 else np.float64
    x = np.subtract(raw, location.astype(exact), dtype=exact)
    np.divide(x, scale.astype(exact), out=x)
    return torch.from_numpy(x.astype(np.float32, copy=False))


def blocks(values: Array, index: Array | None = None) -> Iterator[tuple[int, Array]]:
    """Pairs of first position and rows, as many at a time as fit a pass, so that a mapped file is never in memory."""
    n = len(values) if index is None else len(index)
    step = fitting(8 * math.prod(values.shape[1:]))
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield start, np.asarray(values[start:stop] if index is None else values[index[start:stop]])
