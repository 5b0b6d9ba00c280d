r"""From a network to a score: the preconditioned denoiser on the OU clock.

With :math:`x_t = a x_0 + \sigma z`, noise to signal :math:`s = \sigma/a`, :math:`\lambda = \ln s`, data of root mean
square :math:`\sigma_d` and :math:`v = a^2 \sigma_d^2 + \sigma^2`, Karras et al. (arXiv 2206.00364, table 1, EDM) put

.. math:: D(x, t) = c_{skip}\, x/a + c_{out} F(x/\sqrt v, \lambda), \qquad
          c_{skip} = \frac{a^2 \sigma_d^2}{v}, \quad c_{out} = \frac{\sigma \sigma_d}{\sqrt v}.

The learned score :math:`\hat s = (a D - x)/\sigma^2` is then, without any cancellation,

.. math:: \hat s_t(x) = -\frac{x}{v} + \frac{a \sigma_d}{\sigma \sqrt v} F(x/\sqrt v, \lambda),

and denoising score matching asks F to regress :math:`(\sigma x_0 - a \sigma_d^2 z)/(\sigma_d \sqrt v)`, a target of
unit mean square. F = 0 is the exact score of :math:`N(0, \sigma_d^2 I)`; :math:`s \to 0` gives D = x.

**Noise levels.** The loss is :math:`E_\rho |F - target|^2` over a law :math:`\rho` of :math:`\lambda`; it alone
decides what is learned well. Since :math:`dt = 2\sigma^2 d\lambda`, the path score-error energy of theory section 1 is

.. math:: \epsilon_*^2 = \int E|\hat s_t - s_t|^2 dt = \int \frac{2 \sigma_d^2}{\sigma_d^2 + s^2} E|F - F^*|^2 d\lambda,

so ``"energy"`` draws :math:`\rho \propto \sigma_d^2/(\sigma_d^2 + s^2)`: its loss is eps*^2 up to a constant factor and
the irreducible part (this project). ``"loguniform"`` is flat in lambda; ``"lognormal"`` is EDM's, truncated to [t0, T].

``"ddpm"`` draws the levels of a discrete chain with equal probability and weighs the error by
:math:`a^2 \sigma_d^2/v`, which makes it the simple loss :math:`E|\hat\varepsilon - z|^2` of Ho et al. (arXiv
2006.11239, eq. (14)), because :math:`\hat\varepsilon - z = -(a \sigma_d/\sqrt v)(F - target)`.

``"uniform"`` draws the flow time :math:`\tau = a/(a + \sigma)` of :mod:`driftlaw.process.flow` uniformly and
``"logit-normal"`` its logit from N(0, 1) (Esser et al., arXiv 2403.03206); both weigh the error by
:math:`(a + \sigma)^2 \sigma_d^2 / v`, which makes it the loss of flow matching :math:`E|\hat v - (x_0 - z)|^2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.schedule import alpha, expand, noise_ratio, sample_times, sigma, time_of_noise_ratio
from driftlaw.process.score import Time

#: A network: (unit-variance input ``[n, ...]``, log noise to signal ``[n]`` or ``[1]``) -> field of the input's shape.
Network = Callable[[Tensor, Tensor], Tensor]


def root_mean_square(data: Tensor) -> float:
    """sigma_d of the training rows, about zero (so that the network's input and target have unit mean square).

    Raises:
        InputError: all rows are zero.
    """
    value = math.sqrt(float(data.double().square().mean()))
    if value == 0.0:
        raise InputError("every training row is zero", "a denoiser needs data that vary")
    return value


def _coefficients(x: Tensor, t: Time, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    times = sample_times(t, len(x), x.device)
    if bool((times <= 0).any()):
        raise InputError("a learned score was asked at t = 0", "it exists for t > 0; use times from t0 upwards")
    lam = noise_ratio(times).log().reshape(-1).to(x.dtype)  # [1] for one time: embedded once, then broadcast
    a, s = (expand(f(times), x.ndim) for f in (alpha, sigma))
    root_v = (a.square() * sigma_data**2 + s.square()).sqrt()
    return a.to(x.dtype), s.to(x.dtype), root_v.to(x.dtype), lam


def denoised(net: Network, x: Tensor, t: Time, sigma_data: float) -> Tensor:
    """Learned posterior mean D(x, t) of x_0; shapes as :func:`learned_score`."""
    a, s, root_v, lam = _coefficients(x, t, sigma_data)
    u = x / root_v
    return (a * sigma_data**2 / root_v) * u + (s * sigma_data / root_v) * net(u, lam)


def learned_score(net: Network, x: Tensor, t: Time, sigma_data: float) -> Tensor:
    """Learned score at `x` and OU time `t`.

    Args:
        net: F.
        x: ``[n, ...]``.
        t: scalar or ``[n]``, > 0.
        sigma_data: root mean square of the training data.

    Returns:
        Field of the shape of `x`.

    Raises:
        InputError: a time that is not positive.
    """
    a, s, root_v, lam = _coefficients(x, t, sigma_data)
    u = x / root_v
    return (a * sigma_data / (s * root_v)) * net(u, lam) - u / root_v


def noised(x0: Tensor, z: Tensor, lam: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    """Network input x_t/sqrt(v) and regression target for clean rows, noise (both ``[n, ...]``) and lambda ``[n]``."""
    s = expand(lam.exp(), x0.ndim)
    scale = torch.rsqrt(s.square() + sigma_data**2)
    return (x0 + s * z) * scale, (s / sigma_data * x0 - sigma_data * z) * scale


@dataclass(frozen=True)
class NoiseLaw:
    """The law rho of lambda on [lambda(t0), lambda(T)], by its quantile function.

    Args:
        kind: "energy", "loguniform", "lognormal", "ddpm", "uniform" or "logit-normal".
        t0, T: horizon on the OU clock.
        sigma_data: root mean square of the training data.
        centre, spread: of the normal law of ln(s / sigma_data) ("lognormal" only).
        levels: OU times of the chain, ``[K]`` ("ddpm" only).
    """

    kind: Literal["energy", "loguniform", "lognormal", "ddpm", "uniform", "logit-normal"]
    t0: float
    T: float
    sigma_data: float
    centre: float = -0.5
    spread: float = 1.2
    levels: Tensor | None = None

    def quantile(self, u: Tensor) -> Tensor:
        """Lambda at probability `u` (any shape), same dtype as `u`."""
        low, high = (float(noise_ratio(t).log()) for t in (self.t0, self.T))
        p = u.double()
        if self.levels is not None:
            k = (p * len(self.levels)).long().clamp(max=len(self.levels) - 1)
            return noise_ratio(self.levels.to(p.device)).log()[k].to(u.dtype)
        if self.kind == "loguniform":
            lam = low + p * (high - low)
        elif self.kind == "uniform":
            ends = torch.sigmoid(-torch.tensor([low, high], dtype=torch.float64))
            lam = -torch.logit(torch.lerp(ends[0].to(p), ends[1].to(p), p))
        elif self.kind in ("lognormal", "logit-normal"):
            of_data = self.kind == "lognormal"
            centre, spread = (self.centre + math.log(self.sigma_data), self.spread) if of_data else (0.0, 1.0)
            ends = torch.special.ndtr(torch.tensor([low - centre, high - centre], dtype=torch.float64) / spread)
            lam = centre + spread * torch.special.ndtri(torch.lerp(ends[0].to(p), ends[1].to(p), p))
        else:
            log_sd = math.log(self.sigma_data)
            ends = -torch.nn.functional.softplus(2 * (log_sd - torch.tensor([low, high], dtype=torch.float64)))
            g = torch.lerp(ends[0].to(p), ends[1].to(p), p)
            lam = log_sd - 0.5 * torch.expm1(-g).log()
        return lam.clamp(low, high).to(u.dtype)

    def weight(self, lam: Tensor) -> Tensor | None:
        """Factor of the squared error at each lambda ``[n]``; None means 1."""
        if self.kind in ("uniform", "logit-normal"):
            ratio = lam.exp()
            return ((1 + ratio) * self.sigma_data).square() / (ratio.square() + self.sigma_data**2)
        return None if self.levels is None else torch.sigmoid(2 * (math.log(self.sigma_data) - lam))

    def time(self, u: float) -> float:
        """OU time at probability `u`."""
        lam = self.quantile(torch.tensor(u, dtype=torch.float64))
        return float(time_of_noise_ratio(lam.exp()))
