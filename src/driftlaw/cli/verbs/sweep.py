"""``driftlaw sweep``: a study over fresh fractions and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftlaw.cli.console import err, out, parse_list, print_json
from driftlaw.cli.options import study_from
from driftlaw.loop.sweep import Cell
from driftlaw.loop.sweep import sweep as run_sweep


def sweep(
    study: Annotated[str, typer.Argument(help="gmm, digits, fashion-mnist, cifar10, or the path of a YAML file.")],
    alphas: Annotated[str, typer.Option(help="Comma-separated fresh fractions.")] = "0.1,0.5,0.9",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds and ranges, such as 0-9.")] = "0-2",
    engine: Annotated[str, typer.Option(help="process or ray.")] = "process",
    workers: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    generations: Annotated[int | None, typer.Option(help="How many models are trained in turn.")] = None,
    samples: Annotated[int | None, typer.Option(help="Rows of each training set.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Size of a built-in study: smoke, laptop (default) or paper.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Such as estimator.bandwidth=0.4; repeatable, applied last.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the sweep; unfinished sweeps go on.")] = Path(
        "runs/sweep"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Run a study for every alpha and seed and write one combined report."""
    from driftlaw import report

    if engine not in {"process", "ray"}:
        raise typer.BadParameter(f"{engine!r} is neither process nor ray", param_hint="--engine")
    base = study_from(study, preset=preset, settings=settings or [], generations=generations, samples=samples)
    grid_alphas, grid_seeds = parse_list(alphas, float, "--alphas"), parse_list(seeds, int, "--seeds")
    total, done = len(grid_alphas) * len(grid_seeds), 0

    def watch(cell: Cell, generations: int) -> None:
        nonlocal done
        done += 1
        if err.is_terminal:
            err.print(f"{done}/{total} alpha {cell.alpha:g} seed {cell.seed}: {generations} generations")

    histories = run_sweep(
        base,
        out_dir,
        alphas=grid_alphas,
        seeds=grid_seeds,
        workers=workers,
        engine="ray" if engine == "ray" else "process",
        watch=watch,
    )
    for history in histories.values():
        report.write(history)
    page = report.write_sweep({c.label: h for c, h in histories.items()}, out_dir / "report.html")
    if as_json:
        runs = [
            {"alpha": c.alpha, "seed": c.seed, "generations": [g.to_json() for g in h]} for c, h in histories.items()
        ]
        print_json({"sweep": str(out_dir), "report": str(page), "runs": runs})
        return
    out.print(f"{total} runs in {out_dir}", soft_wrap=True)
    out.print(f"report {page}", soft_wrap=True)
