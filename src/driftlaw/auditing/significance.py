r"""Whether a generation's mean differs from the real mean by more than sampling explains, and the floor beneath.

**Test.** Features that take two values, one of them rarely, are tested exactly on their counts
(:mod:`driftlaw.auditing.evidence.rare`); all others together by T^2 with the pooled covariance against the moments of
its permutation law (:mod:`driftlaw.auditing.evidence.pooled`), which also holds for skewed, heavy-tailed and uneven
sets. Both parts share the level in proportion to their features (weighted Bonferroni).

**Floor.** Where the drift of real rows falls at a generation's size: from the real rows alone, never from the
generation. T^2 of n_0 and n rows of one law follows the beta law of its two moments, with the kurtosis of the real
rows, and

    D = |c|_A^2 - noise,     |c|_A^2 = g (1/n_0 + 1/n) T^2,     T^2 = (N - 2) V/(1 - V),

g the factor of the whitening. The upper end is the 95 % quantile, and p is never below the probability that real rows
show a larger D: what counts as drift at 5 % lies above the floor. (Not so with fewer than :data:`SHARP` real rows a
direction, times their kurtosis: there the error of the metric makes D a blunter statistic than T^2, and p decides
alone.) The converse need not hold: a wider generation has more sampling noise of its own than real rows have, and
that it explains a drift above the floor is said (``own_noise``).

A test whose null is drawn from the reference alone treats the real mean as known and rejects far too often; here the
real rows' noise is in both. Several generations: Holm's (1979) step-down bound holds whatever the dependence through
the shared real mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from driftlaw.auditing.coordinates import Array, Coordinates
from driftlaw.auditing.evidence.moments import spread_of
from driftlaw.auditing.evidence.pooled import INVERT_UP_TO, mean_test, relabelling_moments
from driftlaw.auditing.evidence.rare import rare_test
from driftlaw.estimate import Estimate
from driftlaw.measure.sketch.spread import row_variance

#: Level of the floor's upper end, and of every test.
LEVEL = 0.05
#: Real rows a direction, relative to kurtosis, from which D is as sharp as T^2.
SHARP = 25.0
#: Least and largest share of the level that rare features get beside others.
_SHARES = (0.1, 0.9)


@dataclass(frozen=True)
class Floor:
    """Law of the drift of n real rows against n_0 others of the same law.

    Args:
        noise: expected |c|_A^2.
        a, b: of the beta law of V; b = inf: |c|_A^2 is a gamma variable of shape a.
        unit: |c|_A^2 is unit V/(1 - V), or unit times a gamma variable of scale 1.
        stderr: standard deviation of the drift.
        sharp: whether D itself decides as well as T^2 does.
    """

    noise: float
    a: float
    b: float
    unit: float
    stderr: float
    sharp: bool

    @classmethod
    def of(cls, c: Coordinates, n: float) -> Floor:
        """For n rows, from sizes and real rows alone."""
        n0, r, w = float(c.sizes[0]), c.rank, c.whitening
        N, per = n0 + n, 1.0 / n0 + 1.0 / n
        t1, t2 = _own_traces(c)
        blocks = spread_of(c.sets[0])
        metric = w.matrix @ w.matrix.T / w.factor
        inverted = not (w.diagonal or c.serial) and r <= INVERT_UP_TO * (N - 2.0)
        if inverted:
            t1, t2 = float(r), float(r)
        variance = 2.0 * t2
        if blocks is not None and not (w.diagonal and c.sets[0].n < 2 * r):
            variance = row_variance(*blocks.forms(metric, np.asarray(c.sets[0].mean)))
        sharp = n0 >= SHARP * r * max(1.0, (t1**2 + variance) / (t1**2 + 2.0 * t2))
        mean, square = relabelling_moments(n0, n, t1, t2, t1**2 + variance)
        square = max(square, 1e-6 * mean**2)  # one rare value has a law of two points
        if inverted:
            total = mean * (1.0 - mean) / square - 1.0
            a, b, unit = mean * total, (1.0 - mean) * total, w.factor * per * (N - 2.0)
        else:
            a, b, unit = mean**2 / square, math.inf, w.factor * per * N * square / mean
        return cls(w.factor * t1 * per, a, b, unit, w.factor * per * N * math.sqrt(square), sharp)

    def beyond(self, drift: float) -> float:
        """Probability that real rows show a larger drift."""
        length = drift + self.noise
        if length <= 0.0:
            return 1.0
        x = length / self.unit
        return float(stats.gamma.sf(x, self.a) if math.isinf(self.b) else stats.beta.sf(x / (1.0 + x), self.a, self.b))

    def quantile(self, level: float) -> float:
        """Drift that real rows exceed with this probability."""
        if math.isinf(self.b):
            return self.unit * float(stats.gamma.isf(level, self.a)) - self.noise
        v = float(stats.beta.isf(level, self.a, self.b))
        return self.unit * v / (1.0 - v) - self.noise


def _own_traces(c: Coordinates) -> tuple[float, float]:
    """Tr MC and tr MCMC of the real rows (of the holdout where there is one and nothing is inverted)."""
    w = c.whitening
    if not (w.diagonal or c.serial) or c.holdout:
        return float(c.traces[0]) / w.factor, c.trace_product(0, 0) / w.factor**2
    own, n = w.matrix.T @ np.asarray(c.sets[0].covariance) @ w.matrix / w.factor, float(c.sizes[0])
    trace = float(np.trace(own))
    unbiased = (n - 1.0) ** 2 / ((n - 2.0) * (n + 1.0)) * (float((own * own).sum()) - trace**2 / (n - 1.0))
    return trace, max(unbiased, trace**2 / c.rank)


@dataclass(frozen=True)
class Significance:
    """The test of one generation.

    Args:
        drift: |c_i|^2; its interval lies above 0 only where the test rejects.
        p: probability of such a drift, or counts, without any.
        floor: law of the drift of real rows at this size.
        own_noise: the drift lies above the floor, but this generation's own sampling noise explains it.
        rare: features found by exact counts alone (indices), where they decide.
        spreads_differ: covariances demonstrably differ.
        kurtosis: of |Y|_M^2 relative to Gaussian rows.
    """

    drift: Estimate
    p: Estimate
    floor: Floor
    own_noise: bool
    rare: tuple[int, ...]
    spreads_differ: bool
    kurtosis: float

    @property
    def flags(self) -> tuple[str, ...]:
        """What holds, in a word or two each."""
        words = {
            "own noise": self.own_noise,
            "rare values": bool(self.rare),
            "spreads differ": self.spreads_differ,
            "too few rows": math.isinf(self.drift.high),
        }
        return tuple(name for name, holds in words.items() if holds)


def assess(c: Coordinates, i: int) -> Significance:
    """Test generation i, from 1; the p-value is a number without sampling error, n the smaller of the two sets."""
    real, generation = c.sets[0], c.sets[i]
    n = int(min(c.sizes[0], c.sizes[i]))
    floor = Floor.of(c, float(c.sizes[i]))
    rare = rare_test(real, generation)
    use = None
    if rare is not None:
        use = np.ones(len(np.asarray(real.mean)), bool)
        use[rare.features] = False
    means = mean_test(real, generation, use)
    p, method = means.value, means.method
    deciding: tuple[int, ...] = ()
    drift = c.drift(i)
    beyond = floor.beyond(drift.value)
    p = max(p, beyond) if floor.sharp else p
    if rare is not None:
        share = float(np.clip(len(rare.features) / (len(rare.features) + means.rank), *_SHARES))
        if means.rank == 0:
            share = 1.0
        part = min(1.0, rare.p / share)
        method = f"{method}; {len(rare.features)} rare features by exact counts"
        p = part if means.rank == 0 else min(p / (1.0 - share), part, 1.0)
        deciding = tuple(int(j) for j in rare.features) if p == part and p < LEVEL else ()
    own = beyond < LEVEL <= p
    found = Estimate(p, 0.0, p, p, n, method)
    if p >= LEVEL and drift.low > 0.0:
        drift = replace(drift, low=0.0)
    return Significance(drift, found, floor, own, deciding, means.spreads_differ, means.kurtosis)


def p_value(coordinates: Coordinates, i: int) -> Estimate:
    """Probability of a drift at least as large as generation i's if it had the real law.

    Args:
        coordinates: real data and generations.
        i: generation, from 1.

    Returns:
        p in [0, 1] as a number without sampling error; n is the smaller of the two sets.
    """
    return assess(coordinates, i).p


def holm(p_values: Sequence[float]) -> Array:
    """Holm's adjusted p-values, in the given order: p_(j) -> max_{l <= j} min(1, (m - l + 1) p_(l)).

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def null_range(coordinates: Coordinates, i: int) -> tuple[float, float, float]:
    """Standard deviation and ends of the range in which real rows of generation i's size fall 95 % of the time.

    One-sided: drift is found above the upper end. The lower end is the least drift that can be measured.
    """
    floor = Floor.of(coordinates, float(coordinates.sizes[i]))
    return floor.stderr, -floor.noise, floor.quantile(LEVEL)
