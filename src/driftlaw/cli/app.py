"""The ``driftlaw`` command: verbs, --version, and what becomes of errors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

import driftlaw
from driftlaw.cli.console import err, out
from driftlaw.cli.verbs import audit, bounds, data, plan, report, reproduce, run, sketch, sweep
from driftlaw.errors import DriftlawError

app = typer.Typer(
    name="driftlaw",
    no_args_is_help=True,
    epilog="Start with: driftlaw run digits. Exit codes: 0 done, 1 a gate failed, 2 bad usage or input.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run.run)
app.command()(run.resume)
app.command()(sweep.sweep)
app.command()(bounds.bounds)
app.command()(audit.audit)
app.command()(sketch.sketch)
app.command()(plan.plan)
app.command()(reproduce.reproduce)
app.command()(report.report)
app.add_typer(data.app, name="data", help="Data sets: what is on this machine, and how to get the rest.")


def _version(value: bool) -> None:
    if value:
        from driftlaw.native import kernel_sum as native
        from driftlaw.native import row_passes

        out.print(f"driftlaw {driftlaw.__version__}\ncompiled kernel sum: {native.describe()}", soft_wrap=True)
        out.print(f"compiled passes over rows: {row_passes.SOURCE.describe()}", soft_wrap=True)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure, bound and control model collapse in recursively trained diffusion models."""


def main() -> None:
    """Entry point: exit 0 done, 1 a gate failed, 2 bad usage or input."""
    try:
        app()
    except DriftlawError as error:
        err.print("[bold red]error:[/] " + escape(str(error)), soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("stopped; `driftlaw resume` goes on from here")
        sys.exit(130)
