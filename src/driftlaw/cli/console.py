"""What every verb shares: progress on stderr, results on stdout, one JSON document with --json, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from driftlaw.loop.run import Watch

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print exactly one strict JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")


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
