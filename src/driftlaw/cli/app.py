"""The ``driftlaw`` command: verbs that load when they are used, --version, and what becomes of errors."""

from __future__ import annotations

import errno
import importlib
import signal
import sys
from typing import Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from driftlaw._version import __version__
from driftlaw.cli import console
from driftlaw.cli.console import err, out
from driftlaw.errors import DriftlawError


class Verb(NamedTuple):
    """What the overview says of a verb.

    Args:
        module: below ``driftlaw.cli.verbs``; it holds a function of the verb's name, or ``app`` for several commands.
        help: one line.
        panel: heading that it stands under.
    """

    module: str
    help: str
    panel: str


STUDY, AUDIT, DATA = "Studies of collapse", "Data and generations that you have", "Files"
VERBS = {
    "run": Verb("run", "Run a recursive training study: driftlaw run digits", STUDY),
    "resume": Verb("run", "Go on with a run, or to more generations: driftlaw resume runs/digits", STUDY),
    "fork": Verb("run", "Share K generations, go on differently: driftlaw fork runs/gmm --at 3 --out b", STUDY),
    "sweep": Verb("sweep", "Run a study over fractions and seeds: driftlaw sweep gmm --alphas 0.1,0.9", STUDY),
    "bounds": Verb("bounds", "Every bound beside its measured value: driftlaw bounds runs/gmm", STUDY),
    "reproduce": Verb("reproduce", "Figures and claims of arXiv 2602.16601: driftlaw reproduce table", STUDY),
    "audit": Verb("audit", "How far generations drifted from real data: driftlaw audit real gen1 gen2", AUDIT),
    "sketch": Verb("sketch", "Summarise rows in one pass: driftlaw sketch rows.parquet -o rows.sketch", AUDIT),
    "plan": Verb("plan", "How much fresh data a budget needs: driftlaw plan --from audit/ --budget 0.1", AUDIT),
    "report": Verb("report", "Write the page of a run, sweep or audit again: driftlaw report runs/gmm", DATA),
    "verify": Verb("verify", "Check every hash of a run, sweep, audit or sketch: driftlaw verify runs/gmm", DATA),
    "data": Verb("data", "Data sets with a name: what is here, and how to get the rest.", DATA),
}


class Verbs(TyperGroup):
    """The verbs by name. The overview needs no module of any; a verb's module is imported when the verb is run."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the overview."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb as the overview lists it, or None."""
        verb = VERBS.get(cmd_name)
        return verb and TyperCommand(cmd_name, help=verb.help, rich_help_panel=verb.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb itself, with its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return (name, load(name), rest) if name in VERBS else (name, command, rest)


def load(name: str) -> Any:
    """The command of a verb; imports its module."""
    module = importlib.import_module(f"driftlaw.cli.verbs.{VERBS[name].module}")
    if (verbs := getattr(module, "app", None)) is not None:
        return typer.main.get_command(verbs)
    one = typer.Typer(add_completion=False, context_settings=SETTINGS, pretty_exceptions_enable=False)
    one.command(name)(getattr(module, name))
    return typer.main.get_command(one)


SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="driftlaw",
    cls=Verbs,
    no_args_is_help=True,
    epilog="Start with: driftlaw run digits. Exit codes: 0 done, 1 a gate failed, 2 bad usage or input.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


def _version(value: bool) -> None:
    if value:
        from driftlaw.native import kernel_sum, row_passes

        out.print(f"driftlaw {__version__}")
        for name, source in (("kernel sum", kernel_sum.SOURCE), ("passes over rows", row_passes.SOURCE)):
            out.print(f"compiled {name}: {source.describe(trial=False)}", soft_wrap=True)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure, bound and control model collapse in recursively trained diffusion models."""


#: What a file system refuses, which is no defect of ours.
REFUSALS = {
    getattr(errno, f"E{name}")
    for name in ("NAMETOOLONG", "NOTDIR", "ISDIR", "ACCES", "PERM", "ROFS", "NOSPC", "DQUOT", "FBIG", "IO", "LOOP")
}


class Stopped(BaseException):
    """A signal asked us to stop; no library takes it for an error of its own.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise Stopped(number)


def _catch_signals() -> None:
    """Ctrl-C, SIGTERM and SIGHUP stop alike; what was ignored from outside (nohup) stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in {signal.SIG_IGN, None}:
            signal.signal(number, _stop)


def _defect(error: BaseException) -> int:
    """Write the traceback to a log, say where in one line; the exit code of a defect."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    place = "no place could be written for its log"
    for folder in (None, ".", "/dev/shm"):
        try:
            descriptor, name = tempfile.mkstemp(prefix="driftlaw-", suffix=".log", dir=folder)
            with open(descriptor, "w", errors="backslashreplace") as f:  # noqa: PTH123
                f.write(f"driftlaw {__version__}\n{' '.join(sys.argv)}\n{text}")
            place = f"please report it with {name}"
            break
        except OSError:
            continue
    reason = " ".join(str(error).split())[:200]
    err.print(f"[bold red]defect:[/] {escape(f'{type(error).__name__}: {reason}; {place}')}", soft_wrap=True)
    return 70


def main() -> None:
    """Entry point: exit 0 done, 1 a gate failed, 2 bad usage or input, 70 a defect, 128 + n stopped by signal n."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        _catch_signals()
        app()
    except DriftlawError as error:
        err.print("[bold red]error:[/] " + escape(str(error)), soft_wrap=True)
        sys.exit(error.exit_code)
    except (Stopped, KeyboardInterrupt) as stop:
        err.print(f"stopped; {console.go_on}" if console.go_on else "stopped", markup=False, soft_wrap=True)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except (MemoryError, RecursionError) as error:
        what = "not enough memory" if isinstance(error, MemoryError) else "the input is nested too deeply"
        err.print(f"[bold red]error:[/] {what} ({escape(' '.join(str(error).split()))})", soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in REFUSALS and error.filename is not None:
            what = f"{error.filename}: {error.strerror}"
            err.print("[bold red]error:[/] " + escape(what), soft_wrap=True)
            sys.exit(2)
        if "can't allocate memory" in str(error):  # torch has no class of its own for it
            err.print(f"[bold red]error:[/] not enough memory ({escape(str(error)[:200])})", soft_wrap=True)
            sys.exit(2)
        sys.exit(_defect(error))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
