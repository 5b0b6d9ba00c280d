"""``driftlaw reproduce``: the paper's figures and claims, made again."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from driftlaw import reproduce as loop
from driftlaw.cli.console import WIDE, Trust, can_go_on, err, out, parse_list, print_json
from driftlaw.errors import InputError
from driftlaw.loop import presets
from driftlaw.loop.history import History
from driftlaw.loop.study import Study, read_yaml
from driftlaw.loop.sweep import Cell, sweep
from driftlaw.numerics.words import plain
from driftlaw.reproduce.mixture.study import StudyNumbers, measure_runs, paper_study


def reproduce(
    figures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIGURE]...", help=f"{', '.join(loop.FIGURES)}; none means all. Alone: laws."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper/--population", help="Finite runs, or the closed recursion of laws (default).")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help=f"Image runs: {', '.join(loop.IMAGES)}.")] = False,
    study_name: Annotated[
        str, typer.Option("--study", help="With --images: a built-in study of images or a YAML file.")
    ] = "fashion-mnist",
    size: Annotated[str, typer.Option("--preset", help="With --images: smoke, laptop or paper.")] = "laptop",
    alphas: Annotated[str, typer.Option(help="Comma-separated fresh fractions.")] = "0.1,0.5,0.9",
    generations: Annotated[
        int | None, typer.Option(min=1, help="Generations of the study (20; with --images the preset's).")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Seeds of each alpha (10; with --images 3).")] = None,
    samples: Annotated[int, typer.Option(min=2, help="With --paper: rows of each training set.")] = 100_000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: the cores, at most 3).")] = None,
    target_se: Annotated[
        float | None, typer.Option(help="Relative standard error (0.01; with --paper 0.02, of the mean over runs).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness derives from it.")] = 0,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder of page, figures and data (default: runs/reproduce[-FIGURE]).")
    ] = None,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Make the figures of arXiv 2602.16601 again and say, claim by claim, what stands."""
    from driftlaw.reproduce.pages import page as report

    if figures == ["laws"]:
        show_laws(seed, out_dir or Path("runs") / "reproduce-laws", as_json)
        return
    if images and paper:
        raise InputError("--images and --paper were both given", "--paper is the finite mixture study; choose one")
    names = loop.check_names(figures or [], images)
    fractions = parse_list(alphas, float, "--alphas")
    error = target_se if target_se is not None else 0.02 if paper else 0.01
    check_numbers(fractions, error)
    folder = out_dir or Path("runs") / "-".join(["reproduce", *(names if figures else ["images"] * images)])
    report.check_folder(folder)
    can_go_on(shlex.join(["driftlaw", *sys.argv[1:]]))
    processes = workers or min(3, os.cpu_count() or 1)
    if images:
        config = (
            presets.preset(study_name, size) if study_name in presets.names() else read_yaml(study_name, trusted=trust)
        )
        base = Study.from_config(config | ({"generations": generations} if generations else {}))
        if len(base.source.shape) != 3:
            raise InputError(
                f"{study_name} has rows of shape {list(base.source.shape)}, not images", "choose another --study"
            )
        settings: dict[str, Any] = {"mode": "images", "study": study_name, "preset": size, "alphas": fractions}
        settings |= {"generations": base.generations, "runs": runs or 3, "seed": seed}
        report.claim_folder(folder, settings)
        histories = finite_runs(base, folder / "runs", fractions, runs or 3, processes, seed)
        effort = loop.Effort(**EFFORTS.get(size, {}))
        found = loop.reproduce_images(
            names, histories, folder / "parts", effort, seed=seed, settings=settings, watch=say
        )
        show(found, report.write(found, folder), folder, as_json)
        return
    generations, runs = generations or 20, runs or 10
    settings = {"mode": "paper" if paper else "population", "alphas": fractions}
    settings |= {"generations": generations, "target-se": error, "seed": seed}
    settings |= {"runs": runs, "samples": samples} if paper else {}
    study: StudyNumbers | None
    if paper and loop.STUDY & set(names):
        report.claim_folder(folder, settings)
        study = finite_study(folder / "runs", fractions, generations, runs, samples, processes, error, seed)
    else:
        study = loop.population_study(
            names,
            alphas=fractions,
            generations=generations,
            seed=seed,
            target_se=error,
            workers=processes,
            watch=_watch,
        )
    found = loop.reproduce(
        names, study, seed=seed, target_se=error, samples=samples if paper else None, settings=settings
    )
    show(found, report.write(found, folder), folder, as_json)


