r"""What the components of a Gaussian mixture say at a point: densities, scores and divergences at every time.

With the component densities :math:`w_k N(a_t m_k, \Sigma_{k,t})`, their scores :math:`g_k = -\Sigma_{k,t}^{-1}(x -
a_t m_k)` and the responsibilities :math:`r_k`,

.. math::

    \nabla \log q_t = \sum_k r_k g_k =: s, \qquad
    \nabla\cdot s = \sum_k r_k \left(|g_k - s|^2 - \operatorname{tr} \Sigma_{k,t}^{-1}\right) .

:class:`EigenComponents` serves any covariance: one eigendecomposition serves every time, temporaries are ``[n, K, d]``,
and the divergence in this form does not subtract two large numbers. :class:`IsotropicComponents` serves
:math:`\Sigma_k = v_k I`, :math:`\lambda_k = a_t^2 v_k + \sigma_t^2`, by matrix products with temporaries ``[n, K]``:

.. math::

    |x - a_t m_k|^2 = |x|^2 - 2 a_t\,x \cdot m_k + a_t^2 |m_k|^2, \qquad
    s = a_t \sum_k \frac{r_k}{\lambda_k} m_k - x \sum_k \frac{r_k}{\lambda_k}, \qquad
    \nabla\cdot s = \sum_k r_k |g_k|^2 - |s|^2 - d \sum_k \frac{r_k}{\lambda_k} .

Its squares lose the digits by which :math:`|x|^2` exceeds the variances, so x and the means are taken relative to the
mean of the mixture first. Generations of the recursion of laws have many components and few distinct variances (one
for each age): their logarithms are taken once. All sums run in float64 and in the log domain (this project).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from driftlaw.numerics.memory import CACHE_BYTES, PASS_BYTES, fitting
from driftlaw.process.draws import LawValues
from driftlaw.process.schedule import alpha, expand, variance


class Components(Protocol):
    """Points ``x [n, d]`` and times ``t [] or [n]`` are float64, as are all results."""

    @property
    def rows(self) -> int:
        """Points to evaluate at a time, so that the temporaries stay small."""
        ...

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Logarithm of w_k times the component density, ``[n, K]``."""
        ...

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Score of the mixture, ``[n, d]``."""
        ...

    def evaluate(self, x: Tensor, t: Tensor) -> LawValues:
        """Log density, score and divergence of the mixture."""
        ...


class EigenComponents:
    """Components with covariances ``U_k diag(lam_k) U_k^T``.

    Args:
        weights: ``[K]``.
        means: ``[K, d]``.
        eigenvalues: ``[K, d]``.
        basis: U, ``[K, d, d]``; None for the identity.
    """

    def __init__(self, weights: Tensor, means: Tensor, eigenvalues: Tensor, basis: Tensor | None) -> None:
        self._log_weights, self._means, self._eigenvalues, self._basis = weights.log(), means, eigenvalues, basis

    @property
    def rows(self) -> int:
        """Points in one block."""
        return fitting(8 * 6 * self._means.numel(), PASS_BYTES)

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Logarithm of w_k times the component density, ``[n, K]``."""
        return self._parts(x, t)[0]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Score of the mixture, ``[n, d]``."""
        joint, components, _ = self._parts(x, t)
        return torch.einsum("nk,nkd->nd", joint.softmax(1), components)

    def evaluate(self, x: Tensor, t: Tensor) -> LawValues:
        """Log density, score and divergence of the mixture."""
        joint, components, trace = self._parts(x, t)
        log_density = joint.logsumexp(dim=1)
        r = (joint - log_density.unsqueeze(1)).exp()
        score = torch.einsum("nk,nkd->nd", r, components)
        spread = (components - score.unsqueeze(1)).square().sum(-1)
        return LawValues(log_density, score, (r * (spread - trace)).sum(1))

    def _parts(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log w_k N_k ``[n, K]``, component scores ``[n, K, d]`` and the traces of the precisions."""
        means, lam, log_w = (p.to(x.device) for p in (self._means, self._eigenvalues, self._log_weights))
        lam = expand(alpha(t), 3).square() * lam + expand(variance(t), 3)
        z = x.unsqueeze(1) - expand(alpha(t), 3) * means
        if self._basis is None:
            score = -z / lam
            quadratic = -(z * score).sum(-1)
        else:
            basis = self._basis.to(x.device)
            z = torch.einsum("nkd,kde->nke", z, basis)
            quadratic = (z.square() / lam).sum(-1)
            score = -torch.einsum("nke,kde->nkd", z / lam, basis)
        log_density = log_w - (quadratic + lam.log().sum(-1) + means.shape[1] * math.log(2 * math.pi)) / 2
        return log_density, score, lam.reciprocal().sum(-1)


class IsotropicComponents:
    """Components with covariances ``v_k I``.

    Args:
        weights: ``[K]``.
        means: ``[K, d]``.
        variances: ``[K]``.
    """

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        self._log_weights, self._centre = weights.log(), weights @ means
        self._means = means - self._centre
        self._squares = self._means.square().sum(1)
        self._variances, self._age = torch.unique(variances, return_inverse=True)

    @property
    def rows(self) -> int:
        """Points in one block."""
        return fitting(2 * 8 * len(self._means), CACHE_BYTES)

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Logarithm of w_k times the component density, ``[n, K]``."""
        z, a, means = self._relative(x, t)
        return self._parts(z, a, means, t)[0]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Score of the mixture, ``[n, d]``."""
        z, a, means = self._relative(x, t)
        joint, _, precision = self._parts(z, a, means, t)
        return _weighted_score(joint.softmax(1) * precision, z, a, means)

    def evaluate(self, x: Tensor, t: Tensor) -> LawValues:
        """Log density, score and divergence of the mixture."""
        z, a, means = self._relative(x, t)
        joint, squares, precision = self._parts(z, a, means, t)
        log_density = joint.logsumexp(1)
        weighted = (joint - log_density.unsqueeze(1)).exp() * precision
        score = _weighted_score(weighted, z, a, means)
        spread = (weighted * torch.addcmul(squares.new_tensor(-float(x.shape[1])), squares, precision)).sum(1)
        return LawValues(log_density, score, spread - score.square().sum(1))

    def _relative(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points relative to the diffused mean of the mixture, a_t as a column, and the relative means."""
        a = expand(alpha(t), 2)
        return x - a * self._centre.to(x.device), a, self._means.to(x.device)

    def _parts(self, z: Tensor, a: Tensor, means: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log w_k N_k and |x - a m_k|^2, ``[n, K]``, and the precisions."""
        variances, age, log_w, m2 = (
            p.to(z.device) for p in (self._variances, self._age, self._log_weights, self._squares)
        )
        lam = a.square() * variances + expand(variance(t), 2)  # [n, ages] or [ages]
        precision = lam.reciprocal()[..., age]
        constant = log_w - (z.shape[1] / 2) * (2 * math.pi * lam).log()[..., age]
        squares = torch.addmm(z.square().sum(1, keepdim=True), z * a, means.mT, alpha=-2) + a.square() * m2
        return torch.addcmul(constant, squares, precision, value=-0.5), squares, precision


def _weighted_score(weighted: Tensor, z: Tensor, a: Tensor, means: Tensor) -> Tensor:
    """The isotropic score from r_k / lambda_k ``[n, K]``."""
    return a * (weighted @ means) - z * weighted.sum(1, keepdim=True)
