"""The Frechet distance between Gaussian fits of two sets, unbiased to second order and with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from driftlaw.estimate import Estimate
from driftlaw.measure.sets.twosample import equal_pair, score_interval, u_centred

#: Rows that estimate the second-order variance.
_ENOUGH = 1000
#: Groups of the jackknife.
_GROUPS = 10


def frechet(x: Tensor, y: Tensor) -> Estimate:
    r"""Gaussian Frechet distance with its O(1/n) and O(1/n^2) bias removed.

    |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 A^{1/2}), A = S_2^{1/2} S_1 S_2^{1/2}. A is linear in S_1, so with
    A = Q diag(a) Q^T and u = Q^T S_2^{1/2} (x - m_1) the plug-in exceeds the truth, on average, by

        (1/n) [tr S_1 + sum_jl Var(u_j u_l) / (2 sqrt(a_j a_l) (sqrt a_j + sqrt a_l))] + O(1/n^2)

    from set 1, likewise from set 2 (delta method; the square root's second divided difference). These are subtracted,
    and the 1/n^2 remainder by a grouped jackknife over interleaved rows; the result can be negative. Interval: the
    influence function 2 (m_1 - m_2).(x - m_1) + (x - m_1)^T (I - T)(x - m_1), T the transport map, gives c of the
    interval of :mod:`driftlaw.measure.sets.twosample`; the quadratic terms above, seen as a kernel, give b.

    Args:
        x: ``[n, k]`` features of the sample.
        y: ``[n, k]`` features of the reference.

    Returns:
        Estimate in squared feature units; refused when n <= k (rank-deficient covariances). Reordering rows moves the
        jackknife part by about a tenth of the standard error.

    Raises:
        InputError: unequal sizes or feature counts, fewer than 4 rows, bad rows.
    """
    x, y = equal_pair(x, y)
    n, k = x.shape
    method = "Gaussian Frechet distance, bias removed (delta method and jackknife), score interval"
    if n <= k:
        why = f"{n} rows cannot give a covariance of {k} features its full rank; use fewer features or more rows"
        return Estimate.refused(method, why, n)
    plug_in, side_x, side_y = _bures(x, y)
    value = plug_in - side_x.bias - side_y.bias
    if n - math.ceil(n / _GROUPS) > k:
        kept = [torch.arange(n) % _GROUPS != g for g in range(min(_GROUPS, n))]
        parts = [(int(keep.sum()), *_bures(x[keep], y[keep])) for keep in kept]
        weight = math.fsum(m**2 for m, *_ in parts) / len(parts)
        mean = math.fsum(m**2 * (f - one.bias - two.bias) for m, f, one, two in parts) / len(parts)
        value = (n**2 * value - mean) / (n**2 - weight)
    second_x, second_y = side_x.second(), side_y.second()
    b = 2.0 * (second_x + second_y) / (n * (n - 1)) + 4.0 * math.sqrt(second_x * second_y) / n**2
    c = (side_x.first + side_y.first) / (n * plug_in) if plug_in > 0 else 0.0
    warnings = () if n >= 10 * k else (f"{n} rows for {k} features are few: the interval is too short",)
    return score_interval(value, b, c, n, method, warnings)


@dataclass(frozen=True)
class _Side:
    """What one set contributes to the error of the Frechet distance: bias, and influence variance `first`."""

    bias: float
    first: float
    centred: Tensor
    u: Tensor
    weight: Tensor

    def second(self) -> float:
        """Unbiased E k~(X, X')^2 of the kernel x . x' + sum_jl weight_jl u_j u_l u'_j u'_l."""
        x, u = self.centred[:_ENOUGH], self.u[:_ENOUGH]
        gram = x @ x.T
        j, m = torch.triu_indices(u.shape[1], u.shape[1])
        scale = torch.where(j == m, 1.0, 2.0) * self.weight[j, m]
        for part in torch.split(torch.arange(len(j)), 1024):
            products = u[:, j[part]] * u[:, m[part]]
            gram += (products * scale[part]) @ products.T
        gram.fill_diagonal_(0.0)
        return u_centred(gram.sum(dim=1), float(gram.square().sum()))


def _bures(x: Tensor, y: Tensor) -> tuple[float, _Side, _Side]:
    """Plug-in Frechet distance and the error terms of both sets."""
    n = x.shape[0]
    delta = x.mean(dim=0) - y.mean(dim=0)
    xc, yc = x - x.mean(dim=0), y - y.mean(dim=0)
    cov_x, cov_y = xc.T @ xc / (n - 1), yc.T @ yc / (n - 1)
    root_trace, side_x = _bures_side(xc, cov_x, cov_y, delta)
    _, side_y = _bures_side(yc, cov_y, cov_x, -delta)
    return float(delta @ delta + cov_x.trace() + cov_y.trace()) - 2.0 * root_trace, side_x, side_y


def _bures_side(centred: Tensor, own: Tensor, other: Tensor, delta: Tensor) -> tuple[float, _Side]:
    n = centred.shape[0]
    values, vectors = torch.linalg.eigh(other)
    root = vectors * values.clamp(min=0.0).sqrt() @ vectors.T
    a, q = torch.linalg.eigh(root @ own @ root)
    s = a.clamp(min=0.0).sqrt()
    inverse = torch.where(s > 1e-7 * s.max(), 1.0 / s, 0.0)
    u = centred @ root @ q
    influence = 2.0 * centred @ delta + centred.square().sum(dim=1) - u.square() @ inverse
    weight = 0.5 * inverse[:, None] * inverse / (s[:, None] + s).clamp(min=torch.finfo(s.dtype).tiny)
    variances = (u.square().T @ u.square() - n * (u.T @ u / n).square()) / (n - 1)
    bias = float(own.trace() + (weight * variances).sum()) / n
    return float(s.sum()), _Side(bias, float(influence.var()), centred, u, weight)
