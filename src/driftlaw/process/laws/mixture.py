r"""Gaussian mixtures: log density, score, divergence, diffused law and reverse transition, all exact.

:math:`q = \sum_k w_k N(m_k, \Sigma_k)` with :math:`\Sigma_k = U_k \Lambda_k U_k^T` diffuses to
:math:`q_t = \sum_k w_k N(a_t m_k, U_k (a_t^2 \Lambda_k + \sigma_t^2) U_k^T)`: one eigendecomposition serves every time.
The sums over components are in :mod:`driftlaw.process.laws.components`; isotropic mixtures take matrix products there.
They run in float64 and in the log domain; results come back in the dtype of the points (this project, theory sections
3.2 and 6).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from driftlaw.errors import ConfigError, InputError, nearest
from driftlaw.process.draws import (
    LawValues,
    by_rows,
    categorical,
    check_points,
    check_weights,
    draw_labels,
    normal,
    own_generator,
)
from driftlaw.process.laws.components import Components, EigenComponents, IsotropicComponents
from driftlaw.process.laws.kernel_sum import bridge_gap
from driftlaw.process.schedule import alpha, expand, sample_times, variance
from driftlaw.process.score import Time
from driftlaw.system import memory


def _float64(values: Any, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(values, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"Gaussian mixture: {what} are not an array of numbers ({error})") from error
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"Gaussian mixture: {what} contain NaN or infinity")
    return tensor


class GaussianMixture:
    r"""The law :math:`\sum_k w_k N(m_k, \Sigma_k)` and all of its diffused versions; it is itself a Score.

    Args:
        weights: ``[K]``, positive, summing to 1 (within 1e-6).
        means: ``[K, d]``.
        covariances: a number or ``[K]`` (isotropic variances), ``[K, d]`` (diagonals) or ``[K, d, d]`` (full).

    Raises:
        InputError: shapes that do not fit, unusable weights, a covariance that is not symmetric positive definite.

    Example:
        >>> law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.25)
        >>> law.score(torch.zeros(1, 1), t=0.1)
        tensor([[0.]])
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        covariances: Tensor | float | Sequence[Any],
    ) -> None:
        self.means = _float64(means, "means")
        if self.means.ndim != 2 or 0 in self.means.shape:
            raise InputError(f"Gaussian mixture: means of shape {list(self.means.shape)}", "give means [K, d]")
        k, d = self.means.shape
        self.weights = check_weights(_float64(weights, "weights"), k, "Gaussian mixture")
        covariances = _float64(covariances, "covariances")
        self.covariances = covariances.expand(k).clone() if covariances.ndim == 0 else covariances
        shape = tuple(self.covariances.shape)
        if shape not in ((k,), (k, d), (k, d, d)):
            raise InputError(
                f"Gaussian mixture: covariances of shape {list(shape)} for {k} components in {d} dimensions",
                f"give a number, [{k}], [{k}, {d}] or [{k}, {d}, {d}]",
            )
        self._basis: Tensor | None = None
        if len(shape) == 3:
            asymmetry = (self.covariances - self.covariances.mT).abs().amax(dim=(1, 2))
            bad = asymmetry > 1e-6 * self.covariances.abs().amax(dim=(1, 2))
            if bool(bad.any()):
                raise InputError(f"Gaussian mixture: covariance {int(bad.nonzero()[0])} is not symmetric")
            self.covariances = (self.covariances + self.covariances.mT) / 2
            eigenvalues, self._basis = torch.linalg.eigh(self.covariances)
            floor = 1e-14 * eigenvalues.amax(dim=1, keepdim=True).clamp(min=0)
        else:
            eigenvalues, floor = self.covariances.reshape(k, -1).expand(k, d), torch.zeros(())
        if not bool((eigenvalues > floor).all()):
            first = int((eigenvalues <= floor).any(dim=1).nonzero()[0])
            raise InputError(
                f"Gaussian mixture: covariance {first} is not positive definite (smallest eigenvalue"
                f" {float(eigenvalues[first].min()):.3g})",
                "add a small multiple of the identity, or use KernelMixture with bandwidth 0 for point masses",
            )
        self._eigenvalues = eigenvalues

    @classmethod
    def paper(cls) -> GaussianMixture:
        """The mixture of arXiv 2602.16601: d = 10, means 0 and (+-4, +-4, 0, .., 0), equal weights, sigma = 0.6."""
        means = torch.zeros(5, 10, dtype=torch.float64)
        means[1:, :2] = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])
        return cls(torch.full((5,), 0.2), means, 0.36)

    @property
    def dim(self) -> int:
        """Dimension d of a point."""
        return int(self.means.shape[1])

    def __len__(self) -> int:
        return int(self.means.shape[0])

    def __repr__(self) -> str:
        kind = ("isotropic", "diagonal", "full")[self.covariances.ndim - 1]
        return f"GaussianMixture(K={len(self)}, d={self.dim}, {kind})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GaussianMixture):
            return NotImplemented
        pairs = zip(self._parts(), other._parts(), strict=True)
        return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash(tuple(tuple(part.flatten().tolist()) for part in self._parts()))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weights, self.means, self.covariances

    @functools.cached_property
    def component_covariances(self) -> Tensor:
        """Full covariance of every component, ``[K, d, d]``."""
        if self._basis is None:
            return torch.diag_embed(self._eigenvalues)
        return self.covariances

    def config(self) -> dict[str, Any]:
        """YAML-ready description; :meth:`from_config` inverts it exactly."""
        names = ("weights", "means", "covariances")
        return {"kind": "gmm"} | {name: part.tolist() for name, part in zip(names, self._parts(), strict=True)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GaussianMixture:
        """Inverse of :meth:`config`.

        Raises:
            ConfigError: another kind, a missing or an unknown key.
        """
        names = {"weights", "means", "covariances"}
        values = {key: value for key, value in config.items() if key != "kind"}
        if config.get("kind", "gmm") != "gmm":
            raise ConfigError(f"kind {config['kind']!r} is not a Gaussian mixture", "kind: gmm")
        for key in values.keys() - names:
            raise ConfigError(f"Gaussian mixture: unknown key {key!r}", nearest(key, names))
        if missing := names - values.keys():
            raise ConfigError(f"Gaussian mixture: missing {', '.join(sorted(missing))}")
        return cls(**values)

    def mean(self) -> Tensor:
        """Exact mean E X, ``[d]``."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """Covariance of the whole mixture, ``[d, d]``."""
        what = f"the covariance of {len(self)} components in {self.dim} dimensions"
        memory.check(8 * len(self) * self.dim**2, what, "use fewer dimensions")
        centred = self.means - self.mean()
        within = torch.einsum("k,kij->ij", self.weights, self.component_covariances)
        return within + torch.einsum("k,ki,kj->ij", self.weights, centred, centred)

    def second_moment(self) -> float:
        """Exact second moment E|X|^2."""
        return float(self.weights @ (self.means.square().sum(1) + self._eigenvalues.sum(1)))

    def diffuse(self, t: float) -> GaussianMixture:
        """The law at time t, of the same covariance kind."""
        a, noise = alpha(sample_times(t, 1)), variance(t)
        covariances = a.square() * self.covariances
        covariances = covariances + (
            noise * torch.eye(self.dim, dtype=torch.float64) if covariances.ndim == 3 else noise
        )
        return GaussianMixture(self.weights, a * self.means, covariances)

    def sample(self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`n` independent draws, ``[n, d]``.

        Args:
            n: number of draws.
            generator: source of the draws; None for fresh entropy.
            dtype: float32 or float64.
        """
        generator = own_generator(generator)
        label = draw_labels(self.weights, n, generator)
        noise = self._project(normal((n, self.dim), generator, dtype), label)  # whatever the signs of the basis
        return self._place(self.means[label].to(dtype), self._eigenvalues[label].sqrt().to(dtype) * noise, label)

    def evaluate(self, x: Tensor, t: Time = 0.0) -> LawValues:
        """Log density, score and divergence of the score at time t.

        Args:
            x: ``[n, d]`` float32 or float64.
            t: OU time, scalar or ``[n]``.

        Returns:
            :class:`~driftlaw.process.draws.LawValues` in the dtype of `x`.

        Raises:
            InputError: wrong dtype, shape or time.
        """
        times = sample_times(t, len(check_points(x, self.dim)), x.device)
        values = by_rows(self._components.evaluate, x.double(), times, self._components.rows)
        return LawValues(*(value.to(x.dtype) for value in values))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        return self._by_rows(lambda x, t: self._components.log_joint(x, t).logsumexp(1), x, t)

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]``."""
        return self._by_rows(self._components.score, x, t)

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        return self.evaluate(x, t).divergence

    def responsibilities(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Posterior probability of each component given X_t = x, ``[n, K]``."""
        return self._by_rows(lambda x, t: self._components.log_joint(x, t).softmax(1), x, t)

    def reverse_transition(self, x: Tensor, t: Time, s: Time, generator: torch.Generator | None = None) -> Tensor:
        r"""One exact draw of X_s given X_t = x, s <= t: the ideal reverse process without time steps.

        Draws the component :math:`j \sim r(x)`, then the Gaussian bridge in the eigenbasis of :math:`\Sigma_j`: mean
        :math:`a_s m_j + b \tfrac{\lambda_s}{\lambda_t}(x - a_t m_j)`, variance :math:`\lambda_s (1 - b^2)/\lambda_t`,
        with :math:`\lambda_t = a_t^2 \lambda + \sigma_t^2` and :math:`b = a_{t-s}`.

        Args:
            x: ``[n, d]``.
            t: time of `x`, scalar or ``[n]``.
            s: 0 <= s <= t, scalar or ``[n]``.
            generator: source of the draws; None for fresh entropy.

        Returns:
            ``[n, d]`` in the dtype of `x`.

        Raises:
            InputError: wrong dtype or shape, or s > t.
        """
        with torch.no_grad():
            generator = own_generator(generator, x.device)
            n = len(check_points(x, self.dim))
            at, to = (sample_times(u, n, x.device) for u in (t, s))
            bridge = expand(variance(bridge_gap(at, to)), 2)
            label = categorical(self.responsibilities(x.double(), at).cumsum(dim=1), generator)
            means, lam = self.means.to(x.device)[label], self._eigenvalues.to(x.device)[label]
            lam_t, lam_s = (expand(alpha(u), 2).square() * lam + expand(variance(u), 2) for u in (at, to))
            residual = self._project(x.double() - expand(alpha(at), 2) * means, label)
            step = (1 - bridge).sqrt() * lam_s / lam_t * residual
            noise = self._project(normal((n, self.dim), generator, torch.float64, x.device), label)
            step = step + (lam_s * bridge / lam_t).sqrt() * noise
            return self._place(expand(alpha(to), 2) * means, step, label).to(x.dtype)

    def _project(self, z: Tensor, label: Tensor) -> Tensor:
        """Coordinates of ``z [n, d]`` in the eigenbasis of its component."""
        if self._basis is None:
            return z
        return self._by_label(z, label, self._basis.to(z))

    def _place(self, centre: Tensor, coordinates: Tensor, label: Tensor) -> Tensor:
        """Centre + U coordinates."""
        if self._basis is None:
            return centre + coordinates
        return centre + self._by_label(coordinates, label, self._basis.mT.to(coordinates))

    @staticmethod
    def _by_label(z: Tensor, label: Tensor, matrices: Tensor) -> Tensor:
        """Row i becomes ``z_i @ matrices[label_i]``, one component at a time."""
        out = torch.empty_like(z)
        for k, matrix in enumerate(matrices):
            rows = label == k
            out[rows] = z[rows] @ matrix
        return out

    @functools.cached_property
    def _components(self) -> Components:
        if self.covariances.ndim == 1:
            return IsotropicComponents(*self._parts())
        return EigenComponents(self.weights, self.means, self._eigenvalues, self._basis)

    def _by_rows(self, f: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Time) -> Tensor:
        """One function of float64 points and times, block by block, in the dtype of the points."""
        times = sample_times(t, len(check_points(x, self.dim)), x.device)
        return by_rows(lambda x, t: (f(x, t),), x.double(), times, self._components.rows)[0].to(x.dtype)
