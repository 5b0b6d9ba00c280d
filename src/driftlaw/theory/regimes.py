r"""Regimes: which law of growth a study's drift follows, with the evidence.

Under equal innovations of alignment kappa, theory section 4 gives :math:`D_n = J\,[(1-\kappa) A_n + \kappa B_n]` with
:math:`A_n = \sum_i G_{n,i}^2` and :math:`B_n = (\sum_i G_{n,i})^2`, which leaves few shapes:

============ ================================================ ========================================================
regime       shape of D_n                                     where it comes from
============ ================================================ ========================================================
stable       c (1 - r^n)^p, at 90 % of its plateau or more    fresh data, memory forgotten
transient    the same, not there yet, or falling drift        too few generations, or a bad start being forgotten
diffusive    c n                                              replace, independent innovations (sampling noise)
ballistic    c n^2                                            replace, aligned innovations (bias)
logarithmic  c (1 + 1/2 + ... + 1/n)^2                        accumulate, aligned innovations
============ ================================================ ========================================================

Each law is judged under the noise of its own mechanism (:mod:`driftlaw.theory.growth`): a random walk in a few
directions bends by itself. A regime is named where its probability, with equal prior weights, is :data:`SURE` or
more; otherwise the answer is "undetermined". The growth exponent is the slope of log D_n on log n over the later
half, with Student's t interval; it describes the curve and does not choose.

Reference: this project, theory section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.records import Record
from driftlaw.theory.accumulation import alignment, check_gram
from driftlaw.theory.growth import judge
from driftlaw.theory.propagator import PolicyLike, propagator
from driftlaw.theory.refresh import Array

Name = Literal["stable", "transient", "diffusive", "ballistic", "logarithmic", "undetermined"]
Driver = Literal["score error", "alignment", "fresh fraction", "unknown"]
#: Relative model error added to the standard errors: no real innovation is exactly equal from one round to the next.
MODEL_ERROR = 0.03
#: Probability from which a law is named.
SURE = 0.99


@dataclass(frozen=True)
class Regime(Record):
    """The classification of one study.

    Args:
        name: the regime, "undetermined" with fewer than 4 usable generations or where several laws fit.
        exponent: slope of log D_n on log n over the later half: 0 stable, 1 diffusive, 2 ballistic.
        level: plateau of a stable or transient study; refused otherwise.
        kappa: alignment of innovations weighted by the last row of the propagator; nan without a Gram matrix.
        driver: what makes today's drift large: "fresh fraction" (too little of it: memory), "alignment" or
            "score error" (one generation's innovation is most of the drift).
        factors: D_N as a product: innovation (mean energy), memory (A_N), alignment (1 to B_N/A_N). Empty without Gram.
        scores: probability of each law.
        evidence: the reasons, in words.
    """

    name: Name
    exponent: Estimate
    level: Estimate
    kappa: float
    driver: Driver
    factors: dict[str, float]
    scores: dict[str, float]
    evidence: tuple[str, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`; 0.1.0 wrote "undecided" for "undetermined"."""
        old = isinstance(document, Mapping) and document.get("name") == "undecided"
        return super().from_json({**document, "name": "undetermined"} if old else document)


def growth_exponent(drift: Sequence[Estimate]) -> Estimate:
    """Slope of log D_n on log n over the later half of the generations, n > N/2 (all of them if N < 6).

    The residual variance scales the interval where it exceeds the one that the standard errors imply.

    Args:
        drift: D_1..D_N.

    Raises:
        InputError: no generation.
    """
    n, y, sigma = _points(drift)
    method = "weighted regression of log D_n on log n, later half"
    late = n > len(drift) / 2 if len(drift) >= 6 else n > 0
    n, y, sigma = n[late], y[late], sigma[late]
    if n.size < 3:
        return Estimate.refused(method, f"only {n.size} usable generations in the later half", n.size)
    x, w = np.log(n), sigma**-2
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    spread = (w * (x - mean_x) ** 2).sum()
    slope = (w * (x - mean_x) * (y - mean_y)).sum() / spread
    residual = y - mean_y - slope * (x - mean_x)
    inflation = max(1.0, (w * residual**2).sum() / (n.size - 2))
    return Estimate.normal(slope, math.sqrt(inflation / spread), n.size, method, dof=n.size - 2)


def _points(drift: Sequence[Estimate]) -> tuple[Array, Array, Array]:
    """(n, log D_n, standard error of log D_n) of the generations with a finite positive drift."""
    if not drift:
        raise InputError("a regime needs at least one generation's drift", "pass D_1..D_N")
    rows = [(n, d.value, d.stderr) for n, d in enumerate(drift, 1) if math.isfinite(d.value) and d.value > 0]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    n, value, stderr = table.T
    relative = np.where(np.isfinite(stderr), stderr, value) / value
    return n, np.log(value), np.hypot(relative, MODEL_ERROR)


def classify(drift: Sequence[Estimate], policy: PolicyLike | None = None, gram: ArrayLike | None = None) -> Regime:
    """Which regime a study is in and what drives its drift.

    Args:
        drift: D_1..D_N, in the same reference law as `gram`.
        policy: the study's policy or its rows; with `gram` it gives the driver.
        gram: ``[N, N]``, Gram matrix of the innovations.

    Raises:
        InputError: no generation, or a Gram matrix that does not fit.

    Example:
        >>> from driftlaw.estimate import Estimate
        >>> classify([Estimate.exact(0.1 * n, "given") for n in range(1, 13)]).name
        'diffusive'
    """
    n, y, sigma = _points(drift)
    exponent = growth_exponent(drift)
    kappa, driver, factors, causes = _driver(len(drift), policy, gram)
    level = Estimate.refused("plateau", "the drift does not settle")
    evidence: list[str] = []
    if skipped := len(drift) - n.size:
        evidence.append(f"{skipped} of {len(drift)} generations have no finite positive drift and were left out")
    if n.size < 4:
        evidence.append(f"{n.size} usable generations: at least 4 are needed")
        return Regime("undetermined", exponent, level, kappa, driver, factors, {}, (*evidence, *causes))

    judged = judge(n, y, sigma)
    scores = dict(sorted(judged.probability.items(), key=lambda item: -item[1]))
    first, second = list(scores)[:2]
    evidence.append(f"growth exponent over the later half: {exponent}")
    name: Any = first if scores[first] >= SURE else "undetermined"
    if name == "undetermined":
        evidence.append(
            f"several laws fit: {first} with probability {scores[first]:.0%}, {second} with {scores[second]:.0%}"
        )
    else:
        evidence.append(f"{first} with probability {scores[first]:.4g}, {second} with {scores[second]:.2g}")
    if name in {"stable", "transient"}:
        if judged.best.plateau > 0:
            value = judged.best.plateau * math.exp(judged.log_scale)
            low, high = (value * math.exp(sign * Z95 * judged.stderr) for sign in (-1.0, 1.0))
            level = Estimate(value, value * judged.stderr, low, high, n.size, "plateau of the most likely curve")
            arrived = float(judged.best.mean[int(n[-1]) - 1]) / judged.best.plateau
            evidence.append(f"{arrived:.0%} of the plateau {level} is reached")
        else:
            evidence.append("the drift is falling: what it started from is still being forgotten")
    return Regime(name, exponent, level, kappa, driver, factors, scores, (*evidence, *causes))


def _driver(
    N: int, policy: PolicyLike | None, gram: ArrayLike | None
) -> tuple[float, Driver, dict[str, float], tuple[str, ...]]:
    """Factors of D_N = mean innovation x memory A_N x alignment (an exact product) and which of them drives it."""
    if gram is None:
        return math.nan, "unknown", {}, ("no Gram matrix of innovations: alignment and driver are not known",)
    gamma = check_gram(gram)
    if gamma.shape[0] != N:
        raise InputError(f"{N} generations of drift but a Gram matrix of {gamma.shape[0]} innovations", "use equal N")
    if policy is None:
        return alignment(gamma), "unknown", {}, ("no policy: the driver is not known",)
    g = propagator(policy, N)[-1]
    kappa = alignment(gamma, g)
    memory = float((g**2).sum())
    diagonal = float((g**2 * np.diag(gamma)).sum())
    if not diagonal > 0:
        why = "the innovations are zero" if diagonal == 0 else "the innovations are not above their noise"
        return kappa, "unknown", {}, (f"{why}: nothing can be said to drive the drift",)
    aligned = float(g @ gamma @ g) / diagonal
    factors = {"innovation": diagonal / memory, "memory": memory, "alignment": aligned}
    driver: Driver = (
        "score error"
        if max(memory, aligned) < 2
        else "alignment"
        if aligned >= memory * (1 - 1e-9)
        else "fresh fraction"
    )
    reason = (
        f"today's drift = mean innovation {factors['innovation']:.3g} x memory {memory:.3g} x alignment {aligned:.3g} "
        f"(kappa {kappa:.2f}, weighted by memory): {driver}"
    )
    return kappa, driver, factors, (reason,)
