r"""Neural denoiser: a small diffusion model trained by denoising score matching on the OU clock.

``fit`` minimises :math:`E_\rho |F - target|^2` of :mod:`driftlaw.learn.preconditioning` with AdamW, keeps an
exponential moving average of the weights, and starts from the previous generation's average when it is given one. The
generator's law is that of the probability-flow solution from N(0, I) at T down to t0: a law at t0, so its
early-stopping blur is part of the innovation (theory section 4.1). With ``solver="ddpm"`` it is that of the ancestral
chain of :mod:`driftlaw.process.ddpm`; ``noise="ddpm"`` trains at the levels of that chain, with its loss.

**Held-out rows and the recursion.** Held-out loss is recorded always, but ``patience > 0`` also selects the weights by
it. Held-out rows are real, so selection lets the target into a generation to which the policy may have denied it; in a
collapsing recursion it stops training early and hides the collapse. The default is no selection. ``validation > 0``
selects by rows set apart from the training set instead, which follow q: the policy is then respected.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import processes
from driftlaw.learn.config import describe, validate
from driftlaw.learn.denoiser_generator import DenoiserGenerator
from driftlaw.learn.engine import Accelerated, Engine, Plain, check_device
from driftlaw.learn.epsilon import EpsilonNetwork, Timestepped, unet2d
from driftlaw.learn.estimator import FitContext
from driftlaw.learn.nets import MLP, UNet, initialise
from driftlaw.learn.preconditioning import NoiseLaw, root_mean_square
from driftlaw.learn.rows import check_rows, check_shape
from driftlaw.learn.training import Finished, Training, fingerprint
from driftlaw.process.ddpm import betas, chain_times

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
#: Horizon of a learner that is not told one.
DEFAULT_T0, DEFAULT_T = 1e-3, 6.0


@dataclass(frozen=True)
class Denoiser:
    """Denoising score matching with a small network.

    Args:
        net: "mlp", "unet", "diffusers-unet" (UNet2DModel of the extra driftlaw[diffusers]), or "auto": U-Net for images
            of more than 256 numbers, MLP otherwise.
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
        noise: law of noise levels, which is also the loss weighting: "energy", "loguniform", "lognormal", or "ddpm"
            (the levels of the chain below, error of the noise prediction).
        t0, T: horizon on the OU clock. Left at their defaults, a chain's first and last time replace them.
        solver: "heun" or "multistep" probability-flow solver, or "ddpm", the ancestral sampler of the chain below.
        solver_steps: steps of the solver ("heun" evaluates the network twice per step; "ddpm" takes every so many
            levels of the chain, all of them with ``solver_steps = diffusion_steps``).
        sample_batch: rows sampled at once; with the generator given, it does not change which noise a row gets.
        compile: torch.compile the training step; "auto" does on CUDA for fits of 2000 steps or more.
        channels_last: memory format of U-Net weights; "auto" means yes, but not for a diffusers-unet.
        groups: groups of the U-Net's normalisations.
        unet: settings of a diffusers-unet (``UNet2DModel``) that replace width, blocks, multipliers, attention, groups.
        prediction: what the network predicts: "edm" (the preconditioned target of
            :mod:`driftlaw.learn.preconditioning`), or "epsilon", "sample" or "v_prediction" at the levels of the chain.
        diffusion_steps: levels of the chain ("ddpm" noise or solver, and all predictions but "edm").
        beta_schedule: of the chain: "linear", "scaled-linear" or "cosine".
        beta_start, beta_end: of the chain.
        spread: variance of an ancestral step, "small" (posterior) or "large" (beta).
        clip: bound on the denoised prediction while sampling, in the units of the rows; None for no bound.
        epochs: passes through the training set of a fit from scratch, instead of `steps`.
        warm_epochs: the same for a fit that starts from the previous generation, instead of `warm_steps`.
        validation: fraction of the training rows set apart to watch, and to select by when there is patience.
        beta2: AdamW's decay of squared gradients (beta1 is 0.9).
        engine: "torch", or "accelerate" (extra driftlaw[diffusers]) for `precision` and `processes`.
        precision: of the forward pass in training: "float32" or "bfloat16"; everything else is float32.
        processes: processes that share each batch, one per GPU on CUDA.

    Example:
        >>> config = Denoiser(width=32, steps=20, batch=16)
        >>> g = torch.Generator().manual_seed(0)
        >>> model = config.fit(torch.randn(64, 2, generator=g), FitContext(seed=1))
        >>> model.sample(5, g).shape
        torch.Size([5, 2])
    """

    net: Literal["auto", "mlp", "unet", "diffusers-unet"] = "auto"
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
    noise: Literal["energy", "loguniform", "lognormal", "ddpm"] = "lognormal"
    t0: Positive = DEFAULT_T0
    T: Positive = DEFAULT_T
    solver: Literal["heun", "multistep", "ddpm"] = "heun"
    solver_steps: Count = 20
    sample_batch: Count = 512
    compile: bool | Literal["auto"] = False
    channels_last: bool | Literal["auto"] = "auto"
    groups: Count = 8
    unet: dict[str, Any] | None = None
    prediction: Literal["edm", "epsilon", "sample", "v_prediction"] = "edm"
    diffusion_steps: Count = 1000
    beta_schedule: Literal["linear", "scaled-linear", "cosine"] = "linear"
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    spread: Literal["small", "large"] = "small"
    clip: Positive | None = None
    epochs: Count | None = None
    warm_epochs: Count | None = None
    validation: Rate = 0.0
    beta2: Rate = 0.99
    engine: Literal["torch", "accelerate"] = "torch"
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: Count = 1

    def __post_init__(self) -> None:
        validate(self)
        if "ddpm" in (self.noise, self.solver) or self.prediction != "edm":
            self._fit_horizon()
        if self.unet is not None and self.net != "diffusers-unet":
            raise ConfigError(f"Denoiser: unet is given and net is {self.net!r}", "set net: diffusers-unet")
        if self.engine == "torch" and (self.precision != "float32" or self.processes > 1):
            raise ConfigError(
                f"Denoiser: precision = {self.precision!r} with {self.processes} processes and engine 'torch'",
                "set engine: accelerate",
            )
        if self.batch % self.processes:
            raise ConfigError(
                f"Denoiser: batch = {self.batch} cannot be shared by {self.processes} processes",
                "take a batch that the number of processes divides",
            )
        if self.t0 >= self.T:
            raise ConfigError(f"Denoiser: t0 = {self.t0} is not below T = {self.T}", "set t0 < T")
        if not self.multipliers:
            raise ConfigError("Denoiser: multipliers is empty", "give one multiplier per U-Net level")

    def _fit_horizon(self) -> None:
        """Take the chain's own horizon for the default one; refuse one that the chain leaves."""
        levels = self.levels()
        first, last = float(levels[0]), float(levels[-1])
        if last < 3:
            raise ConfigError(
                f"Denoiser: the noise chain ends with signal left, alpha_bar = {math.exp(-last):.3g}, but samples "
                "start from N(0, I)",
                "raise diffusion_steps or beta_end",
            )
        if (self.t0, self.T) == (DEFAULT_T0, DEFAULT_T):
            object.__setattr__(self, "t0", first)
            object.__setattr__(self, "T", last)
        inside = first * (1 - 1e-6) <= self.t0 and last * (1 + 1e-6) >= self.T
        covered = self.t0 <= first * (1 + 1e-6) and last * (1 - 1e-6) <= self.T
        if self.prediction != "edm" and not inside:
            raise ConfigError(
                f"Denoiser: times from {self.t0:g} to {self.T:g} leave the noise chain, {first:.6g} to {last:.6g}",
                "drop t0 and T, which then are the chain's",
            )
        if self.solver == "ddpm" and not covered:
            raise ConfigError(
                f"Denoiser: the noise chain, {first:.6g} to {last:.6g}, leaves the trained times {self.t0:g} to "
                f"{self.T:g}",
                "drop t0 and T, which then are the chain's",
            )
        if self.solver == "ddpm" and self.solver_steps > self.diffusion_steps:
            raise ConfigError(
                f"Denoiser: {self.solver_steps} ancestral steps through a chain of {self.diffusion_steps} levels",
                "set solver_steps <= diffusion_steps",
            )

    def levels(self) -> Tensor:
        """OU times of the chain's levels, float64 ``[diffusion_steps]``."""
        return chain_times(betas(self.beta_schedule, self.diffusion_steps, self.beta_start, self.beta_end))

    def fit_steps(self, rows: int, warm: bool) -> int:
        """Optimisation steps of a fit on `rows` rows."""
        epochs = self.warm_epochs if warm else self.epochs
        if epochs is None:
            return self.warm_steps if warm else self.steps
        return math.ceil(epochs * (rows - round(self.validation * rows)) / self.batch)

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
        if kind in ("unet", "diffusers-unet") and len(shape) != 3:
            raise InputError(f"a U-Net cannot learn rows of shape {list(shape)}", "use net='mlp' for vectors")
        with torch.device("meta"):  # so that no constructor draws from the global random state
            net: nn.Module
            if kind == "mlp":
                net = MLP(shape, self.width or 256, self.blocks or 3, self.dropout)
            elif kind == "unet":
                width, blocks = self.width or 16, self.blocks or 1
                net = UNet(shape, width, self.multipliers, blocks, self.dropout, self.attention, self.groups)
            else:  # diffusers' sinusoids of the time are made for 0 to 1000
                net = Timestepped(unet2d(shape, self._unet()), 1.0 if self.prediction != "edm" else 100.0)
        net = net.to_empty(device="cpu")
        if kind != "mlp" and (self.channels_last is True or (self.channels_last == "auto" and kind == "unet")):
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if generator is not None:
            initialise(net, generator)
        return net if self.prediction == "edm" else EpsilonNetwork(net, self.levels(), self.prediction)

    def _unet(self) -> dict[str, Any]:
        """Settings of UNet2DModel."""
        if self.unet is not None:
            return self.unet
        width, deep = self.width or 32, len(self.multipliers) - 1
        kinds = [*["Block2D"] * deep, "AttnBlock2D" if self.attention else "Block2D"]
        down = [k.replace("Block", "DownBlock") for k in kinds]
        return {
            "block_out_channels": [width * m for m in self.multipliers],
            "down_block_types": [k.replace("AttnBlock", "AttnDownBlock") for k in down],
            "up_block_types": [k.replace("Down", "Up") for k in reversed(down)],
            "layers_per_block": self.blocks or 1,
            "norm_num_groups": math.gcd(self.groups, width),
            "dropout": self.dropout,
            "add_attention": self.attention,
        }

    def check(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        """Find out, before anything is written, whether rows of `shape` can be learned here.

        Raises:
            InputError: a network that does not fit the rows, or an absent device.
            ConfigError: a package that is not installed, or settings that it refuses.
        """
        check_device(device)
        self.network(shape)
        if self.engine == "accelerate":
            Accelerated(device, self.precision)

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
        train, apart = self._split(data, context.seed)
        if warm is None:
            sigma_data = root_mean_square(train) if self.prediction == "edm" else 1.0
        else:
            sigma_data = float(warm["sigma_data"])
            net.load_state_dict({k.removeprefix("net."): v for k, v in warm.items() if k.startswith("net.")})
        law = NoiseLaw(self.noise, self.t0, self.T, sigma_data, levels=self.levels() if self.noise == "ddpm" else None)
        steps = self.fit_steps(len(data), warm is not None)
        identity = fingerprint(self.config(), data, warm, context)
        if self.processes > 1 and processes.WORKER not in os.environ:
            context = replace(context, checkpoint=Finished(processes.fit(self, data, context)))
            engine: Engine = Plain(context.device)
        else:
            engine = Plain(context.device) if self.engine == "torch" else Accelerated(context.device, self.precision)
        training = Training(self, net.to(engine.device), train, law, steps, context, identity, engine, apart)
        training.run()
        return DenoiserGenerator(self, training.average, sigma_data, shape, training.summary())

    def _split(self, data: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
        """Rows to train on, and those set apart."""
        count = round(self.validation * len(data))
        if self.validation == 0:
            return data, None
        if not 1 <= count <= len(data) - 2:
            raise InputError(
                f"validation = {self.validation} sets {count} of {len(data)} rows apart",
                "leave at least 2 rows to train on",
            )
        order = torch.from_numpy(seeding.numpy_generator(seed, "validation").permutation(len(data)).astype(np.int64))
        return data[order[count:].sort().values], data[order[:count]]

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
