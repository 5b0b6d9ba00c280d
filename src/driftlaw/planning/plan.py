r"""``driftlaw.plan``: how much fresh data, when, for a drift that is kept.

Two questions with one answer format. *Budget*: the smallest constant fraction and the schedule with the least fresh
data whose drift stays within B. *Total*: the schedule of least drift for a total of fresh samples. The drift of a
schedule, and both searches, are those of :mod:`driftlaw.theory.planning` and :mod:`driftlaw.theory.schedules`.

Uncertainty. Drift rises with J and with kappa, so a plan for their upper confidence limits holds for all smaller
ones. Where innovations fluctuate (a finite number r of directions), the budget is divided by the ratio of an upper
quantile of drift to its mean, which falls with kappa and is taken at its lower limit. Each of these limits gets an
equal part of the allowed risk 1 - confidence, and the quantile's part is shared by all generations for the objective
"max", so the whole plan holds with at least that confidence.

Reference: this project, theory section 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import plain
from driftlaw.planning.evidence import PlanInputs, Source, read
from driftlaw.theory.planning import (
    DriftModel,
    SampleNoise,
    check_alignment,
    check_budget,
    check_confidence,
    constant_schedule,
    fluctuation,
    upper_limit,
)
from driftlaw.theory.refresh import check_horizon
from driftlaw.theory.schedules import (
    Objective,
    check_objective,
    cleanest,
    constant_within,
    evaluate,
    fewest,
    least,
    smallest_budget,
)

#: Constant fractions at which the frontier is drawn.
FRONTIER = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class FrontierPoint:
    """Drift that an amount of fresh data buys.

    Args:
        fresh: fresh samples in all (training sets, if their size is not known).
        constant: the objective with equal fractions.
        best: the objective with the best schedule found.
    """

    fresh: float
    constant: float
    best: float


@dataclass(frozen=True)
class Plan:
    """A refresh plan.

    Args:
        feasible: whether the budget can be kept; True where none was given.
        alpha: smallest constant fraction whose drift stays within the budget however long the recursion goes on;
            without a budget, the constant fraction that costs the total; nan if there is none.
        alpha_horizon: smallest constant fraction that keeps the objective over the horizon within the budget.
        schedule: ``[H]``, the best fractions; where the budget is not feasible, those of least drift.
        drift: ``[H]``, D_1..D_H under the schedule: expected for exact inputs, else an upper limit.
        value: the objective of `drift`.
        fresh_total: fresh samples that the schedule takes (training sets, if their size is not known).
        smallest_feasible_budget: the least value of the objective that any schedule reaches.
        budget, objective, horizon, confidence, total_fresh, samples: what was asked.
        innovation, alignment: J and kappa that the plan was made for: upper limits of uncertain ones.
        start: D_0.
        margin: ratio of the upper quantile of drift to its mean that the budget was divided by; 1 without fluctuation.
        evidence: what J and kappa come from.
        notes: what a reader must know.
    """

    feasible: bool
    alpha: float
    alpha_horizon: float
    schedule: tuple[float, ...]
    drift: tuple[float, ...]
    value: float
    fresh_total: float
    smallest_feasible_budget: float
    budget: float | None
    objective: Objective
    horizon: int
    confidence: float
    total_fresh: float | None
    samples: int
    innovation: float
    alignment: float
    start: float
    margin: float
    evidence: PlanInputs
    notes: tuple[str, ...] = ()
    model: DriftModel = field(repr=False, kw_only=True)

    @cached_property
    def frontier(self) -> tuple[FrontierPoint, ...]:
        """Drift against fresh data, for equal fractions and for the best schedule of the same total."""
        found = []
        for alpha in FRONTIER:
            equal = constant_schedule(alpha, self.horizon)
            best = least(self.model, alpha * self.horizon, self.horizon, self.objective)
            values = [float(evaluate(self.model.drift(s), self.objective)) * self.margin for s in (equal, best)]
            found.append(FrontierPoint(self.samples * alpha * self.horizon, values[0], min(values)))
        return tuple(found)

    @property
    def constant_drift(self) -> tuple[float, ...]:
        """``[H]``, D_1..D_H under the constant fraction `alpha_horizon` (all ones where there is none)."""
        alpha = self.alpha_horizon if math.isfinite(self.alpha_horizon) else 1.0
        return tuple((self.model.drift(constant_schedule(alpha, self.horizon)) * self.margin).tolist())

    @property
    def unit(self) -> str:
        """What fresh data are counted in."""
        return "training sets" if self.samples == 1 else "samples"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready mapping (strict JSON: what does not exist is null)."""
        numbers = {
            name: _finite(getattr(self, name))
            for name in (
                "alpha",
                "alpha_horizon",
                "value",
                "fresh_total",
                "smallest_feasible_budget",
                "budget",
                "confidence",
                "total_fresh",
                "innovation",
                "alignment",
                "start",
                "margin",
            )
        }
        return {
            "kind": "plan",
            "feasible": self.feasible,
            **numbers,
            "objective": self.objective,
            "horizon": self.horizon,
            "samples": self.samples,
            "schedule": list(self.schedule),
            "drift": list(self.drift),
            "frontier": [vars(point) for point in self.frontier],
            "evidence": self.evidence.to_json(),
            "notes": list(self.notes),
        }