#: How much is spent on the score errors of image runs, by preset.
EFFORTS: dict[str, dict[str, int]] = {"smoke": {"reference_steps": 20, "rows": 100, "paths": 100, "steps": 8}}


def say(what: str) -> None:
    """Print one line of progress on stderr."""
    err.print(what, soft_wrap=True)


def show(found: loop.Reproduction, page: Path, folder: Path, as_json: bool) -> None:
    """Print the claims that were measured, with their numbers."""
    if as_json:
        print_json({**found.to_json(), "out": str(folder), "report": str(page)})
        return
    for claim in found.claims:
        if claim.verdict == "not measured in this run":
            continue
        out.print(f"[bold]{claim.title}[/]: {claim.verdict}", soft_wrap=True)
        if claim.because:
            out.print(escape(f"  {claim.because}"))
        table = Table("  ", "measured", "expected", box=None, pad_edge=False)
        for k in (1, 2):
            table.columns[k].no_wrap = True
        for n in claim.numbers:
            measured = n.measured.text(4) if out.width >= WIDE else plain(n.measured.value, 4)
            table.add_row(f"  {n.what}", escape(measured), "" if n.expected is None else plain(n.expected, 4))
        out.print(table)
    out.print(f"report {page}", soft_wrap=True)


def show_laws(seed: int, folder: Path, as_json: bool) -> None:
    """Simulate published closed forms, write their page and print them beside their formulas."""
    from driftlaw.reproduce.laws import laws
    from driftlaw.reproduce.pages import laws as pages
    from driftlaw.reproduce.pages.page import check_folder

    check_folder(folder)
    found = laws(seed)
    page = pages.write(found, seed, folder)
    if as_json:
        print_json({**pages.document(found, seed), "out": str(folder), "report": str(page)})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("law", "formula gives", "simulated", "z"):
        table.add_column(heading, justify="left" if heading == "law" else "right")
    for law in found:
        z = pages.distance(law) if law.agrees else f"[red]{pages.distance(law)}[/]"
        sign = "≤ " if law.side == "upper" else ""
        measured = escape(law.measured.text()) if out.width >= WIDE else plain(law.measured.value)
        table.add_row(f"{law.name}\n[dim]{law.source}[/]", f"{sign}{law.expected:.4g}", measured, z)
    out.print(table)
    out.print(f"report {page}", soft_wrap=True)


def check_numbers(alphas: list[float], target_se: float) -> None:
    """Reject what no study can use, before anything is written.

    Raises:
        InputError: an alpha outside (0, 1], twice the same, or none; a target that is not in (0, 1).
    """
    if not alphas or len(set(alphas)) < len(alphas) or not all(0 < a <= 1 for a in alphas):
        raise InputError(f"--alphas {alphas} are not different numbers in (0, 1]", "for example --alphas 0.1,0.5,0.9")
    if not 0 < target_se < 1:
        raise InputError(f"--target-se {target_se} is not in (0, 1)", "0.01 means one per cent")


def finite_study(
    folder: Path,
    alphas: list[float],
    generations: int,
    runs: int,
    samples: int,
    workers: int,
    target_se: float,
    seed: int,
) -> StudyNumbers:
    """Run or resume the finite study and take its numbers."""
    histories = finite_runs(paper_study(samples, generations, runs, target_se), folder, alphas, runs, workers, seed)
    return measure_runs(((c.alpha, h) for c, h in histories.items()), seed)


def finite_runs(
    base: Study, folder: Path, alphas: list[float], runs: int, workers: int, seed: int
) -> Mapping[Cell, History]:
    """Run or resume a study for every alpha and seed."""
    total, done = len(alphas) * runs, 0

    def watch(cell: Cell, made: int) -> None:
        nonlocal done
        done += 1
        err.print(f"{done}/{total} alpha {cell.alpha:g} seed {cell.seed}: {made} generations")

    return sweep(base, folder, alphas=alphas, seeds=list(range(seed, seed + runs)), workers=workers, watch=watch)


def _watch(done: int, total: int, what: str) -> None:
    if err.is_terminal:
        err.print(f"{done}/{total} {what}")
