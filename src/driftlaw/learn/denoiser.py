r"""Neural denoiser: a small diffusion model trained by denoising score matching on the OU clock.

``fit`` minimises :math:`E_\rho |F - target|^2` of :mod:`driftlaw.learn.preconditioning` with AdamW, keeps an
exponential moving average of the weights, and starts from the previous generation's average when it is given one. The
generator's law is that of the probability-flow solution from N(0, I) at T down to t0: a law at t0, so its
early-stopping blur is part of the innovation (theory section 4.1).

**Held-out rows and the recursion.** Held-out loss is recorded always, but ``patience > 0`` also selects the weights by
it. Held-out rows are real, so selection lets the target into a generation to which the policy may have denied it; in a
collapsing recursion it stops training early and hides the collapse. The default is no selection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.config import describe, validate
from driftlaw.learn.estimator import FitContext
from driftlaw.learn.nets import MLP, UNet, initialise
from driftlaw.learn.preconditioning import NoiseLaw, denoised, learned_score, root_mean_square
from driftlaw.learn.rows import check_rows, check_shape
from driftlaw.learn.training import Training, fingerprint
from driftlaw.process.sampler import sample
from driftlaw.process.schedule import karras_grid
from driftlaw.process.score import Time

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Denoiser:
    """Denoising score matching with a small network.

    Args:
        net: "mlp", "unet", or "auto": U-Net for images of more than 256 numbers, MLP otherwise.
        width: hidden width of the MLP or channels of the U-Net's first level; None means 256 or 16.
        blocks: residual blocks (MLP: in all, None means 3; U-Net: per level and direction, None means 1).
        multipliers: U-Net channels per level over `width`.
        attention: U-Net self-attention at the lowest level.
        dropout: rate inside the residual blocks.
        steps: optimisation steps of a fit from scratch.
        warm_steps: optimisation steps of a fit that starts from the previous generation.
        batch: rows per step.
        lr: peak learning rate.
        weight_decay: AdamW's decoupled weight decay.
        ema: limit of the moving average's decay.
        schedule: learning rate after warm-up, "cosine" to 0 or "constant".
        warmup: steps of linear warm-up.
        holdout_every: steps between two held-out losses.
        patience: stop after this many held-out losses without improvement and keep the best weights; 0 never stops
            or selects (see the module's page for why this is the default).
        checkpoint_every: steps between two checkpoints; 0 saves only the finished fit.
        noise: law of noise levels, which is also the loss weighting: "energy", "loguniform" or "lognormal".
        t0, T: horizon on the OU clock.
        solver: "heun" or "multistep" probability-flow solver.
        solver_steps: steps of the solver ("heun" evaluates the network twice per step).
        sample_batch: rows sampled at once; with the generator given, it does not change which noise a row gets.
        compile: torch.compile the training step; "auto" does on CUDA for fits of 2000 steps or more.
        channels_last: memory format of U-Net weights; "auto" means yes.

    Example:
        >>> config = Denoiser(width=32, steps=20, batch=16)
        >>> g = torch.Generator().manual_seed(0)
        >>> model = config.fit(torch.randn(64, 2, generator=g), FitContext(seed=1))
        >>> model.sample(5, g).shape
        torch.Size([5, 2])
    """

    net: Literal["auto", "mlp", "unet"] = "auto"
    width: Count | None = None
    blocks: Count | None = None
    multipliers: tuple[Count, ...] = field(default=(1, 2, 4))
    attention: bool = False
    dropout: Rate = 0.0
    steps: Count = 3000
    warm_steps: Count = 2000
    batch: Count = 128
    lr: Positive = 2e-3
    weight_decay: Number = 0.01
    ema: Rate = 0.999
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 100
    holdout_every: Count = 250
    patience: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Annotated[int, Field(ge=0)] = 500
    noise: Literal["energy", "loguniform", "lognormal"] = "lognormal"
    t0: Positive = 1e-3
    T: Positive = 6.0
    solver: Literal["heun", "multistep"] = "heun"
    solver_steps: Count = 20
    sample_batch: Count = 512
    compile: bool | Literal["auto"] = False
    channels_last: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        validate(self)
        if self.t0 >= self.T:
            raise ConfigError(f"Denoiser: t0 = {self.t0} is not below T = {self.T}", "set t0 < T")
        if not self.multipliers:
            raise ConfigError("Denoiser: multipliers is empty", "give one multiplier per U-Net level")

    def compiles(self, device: str) -> bool:
        """Whether training on `device` is compiled."""
        if self.compile == "auto":
            return device != "cpu" and min(self.steps, self.warm_steps) >= 2000
        return self.compile

    def network(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> nn.Module:
        """The network for rows of `shape`, initialised from `generator` (left uninitialised without one)."""
        kind = self.net
        if kind == "auto":
            kind = "unet" if len(shape) == 3 and math.prod(shape) > 256 else "mlp"
        if kind == "unet" and len(shape) != 3:
            raise InputError(f"a U-Net cannot learn rows of shape {list(shape)}", "use net='mlp' for vectors")
        with torch.device("meta"):  # so that no constructor draws from the global random state
            net: nn.Module
            if kind == "mlp":
                net = MLP(shape, self.width or 256, self.blocks or 3, self.dropout)
            else:
                width, blocks = self.width or 16, self.blocks or 1
                net = UNet(shape, width, self.multipliers, blocks, self.dropout, self.attention)
        net = net.to_empty(device="cpu")
        if kind == "unet" and self.channels_last is not False:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if generator is not None:
            initialise(net, generator)
        return net

    def fit(self, data: Tensor, context: FitContext) -> DenoiserGenerator:
        """Learn the score of the rows.

        Args:
            data: ``[n, d]`` or ``[n, c, h, w]``, n >= 2.
            context: seed, held-out rows, warm start, checkpoint, progress, device.

        Raises:
            InputError: unusable rows, an absent device, a warm start or checkpoint of another fit, or divergence.
        """
        data = check_rows(data)
        shape = tuple(data.shape[1:])
        if context.held_out is not None:
            check_shape(check_rows(context.held_out, "held-out set", minimum=1), shape, "the held-out set")
        check_device(context.device)
        net = self.network(shape, seeding.generator(context.seed, "initialise"))
        warm = self._warm_state(net, context, shape)
        if warm is None:
            sigma_data, steps = root_mean_square(data), self.steps
        else:
            sigma_data, steps = float(warm["sigma_data"]), self.warm_steps
            net.load_state_dict({k.removeprefix("net."): v for k, v in warm.items() if k.startswith("net.")})
        law = NoiseLaw(self.noise, self.t0, self.T, sigma_data)
        identity = fingerprint(self.config(), data, warm, context)
        training = Training(self, net.to(context.device), data, law, steps, context, identity)
        training.run()
        return DenoiserGenerator(self, training.average, sigma_data, shape, training.summary())

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> DenoiserGenerator:
        """Inverse of :meth:`DenoiserGenerator.state` for rows of `shape`.

        Raises:
            InputError: the state is not one of this configuration.
        """
        net = self.network(shape)
        weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        expected = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        if {k: tuple(v.shape) for k, v in weights.items()} != expected or "sigma_data" not in state:
            raise InputError(
                f"the weights do not fit {type(self).__name__} for rows of shape {list(shape)}",
                "load them with the configuration they were trained with",
            )
        net.load_state_dict(weights)
        return DenoiserGenerator(self, net.eval().requires_grad_(False), float(state["sigma_data"]), shape, {})

    def config(self) -> dict[str, Any]:
        """Mapping with ``kind: denoiser``."""
        return describe("denoiser", self)

    def _warm_state(self, net: nn.Module, context: FitContext, shape: tuple[int, ...]) -> dict[str, Tensor] | None:
        if context.warm_start is None:
            return None
        state = context.warm_start.state()
        theirs = {k.removeprefix("net."): tuple(v.shape) for k, v in state.items() if k.startswith("net.")}
        if theirs != {k: tuple(v.shape) for k, v in net.state_dict().items()} or "sigma_data" not in state:
            raise InputError(
                f"the warm start ({type(context.warm_start).__name__}) is not this network for rows of {list(shape)}",
                "start from a generator of the same configuration, or from none",
            )
        return state


class DenoiserGenerator:
    """A trained denoiser: the law at t0 of its probability flow, and its score.

    Attributes:
        training: numbers of the fit (steps, best_step, train_loss, held_out_loss in all and by bins of time); empty
            for loaded weights. Losses are mean squared errors of a unit-variance target.
    """

    def __init__(
        self, config: Denoiser, net: nn.Module, sigma_data: float, shape: tuple[int, ...], training: Mapping[str, float]
    ) -> None:
        self.config, self.net, self.sigma_data, self.shape = config, net, sigma_data, shape
        self.training = dict(training)

    @property
    def t0(self) -> float:
        """OU time of the sampled law."""
        return self.config.t0

    def to(self, device: str) -> DenoiserGenerator:
        """The same generator on another device."""
        check_device(device)
        return DenoiserGenerator(self.config, self.net.to(device), self.sigma_data, self.shape, self.training)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws of the learned law at t0, ``[n, ...]`` float32 on the CPU.

        Bias: the solver's, O(steps^-2), and KL(N(0, I) || q_T) <= e^-T E|x|^2 / 2 nats from the starting law.

        Raises:
            InputError: n < 1, or samples that are not finite.
        """
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        device = next(self.net.parameters()).device
        start = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        grid = karras_grid(self.config.T, self.config.t0, self.config.solver_steps)
        chunks: list[Tensor] = []
        for x in torch.split(start, self.config.sample_batch):
            try:
                with torch.no_grad():
                    chunks.append(sample(self, x.to(device), grid, self.config.solver).cpu())
            except InputError as error:
                raise InputError(
                    f"sampling from the denoiser failed in the {len(chunks) + 1}. batch: {error.what}",
                    "train longer or with a lower lr, or raise solver_steps",
                ) from error
        return torch.cat(chunks)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Learned score at OU time t in (0, T], shape and dtype of `x` (evaluated in float32, differentiable)."""
        check_shape(x, self.shape, "the score's argument")
        return learned_score(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def denoised(self, x: Tensor, t: Time) -> Tensor:
        """Learned posterior mean of x_0 given x_t = x."""
        check_shape(x, self.shape, "the denoiser's argument")
        return denoised(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def state(self) -> dict[str, Tensor]:
        """Averaged weights and sigma_data."""
        weights = {
            f"net.{k}": v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in self.net.state_dict().items()
        }
        return {**weights, "sigma_data": torch.tensor(self.sigma_data, dtype=torch.float64)}


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: an unknown name, or CUDA without a usable GPU.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(f"unknown device {device!r}", "use 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device 'cuda' was asked but PyTorch finds no GPU", "use device='cpu' or a CUDA build of PyTorch"
        )
