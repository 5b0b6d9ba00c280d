r"""The clock: how much signal and noise a law holds at each time.

Everything in driftlaw runs on the clock of the Ornstein-Uhlenbeck process :math:`dX = -\tfrac12 X\,dt + dB`:

.. math:: X_t = a_t X_0 + \sigma_t Z, \qquad a_t = e^{-t/2}, \qquad \sigma_t^2 = 1 - e^{-t}, \qquad Z \sim N(0, I).

Any variance-preserving schedule :math:`dX = -\tfrac12 \beta(u) X\,du + \sqrt{\beta(u)}\,dB`, :math:`u \in [0, 1]`, is
this process in another time: :math:`t(u) = \int_0^u \beta`, so no formula elsewhere depends on the schedule.

Reference: Karras et al., arXiv 2206.00364, eq. (5) (the rho grid, there in sigma; here in
:math:`\varsigma = \sigma_t/a_t`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from driftlaw.errors import InputError


def _tensor(t: float | Tensor) -> Tensor:
    if isinstance(t, Tensor) and t.is_floating_point():
        return t
    return torch.as_tensor(t, dtype=torch.float64)


def alpha(t: float | Tensor) -> Tensor:
    r"""Signal coefficient :math:`a_t = e^{-t/2}`.

    Args:
        t: OU time, any shape.

    Returns:
        Same shape; dtype of a floating tensor `t`, float64 otherwise.
    """
    return torch.exp(-_tensor(t) / 2)


def variance(t: float | Tensor) -> Tensor:
    r"""Noise variance :math:`\sigma_t^2 = 1 - e^{-t}`, accurate also near t = 0. Shapes as :func:`alpha`."""
    return -torch.expm1(-_tensor(t))


def sigma(t: float | Tensor) -> Tensor:
    r"""Noise standard deviation :math:`\sigma_t`. Shapes as :func:`alpha`."""
    return variance(t).sqrt()


def noise_ratio(t: float | Tensor) -> Tensor:
    r"""Noise to signal :math:`\varsigma_t = \sigma_t / a_t = \sqrt{e^t - 1}`. Shapes as :func:`alpha`."""
    return torch.expm1(_tensor(t)).sqrt()


def time_of_noise_ratio(ratio: float | Tensor) -> Tensor:
    r"""Inverse of :func:`noise_ratio`: :math:`t = \log(1 + \varsigma^2)`."""
    return torch.log1p(_tensor(ratio).square())


def sample_times(t: float | Tensor, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Float64 times, one for all samples (``[]``) or one per sample (``[n]``).

    Args:
        t: scalar, ``[]``, ``[1]`` or ``[n]``.
        n: number of samples.
        device: where the result lives.

    Raises:
        InputError: another shape, a negative time or one that is not finite.
    """
    times = torch.as_tensor(t, dtype=torch.float64, device=device)
    if times.ndim == 1 and times.shape[0] == 1:
        times = times[0]
    if times.ndim > 1 or (times.ndim == 1 and times.shape[0] != n):
        raise InputError(
            f"times of shape {list(times.shape)} do not fit {n} samples", f"give one number or a tensor of shape [{n}]"
        )
    good = torch.isfinite(times) & (times >= 0)
    if not bool(good.all()):
        raise InputError(f"time {float(times[~good].reshape(-1)[0])} is not an OU time", "times are finite and >= 0")
    return times


def expand(t: Tensor, ndim: int) -> Tensor:
    """View of ``[]`` or ``[n]`` per-sample numbers that broadcasts against ``[n, ...]`` with `ndim` axes."""
    return t.reshape(t.shape + (1,) * (ndim - 1)) if t.ndim else t


def _check_grid(T: float, t0: float, n: int, positive: bool) -> None:
    if n < 1:
        raise InputError(f"a time grid of {n} steps", "give n >= 1")
    if not (math.isfinite(T) and 0 <= t0 < T):
        raise InputError(f"a time grid from T = {T} to t0 = {t0}", "0 <= t0 < T < infinity")
    if positive and t0 == 0:
        raise InputError("this time grid cannot end at t0 = 0", "give t0 > 0 or use uniform_grid")


def _pinned(grid: Tensor, T: float, t0: float) -> Tensor:
    grid[0], grid[-1] = T, t0
    return grid


def uniform_grid(T: float, t0: float, n: int) -> Tensor:
    """``n + 1`` float64 times from `T` down to `t0`, equal steps.

    Raises:
        InputError: unless 0 <= t0 < T and n >= 1 (all grids).
    """
    _check_grid(T, t0, n, positive=False)
    return torch.linspace(T, t0, n + 1, dtype=torch.float64)


def log_grid(T: float, t0: float, n: int) -> Tensor:
    """``n + 1`` times from `T` down to `t0` > 0, equal steps in log t."""
    _check_grid(T, t0, n, positive=True)
    return _pinned(torch.linspace(math.log(T), math.log(t0), n + 1, dtype=torch.float64).exp(), T, t0)


def karras_grid(T: float, t0: float, n: int, rho: float = 7.0) -> Tensor:
    r"""``n + 1`` times from `T` down to `t0` > 0, equal steps in :math:`(\sigma_t/a_t)^{1/\rho}`."""
    _check_grid(T, t0, n, positive=True)
    if not rho > 0:
        raise InputError(f"karras_grid with rho = {rho}", "rho > 0; 7 is the usual choice")
    high, low = (float(noise_ratio(t)) ** (1 / rho) for t in (T, t0))
    return _pinned(time_of_noise_ratio(torch.linspace(high, low, n + 1, dtype=torch.float64) ** rho), T, t0)
