r"""Whether a generation's mean differs from the real mean by more than sampling explains: p-values with a known level.

Both means carry noise, V_0 = C_0/n_0 and V_i = C_i/n_i. Two statistics, chosen by the number of features r alone:

- r at most a quarter of the smaller set: T^2 = c^T (V_0 + V_i)^{-1} c and
  T^2 (nu - r + 1)/(nu r) ~ F(r, nu - r + 1) with Krishnamoorthy and Yu's (2004) nu, which is n_0 + n_i - 2 at equal
  sizes and covariances: Hotelling's test, exact for Gaussian features, also where the covariances differ, and the
  same in every metric, so that features fitted on the same rows do no harm.
- otherwise c^T A c, a weighted sum of chi-squared variables, matched in mean and variance (Satterthwaite;
  Chen and Qin 2010 with finite-n quantiles): nothing is inverted.

A test whose null is drawn from the reference alone treats the real mean as known and rejects far too often; here the
real rows' noise is in both statistics. Several generations: Holm's (1979) step-down bound holds whatever the dependence
through the shared real mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from driftlaw.auditing.coordinates import Array, Coordinates
from driftlaw.estimate import Estimate

#: Features per row of the smaller set up to which the covariance is inverted.
INVERT_UP_TO = 0.25


@dataclass(frozen=True)
class Null:
    """Law of a drift statistic where there is no drift: c^T M c / scale ~ F(a, b), for b = infinity chi2_a / a.

    Args:
        metric: ``[r, r]`` M, None for the identity.
        scale: in units of the statistic.
        a: degrees of freedom.
        b: of the denominator.
        method: the test in words.
    """

    metric: Array | None
    scale: float
    a: float
    b: float
    method: str

    @classmethod
    def of(cls, coordinates: Coordinates, i: int) -> Null:
        """Law for generation i, from 1; it depends on sizes and covariances alone."""
        n0, n, r = float(coordinates.sizes[0]), float(coordinates.sizes[i]), coordinates.rank
        whitening = coordinates.whitening
        if r <= INVERT_UP_TO * int(min(n0, n)) and not whitening.diagonal:
            v0 = whitening.factor / n0  # times the identity: real rows made the metric
            inverse: Array = np.asarray(np.linalg.inv(v0 * np.eye(r) + coordinates.covariances[i] / n), np.float64)
            nu = _degrees(v0 * inverse, n0, n)
            b = nu - r + 1.0
            return cls(inverse, nu * r / b, r, b, f"Hotelling's T2 with F({r}, {b:.4g}), unequal covariances")
        mean, square = _null_moments(coordinates, i)
        method = "squared distance against a moment-matched weighted chi-squared law"
        return cls(None, mean, mean**2 / square, math.inf, method)

    def p(self, c: Array) -> Array:
        """Probabilities of drifts beyond ``[..., r]`` differences of whitened means."""
        statistic = (c * (c if self.metric is None else c @ self.metric)).sum(-1) / self.scale
        if math.isinf(self.b):
            return np.asarray(stats.chi2.sf(self.a * statistic, self.a))
        return np.asarray(stats.f.sf(statistic, self.a, self.b))


def p_value(coordinates: Coordinates, i: int) -> Estimate:
    """Probability of a drift at least as large as generation i's if it had the real mean.

    Args:
        coordinates: real data and generations.
        i: generation, from 1.

    Returns:
        p in [0, 1] as a number without sampling error; n is the smaller of the two sets.
    """
    null = Null.of(coordinates, i)
    p = float(null.p(coordinates.means[i] - coordinates.means[0]))
    return Estimate(p, 0.0, p, p, int(min(coordinates.sizes[0], coordinates.sizes[i])), null.method)


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
    """Standard deviation and the central 95 % of the drift that real rows of generation i's size would show."""
    mean, square = _null_moments(coordinates, i)
    scale, dof = square / mean, mean**2 / square
    low, high = (float(scale * stats.chi2.ppf(q, dof)) - mean for q in (0.025, 0.975))
    return math.sqrt(2.0 * square), low, high


def _null_moments(coordinates: Coordinates, i: int) -> tuple[float, float]:
    """tr(Sigma) and tr(Sigma^2) of c_i's error where there is no drift.

    In the diagonal metric without a holdout generation i's own covariance stands for that of the real rows.
    """
    n0, n = coordinates.sizes[0], coordinates.sizes[i]
    real = i if coordinates.whitening.diagonal and not coordinates.holdout else 0
    mean = coordinates.traces[real] / n0 + coordinates.traces[i] / n
    s = coordinates.trace_product
    square = s(real, real) / n0**2 + 2.0 * s(real, i) / (n0 * n) + s(i, i) / n**2
    return float(mean), float(square)


def _degrees(share: Array, n0: float, n: float) -> float:
    r"""Krishnamoorthy and Yu's degrees of freedom, between min(n_0, n) - 1 and n_0 + n - 2.

    .. math:: \nu = \frac{r + r^2}{\sum_j [\mathrm{tr} H_j^2 + (\mathrm{tr} H_j)^2]/(n_j - 1)},
       \qquad H_j = (V_0 + V_i)^{-1} V_j,

    H_0 = `share`, H_i = 1 - H_0. With one feature it is Welch's.
    """
    r = len(share)
    parts = ((share, n0), (np.eye(r) - share, n))
    return (r + r**2) / sum(float((h * h.T).sum() + np.trace(h) ** 2) / (rows - 1.0) for h, rows in parts)
