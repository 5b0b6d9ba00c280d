r"""Samplers: from X_T down a time grid with any Score.

Two processes have the marginals of the forward process. With h = t - s the step from t down to s:

- reverse SDE :math:`dY = (\tfrac12 Y + s_t(Y))\,du + d\bar B` (u = -t): :func:`euler_maruyama` and
  :func:`exponential_integrator` (exact linear part, score frozen over the step); both of strong order 1;
- probability-flow ODE. In :math:`y = x/a_t` and :math:`\varsigma = \sigma_t/a_t` it reads
  :math:`dy/d\varsigma = (y - \hat x_0)/\varsigma = \hat\varepsilon`: :func:`heun` (trapezoid in varsigma, 2 scores a
  step) and :func:`multistep` (data prediction, linear in :math:`\log\varsigma`, 1 score a step); both of order 2.

A learned score that is the score of a diffused KDE or mixture needs no solver: see ``reverse_transition`` there.

References: Song et al., arXiv 2011.13456 (reverse SDE, probability flow); Karras et al., arXiv 2206.00364, algorithm 1
(Heun); Lu et al., arXiv 2211.01095, algorithm 2 (DPM-Solver++(2M)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.process.draws import normal, own_generator
from driftlaw.process.schedule import alpha, noise_ratio, sigma
from driftlaw.process.score import Field, Score, checked, denoised_from_score

#: Standard normals of step i, of the shape of x.
Noise = Callable[[int], Tensor]
#: Called as ``progress(fraction in [0, 1], short text)`` after each step.
Progress = Callable[[float, str], None]


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


def _stochastic(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    coefficients: Callable[[float], tuple[float, float, float]],
    generator: torch.Generator | None,
    noise: Noise | None,
    progress: Progress | None,
) -> Tensor:
    """Steps x <- c_x x + c_s score + c_z z with coefficients of the step size."""
    times, score = _times(x, grid), checked(score)
    generator = own_generator(generator, x.device)
    n = len(times) - 1
    for i, (t, s) in enumerate(pairwise(times)):
        keep, push, spread = coefficients(t - s)
        z = normal(tuple(x.shape), generator, x.dtype, x.device) if noise is None else noise(i)
        x = keep * x + push * score.score(x, t) + spread * z
        if progress is not None:
            progress((i + 1) / n, f"step {i + 1}/{n}")
    return x


@torch.no_grad()
def euler_maruyama(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    r"""Reverse SDE by Euler-Maruyama: :math:`x \leftarrow x + h(\tfrac12 x + s_t(x)) + \sqrt h z`.

    Args:
        score: Score or callable.
        x: points at the grid's first time, ``[n, ...]``.
        grid: descending OU times, ``[steps + 1]``.
        generator: source of the noise; None for fresh entropy.
        noise: standard normals of step i instead of the generator's (to couple Brownian paths).
        progress: called after each step.

    Returns:
        Points at the grid's last time, shape and dtype of `x`.

    Raises:
        InputError: a grid that does not descend, or a score that is NaN or infinite (all samplers).
    """
    return _stochastic(score, x, grid, lambda h: (1 + h / 2, h, math.sqrt(h)), generator, noise, progress)


@torch.no_grad()
def exponential_integrator(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    r"""Reverse SDE with the linear part exact.

    .. math:: x \leftarrow e^{h/2} x + 2 (e^{h/2} - 1) s_t(x) + \sqrt{e^h - 1}\,z

    Arguments, returns and errors as :func:`euler_maruyama`; here z is the step's normalised
    :math:`\int e^{(u_1 - u)/2} d\bar B_u`.
    """

    def coefficients(h: float) -> tuple[float, float, float]:
        return math.exp(h / 2), 2 * math.expm1(h / 2), math.sqrt(math.expm1(h))

    return _stochastic(score, x, grid, coefficients, generator, noise, progress)


@torch.no_grad()
def heun(score: Score | Field, x: Tensor, grid: Tensor, progress: Progress | None = None) -> Tensor:
    r"""Probability flow by Heun's method in (y, varsigma); a last step to t = 0 is an Euler step.

    Arguments, returns and errors as :func:`euler_maruyama`; deterministic, 2 scores a step.
    """
    times, score = _times(x, grid), checked(score)
    n = len(times) - 1
    for i, (t, s) in enumerate(pairwise(times)):
        a_t, a_s = float(alpha(t)), float(alpha(s))
        step = float(noise_ratio(s) - noise_ratio(t))
        slope = -float(sigma(t)) * score.score(x, t)
        y = x / a_t
        x = a_s * (y + step * slope)
        if s > 0:
            x = a_s * (y + step / 2 * (slope - float(sigma(s)) * score.score(x, s)))
        if progress is not None:
            progress((i + 1) / n, f"step {i + 1}/{n}")
    return x


@torch.no_grad()
def multistep(score: Score | Field, x: Tensor, grid: Tensor, progress: Progress | None = None) -> Tensor:
    r"""Probability flow by the two-step data-prediction method, for 20 steps or fewer.

    With :math:`\rho_i = \varsigma_{i+1}/\varsigma_i` and :math:`\ell_i = -\log \rho_i`,

    .. math:: y \leftarrow \rho_i y + (1 - \rho_i)
        \left(\hat x_0^i + \frac{\ell_i}{2 \ell_{i-1}} (\hat x_0^i - \hat x_0^{i-1})\right) .

    The first step, and a last step to t = 0, use :math:`\hat x_0^i` alone.

    Arguments, returns and errors as :func:`euler_maruyama`; deterministic, 1 score a step.
    """
    times, score = _times(x, grid), checked(score)
    n = len(times) - 1
    before: tuple[Tensor, float] | None = None
    for i, (t, s) in enumerate(pairwise(times)):
        denoised = denoised_from_score(score.score(x, t), x, t)
        ratio = float(noise_ratio(s) / noise_ratio(t))
        target = denoised
        if s > 0:
            length = -math.log(ratio)
            if before is not None:
                target = denoised + length / (2 * before[1]) * (denoised - before[0])
            before = denoised, length
        x = float(alpha(s)) * (ratio / float(alpha(t)) * x + (1 - ratio) * target)
        if progress is not None:
            progress((i + 1) / n, f"step {i + 1}/{n}")
    return x


_STOCHASTIC = {"euler_maruyama": euler_maruyama, "exponential_integrator": exponential_integrator}
_FLOWS = {"heun": heun, "multistep": multistep}
#: Names that :func:`sample` accepts.
METHODS: tuple[str, ...] = (*_STOCHASTIC, *_FLOWS)


def sample(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    method: str = "heun",
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Carry `x` down the grid by the named method (:data:`METHODS`).

    Arguments, returns and errors as :func:`euler_maruyama`; the flows use neither `generator` nor `noise`.

    Raises:
        InputError: an unknown method.
    """
    if method in _STOCHASTIC:
        return _STOCHASTIC[method](score, x, grid, generator, noise, progress)
    if method in _FLOWS:
        return _FLOWS[method](score, x, grid, progress)
    raise InputError(f"unknown sampling method {method!r}", nearest(method, METHODS))
