"""The page of a plan: the answer, the schedule with its drift, and the frontier of drift against fresh data.

It reads a :class:`driftlaw.planning.plan.Plan` and recomputes nothing but the frontier that the plan defines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup

from driftlaw.loop.store import write_json
from driftlaw.numerics.words import number
from driftlaw.planning.describe import amount, answer, basis
from driftlaw.planning.plan import Plan
from driftlaw.report import page
from driftlaw.report.figures.run import generation_axis, logarithmic
from driftlaw.report.figures.svg import COLOURS, Canvas


def schedule_figure(plan: Plan) -> Markup:
    """Fractions as bars; below, the drift under the schedule and under the constant fraction, with the budget."""
    at = np.arange(1, plan.horizon + 1)
    canvas = Canvas(340, 186)
    with canvas as axes:
        axes.grid(axis="y")
        axes.bar(at, plan.schedule, width=0.8, color=COLOURS["real"], linewidth=0)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("fresh fraction α")
        generation_axis(axes, plan.horizon)
    peak = int(np.argmax(plan.schedule)) + 1
    return canvas.svg(
        "schedule", f"Bars of the fresh fraction by generation; largest {max(plan.schedule):.2f} at generation {peak}."
    )


def drift_figure(plan: Plan) -> Markup:
    """Drift under the schedule (orange) and under the constant fraction (dashed), with the budget (dotted)."""
    at = np.arange(1, plan.horizon + 1)
    canvas = Canvas(340, 186)
    with canvas as axes:
        axes.grid(axis="y")
        style = {"marker": "o", "markersize": 4} if plan.horizon <= 30 else {}
        axes.plot(at, plan.drift, color=COLOURS["model"], linewidth=1.8, **style)  # type: ignore[arg-type]
        if plan.budget is not None:
            axes.plot(at, plan.constant_drift, color=COLOURS["muted"], linewidth=1.2, linestyle=(0, (4, 2)))
            axes.axhline(plan.budget, color=COLOURS["ink"], linewidth=1, linestyle=(0, (1, 2)))
        axes.set_ylim(0, None)
        axes.set_ylabel("drift D")
        generation_axis(axes, plan.horizon)
    return canvas.svg("drift", f"Line chart of drift by generation under the schedule; {plan.value:.3g} in all.")


def frontier_figure(plan: Plan) -> Markup:
    """Drift against fresh data: equal fractions (dashed) and the best schedule (full)."""
    fresh = [p.fresh for p in plan.frontier]
    canvas = Canvas(340, 186)
    with canvas as axes:
        axes.grid(axis="both")
        axes.plot(
            fresh,
            [p.constant for p in plan.frontier],
            color=COLOURS["muted"],
            linewidth=1.2,
            linestyle=(0, (4, 2)),
            marker="s",
            markersize=3,
        )
        axes.plot(
            fresh, [p.best for p in plan.frontier], color=COLOURS["model"], linewidth=1.8, marker="o", markersize=4
        )
        if plan.budget is not None:
            axes.axhline(plan.budget, color=COLOURS["ink"], linewidth=1, linestyle=(0, (1, 2)))
        logarithmic(axes, "y")
        axes.set_xlabel(f"fresh data, {plan.unit}")
        axes.set_ylabel(f"{plan.objective} drift")
    ends = plan.frontier[0], plan.frontier[-1]
    return canvas.svg(
        "frontier",
        f"Drift against fresh data: {ends[0].best:.3g} without any, {ends[1].best:.3g} with fresh data only.",
    )


def build(plan: Plan) -> str:
    """The page as HTML."""
    return page.render(
        "plan.html.j2",
        lead=answer(plan),
        basis=basis(plan),
        notes=plan.notes,
        plan=plan,
        figures=(schedule_figure(plan), drift_figure(plan), frontier_figure(plan)),
        rows=[(n + 1, f"{a:.3f}", number(d)) for n, (a, d) in enumerate(zip(plan.schedule, plan.drift, strict=True))],
        frontier=[(amount(p.fresh, plan), number(p.constant), number(p.best)) for p in plan.frontier],
        unit=plan.unit,
    )


def write(plan: Plan, directory: Path) -> Path:
    """Write plan.html and plan.json into a folder; returns the page."""
    where = page.save(build(plan), directory / "plan.html")
    write_json(directory / "plan.json", plan.to_json())
    return where
