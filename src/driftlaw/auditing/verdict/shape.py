r"""Two looks at shape that means do not see and single cells see late: spread of each column, dependence of each pair.

**Spread.** Klotz's scores on the cells of a numeric column: a cell that holds the pooled ranks (u, v] scores
E[Z^2 | u < Phi(Z) <= v], Z standard normal, and the sum of scores over the generation has a known mean and variance
over all relabellings of the rows. Scores are those of the best test of variances for Gaussian columns; ranks keep the
level for every other.

**Dependence.** For standardised features a row's influence on their correlation r is z_i z_j - r (z_i^2 + z_j^2)/2. Its
means over exchangeable blocks of both sets give a t statistic for each pair with the pooled variance; the largest
counts, times the number of pairs. Marginal shifts and scales drop out. Pairs are left out where a block holds too few
rows for its mean to be near normal: :data:`LEAST` rows a block for each unit of the pair's kurtosis; and features that
take two values, one of them in fewer than :data:`COMMON` rows of the smaller set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from driftlaw.measure.sketch.histograms import Histogram
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.measure.sketch.spread import BlockSpread

Array = NDArray[np.float64]
#: Rows of a block for each unit of kurtosis of a pair, below which the pair is left out.
LEAST = 4.0
#: Rows of the smaller set with the rarer of two values, from which a feature that takes two is paired.
COMMON = 100.0
#: Correlation that says nothing new: one feature is a function of the other.
SAME = 0.999


@dataclass(frozen=True)
class Shape:
    """p-values of both looks, for one generation alone.

    Args:
        spread: times the number of columns; None without numeric columns.
        column: with the smallest p.
        dependence: times the number of pairs; None where no pair can be judged.
        pair: with the smallest p, and its correlations, real and generated.
    """

    spread: float | None
    column: str
    dependence: float | None
    pair: tuple[str, str, float, float] | None


def shape(real: Sketch, generation: Sketch, design: tuple[float, float] = (1.0, 1.0)) -> Shape:
    """Both looks at one generation.

    Args:
        real: sketch of the real data.
        generation: sketch made like it.
        design: rows of either set that count as one.
    """
    generated = generation.histograms
    found = [(klotz(h, generated[name], design), name) for name, h in real.histograms.items() if h.categories is None]
    p, column = min(found, default=(1.0, ""))
    pairs = None if max(design) > 1.0 else _pairs(real, generation)
    return Shape(min(1.0, p * len(found)) if found else None, column, *((None, None) if pairs is None else pairs))


def klotz(real: Histogram, generated: Histogram, design: tuple[float, float] = (1.0, 1.0)) -> float:
    """Two-sided p-value that the cells of one column spread alike."""
    first, second = real.counts / design[0], generated.counts / design[1]
    n0, n = float(first.sum()), float(second.sum())
    N = n0 + n
    share = (first + second) / max(N, 1e-300)
    seen = share > 0
    if min(n0, n) < 2 or seen.sum() < 3:
        return 1.0
    edges = stats.norm.ppf(np.concatenate([[0.0], np.cumsum(share[seen]).clip(max=1.0)]))
    edges[-1] = math.inf
    inner = np.where(np.isfinite(edges), edges, 0.0) * stats.norm.pdf(edges)
    scores = 1.0 + (inner[:-1] - inner[1:]) / share[seen]
    mean = float(share[seen] @ scores)
    variance = float(share[seen] @ (scores - mean) ** 2) * N / (N - 1.0)
    if variance <= 0.0:
        return 1.0
    gap = float(second[seen] @ scores) / n - mean
    return float(2.0 * stats.norm.sf(abs(gap) / math.sqrt(variance * n0 / (N * n))))


def _pairs(real: Sketch, generation: Sketch) -> tuple[float, tuple[str, str, float, float]] | None:
    """The clearest change of a correlation."""
    sets = [(s, s.spread) for s in (real, generation)]
    if any(b is None or not b.whole for _, b in sets):
        return None
    N = real.n + generation.n
    deviations = [np.sqrt(np.diag(s.covariance).clip(min=0.0)) for s, _ in sets]
    least = 1e-9 * float(deviations[0].max())
    usable = (deviations[0] > least) & (deviations[1] > least) & ~_rare(real, min(real.n, generation.n))
    varies = np.flatnonzero(usable)
    if len(varies) < 2:
        return None
    i, j = np.triu_indices(len(varies), 1)
    correlations = [
        s.covariance[np.ix_(varies, varies)][i, j] / (d[varies][i] * d[varies][j])
        for (s, _), d in zip(sets, deviations, strict=True)
    ]
    pooled = (real.n * correlations[0] + generation.n * correlations[1]) / N
    influence = [_influence(b, s.mean, d, varies, pooled) for (s, b), d in zip(sets, deviations, strict=True) if b]
    scatter, freedom = np.zeros(len(i)), 0
    for values, rows in influence:
        centre = rows @ values / rows.sum()
        scatter += rows @ (values - centre) ** 2
        freedom += len(rows) - 1
    variance = scatter / freedom  # of one row
    gaussian = (1.0 - pooled**2) ** 2
    block = min(float(rows.mean()) for _, rows in influence)
    judged = (np.abs(pooled) < SAME) & (block >= LEAST * variance / np.maximum(gaussian, 1e-12)) & (variance > 0)
    if freedom < 4 or not judged.any():
        return None
    error = np.sqrt(variance * (1.0 / real.n + 1.0 / generation.n))
    t = np.where(judged, np.abs(correlations[1] - correlations[0]) / np.maximum(error, 1e-300), 0.0)
    best = int(t.argmax())
    p = min(1.0, float(2.0 * stats.t.sf(t[best], freedom)) * int(judged.sum()))
    labels = real.features.labels
    names = labels[varies[i[best]]], labels[varies[j[best]]]
    return p, (*names, float(correlations[0][best]), float(correlations[1][best]))


def _rare(s: Sketch, n: int) -> NDArray[np.bool_]:
    """Features of two values, one of them rare: (high - m)(m - low) is their variance and nothing else's."""
    b = s.spread
    assert b is not None
    width = np.where(b.high > b.low, b.high - b.low, 1.0)
    share = (s.mean - b.low) / width
    two = np.abs(share * (1.0 - share) - np.diag(s.covariance) / width**2) < 1.0 / max(s.n, 2)
    return np.asarray(two & (np.minimum(share, 1.0 - share) * n < COMMON))


def _influence(b: BlockSpread, mean: Array, deviation: Array, at: NDArray[np.int64], r: Array) -> tuple[Array, Array]:
    """Block means of z_i z_j - r (z_i^2 + z_j^2)/2 for all pairs ``[B, pairs]``, and the rows behind each."""
    seen = b.counts > 0
    rows, scale = b.counts[seen].astype(np.float64), deviation[at]
    gap = (b.means[seen][:, at] - mean[at]) / scale
    second = b.scatter[seen][:, at[:, None], at] / rows[:, None, None] / np.outer(scale, scale)
    second = second + gap[:, :, None] * gap[:, None, :]
    i, j = np.triu_indices(len(at), 1)
    squares = np.diagonal(second, axis1=1, axis2=2)
    return second[:, i, j] - r * (squares[:, i] + squares[:, j]) / 2.0, rows
