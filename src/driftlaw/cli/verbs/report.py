"""``driftlaw report``: write the page of a run, a sweep or an audit again from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftlaw import report as pages
from driftlaw.auditing.record import FILE, Audit
from driftlaw.cli.console import out
from driftlaw.loop.history import load
from driftlaw.loop.store import MANIFEST
from driftlaw.loop.sweep import find


def report(
    directory: Annotated[Path, typer.Argument(help="A run directory, or the folder of a sweep or an audit.")],
) -> None:
    """Write report.html of a run, a sweep or an audit from its records; nothing is recomputed."""
    if (directory / FILE).is_file() and not (directory / MANIFEST).exists():
        page = pages.write_audit(Audit.load(directory), directory / "report.html")
    elif (directory / MANIFEST).exists() or not any(directory.glob("alpha-*/**/seed-*")):
        page = pages.write(load(directory))
    else:
        page = pages.write_sweep({c.label: h for c, h in find(directory).items() if len(h)}, directory / "report.html")
    out.print(f"report {page}", soft_wrap=True)
