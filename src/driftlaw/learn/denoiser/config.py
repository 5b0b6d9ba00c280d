"""Settings of a denoiser: what they may be, and what follows from them without any network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from driftlaw.config import Described, check_keys, make, validate
from driftlaw.errors import ConfigError
from driftlaw.learn import optimisers
from driftlaw.process.ddpm import betas, chain_grid, chain_times
from driftlaw.process.sampler import Ancestral, Solver
from driftlaw.process.schedule import karras_grid

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
#: Horizon of a learner that is not told one.
DEFAULT_T0, DEFAULT_T = 1e-3, 6.0


@dataclass(frozen=True)
class Network:
    """What maps a noisy row to a prediction.

    Args:
        net: "mlp", "unet", "diffusers-unet" (UNet2DModel of the extra driftlaw[diffusers]), or "auto": U-Net for images
            of more than 256 numbers, MLP otherwise.
        width: hidden width of the MLP or channels of the U-Net's first level; None means 256 or 16.
        blocks: residual blocks (MLP: in all, None means 3; U-Net: per level and direction, None means 1).
        multipliers: U-Net channels per level over `width`.
        attention: U-Net self-attention at the lowest level.
        dropout: rate inside the residual blocks.
        channels_last: memory format of U-Net weights; "auto" means yes, but not for a diffusers-unet.
        groups: groups of the U-Net's normalisations.
        unet: settings of a diffusers-unet (``UNet2DModel``) that replace width, blocks, multipliers, attention, groups.
    """

    net: Literal["auto", "mlp", "unet", "diffusers-unet"] = "auto"
    width: Count | None = None
    blocks: Count | None = None
    multipliers: tuple[Count, ...] = field(default=(1, 2, 4))
    attention: bool = False
    dropout: Rate = 0.0
    channels_last: bool | Literal["auto"] = "auto"
    groups: Count = 8
    unet: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        validate(self)
        if self.unet is not None and self.net != "diffusers-unet":
            raise ConfigError(f"Denoiser: unet is given and net is {self.net!r}", "set net: diffusers-unet")
        if not self.multipliers:
            raise ConfigError("Denoiser: multipliers is empty", "give one multiplier per U-Net level")


@dataclass(frozen=True)
class Optimiser:
    """How long, on what and how fast the network learns.

    Args:
        steps: optimisation steps of a fit from scratch.
        warm_steps: optimisation steps of a fit that starts from the previous generation.
        epochs: passes through the training set of a fit from scratch, instead of `steps`.
        warm_epochs: the same for a fit that starts from the previous generation, instead of `warm_steps`.
        batch: rows per step.
        lr: peak learning rate.
        weight_decay: AdamW's decoupled weight decay.
        beta2: AdamW's decay of squared gradients (beta1 is 0.9).
        ema: limit of the moving average's decay.
        schedule: learning rate after warm-up, "cosine" to 0 or "constant".
        warmup: steps of linear warm-up.
        holdout_every: steps between two held-out losses.
        patience: stop after this many held-out losses without improvement and keep the best weights; 0 never stops
            or selects (see the module's page for why this is the default).
        validation: fraction of the training rows set apart to watch, and to select by when there is patience.
        algorithm: a class of torch.optim by name; `lr` and `weight_decay` are given to it where it takes them.
        arguments: further ones of that class, such as ``{momentum: 0.9}``.
    """

    steps: Count = 3000
    warm_steps: Count = 2000
    epochs: Count | None = None
    warm_epochs: Count | None = None
    batch: Count = 128
    lr: Positive = 2e-3
    weight_decay: Number = 0.01
    beta2: Rate = 0.99
    ema: Rate = 0.999
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 100
    holdout_every: Count = 250
    patience: Annotated[int, Field(ge=0)] = 0
    validation: Rate = 0.0
    algorithm: str = optimisers.DEFAULT
    arguments: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        validate(self)
        if self.algorithm != optimisers.DEFAULT or self.arguments:
            optimisers.check(self.algorithm, self.lr, self.weight_decay, self.arguments or {})

    def fit_steps(self, rows: int, warm: bool) -> int:
        """Optimisation steps of a fit on `rows` rows."""
        epochs = self.warm_epochs if warm else self.epochs
        if epochs is None:
            return self.warm_steps if warm else self.steps
        return math.ceil(epochs * (rows - round(self.validation * rows)) / self.batch)


@dataclass(frozen=True)
class Chain:
    """Discrete noise levels ("ddpm" noise or solver, and all predictions but "edm").

    Args:
        diffusion_steps: how many.
        beta_schedule: "linear", "scaled-linear", "cosine" or "sigmoid".
        beta_start, beta_end: of the schedule.
        trained_betas: the betas themselves instead of a schedule.
    """

    diffusion_steps: Count = 1000
    beta_schedule: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "linear"
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    trained_betas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None

    def __post_init__(self) -> None:
        validate(self)
        if self.trained_betas is not None and len(self.trained_betas) != self.diffusion_steps:
            raise ConfigError(
                f"Denoiser: {len(self.trained_betas)} betas for {self.diffusion_steps} levels",
                f"set diffusion_steps: {len(self.trained_betas)}",
            )


@dataclass(frozen=True)
class Sampling:
    """How a trained network makes rows.

    Args:
        solver: "heun" or "multistep" probability-flow solver, "sde", the reverse diffusion by exponential integrator,
            "ddpm", the ancestral sampler of the chain, or "ddim", its deterministic one (order 1).
        solver_steps: steps of the solver ("heun" evaluates the network twice per step; "ddpm" takes every so many
            levels of the chain, all of them with ``solver_steps = diffusion_steps``; "sde" needs 100 or more).
        sample_batch: rows sampled at once; with the generator given, it does not change which noise a row gets.
        spread: variance of an ancestral step, "small" (posterior) or "large" (beta).
        clip: bound on the denoised prediction while sampling, in the units of the rows; None for no bound. "auto"
            bounds noise predictions, whose error is divided by the signal that is left at a level, by the largest
            value among the training rows, and nothing else.
    """

    solver: Literal["heun", "multistep", "sde", "ddpm", "ddim"] = "heun"
    solver_steps: Count = 20
    sample_batch: Count = 512
    spread: Literal["small", "large"] = "small"
    clip: Positive | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        validate(self)


_GROUPS: dict[str, type[Any]] = {
    "network": Network,
    "optimiser": Optimiser,
    "chain": Chain,
    "sampling": Sampling,
}
#: The group of each setting that has one.
GROUP_OF = {f.name: group for group, cls in _GROUPS.items() for f in fields(cls)}


#: Settings that 0.1.0 did not have: at these values a fit is the one that it was.
_LATER: dict[str, Any] = {"conditional": False, "label_dropout": 0.1, "guidance": 0.0}
_LATER |= {"algorithm": optimisers.DEFAULT, "arguments": None, "trained_betas": None}
_CHAINS = ("ddpm", "ddim")


@dataclass(frozen=True, init=False)
class DenoiserConfig(Described):
    """The settings of :class:`~driftlaw.learn.denoiser.learner.Denoiser`.

    A setting of a group can be given and read without it: ``Denoiser(steps=20)`` is
    ``Denoiser(optimiser=Optimiser(steps=20))``, and ``config.steps`` is ``config.optimiser.steps``. Given both ways,
    the shorter one counts.

    Args:
        network: what maps a noisy row to a prediction.
        optimiser: how long, on what and how fast it learns.
        chain: discrete noise levels.
        sampling: how a trained network makes rows.
        prediction: what the network predicts: "edm" (the preconditioned target of
            :mod:`driftlaw.learn.denoiser.preconditioning`), or "epsilon", "sample" or "v_prediction" at the levels of
            the chain.
        noise: law of noise levels, which is also the loss weighting: "energy", "loguniform", "lognormal", or "ddpm"
            (the levels of the chain, error of the noise prediction).
        t0, T: horizon on the OU clock. Left at their defaults, a chain's first and last time replace them.
        checkpoint_every: steps between two checkpoints; 0 saves only the finished fit.
        compile: torch.compile the training step; "auto" does on CUDA for fits of 2000 steps or more.
        engine: "torch", or "accelerate" (extra driftlaw[diffusers]) for `precision` and `processes`.
        precision: of the forward pass in training: "float32" or "bfloat16"; everything else is float32.
        processes: processes that share each batch, one per GPU on CUDA.
        conditional: learn the rows of each class, of a source with labels; samples then have labels, which are drawn
            like those of the training rows.
        label_dropout: probability with which a label is left out in training, see
            :mod:`driftlaw.learn.conditional.embedding`.
        guidance: weight w >= 0 of classifier-free guidance; 0 samples what was learned.
    """

    kind: ClassVar[str] = "denoiser"
    order_free: ClassVar[bool] = True
    #: The class of each group of settings.
    sections: ClassVar[Mapping[str, type[Any]]] = _GROUPS
    network: Network = field(default_factory=Network)
    optimiser: Optimiser = field(default_factory=Optimiser)
    chain: Chain = field(default_factory=Chain)
    sampling: Sampling = field(default_factory=Sampling)
    prediction: Literal["edm", "epsilon", "sample", "v_prediction"] = "edm"
    noise: Literal["energy", "loguniform", "lognormal", "ddpm"] = "lognormal"
    t0: Positive = DEFAULT_T0
    T: Positive = DEFAULT_T
    checkpoint_every: Annotated[int, Field(ge=0)] = 500
    compile: bool | Literal["auto"] = False
    engine: Literal["torch", "accelerate"] = "torch"
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: Count = 1
    conditional: bool = False
    label_dropout: Rate = 0.1
    guidance: Number = 0.0

    def __init__(self, **settings: Any) -> None:
        check_keys(f"a {self.kind}", settings, inspect.signature(type(self)).parameters)
        for name, cls in {**_GROUPS, **self.sections}.items():
            given = settings.get(name, {})
            if not isinstance(given, cls | Mapping):
                raise ConfigError(
                    f"{type(self).__name__}: {name} is a {type(given).__name__}",
                    f"give a mapping or {cls.__name__}(...)",
                )
            flat = {key: value for key, value in settings.items() if GROUP_OF.get(key) == name}
            plain = {str(k): v for k, v in given.items()} if isinstance(given, Mapping) else vars(given)
            object.__setattr__(self, name, make(cls, plain | flat, f"{name} of a {self.kind}"))
        for f in fields(self):
            if f.name not in _GROUPS:
                object.__setattr__(self, f.name, settings.get(f.name, f.default))
        self.__post_init__()

    def __getattr__(self, name: str) -> Any:
        if name not in GROUP_OF:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(object.__getattribute__(self, GROUP_OF[name]), name)

    def __post_init__(self) -> None:
        validate(self)
        self._fit_horizon()
        if self.engine == "torch" and (self.precision != "float32" or self.processes > 1):
            raise ConfigError(
                f"{type(self).__name__}: precision = {self.precision!r}, {self.processes} processes and engine 'torch'",
                "set engine: accelerate",
            )
        if self.optimiser.batch % self.processes:
            raise ConfigError(
                f"{type(self).__name__}: batch = {self.optimiser.batch} cannot be shared by {self.processes} processes",
                "take a batch that the number of processes divides",
            )
        if self.guidance and not (self.conditional and self.label_dropout):
            raise ConfigError(
                f"{type(self).__name__}: guidance = {self.guidance} needs the score with and without a class",
                "set conditional: true and label_dropout above 0",
            )
        if self.t0 >= self.T:
            raise ConfigError(f"{type(self).__name__}: t0 = {self.t0} is not below T = {self.T}", "set t0 < T")

    def _fit_horizon(self) -> None:
        """Take the chain's own horizon, where there is one, for the default one; refuse one that the chain leaves."""
        if self.noise != "ddpm" and self.sampling.solver not in _CHAINS and self.prediction == "edm":
            return
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
        if self.sampling.solver in _CHAINS and not covered:
            raise ConfigError(
                f"Denoiser: the noise chain, {first:.6g} to {last:.6g}, leaves the trained times {self.t0:g} to "
                f"{self.T:g}",
                "drop t0 and T, which then are the chain's",
            )
        if self.sampling.solver in _CHAINS and self.sampling.solver_steps > self.chain.diffusion_steps:
            raise ConfigError(
                f"Denoiser: {self.sampling.solver_steps} ancestral steps through a chain of "
                f"{self.chain.diffusion_steps} levels",
                "set solver_steps <= diffusion_steps",
            )

    def levels(self) -> Tensor:
        """OU times of the chain's levels, float64 ``[diffusion_steps]``."""
        if self.chain.trained_betas is not None:
            return chain_times(self.chain.trained_betas)
        return chain_times(
            betas(self.chain.beta_schedule, self.chain.diffusion_steps, self.chain.beta_start, self.chain.beta_end)
        )

    @property
    def is_random(self) -> bool:
        """Whether the sampler draws noise on its way."""
        return self.sampling.solver in ("sde", "ddpm")

    def route(self) -> tuple[Tensor, Solver | str]:
        """OU times and solver by which rows are sampled."""
        how = self.sampling
        if how.solver in _CHAINS:
            grid = chain_grid(self.levels(), how.solver_steps)
            return grid, Ancestral(how.spread) if how.solver == "ddpm" else "ddim"
        grid = karras_grid(self.T, self.t0, how.solver_steps)
        return grid, "exponential_integrator" if how.solver == "sde" else how.solver

    def fit_steps(self, rows: int, warm: bool) -> int:
        """Optimisation steps of a fit on `rows` rows."""
        return self.optimiser.fit_steps(rows, warm)

    def compiles(self, device: str) -> bool:
        """Whether training on `device` is compiled."""
        if self.compile == "auto":
            return device != "cpu" and min(self.optimiser.steps, self.optimiser.warm_steps) >= 2000
        return self.compile

    def flat(self) -> dict[str, Any]:
        """All settings without groups, as 0.1.0 wrote them; without those that it did not have, at their defaults."""
        config = self.config()
        flat = {key: v for k, value in config.items() for key, v in (value if k in _GROUPS else {k: value}).items()}
        return {key: v for key, v in flat.items() if key not in _LATER or v != _LATER[key]}

    def known_by(self) -> dict[str, Any]:
        """What a fit, its checkpoints and its samples are known by: equal where nothing would differ."""
        unbounded = {"clip": None} if self.sampling.clip == "auto" and self.prediction != "epsilon" else {}
        return self.flat() | unbounded


#: What a configuration can be made with: groups, settings of their own, and settings of groups without these.
DenoiserConfig.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in (*(f.name for f in fields(DenoiserConfig)), *GROUP_OF)
    ]
)


def grouped(config: Mapping[str, Any]) -> dict[str, str]:
    """Settings that a mapping gives without their groups, as files of 0.1.0 do, and where they belong."""
    return {key: f"{GROUP_OF[key]}.{key}" for key in config if key in GROUP_OF}
