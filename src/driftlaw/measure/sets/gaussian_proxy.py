r"""Chi-square and KL divergence of the Gaussians fitted to two sets: the proxy that [KTV] report for images.

With means m_P, m_Q, covariances S_P, S_Q (to each of which eps I was added) and delta = m_P - m_Q,

.. math::
    1 + \chi^2(N_P \| N_Q) &= |S_Q|\,|S_P|^{-1/2}\,|2S_Q - S_P|^{-1/2} \exp(\delta^T (2S_Q - S_P)^{-1} \delta)
        \quad\text{if } 2 S_Q > S_P,\ \text{else } \infty, \\
    \mathrm{KL}(N_P \| N_Q) &= \tfrac12 \bigl[\mathrm{tr}(S_Q^{-1} S_P) - k + \log|S_Q| - \log|S_P|
        + \delta^T S_Q^{-1} \delta\bigr]

(theory section 5). P is the generated set, Q the real one. Both are divergences of the *fits*: neither bounds the
divergence of the data's laws. They see means and covariances only.

**Bias.** The plug-in KL of two equal Gaussian laws is about k(k+3)/(2n), not 0, and the chi-square is worse. The
first-order bias is removed by a delete-a-group jackknife of each set, exact for the quadratic part; what stays is of
the order k^3/n^2, and near the limit 2 S_Q = S_P the chi-square is corrected too far down. So the two are computed on
the leading :func:`proxy_dimension` features, one for each hundred rows.

**Interval.** Student's t with the same jackknife's variance, on the scale of log(1 + chi2) for the chi-square. At P = Q
a jackknife counts the quadratic part twice, which makes the interval conservative there: 98 to 99 % for Gaussian rows
at n = 1000, k = 10; 95 to 98 % for shifted and rescaled ones, and 80 to 93 % below 100 rows.

**Finiteness.** 2 S_Q > S_P holds iff the largest eigenvalue lambda of S_Q^{-1/2} S_P S_Q^{-1/2} is below 2. It is
estimated, so its own 95 % interval decides: above 2 the value is infinite; below 2 it is given; around 2 it is given
without an upper end, or refused where the estimate itself is 2 or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.sets.twosample import equal_pair
from driftlaw.numerics.words import interval

#: eps of the regulariser eps I, in squared units of the features (whitened ones have unit variance)
EPS = 1e-3
#: rows for each feature of a fit
ROWS_PER_FEATURE = 100
_GROUPS = 20
#: largest logarithm whose exponential is still a number
_LARGEST = 700.0
Fit = tuple[Tensor, Tensor]


def proxy_dimension(n: int, k: int) -> int:
    """Leading features that a Gaussian fit to n of k-dimensional rows uses: one for each hundred rows, at least one.

    Example:
        >>> proxy_dimension(1000, 32), proxy_dimension(50, 32)
        (10, 1)
    """
    return max(1, min(k, n // ROWS_PER_FEATURE))


def chi2_of_gaussians(p: Fit, q: Fit) -> float:
    r"""Chi-square divergence of N(m_P, S_P) from N(m_Q, S_Q), closed form; infinite unless 2 S_Q > S_P, or past e^700.

    Args:
        p: mean ``[k]`` and covariance ``[k, k]`` of P, float64.
        q: the same of Q.

    Example:
        >>> one, zero = torch.ones(1, 1).double(), torch.zeros(1).double()
        >>> round(chi2_of_gaussians((zero + 1, one), (zero, one)), 4), chi2_of_gaussians((zero, 2 * one), (zero, one))
        (1.7183, inf)
    """
    return _expm1(_log_one_plus_chi2(p, q))


def kl_of_gaussians(p: Fit, q: Fit) -> float:
    """KL(N_P || N_Q) in nats, closed form; arguments as for :func:`chi2_of_gaussians`."""
    (m_p, s_p), (m_q, s_q) = p, q
    root = torch.linalg.cholesky(s_q)
    whitened = torch.cholesky_solve(s_p, root)
    delta = (m_p - m_q)[:, None]
    mahalanobis = float((delta.T @ torch.cholesky_solve(delta, root)).squeeze())
    logs = float(2 * root.diagonal().log().sum()) - float(torch.logdet(s_p))
    return 0.5 * (float(whitened.trace()) - len(m_p) + logs + mahalanobis)


def gaussian_kl(x: Tensor, y: Tensor, *, eps: float = EPS) -> Estimate:
    """KL of the Gaussian fitted to `x` from the one fitted to `y`, nats, bias removed (may be slightly negative).

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of as many real rows.
        eps: regulariser, squared units of the features.

    Raises:
        InputError: unequal sizes or feature counts, too few rows, NaN or infinite rows, eps < 0.
    """
    x, y, method = _checked(x, y, eps, "KL of Gaussian fits")
    value, stderr, t = _jackknife(x, y, eps, kl_of_gaussians)
    return _few(Estimate(value, stderr, value - t * stderr, value + t * stderr, len(x), method), x)


def gaussian_chi2(x: Tensor, y: Tensor, *, eps: float = EPS) -> Estimate:
    """Chi-square of the Gaussian fitted to `x` from the one fitted to `y`, bias removed on the scale of log(1 + chi2).

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of as many real rows.
        eps: regulariser, squared units of the features.

    Returns:
        The estimate; infinite where 2 S_Q - S_P has a negative direction beyond doubt; without an upper end or refused
        where the data cannot tell.

    Raises:
        InputError: as for :func:`gaussian_kl`.
    """
    x, y, method = _checked(x, y, eps, "chi-square of Gaussian fits, finite iff 2 S_q > S_p")
    n = len(x)
    top, top_se, t = _jackknife(x, y, eps, largest_ratio)
    low, high = top - t * top_se, top + t * top_se
    plug_in = largest_ratio(_fit(x, eps), _fit(y, eps))
    ratio = f"the largest eigenvalue of S_p relative to S_q is {interval(top, low, high)} and 2 is the limit"
    if plug_in >= 2.0 and low > 2.0:
        return Estimate.infinite(method, f"2 S_q > S_p fails: {ratio}", n)
    value, stderr, t = _jackknife(x, y, eps, _log_one_plus_chi2)
    if not math.isfinite(value) or not math.isfinite(stderr):
        return Estimate.refused(method, f"whether chi-square is finite cannot be told: {ratio}", n)
    bounds = value - t * stderr, value + t * stderr
    if value > _LARGEST:
        logs = f"log(1 + chi2) is {value:.4g} [{bounds[0]:.4g}, {bounds[1]:.4g}]"
        return Estimate.refused(method, f"chi-square is finite and larger than any number here: {logs}", n)
    found = Estimate(_expm1(value), math.exp(value) * stderr, _expm1(bounds[0]), _expm1(bounds[1]), n, method)
    if high >= 2.0:
        found = Estimate(found.value, math.nan, found.low, math.inf, n, method, (f"no upper end: {ratio}",))
    return _few(found, x)


def largest_ratio(p: Fit, q: Fit) -> float:
    """Lambda, the largest eigenvalue of S_Q^{-1/2} S_P S_Q^{-1/2}."""
    root = torch.linalg.cholesky(q[1])
    half = torch.linalg.solve_triangular(root, p[1], upper=False)
    return float(torch.linalg.eigvalsh(torch.linalg.solve_triangular(root, half.T, upper=False))[-1])


def _log_one_plus_chi2(p: Fit, q: Fit) -> float:
    (m_p, s_p), (m_q, s_q) = p, q
    root, failed = torch.linalg.cholesky_ex(2.0 * s_q - s_p)
    if int(failed):
        return math.inf
    delta = (m_p - m_q)[:, None]
    form = float((delta.T @ torch.cholesky_solve(delta, root)).squeeze())
    return float(torch.logdet(s_q) - 0.5 * torch.logdet(s_p)) - float(root.diagonal().log().sum()) + form


def _expm1(log: float) -> float:
    return math.expm1(log) if log <= _LARGEST else math.inf


def _checked(x: Tensor, y: Tensor, eps: float, what: str) -> tuple[Tensor, Tensor, str]:
    if not (math.isfinite(eps) and eps >= 0):
        raise InputError(f"eps is {eps}", "give 0 or a small positive number")
    x, y = equal_pair(x, y)
    n, k = x.shape
    if eps == 0 and n - math.ceil(n / min(_GROUPS, n // 2)) <= k:  # a group left out, the covariance is singular
        raise InputError(
            f"{n} rows of {k} features cannot be fitted and jackknifed with eps = 0", "give more rows, or eps > 0"
        )
    return x, y, f"{what}, {k} feature(s), eps = {eps:g}, jackknife"


def _few(estimate: Estimate, x: Tensor) -> Estimate:
    n, k = x.shape
    if n >= 20 * k:
        return estimate
    return estimate.warn(f"{n} rows for {k} features: what bias is left may exceed the interval")


def _fit(x: Tensor, eps: float) -> Fit:
    mean = x.mean(dim=0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1) + eps * torch.eye(x.shape[1], dtype=x.dtype)


def _jackknife(x: Tensor, y: Tensor, eps: float, statistic: Callable[[Fit, Fit], float]) -> tuple[float, float, float]:
    """Bias-corrected value, standard error and t quantile, from interleaved groups left out of either set."""
    n = len(x)
    groups = min(_GROUPS, n // 2)
    group = torch.arange(n) % groups
    p, q = _fit(x, eps), _fit(y, eps)
    whole = statistic(p, q)
    value, variance = whole, 0.0
    for left in (
        [statistic(_fit(x[group != g], eps), q) for g in range(groups)],
        [statistic(p, _fit(y[group != g], eps)) for g in range(groups)],
    ):
        replicates = torch.tensor(left, dtype=torch.float64)
        value += (groups - 1) * (whole - float(replicates.mean()))
        variance += float(replicates.var()) * (groups - 1) ** 2 / groups
    return value, math.sqrt(variance) if variance >= 0 else math.nan, float(stats.t.ppf(0.975, 2 * (groups - 1)))
