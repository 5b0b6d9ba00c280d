r"""Every column of a generation beside the real one: shift, spread, tails, categories, missing values, and a p-value.

The p-value of a column is the smaller of two, doubled: the chi-squared test of homogeneity of its cells (pooled shares;
cells with fewer than :data:`SPARSE` expected counts in the smaller set are merged with their neighbours), and Fisher's
exact test of each category, or of missing against present values, times their number. Counts decide, so the level holds
for skewed, rounded and heavy-tailed columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from driftlaw.estimate import Z95, Estimate
from driftlaw.measure.sets.moments import proportion
from driftlaw.measure.sketch.histograms import LEVELS, Histogram
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.records import Record

#: Expected counts in the smaller set below which a cell is merged with its neighbour.
SPARSE = 5.0
#: Level of a single category's test, before it is divided by the number of tests of the column.
LEVEL = 0.05
#: Names of new or lost categories that are listed, and columns that are kept.
MOST_NAMES, MOST_COLUMNS = 8, 64
#: Inner cells: between the real quartiles; outer cells: beyond the real 1 % and 99 % quantiles.
_QUARTER, _THREE_QUARTERS = LEVELS.index(0.25) + 1, LEVELS.index(0.75) + 1
_LOW, _HIGH = LEVELS.index(0.01) + 1, LEVELS.index(0.99) + 1


@dataclass(frozen=True)
class ColumnAudit(Record):
    """One column of one generation against the real data.

    Args:
        name: of the column, or of a feature where rows are wide.
        kind: "numeric" or "categorical".
        p: of the column's test, for this column alone.
        shift: difference of means in real standard deviations; refused where the features do not hold the column.
        spread: ratio of variances, generation over real; refused likewise, and for categories.
        tails: share of generated values beyond the real 1 % and 99 % quantiles, or outside the recorded categories.
        inner: share of generated values between the real quartiles; refused for categories.
        missing: share of missing values.
        real_missing: the same of the real data.
        new: categories the real data do not have, with their share.
        lost: real categories that are gone, with their real share.
    """

    name: str
    kind: str
    p: Estimate
    shift: Estimate
    spread: Estimate
    tails: Estimate
    inner: Estimate
    missing: Estimate
    real_missing: Estimate
    new: tuple[tuple[str, float], ...] = ()
    lost: tuple[tuple[str, float], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether its variance is gone."""
        return self.spread.value == 0.0


def columns(real: Sketch, generation: Sketch, design: tuple[float, float] = (1.0, 1.0)) -> tuple[ColumnAudit, ...]:
    """Every counted column, in the order of the data.

    Args:
        real: sketch of the real data.
        generation: sketch of the generation, made like the real one.
        design: rows of either set that count as one: neighbouring rows that depend on each other are worth fewer, and
            counts are divided by it (Rao and Scott 1981, first order).
    """
    moments, generated = _moments(real, generation), generation.histograms
    return tuple(_column(h, generated[name], real, generation, moments, design) for name, h in real.histograms.items())


def kept(found: tuple[ColumnAudit, ...]) -> tuple[ColumnAudit, ...]:
    """At most :data:`MOST_COLUMNS`, those with the smallest p-values, in the order of the data."""
    if len(found) <= MOST_COLUMNS:
        return found
    order = sorted(range(len(found)), key=lambda j: (found[j].p.value, j))[:MOST_COLUMNS]
    return tuple(found[j] for j in sorted(order))


def homogeneity(real: NDArray[np.int64], generated: NDArray[np.int64], ordered: bool = True) -> float:
    """p-value that two rows of counts are draws of one law.

    Args:
        real: ``[J]`` counts of the real rows.
        generated: ``[J]`` counts of the generation.
        ordered: whether neighbouring cells may be merged; else the rare cells are merged with each other.

    Returns:
        1 where fewer than two cells are left.
    """
    n0, n = int(real.sum()), int(generated.sum())
    if min(n0, n) == 0:
        return 1.0
    share = min(n0, n) / (n0 + n)
    table = np.stack([real, generated]).astype(np.float64)
    merged = _merge_neighbours(table, share) if ordered else _merge_rare(table, share)
    if merged.shape[1] < 2:
        return 1.0
    expected = np.outer(merged.sum(axis=1), merged.sum(axis=0)) / merged.sum()
    statistic = float(((merged - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, merged.shape[1] - 1))


def fisher(real: NDArray[np.int64], generated: NDArray[np.int64], n0: int, n: int) -> NDArray[np.float64]:
    """Two-sided p-values (twice the smaller tail) that each count is as frequent in both sets, given their sum."""
    total = real + generated
    law = stats.hypergeom(n0 + n, total, n)
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(law.cdf(generated), law.sf(generated - 1))))


