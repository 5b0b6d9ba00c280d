"""``driftlaw data list`` and ``driftlaw data fetch NAME``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(
    help="Data sets with a name: what is here, and how to get the rest.", no_args_is_help=True, add_completion=False
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the named data sets, and where each was found or how to get it."""
    from driftlaw.data import catalogue

    rows = catalogue()
    if as_json:
        typer.echo(json.dumps({"datasets": rows}, indent=2))
        return
    table = [("name", "rows", "held out", "shape", "where")]
    for row in rows:
        counts = ["endless" if row[key] is None else f"{row[key]}" for key in ("rows", "held_out")]
        where = row["where"] if row["available"] else f"not here: {row['where']}"
        table.append((row["name"], *counts, "x".join(map(str, row["shape"])), where))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("Your own data: the path of a .npy, .npz, .parquet or .csv file, or of a folder of images.")


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="gmm, digits, fashion-mnist or cifar10.")], as_json: Json = False
) -> None:
    """Make a named data set available: find it here, or download it with its checksum verified."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from driftlaw.data import fetch_named

    console = Console(stderr=True)
    with Progress(
        BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, visible=True)

        where = fetch_named(name, show)
    typer.echo(json.dumps({"name": name, "where": where}) if as_json else f"{name}: {where}")
