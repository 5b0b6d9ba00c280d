"""Many studies that differ in fresh fraction and seed, run by worker processes; each is an ordinary run directory.

A sweep resumes as its runs do: finished ones are kept, unfinished ones continue, missing ones start.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from driftlaw.errors import ConfigError, DriftlawError, InputError, RunDirectoryError
from driftlaw.loop.history import History, load
from driftlaw.loop.run import resume, run
from driftlaw.loop.store import MANIFEST
from driftlaw.loop.study import Study

Engine = Literal["process", "ray"]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its fresh fraction, its seed and its folder relative to the sweep's."""

    alpha: float
    seed: int

    @property
    def label(self) -> str:
        """Its name in reports."""
        return f"alpha {self.alpha:g}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it lies, relative to the sweep."""
        return Path(f"alpha-{self.alpha:g}") / f"seed-{self.seed}"


def cells(alphas: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    """Every combination, slow index alpha.

    Raises:
        InputError: no alphas or seeds, duplicates, or an alpha outside [0, 1].
    """
    if not alphas or not seeds:
        raise InputError("a sweep needs at least one alpha and one seed")
    if len(set(alphas)) < len(alphas) or len(set(seeds)) < len(seeds):
        raise InputError("an alpha or a seed is listed twice", "list each once")
    wrong = [a for a in alphas if not 0.0 <= a <= 1.0]
    if wrong:
        raise InputError(f"alpha = {wrong[0]} is outside [0, 1]", "alpha is a fraction of fresh real data")
    return [Cell(a, s) for a in alphas for s in seeds]


def sweep(
    study: Study,
    out: str | os.PathLike[str],
    *,
    alphas: Sequence[float],
    seeds: Sequence[int],
    workers: int = 1,
    engine: Engine = "process",
    watch: Callable[[Cell, int], None] | None = None,
) -> dict[Cell, History]:
    """Run a study for every alpha and seed.

    Args:
        study: the base study; its policy becomes ``FixedFraction(alpha)`` and its seed is replaced.
        out: folder of the sweep.
        alphas: fresh fractions, each in [0, 1].
        seeds: seeds of the repetitions.
        workers: processes; each uses the machine's threads divided by `workers`.
        engine: "process", or "ray" when ray is installed.
        watch: called with the cell and its number of generations when a run has finished.

    Returns:
        The history of every cell.

    Raises:
        RunDirectoryError: `out` holds something that is not this sweep.
    """
    grid, root = cells(alphas, seeds), Path(out)
    if workers < 1:
        raise InputError(f"workers = {workers}", "use at least 1")
    if root.exists() and not root.is_dir():
        raise RunDirectoryError(f"{root} is a file", "choose another --out")
    configs = {c: study.with_settings({"policy": {"kind": "fixed", "alpha": c.alpha}, "seed": c.seed}) for c in grid}
    for cell, config in configs.items():
        _check_same(root / cell.folder, config)
    threads = max(1, torch.get_num_threads() // workers)
    jobs = {c: (s.to_yaml(), str(root / c.folder), threads) for c, s in configs.items()}
    for cell, generations in (_with_ray if engine == "ray" else _with_processes)(jobs, workers):
        if watch is not None:
            watch(cell, generations)
    return {c: load(root / c.folder) for c in grid}


def find(root: str | os.PathLike[str]) -> dict[Cell, History]:
    """The runs of a sweep that lie under `root`.

    Raises:
        RunDirectoryError: there is none.
    """
    found = {}
    for manifest in sorted(Path(root).glob(f"alpha-*/seed-*/{MANIFEST}")):
        alpha, seed = manifest.parts[-3:-1]
        found[Cell(float(alpha.removeprefix("alpha-")), int(seed.removeprefix("seed-")))] = load(manifest.parent)
    if not found:
        raise RunDirectoryError(f"{root} holds no sweep", "name a folder that `driftlaw sweep` made")
    return found


def _check_same(folder: Path, study: Study) -> None:
    if (folder / MANIFEST).exists() and not study.is_described_by(load(folder).config):
        raise RunDirectoryError(f"{folder} holds a run of another study", "choose another --out")


def _with_processes(jobs: dict[Cell, tuple[str, str, int]], workers: int) -> Iterator[tuple[Cell, int]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(_run_cell, *job): cell for cell, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], _result(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _with_ray(jobs: dict[Cell, tuple[str, str, int]], workers: int) -> Iterator[tuple[Cell, int]]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine ray is not installed", "pip install 'driftlaw[ray]', or use --engine process"
        ) from error
    ray.init(num_cpus=workers, include_dashboard=False, ignore_reinit_error=True, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(_run_cell)
        pending = {remote.remote(*job): cell for cell, job in jobs.items()}
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            yield pending.pop(ready[0]), _result(ray.get(ready[0]))
    finally:
        ray.shutdown()


def _result(outcome: int | tuple[str, str]) -> int:
    if isinstance(outcome, tuple):
        raise DriftlawError(*outcome)
    return outcome


def _run_cell(config: str, folder: str, threads: int) -> int | tuple[str, str]:
    """Run or resume one cell in a worker; a deliberate error comes back as its two sentences."""
    import yaml

    torch.set_num_threads(threads)
    try:
        study = Study.from_config(yaml.safe_load(config))
        known = (Path(folder) / MANIFEST).exists()
        for _ in resume(folder) if known else run(study, folder, command="sweep"):
            pass
    except DriftlawError as error:
        return f"{folder}: {error.what}", error.fix
    return study.generations
