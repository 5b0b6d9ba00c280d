r"""Isotropic Gaussian mixtures, evaluated by matrix products instead of one difference for each component.

For :math:`q = \sum_k w_k N(m_k, v_k I)` at time t, with :math:`\lambda_k = a_t^2 v_k + \sigma_t^2`,

.. math::

    |x - a_t m_k|^2 = |x|^2 - 2 a_t\,x \cdot m_k + a_t^2 |m_k|^2, \qquad
    \nabla \log q_t = a_t \sum_k \frac{r_k}{\lambda_k} m_k - x \sum_k \frac{r_k}{\lambda_k} ,

so that the memory is ``[n, K]`` where the general mixture needs ``[n, K, d]``. Generations of the recursion of laws
have many components with few distinct variances (one for each age), whose logarithms are taken once. Everything is
float64; the expansion of the square loses at most the digits by which :math:`|x|^2` exceeds the variances (about two
here).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.draws import LawValues
from driftlaw.process.mixture import GaussianMixture
from driftlaw.process.schedule import alpha, sample_times, variance
from driftlaw.process.score import Time

#: Numbers in one temporary ``[m, K]``: small enough for the cache of a core.
BLOCK = 1 << 17


class IsotropicMixture:
    """An isotropic :class:`~driftlaw.process.mixture.GaussianMixture` with fast evaluation; it is itself a Score.

    Args:
        mixture: a mixture whose covariances are numbers.

    Raises:
        InputError: diagonal or full covariances.
    """

    def __init__(self, mixture: GaussianMixture) -> None:
        if mixture.covariances.ndim != 1:
            raise InputError(f"{mixture!r} is not isotropic", "give one variance a component, or use it as it is")
        self.mixture = mixture
        self._variances, self._age = torch.unique(mixture.covariances, return_inverse=True)
        self._log_weights, self._means = mixture.weights.log(), mixture.means
        self._squares = mixture.means.square().sum(1)

    def __repr__(self) -> str:
        return f"IsotropicMixture({self.mixture!r})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.mixture.dim

    @property
    def widest(self) -> float:
        """Largest component variance: it decides whether chi2 is finite."""
        return float(self._variances[-1])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws, ``[n, d]``."""
        return self.mixture.sample(n, generator)

    def diffuse(self, t: float) -> IsotropicMixture:
        """The law at time t."""
        return IsotropicMixture(self.mixture.diffuse(t))

    def second_moment(self) -> float:
        """E|X|^2, exact."""
        return self.mixture.second_moment()

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]`` float64."""
        return torch.cat([joint.logsumexp(1) for _, joint, _, _ in self._blocks(x, t)])

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]`` float64."""
        return torch.cat([self._score(*block)[0] for block in self._blocks(x, t)])

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]`` float64."""
        return self.evaluate(x, t).divergence

    def evaluate(self, x: Tensor, t: Time = 0.0) -> LawValues:
        """Log density, score and divergence in one pass."""
        parts = []
        for block in self._blocks(x, t):
            rows, joint, precision, a = block
            score, r = self._score(*block)
            squares = self._squared_distance(rows, a) * precision.square()
            spread = (r * squares).sum(1) - score.square().sum(1)
            parts.append((joint.logsumexp(1), score, spread - self.dim * (r * precision).sum(1)))
        return LawValues(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _squared_distance(self, x: Tensor, a: Tensor) -> Tensor:
        own = x.square().sum(1, keepdim=True)
        return torch.addmm(own, x * a, self._means.mT, alpha=-2) + a.square() * self._squares

    def _blocks(self, x: Tensor, t: Time) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Rows, log w_k N_k, precisions and a_t (one row for one time) of each block of rows."""
        rows, times = x.double(), sample_times(t, len(x)).reshape(-1, 1)
        size, one = max(1, BLOCK // len(self._means)), len(times) == 1
        return [
            self._block(rows[i : i + size], times if one else times[i : i + size]) for i in range(0, len(rows), size)
        ]

    def _block(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a = alpha(t)
        lam = a.square() * self._variances + variance(t)  # [m, ages]
        precision = lam.reciprocal()[:, self._age]
        constant = self._log_weights - (self.dim / 2) * (2 * math.pi * lam).log()[:, self._age]
        return x, torch.addcmul(constant, self._squared_distance(x, a), precision, value=-0.5), precision, a

    def _score(self, x: Tensor, joint: Tensor, precision: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        r = joint.softmax(1)
        weighted = r * precision
        return a * (weighted @ self._means) - x * weighted.sum(1, keepdim=True), r
