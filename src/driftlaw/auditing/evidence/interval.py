r"""The interval of a squared length whose metric is itself estimated.

U is an unbiased estimate of theta = |v|_A^2, A the inverse covariance of n_0 real rows. With u = v^T A (x - m_0)
along the drift, the first-order influence of a real row x is 2 w_0 u - (u^2 - E u^2): the mean that it moves and the
metric that it moves. So the variance is

    b + c theta + e theta^{3/2} + d theta^2,    c: means,   d: Var u^2,   e: -4 w_0 Cov(u, u^2),

b that of no drift. Gaussian rows have e = 0 and d = 2/n_0; a skewed column has e, a heavy-tailed one a larger d, a
two-valued one a smaller d. All are read off block means of u and u^2. The metric's part is taken at U, the mean's at
theta:

    {theta: (U - theta)^2 <= t^2 (b + c theta + e U theta^{1/2} + d U^2)},

a quartic in theta^{1/2}. A small sample of heavy tails shows too small a variance and too large an inverse, so the
lower end takes a larger d (:data:`UNSEEN`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from driftlaw.auditing.evidence.moments import Array
from driftlaw.estimate import Z95, Estimate
from driftlaw.measure.sketch.spread import BlockSpread, row_variance

#: What of the heavy part of Var u^2 is added for the lower end: rows that would make the metric smaller were not drawn.
UNSEEN = 1.0
#: Share of the heavy part in the whole variance from which there is no upper end, and what is added to d then.
DOMINATES, CAUTIOUS = 0.3, 3.0
#: Squared correlation of u and u^2 from which a column counts as two-valued.
TWO_VALUED = 0.95


@dataclass(frozen=True)
class Terms:
    """Variance of |v|_A^2 for |v|_A = 1, times the number of real rows.

    Args:
        mean: c, of the real mean.
        cross: e, of mean and metric together.
        metric: d, of the metric.
        heavy: what Var u^2 is beyond that of Gaussian rows; 0 where u^2 is linear in u, as for two-valued columns.
    """

    mean: float
    cross: float
    metric: float
    heavy: float

    @classmethod
    def of(cls, spread: BlockSpread, mean: Array, along: Array, weight: float, factor: float, diagonal: bool) -> Terms:
        """Read off the blocks of the real rows.

        Args:
            spread: of the real rows.
            mean: ``[k]`` their mean.
            along: ``[k]`` A v/|v|_A.
            weight: w_0 of the real mean.
            factor: what the inverse covariance was multiplied by.
            diagonal: whether A holds only variances, so that u^2 is sum_j (A^{1/2} v)_j^2 (x - m_0)_j^2.
        """
        square, rows = spread.forms(np.diag(along**2) if diagonal else np.outer(along, along), mean)
        first, square = (spread.means[spread.counts > 0] - mean) @ along, square / factor
        u, d = row_variance(first, rows), row_variance(square, rows)
        both = (row_variance(first + square, rows) - u - d) / 2.0
        two_valued = u > 0 and both**2 > TWO_VALUED * u * d
        return cls(4.0 * weight**2 * u, -4.0 * weight * both, d, 0.0 if two_valued else max(d - 2.0, 0.0))


def curved_interval(
    u: float,
    b: float,
    c: float,
    e: float,
    d: float,
    heavy: float,
    dof: float,
    n: int,
    method: str,
    warnings: tuple[str, ...] = (),
) -> Estimate:
    """{theta: (u - theta)^2 <= t^2 (b + c theta + e u theta^{1/2} + d u^2)} about an unbiased u.

    Args:
        u: the estimate.
        b: variance at theta = 0.
        c: of the means, times theta.
        e: of both, times theta^{3/2}.
        d: of the metric, times theta^2.
        heavy: the heavy part of d.
        dof: of t.
        n: observations behind it.
        method: in words.
        warnings: what a reader must know.

    Example:
        >>> found = curved_interval(1.0, 0.01, 0.0, 0.0, 0.0, 0.0, math.inf, 100, "example")
        >>> round(found.low, 3), round(found.high, 3)
        (0.804, 1.196)
    """
    t = Z95 if math.isinf(dof) else float(stats.t.ppf(0.975, dof))
    x = max(u, 0.0)
    variance = max(b + c * x + (e * math.sqrt(x) + d * x) * x, b)
    half = t * math.sqrt(b)
    few = heavy * x**2 > DOMINATES * variance
    if few:
        warnings = (*warnings, "too few rows for tails as heavy as those of the real data: only a lower end is given")
    ends = []
    for extra in ((CAUTIOUS if few else UNSEEN) * heavy, 0.0):
        roots = np.roots([1.0, 0.0, -2.0 * u - t**2 * c, -(t**2) * e * x, u**2 - t**2 * (b + (d + extra) * x**2)])
        real = np.sort(roots[np.abs(roots.imag) < 1e-7 * np.abs(roots).clip(min=1e-12)].real)
        ends.append(real[real >= 0.0])
    below, above = ends[0][ends[0] < math.sqrt(x)], ends[1][ends[1] > math.sqrt(x)]
    low = u - half if u <= half else float(below[-1]) ** 2 if len(below) else 0.0
    high = u + half if u <= -half else math.inf if few else float(above[0]) ** 2 if len(above) else math.inf
    if high < 0.0:
        warnings = (*warnings, "below zero by more than sampling error: do the two sets share rows?")
    return Estimate(u, math.sqrt(variance), min(low, u), max(high, u), n, method, warnings)
