r"""What moved: features, columns, classes, tails and spread, from two sketches.

- **Shift** of a feature: (E_gen phi_j - E_real phi_j)/s_j in real standard deviations; normal interval.
- **Column**: chi2 of its cells, sum_j (p_j - q_j)^2/q_j minus its expectation under equality, and the mass beyond the
  real 1 % and 99 % quantiles (beyond "seen before" for a category). Lower bounds of chi2(p_hat || p) again.
- **Spread**: generalised eigenvalues of (C_gen, C_real), 1 without change. Those of r features from n_0 and n rows of
  equal laws fill the interval ((1 -+ sqrt(y + y_0 - y y_0))/(1 - y_0))^2, y = r/n, y_0 = r/n_0 (Wachter 1980): only
  what lies outside means something. Per feature: the variance ratio, log-normal interval for Gaussian features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from driftlaw.auditing.coordinates import Coordinates
from driftlaw.estimate import Z95, Estimate
from driftlaw.measure.sets.moments import proportion
from driftlaw.measure.sets.twosample import score_interval
from driftlaw.measure.sketch.histograms import LEVELS, Histogram
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.records import Record

#: How many features and columns are listed.
MOST = 12
#: Cells beyond the real 1 % and 99 % quantiles.
_LOW, _HIGH = LEVELS.index(0.01) + 1, LEVELS.index(0.99) + 1


@dataclass(frozen=True)
class Feature:
    """One feature: how far its mean moved and what became of its variance.

    Args:
        name: label.
        shift: in real standard deviations.
        variance_ratio: generation over real.
    """

    name: str
    shift: Estimate
    variance_ratio: Estimate


@dataclass(frozen=True)
class Column:
    """One counted column.

    Args:
        name: of the column.
        cells: each cell in words.
        real, generated: share of each cell.
        chi2: of the cells, unbiased.
        tail: mass beyond the real 1 % and 99 % quantiles, or in categories that real data did not have.
        real_tail: the same of the real rows.
    """

    name: str
    cells: tuple[str, ...]
    real: tuple[float, ...]
    generated: tuple[float, ...]
    chi2: Estimate
    tail: Estimate
    real_tail: Estimate


@dataclass(frozen=True)
class Spread:
    """Second-order changes.

    Args:
        total: mean variance ratio over whitened directions.
        smallest, largest: generalised eigenvalues; refused where no covariance can be inverted.
        equal: interval that the eigenvalues of equal laws fill, None where they are refused.
    """

    total: Estimate
    smallest: Estimate
    largest: Estimate
    equal: tuple[float, float] | None


@dataclass(frozen=True)
class Changes(Record):
    """What moved in one generation, largest first."""

    features: tuple[Feature, ...]
    columns: tuple[Column, ...]
    spread: Spread


def changes(real: Sketch, generation: Sketch, coordinates: Coordinates, i: int) -> Changes:
    """What moved between real data and generation i.

    Args:
        real: sketch of the real data.
        generation: sketch of the generation.
        coordinates: both in whitened coordinates.
        i: index of the generation in `coordinates`.
    """
    histograms = generation.histograms
    columns = [column(h, histograms[name]) for name, h in real.histograms.items() if h.n and histograms[name].n]
    columns.sort(key=lambda c: -c.chi2.low)
    return Changes(features(real, generation)[:MOST], tuple(columns[:MOST]), spread(coordinates, i))


def features(real: Sketch, generation: Sketch) -> tuple[Feature, ...]:
    """Every feature that varies in the real data, the clearest shift first."""
    v0, v1 = np.diag(real.covariance), np.diag(generation.covariance)
    found = []
    for j in np.flatnonzero(v0 > 1e-24 * max(float(v0.max()), 1e-300)):
        scale = math.sqrt(v0[j])
        stderr = math.sqrt(v0[j] / real.n + v1[j] / generation.n) / scale
        shift = float(generation.mean[j] - real.mean[j]) / scale
        n = min(real.n, generation.n)
        ratio = max(float(v1[j] / v0[j]), 0.0)
        log = math.sqrt(2.0 / (real.n - 1) + 2.0 / (generation.n - 1))
        ends = (ratio * math.exp(-Z95 * log), ratio * math.exp(Z95 * log))
        found.append(
            Feature(
                real.features.labels[j],
                Estimate.normal(shift, stderr, n, "difference of means in real standard deviations"),
                Estimate(ratio, ratio * log, *ends, n, "variance ratio, interval for Gaussian features"),
            )
        )
    return tuple(sorted(found, key=lambda f: -abs(f.shift.value) / f.shift.stderr))


def column(real: Histogram, generated: Histogram) -> Column:
    """Cells of one column in both sets."""
    n0, n = real.n, generated.n
    q, p = real.counts / n0, generated.counts / n
    seen = (real.counts + generated.counts) > 0
    pooled = (real.counts + 1.0) / (n0 + len(q))  # a cell without real rows has no finite chi2
    gap = (p - q) ** 2 / pooled
    noise = (p * (1 - p) / (n - 1) + q * (1 - q) / max(n0 - 1, 1)) / pooled
    unit, cells = 1.0 / n + 1.0 / n0, int(seen.sum())
    low, high, method = min(n, n0), 0.0, "chi2 of cell shares, expectation under equality taken off, score interval"
    value = float((gap - noise)[seen].sum())
    ratio = float((gap * p / pooled)[seen].sum() / max(gap[seen].sum(), 1e-300))
    chi2 = score_interval(value, 2.0 * max(cells - 1, 1) * unit**2, 4.0 * unit * max(ratio, high), low, method)
    tails, what = _tails(generated, "generated"), _tails(real, "real")
    return Column(real.name, real.cells, tuple(map(float, q)), tuple(map(float, p)), chi2, tails, what)


def _tails(h: Histogram, whose: str) -> Estimate:
    if h.categories is not None:
        return proportion(int(h.counts[-1]), h.n, f"share of {whose} values in no recorded category")
    beyond = int(h.counts[:_LOW].sum() + h.counts[_HIGH:].sum())
    return proportion(beyond, h.n, f"share of {whose} values beyond the real 1 % and 99 % quantiles")


def spread(c: Coordinates, i: int) -> Spread:
    """Generalised eigenvalues of the covariances of generation i and of the real rows."""
    w, r, n0, n = c.whitening, c.rank, float(c.sizes[0]), float(c.sizes[i])
    mean = float(c.traces[i]) / r
    square = c.trace_product(i, i) / r**2
    stderr = math.sqrt(2.0 * square * (1.0 / n + 1.0 / n0))
    total = Estimate.normal(mean, stderr, int(n), "mean variance ratio of whitened features, Gaussian interval")
    method = "generalised eigenvalue of both covariances"
    if w.diagonal:
        no = Estimate.refused(method, "too few real rows to invert a covariance", int(n))
        return Spread(total, no, no, None)
    y, y0 = r / n, r / n0
    root = math.sqrt(max(y + y0 - y * y0, 0.0))
    equal = (((1.0 - root) / (1.0 - y0)) ** 2 if y < 1 else 0.0, ((1.0 + root) / (1.0 - y0)) ** 2)
    values = np.linalg.eigvalsh(c.covariances[i]) / w.factor
    ends = []
    for value in (max(float(values[0]), 0.0), float(values[-1])):
        log = math.sqrt(2.0 / n + 2.0 / n0)
        low, high = value * math.exp(-Z95 * log), value * math.exp(Z95 * log)
        ends.append(Estimate(value, value * log, low, high, int(n), f"{method}, Gaussian interval of one direction"))
    return Spread(total, ends[0], ends[1], equal)