def _column(
    h: Histogram,
    g: Histogram,
    real: Sketch,
    generation: Sketch,
    moments: Mapping[str, tuple[Estimate, Estimate]],
    design: tuple[float, float],
) -> ColumnAudit:
    kept = g.counts
    h, g = _worth(h, design[0]), _worth(g, design[1])
    n0, n = h.n, g.n
    absent, real_absent = generation.missing.get(h.name, 0), real.missing.get(h.name, 0)
    absent0, absent1 = (_one(round(count / d)) for count, d in zip((real_absent, absent), design, strict=True))
    exact = [float(fisher(absent0, absent1, round(real.n / design[0]), round(generation.n / design[1]))[0])]
    new: tuple[tuple[str, float], ...] = ()
    lost: tuple[tuple[str, float], ...] = ()
    refused = Estimate.refused("mean and variance of a column", "the features do not hold this column", n)
    shift, spread = moments.get(h.name, (refused, refused))
    if h.categories is None:
        outer = int(g.counts[:_LOW].sum() + g.counts[_HIGH:].sum())
        tails = _share(outer, n, "share beyond the real 1 % and 99 % quantiles")
        inner = _share(int(g.counts[_QUARTER:_THREE_QUARTERS].sum()), n, "share between the real quartiles")
    else:
        each = fisher(h.counts, g.counts, n0, n) if min(n0, n) else np.ones(len(h.counts))
        exact += [min(1.0, float(each.min()) * len(each))]
        tails = _share(int(g.counts[-1]), n, "share outside the recorded categories")
        inner = Estimate.refused("share between the real quartiles", "categories have no order", n)
        shift = spread = Estimate.refused("mean and variance of a column", "categories have none", n)
        clear = each < LEVEL / len(each)
        gone = [j for j in range(len(h.categories)) if clear[j] and h.counts[j] and not kept[j]]
        lost = tuple((h.categories[j], float(h.counts[j] / n0)) for j in gone[:MOST_NAMES])
        fresh = generation.new(real).get(h.name, {})
        tried = len({*real.unseen.get(h.name, {}), *generation.unseen.get(h.name, {})})
        if fresh and n0:  # all k rows of a value fell into the generation
            exact += [min(1.0, tried * (n / (n + n0)) ** max(fresh.values()))]
        if not (clear[-1] and n and g.counts[-1] / n > h.counts[-1] / max(n0, 1)):
            # "other" as large as before may still hold a new value
            least = math.log(LEVEL / max(tried, 1)) / math.log(n / (n + n0)) if n and n0 else math.inf
            fresh = {c: k for c, k in fresh.items() if k > least}
        new = tuple((c, k / n) for c, k in list(fresh.items())[:MOST_NAMES])
    cells = homogeneity(h.counts, g.counts, h.categories is None)
    p = min(1.0, 2.0 * min(cells, min(1.0, min(exact) * len(exact))))
    method = "chi-squared test of the cells and exact tests of rare ones, Bonferroni"
    return ColumnAudit(
        h.name,
        "numeric" if h.categories is None else "categorical",
        Estimate(p, 0.0, p, p, min(n0, n), method),
        shift,
        spread,
        tails,
        inner,
        _share(absent, generation.n, "share of missing values"),
        _share(real_absent, real.n, "share of missing values"),
        new,
        lost,
    )


def _moments(real: Sketch, generation: Sketch) -> dict[str, tuple[Estimate, Estimate]]:
    """Shift and spread of the features that are columns."""
    v0, v1 = np.diag(real.covariance), np.diag(generation.covariance)
    n = min(real.n, generation.n)
    found = {}
    for j, label in enumerate(real.features.labels):
        if not v0[j] > 0:
            continue
        scale = math.sqrt(v0[j])
        stderr = math.sqrt(v0[j] / real.n + v1[j] / generation.n) / scale
        gap = float(generation.mean[j] - real.mean[j]) / scale
        ratio = max(float(v1[j] / v0[j]), 0.0)
        log = math.sqrt(2.0 / max(real.n - 1, 1) + 2.0 / max(generation.n - 1, 1))
        ends = (ratio * math.exp(-Z95 * log), ratio * math.exp(Z95 * log))
        found[label] = (
            Estimate.normal(gap, stderr, n, "difference of means in real standard deviations"),
            Estimate(ratio, ratio * log, *ends, n, "variance ratio, interval for Gaussian columns"),
        )
    return found


def _worth(h: Histogram, design: float) -> Histogram:
    """Counts of the independent rows that dependent ones are worth."""
    return h if design <= 1.0 else replace(h, counts=np.rint(h.counts / design).astype(np.int64))


def _one(count: int) -> NDArray[np.int64]:
    return np.array([count], np.int64)


def _share(count: int, n: int, method: str) -> Estimate:
    return proportion(count, n, method) if n else Estimate.refused(method, "every value is missing", 0)


def _merge_neighbours(table: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    out: list[NDArray[np.float64]] = []
    held = np.zeros(2)
    for cell in table.T:
        held = held + cell
        if held.sum() * share >= SPARSE:
            out.append(held)
            held = np.zeros(2)
    if held.sum() > 0:
        if out:
            out[-1] = out[-1] + held
        else:
            out.append(held)
    return np.stack(out, axis=1)


def _merge_rare(table: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    expected = table.sum(axis=0) * share
    common = [c for c, e in zip(table.T, expected, strict=True) if e >= SPARSE]
    rare = table[:, expected < SPARSE].sum(axis=1)
    if rare.sum() * share >= SPARSE or not common:
        common.append(rare)
    elif rare.sum() > 0:
        smallest = min(range(len(common)), key=lambda j: float(common[j].sum()))
        common[smallest] = common[smallest] + rare
    return np.stack(common, axis=1)
