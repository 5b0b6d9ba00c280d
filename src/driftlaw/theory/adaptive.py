r"""Adaptive refresh: the fraction of fresh data of the next generation, from what the generations before have shown.

Let innovations have size J, a part :math:`\kappa` of it in one direction and the rest spread evenly over r directions.
The fractions used so far give the states :math:`A_n, S_n` of :mod:`driftlaw.theory.planning`; they are scaled so that
:math:`(1-\kappa) A_n + \kappa S_n^2` is the measured drift. Training generation n + 1 with fraction alpha then leads to

.. math:: D_{n+1} \sim \frac{(1-\kappa) J}{r}\,\chi^2_r(\lambda), \qquad \lambda = \frac{r\,m}{(1-\kappa) J}, \qquad
   m = (1-\kappa)(1-\alpha)^2 A_n + \kappa\,[(1-\alpha) S_n + \sqrt J]^2,

with the recursion's own mean. :class:`Adaptive` takes the smallest alpha for which the upper quantile of
:math:`D_{n+1}` is within the budget: it waits while there is room, spends as late as it can (as the best schedule for a
maximum does), and a lucky generation saves fresh data. D, J and kappa enter as their upper confidence limits; the level
of the quantile is :math:`1 - (1-c)/H`, so that all H generations keep the budget together with confidence c.

Quantiles of the noncentral chi-square law: Patnaik's approximation (Biometrika 36, 1949), exact for lambda = 0.

Reference: this project, theory sections 4 and 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from driftlaw.errors import ConfigError, InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.planning import DriftModel, check_budget, check_confidence, noncentral_quantile, upper_limit
from driftlaw.theory.refresh import KINDS, Array, check_horizon


@dataclass(frozen=True)
class Observed:
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

    def to_json(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return {
            "fractions": list(self.fractions),
            "drift": self.drift.to_json(),
            "innovation": self.innovation.to_json(),
            "alignment": self.alignment.to_json(),
            "dimension": self.dimension if math.isfinite(self.dimension) else str(self.dimension),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Observed:
        """Inverse of :meth:`to_json`."""
        estimates = {k: Estimate.from_json(document[k]) for k in ("drift", "innovation", "alignment")}
        return cls(tuple(map(float, document["fractions"])), dimension=float(document["dimension"]), **estimates)


@runtime_checkable
class AdaptivePolicy(Protocol):
    """A policy whose next row depends on what the last generations have shown; the loop asks it after each."""

    def next_alpha(self, observed: Observed | None) -> float:
        """Fraction of fresh data of the next generation; `observed` is None before the first."""
        ...


def next_drift(alpha: ArrayLike, observed: Observed, *, confidence: float, level: float) -> Array:
    """Upper quantile of the drift after one more generation, as a function of its fraction of fresh data.

    Args:
        alpha: fractions, any shape.
        observed: D, J and kappa, which enter as their upper limits; a refused kappa counts as 1.
        confidence: of these limits, in (0, 1); 0.5 takes the values themselves.
        level: of the quantile, in (0, 1).

    Returns:
        The shape of `alpha`; ``inf`` where D or J is not known.

    Example:
        >>> one, four = Estimate.exact(1.0, "given"), Estimate.exact(4.0, "given")
        >>> next_drift([0.0, 1.0], Observed((1.0, 0.0), four, one, one, 10.0), confidence=0.9, level=0.95)
        array([9., 1.])
    """
    keep = 1 - np.asarray(alpha, dtype=np.float64)
    drift, J = (max(0.0, upper_limit(e, confidence)) for e in (observed.drift, observed.innovation))
    limit = 1.0 if observed.alignment.is_refused else upper_limit(observed.alignment, confidence)
    if not (math.isfinite(drift) and math.isfinite(J)) or observed.drift.is_refused or observed.innovation.is_refused:
        return np.full(keep.shape, np.inf)
    kappa = min(1.0, max(0.0, limit))
    A, S = (state[-1] for state in DriftModel(1.0, kappa).states(observed.fractions))
    scale = drift / ((1 - kappa) * A + kappa * S**2)
    m = (1 - kappa) * keep**2 * scale * A + kappa * (keep * math.sqrt(scale) * S + math.sqrt(J)) ** 2
    noise, r = (1 - kappa) * J, observed.dimension
    if noise == 0 or math.isinf(r):
        return np.asarray(m + noise)
    return np.asarray(noise / r * noncentral_quantile(level, r, m * r / noise))


@dataclass(frozen=True)
class Adaptive:
    """The smallest fraction of fresh data that keeps the next generation's drift within a budget.

    Drift is measured as :math:`|c_n|^2` in the feature coordinates of the study (``measures.features``), from the
    stored rows of all generations: a lower bound of chi2. Generation 1 trains on the target in any study. Where even
    fresh data alone cannot keep the budget, the fraction is 1.

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
        reached = next_drift(alphas, observed, confidence=self.confidence, level=level)
        within = reached <= self.budget * (1 + 1e-9)
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

    def config(self) -> dict[str, Any]:
        """YAML-ready description."""
        return {"kind": self.kind, "budget": self.budget, "horizon": self.horizon, "confidence": self.confidence}


KINDS[Adaptive.kind] = Adaptive
