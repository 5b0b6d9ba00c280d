"""The noise: the clock, scores, exact laws at every time, and samplers (see each module's page)."""

from driftlaw.process.draws import LawValues
from driftlaw.process.laws.kernel_sum import KernelMixture, KernelSums
from driftlaw.process.laws.law import Diffused, ExactLaw, MixtureLaw, diffuse, evaluate
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.sampler import METHODS, euler_maruyama, exponential_integrator, heun, multistep, sample
from driftlaw.process.schedule import (
    alpha,
    karras_grid,
    log_grid,
    sigma,
    uniform_grid,
    variance,
)
from driftlaw.process.score import (
    Field,
    Law,
    Perturbed,
    Score,
    Time,
    as_score,
    checked,
    denoised_from_score,
    divergence_of,
    score_from_denoised,
    score_from_noise,
    score_from_v,
)

__all__ = [
    "METHODS",
    "Diffused",
    "ExactLaw",
    "Field",
    "GaussianMixture",
    "KernelMixture",
    "KernelSums",
    "Law",
    "LawValues",
    "MixtureLaw",
    "Perturbed",
    "Score",
    "Time",
    "alpha",
    "as_score",
    "checked",
    "denoised_from_score",
    "diffuse",
    "divergence_of",
    "euler_maruyama",
    "evaluate",
    "exponential_integrator",
    "heun",
    "karras_grid",
    "log_grid",
    "multistep",
    "sample",
    "score_from_denoised",
    "score_from_noise",
    "score_from_v",
    "sigma",
    "uniform_grid",
    "variance",
]
