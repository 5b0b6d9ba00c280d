r"""Conditional flow matching on straight paths :math:`x_s = (1-s) z + s x_0`.

``fit`` minimises :math:`E |\hat v(x_s, s) - (x_0 - z)|^2`, s uniform or logit-normal, with the networks, the training
loop, the checkpoints and the chunked sampling of :mod:`driftlaw.learn.denoiser`. Its model is a Score on the OU clock
(:mod:`driftlaw.process.flow`), so path measures, bounds and critics apply to it as to a denoiser.

**What they say of which sampler.** Path energies bound the law of the reverse diffusion, ``solver="sde"``. A flow is
usually sampled by its ODE (``solver="euler"`` or ``"heun"``), and for the ODE's law

.. math:: KL(\hat p\|q)_{t_0} = KL_T + \tfrac12 \int_{t_0}^T E_{\hat p_t}[e_t \cdot \nabla \log(\hat p_t/q_t)]\,dt,
          \qquad e = \hat s - s,

which holds :math:`\hat p_t`'s own score: it is not bounded by the size of e alone (docs/derivations.md section 11).

Reference: Lipman et al., arXiv 2210.02747.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from driftlaw.config import validate
from driftlaw.learn.denoiser.config import Chain, Count, DenoiserConfig, Network, Optimiser, Positive
from driftlaw.learn.denoiser.epsilon import Timestepped
from driftlaw.learn.denoiser.learner import Denoiser
from driftlaw.process.flow import Straight, flow_grid, score_from_velocity
from driftlaw.process.sampler import Solver
from driftlaw.process.schedule import alpha, expand, sample_times
from driftlaw.process.schedule import sigma as noise_sd
from driftlaw.process.score import Time

#: diffusers counts the noise of a flow from 0 to this number.
LEVELS = 1000.0


@dataclass(frozen=True)
class FlowSampling:
    """How a trained flow makes rows.

    Args:
        solver: "euler" or "heun": the ODE along straight paths, equal steps of s; "multistep": the same ODE by data
            prediction; "sde": the reverse diffusion, whose law the path bounds are about.
        solver_steps: steps of the solver ("heun" evaluates the network twice per step; "sde" needs 100 or more).
        sample_batch: rows sampled at once; with the generator given, it does not change which noise a row gets.
        clip: bound on the denoised prediction while sampling, in the units of the rows; None for no bound.
    """

    solver: Literal["euler", "heun", "multistep", "sde"] = "heun"
    solver_steps: Count = 20
    sample_batch: Count = 512
    clip: Positive | None = None

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, init=False)
class FlowMatching(Denoiser):
    """Conditional flow matching with the networks and the training of a :class:`Denoiser`.

    The settings are those of :class:`~driftlaw.learn.denoiser.config.DenoiserConfig` but for the chain, and:

    Args:
        prediction: what the network predicts: "velocity", or "edm" (preconditioned, see
            :mod:`driftlaw.learn.denoiser.preconditioning`); the loss is that of the velocity either way.
        noise: law of s in training, "uniform" or "logit-normal".
        t0, T: horizon on the OU clock; s runs from 0.018 to 0.97 by default.
        sampling: see :class:`FlowSampling`.

    Example:
        >>> config = FlowMatching(width=32, steps=20, batch=16)
        >>> g = torch.Generator().manual_seed(0)
        >>> model = config.fit(torch.randn(64, 2, generator=g))
        >>> model.sample(5, g).shape, model.velocity(torch.zeros(1, 2), 0.5).shape
        (torch.Size([5, 2]), torch.Size([1, 2]))
    """

    kind: ClassVar[str] = "flow"
    sections: ClassVar[Mapping[str, type[Any]]] = {
        "network": Network,
        "optimiser": Optimiser,
        "sampling": FlowSampling,
    }
    chain: Chain = field(default_factory=Chain, init=False, repr=False)  # of no use to a flow
    sampling: FlowSampling = field(default_factory=FlowSampling)  # type: ignore[assignment]
    prediction: Literal["velocity", "edm"] = "edm"  # type: ignore[assignment]
    noise: Literal["uniform", "logit-normal"] = "uniform"  # type: ignore[assignment]
    T: Positive = 8.0

    def config(self) -> dict[str, Any]:
        """YAML-ready mapping of the kind and all settings; a flow has no chain."""
        return {key: value for key, value in super().config().items() if key != "chain"}

    def route(self) -> tuple[Tensor, Solver | str]:
        """OU times and solver by which rows are sampled."""
        orders = {"euler": 1, "heun": 2}
        if self.sampling.solver not in orders:
            return super().route()
        return flow_grid(self.T, self.t0, self.sampling.solver_steps), Straight(orders[self.sampling.solver])

    def _fit_horizon(self) -> None:
        """No chain bounds the horizon."""

    @property
    def _time_scale(self) -> float:
        return LEVELS if self.prediction == "velocity" else super()._time_scale

    def _adapted(self, net: nn.Module) -> nn.Module:
        return VelocityNetwork(net)


_NO_CHAIN = {"chain", "diffusion_steps", "beta_schedule", "beta_start", "beta_end", "spread"}
FlowMatching.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p for name, p in inspect.signature(DenoiserConfig).parameters.items() if name not in _NO_CHAIN]
)


class VelocityNetwork(nn.Module):
    r"""F of a network that predicts the velocity (sigma_data is 1): :math:`F = (\hat v - (a-\sigma) u)/(a+\sigma)`.

    Args:
        net: ``(x_s [n, ...], time [n] or [1]) -> [n, ...]``: :class:`Timestepped` gets the share of noise 1 - s, any
            other network lambda.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, u: Tensor, lam: Tensor) -> Tensor:
        """``[n, ...]`` on the OU clock and ``[n]`` (or ``[1]``, shared) to ``[n, ...]``."""
        square = (2 * lam.double()).exp()
        a = torch.rsqrt(1 + square)
        sd = square.sqrt() * a
        total, gap = (expand(c, u.ndim).to(u.dtype) for c in (a + sd, a - sd))
        value: Tensor = (self._velocity(u / total, lam) - gap * u) / total
        return value

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score at OU time t > 0, without the way through F."""
        times = sample_times(t, len(x), x.device).reshape(-1)
        a, sd = alpha(times), noise_sd(times)
        lam = (sd / a).log().to(x.dtype)
        return score_from_velocity(self._velocity(x / expand(a + sd, x.ndim).to(x.dtype), lam), x, t)

    def _velocity(self, x: Tensor, lam: Tensor) -> Tensor:
        time = torch.sigmoid(lam) if isinstance(self.net, Timestepped) else lam
        value: Tensor = self.net(x, time).to(x.dtype)
        return value
