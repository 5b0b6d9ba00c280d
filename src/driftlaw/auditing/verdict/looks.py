r"""Several looks at one generation, judged together: means, columns, coverage of the real modes, copies.

Each look gives one p-value; over all looks at all generations they are adjusted by Holm's method, so that honest rows
raise any alarm with probability 5 % at most.

- **mean**: the drift test of :mod:`driftlaw.auditing.significance`.
- **columns**: cells, categories and missing values of every column (:mod:`driftlaw.auditing.verdict.columns`), times
  their number. It sees spread, tails, lost and new categories: what means cannot see.
- **spread** and **dependence**: the variance of every column and the correlation of every pair
  (:mod:`driftlaw.auditing.verdict.shape`): what means cannot see and cells see late.
- **recall**: whether fewer real rows lie among generated rows than among other real rows (one-sided normal test).
- **copies**: whether more generated rows sit on real training rows than held-out rows do (one-sided exact test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from driftlaw.auditing.rows import RowMeasures
from driftlaw.auditing.significance import holm
from driftlaw.auditing.verdict.columns import ColumnAudit
from driftlaw.auditing.verdict.shape import Shape
from driftlaw.estimate import Estimate
from driftlaw.measure.sets.memorisation import QUANTILE
from driftlaw.records import Record


@dataclass(frozen=True)
class Looks(Record):
    """Adjusted p-values of the looks at one generation; None where a look was not possible.

    Args:
        mean: of the drift.
        columns: of the column that differs most.
        recall: of the coverage of real rows.
        copies: of near-duplicates.
        tests: looks at all generations, over which they are adjusted.
        each: number of columns that the p-values of single columns are multiplied by.
        spread: of the column whose spread differs most, and its name.
        spread_of: that column.
        dependence: of the pair whose correlation differs most.
        pair: its names, with correlations, real and generated.
    """

    mean: float
    columns: float | None
    recall: float | None
    copies: float | None
    tests: int
    each: int
    spread: float | None = None
    spread_of: str = ""
    dependence: float | None = None
    pair: tuple[str, str, float, float] | None = None

    def column(self, found: ColumnAudit) -> float:
        """Adjusted p-value of one column: not below that of the look, and times the number of columns."""
        if self.columns is None:
            return 1.0
        return max(self.columns, min(1.0, found.p.value * self.each))


def looks(
    means: Sequence[Estimate],
    columns: Sequence[Sequence[ColumnAudit]],
    rows: Sequence[RowMeasures | None],
    serial: bool = False,
    shapes: Sequence[Shape] = (),
) -> tuple[Looks, ...]:
    """Judge all generations together.

    Args:
        means: p-value of each generation's drift, for it alone.
        columns: all columns of each generation.
        rows: nearest-neighbour measures of each generation, where there are some.
        serial: rows depend on their neighbours: recall, whose test takes them as independent, is no look then.
        shapes: spread and dependence of each generation.

    Returns:
        One for each generation.
    """
    shapes = shapes or [Shape(None, "", None, None)] * len(means)
    table = [
        [m.value, _columns(c), None if serial else _recall(r), _copies(r), s.spread, s.dependence]
        for m, c, r, s in zip(means, columns, rows, shapes, strict=True)
    ]
    flat = [p for line in table for p in line if p is not None]
    adjusted = iter(holm(flat).tolist())
    out = []
    for line, c, s in zip(table, columns, shapes, strict=True):
        mean, column, recall, copies, spread, pairs = (None if p is None else float(next(adjusted)) for p in line)
        assert mean is not None
        each = max(len(c), 1)
        out.append(Looks(mean, column, recall, copies, len(flat), each, spread, s.column, pairs, s.pair))
    return tuple(out)


def _columns(found: Sequence[ColumnAudit]) -> float | None:
    return min(1.0, min(c.p.value for c in found) * len(found)) if found else None


def _recall(rows: RowMeasures | None) -> float | None:
    if rows is None or rows.recall.is_refused or rows.recall_floor.is_refused:
        return None
    error = math.hypot(rows.recall.stderr, rows.recall_floor.stderr)
    gap = rows.recall_floor.value - rows.recall.value
    return float(stats.norm.sf(gap / error)) if error > 0 else float(gap <= 0)


def _copies(rows: RowMeasures | None) -> float | None:
    if rows is None or rows.near_duplicates.is_refused:
        return None
    if rows.copied_p is not None:
        return rows.copied_p
    n = rows.near_duplicates.n
    return float(stats.binom.sf(np.ceil(rows.near_duplicates.value * n - 1e-9) - 1, n, QUANTILE)) if n else None
