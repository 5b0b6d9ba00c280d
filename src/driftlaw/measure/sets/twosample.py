r"""How far apart two sets of samples are, each number with an interval that also holds where the sets are equal.

Every kernel distance here is one unbiased two-sample U-statistic. With mu_P = E k(., X), Delta = mu_P - mu_Q in the
kernel's Hilbert space and equal n,

    U = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j),   E U = theta = |Delta|^2.

U itself can be negative. Its Hoeffding terms are orthogonal, so with the witness w = mu_P - mu_Q and the doubly centred
kernels k~ the variance is exactly

    Var U = (4/n) [Var w(X) + Var w(Y)]  +  2/(n(n-1)) [E k~(X,X')^2 + E k~(Y,Y')^2] + (4/n^2) E k~(X,Y)^2.

The first part is (4/n) <Delta, (C_P + C_Q) Delta>: proportional to theta for a fixed direction of Delta, and zero where
P = Q; the second, b, stays. The interval keeps that dependence,

    {theta : (U - theta)^2 <= z^2 (b + c max(theta, 0))},    c = (4/n) Rayleigh quotient of C_P + C_Q at Delta_hat.

The usual U +- z se loses coverage between the two regimes (a chi2 variable of small noncentrality), this does not.
E k~(X,X')^2 is estimated without bias by U-centring (Szekely and Rizzo 2014), E k~(X,Y)^2 by the interaction mean
square. Sums are made in blocks of rows: memory is linear in n.

| function | kernel k(x, y) | theta |
|---|---|---|
| chi2_lower | x . y on whitened features | (m_P - m_Q)^T C_Q^{-1} (m_P - m_Q) <= chi2(P, Q), theory section 5 |
| mmd2 | exp(-|x - y|^2 / (2 h^2)) | MMD^2 (Gretton et al. 2012) |
| kid | (x . y / k + 1)^3 | KID (Binkowski et al. 2018) |
| energy_distance | -|x - y| | 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013) |

:func:`~driftlaw.measure.sets.frechet.frechet` has the same interval around a bias-corrected plug-in. All assume
independent rows, and a kernel or feature map that was not fitted on these rows (the median bandwidth is the one,
second-order, exception).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.measure.features.fitted import as_rows
from driftlaw.numerics.memory import PAIR_BYTES
from driftlaw.seeding import generator

Kernel = Callable[[Tensor, Tensor], Tensor]

#: entries of a Gram matrix held at once (32 MiB of float64)
BLOCK = PAIR_BYTES // 8
#: Rows that estimate the median bandwidth.
_ENOUGH = 1000


def chi2_lower(x: Tensor, y: Tensor, *, block: int = BLOCK) -> Estimate:
    """Unbiased |m_P - m_Q|^2 of whitened features: a lower bound of chi2(P || Q) within their span.

    Args:
        x: ``[n, k]`` features of the sample, whitened with the covariance of real rows other than `y`.
        y: ``[n, k]`` features of as many real rows.
        block: Gram entries in memory at once.

    Returns:
        Estimate without units; negative values happen where P is close to Q.

    Assumptions:
        It bounds chi2 from below as far as the whitening is exact: a whitening matrix from m real rows inflates it by
        about (m-1)/(m-k-2) (Gaussian features).

    Raises:
        InputError: unequal sizes or feature counts, fewer than 4 rows, NaN or infinite rows.
    """
    x, y = equal_pair(x, y)
    return _distance(x, y, _dot, "U-statistic of the Mahalanobis form, score interval", block)


def mmd2(x: Tensor, y: Tensor, bandwidth: float | str = "median of reference", *, block: int = BLOCK) -> Estimate:
    """Unbiased squared maximum mean discrepancy, Gaussian kernel exp(-|x - y|^2 / (2 h^2)).

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of the reference.
        bandwidth: h, or "median of reference" (distances within `y`) or "median of pooled".
        block: Gram entries in memory at once.

    Raises:
        InputError: unequal sizes or feature counts, fewer than 4 rows, bad rows, bad bandwidth.
    """
    x, y = equal_pair(x, y)
    h = _bandwidth(x, y, bandwidth)
    return _distance(x, y, _gaussian(h), f"unbiased MMD^2, Gaussian kernel h={h:.4g}, score interval", block)


def kid(x: Tensor, y: Tensor, *, block: int = BLOCK) -> Estimate:
    """Kernel distance with the cubic kernel (x . y / k + 1)^3, as KID but on the given features.

    The kernel has third moments: for heavy-tailed features the interval needs large n.

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of the reference.
        block: Gram entries in memory at once.

    Raises:
        InputError: unequal sizes or feature counts, fewer than 4 rows, bad rows.
    """
    x, y = equal_pair(x, y, centre=False)
    k = x.shape[1]
    return _distance(x, y, lambda a, b: (a @ b.T / k + 1.0) ** 3, "unbiased MMD^2, cubic kernel, score interval", block)


def energy_distance(x: Tensor, y: Tensor, *, block: int = BLOCK) -> Estimate:
    """Unbiased energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|, in units of length.

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of the reference.
        block: Gram entries in memory at once.

    Raises:
        InputError: unequal sizes or feature counts, fewer than 4 rows, bad rows.
    """
    x, y = equal_pair(x, y)
    return _distance(x, y, lambda a, b: -_squared(a, b).sqrt(), "unbiased energy distance, score interval", block)


def mmd_permutation(
    x: Tensor,
    y: Tensor,
    *,
    permutations: int = 999,
    bandwidth: float | str = "median of pooled",
    seed: int = 0,
    block: int = BLOCK,
) -> Estimate:
    """Permutation p-value of the MMD: (1 + #{permuted >= observed}) / (1 + permutations).

    Exact under P = Q for exchangeable rows, whatever n, when the bandwidth is a number or the pooled median. The
    interval is the Monte Carlo error of finitely many permutations (Clopper-Pearson), nothing else.

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of the reference.
        permutations: number of random relabellings.
        bandwidth: as in :func:`mmd2`.
        seed: seed of the relabellings.
        block: Gram entries in memory at once.

    Raises:
        InputError: permutations < 1 and everything that :func:`mmd2` refuses.
    """
    if permutations < 1:
        raise InputError(f"permutations is {permutations}", "use at least 19 for a test at level 0.05")
    x, y = equal_pair(x, y)
    n = x.shape[0]
    pooled = torch.cat([x, y])
    kernel = _gaussian(_bandwidth(x, y, bandwidth))
    g = generator(seed, "mmd_permutation")
    # at equal n the statistic is an increasing function of s^T K s, s = +-1 by label
    order = torch.rand(2 * n, permutations, generator=g).argsort(dim=0)
    signs = torch.where(order < n, 1.0, -1.0).double()
    observed = torch.cat([torch.ones(n, 1), -torch.ones(n, 1)]).double()
    signs = torch.cat([observed, signs], dim=1)
    forms = torch.zeros(permutations + 1, dtype=torch.float64)
    for start, stop in _blocks(2 * n, 2 * n, block):
        forms += (signs[start:stop] * (kernel(pooled[start:stop], pooled) @ signs)).sum(dim=0)
    above = int((forms[1:] >= forms[0] - 1e-12 * forms[0].abs()).sum())
    p = (1 + above) / (1 + permutations)
    low = float(stats.beta.ppf(0.025, above, permutations - above + 1)) if above else 0.0
    high = float(stats.beta.ppf(0.975, above + 1, permutations - above)) if above < permutations else 1.0
    stderr = math.sqrt(p * (1.0 - p) / permutations)
    return Estimate(
        p, stderr, min(low, p), max(high, p), n, f"permutation test of the MMD, {permutations} permutations"
    )


def median_distance(y: Tensor) -> float:
    """Median of the non-zero distances between the rows of `y` (evenly spaced rows where there are very many).

    Raises:
        InputError: all rows are equal.
    """
    y = as_rows(y, "the reference")
    few = y[:: max(1, y.shape[0] // _ENOUGH)]
    distances = torch.nn.functional.pdist(few)
    distances = distances[distances > 0]
    if distances.numel() == 0:
        raise InputError("all rows of the reference are equal: no median distance", "give a bandwidth")
    return float(distances.median())


def _bandwidth(x: Tensor, y: Tensor, bandwidth: float | str) -> float:
    if isinstance(bandwidth, str):
        if bandwidth == "median of reference":
            return median_distance(y)
        if bandwidth == "median of pooled":
            return median_distance(torch.cat([x, y]))
        raise InputError(
            f"unknown bandwidth {bandwidth!r}", "a positive number, 'median of reference' or 'median of pooled'"
        )
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise InputError(
            f"the bandwidth is {bandwidth}", "a positive number, 'median of reference' or 'median of pooled'"
        )
    return float(bandwidth)


def equal_pair(x: Tensor, y: Tensor, centre: bool = True) -> tuple[Tensor, Tensor]:
    """Two checked sets ``[n, k]`` of one size, moved to their common mean where the kernel does not depend on it."""
    x, y = as_rows(x, "x", least=4), as_rows(y, "y", least=4)
    if x.shape[1] != y.shape[1]:
        raise InputError(f"x has {x.shape[1]} features and y has {y.shape[1]}", "use one feature map for both")
    if x.shape[0] != y.shape[0]:
        raise InputError(
            f"x has {x.shape[0]} rows and y has {y.shape[0]}: set distances are compared at equal n",
            "take the first min(n) rows of both",
        )
    if not centre:
        return x, y
    mean = (x.mean(dim=0) + y.mean(dim=0)) / 2
    return x - mean, y - mean


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2.0 * a @ b.T).clamp_(min=0.0)


def _gaussian(h: float) -> Kernel:
    return lambda a, b: _squared(a, b).mul_(-0.5 / h**2).exp_()


def _blocks(rows: int, columns: int, block: int) -> list[tuple[int, int]]:
    step = max(1, block // columns)
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def u_centred(rows: Tensor, squares: float) -> float:
    """Unbiased E k~(X, X')^2 from row sums and sum of squares of a Gram matrix without its diagonal."""
    n, total = rows.shape[0], float(rows.sum())
    form = squares - 2.0 * float(rows.square().sum()) / (n - 2) + total**2 / ((n - 1) * (n - 2))
    return max(form, 0.0) / (n * (n - 3))


@dataclass(frozen=True)
class _Sums:
    """Sums of the Gram matrix k(a, b) without its diagonal where a is b."""

    rows: Tensor
    columns: Tensor
    diagonal: Tensor
    squares: float


def _gram_sums(a: Tensor, b: Tensor, kernel: Kernel, block: int) -> _Sums:
    n, squares = a.shape[0], 0.0
    rows, columns, diagonal = torch.zeros(3, n, dtype=torch.float64)
    for start, stop in _blocks(n, n, block):
        gram = kernel(a[start:stop], b)
        if a is b:
            own = gram.diagonal(offset=start)
            diagonal[start:stop] = own
            own.zero_()
        rows[start:stop] = gram.sum(dim=1)
        columns += gram.sum(dim=0)
        squares += float(gram.square().sum())
    return _Sums(rows, columns, diagonal, squares)


def _distance(x: Tensor, y: Tensor, kernel: Kernel, method: str, block: int) -> Estimate:
    n = x.shape[0]
    xx, yy, xy = _gram_sums(x, x, kernel, block), _gram_sums(y, y, kernel, block), _gram_sums(x, y, kernel, block)
    u = float((xx.rows.sum() + yy.rows.sum()) / (n * (n - 1)) - 2.0 * xy.rows.sum() / n**2)
    margins = (xy.rows.square().sum() + xy.columns.square().sum()) / n - xy.rows.sum() ** 2 / n**2
    second_xy = max(xy.squares - float(margins), 0.0) / (n - 1) ** 2
    second = u_centred(xx.rows, xx.squares) + u_centred(yy.rows, yy.squares)
    b = 2.0 * second / (n * (n - 1)) + 4.0 * second_xy / n**2
    # the witness <Delta_hat, .> with its diagonal terms: its mean difference is |Delta_hat|^2 >= 0
    witness_x = (xx.rows + xx.diagonal - xy.rows) / n
    witness_y = (xy.columns - yy.rows - yy.diagonal) / n
    norm = float(witness_x.mean() - witness_y.mean())
    c = 4.0 * float(witness_x.var() + witness_y.var()) / (n * norm) if norm > 0 else 0.0
    return score_interval(u, b, c, n, method)


def score_interval(
    u: float, b: float, c: float, n: int, method: str, warnings: tuple[str, ...] = (), d: float = 0.0
) -> Estimate:
    """The set {theta : (u - theta)^2 <= z^2 (b + c max(theta, 0) + d max(theta, 0)^2)}, for d < 1/z^2.

    Args:
        u: unbiased estimate of theta >= 0, negative values included.
        b: its variance at theta = 0.
        c: what theta adds to the variance.
        n: observations behind it.
        method: how it was computed, in words.
        warnings: what a reader must know.
        d: relative variance, of a factor that is itself estimated.
    """
    half, shift, lead = Z95 * math.sqrt(b), Z95**2 * c / 2.0, 1.0 - Z95**2 * d
    if lead <= 0.0:
        low = u - half if u <= half else 0.0
        return Estimate(u, math.sqrt(b + c * max(u, 0.0) + d * max(u, 0.0) ** 2), low, math.inf, n, method, warnings)
    root = math.sqrt(max((u + shift) ** 2 - lead * (u**2 - half**2), 0.0))
    low = u - half if u <= half else (u + shift - root) / lead
    high = u + half if u <= -half else (u + shift + root) / lead
    if high < 0.0:
        warnings = (*warnings, "below zero by more than sampling error: do the two sets share rows?")
    stderr = math.sqrt(b + c * max(u, 0.0) + d * max(u, 0.0) ** 2)
    return Estimate(u, stderr, low, high, n, method, warnings)
