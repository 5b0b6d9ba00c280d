"""Settings of a denoiser: what they may be, and what follows from them without any network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from driftlaw.config import Described, validate
from driftlaw.errors import ConfigError
from driftlaw.process.ddpm import betas, chain_times

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
#: Horizon of a learner that is not told one.
DEFAULT_T0, DEFAULT_T = 1e-3, 6.0


@dataclass(frozen=True)
class DenoiserConfig(Described):
    """The settings of :class:`~driftlaw.learn.denoiser.learner.Denoiser`.

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
            :mod:`driftlaw.learn.denoiser.preconditioning`), or "epsilon", "sample" or "v_prediction" at the levels of
            the chain.
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
    """

    kind: ClassVar[str] = "denoiser"
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
