"""``driftlaw sweep``: a study over fresh fractions and seeds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.markup import escape

from driftlaw.cli.console import Trust, can_go_on, err, out, parse_list, print_json
from driftlaw.cli.options import study_from
from driftlaw.errors import ConfigError
from driftlaw.loop.sweep import Cell, cells, studies
from driftlaw.loop.sweep import sweep as run_sweep


def sweep(
    study: Annotated[str, typer.Argument(help="gmm, digits, fashion-mnist, cifar10, or the path of a YAML file.")],
    alphas: Annotated[str, typer.Option(help="Comma-separated fresh fractions.")] = "0.1,0.5,0.9",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds and ranges, such as 0-9.")] = "0-2",
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="Values of another setting, such as estimator.bandwidth=.3,.6; repeatable."),
    ] = None,
    engine: Annotated[str, typer.Option(help="process or ray.")] = "process",
    workers: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    generations: Annotated[int | None, typer.Option(help="How many models are trained in turn.")] = None,
    samples: Annotated[int | None, typer.Option(help="Rows of each training set.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Size of a built-in study: smoke, laptop (default) or paper.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Such as estimator.bandwidth=0.4; repeatable, applied last.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the sweep; unfinished sweeps go on.")] = Path(
        "runs/sweep"
    ),
    trust: Trust = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Run a study for every alpha, seed and setting of a grid, and write one combined report.

    Every cell runs; failures are listed at the end (exit code 2), and running the sweep again retries only them.
    """
    from driftlaw import report

    if engine not in {"process", "ray"}:
        raise typer.BadParameter(f"{engine!r} is neither process nor ray", param_hint="--engine")
    base = study_from(
        study,
        preset=preset,
        settings=settings or [],
        trust=trust,
        generations=generations,
        samples=samples,
        device=device,
    )
    can_go_on(shlex.join(["driftlaw", *sys.argv[1:]]))
    grid_alphas, grid_seeds = parse_list(alphas, float, "--alphas"), parse_list(seeds, int, "--seeds")
    others = dict(_values(text) for text in grid or [])
    chosen = cells(grid_alphas, grid_seeds, others)
    studies(base, chosen)  # refuses a setting that the study does not have before anything is written
    if dry_run:
        if as_json:
            print_json({"cells": [{"label": c.label, "folder": str(out_dir / c.folder)} for c in chosen]})
        else:
            for cell in chosen:
                out.print(f"{cell.label}: {out_dir / cell.folder}", soft_wrap=True)
        return
    total, done = len(chosen), 0

    def watch(cell: Cell, generations: int) -> None:
        nonlocal done
        done += 1
        if err.is_terminal:
            err.print(f"{done}/{total} {cell.label}: {f'{generations} generations' if generations else 'failed'}")

    found = run_sweep(
        base,
        out_dir,
        alphas=grid_alphas,
        seeds=grid_seeds,
        grid=others,
        workers=workers,
        engine="ray" if engine == "ray" else "process",
        watch=watch,
    )
    finished = {c.label: h for c, h in found.items() if len(h)}
    for history in finished.values():
        report.write(history)
    page = report.write_sweep(finished, out_dir / "report.html") if finished else None
    if as_json:
        runs = [
            {
                "alpha": c.alpha,
                "seed": c.seed,
                "settings": dict(c.settings),
                "generations": [g.to_json() for g in h],
            }
            for c, h in found.items()
        ]
        failed = [{"cell": c.label, "message": text} for c, text in found.failures.items()]
        print_json({"sweep": str(out_dir), "report": page and str(page), "runs": runs, "failures": failed})
    else:
        out.print(f"{len(found)} runs in {out_dir}", soft_wrap=True)
        if page is not None:
            out.print(f"report {page}", soft_wrap=True)
    for cell, text in found.failures.items():
        err.print(f"[bold red]failed[/] {escape(f'{cell.label}: {text}')}", soft_wrap=True)
    if found.failures:
        err.print(f"{len(found.failures)} of {total} runs failed; the same command retries them", soft_wrap=True)
        raise typer.Exit(2)


def _values(text: str) -> tuple[str, list[Any]]:
    """``key=a,b`` as the key and its values, read as YAML."""
    key, equals, listed = text.partition("=")
    if not equals or not key.strip() or not listed.strip():
        raise ConfigError(
            f"--grid {text!r} is not key=value,value", "write for example --grid estimator.bandwidth=.3,.6"
        )
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError as error:
        raise ConfigError(f"--grid {text!r}: the values are not YAML", "quote them") from error
    return key.strip(), values
