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

The shapes are fitted to log D_n by weighted least squares (weights from the standard errors and a model error of 3 %)
and compared by AICc. The growth exponent is the slope of log D_n on log n over the later half, with Student's t
interval.

Reference: this project, theory section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.records import Record
from driftlaw.theory.accumulation import alignment, check_gram
from driftlaw.theory.propagator import PolicyLike, propagator
from driftlaw.theory.refresh import Array

Name = Literal["stable", "transient", "diffusive", "ballistic", "logarithmic", "undecided"]
Driver = Literal["score error", "alignment", "fresh fraction", "unknown"]
#: Relative model error added to the standard errors: no real innovation is exactly equal from one round to the next.
MODEL_ERROR = 0.03
#: Share of the fitted plateau that counts as arrived.
ARRIVED = 0.9


@dataclass(frozen=True)
class Regime(Record):
    """The classification of one study.

    Args:
        name: the regime, "undecided" with fewer than 4 usable generations.
        exponent: slope of log D_n on log n over the later half: 0 stable, 1 diffusive, 2 ballistic.
        level: plateau of a stable or transient study; refused otherwise.
        kappa: alignment of innovations weighted by the last row of the propagator; nan without a Gram matrix.
        driver: what makes today's drift large: "fresh fraction" (too little of it: memory), "alignment" or
            "score error" (one generation's innovation is most of the drift).
        factors: D_N as a product: innovation (mean energy), memory (A_N), alignment (1 to B_N/A_N). Empty without Gram.
        scores: AICc of each fitted shape, lower is better.
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


def _fit(shape: Array, y: Array, sigma: Array, parameters: int) -> tuple[float, float, float]:
    """AICc of y = log c + log shape, the fitted log c and its standard error."""
    w = sigma**-2
    gap = y - np.log(shape)
    log_c = float(np.average(gap, weights=w))
    chi2 = float((w * (gap - log_c) ** 2).sum())
    inflation = max(1.0, chi2 / max(y.size - parameters, 1))
    correction = 2 * parameters * (parameters + 1) / max(y.size - parameters - 1, 1)
    return chi2 + 2 * parameters + correction, log_c, math.sqrt(inflation / w.sum())


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
        return Regime("undecided", exponent, level, kappa, driver, factors, {}, (*evidence, *causes))

    shapes = {
        "diffusive": n,
        "ballistic": n**2,
        "logarithmic": np.cumsum(1 / np.arange(1, n[-1] + 1))[n.astype(int) - 1] ** 2,
    }
    scores = {name: _fit(shape, y, sigma, 1)[0] for name, shape in shapes.items()}
    plateaus = [
        (_fit((1 - r**n) ** p, y, sigma, 2 if r else 1), r, p) for p in (1, 2) for r in np.linspace(0, 0.99, 100)
    ]
    (score, log_c, stderr), r, p = min(plateaus, key=lambda fit: fit[0][0])
    arrived = float((1 - r ** n[-1]) ** p)
    settling = "stable" if arrived >= ARRIVED else "transient"
    scores[settling] = score
    ranking = sorted(scores, key=scores.__getitem__)
    name: Any = ranking[0]
    evidence.append(f"growth exponent over the later half: {exponent}")
    if exponent.high < 0 and y[-1] < y[0]:
        name = "transient"
        evidence.append("the drift is falling: what it started from is still being forgotten")
    else:
        gap = scores[ranking[1]] - scores[name]
        words = "clearly" if gap > 6 else "weakly" if gap > 2 else "not"
        evidence.append(f"the {name} shape fits best; {words} separated from {ranking[1]} (AICc difference {gap:.1f})")
    if name == settling:
        value = math.exp(log_c)
        low, high = math.exp(log_c - Z95 * stderr), math.exp(log_c + Z95 * stderr)
        level = Estimate(value, value * stderr, low, high, n.size, "fitted plateau, rate held at its best value")
        evidence.append(f"{arrived:.0%} of the plateau {level} is reached")
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
