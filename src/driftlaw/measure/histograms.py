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

#: Levels of the edges: the tails at 0.1, 1 and 5 % on both sides, and the quartiles.
LEVELS = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_UPPER = np.array([level > 0.5 for level in LEVELS])
#: Most columns of an array that are counted one by one; of wider rows the features are counted.
WIDEST = 256
_RUN = 128  # comparisons are summed as bytes over runs no longer than 255


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


def numeric_cells(x: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts of columns ``[n, c]`` (NaN is missing) in the cells of `edges` ``[J, c]``: ``[c, J + 1]``."""
    beyond = np.empty((len(edges) + 2, x.shape[1]), np.int64)
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64)
    beyond[0] = len(x) - np.isnan(x).sum(axis=0) if np.isnan(x.sum()) else len(x)
    beyond[-1] = 0
    for j, edge in enumerate(edges.astype(x.dtype)):
        beyond[j + 1] = _column_sums(x > edge if _UPPER[j] else x >= edge)
    return (beyond[:-1] - beyond[1:]).T


def _column_sums(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sums over rows; summed as bytes first, which is several times faster than as 64-bit numbers."""
    whole = len(mask) - len(mask) % _RUN
    runs = mask[:whole].view(np.uint8).reshape(-1, _RUN, mask.shape[1])
    head = np.add.reduce(runs, axis=1, dtype=np.uint8).sum(axis=0, dtype=np.int64)
    return np.asarray(head + mask[whole:].sum(axis=0, dtype=np.int64))
