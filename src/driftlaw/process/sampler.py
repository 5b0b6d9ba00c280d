r"""Samplers: from X_T down a time grid with any Score.

Two processes have the marginals of the forward process. With h = t - s the step from t down to s:

- reverse SDE :math:`dY = (\tfrac12 Y + s_t(Y))\,du + d\bar B` (u = -t): :class:`EulerMaruyama` and
  :class:`ExponentialIntegrator` (exact linear part, score frozen over the step); both of strong order 1;
- probability-flow ODE. In :math:`y = x/a_t` and :math:`\varsigma = \sigma_t/a_t` it reads
  :math:`dy/d\varsigma = (y - \hat x_0)/\varsigma = \hat\varepsilon`: :class:`Heun` (trapezoid in varsigma, 2 scores a
  step) and :class:`Multistep` (data prediction, linear in :math:`\log\varsigma`, 1 score a step); both of order 2.

A learned score that is the score of a diffused KDE or mixture needs no solver: see ``reverse_transition`` there.

References: Song et al., arXiv 2011.13456 (reverse SDE, probability flow); Karras et al., arXiv 2206.00364, algorithm 1
(Heun); Lu et al., arXiv 2211.01095, algorithm 2 (DPM-Solver++(2M)).

A sampler is a :class:`Solver` with one method, ``step``; :func:`sample` is the loop of all of them. DDPM's ancestral
steps (:mod:`driftlaw.process.ddpm`) are one more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.process.draws import normal, own_generator
from driftlaw.process.schedule import alpha, noise_ratio, sigma, variance
from driftlaw.process.score import Field, Score, checked, denoised_from_score
from driftlaw.progress import Progress

#: Standard normals of step i, of the shape of x.
Noise = Callable[[int], Tensor]


def _times(x: Tensor, grid: Tensor) -> list[float]:
    """The grid as numbers.

    Raises:
        InputError: a grid that does not descend strictly through finite times >= 0, or a start that is not finite.
    """
    times = torch.as_tensor(grid, dtype=torch.float64).flatten().tolist()
    if len(times) < 2 or not all(0 <= s < t < math.inf for t, s in pairwise(times)):
        raise InputError("a time grid must descend strictly from T to t0 >= 0 in at least one step", "see uniform_grid")
    if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise InputError("the starting points are not finite floating-point numbers", "draw them from the law at T")
    return times


class Solver:
    """One step of a sampler, from time t down to s; override :meth:`step`.

    Example:
        >>> class Still(Solver):
        ...     def step(self, score, x, t, s, noise, memory):
        ...         return x, None
        >>> sample(lambda x, t: -x, torch.ones(1, 2), torch.tensor([1.0, 0.5]), Still())
        tensor([[1., 1.]])
    """

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """Points at s from points at t.

        Args:
            score: at any time, checked.
            x: points at t, ``[n, ...]``.
            t: OU time of the points.
            s: OU time to go to, 0 <= s < t.
            noise: draws standard normals of the shape of x.
            memory: what the step before returned beside its points; None at first.

        Returns:
            Points at s, and what the next step shall know.
        """
        raise NotImplementedError


class _Stochastic(Solver):
    """Steps x <- c_x x + c_s score + c_z z with coefficients of the step size h."""

    def coefficients(self, h: float) -> tuple[float, float, float]:
        raise NotImplementedError

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        keep, push, spread = self.coefficients(t - s)
        z = noise()
        return keep * x + push * score.score(x, t) + spread * z, None


class EulerMaruyama(_Stochastic):
    r"""Reverse SDE by Euler-Maruyama: :math:`x \leftarrow x + h(\tfrac12 x + s_t(x)) + \sqrt h z`."""

    def coefficients(self, h: float) -> tuple[float, float, float]:
        """Of x, score and z."""
        return 1 + h / 2, h, math.sqrt(h)


class ExponentialIntegrator(_Stochastic):
    r"""Reverse SDE with the linear part exact.

    .. math:: x \leftarrow e^{h/2} x + 2 (e^{h/2} - 1) s_t(x) + \sqrt{e^h - 1}\,z

    Here z is the step's normalised :math:`\int e^{(u_1 - u)/2} d\bar B_u`.
    """

    def coefficients(self, h: float) -> tuple[float, float, float]:
        """Of x, score and z."""
        return math.exp(h / 2), 2 * math.expm1(h / 2), math.sqrt(math.expm1(h))


class Heun(Solver):
    """Probability flow by Heun's method in (y, varsigma); a last step to t = 0 is an Euler step. 2 scores a step."""

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """One deterministic step."""
        a_t, a_s = float(alpha(t)), float(alpha(s))
        step = float(noise_ratio(s) - noise_ratio(t))
        slope = -float(sigma(t)) * score.score(x, t)
        y = x / a_t
        x = a_s * (y + step * slope)
        if s > 0:
            x = a_s * (y + step / 2 * (slope - float(sigma(s)) * score.score(x, s)))
        return x, None


