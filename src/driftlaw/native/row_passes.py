r"""Passes over rows besides their products: the compiled twins of what a sketch does in NumPy and PyTorch.

    standardise: z_i = (x_i - mean) / scale;   centre: z_i <- z_i - c and its sums by block;   count: rows beyond edges.

The library is built at the first large chunk of rows (:mod:`driftlaw.native.compiled`). Without it the callers do the
same: standardised rows and counts are equal to the bit, sums up to float64 rounding. All passes use one thread.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.native.compiled import INSTRUCTION_SETS, Source

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

#: Minimum element count for the compiled path.
LARGE = 1 << 16
_SUFFIX = {"f": "float32", "d": "float64"}
#: Edges up to the median, and all edges, of :func:`count`.
EDGES = (5, 9)


def serves(numbers: int) -> bool:
    """Whether the compiled passes are used for rows of so many numbers; compiles them at the first large chunk."""
    return numbers >= LARGE and SOURCE.available()


def standardise(x: Tensor, mean: Tensor, scale: Tensor, instruction_set: int = 1) -> Tensor:
    """(x - mean) / scale in float64.

    Args:
        x: ``[n, k]`` float32 or float64.
        mean: ``[k]`` float64.
        scale: ``[k]`` float64.
        instruction_set: best index into :data:`~driftlaw.native.compiled.INSTRUCTION_SETS` that may be used.
    """
    rows = np.ascontiguousarray(x.numpy())
    z = np.empty(rows.shape)
    _run("standardise", instruction_set, rows, mean.contiguous().numpy(), scale.contiguous().numpy(), z)
    import torch

    return torch.from_numpy(z)


def centre(z: Array, c: Array, block: NDArray[np.int64], sums: Array, instruction_set: int = 1) -> None:
    """Subtract c from rows, and add them to the sums of their blocks; both in place.

    Args:
        z: ``[n, k]`` in C order.
        c: ``[k]``.
        block: ``[n]`` of each row, in 0..B-1.
        sums: ``[B, k]`` in C order.
        instruction_set: as for :func:`standardise`.
    """
    _run("centre", instruction_set, z, c, np.ascontiguousarray(block), sums)


def count(x: NDArray[Any], edges: NDArray[Any], instruction_set: int = 1) -> NDArray[np.int64]:
    """Rows that are not NaN, rows >= each of the 5 lower edges, and rows > each of the 4 upper ones, ``[10, k]``.

    Args:
        x: ``[n, k]`` float32 or float64.
        edges: ``[9, k]`` of the same type, in C order.
        instruction_set: as for :func:`standardise`.
    """
    counts = np.zeros((EDGES[1] + 1, x.shape[1]), np.int64)
    _run("count", instruction_set, np.ascontiguousarray(x), edges, counts)
    return counts


def _run(name: str, instruction_set: int, rows: NDArray[Any], *arrays: NDArray[Any]) -> None:
    handle, story, isa = SOURCE.library()
    if handle is None:
        raise RuntimeError(f"the compiled passes over rows are {story}")
    _call(handle, name, min(instruction_set, isa), rows, *arrays)


def _call(handle: ctypes.CDLL, name: str, isa: int, rows: NDArray[Any], *arrays: NDArray[Any]) -> None:
    size = map(ctypes.c_int64, rows.shape)
    pointer, *pointers = [ctypes.c_void_p(a.ctypes.data) for a in (rows, *arrays)]
    getattr(handle, f"{name}_{_SUFFIX[rows.dtype.char]}_{INSTRUCTION_SETS[isa]}")(pointer, *size, *pointers)


def _declare(handle: ctypes.CDLL) -> None:
    for name in ("standardise_float32", "standardise_float64", "centre_float64", "count_float32", "count_float64"):
        getattr(handle, f"{name}_portable").restype = None


def _right(handle: ctypes.CDLL, isa: int) -> bool:
    """Whether the passes agree with the formulas on 11 rows of 9 numbers."""
    x = np.sin(np.arange(99.0) * 7).reshape(11, 9)
    mean, scale, z, sums = x[0], np.abs(x[1]) + 1, np.empty((11, 9)), np.zeros((2, 9))
    _call(handle, "standardise", isa, x, mean, scale, z)
    standardised = (x - mean) / scale
    good = bool((z == standardised).all())
    block = np.arange(11) % 2
    _call(handle, "centre", isa, z, mean, block, sums)
    centred = standardised - mean
    good &= bool((z == centred).all()) and np.allclose(sums, [centred[::2].sum(axis=0), centred[1::2].sum(axis=0)])
    for dtype in (np.float32, np.float64):
        edges, rows = np.sort(x[:9], axis=0).astype(dtype), x.astype(dtype)
        rows[10] = np.nan
        counts = np.zeros((10, 9), np.int64)
        _call(handle, "count", isa, rows, edges, counts)
        beyond = [(rows >= e) if j < EDGES[0] else (rows > e) for j, e in enumerate(edges)]
        good &= bool((counts == np.sum([rows == rows, *beyond], axis=1)).all())
    return good


#: The library; its portable code, too, is faster than NumPy.
SOURCE = Source((Path(__file__).with_name("row_passes.cpp"),), "large chunk of rows", 0, 1, _declare, _right)
