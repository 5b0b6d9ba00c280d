"""A plan in words, for the terminal and the page."""

from __future__ import annotations

import math

import numpy as np

from driftlaw.numerics.words import count
from driftlaw.planning.plan import Plan

#: What a budget is on, in words.
OBJECTIVES = {"max": "the largest drift", "mean": "the mean drift", "terminal": "the drift of the last generation"}


def shown(horizon: int, most: int) -> list[int]:
    """At most `most` of the generations 1..horizon, evenly spaced, first and last among them."""
    return sorted({round(x) for x in np.linspace(1, horizon, min(horizon, most))})


def amount(fresh: float, plan: Plan) -> str:
    """Fresh data as a reader writes them."""
    return f"{fresh:.2f}" if plan.samples == 1 else count(fresh)


def answer(plan: Plan) -> str:
    """The plan in one or two sentences."""
    of, H = OBJECTIVES[plan.objective], plan.horizon
    spent = f"{amount(plan.fresh_total, plan)} {plan.unit}"
    if plan.total_fresh is not None:
        verdict = ""
        if plan.budget is not None:
            verdict = f" The budget of {plan.budget:g} is {'kept' if plan.feasible else 'not kept'}."
        return f"With {spent} of fresh data over {H} generations, {of} is {plan.value:.4g}.{verdict}"
    if not plan.feasible:
        return (
            f"A budget of {plan.budget:g} on {of} cannot be kept: fresh data alone lead to "
            f"{plan.smallest_feasible_budget:.4g}, the smallest budget that is feasible."
        )
    equal = plan.alpha_horizon * H * plan.samples
    for_ever = "" if math.isnan(plan.alpha) else f"A constant {plan.alpha:.4g} of fresh data keeps {of} within "
    first = f"{for_ever}{plan.budget:g} for ever; " if for_ever else ""
    if equal == 0:
        return f"{first}over {H} generations none is needed."
    return (
        f"{first}{plan.alpha_horizon:.4g} does over {H} generations ({amount(equal, plan)} {plan.unit}), and the best "
        f"schedule does with {spent}."
    )


def basis(plan: Plan) -> str:
    """What the plan was made for, in a sentence."""
    exact = plan.margin == 1 and plan.evidence.alignment.stderr == 0
    said = f"innovation J = {plan.innovation:.4g}, alignment κ = {plan.alignment:.3g}, start {plan.start:.4g}"
    where = f"; coordinates: {plan.evidence.coordinates}"
    if exact and getattr(plan.evidence.innovation, "stderr", 0.0) == 0:
        return f"For {said}{where}; drift is the expected one."
    margin = f"; drift may exceed its mean {plan.margin:.3g} times" if plan.margin > 1 else ""
    return f"For the upper limits {said}{margin}{where}; confidence {plan.confidence:g}."
