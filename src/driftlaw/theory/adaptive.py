r"""Adaptive refresh: the fraction of fresh data of the next generation, from what those before have shown.

Let innovations have size J, a part :math:`\kappa` of it in one direction and the rest spread evenly over r directions.
The fractions used so far give the states :math:`A_n, S_n` of :mod:`driftlaw.theory.planning` for J = 1. With S scaled
to the drift, :math:`S^2 = D_n S_n^2 / ((1-\kappa) A_n + \kappa S_n^2)`, training generation n + 1 with fraction alpha
leads to the mean

.. math:: E D_{n+1} = (1-\alpha)^2 D_n + J + 2 \kappa (1-\alpha) S \sqrt J

and, innovations being random, to the variance :math:`2 N^2/r + 4 N m/r`, with :math:`N = (1-\kappa) J` the noise and
:math:`m = E D_{n+1} - N`. The errors of :math:`D_n`, J and kappa are added to it through the derivatives of the mean,
and the quantile is that of the scaled chi-square law with this mean and variance (of the normal law, where that would
have less than one degree of freedom: almost nothing is known then). Before that, two things are shrunk:

- :math:`D_n` is the average, weighted by inverse variances, of its measurement and of
  :math:`J[(1-\kappa) A_n + \kappa S_n^2]`, what the fractions so far should have led to;
- kappa is averaged in the same way with a uniform law on [0, 1], mean 1/2 and variance 1/12: what is known of it before
  it is measured.

:class:`Adaptive` takes the smallest alpha whose quantile of :math:`D_{n+1}` is within the budget: it waits while there
is room, spends as late as it can (as the best schedule for a maximum does), and a lucky generation saves fresh data.
The level of the quantile is :math:`1 - (1-c)/H`, so that all H generations keep the budget together with confidence c.
The price of not knowing J, kappa and D is paid in fresh data: where they are measured badly against the budget, a
constant fraction that somebody else has found is cheaper.

Reference: this project, theory sections 4 and 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from driftlaw.config import Described
from driftlaw.errors import ConfigError, InputError
from driftlaw.estimate import Estimate
from driftlaw.records import Record
from driftlaw.theory.planning import DriftModel, check_budget, check_confidence
from driftlaw.theory.refresh import Array, check_horizon


@dataclass(frozen=True)
class Observed(Record):
    """What the generations so far show.

    Args:
        fractions: ``[n]``, the fractions of fresh data of generations 1..n, n >= 1.
        drift: D_n, the drift of the last one.
        innovation: J, the mean size of the innovations.
        alignment: kappa; refused where it cannot be told.
        dimension: r, the number of directions that the independent part of innovations is spread over.
    """

    fractions: tuple[float, ...]
    drift: Estimate
    innovation: Estimate
    alignment: Estimate
    dimension: float


@runtime_checkable
class AdaptivePolicy(Protocol):
    """A policy whose next row depends on what the last generations have shown; the loop asks it after each."""

    def next_alpha(self, observed: Observed | None) -> float:
        """Fraction of fresh data of the next generation; `observed` is None before the first."""
        ...


def next_drift(alpha: ArrayLike, observed: Observed, level: float) -> Array:
    """Upper quantile of the drift after one more generation, as a function of its fraction of fresh data.

    Args:
        alpha: fractions, any shape.
        observed: what is known; a refused kappa counts as unknown.
        level: of the quantile, in (0, 1).

    Returns:
        The shape of `alpha`; ``inf`` where D or J is not known.

    Example:
        >>> one, four = Estimate.exact(1.0, "given"), Estimate.exact(4.0, "given")
        >>> next_drift([0.0, 1.0], Observed((1.0, 0.0), four, one, one, 10.0), 0.95)
        array([9., 1.])
    """
    keep = 1 - np.asarray(alpha, dtype=np.float64)
    r, J = observed.dimension, max(observed.innovation.value, 0.0)
    if not all(math.isfinite(e.value) and math.isfinite(e.stderr) for e in (observed.drift, observed.innovation)):
        return np.full(keep.shape, np.inf)
    kappa, v_kappa = _shrunk(observed.alignment, 0.5, 1 / 12)
    kappa, v_J = min(1.0, max(0.0, kappa)), observed.innovation.stderr**2
    A, S = (state[-1] for state in DriftModel(1.0, kappa).states(observed.fractions))
    noise, aligned = (1 - kappa) * A, kappa * S**2
    expected = J * (noise + aligned)
    v_expected = J**2 * (2 * noise**2 + 4 * noise * aligned) / r + v_J * (noise + aligned) ** 2
    D, v_D = _shrunk(observed.drift, expected, v_expected)
    D = max(D, 0.0)
    s = S / math.sqrt(noise + aligned)  # S in units of the root of the drift, >= 1
    cross = keep * s * math.sqrt(D * J)
    mean = keep**2 * D + J + 2 * kappa * cross
    fresh = (1 - kappa) * J
    variance = (2 * fresh**2 + 4 * fresh * np.maximum(mean - fresh, 0.0)) / r
    for derivative, error in (
        (keep**2 + (kappa * cross / D if D > 0 else 0.0), v_D),
        (1 + (kappa * cross / J if J > 0 else 0.0), v_J),
        (2 * cross, v_kappa),
    ):
        variance = variance + derivative**2 * error
    known = 2 * mean**2 >= variance  # one degree of freedom or more; below that a normal law, which is no smaller
    mu, v = np.where(known, mean, 1.0), np.where(known & (variance > 0), variance, 1.0)
    scaled = np.where(variance > 0, v / (2 * mu) * stats.chi2.ppf(level, 2 * mu**2 / v), mean)
    return np.asarray(np.where(known, scaled, mean + stats.norm.ppf(level) * np.sqrt(variance)))


def _shrunk(measured: Estimate, expected: float, variance: float) -> tuple[float, float]:
    """Average of a measurement and an expectation, weighted by inverse variances, and its variance."""
    if measured.is_refused or not math.isfinite(measured.stderr):
        return expected, variance
    if measured.stderr == 0 or variance == 0:
        return (measured.value, 0.0) if measured.stderr == 0 else (expected, 0.0)
    weight = variance / (variance + measured.stderr**2)
    return expected + weight * (measured.value - expected), weight * measured.stderr**2


@dataclass(frozen=True)
class Adaptive(Described):
    """The smallest fraction of fresh data that keeps the next generation's drift within a budget.

    Drift is measured as :math:`|c_n|^2` in the feature coordinates of the study (``measures.features``), a lower bound
    of chi2, from new rows of every model (:mod:`driftlaw.loop.step.adapt`). Generation 1 trains on the target in any
    study. Where even fresh data alone cannot keep the budget, the fraction is 1.

    Args:
        budget: B > 0, on the largest drift.
        horizon: number of generations that shall keep the budget together.
        confidence: c in (0, 1) with which they shall.

    Raises:
        ConfigError: a value out of range.

    Example:
        >>> size, unknown = Estimate.exact(1.0, "given"), Estimate.refused("given", "one generation")
        >>> policy = Adaptive(budget=9.0, horizon=10)
        >>> policy.next_alpha(Observed((1.0,), size, size, unknown, 10.0))
        0.0
        >>> policy.next_alpha(Observed((1.0, 0.0, 0.0), Estimate.exact(9.0, "given"), size, size, 10.0))
        0.334
    """

    budget: float
    horizon: int
    confidence: float = 0.9
    kind: ClassVar[str] = "adaptive"
    grows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "budget", check_budget(self.budget))
            object.__setattr__(self, "horizon", check_horizon(self.horizon))
            object.__setattr__(self, "confidence", check_confidence(self.confidence))
        except InputError as error:
            raise ConfigError(error.what, error.fix) from error

    def next_alpha(self, observed: Observed | None) -> float:
        """Fraction of fresh data of the next generation, rounded up to a thousandth; 1 before the first."""
        if observed is None:
            return 1.0
        level = 1 - (1 - self.confidence) / self.horizon
        alphas = np.arange(1001) / 1000
        within = next_drift(alphas, observed, level) <= self.budget * (1 + 1e-9)
        return float(alphas[within.argmax()]) if within.any() else 1.0

    def rows(self, N: int) -> tuple[Array, Array]:
        """Not known before the run.

        Raises:
            InputError: always; a finished run has its rows in its records.
        """
        raise InputError(
            "the rows of an adaptive policy are known only after each generation",
            "take them from the records of the run: record.fresh and record.mixing",
        )
