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
from driftlaw.analysis.report import BoundsReport, Statement, alignment_words, reference_words, regime_words
from driftlaw.cli.console import Trust, err, out, print_json
from driftlaw.loop.history import load
from driftlaw.loop.run import use_threads_of
from driftlaw.theory.bounds import Assumption

MARKS = {"checked": "✓", "not checkable from data": "?", "violated": "✗"}
#: Where drift is measured; path statements compare laws at t0.
SHORT = {"p": "L²(p)", "mixture": "L²(mix)", "": "t0"}
LEGEND = (
    "assumptions: ✓ checked, ? not checkable from data, ✗ violated (the statement then says nothing); slack is bound / "
    "measured; !! the measured value is beyond the bound by more than 4 standard errors; intervals of bounds: --json"
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
    out.print(LEGEND, soft_wrap=True)
    _print_regime(found)
    out.print(f"report {page}", soft_wrap=True)


def _table(statements: Iterable[Statement]) -> Table:
    """One row for each statement; a lower and an upper bound of one name share theirs."""
    table = Table("statement", "in", "measured", "lower", "upper", "slack", "assumptions", box=None, pad_edge=False)
    rows: dict[tuple[str, str], list[Statement]] = {}
    for s in statements:
        rows.setdefault((s.reference, s.bound.name), []).append(s)
    for (reference, name), group in rows.items():
        found = [s.bound for s in group]
        measured = found[0].measured
        low, high = (
            " ".join("-" if b.value.is_refused else f"{b.value.value:.4g}" for b in found if b.side != side)
            for side in ("upper", "lower")
        )
        slack = [f"{b.slack:.3g}" for b in found if b.slack == b.slack]
        short = name.replace("Proposition", "Prop.").replace("Theorem", "Thm")
        cells = (short, SHORT.get(reference, reference), "" if measured is None else str(measured))
        wrong = " !!" if any(s.beyond and not s.bound.violated for s in group) else ""
        marks = compact(dict.fromkeys(a for b in found for a in b.assumptions)) + wrong
        table.add_row(*(escape(c) for c in (*cells, low, high, " ".join(slack), marks)))
    return table


def compact(assumptions: Iterable[Assumption]) -> str:
    """Assumptions by status in one line."""
    groups: dict[str, list[str]] = {}
    for a in assumptions:
        groups.setdefault(MARKS[a.status], []).append(a.name)
    return "; ".join(f"{mark} {' '.join(names)}" for mark, names in groups.items()) or "none needed"


def _print_regime(found: BoundsReport) -> None:
    main = found.main
    where = reference_words(main.reference)
    out.print(f"regime ({where}): {regime_words(main.regime)}", soft_wrap=True)
    for reason in main.regime.evidence:
        out.print(f"  {escape(reason)}", soft_wrap=True)
    out.print(escape(alignment_words(main.alignment)), soft_wrap=True)
    out.print(
        f"accumulation identity: D_n = G Γ Gᵀ to a relative error of {main.reconstruction_error:.1e}; "
        f"effective memory {main.memory[-1]:.3g} generations",
        soft_wrap=True,
    )
