"""``driftlaw bounds``: every statement that applies to a run beside its measured value, and what drives its drift."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from driftlaw import report as pages
from driftlaw.analysis.bounds import analyse
from driftlaw.analysis.report import (
    BoundsReport,
    Outcome,
    Statement,
    alignment_words,
    reference_words,
    regime_words,
)
from driftlaw.cli.console import WIDE, Trust, err, out, print_json
from driftlaw.loop.history import load
from driftlaw.loop.run import use_threads_of
from driftlaw.numerics.words import plain

SIGNS = {"upper": "≤", "lower": "≥", "identity": "="}
#: Where drift is measured; path statements compare laws at t0.
SHORT = {"p": "L²(p)", "mixture": "L²(mix)"}
#: Names that are long in a table.
BRIEF = (
    ("Proposition", "Prop."),
    ("Theorem", "Thm"),
    ("Equality for consistent fields", "Equality, consistent"),
    ("TV certificate, early stopping", "TV certificate"),
    ("Gradient bound", "Gradient"),
)
#: Outcomes, the one that matters most first: two bounds of one quantity share a row.
RANK: tuple[Outcome, ...] = (
    "outside",
    "undetermined",
    "within",
    "equal",
    "not measured",
    "says nothing",
    "not valid as printed",
)
LEGEND = (
    "within: the whole interval of the measured value is on the right side of the bound. equal: the intervals meet, "
    "and noise is small. undetermined: they meet, or nearly, and noise rules. outside: beyond by more than 4 standard "
    "errors. ? rests on assumptions that these data cannot check; ✗ says nothing: an assumption is violated. "
    "Intervals of bounds, slack and every assumption: --json and the report."
)


def bounds(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    samples: Annotated[int, typer.Option(help="Points on which laws are compared.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of these points.")] = 0,
    reference: Annotated[
        str | None, typer.Option(help="p, mixture or features (default: all that the run allows).")
    ] = None,
    trust: Trust = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Show every bound of a run beside the measured value; writes bounds.json and renews report.html."""
    history = load(directory, trust=trust)
    use_threads_of(history.manifest)
    found = analyse(history, samples=samples, seed=seed, reference=reference)
    found.save(directory)
    page = pages.write(load(directory))
    if as_json:
        print_json(found.to_json())
        return
    for note in found.notes:
        err.print("[yellow]note[/] " + escape(note), soft_wrap=True)
    for n in [*range(1, found.generations + 1), None]:
        if found.at(n):
            out.print(f"[bold]{'Whole run' if n is None else f'Generation {n}'}[/]")
            out.print(_table(found.at(n)))
    out.print(LEGEND)
    _print_assumptions(found.statements)
    _print_regime(found)
    _print_collapse(found)
    out.print(f"report {page}", soft_wrap=True)


def _print_collapse(found: BoundsReport) -> None:
    """What "model collapse" means, and whether this run did it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for sign in found.collapse:
        table.add_row(sign.name, sign.answer, escape(sign.evidence))
    out.print("[bold]Collapse, by definition[/] (definitions: --json)")
    out.print(table)


def _table(statements: Iterable[Statement]) -> Table:
    """One row for each statement; a lower and an upper bound of one name share theirs."""
    wide = out.width >= WIDE
    table = Table(box=None, pad_edge=False)
    for name in ("statement", "measured", "bound", "outcome"):
        table.add_column(name, no_wrap=name != "statement", overflow="fold")
    rows: dict[tuple[str, str], list[Statement]] = {}
    for s in statements:
        rows.setdefault((s.reference, s.bound.name), []).append(s)
    for (reference, name), group in rows.items():
        measured = group[0].bound.measured
        short = name
        for long, brief in BRIEF:
            short = short.replace(long, brief)
        where = SHORT.get(reference, reference)
        bound = " ".join(f"{SIGNS[s.bound.side]} {plain(s.bound.value.value)}" for s in group)
        shown = "" if measured is None else measured.text() if wide else plain(measured.value)
        cells = (f"{short}, {where}" if where else short, shown, bound, _outcome(group))
        table.add_row(*(escape(c) for c in cells))
    return table


def _outcome(group: Iterable[Statement]) -> str:
    """The outcome of a row, with a mark for what it rests on."""
    s = min(group, key=lambda s: RANK.index(s.outcome))
    if s.outcome == "outside":
        return "outside !!"
    if s.bound.violated:
        return f"✗ {', '.join(s.bound.violated)}"
    open_ended = any(a.status != "checked" for a in s.bound.assumptions) and s.outcome in ("within", "equal")
    word = "not as printed" if s.outcome == "not valid as printed" else s.outcome
    return f"{word} ?" if open_ended else word


def _print_assumptions(statements: Iterable[Statement]) -> None:
    """Every assumption once that is not checked, with what it says."""
    for status, mark in (("not checkable from data", "?"), ("violated", "✗")):
        found = {a.name: a.text for s in statements for a in s.bound.assumptions if a.status == status}
        if found:
            out.print(escape(f"{mark} {status}: " + "; ".join(f"{name}: {text}" for name, text in found.items())))


def _print_regime(found: BoundsReport) -> None:
    main = found.main
    where = reference_words(main.reference)
    out.print(escape(f"regime ({where}): {regime_words(main.regime)}"))
    for reason in main.regime.evidence:
        out.print(f"  {escape(reason)}")
    out.print(escape(alignment_words(main.alignment)))
    out.print(
        f"accumulation identity: D_n = G Γ Gᵀ to a relative error of {plain(main.reconstruction_error, 2)}; "
        f"effective memory {plain(float(main.memory[-1]))} generations"
    )
