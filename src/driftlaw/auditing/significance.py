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

import numpy as np
from scipy import stats

from driftlaw.auditing.coordinates import Array, Coordinates
from driftlaw.estimate import Estimate

#: Features per row of the smaller set up to which the covariance is inverted.
INVERT_UP_TO = 0.25


def p_value(coordinates: Coordinates, i: int) -> Estimate:
    """Probability of a drift at least as large as generation i's if it had the real mean.

    Args:
        coordinates: real data and generations.
        i: generation, from 1.

    Returns:
        p in [0, 1] as a number without sampling error; n is the smaller of the two sets.
    """
    n0, n = float(coordinates.sizes[0]), float(coordinates.sizes[i])
    r, c = coordinates.rank, coordinates.means[i] - coordinates.means[0]
    least, whitening = int(min(n0, n)), coordinates.whitening
    if r <= INVERT_UP_TO * least and not whitening.diagonal:
        v0 = whitening.factor / n0  # times the identity: real rows made the metric
        inverse: Array = np.asarray(np.linalg.inv(v0 * np.eye(r) + coordinates.covariances[i] / n), np.float64)
        nu = _degrees(v0 * inverse, n0, n)
        t2 = float(c @ inverse @ c)
        p = float(stats.f.sf(t2 * (nu - r + 1.0) / (nu * r), r, nu - r + 1.0))
        return _p(p, least, f"Hotelling's T2 with F({r}, {nu - r + 1.0:.4g}), unequal covariances")
    mean, square = _null_moments(coordinates, i)
    p = float(stats.chi2.sf(float(c @ c) * mean / square, mean**2 / square))
    return _p(p, least, "squared distance against a moment-matched weighted chi-squared law")


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


def _p(p: float, n: int, method: str) -> Estimate:
    return Estimate(p, 0.0, p, p, n, method)
