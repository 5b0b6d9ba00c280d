r"""Do two sets have one mean? The permutation law of T^2, by its exact first two moments.

Without drift both sets have one law, hence one covariance, and any relabelling of the N = n_0 + n rows is as likely as
the given one. With Y the rows about the common mean, C = sum_i Y_i Y_i^T/N and a metric M that relabelling does not
change, the statistic

    V = (n_0 n/N^2) (m_1 - m_0)^T M (m_1 - m_0) = |sum_{i in generation} Y_i|_M^2 / (n_0 n)

has, over all relabellings, with f_j = n (n-1)..(n-j+1)/(N (N-1)..(N-j+1)), t_1 = tr MC, t_2 = tr MCMC, b = mean
|Y_i|_M^4

    E V = t_1/(N-1),
    (n_0 n)^2 E V^2 = N b (f_1 - 7 f_2 + 12 f_3 - 6 f_4) + N^2 (t_1^2 + 2 t_2)(f_2 - 2 f_3 + f_4)

(expand the fourth power of the sum; sum_i Y_i = 0 removes all but these). M = C^{-1} makes V Pillai's trace, an
increasing function of Hotelling's pooled T^2, with a beta law (exact for Gaussian rows, b = r(r+2)(N-1)/(N+1)); b is
what rare values and heavy tails change, and the beta law with these two moments follows them (Box and Watson 1955).
With more than (N - 2)/4 directions nothing is inverted: M is the inverse of pooled variances, and V is matched by a
gamma law. b comes from the block means of |Y|_M^2 (:mod:`driftlaw.measure.sketch.spread`).

A pooled covariance is right where the laws are equal, and wrong where a generation of the same mean is wider or
narrower. Where the spreads demonstrably differ (by more than four standard errors) the larger of the pooled and the
unequal p-value is reported, so that the words "its mean moved" hold in either case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from driftlaw.auditing.evidence.moments import Array, Moments, spread_of
from driftlaw.measure.sketch.spread import row_variance

#: Directions per pooled row up to which the pooled covariance is inverted.
INVERT_UP_TO = 0.25
#: Standard errors beyond which spreads count as different.
DIFFERENT = 4.0
_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class MeanTest:
    """Whether the means of two sets differ.

    Args:
        p: probability of such a difference by relabelling.
        unequal: the same without the assumption of equal covariances; nan where it cannot be had or is not needed.
        rank: tested directions.
        inverted: whether the pooled covariance was inverted.
        kurtosis: b/(t_1^2 + 2 t_2), 1 for Gaussian rows.
        spreads_differ: whether covariances demonstrably differ.
    """

    p: float
    unequal: float
    rank: int
    inverted: bool
    kurtosis: float
    spreads_differ: bool

    @property
    def value(self) -> float:
        """The reported p: the larger one where spreads differ."""
        return self.p if math.isnan(self.unequal) else max(self.p, self.unequal)

    @property
    def method(self) -> str:
        """Name of the method, for estimates."""
        base = "pooled Hotelling's T2" if self.inverted else "squared distance in pooled units"
        extra = "" if math.isnan(self.unequal) else "; larger of pooled and unequal covariances"
        return f"{base} of {self.rank} directions against its permutation law (two moments){extra}"


def relabelling_moments(n0: float, n: float, t1: float, t2: float, b: float) -> tuple[float, float]:
    """Mean and variance of V over all relabellings.

    Example:
        >>> y = np.array([-1.0, -1.0, 2.0])  # one of three rows: V = y^2/2, y^2 in units of mean 1
        >>> mean, variance = relabelling_moments(2, 1, 1.0, 1.0, float(np.mean((y**2 / 2) ** 2)))
        >>> round(mean, 6), round(variance, 6)
        (0.5, 0.125)
    """
    N = n0 + n
    f = np.cumprod([(n - j) / (N - j) if j < N else 0.0 for j in range(4)])
    fourth = N * b * (f[0] - 7 * f[1] + 12 * f[2] - 6 * f[3]) + N**2 * (t1**2 + 2 * t2) * (f[1] - 2 * f[2] + f[3])
    mean = t1 / (N - 1.0)
    return mean, max(float(fourth) / (n0 * n) ** 2 - mean**2, 0.0)


def mean_test(real: Moments, generation: Moments, use: Array | None = None) -> MeanTest:
    """Test whether a generation's mean is that of the real rows.

    Args:
        real: real rows.
        generation: rows to be tested.
        use: ``[k]`` which features, all if None.

    Assumptions:
        Independent rows. Two moments of the permutation law decide: with fewer than about five rows behind a feature
        that takes two values use :mod:`driftlaw.auditing.evidence.rare`.
    """
    n0, n = float(real.n), float(generation.n)
    N = n0 + n
    gap = np.asarray(generation.mean) - np.asarray(real.mean)
    centre = (n0 * np.asarray(real.mean) + n * np.asarray(generation.mean)) / N
    covariances = [np.asarray(s.covariance, np.float64) for s in (real, generation)]
    total = ((n0 - 1.0) * covariances[0] + (n - 1.0) * covariances[1]) / N + n0 * n / N**2 * np.outer(gap, gap)
    scale = np.sqrt(np.diag(total).clip(min=0.0))
    varies = scale > 1e-12 * max(float(scale.max(initial=0.0)), np.finfo(float).tiny)
    if use is not None:
        varies = varies & use
    at = np.flatnonzero(varies)
    if not len(at):
        return MeanTest(1.0, math.nan, 0, True, 1.0, False)
    correlation = total[np.ix_(at, at)] / np.outer(scale[at], scale[at])
    values, vectors = np.linalg.eigh(correlation)
    keep = values > _RANK_TOLERANCE * values.max()
    rank = int(keep.sum())
    inverted = rank <= INVERT_UP_TO * (N - 2.0)
    if inverted:
        root = vectors[:, keep] / np.sqrt(values[keep]) / scale[at][:, None]
        t1 = t2 = float(rank)
    else:
        root = np.diag(1.0 / scale[at])
        t1, t2 = float(len(at)), float((correlation**2).sum())
    metric = np.zeros_like(total)
    metric[np.ix_(at, at)] = root @ root.T
    along = metric @ gap
    v = n0 * n / N**2 * float(gap @ along)
    forms = _Forms.of((real, generation), metric, centre, t2)
    b = t1**2 + forms.variance
    mean, variance = relabelling_moments(n0, n, t1, t2, b)
    p = _tail(v, mean, variance, inverted)
    differ = forms.differ or (
        float(gap @ along) > 0 and _Forms.of((real, generation), np.outer(along, along), centre, math.nan).differ
    )
    unequal = math.nan
    if differ:
        white = [root.T @ c[np.ix_(at, at)] @ root for c in covariances]
        unequal = _unequal(root.T @ gap[at], white, n0, n)
    return MeanTest(p, unequal, rank, inverted, b / (t1**2 + 2.0 * t2), bool(differ))


def _tail(v: float, mean: float, variance: float, inverted: bool) -> float:
    if variance <= 0.0:
        return 1.0 if v <= mean * (1.0 + 1e-9) else 0.0
    if not inverted:
        shape = mean**2 / variance
        return float(stats.gamma.sf(v, shape, scale=variance / mean))
    total = mean * (1.0 - mean) / variance - 1.0
    if total <= 0.0:
        return 1.0
    return float(stats.beta.sf(min(v, 1.0), mean * total, (1.0 - mean) * total))


@dataclass(frozen=True)
class _Forms:
    """Variance of one row's |Y|_M^2, and whether its mean differs between the sets."""

    variance: float
    differ: bool

    @classmethod
    def of(cls, sets: tuple[Moments, Moments], metric: Array, centre: Array, t2: float) -> _Forms:
        means, spreads, variances = [], [], []
        for s in sets:
            covariance = np.asarray(s.covariance)
            means.append(float((metric * covariance).sum()))
            blocks = spread_of(s)
            product = metric @ covariance
            normal = 2.0 * float((product * product.T).sum())
            found = normal if blocks is None else row_variance(*blocks.forms(metric, centre))
            variances.append(found if math.isfinite(found) else normal)
            spreads.append(float(s.n) if blocks is None else int((blocks.counts > 0).sum()) - 1.0)
        weights = np.array(spreads, np.float64)
        if all(spread_of(s) is None for s in sets) and math.isfinite(t2):
            variance = 2.0 * t2
        else:
            variance = float(weights @ np.array(variances) / weights.sum())
        error = math.sqrt(variance * sum(1.0 / s.n for s in sets))
        return cls(variance, abs(means[1] - means[0]) > DIFFERENT * error)


