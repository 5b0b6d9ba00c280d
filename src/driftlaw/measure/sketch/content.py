"""What the arrays of a sketch must satisfy, whatever its hash says: anyone can make a hash right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.measure.sketch.features import SketchFeatures
from driftlaw.measure.sketch.spread import WIDE

#: Most rows that counts may add up to.
MOST = 1 << 56
#: A covariance may have eigenvalues this far below zero, relative to the largest: rounding.
ROUNDING = 1e-6


def check(arrays: Mapping[str, NDArray[Any]], features: SketchFeatures) -> None:
    """Refuse counts, means and scatter that no rows give.

    Args:
        arrays: of the file.
        features: built from it.

    Raises:
        ValueError: which array, and what is wrong with it.
    """
    k, blocks = features.dimension, len(arrays["counts"])
    pairs = k * (k + 1) // 2
    _counts("counts", arrays, (blocks,), MOST)
    n = int(arrays["counts"].sum())
    _counts("cells", arrays, (len(features.counted), len(features.edges) + 1), n)
    for i, known in enumerate(features.categories.values()):
        _counts(f"categories.{i}", arrays, (len(known) + 1,), n)
    _numbers("means", arrays, (blocks, k))
    _numbers("scatter", arrays, (pairs,))
    _semidefinite("scatter", arrays["scatter"][None], k)
    for before in ("", "serial."):
        if f"{before}spread.scatter" in arrays:
            groups, whole = len(arrays[f"{before}counts"]), k <= WIDE
            _numbers(f"{before}spread.scatter", arrays, (groups, pairs if whole else k))
            _numbers(f"{before}spread.range", arrays, (2, k), infinite=True)
            if whole:
                _semidefinite(f"{before}spread.scatter", arrays[f"{before}spread.scatter"], k)
    if "serial.counts" in arrays:
        groups = len(arrays["serial.counts"])
        _counts("serial.counts", arrays, (groups,), MOST)
        _numbers("serial.means", arrays, (groups, k))
        _numbers("serial.scatter", arrays, (pairs,))
    for name, a in arrays.items():
        if name.startswith("map.") and a.dtype.kind == "f" and not np.isfinite(a).all():
            raise ValueError(f"{name} is not finite")
    if (
        features.edges.dtype.kind != "f"
        or np.isnan(features.edges).any()
        or (np.diff(features.edges, axis=0) < 0).any()
    ):
        raise ValueError("edges are not in order")


def count(value: object) -> int:
    """A number of rows.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r:.40} is not a number of rows")
    return value


def _counts(name: str, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...], most: int) -> None:
    a = arrays[name]
    if a.shape != shape or a.dtype != np.int64:
        raise ValueError(f"{name} is {a.dtype} {list(a.shape)}, not int64 {list(shape)}")
    if a.size and (a.min() < 0 or a.max() > most or a.sum(axis=-1, dtype=float).max() > most):
        raise ValueError(f"{name} are not counts of at most {most} rows")


def _numbers(name: str, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...], infinite: bool = False) -> None:
    a = arrays[name]
    if a.shape != shape or a.dtype != np.float64:
        raise ValueError(f"{name} is {a.dtype} {list(a.shape)}, not float64 {list(shape)}")
    if np.isnan(a).any() if infinite else not np.isfinite(a).all():
        raise ValueError(f"{name} is not finite")


def _semidefinite(name: str, packed: NDArray[np.float64], k: int) -> None:
    matrix = np.zeros((len(packed), k, k))
    upper = np.triu_indices(k)
    matrix[:, *upper] = packed
    matrix[:, upper[1], upper[0]] = packed
    size = np.abs(matrix).max(axis=(1, 2), initial=0.0)
    scaled = matrix / np.where(size > 0, size, 1.0)[:, None, None]
    if k and len(packed) and np.linalg.eigvalsh(scaled).min() < -ROUNDING:
        raise ValueError(f"{name} is no covariance: it has a negative eigenvalue")
