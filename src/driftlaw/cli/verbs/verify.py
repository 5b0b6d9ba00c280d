"""``driftlaw verify``: every hash of a run, a sweep, an audit or a sketch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from driftlaw.auditing.verification import verify as check
from driftlaw.cli.console import err, out, print_json


def verify(
    path: Annotated[Path, typer.Argument(help="A run directory, a sweep, an audit or a sketch.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Check every stored hash; names each damaged file and exits with 2 if there is one."""
    found = check(path)
    if as_json:
        print_json(found.to_json())
    else:
        for name, reason in found.damaged.items():
            err.print(f"[bold red]damaged:[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
        counts = f"{len(found.checked)} files are as they were written, {len(found.damaged)} are damaged"
        out.print(f"{counts}, {len(found.unverifiable)} are not verifiable (no hash)", soft_wrap=True)
    if not found.clean:
        raise typer.Exit(2)
