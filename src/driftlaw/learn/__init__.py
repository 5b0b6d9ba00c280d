"""Learners: from a training set to a generative law, all behind one ``Estimator.fit(data, context) -> Model``.

``kde``, ``gaussian`` and ``mixture-em`` have closed-form laws; ``denoiser`` and ``flow`` are neural;
``command`` and ``callable`` are a program and a function of the user, known by their samples.
"""

from __future__ import annotations

from driftlaw.kinds import ESTIMATORS
from driftlaw.learn.command import Command
from driftlaw.learn.denoiser.generator import DenoiserModel
from driftlaw.learn.denoiser.learner import Denoiser
from driftlaw.learn.denoiser.pipeline import from_diffusers, pipeline_generator
from driftlaw.learn.discrete.learner import DiscreteDiffusion, LetterModel
from driftlaw.learn.drawn import DrawnSamples
from driftlaw.learn.estimator import Checkpoint, Chunks, Estimator, FitContext, Model
from driftlaw.learn.exact import ExactModel
from driftlaw.learn.flow.learner import FlowMatching
from driftlaw.learn.function import CallableEstimator
from driftlaw.learn.gaussian import GaussianMLE
from driftlaw.learn.guided.learner import Guided
from driftlaw.learn.guided.model import GuidedModel
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
    "DiscreteDiffusion",
    "DrawnSamples",
    "Estimator",
    "ExactModel",
    "FitContext",
    "FlowMatching",
    "GaussianMLE",
    "Guided",
    "GuidedModel",
    "KDEModel",
    "LetterModel",
    "MixtureEM",
    "Model",
    "build",
    "from_diffusers",
    "pipeline_generator",
]


def build(config: object) -> Estimator:
    """Inverse of ``Estimator.config()``.

    Args:
        config: a mapping with a ``kind`` (kde, gaussian, mixture-em, denoiser, flow, command, callable or an own one)
            and that estimator's settings; a kind alone; or an estimator.

    Raises:
        ConfigError: no kind, an unknown kind or setting (with the nearest valid name), or a value out of range.

    Example:
        >>> build({"kind": "kde", "bandwidth": 0.5})
        KDE(bandwidth=0.5, t0=0.0)
    """
    estimator: Estimator = ESTIMATORS.build(config)
    return estimator