def _unequal(gap: Array, covariances: list[Array], n0: float, n: float) -> float:
    r"""Without equal covariances: T^2 by Krishnamoorthy and Yu (2004), or the squared length (Chen and Qin 2010).

    .. math:: \nu = \frac{r + r^2}{\sum_j [\mathrm{tr} H_j^2 + (\mathrm{tr} H_j)^2]/(n_j - 1)},
       \qquad H_j = (V_0 + V_1)^{-1} V_j,  \quad V_j = C_j/n_j

    With one feature it is Welch's test.
    """
    r = len(gap)
    parts = [c / m for c, m in zip(covariances, (n0, n), strict=True)]
    if r > INVERT_UP_TO * min(n0, n):
        mean = sum(float(np.trace(x)) for x in parts)
        square = 2.0 * float((parts[0] * parts[1]).sum())
        for x, m in zip(parts, (n0, n), strict=True):
            raw, trace = float((x * x).sum()), float(np.trace(x))
            unbiased = (m - 1.0) ** 2 / ((m - 2.0) * (m + 1.0)) * (raw - trace**2 / (m - 1.0))
            square += max(unbiased, trace**2 / r)
        return float(stats.gamma.sf(float(gap @ gap), mean**2 / (2.0 * square), scale=2.0 * square / mean))
    inverse = np.linalg.pinv(parts[0] + parts[1], hermitian=True)
    bottom = 0.0
    for x, m in zip(parts, (n0, n), strict=True):
        h = inverse @ x
        bottom += (float((h * h.T).sum()) + float(np.trace(h)) ** 2) / (m - 1.0)
    nu = (r + r**2) / bottom
    dof = nu - r + 1.0
    if dof <= 0.0:
        return 1.0
    return float(stats.f.sf(float(gap @ inverse @ gap) * dof / (nu * r), r, dof))
