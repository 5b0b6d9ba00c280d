r"""The assumptions A1-A5 of [KTV], audited where data can speak.

====  ==============================================================  ==============================================
name  says                                                            what can refute it
====  ==============================================================  ==============================================
A1    eps_hat^2 is finite                                             an energy that is infinite
A2    the Girsanov exponential is a true martingale                   a mean of dP_hat/dP* below one
A3    dP_hat/dP* is uniformly bounded in L^{1+delta}(P*), delta > 1   a tail index k >= 1/2: no moment beyond 1/k
A4    the normalised (2+gamma) moment of the quadratic variation is   a tail index k >= 1/(2+gamma)
      bounded, gamma > max(2, 4/(delta-1))
A5    tails are bounded uniformly, also for the adaptive recursion    a tail index k >= 1/2 in any generation
====  ==============================================================  ==============================================

Tail indices k are those of a generalised Pareto fit: moments of order below 1/k exist. No finite sample proves a
uniform moment bound, and none gives its constant: "checked" means not refuted here.

Reference: [KTV] assumptions A1-A5 (arXiv 2602.16601), as in theory section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.statement import Assumption, Status

UNKNOWN: Status = "not checkable from data"


@dataclass(frozen=True)
class Evidence:
    """What a study measured that bears on the assumptions; everything is optional.

    Args:
        eps_hat2: path score-error energy under the learned path.
        density_mean: mean of the path density dP_hat/dP* under P*; 1 for a martingale.
        density_tail: Pareto tail index of the path density under P*.
        variation_tail: Pareto tail index of the quadratic variation int |e|^2 dt under P*.
        generation_tails: Pareto tail index of p_hat^{i+1}/q_i under q_i, one per generation.
        infinite: why chi2(p_hat || q) at the end of the path is known to be infinite (covariances decide that exactly):
            then the path density has no second moment either. Empty where it is not known to be.
    """

    eps_hat2: Estimate | None = None
    density_mean: Estimate | None = None
    density_tail: Estimate | None = None
    variation_tail: Estimate | None = None
    generation_tails: Sequence[Estimate] = ()
    infinite: str = ""

    def assumptions(self, *names: str) -> tuple[Assumption, ...]:
        """The audited assumptions of these names ("A1", ..., "A5")."""
        audits = {"A1": self._a1, "A2": self._a2, "A3": self._a3, "A4": self._a4, "A5": self._a5}
        return tuple(audits[name]() for name in names)

    def _a1(self) -> Assumption:
        text = "the score-error energy eps_hat^2 under the learned path is finite"
        energy = self.eps_hat2
        if energy is None or energy.is_refused:
            return Assumption("A1", text, UNKNOWN, "eps_hat^2 was not measured")
        return Assumption("A1", text, "violated" if energy.is_infinite else "checked", f"eps_hat^2 = {energy}")

    def _a2(self) -> Assumption:
        text = "the Girsanov exponential is a true martingale"
        mean = self.density_mean
        if mean is None or mean.is_refused or mean.is_infinite:
            return Assumption("A2", text, UNKNOWN, "the mean of dP_hat/dP* was not measured")
        evidence = f"mean of dP_hat/dP* under P* = {mean} (1 for a martingale)"
        return Assumption(
            "A2", text, "violated" if mean.high < 1 else "checked" if mean.low <= 1 else UNKNOWN, evidence
        )

    def _a3(self) -> Assumption:
        text = "the path density is bounded in L^{1+delta}(P*) for some delta > 1"
        if self.infinite:
            return Assumption("A3", text, "violated", f"chi2 of the end-point laws is infinite: {self.infinite}")
        return _tail("A3", text, self.density_tail, 2.0, "path density")

    def _a4(self) -> Assumption:
        text = "the normalised (2+gamma) moment of the quadratic variation is bounded, gamma > max(2, 4/(delta-1))"
        k = self.density_tail
        if k is None or not math.isfinite(k.value):
            return Assumption("A4", text, UNKNOWN, "delta is unknown: the tail of the path density was not measured")
        if k.value >= 0.5:
            return Assumption("A4", text, UNKNOWN, f"no delta > 1 at the path density's tail index k = {k}")
        delta = 1 / k.value - 1 if k.value > 0 else math.inf
        gamma = max(2.0, 4 / (delta - 1))
        return _tail("A4", text, self.variation_tail, 2 + gamma, "quadratic variation")

    def _a5(self) -> Assumption:
        text = "the tails of the learned laws are bounded uniformly over generations"
        audits = [_tail("A5", text, k, 2.0, f"p_hat^{i + 1}/q_{i}") for i, k in enumerate(self.generation_tails)]
        if found := [a for a in audits if a.status == UNKNOWN]:
            return min(found, key=lambda a: not a.evidence.startswith("suspicious"))
        if not audits:
            return Assumption("A5", text, UNKNOWN, "the tails of the generations were not measured")
        return Assumption("A5", text, "checked", f"tail index below 1/2 in each of {len(audits)} generations")


def _tail(name: str, text: str, k: Estimate | None, order: float, what: str) -> Assumption:
    """Whether a moment beyond `order` exists: it does if k < 1/order.

    A tail index read from draws is never a proof of the contrary: N(3, 1)/N(0, 1) has all moments and looks heavy at
    any n that can be drawn. A large one is suspicious, and only known covariances can refute.
    """
    if k is None or k.is_refused:
        return Assumption(name, text, UNKNOWN, f"the tail of the {what} was not measured")
    status: Status = "checked" if k.high < 1 / order else UNKNOWN
    found = f"tail index of the {what} k = {k}; a moment of order {order:g} needs k < {1 / order:.3g}"
    return Assumption(name, text, status, f"suspicious: {found}" if k.low >= 1 / order else found)
