"""Pipelines of Hugging Face's diffusers as learners: a DDPMPipeline to a Denoiser and back.

A ``DDPMPipeline`` is a network and a ``DDPMScheduler``. The scheduler's levels are OU times
(:mod:`driftlaw.process.ddpm`), so the pair has a score at every time between its first and its last level
(:mod:`driftlaw.learn.denoiser.epsilon`), and its training loss is ``noise="ddpm"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest
from driftlaw.learn.denoiser.epsilon import SCHEDULES, EpsilonNetwork, Timestepped
from driftlaw.learn.denoiser.generator import DenoiserModel
from driftlaw.learn.denoiser.learner import Denoiser

_SPREADS = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "fixed_large_log": "large"}


#: Our solver of a scheduler, and how many steps it takes at most.
_SOLVERS = {
    "DDPMScheduler": ("ddpm", 10**9),
    "DDIMScheduler": ("ddim", 50),
    "DPMSolverMultistepScheduler": ("multistep", 20),
}
#: Parts of pipelines that diffuse something else than the rows.
_LATENT = ("vae", "vqvae", "text_encoder", "movq", "prior")


def from_diffusers(pipeline: Any, **settings: Any) -> Denoiser:
    """The learner that trains this pipeline's kind of model from scratch.

    Args:
        pipeline: a ``DDPMPipeline``, or the folder that its ``save_pretrained`` wrote.
        settings: of :class:`Denoiser` (steps, batch, lr, ...); by default all levels are sampled through.

    Raises:
        ConfigError: diffusers is missing, or a network or scheduler of another kind or with settings that have no
            counterpart here.
        DataNotFoundError: there is no such folder.
    """
    pipeline = _pipeline(pipeline)
    unet = getattr(pipeline.unet, "config", None)
    if type(pipeline.unet).__name__ != "UNet2DModel" or not isinstance(unet, Mapping):
        raise ConfigError(
            f"the pipeline's network is a {type(pipeline.unet).__name__}", "give a pipeline with a UNet2DModel"
        )
    own = {k: list(v) if isinstance(v, tuple) else v for k, v in unet.items() if not k.startswith("_")}
    own.pop("sample_size", None)
    known = scheduler_settings(pipeline.scheduler)
    if own.pop("num_class_embeds", None) is not None:
        known["conditional"] = True
    return Denoiser(net="diffusers-unet", unet=own, **{**known, **settings})


def scheduler_settings(scheduler: Any) -> dict[str, Any]:
    """Settings of :class:`Denoiser` that say what a scheduler says.

    Args:
        scheduler: a ``DDPMScheduler``, a ``DDIMScheduler`` (50 levels of the same chain), or a
            ``DPMSolverMultistepScheduler`` of order 2 (20 steps of the same method on a grid of our own).

    Raises:
        ConfigError: another scheduler, or one whose options have no counterpart here, such as a learned variance.
    """
    config, name = getattr(scheduler, "config", None), type(scheduler).__name__
    if name not in _SOLVERS or not isinstance(config, Mapping):
        raise ConfigError(f"unknown scheduler {name}", f"give one of {', '.join(_SOLVERS)} with the same betas")
    spread = str(config.get("variance_type") or "fixed_small")
    for key, value, table in (
        ("beta_schedule", config["beta_schedule"], SCHEDULES),
        ("variance_type", spread, _SPREADS),
    ):
        if value not in table and not (key == "beta_schedule" and config.get("trained_betas") is not None):
            raise ConfigError(f"the scheduler's {key} is {value!r}", nearest(str(value), table))
    plain = {"thresholding": False, "rescale_betas_zero_snr": False, "set_alpha_to_one": True, "solver_order": 2}
    for key, value in (plain | {"algorithm_type": "dpmsolver++", "use_flow_sigmas": False}).items():
        if config.get(key) not in (None, value):
            raise ConfigError(
                f"the scheduler uses {key} = {config[key]!r}, which has no counterpart here", f"set {key} to {value!r}"
            )
    levels = int(config["num_train_timesteps"])
    solver, most = _SOLVERS[name]
    given = config.get("trained_betas")
    return {
        "prediction": config["prediction_type"],
        "noise": "ddpm",
        "solver": solver,
        "solver_steps": min(levels, most),
        "trained_betas": None if given is None else [float(b) for b in given],
        "diffusion_steps": levels,
        "beta_schedule": SCHEDULES.get(config["beta_schedule"], "linear"),
        "beta_start": float(config["beta_start"]),
        "beta_end": float(config["beta_end"]),
        "spread": _SPREADS[spread],
        "clip": float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample") else None,
    }


def pipeline_generator(pipeline: Any, shape: tuple[int, ...] | None = None) -> DenoiserModel:
    """A trained pipeline as a generator: samples, and its score at every OU time of its chain.

    Args:
        pipeline: a ``DDPMPipeline``, the folder that its ``save_pretrained`` wrote, or anything with a ``unet(x, k)``
            (any module that returns a tensor or an object with ``sample``) and a ``DDPMScheduler`` ``scheduler``.
        shape: of one row; None takes it from the network's own settings.

    Raises:
        ConfigError: as :func:`from_diffusers`.
        InputError: the shape is not known.
    """
    pipeline = _pipeline(pipeline)
    unet: nn.Module = pipeline.unet
    settings = getattr(unet, "config", None)
    if shape is None:
        if not isinstance(settings, Mapping) or settings.get("sample_size") is None:
            raise InputError("the pipeline's network does not say the size of its images", "give shape=(c, h, w)")
        size = settings["sample_size"]
        shape = (int(settings["in_channels"]), *((size, size) if isinstance(size, int) else tuple(size)))
    if type(unet).__name__ == "UNet2DModel":
        config = from_diffusers(pipeline)
    else:
        config = Denoiser(**scheduler_settings(pipeline.scheduler))
    net = EpsilonNetwork(Timestepped(unet), config.levels(), config.prediction).eval().requires_grad_(False)
    return DenoiserModel(config, net, 1.0, tuple(shape), {})


def _pipeline(pipeline: Any) -> Any:
    if not isinstance(pipeline, str | Path):
        kind = type(pipeline).__name__
        if latent := [name for name in _LATENT if getattr(pipeline, name, None) is not None]:
            raise ConfigError(
                f"a {kind} diffuses in the latent space of its {latent[0]}, not rows",
                "encode the data once and study the latents as rows, with a DDPMPipeline of their shape",
            )
        if getattr(pipeline, "transformer", None) is not None:
            raise ConfigError(
                f"a {kind} has a transformer (DiT), no UNet2DModel", "give a DDPMPipeline, or a dl.Command"
            )
        if not (hasattr(pipeline, "unet") and hasattr(pipeline, "scheduler")):
            raise ConfigError(f"a {type(pipeline).__name__} has no unet and scheduler", "give a DDPMPipeline")
        return pipeline
    try:
        from diffusers import DDPMPipeline
    except ImportError as error:
        raise ConfigError(f"a pipeline needs the package diffusers ({error})", "install driftlaw[diffusers]") from None
    folder = Path(pipeline).expanduser()
    if not (folder / "model_index.json").is_file():
        raise DataNotFoundError(f"{folder} holds no pipeline (no model_index.json)", "name what save_pretrained wrote")
    with torch.random.fork_rng(devices=[]):  # constructing a network draws weights that the stored ones replace
        return DDPMPipeline.from_pretrained(folder, local_files_only=True)
