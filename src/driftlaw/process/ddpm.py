r"""DDPM: the discrete noise chain on the OU clock, and its ancestral sampler for any Score.

The chain :math:`x_k = \sqrt{1-\beta_k}\,x_{k-1} + \sqrt{\beta_k}\,z_k`, k = 1..K, has
:math:`x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1-\bar\alpha_k}\,z` with :math:`\bar\alpha_k = \prod_{j \le k}
(1-\beta_j)`. So it is the OU process at the times

.. math:: t_k = -\log \bar\alpha_k = -\sum_{j \le k} \log(1-\beta_j), \qquad t_0 = 0,

exactly, and a network trained at level k is a score at :math:`t_k`: :math:`s = -\hat\varepsilon/\sqrt{1-\bar\alpha_k}`.
Ancestral sampling (Ho, Jain, Abbeel, arXiv 2006.11239, algorithm 2) from t down to s, with
:math:`\beta = 1 - e^{-(t-s)}`, is

.. math:: x \leftarrow \frac{x + \beta\, s_t(x)}{\sqrt{1-\beta}} + \sqrt{w}\, z, \qquad
    w = \tilde\beta = \frac{1-e^{-s}}{1-e^{-t}}\,\beta\ \text{(small)} \ \text{ or }\ w = \beta\ \text{(large)},

without noise in the last step, to s = 0, which is the denoised mean :math:`\hat x_0`. With the exact score "small" has
the right marginals for a point mass and "large" for N(0, I) (their section 3.2); in between both are off by O(beta).
Fewer steps than levels use every so many levels (Nichol and Dhariwal, arXiv 2102.09672, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.process.sampler import Ancestral, Noise, sample
from driftlaw.process.score import Field, Score
from driftlaw.progress import Progress

#: Names of the beta schedules of :func:`betas`.
SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid")


def betas(schedule: str = "linear", steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    r"""Noise variances :math:`\beta_1..\beta_K` of a chain, float64 ``[steps]``.

    Args:
        schedule: "linear" from `start` to `end` (Ho et al.), "scaled-linear" (linear in the square root), "sigmoid"
            (a sigmoid of -6..6 between them), or "cosine" (Nichol and Dhariwal, eq. (17), offset 0.008, at most
            0.999; `start` and `end` are not used).
        steps: K.
        start: first beta.
        end: last beta.

    Raises:
        InputError: an unknown schedule, or betas outside (0, 1).
    """
    if schedule not in SCHEDULES:
        raise InputError(f"unknown beta schedule {schedule!r}", nearest(schedule, SCHEDULES))
    if steps < 1 or not 0 < start <= end < 1:
        raise InputError(
            f"a chain of {steps} steps with beta from {start} to {end}",
            "give steps >= 1 and 0 < beta_start <= beta_end < 1",
        )
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if schedule == "scaled-linear":
        return torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64).square()
    if schedule == "sigmoid":
        return torch.sigmoid(torch.linspace(-6, 6, steps, dtype=torch.float64)) * (end - start) + start
    signal = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)


def chain_times(beta: Tensor | Sequence[float]) -> Tensor:
    r"""OU times :math:`t_1 < ... < t_K` of a chain's levels, float64 ``[K]``.

    Raises:
        InputError: betas that are not a vector in (0, 1).
    """
    b = torch.as_tensor(beta, dtype=torch.float64)
    if b.ndim != 1 or not len(b) or not bool(((b > 0) & (b < 1)).all()):
        raise InputError("the betas of a noise chain are not numbers in (0, 1)", "check its schedule")
    return -torch.log1p(-b).cumsum(0)


def chain_grid(times: Tensor, n: int) -> Tensor:
    """Descending OU times ``[n + 1]`` through `n` evenly spaced levels, the last level K first, then 0.

    Args:
        times: of the levels, :func:`chain_times`.
        n: steps, 1..K.

    Raises:
        InputError: more steps than levels.
    """
    if not 1 <= n <= len(times):
        raise InputError(f"{n} ancestral steps through a chain of {len(times)} levels", "take at most one per level")
    levels = torch.linspace(len(times), 0, n + 1, dtype=torch.float64).round().long()
    return torch.cat([times.new_zeros(1), times])[levels]


def level_at(times: Tensor, t: Tensor) -> Tensor:
    """Level of the chain at OU time t as a number in [0, K - 1], the way networks count them; linear between levels.

    Args:
        times: of the levels, :func:`chain_times`.
        t: any shape, from times[0] to times[-1] (1e-5 relative beyond is rounding).

    Raises:
        InputError: a time outside the chain.
    """
    grid = times.to(t.device)
    first, last = float(grid[0]), float(grid[-1])
    outside = (t < first * (1 - 1e-5)) | (t > last * (1 + 1e-5))
    if bool(outside.any()):
        raise InputError(
            f"time {float(t[outside].reshape(-1)[0]):.6g} lies outside the noise chain, {first:.6g} to {last:.6g}",
            "a model of discrete levels has a score at their times only: choose t0 and T inside",
        )
    if len(grid) == 1:
        return torch.zeros_like(t, dtype=torch.float64)
    t = t.double().clamp(first, last)
    above = torch.searchsorted(grid, t).clamp(1, len(grid) - 1)
    low, high = grid[above - 1], grid[above]
    return above - 1 + (t - low) / (high - low)


def ancestral(
    score: Score | Field,
    x: Tensor,
    grid: Tensor,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    progress: Progress | None = None,
    spread: Literal["small", "large"] = "small",
) -> Tensor:
    """Ancestral steps down any grid of OU times (:func:`chain_grid` for the chain's own).

    Arguments, returns and errors as :func:`~driftlaw.process.sampler.sample`, with the variance w of a step, "small" or
    "large", as `spread`.
    """
    return sample(score, x, grid, Ancestral(spread), generator, noise, progress)