def _finite(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else x


def plan(
    *,
    innovation: float | Estimate | SampleNoise | None = None,
    alignment: float | Estimate | None = None,
    history: Source | None = None,
    budget: float | None = None,
    horizon: int,
    objective: str = "max",
    total_fresh: float | None = None,
    samples: int | None = None,
    start: float | str | None = None,
    dimension: float | None = None,
    confidence: float = 0.95,
    reference: str | None = None,
    seed: int = 0,
) -> Plan:
    """Plan the fractions of fresh data of the next generations.

    Args:
        innovation: J, the drift that one generation adds; a number, an estimate, or :class:`SampleNoise`.
        alignment: kappa in [0, 1]: 0 where innovations are independent (sampling noise), 1 where they point the same
            way (bias).
        history: a run, an audit or a directory with one of them, instead of the two above.
        budget: B, the largest drift wanted, in the coordinates of J.
        horizon: H, number of generations.
        objective: "max", "mean" or "terminal" drift.
        total_fresh: fresh samples in all; the plan is then the schedule of least drift for them.
        samples: rows of a training set; those of the run, else 1, which counts fresh data in training sets.
        start: D_0, drift of the model that the first planned generation mixes in, or "last": of the source's last
            generation. 0 starts from the target, and the first fraction then makes no difference. None: "last" for an
            audit, whose line goes on; 0 otherwise.
        dimension: number of directions that independent innovations are spread over; that of the run or audit, else
            infinite: only the expected drift is planned.
        confidence: of the whole plan, where anything is uncertain.
        reference: coordinates of a run: "p", "mixture" or "features".
        seed: seed of comparisons.

    Returns:
        The plan. A budget that cannot be kept gives ``feasible = False`` and the smallest one that can.

    Raises:
        InputError: neither a budget nor a total, a number out of range, or a source without innovations.

    Example:
        >>> found = plan(innovation=1.0, alignment=1.0, budget=100.0, horizon=50, objective="max")
        >>> found.feasible, round(found.alpha, 9), round(found.fresh_total, 3)
        (True, 0.1, 4.0)
    """
    H, of, level = check_horizon(horizon), check_objective(objective), check_confidence(confidence)
    B = None if budget is None else check_budget(budget)
    if B is None and total_fresh is None:
        raise InputError("a plan needs a budget or a total of fresh samples", "give budget=... or total_fresh=...")
    evidence = _evidence(innovation, alignment, history, reference, seed)
    notes = list(evidence.notes)
    n = evidence.samples or 1 if samples is None else samples
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"samples must be a whole number >= 1, got {samples!r}", "it is the rows of a training set")
    if total_fresh is not None and not (math.isfinite(total_fresh) and total_fresh >= 0):
        raise InputError(f"the total of fresh samples must be a number >= 0, got {total_fresh!r}", "use 0 or more")
    if total_fresh is not None and isinstance(evidence.innovation, SampleNoise):
        raise InputError(
            "with SampleNoise every generation takes the same rows, whatever their weight", "leave total_fresh out"
        )
    r = evidence.dimension if dimension is None else dimension
    uncertain = [e for e in (evidence.innovation, evidence.alignment) if isinstance(e, Estimate) and e.stderr != 0]
    parts = len(uncertain) + math.isfinite(r) * (2 if evidence.alignment in uncertain else 1)
    part = 1 - (1 - level) / max(parts, 1)
    J, least_kappa, kappa = _limits(evidence, part, notes)
    margin = fluctuation(least_kappa, r, 1 - (1 - part) / H if of == "max" else part)
    model = DriftModel(J, kappa, _start(start, evidence, part, notes))
    smallest = smallest_budget(model, H, of) * margin
    feasible = B is None or smallest <= B * (1 + 1e-9)
    steady = within = math.nan
    if B is not None and feasible:
        within = constant_within(model, B / margin, H, of)
        steady = model.constant(B / margin)
        steady = max(steady, within) if of == "max" and not isinstance(J, SampleNoise) else steady
        if math.isnan(steady):
            notes.append("the budget is kept over the horizon, but no constant fraction keeps it for ever")
    if total_fresh is not None:
        schedule = least(model, total_fresh / n, H, of)
        if B is None:
            steady = within = min(1.0, total_fresh / n / H)
    else:
        assert B is not None
        best = fewest(model, B / margin, H, of) if feasible else None
        schedule = cleanest(model, H) if best is None else best
    drift = model.drift(schedule) * margin
    value = float(evaluate(drift, of))
    if total_fresh is not None and B is not None:
        feasible = value <= B * (1 + 1e-9)
        if not feasible and smallest <= B:
            notes.append("the budget can be kept, but not with this total of fresh samples")
    if isinstance(J, SampleNoise):
        notes.append("fractions are weights: every generation takes the same fresh and synthetic rows")
    fresh = J.n_fresh * H if isinstance(J, SampleNoise) else n * float(schedule.sum())
    return Plan(
        feasible=feasible,
        alpha=steady,
        alpha_horizon=within,
        schedule=tuple(schedule.tolist()),
        drift=tuple(drift.tolist()),
        value=value,
        fresh_total=fresh,
        smallest_feasible_budget=smallest,
        budget=B,
        objective=of,
        horizon=H,
        confidence=level,
        total_fresh=total_fresh,
        samples=int(n),
        innovation=float(J(schedule[-1])) if isinstance(J, SampleNoise) else J,
        alignment=kappa,
        start=model.start,
        margin=margin,
        evidence=evidence,
        notes=tuple(dict.fromkeys(notes)),
        model=model,
    )


