r"""The chi-square divergence of a Gaussian mixture from one Gaussian, in closed form.

With :math:`r = \sum_k w_k N(m_k, \Sigma_k)`, :math:`q = N(m, S)` and, for a pair (k, l), the precision
:math:`A = \Sigma_k^{-1} + \Sigma_l^{-1} - S^{-1}`,

.. math::

    1 + \chi^2(r \| q) = \sum_{kl} w_k w_l \sqrt{\frac{|S|}{|\Sigma_k|\,|\Sigma_l|\,|A|}}\;
        \exp\tfrac12 (b^\top A^{-1} b - c), \qquad
    b = \Sigma_k^{-1} m_k + \Sigma_l^{-1} m_l, \quad
    c = m_k^\top \Sigma_k^{-1} m_k + m_l^\top \Sigma_l^{-1} m_l

(means relative to m; docs/derivations.md section 5), infinite where some A is not positive definite.
"""

from __future__ import annotations

import math

import torch

from driftlaw.estimate import Estimate
from driftlaw.process.laws.law import Diffused
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Law

#: Most numbers of the matrices of all pairs.
MOST = 1 << 24


def chi2_closed(r: Law, q: Law) -> Estimate | None:
    """chi2(r || q) where r is a Gaussian mixture and q one Gaussian, diffused or not; else None.

    Args:
        r: a :class:`~driftlaw.process.laws.mixture.GaussianMixture`.
        q: one with a single component.

    Returns:
        Exact, infinite, or None: other laws, or more pairs of components than fit in memory.

    Example:
        >>> r, q = GaussianMixture([1.0], [[0.5]], 1.0), GaussianMixture([1.0], [[0.0]], 1.0)
        >>> str(chi2_closed(r, q))
        '0.284'
    """
    a, b = _mixture(r), _mixture(q)
    if a is None or b is None or len(b.weights) != 1 or len(a.weights) ** 2 * a.means.shape[1] ** 2 > MOST:
        return None
    return _closed(a, b)


def _closed(r: GaussianMixture, q: GaussianMixture) -> Estimate | None:
    method = "closed form for a Gaussian mixture and one Gaussian"
    means, spread, wide = r.means - q.means, r.component_covariances, q.component_covariances[0]
    precision = torch.cholesky_inverse(torch.linalg.cholesky(spread))
    A = precision[:, None] + precision[None] - torch.cholesky_inverse(torch.linalg.cholesky(wide))
    least = torch.linalg.eigvalsh(A)[..., 0]
    if bool((least <= 1e-12 * precision.abs().amax()).any()):
        return Estimate.infinite(method, "r has a component too wide for the tail of q")
    along = torch.einsum("kij,kj->ki", precision, means)
    square = (along * means).sum(1)
    b, c = along[:, None] + along[None], square[:, None] + square[None]
    form = (b * torch.linalg.solve(A, b[..., None])[..., 0]).sum(-1)
    log = torch.logdet(wide) - torch.logdet(spread)[:, None] - torch.logdet(spread)[None] - torch.logdet(A)
    weight = r.weights.log()
    total = float((weight[:, None] + weight[None] + (log + form - c) / 2).logsumexp((0, 1)))
    if total > math.log(torch.finfo(torch.float64).max) - 1:
        return None
    return Estimate.exact(max(math.expm1(total), 0.0), method)


def _mixture(law: Law) -> GaussianMixture | None:
    if isinstance(law, Diffused) and isinstance(law.law, GaussianMixture):
        return law.law.diffuse(law.t0)
    return law if isinstance(law, GaussianMixture) else None
