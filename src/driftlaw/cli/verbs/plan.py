"""``driftlaw plan``: how much fresh data, when, for a drift that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from driftlaw.cli.console import Trust, err, out, print_json
from driftlaw.errors import InputError

if TYPE_CHECKING:
    from driftlaw.planning.plan import Plan

#: Width of the bars of the schedule, characters.
BAR = 24
#: Longer schedules are shown at evenly spaced generations.
MOST_ROWS = 30


def plan(
    horizon: Annotated[int, typer.Option(help="Number of generations to plan.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A run directory, or a folder with an audit.json.")
    ] = None,
    innovation: Annotated[float | None, typer.Option(help="J, the drift that one generation adds.")] = None,
    alignment: Annotated[
        float | None, typer.Option(help="Kappa: 0 for independent innovations, 1 for aligned ones.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="B, the largest drift wanted.")] = None,
    objective: Annotated[str, typer.Option(help="Which drift the budget is on: max, mean or terminal.")] = "max",
    total_fresh: Annotated[
        float | None, typer.Option(help="Fresh samples in all: plan the least drift for them.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Rows of a training set (default: the run's, else fresh data count in sets).")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Drift to start from: a number, or last (default: last of an audit, 0 otherwise)."),
    ] = None,
    dimension: Annotated[
        float | None, typer.Option(help="Directions of independent innovations (default: the run's, else infinite).")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the plan, where anything is uncertain.")] = 0.95,
    reference: Annotated[str | None, typer.Option(help="Coordinates of a run: p, mixture or features.")] = None,
    out_directory: Annotated[
        Path | None, typer.Option("--out", help="Also write plan.json and plan.html here.")
    ] = None,
    trust: Trust = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Plan fresh data: the smallest fraction and the best schedule for a drift budget, or the least drift for a total.

    A budget that cannot be kept is reported with the smallest one that can.
    """
    from driftlaw.loop.history import load
    from driftlaw.loop.store import MANIFEST
    from driftlaw.planning.plan import plan as make

    found = make(
        innovation=innovation,
        alignment=alignment,
        history=load(source, trust=True) if trust and source and (source / MANIFEST).is_file() else source,
        budget=budget,
        horizon=horizon,
        objective=objective,
        total_fresh=total_fresh,
        samples=samples,
        start=_start(start),
        dimension=dimension,
        confidence=confidence,
        reference=reference,
    )
    page = None
    if out_directory is not None:
        from driftlaw import report as pages

        page = pages.write_plan(found, out_directory)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
        if page is not None:
            out.print(f"report {page}", soft_wrap=True)


def _start(text: str | None) -> float | str | None:
    if text is None or text == "last":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--start {text!r} is neither a number nor last", "write for example --start 0.2") from None


def _show(plan: Plan) -> None:
    """The answer first, then the schedule and what more data would buy."""
    from driftlaw.planning.describe import amount, answer, basis, shown

    out.print(f"[bold]{escape(answer(plan))}[/]", soft_wrap=True)
    out.print(escape(basis(plan)), soft_wrap=True)
    for note in plan.notes:
        err.print("[yellow]note[/] " + escape(note), soft_wrap=True)
    limit = "drift" if plan.margin == 1 else "drift at most"
    table = Table("generation", "fresh", "", limit, box=None, pad_edge=False)
    for k in (0, 1, 3):
        table.columns[k].justify = "right"
    for n in shown(plan.horizon, MOST_ROWS):
        share, drift = plan.schedule[n - 1], plan.drift[n - 1]
        bar = "█" * round(BAR * share) or ("▏" if share > 0.001 else "")
        table.add_row(str(n), f"{share:.1%}", bar, f"{drift:.4g}")
    out.print(table)
    frontier = Table("fresh", "equal fractions", "best schedule", box=None, pad_edge=False)
    for k in range(3):
        frontier.columns[k].justify = "right"
    for point in plan.frontier:
        frontier.add_row(amount(point.fresh, plan), f"{point.constant:.4g}", f"{point.best:.4g}")
    out.print(f"\nwhat fresh data buy: {plan.objective} drift for so many {plan.unit}")
    out.print(frontier)
