r"""Straight paths from noise to data (flow matching, rectified flow), read on the OU clock.

A straight path is :math:`x_s = (1-s) z + s x_0`, :math:`s \in [0, 1]`, with velocity :math:`v_s(x) = E[x_0 - z \mid
x_s = x]`. It has the noise ratio :math:`(1-s)/s`, so it is the OU process in another scale and another time
(docs/derivations.md section 11):

.. math:: s = \frac{a_t}{a_t + \sigma_t}, \qquad x_s = \frac{X_t}{a_t + \sigma_t}, \qquad
          \nabla \log q_t(X_t) = \frac{a_t v_s - X_t}{\sigma_t (a_t + \sigma_t)},

and :math:`v_s = (X_t + \sigma_t (a_t + \sigma_t) \nabla \log q_t) / a_t`. So every velocity is a score and every score
a velocity: :class:`FlowScore` and :func:`velocity`. Euler's step along a straight path is Euler's step of the
probability flow in :math:`y = x/a`, :math:`\varsigma = \sigma/a` (and DDIM's); their trapezoids differ.

References: Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.sampler import Solver
from driftlaw.process.schedule import alpha, expand, noise_ratio, sample_times, sigma, time_of_noise_ratio
from driftlaw.process.score import Field, FieldScore, Score, Time, as_score


def flow_time(t: float | Tensor) -> Tensor:
    """Flow time s in [0, 1] of OU time t >= 0: s = a / (a + sigma), 1 at the data. Shapes as :func:`alpha`."""
    return 1 / (1 + noise_ratio(t))


def time_of_flow(s: float | Tensor) -> Tensor:
    """OU time of flow time s in (0, 1]; inverse of :func:`flow_time`.

    Raises:
        InputError: s outside; s = 0 is pure noise, which the OU process reaches at no finite time.
    """
    s = s if isinstance(s, Tensor) and s.is_floating_point() else torch.as_tensor(s, dtype=torch.float64)
    if not bool(((s > 0) & (s <= 1)).all()):
        raise InputError("a flow time is not in (0, 1]", "0 is the noise, at no finite OU time; 1 is the data")
    return time_of_noise_ratio((1 - s) / s)


def flow_grid(T: float, t0: float, n: int) -> Tensor:
    """``n + 1`` OU times from T down to t0 >= 0 at equal steps of flow time, float64.

    Raises:
        InputError: not 0 <= t0 < T, or n < 1.
    """
    if n < 1 or not 0 <= t0 < T < float("inf"):
        raise InputError(f"a grid of {n} steps from T = {T} to t0 = {t0}", "0 <= t0 < T < infinity and n >= 1")
    low, high = (float(flow_time(t)) for t in (T, t0))
    grid = time_of_flow(torch.linspace(low, high, n + 1, dtype=torch.float64).clamp(max=1.0))
    grid[0], grid[-1] = T, t0
    return grid


def _coefficients(x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """a_t and sigma_t in the dtype of `x`, ready to broadcast against it."""
    times = sample_times(t, len(x), x.device)
    return expand(alpha(times), x.ndim).to(x.dtype), expand(sigma(times), x.ndim).to(x.dtype)


def score_from_velocity(v: Tensor, x: Tensor, t: Time) -> Tensor:
    """Score (a v - x) / (sigma (a + sigma)) on the OU clock.

    Args:
        v: velocity at the point ``x / (a + sigma)`` of the straight path, ``[n, ...]``.
        x: points on the OU clock, ``[n, ...]``.
        t: OU time, scalar or ``[n]``, > 0.

    Raises:
        InputError: t = 0, where a velocity says nothing about the score.
    """
    a, sd = _coefficients(x, t)
    if bool((sd == 0).any()):
        raise InputError("a velocity says nothing about the score at t = 0", "give t > 0")
    return (a * v - x) / (sd * (a + sd))


def velocity_from_score(score: Tensor, x: Tensor, t: Time) -> Tensor:
    """Velocity (x + sigma (a + sigma) score) / a; arguments as :func:`score_from_velocity`, t = 0 allowed (v = x)."""
    a, sd = _coefficients(x, t)
    return (x + sd * (a + sd) * score) / a


def velocity(score: Score | Field, x: Tensor, s: Time) -> Tensor:
    """The velocity of any score, at points and time of the straight path.

    Args:
        score: on the OU clock.
        x: points x_s, ``[n, ...]``.
        s: flow time in (0, 1], scalar or ``[n]``.

    Example:
        >>> from driftlaw.process.laws.mixture import GaussianMixture
        >>> law = GaussianMixture([1.0], [[2.0]], 1.0)  # x_0 ~ N(2, 1): v = 2 at x = E x_s = 1, s = 1/2
        >>> velocity(law, torch.tensor([[1.0]], dtype=torch.float64), 0.5)
        tensor([[2.]], dtype=torch.float64)
    """
    t = time_of_flow(s)
    a, sd = _coefficients(x, t)
    here = x * (a + sd)
    return velocity_from_score(as_score(score).score(here, t), here, t)


class FlowScore:
    """A velocity field ``v(x_s, s)`` as a Score on the OU clock.

    Args:
        field: callable ``(x [n, ...], s [] or [n]) -> tensor`` on the straight path, s = 1 at the data.

    Example:
        >>> drift = FlowScore(lambda x, s: (2 * s - 1) / (s**2 + (1 - s) ** 2) * x)  # N(0, 1) stays
        >>> drift.score(torch.tensor([[0.5]], dtype=torch.float64), 1.0)
        tensor([[-0.5000]], dtype=torch.float64)
    """

    def __init__(self, field: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.field = field
        self._checked = FieldScore(field)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The score that the velocity implies, t > 0.

        Raises:
            InputError: t = 0, or a velocity of another shape than its points.
        """
        a, sd = _coefficients(x, t)
        s = flow_time(sample_times(t, len(x), x.device))
        return score_from_velocity(self._checked.score(x / (a + sd), s), x, t)


@dataclass(frozen=True)
class Straight(Solver):
    """One step along the straight path: Euler (order 1, one score), or Heun's trapezoid in s (order 2, two scores).

    Args:
        order: 1 or 2; a last step to t = 0 is an Euler step.
    """

    order: int = 1

    def step(
        self, score: Score, x: Tensor, t: float, s: float, noise: Callable[[], Tensor], memory: Any
    ) -> tuple[Tensor, Any]:
        """Deterministic; t and s are OU times."""
        before, after = (float(alpha(u) + sigma(u)) for u in (t, s))
        h = float(flow_time(s) - flow_time(t))
        first = velocity_from_score(score.score(x, t), x, t)
        end = (x / before + h * first) * after
        if self.order == 2 and s > 0:
            second = velocity_from_score(score.score(end, s), end, s)
            end = (x / before + h / 2 * (first + second)) * after
        return end, None