def _evidence(
    innovation: float | Estimate | SampleNoise | None,
    alignment: float | Estimate | None,
    history: Source | None,
    reference: str | None,
    seed: int,
) -> PlanInputs:
    """The one source that was given."""
    if (history is None) == (innovation is None and alignment is None):
        raise InputError("give either innovation and alignment, or a run or an audit", "use one of the two")
    if history is not None:
        return read(history, reference=reference, seed=seed)
    if innovation is None or alignment is None:
        missing = "innovation" if innovation is None else "alignment"
        raise InputError(f"the {missing} is missing", "a plan needs both innovation and alignment")
    kappa = alignment if isinstance(alignment, Estimate) else Estimate.exact(check_alignment(alignment), "given")
    if isinstance(innovation, Estimate | SampleNoise):
        return PlanInputs(innovation, kappa)
    return PlanInputs(Estimate.exact(DriftModel(innovation, 0.0).sizes(0.0).item(), "given"), kappa)


def _limits(evidence: PlanInputs, level: float, notes: list[str]) -> tuple[float | SampleNoise, float, float]:
    """Upper limit of J, lower and upper limit of kappa."""
    J, kappa = evidence.innovation, evidence.alignment
    limit: float | SampleNoise
    if isinstance(J, SampleNoise):
        limit = J
    else:
        limit = upper_limit(J, level) if not J.is_refused else math.nan
        if not (math.isfinite(limit) and limit > 0):
            raise InputError(
                f"the innovation is {J}, with an upper limit of {limit:.4g}",
                "use an estimate whose upper limit is positive and finite, or more samples",
            )
    if kappa.is_refused:
        notes.append("alignment is not known: the plan takes the worst case, 1")
        return limit, 0.0, 1.0
    high = upper_limit(kappa, level)
    if not math.isfinite(high):
        return limit, 0.0, 1.0
    return limit, min(1.0, max(0.0, 2 * kappa.value - high)), min(1.0, max(0.0, high))


def _start(start: float | str | None, evidence: PlanInputs, level: float, notes: list[str]) -> float:
    """Drift that the plan starts from, D_0."""
    if start is None:
        known = evidence.drift is not None and not evidence.drift.is_refused
        start = "last" if evidence.goes_on and known else 0.0
        if evidence.goes_on and not known:
            notes.append("the last drift is not known: the plan starts from the real data, 0")
        elif known and start == 0.0:
            notes.append('it starts from the target itself; start="last" goes on from the last generation')
    if start != "last":
        if isinstance(start, str):
            raise InputError(f"start {start!r}", 'use a number or "last"')
        return start
    if evidence.drift is None or evidence.drift.is_refused:
        raise InputError("there is no last generation to start from", "give start as a number")
    limit = max(0.0, upper_limit(evidence.drift, level))
    beyond = "" if evidence.drift.stderr == 0 else f", taken at its upper limit {plain(limit)}"
    notes.append(f"it starts from the drift of the last generation, {evidence.drift.text()}{beyond}")
    return limit
