"""driftlaw: measure, bound and control model collapse in recursively trained diffusion models.

Public names load on first use: importing this package loads no plotting, command-line or learning code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from driftlaw._version import __version__

#: Where each public name lives.
_NAMES = {
    "Estimate": "driftlaw.estimate",
    "GaussianMixture": "driftlaw.process.laws.mixture",
    "Perturbed": "driftlaw.process.score",
    "KDE": "driftlaw.learn.kde",
    "GaussianMLE": "driftlaw.learn.gaussian",
    "MixtureEM": "driftlaw.learn.mixture_em",
    "Denoiser": "driftlaw.learn.denoiser.learner",
    "Command": "driftlaw.learn.command",
    "CallableEstimator": "driftlaw.learn.function",
    "from_diffusers": "driftlaw.learn.denoiser.pipeline",
    "pipeline_generator": "driftlaw.learn.denoiser.pipeline",
    "Replace": "driftlaw.theory.refresh",
    "FixedFraction": "driftlaw.theory.refresh",
    "Schedule": "driftlaw.theory.refresh",
    "Accumulate": "driftlaw.theory.refresh",
    "AccumulateSubsample": "driftlaw.theory.refresh",
    "Window": "driftlaw.theory.refresh",
    "Adaptive": "driftlaw.theory.adaptive",
    "observability": "driftlaw.measure.paths.observability",
    "path_energy": "driftlaw.measure.paths.path",
    "gradient_energy": "driftlaw.measure.paths.gradient",
    "Sketch": "driftlaw.measure.sketch.sketch",
    "sketch": "driftlaw.auditing.sketching",
    "Audit": "driftlaw.auditing.record",
    "audit": "driftlaw.auditing.audit",
    "propagator": "driftlaw.theory.propagator",
    "accumulated_drift": "driftlaw.theory.accumulation",
    "Study": "driftlaw.loop.study",
    "Generation": "driftlaw.loop.record",
    "run": "driftlaw.loop.run",
    "resume": "driftlaw.loop.run",
    "load": "driftlaw.loop.history",
    "bounds": "driftlaw.analysis.bounds",
    "sweep": "driftlaw.loop.sweep",
    "plan": "driftlaw.planning.plan",
}

__all__ = ["__version__", *sorted(_NAMES)]

if TYPE_CHECKING:
    from driftlaw.analysis.bounds import bounds as bounds
    from driftlaw.auditing.audit import audit as audit
    from driftlaw.auditing.record import Audit as Audit
    from driftlaw.auditing.sketching import sketch as sketch
    from driftlaw.estimate import Estimate as Estimate
    from driftlaw.learn.command import Command as Command
    from driftlaw.learn.denoiser.learner import Denoiser as Denoiser
    from driftlaw.learn.denoiser.pipeline import from_diffusers as from_diffusers
    from driftlaw.learn.denoiser.pipeline import pipeline_generator as pipeline_generator
    from driftlaw.learn.function import CallableEstimator as CallableEstimator
    from driftlaw.learn.gaussian import GaussianMLE as GaussianMLE
    from driftlaw.learn.kde import KDE as KDE
    from driftlaw.learn.mixture_em import MixtureEM as MixtureEM
    from driftlaw.loop.history import load as load
    from driftlaw.loop.record import Generation as Generation
    from driftlaw.loop.run import resume as resume
    from driftlaw.loop.run import run as run
    from driftlaw.loop.study import Study as Study
    from driftlaw.loop.sweep import sweep as sweep
    from driftlaw.measure.paths.gradient import gradient_energy as gradient_energy
    from driftlaw.measure.paths.observability import observability as observability
    from driftlaw.measure.paths.path import path_energy as path_energy
    from driftlaw.measure.sketch.sketch import Sketch as Sketch
    from driftlaw.planning.plan import plan as plan
    from driftlaw.process.laws.mixture import GaussianMixture as GaussianMixture
    from driftlaw.process.score import Perturbed as Perturbed
    from driftlaw.theory.accumulation import accumulated_drift as accumulated_drift
    from driftlaw.theory.adaptive import Adaptive as Adaptive
    from driftlaw.theory.propagator import propagator as propagator
    from driftlaw.theory.refresh import Accumulate as Accumulate
    from driftlaw.theory.refresh import AccumulateSubsample as AccumulateSubsample
    from driftlaw.theory.refresh import FixedFraction as FixedFraction
    from driftlaw.theory.refresh import Replace as Replace
    from driftlaw.theory.refresh import Schedule as Schedule
    from driftlaw.theory.refresh import Window as Window


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'driftlaw' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
