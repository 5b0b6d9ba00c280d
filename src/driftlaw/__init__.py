"""driftlaw: measure, bound and control model collapse in recursively trained diffusion models.

Public names load on first use: importing this package loads no plotting, command-line or learning code.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from driftlaw._version import __version__

#: Where each public name lives.
_NAMES = {
    "bounds": "driftlaw.analysis.bounds",
    "collapse_profile": "driftlaw.analysis.collapse",
    "BoundsReport": "driftlaw.analysis.report",
    "verify": "driftlaw.auditing.verification",
    "audit": "driftlaw.auditing.audit",
    "Audit": "driftlaw.auditing.record",
    "sketch": "driftlaw.auditing.sketching",
    "open_rows": "driftlaw.data.rows.open",
    "Rows": "driftlaw.data.rows.opened",
    "ConfigError": "driftlaw.errors",
    "CorruptFileError": "driftlaw.errors",
    "DataExhaustedError": "driftlaw.errors",
    "DataNotFoundError": "driftlaw.errors",
    "DriftlawError": "driftlaw.errors",
    "InputError": "driftlaw.errors",
    "RunDirectoryError": "driftlaw.errors",
    "RunLockedError": "driftlaw.errors",
    "UnsafePathError": "driftlaw.errors",
    "TrustError": "driftlaw.errors",
    "LimitError": "driftlaw.errors",
    "SanityError": "driftlaw.errors",
    "StorageError": "driftlaw.errors",
    "Estimate": "driftlaw.estimate",
    "Command": "driftlaw.learn.command",
    "Denoiser": "driftlaw.learn.denoiser.learner",
    "from_diffusers": "driftlaw.learn.denoiser.pipeline",
    "pipeline_generator": "driftlaw.learn.denoiser.pipeline",
    "Estimator": "driftlaw.learn.estimator",
    "FitContext": "driftlaw.learn.estimator",
    "Model": "driftlaw.learn.estimator",
    "DiscreteDiffusion": "driftlaw.learn.discrete.learner",
    "FlowMatching": "driftlaw.learn.flow.learner",
    "Select": "driftlaw.learn.select.select",
    "CallableEstimator": "driftlaw.learn.function",
    "Guided": "driftlaw.learn.guided.learner",
    "GaussianMLE": "driftlaw.learn.gaussian",
    "KDE": "driftlaw.learn.kde",
    "MixtureEM": "driftlaw.learn.mixture_em",
    "extend": "driftlaw.loop.branches.extend",
    "fork": "driftlaw.loop.branches.fork",
    "History": "driftlaw.loop.history",
    "load": "driftlaw.loop.history",
    "Generation": "driftlaw.loop.record",
    "resume": "driftlaw.loop.run",
    "run": "driftlaw.loop.run",
    "Measures": "driftlaw.loop.study",
    "Study": "driftlaw.loop.study",
    "register": "driftlaw.kinds",
    "Sweep": "driftlaw.loop.sweep",
    "sweep": "driftlaw.loop.sweep",
    "compare_laws": "driftlaw.measure.laws.divergence",
    "gradient_energy": "driftlaw.measure.paths.gradient",
    "observability": "driftlaw.measure.paths.observability",
    "path_energy": "driftlaw.measure.paths.path",
    "hermite_spectrum": "driftlaw.measure.features.hermite",
    "Sketch": "driftlaw.measure.sketch.sketch",
    "metrics": "driftlaw.metrics",
    "Plan": "driftlaw.planning.plan",
    "plan": "driftlaw.planning.plan",
    "GaussianMixture": "driftlaw.process.laws.mixture",
    "Perturbed": "driftlaw.process.score",
    "write_report": "driftlaw.report",
    "accumulated_drift": "driftlaw.theory.accumulation",
    "limit_law": "driftlaw.theory.limit",
    "Adaptive": "driftlaw.theory.adaptive",
    "SampleNoise": "driftlaw.theory.planning",
    "propagator": "driftlaw.theory.propagator",
    "Accumulate": "driftlaw.theory.refresh",
    "AccumulateSubsample": "driftlaw.theory.refresh",
    "FixedFraction": "driftlaw.theory.refresh",
    "FixedReal": "driftlaw.theory.refresh",
    "Policy": "driftlaw.theory.refresh",
    "Replace": "driftlaw.theory.refresh",
    "Schedule": "driftlaw.theory.refresh",
    "Window": "driftlaw.theory.refresh",
}

__all__ = ["__version__", *sorted(_NAMES)]

if TYPE_CHECKING:
    from driftlaw.analysis.bounds import bounds as bounds
    from driftlaw.analysis.collapse import collapse_profile as collapse_profile
    from driftlaw.analysis.report import BoundsReport as BoundsReport
    from driftlaw.auditing.audit import audit as audit
    from driftlaw.auditing.record import Audit as Audit
    from driftlaw.auditing.sketching import sketch as sketch
    from driftlaw.auditing.verification import verify as verify
    from driftlaw.data.rows.open import open_rows as open_rows
    from driftlaw.data.rows.opened import Rows as Rows
    from driftlaw.errors import ConfigError as ConfigError
    from driftlaw.errors import CorruptFileError as CorruptFileError
    from driftlaw.errors import DataExhaustedError as DataExhaustedError
    from driftlaw.errors import DataNotFoundError as DataNotFoundError
    from driftlaw.errors import DriftlawError as DriftlawError
    from driftlaw.errors import InputError as InputError
    from driftlaw.errors import LimitError as LimitError
    from driftlaw.errors import RunDirectoryError as RunDirectoryError
    from driftlaw.errors import RunLockedError as RunLockedError
    from driftlaw.errors import SanityError as SanityError
    from driftlaw.errors import StorageError as StorageError
    from driftlaw.errors import TrustError as TrustError
    from driftlaw.errors import UnsafePathError as UnsafePathError
    from driftlaw.estimate import Estimate as Estimate
    from driftlaw.kinds import register as register
    from driftlaw.learn.command import Command as Command
    from driftlaw.learn.denoiser.learner import Denoiser as Denoiser
    from driftlaw.learn.denoiser.pipeline import from_diffusers as from_diffusers
    from driftlaw.learn.denoiser.pipeline import pipeline_generator as pipeline_generator
    from driftlaw.learn.discrete.learner import DiscreteDiffusion as DiscreteDiffusion
    from driftlaw.learn.estimator import Estimator as Estimator
    from driftlaw.learn.estimator import FitContext as FitContext
    from driftlaw.learn.estimator import Model as Model
    from driftlaw.learn.flow.learner import FlowMatching as FlowMatching
    from driftlaw.learn.function import CallableEstimator as CallableEstimator
    from driftlaw.learn.gaussian import GaussianMLE as GaussianMLE
    from driftlaw.learn.guided.learner import Guided as Guided
    from driftlaw.learn.kde import KDE as KDE
    from driftlaw.learn.mixture_em import MixtureEM as MixtureEM
    from driftlaw.learn.select.select import Select as Select
    from driftlaw.loop.branches.extend import extend as extend
    from driftlaw.loop.branches.fork import fork as fork
    from driftlaw.loop.history import History as History
    from driftlaw.loop.history import load as load
    from driftlaw.loop.record import Generation as Generation
    from driftlaw.loop.run import resume as resume
    from driftlaw.loop.run import run as run
    from driftlaw.loop.study import Measures as Measures
    from driftlaw.loop.study import Study as Study
    from driftlaw.loop.sweep import Sweep as Sweep
    from driftlaw.loop.sweep import sweep as sweep
    from driftlaw.measure.features.hermite import hermite_spectrum as hermite_spectrum
    from driftlaw.measure.laws.divergence import compare_laws as compare_laws
    from driftlaw.measure.paths.gradient import gradient_energy as gradient_energy
    from driftlaw.measure.paths.observability import observability as observability
    from driftlaw.measure.paths.path import path_energy as path_energy
    from driftlaw.measure.sketch.sketch import Sketch as Sketch
    from driftlaw.metrics.flat import flatten as metrics  # noqa: F401
    from driftlaw.planning.plan import Plan as Plan
    from driftlaw.planning.plan import plan as plan
    from driftlaw.process.laws.mixture import GaussianMixture as GaussianMixture
    from driftlaw.process.score import Perturbed as Perturbed
    from driftlaw.report import write_report as write_report
    from driftlaw.theory.accumulation import accumulated_drift as accumulated_drift
    from driftlaw.theory.adaptive import Adaptive as Adaptive
    from driftlaw.theory.limit import limit_law as limit_law
    from driftlaw.theory.planning import SampleNoise as SampleNoise
    from driftlaw.theory.propagator import propagator as propagator
    from driftlaw.theory.refresh import Accumulate as Accumulate
    from driftlaw.theory.refresh import AccumulateSubsample as AccumulateSubsample
    from driftlaw.theory.refresh import FixedFraction as FixedFraction
    from driftlaw.theory.refresh import FixedReal as FixedReal
    from driftlaw.theory.refresh import Policy as Policy
    from driftlaw.theory.refresh import Replace as Replace
    from driftlaw.theory.refresh import Schedule as Schedule
    from driftlaw.theory.refresh import Window as Window


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'driftlaw' has no attribute {name!r}")
    value = getattr(_import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
