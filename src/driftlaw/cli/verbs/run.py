"""``driftlaw run``, ``driftlaw resume`` and ``driftlaw fork``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from driftlaw.cli.console import WIDE, Trust, can_go_on, err, out, print_json, print_verdict, watching
from driftlaw.cli.options import free_directory, setting, study_from
from driftlaw.estimate import Estimate
from driftlaw.loop import run as loop
from driftlaw.loop.branches.extend import extend
from driftlaw.loop.branches.fork import fork as make_fork
from driftlaw.loop.cost import Cost, cost
from driftlaw.loop.history import History, load
from driftlaw.loop.record import Generation
from driftlaw.loop.store import RunDirectory
from driftlaw.numerics.words import mebibytes, plain, share
from driftlaw.theory import refresh

#: Warnings printed after a run; the report has them all.
MOST_NOTES = 4

Out = Annotated[Path | None, typer.Option("--out", help="New run directory (default: runs/NAME).")]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Stop (exit code 1) at the first finding of a generation's checks; resumable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def run(
    study: Annotated[str, typer.Argument(help="gmm, digits, fashion-mnist, cifar10, or the path of a YAML file.")],
    alpha: Annotated[
        float | None, typer.Option(help="Fraction of fresh real data; short for --policy fixed:ALPHA.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="replace, fixed:0.1, schedule:1,0,0.5, accumulate, accumulate-subsample, window:3,0.1."),
    ] = None,
    generations: Annotated[int | None, typer.Option(help="How many models are trained in turn.")] = None,
    samples: Annotated[int | None, typer.Option(help="Rows of each training set.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness derives from it.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Size of a built-in study: smoke (about a minute), laptop (default) or paper (as published)."
        ),
    ] = None,
    out_dir: Out = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Such as estimator.bandwidth=0.4; repeatable, applied last.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Go on without the images of a folder that cannot be read; they are counted."),
    ] = False,
    trust: Trust = False,
    strict: Strict = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run a recursive training study and write its report."""
    resolved = study_from(
        study,
        preset=preset,
        alpha=alpha,
        policy=policy,
        settings=settings or [],
        skip_bad=skip_bad,
        trust=trust,
        generations=generations,
        samples=samples,
        seed=seed,
        device=device,
    )
    if dry_run:
        _print_cost(cost(resolved), as_json)
        return
    name = resolved.config()["name"]
    target = out_dir or free_directory(Path("runs") / "".join(c if c.isalnum() or c in "-_." else "-" for c in name))
    command = shlex.join(["driftlaw", *sys.argv[1:]])
    can_go_on(f"driftlaw resume {shlex.quote(str(target))}")
    with watching(resolved.generations) as watch:
        _finish(loop.run(resolved, target, watch=watch, command=command, strict=strict), target, as_json)


def resume(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    generations: Annotated[
        int | None,
        typer.Option(
            help="Go on to this many generations in total, those that are there included: the numbers are those of a "
            "run that was started with this many."
        ),
    ] = None,
    trust: Trust = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Continue a killed or unfinished run to the numbers it would have had, or a finished one to more generations."""
    can_go_on(f"driftlaw resume {shlex.quote(str(directory))}")
    stored = RunDirectory(directory)
    done = 0
    if stored.begun:
        loop.use_threads_of(stored.manifest())
        done = len(stored.sound_records())
    study = stored.study(trust)
    with watching(generations or study.generations, start=done + 1) as watch:
        if generations is None:
            records = loop.resume(directory, watch=watch, trust=trust, strict=strict)
        else:
            records = extend(directory, generations=generations, watch=watch, trust=trust, strict=strict)
        _finish(records, directory, as_json)


def fork(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    at: Annotated[int, typer.Option("--at", help="The last generation K that both runs have.")],
    out_dir: Annotated[Path, typer.Option("--out", help="New run directory; it needs the parent no more.")],
    alpha: Annotated[
        float | None, typer.Option(help="Fraction of fresh real data after K; short for --policy fixed:ALPHA.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Policy after K, such as window:3,0.1.")] = None,
    generations: Annotated[int | None, typer.Option(help="Generations in total, the shared ones included.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Such as estimator.bandwidth=0.4; repeatable.")
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Share generations 1..K of a run and go on differently, in a new run directory."""
    changes = dict(setting(text) for text in settings or [])
    given = {"alpha": alpha, "policy": policy and refresh.parse(policy), "generations": generations}
    changes |= {key: value for key, value in given.items() if value is not None}
    can_go_on(f"driftlaw resume {shlex.quote(str(out_dir))}")
    command = shlex.join(["driftlaw", *sys.argv[1:]])
    loop.use_threads_of(RunDirectory(directory).manifest())
    total = int(changes.get("generations") or RunDirectory(directory).config()["generations"])
    with watching(total, start=at + 1) as watch:
        records = make_fork(directory, at=at, out=out_dir, watch=watch, trust=trust, command=command, **changes)
        _finish(records, out_dir, as_json)


def _finish(records: Iterator[Generation], directory: Path, as_json: bool) -> None:
    from driftlaw import report

    told: set[str] = set()
    for record in records:
        for finding in record.sanity:
            if finding.kind not in told:
                told.add(finding.kind)
                err.print(f"[red]check[/] generation {record.index}: {escape(finding.text)}", soft_wrap=True)
    history = load(directory)
    page = report.write(history)
    judged = report.verdict_of(history)
    if as_json:
        print_json(
            {
                "run": str(directory),
                "report": str(page),
                "peak_memory_mib": round(loop.peak_memory_mib(), 1),
                "verdict": judged.to_json(),
                "generations": [g.to_json() for g in history],
            }
        )
        return
    print_verdict(judged)
    _print_table(history)
    notes = list(dict.fromkeys(w for g in history for w in g.warnings))
    for warning in notes[:MOST_NOTES]:
        err.print("[yellow]note[/] " + escape(warning), soft_wrap=True)
    if len(notes) > MOST_NOTES:
        err.print(f"[yellow]note[/] and {len(notes) - MOST_NOTES} more in the report")
    out.print(f"peak memory {mebibytes(loop.peak_memory_mib())}")
    out.print(f"report {page}", soft_wrap=True)


def _print_table(history: History) -> None:
    """The drift by generation: as many measures as fit on a line, the most telling first."""
    own = (history.config.get("measures") or {}).get("own") or {}
    order = (*own, "kl", "tv", "chi2", "mmd2", "frechet", "recall", "precision", "coverage", "chi2_lower")
    present = [n for n in order if any(n in g.divergence for g in history)]
    wide = out.width >= WIDE
    names = present[: max(1, (out.width - 14) // (27 if wide else 12))]
    table = Table("n", "real", *names, box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.no_wrap = True

    def text(e: Estimate | None) -> str:
        return "" if e is None else escape(e.text() if wide else plain(e.value))

    floor = history.generations[-1].floor if history.generations else {}
    for g in history:
        table.add_row(str(g.index), share(g.alpha), *(text(g.divergence.get(n)) for n in names))
    if any(n in floor for n in names):
        table.add_row("floor", "", *(text(floor.get(n)) for n in names), style="dim")
    out.print(table)
    if any(n in floor for n in names):
        out.print("floor: real data against other real data of the same size; brackets are 95 % intervals")
    else:
        out.print("0 would mean that the model equals the target; brackets are 95 % intervals")


def _print_cost(what: Cost, as_json: bool) -> None:
    if as_json:
        print_json(what.to_json())
        return
    out.print(what.text(), soft_wrap=True)
