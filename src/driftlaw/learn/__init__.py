"""Learners: from a training set to a generative law, all behind one ``Estimator.fit(data, context) -> Model``.

``kde``, ``gaussian`` and ``mixture-em`` have closed-form laws; ``denoiser`` is a neural diffusion model;
``command`` and ``callable`` are a program and a function of the user, known by their samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftlaw.errors import ConfigError, nearest
from driftlaw.learn.command import Command
from driftlaw.learn.config import rebuild
from driftlaw.learn.denoiser.generator import DenoiserModel
from driftlaw.learn.denoiser.learner import Denoiser
from driftlaw.learn.denoiser.pipeline import from_diffusers, pipeline_generator
from driftlaw.learn.drawn import DrawnSamples
from driftlaw.learn.estimator import Checkpoint, Chunks, Estimator, FitContext, Model
from driftlaw.learn.exact import ExactModel
from driftlaw.learn.function import CallableEstimator
from driftlaw.learn.gaussian import GaussianMLE
from driftlaw.learn.kde import KDE, KDEModel
from driftlaw.learn.mixture_em import MixtureEM

__all__ = [
    "KDE",
    "CallableEstimator",
    "Checkpoint",
    "Chunks",
    "Command",
    "Denoiser",
    "DenoiserModel",
    "DrawnSamples",
    "Estimator",
    "ExactModel",
    "FitContext",
    "GaussianMLE",
    "KDEModel",
    "MixtureEM",
    "Model",
    "build",
    "from_diffusers",
    "pipeline_generator",
]

_KINDS: dict[
    str, type[KDE] | type[GaussianMLE] | type[MixtureEM] | type[Denoiser] | type[Command] | type[CallableEstimator]
] = {
    "kde": KDE,
    "gaussian": GaussianMLE,
    "mixture-em": MixtureEM,
    "denoiser": Denoiser,
    "command": Command,
    "callable": CallableEstimator,
}


def build(config: Mapping[str, Any]) -> Estimator:
    """Inverse of ``Estimator.config()``.

    Args:
        config: ``kind`` (kde, gaussian, mixture-em, denoiser, command or callable) and that estimator's settings.

    Raises:
        ConfigError: no kind, an unknown kind or setting (with the nearest valid name), or a value out of range.

    Example:
        >>> build({"kind": "kde", "bandwidth": 0.5})
        KDE(bandwidth=0.5, t0=0.0)
    """
    kind = config.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"unknown estimator kind {kind!r}", nearest(str(kind), _KINDS))
    return rebuild(_KINDS[kind], config)
