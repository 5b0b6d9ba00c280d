"""The noise: schedules, scores, exact laws and samplers (see each module's page)."""

from driftlaw.process.draws import LawValues
from driftlaw.process.kernel_sum import KernelMixture, KernelSums
from driftlaw.process.mixture import GaussianMixture
from driftlaw.process.score import Field, Law, Score, Time

__all__ = ["Field", "GaussianMixture", "KernelMixture", "KernelSums", "Law", "LawValues", "Score", "Time"]