class Multistep(Solver):
    r"""Probability flow by the two-step data-prediction method, for 20 steps or fewer. 1 score a step.

    With :math:`\rho_i = \varsigma_{i+1}/\varsigma_i` and :math:`\ell_i = -\log \rho_i`,

    .. math:: y \leftarrow \rho_i y + (1 - \rho_i)
        \left(\hat x_0^i + \frac{\ell_i}{2 \ell_{i-1}} (\hat x_0^i - \hat x_0^{i-1})\right) .

    The first step, and a last step to t = 0, use :math:`\hat x_0^i` alone.
    """

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """Deterministic; remembers the last denoised points and step."""
        denoised = denoised_from_score(score.score(x, t), x, t)
        ratio = float(noise_ratio(s) / noise_ratio(t))
        target = denoised
        if s > 0:
            length = -math.log(ratio)
            if memory is not None:
                target = denoised + length / (2 * memory[1]) * (denoised - memory[0])
            memory = denoised, length
        return float(alpha(s)) * (ratio / float(alpha(t)) * x + (1 - ratio) * target), memory


class DDIM(Solver):
    r"""DDIM's deterministic step :math:`x \leftarrow a_s \hat x_0 + \sigma_s \hat\varepsilon`, of order 1.

    Reference: Song, Meng, Ermon, arXiv 2010.02502, eq. (12) with sigma = 0.
    """

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """Deterministic."""
        value = score.score(x, t)
        denoised = denoised_from_score(value, x, t)
        return float(alpha(s)) * denoised - float(sigma(s) * sigma(t)) * value, None


@dataclass(frozen=True)
class Ancestral(Solver):
    """DDPM's ancestral step, see :mod:`driftlaw.process.ddpm`.

    Args:
        spread: variance w of a step, "small" or "large".
    """

    spread: Literal["small", "large"] = "small"

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """The last step, to t = 0, is without noise."""
        beta = -math.expm1(s - t)
        w = beta if self.spread == "large" else beta * float(variance(s) / variance(t))
        x = math.exp((t - s) / 2) * (x + beta * score.score(x, t))
        return (x + math.sqrt(w) * noise() if s > 0 else x), None


SOLVERS: dict[str, Solver] = {
    "euler_maruyama": EulerMaruyama(),
    "exponential_integrator": ExponentialIntegrator(),
    "heun": Heun(),
    "multistep": Multistep(),
    "ancestral": Ancestral(),
    "ddim": DDIM(),
}
#: Names that :func:`sample` accepts.
METHODS: tuple[str, ...] = tuple(SOLVERS)


@torch.no_grad()
def sample(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    method: str | Solver = "heun",
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Carry points down a time grid.

    Args:
        score: Score or callable.
        x: points at the grid's first time, ``[n, ...]``.
        grid: descending OU times, ``[steps + 1]``.
        method: one of :data:`METHODS`, or a :class:`Solver`; "heun" and "multistep" use no noise.
        generator: source of the noise; None for fresh entropy.
        noise: standard normals of step i instead of the generator's (to couple Brownian paths).
        progress: called after each step.

    Returns:
        Points at the grid's last time, shape and dtype of `x`.

    Raises:
        InputError: an unknown method, a grid that does not descend, or a score that is NaN or infinite.
    """
    if isinstance(method, str):
        if method not in SOLVERS:
            raise InputError(f"unknown sampling method {method!r}", nearest(method, METHODS))
        method = SOLVERS[method]
    times, score = _times(x, grid), checked(score)
    generator = own_generator(generator, x.device)
    memory, n = None, len(times) - 1
    for i, (t, s) in enumerate(pairwise(times)):

        def draw(like: Tensor = x, i: int = i) -> Tensor:
            return normal(tuple(like.shape), generator, like.dtype, like.device) if noise is None else noise(i)

        x, memory = method.step(score, x, t, s, draw, memory)
        if progress is not None:
            progress((i + 1) / n, f"step {i + 1}/{n}")
    return x


def euler_maruyama(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Sample by :func:`sample` with :class:`EulerMaruyama`."""
    return sample(score, x, grid, "euler_maruyama", generator, noise, progress)


def exponential_integrator(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Sample by :func:`sample` with :class:`ExponentialIntegrator`."""
    return sample(score, x, grid, "exponential_integrator", generator, noise, progress)


def heun(score: Score | Field, x: Tensor, grid: Tensor, progress: Progress | None = None) -> Tensor:
    """Sample by :func:`sample` with :class:`Heun`."""
    return sample(score, x, grid, "heun", progress=progress)


def multistep(score: Score | Field, x: Tensor, grid: Tensor, progress: Progress | None = None) -> Tensor:
    """Sample by :func:`sample` with :class:`Multistep`."""
    return sample(score, x, grid, "multistep", progress=progress)
