"""What every verb shares: progress on stderr, results on stdout, one JSON document with --json, exit codes."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from driftlaw.auditing.verdict.verdict import Verdict
    from driftlaw.loop.run import Watch
    from driftlaw.progress import Progress

out = Console(highlight=False)
#: Seconds between two lines of progress where there is no terminal.
QUIET_SECONDS = 30.0
err = Console(stderr=True, highlight=False)
#: Columns from which a table shows intervals beside values.
WIDE = 72


#: What the message of an interruption advises; a verb that can be gone on with sets it.
go_on = ""


def can_go_on(command: str) -> None:
    """From now on, whoever interrupts is told to go on with this command."""
    global go_on
    go_on = f"go on with `{command}`"


def print_json(document: Any) -> None:
    """Print exactly one strict JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")


def print_verdict(verdict: Verdict, action: str | None = None) -> None:
    """The word, its reasons, and what to do."""
    colour = {"clean": "green", "undetermined": "yellow"}.get(verdict.word, "bold red")
    out.print(f"[{colour}]{verdict.word}[/] generation {verdict.generation}", soft_wrap=True)
    for reason in verdict.reasons:
        out.print(escape(f"  - {reason}"), soft_wrap=True)
    out.print(escape(f"What to do: {verdict.action if action is None else action}"), soft_wrap=True)
    out.print()


#: Option of every verb that may build what a stored file describes.
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run the code and read the data that a file names which you did not write yourself."),
]


@contextmanager
def progressing(first: str) -> Iterator[Progress]:
    """One bar with time left on a terminal; elsewhere a plain line on stderr every half minute."""
    if not err.is_terminal:
        last = time.monotonic()

        def line(fraction: float, text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= QUIET_SECONDS:
                last = time.monotonic()
                err.print(text if math.isnan(fraction) else f"{text} ({fraction:.0%})", markup=False)

        yield line
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=err, transient=True) as bar:
        task = bar.add_task(first, total=None)

        def show(fraction: float, text: str) -> None:
            known = not math.isnan(fraction)
            bar.update(task, description=text, completed=fraction if known else 0, total=1.0 if known else None)

        yield show


@contextmanager
def watching(generations: int, start: int = 1) -> Iterator[Watch | None]:
    """A progress display with time left; silent when stderr is not a terminal."""
    if not err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    share = {"training": (0.0, 0.8), "sampling": (0.8, 0.1), "measuring": (0.9, 0.1), "done": (1.0, 0.0)}
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=float(generations - start + 1))

        def watch(index: int, stage: str, fraction: float, text: str) -> None:
            base, width = share.get(stage, (0.0, 0.0))
            label = f"generation {index}/{generations} {stage} {text}".rstrip()
            progress.update(task, completed=index - start + base + width * fraction, description=label)

        yield watch


def parse_list(text: str, kind: type[float] | type[int], option: str) -> list[Any]:
    """Comma-separated numbers; for integers also ranges such as 0-9.

    Raises:
        typer.BadParameter: not numbers.
    """
    values: list[Any] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        try:
            low, dash, high = part.partition("-")
            if kind is int and dash and low:
                values += list(range(int(low), int(high) + 1))
            else:
                values.append(kind(part))
        except ValueError as error:
            raise typer.BadParameter(f"{part!r} is not a number", param_hint=option) from error
    return values
