r"""Counts in fixed cells: tails beyond real quantiles, and categories (this project).

The edges e_1 <= ... <= e_J of a numeric column are observed real values at the quantile levels :data:`LEVELS`; they are
frozen, so counts of different data are comparable and add. Edges up to the median close the cell below them from above,
later ones too but inclusively:

    cell 0: x < e_1;   cell j: e_j <= x < e_{j+1} (lower half);   last cell: x > e_J,

so mass at a single value (a constant column) lies between "below" and "above" and any departure shows. A categorical
column has one cell per recorded category and a last one, "other". Missing values are in no cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.native import row_passes

#: Levels of the edges: the tails at 0.1, 1 and 5 % on both sides, and the quartiles.
LEVELS = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_UPPER = np.array([level > 0.5 for level in LEVELS])
#: Most columns of an array that are counted one by one; of wider rows the features are counted.
WIDEST = 256
_RUN = 32  # rows that are compared side by side


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of one column or feature.

    Args:
        name: of the column or feature.
        counts: int64, one per cell.
        edges: ``[J]`` of a numeric one (then J + 1 cells), in its own units; None for a categorical one.
        categories: of a categorical one (then one cell each, and a last one for all others); None for a numeric one.
    """

    name: str
    counts: NDArray[np.int64]
    edges: NDArray[np.float64] | None = None
    categories: tuple[str, ...] | None = None

    @property
    def n(self) -> int:
        """Values that were not missing."""
        return int(self.counts.sum())

    @property
    def cells(self) -> tuple[str, ...]:
        """Each cell in words."""
        if self.categories is not None:
            return (*self.categories, "other")
        edges = np.asarray(self.edges)
        inner = []
        for j in range(len(edges) - 1):
            left, right = ("(" if _UPPER[j] else "["), ("]" if _UPPER[j + 1] else ")")
            inner.append(f"{left}{edges[j]:.4g}, {edges[j + 1]:.4g}{right}")
        return (f"< {edges[0]:.4g}", *inner, f"> {edges[-1]:.4g}")


def real_edges(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges from real columns ``[n, c]``; NaN is missing. Returns ``[J, c]``; 0 for a column without values."""
    out = np.zeros((len(LEVELS), columns.shape[1]))
    for j, column in enumerate(columns.T):
        seen = column[~np.isnan(column)]
        if len(seen):  # observed values, not between them: exact in float32 when the data are
            low = np.quantile(seen, LEVELS, method="lower")
            out[:, j] = np.where(_UPPER, np.quantile(seen, LEVELS, method="higher"), low)
    return out


class Cells:
    """Counts numeric columns in the cells of frozen edges.

    Args:
        edges: ``[J, c]``.
    """

    def __init__(self, edges: NDArray[np.float64]) -> None:
        self.edges = edges
        self._prepared: dict[Any, tuple[NDArray[Any], NDArray[Any]]] = {}

    def count(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Counts ``[c, J + 1]`` of float32 or float64 columns ``[n, c]``; NaN is missing and in no cell."""
        return between(self.beyond(x))

    def beyond(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Rows ``[J + 1, c]`` that are not NaN, and that are in a cell above each edge: what :func:`between` takes."""
        if not x.size:
            return np.zeros((len(self.edges) + 1, x.shape[1]), np.int64)
        if x.dtype not in self._prepared:
            edges = self.edges.astype(x.dtype)
            self._prepared[x.dtype] = edges, np.tile(edges, (1, _RUN))
        edges, tiled = self._prepared[x.dtype]
        return row_passes.count(x, edges) if row_passes.serves(x.size) else _beyond(x, edges, tiled)


def between(beyond: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts ``[c, J + 1]`` in the cells from those of all rows and beyond each edge, ``[J + 1, c]``."""
    return np.ascontiguousarray((beyond - np.vstack([beyond[1:], np.zeros_like(beyond[:1])])).T)


def _beyond(x: NDArray[Any], edges: NDArray[Any], tiled: NDArray[Any]) -> NDArray[np.int64]:
    """:meth:`Cells.beyond` without a compiler; `tiled` are the edges, :data:`_RUN` times side by side."""
    n, c = x.shape
    beyond = np.zeros((len(edges) + 1, c), np.int64)
    beyond[0] = n - np.isnan(x).sum(axis=0) if np.isnan(x).any() else n
    for start in range(0, n, _RUN * 255):
        part = x[start : start + _RUN * 255]
        whole = len(part) - len(part) % _RUN
        # rows side by side make long inner loops, and sums of at most 255 ones fit in bytes: several times faster
        wide, rest = np.ascontiguousarray(part[:whole]).reshape(-1, _RUN * c), part[whole:]
        for j, (edge, long_edge) in enumerate(zip(edges, tiled, strict=True)):
            test = np.greater if _UPPER[j] else np.greater_equal
            sums = np.add.reduce(test(wide, long_edge).view(np.uint8), axis=0, dtype=np.uint8)
            beyond[j + 1] += sums.reshape(_RUN, c).sum(axis=0, dtype=np.int64) + test(rest, edge).sum(axis=0)
    return beyond
