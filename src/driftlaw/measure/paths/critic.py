r"""Critics: potentials phi whose gradients are held against a score error that is known only through samples.

For a fixed time and :math:`e = \hat s - s` (this project, theory 3.4; [KTV-G] arXiv 2606.06179)

.. math:: E_{p_t}|\Pi e|^2 = \sup_\phi J(\phi), \qquad
    J(\phi) = E[2\,\hat s\cdot\nabla\phi + 2\,\Xi(\phi) - |\nabla\phi|^2], \qquad E\,\Xi(\phi) = -E[s\cdot\nabla\phi] .

The true score enters only through :math:`\Xi`, which needs draws :math:`x_t = a x_0 + \sigma z` and nothing else:
Stein's identity gives :math:`\Xi = \Delta\phi`, denoising gives :math:`\Xi = z\cdot\nabla\phi/\sigma`, and for every C

.. math:: \Xi_C(\phi) = \tfrac1\sigma z^T C\,\nabla\phi + \mathrm{tr}((I - C)\nabla^2\phi)

has the same mean. Neither end is good at all times: for a linear phi on N(0, I) the denoising form has the variance
:math:`a^2/\sigma^2` per direction (large at small t) and the Stein form 1 (where denoising is nearly free, at large t).
:math:`C_t = \sigma^2 (a^2\Sigma + \sigma^2 I)^{-1}` with the covariance :math:`\Sigma` of the data leaves
:math:`a^2\Sigma (a^2\Sigma + \sigma^2 I)^{-2}`, the part that no choice of noise removes: Stein in directions that the
data resolve, denoising where the noise dominates. Draws come in antithetic pairs :math:`\pm z`.

J is concave in phi, so that dictionaries need one linear solve per stratum of time, and :math:`J(\phi + \psi)` is
:math:`J(\phi)` plus the objective of psi with :math:`\hat s - \nabla\phi` in the place of :math:`\hat s`: critics are
added one after the other, each fitted to what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from driftlaw.numerics.directions import oriented
from driftlaw.process.schedule import alpha, variance

#: Directions (principal, of the data) in which a critic may be quadratic or neural; linear parts use every direction.
DIRECTIONS = 128
#: Rows from which the principal directions are found.
DIRECTION_ROWS = 2048
#: Parts of the fitting rows that take turns as test set of the ridge.
FOLDS = 4
#: Ridges tried, as multiples of the mean curvature of the objective.
RIDGES: tuple[float, ...] = tuple(10.0**k for k in range(-6, 4))


@dataclass(frozen=True)
class Draws:
    """Noised rows of one stratum of time: the first half with +z, the second half the same rows and times with -z.

    Args:
        x: ``[2m, d]`` float64.
        z: ``[2m, d]``.
        t: ``[2m]``.
        weight: ``[2m]``, turns a mean over the strata into an integral over time.
        score: ``[2m, d]``, the learned score at x.
    """

    x: Tensor
    z: Tensor
    t: Tensor
    weight: Tensor
    score: Tensor

    def residual(self, critics: Iterable[Critic]) -> Tensor:
        """Learned score minus the gradients of `critics`, ``[2m, d]``."""
        left = self.score
        for critic in critics:
            left = left - critic(self)[0]
        return left


class Critic(Protocol):
    """A frozen potential whose gradient is compared with the error."""

    def __call__(self, draws: Draws) -> tuple[Tensor, Tensor]:
        r"""Gradient ``[2m, d]`` and :math:`\Xi` ``[2m]``, whose mean is that of minus true score times gradient."""
        ...


#: Noised rows of one fold of the fitting rows, block by block.
Folds = Sequence[Callable[[], Iterable[Draws]]]


@dataclass(frozen=True)
class Frame:
    """Mean and principal directions of the data at time 0, from which those at every time follow.

    Args:
        mean: ``[d]``.
        basis: ``[d, k]`` orthonormal.
        variances: ``[k]``.
        rest: mean variance of the other directions.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: float

    @classmethod
    def of(cls, rows: Tensor, fresh: Tensor | None = None) -> Frame:
        """The frame of ``rows [n, d]`` float64, complete (k = d) if d <= 128.

        Directions chosen among more than 128 follow the rows that chose them: variances are those of `fresh` rows then,
        and critics are to be fitted on these.
        """
        mean = rows.mean(0)
        x = rows[:DIRECTION_ROWS] - mean
        n, d = x.shape
        if n < d and d > DIRECTIONS:  # the smaller of the two Gram matrices
            k = min(DIRECTIONS, n - 1)
            basis, _ = torch.linalg.qr(x.mT @ torch.linalg.eigh(x @ x.mT)[1][:, -k:])
        else:
            k = min(DIRECTIONS, d)
            basis = torch.linalg.eigh(x.mT @ x)[1][:, -k:]
        basis = oriented(basis)
        centred = (rows if fresh is None else fresh) - mean
        inside = (centred @ basis).square().mean(0)
        total = float(centred.square().sum()) / len(centred)
        rest = max(total - float(inside.sum()), 0.0) / (d - k) if d > k else 0.0
        return cls(mean, basis, inside, rest)

    @property
    def size(self) -> int:
        """Number k of principal directions."""
        return int(self.basis.shape[1])

    @property
    def others(self) -> int:
        """Number d - k of the other directions."""
        return len(self.mean) - self.size

    def centred(self, draws: Draws) -> Tensor:
        """Points minus the mean of the data at its time, ``[2m, d]``."""
        return draws.x - alpha(draws.t)[:, None] * self.mean

    def coordinates(self, draws: Draws) -> Tensor:
        """Principal coordinates ``[2m, k]``."""
        return self.centred(draws) @ self.basis

    def split(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Principal coordinates ``[2m, k]`` and the part of the centred points outside their span ``[2m, d]``."""
        x = self.centred(draws)
        y = x @ self.basis
        return y, x - y @ self.basis.mT

    def control(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues of C at times ``t [m]``: ``[m, k]`` along the basis and ``[m]`` elsewhere."""
        a2, s2 = alpha(t).square(), variance(t)
        return s2[:, None] / (a2[:, None] * self.variances + s2[:, None]), s2 / (a2 * self.rest + s2)

    def noise(self, draws: Draws) -> Tensor:
        """C z / sigma, ``[2m, d]``."""
        inside, outside = self.control(draws.t)
        z = draws.z / variance(draws.t).sqrt()[:, None]
        return outside[:, None] * z + ((inside - outside[:, None]) * (z @ self.basis)) @ self.basis.mT


@dataclass(frozen=True)
class Quadratic:
    """phi = y'Sy/2 + rho |v|^2/2 + c'(x - mean), y the principal coordinates and v what is left of x - mean.

    Args:
        frame: the frame of y.
        S: ``[k, k]`` symmetric.
        rho: ``[]``.
        c: ``[d]``.
    """

    frame: Frame
    S: Tensor
    rho: Tensor
    c: Tensor

    def __call__(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Gradient and Xi; the trace is exact."""
        y, v = self.frame.split(draws)
        gradient = y @ self.S @ self.frame.basis.mT + self.rho * v + self.c
        inside, outside = self.frame.control(draws.t)
        trace = (1 - inside) @ self.S.diagonal() + (1 - outside) * self.rho * self.frame.others
        return gradient, (self.frame.noise(draws) * gradient).sum(1) + trace


def fit_quadratic(frame: Frame, folds: Folds, before: Sequence[Critic] = ()) -> Quadratic:
    r"""The best polynomial of degree 2, by a Lyapunov solve.

    With M = E[w yy'], F = E[w (r y' + I - C)], :math:`r = \hat s + Cz/\sigma`: S M + M S = F + F' (a ridge is added
    to M) and c = E[w r]/E[w].
    """
    moments = [_quadratic_moments(frame, blocks(), before) for blocks in folds]

    def symmetric(F: Tensor, M: Tensor) -> Callable[[float], Tensor]:
        values, Q = torch.linalg.eigh(M)
        values, both = values.clamp_min(0), Q.mT @ (F + F.mT) @ Q
        return lambda r: Q @ (both / (values[:, None] + values + 2 * r * values.mean())) @ Q.mT

    def scalar(b: Tensor, A: Tensor) -> Callable[[float], Tensor]:
        return lambda r: b / (A * (1 + r))

    def square(A: Tensor, theta: Tensor) -> Tensor:
        return A * theta.square().sum()

    S = _by_ridge([(m.F, m.M) for m in moments], symmetric, lambda M, S: (S @ M * S).sum())
    c = _by_ridge([(m.g, m.W) for m in moments], scalar, square)
    rho = torch.zeros((), dtype=torch.float64)
    if frame.others:
        rho = _by_ridge([(m.f, m.V) for m in moments], scalar, square)
    return Quadratic(frame, S, rho, c)


class _Moments(NamedTuple):
    """Weighted sums: of r y' + I - C, yy', r.v + tr(I - C), |v|^2, r and 1 (r, v in all directions)."""

    F: Tensor
    M: Tensor
    f: Tensor
    V: Tensor
    g: Tensor
    W: Tensor


def _quadratic_moments(frame: Frame, blocks: Iterable[Draws], before: Sequence[Critic]) -> _Moments:
    sums = []
    for draws in blocks:
        (y, v), r, w = frame.split(draws), draws.residual(before) + frame.noise(draws), draws.weight
        wy = w[:, None] * y
        inside, outside = frame.control(draws.t)
        F = (r @ frame.basis).mT @ wy + torch.diag(w @ (1 - inside))
        f = w @ ((r * v).sum(1) + (1 - outside) * frame.others)
        sums.append(_Moments(F, wy.mT @ y, f, w @ v.square().sum(1), w @ r, w.sum()))
    return _Moments(*(torch.stack(list(parts)).sum(0) for parts in zip(*sums, strict=True)))


@dataclass(frozen=True)
class Fourier:
    """phi = sum_j theta_j cos(omega_j'(x - mean) + phase_j).

    Args:
        frame: where the mean comes from.
        omega: ``[d, p]`` frequencies.
        phase: ``[p]``.
        theta: ``[p]`` coefficients.
    """

    frame: Frame
    omega: Tensor
    phase: Tensor
    theta: Tensor

    def __call__(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Gradient and Xi; the trace is exact."""
        angle = self.frame.centred(draws) @ self.omega + self.phase
        gradient = -(angle.sin() * self.theta) @ self.omega.mT
        trace = -(angle.cos() * _curvature(self.frame, draws, self.omega)) @ self.theta
        return gradient, (self.frame.noise(draws) * gradient).sum(1) + trace


def _curvature(frame: Frame, draws: Draws, omega: Tensor) -> Tensor:
    """omega_j'(I - C)omega_j, ``[2m, p]``."""
    inside, outside = frame.control(draws.t)
    length = omega.square().sum(0)
    return (1 - outside[:, None]) * length - (inside - outside[:, None]) @ (frame.basis.mT @ omega).square()


def fit_fourier(
    frame: Frame, folds: Folds, before: Sequence[Critic], t: float, features: int, g: torch.Generator
) -> Fourier:
    """The best combination of random waves, by one ridge solve.

    Directions follow the covariance of the data at time `t`; along each of them the wave number is log-uniform between
    1/2 and 4 over the standard deviation.

    Args:
        frame: mean and covariance of the data.
        folds: noised fitting rows.
        before: critics fitted before.
        t: centre of the stratum of time.
        features: number of waves.
        g: source of the waves.
    """
    a2, s2 = float(alpha(t)) ** 2, float(variance(t))
    inside = a2 * frame.variances + s2
    outside = a2 * frame.rest + s2
    draw = torch.randn(len(frame.mean), features, generator=g, dtype=torch.float64)
    along = frame.basis.mT @ draw
    omega = math.sqrt(outside) * draw + frame.basis @ ((inside.sqrt() - math.sqrt(outside))[:, None] * along)
    along = frame.basis.mT @ omega
    spread = outside * omega.square().sum(0) + (inside - outside) @ along.square()
    number, phase = torch.rand(2, features, generator=g, dtype=torch.float64)
    omega = omega * (0.5 * 8**number / spread.sqrt())
    phase = 2 * math.pi * phase
    inner = omega.mT @ omega
    parts = []
    for blocks in folds:
        b, G = (torch.zeros(*shape, dtype=torch.float64) for shape in ((features,), (features, features)))
        for draws in blocks():
            angle = frame.centred(draws) @ omega + phase
            slope, r = -angle.sin(), draws.residual(before) + frame.noise(draws)
            b += draws.weight @ (slope * (r @ omega) - angle.cos() * _curvature(frame, draws, omega))
            G += inner * ((draws.weight[:, None] * slope).mT @ slope)
        parts.append((b, G))

    def solve(b: Tensor, G: Tensor) -> Callable[[float], Tensor]:
        scale = G.diagonal().clamp_min(1e-300).rsqrt()
        values, Q = torch.linalg.eigh(scale[:, None] * G * scale)
        turned = Q.mT @ (scale * b)
        return lambda r: scale * (Q @ (turned / (values.clamp_min(0) + r)))

    return Fourier(frame, omega, phase, _by_ridge(parts, solve, lambda G, theta: theta @ G @ theta))


def _by_ridge(
    parts: Sequence[tuple[Tensor, Tensor]],
    solve: Callable[[Tensor, Tensor], Callable[[float], Tensor]],
    square: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The maximiser of 2 b.theta - theta'A theta with the ridge that does best on folds left out.

    Args:
        parts: sums (b, A) of the folds.
        solve: maximiser for (b, A), as a function of the ridge.
        square: theta'A theta.
    """
    b, A = (torch.stack(list(sums)).sum(0) for sums in zip(*parts, strict=True))
    gain = torch.zeros(len(RIDGES), dtype=torch.float64)
    for b_k, A_k in parts:
        thetas = map(solve(b - b_k, A - A_k), RIDGES)
        gain += torch.stack([2 * (b_k * theta).sum() - square(A_k, theta) for theta in thetas])
    return solve(b, A)(RIDGES[int(gain.argmax())])
