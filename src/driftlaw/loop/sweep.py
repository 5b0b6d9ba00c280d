"""Many studies that differ in fresh fraction, seed and settings, run by workers; each is an ordinary run directory.

Every cell runs, whatever becomes of the others. A sweep resumes as its runs do: finished cells are kept, unfinished
ones continue, missing and failed ones start again. ``sweep.json`` lists the cells and their folders.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from driftlaw.errors import ConfigError, CorruptFileError, DriftlawError, InputError, RunDirectoryError
from driftlaw.files import enter, make_folder, read_text, remove_temporaries
from driftlaw.loop.history import History, load
from driftlaw.loop.own import own_parts
from driftlaw.loop.run import resume, run
from driftlaw.loop.store import MANIFEST, RunDirectory, write_text
from driftlaw.loop.study import Study
from driftlaw.system.children import end_with_parent

if TYPE_CHECKING:
    import pandas as pd

Engine = Literal["process", "ray"]
#: The list of cells in the folder of a sweep.
INDEX = "sweep.json"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        alpha: fresh fraction.
        seed: of the run.
        settings: other settings of the grid, by dotted key.
    """

    alpha: float
    seed: int
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Its name in reports."""
        more = "".join(f", {key} {value}" for key, value in self.settings)
        return f"alpha {_digits(self.alpha)}{more}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it lies, relative to the sweep; different cells lie in different folders."""
        more = [f"{key}-{_plain(value)}" for key, value in self.settings]
        return Path(f"alpha-{_digits(self.alpha)}", *more, f"seed-{self.seed}")


@dataclass(frozen=True)
class Sweep(Mapping[Cell, History]):
    """The runs of a sweep by cell, and what failed.

    Args:
        histories: of the cells that finished.
        failures: message of each cell that did not.
    """

    histories: dict[Cell, History]
    failures: dict[Cell, str] = field(default_factory=dict)

    def __getitem__(self, cell: Cell) -> History:
        return self.histories[cell]

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.histories)

    def __len__(self) -> int:
        return len(self.histories)

    def frame(self) -> pd.DataFrame:
        """One table of all generations of all cells, with alpha, seed and the grid's settings as columns.

        `alpha` is that of the cell. A setting's column is boolean, integer or float where all its values are, else
        strings; no column holds Python objects.
        """
        import pandas as pd

        kinds = _kinds(self.histories)
        parts = [
            h.frame().reset_index().copy().assign(alpha=float(c.alpha), seed=c.seed, **dict(_typed(c.settings, kinds)))
            for c, h in self.histories.items()
            if len(h)
        ]
        if not parts:
            return pd.DataFrame()
        return pd.concat(parts, ignore_index=True).astype({k: "string" for k, kind in kinds.items() if kind is str})


def _kinds(cells: Iterable[Cell]) -> dict[str, type]:
    """The type of each setting's column."""
    found: dict[str, list[type]] = {}
    for key, value in (setting for cell in cells for setting in cell.settings):
        found.setdefault(key, []).append(type(value))
    return {
        key: next((kind for kind in (bool, int, float) if set(types) <= {kind, int if kind is float else kind}), str)
        for key, types in found.items()
    }


def _typed(settings: Iterable[tuple[str, Any]], kinds: Mapping[str, type]) -> Iterator[tuple[str, Any]]:
    for key, value in settings:
        yield key, kinds[key](value)


def cells(alphas: Sequence[float], seeds: Sequence[int], grid: Mapping[str, Sequence[Any]] | None = None) -> list[Cell]:
    """Every combination, slow index alpha.

    Raises:
        InputError: no alphas or seeds, duplicates, an alpha outside [0, 1], or a setting of the grid without values.
    """
    if not alphas or not seeds:
        raise InputError("a sweep needs at least one alpha and one seed")
    if len(set(alphas)) < len(alphas) or len(set(seeds)) < len(seeds):
        raise InputError("an alpha or a seed is listed twice", "list each once")
    wrong = [a for a in alphas if not 0.0 <= a <= 1.0]
    if wrong:
        raise InputError(f"alpha = {wrong[0]} is outside [0, 1]", "alpha is a fraction of fresh real data")
    for key, values in (grid or {}).items():
        if key in ("policy", "seed", "policy.alpha"):
            raise InputError(f"the grid sets {key}", "use alphas and seeds for that")
        if not values or len({_plain(v) for v in values}) < len(values):
            raise InputError(f"the grid's {key} has no values, or one twice", "list each once")
    others = [[(key, value) for value in values] for key, values in (grid or {}).items()]
    return [Cell(a, s, tuple(chosen)) for a in alphas for chosen in itertools.product(*others) for s in seeds]


def studies(study: Study, chosen: Sequence[Cell]) -> dict[Cell, Study]:
    """The study of each cell.

    Raises:
        ConfigError: a setting of the grid that the study does not have, or of a part of one's own.
    """
    found = {}
    for cell in chosen:
        settings = {"policy": {"kind": "fixed", "alpha": cell.alpha}, "seed": cell.seed, **dict(cell.settings)}
        found[cell] = study.with_settings(settings)
    return found


def sweep(
    study: Study,
    out: str | os.PathLike[str],
    *,
    alphas: Sequence[float],
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[Any]] | None = None,
    workers: int = 1,
    engine: Engine = "process",
    watch: Callable[[Cell, int], None] | None = None,
) -> Sweep:
    """Run a study for every alpha, seed and combination of settings.

    Args:
        study: the base study; its policy becomes ``FixedFraction(alpha)`` and its seed is replaced. Parts of one's own
            (classes of the running script included) go to the workers of this sweep as they are.
        out: folder of the sweep.
        alphas: fresh fractions, each in [0, 1].
        seeds: seeds of the repetitions.
        grid: other settings and their values, such as ``{"estimator.bandwidth": [0.3, 0.6]}``.
        workers: processes; each uses the machine's threads divided by `workers`.
        engine: "process", or "ray" when ray is installed; it joins a cluster that runs already or that RAY_ADDRESS
            names.
        watch: called with the cell and its number of generations when a run has finished, 0 when it failed.

    Returns:
        The history of every cell that finished, and the message of every one that failed.

    Raises:
        RunDirectoryError: `out` holds something that is not this sweep.
        ConfigError: a setting that the study does not have.
    """
    chosen, root = cells(alphas, seeds, grid), Path(out)
    enter(root)
    if workers < 1:
        raise InputError(f"workers = {workers}", "use at least 1")
    if root.exists() and not root.is_dir():
        raise RunDirectoryError(f"{root} is a file", "choose another --out")
    made = studies(study, chosen)
    for cell, one in made.items():
        _check_same(root / cell.folder, one)
    _write_index(root, chosen)
    threads = 1 if engine == "ray" else max(1, torch.get_num_threads() // workers)
    jobs = {c: (_packed(s), str(root / c.folder), threads, str(root)) for c, s in made.items()}
    failures: dict[Cell, str] = {}
    for cell, outcome in (_with_ray if engine == "ray" else _with_processes)(jobs, workers):
        if isinstance(outcome, str):
            failures[cell] = outcome
        if watch is not None:
            watch(cell, 0 if isinstance(outcome, str) else outcome)
    return Sweep({c: load(root / c.folder) for c in chosen if c not in failures}, failures)


def find(root: str | os.PathLike[str]) -> dict[Cell, History]:
    """The runs of a sweep that lie under `root`.

    Raises:
        RunDirectoryError: there is none.
        CorruptFileError: its list of cells is damaged.
    """
    enter(root)
    path = Path(root) / INDEX
    if path.is_file():
        try:
            listed = json.loads(read_text(path))["cells"]
            known = [
                Cell(float(c["alpha"]), int(c["seed"]), tuple((str(k), v) for k, v in c["settings"])) for c in listed
            ]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
            raise CorruptFileError(
                f"{path} is damaged ({error})", "run the sweep again: it keeps what is done"
            ) from error
        found = {c: load(Path(root) / c.folder) for c in known if (Path(root) / c.folder / MANIFEST).is_file()}
    else:  # a sweep of version 0.1
        found = {}
        for manifest in sorted(Path(root).glob(f"alpha-*/seed-*/{MANIFEST}")):
            alpha, seed = manifest.parts[-3:-1]
            found[Cell(float(alpha.removeprefix("alpha-")), int(seed.removeprefix("seed-")))] = load(manifest.parent)
    if not found:
        raise RunDirectoryError(f"{root} holds no sweep", "name a folder that `driftlaw sweep` made")
    return found


def _digits(alpha: float) -> str:
    """The shortest text that reads back as this number."""
    short = f"{alpha:g}"
    return short if float(short) == alpha else repr(float(alpha))


def _plain(value: Any) -> str:
    """A setting as part of a folder's name."""
    text = json.dumps(value, sort_keys=True, default=str).strip('"')
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in text)[:100]


def _write_index(root: Path, chosen: Sequence[Cell]) -> None:
    make_folder(root)
    remove_temporaries(root)
    before: list[Any] = []
    if (root / INDEX).is_file():
        try:
            before = list(json.loads(read_text(root / INDEX))["cells"])
        except (ValueError, KeyError, TypeError, RecursionError, CorruptFileError):
            before = []
    listed = [{"alpha": c.alpha, "seed": c.seed, "settings": [list(s) for s in c.settings]} for c in chosen]
    known = [c for c in before if c not in listed]
    write_text(root / INDEX, json.dumps({"format": 1, "cells": [*known, *listed]}, indent=1) + "\n")


def _check_same(folder: Path, study: Study) -> None:
    if (
        (folder / MANIFEST).exists()
        and study.config() != load(folder).config
        and not study.is_described_by(load(folder).config)
    ):
        raise RunDirectoryError(f"{folder} holds a run of another study", "choose another --out")


class Packed(NamedTuple):
    """A study on its way to a worker: as YAML, or with its own parts as cloudpickle of this very run."""

    text: str
    own: bytes | None


def _packed(study: Study) -> Packed:
    if not own_parts(study):
        return Packed(study.to_yaml(), None)
    try:
        import cloudpickle
    except ImportError as error:
        raise ConfigError("a sweep of own parts needs cloudpickle", "pip install cloudpickle") from error
    return Packed("", cloudpickle.dumps(study))


def _with_processes(jobs: dict[Cell, tuple[Packed, str, int, str]], workers: int) -> Iterator[tuple[Cell, int | str]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(run_cell, *job): cell for cell, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], _outcome(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future[int | str]) -> int | str:
    try:
        return future.result()
    except BrokenProcessPool:
        return "its worker was killed, for example for lack of memory; run the sweep again with fewer workers"


def _with_ray(jobs: dict[Cell, tuple[Packed, str, int, str]], workers: int) -> Iterator[tuple[Cell, int | str]]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine ray is not installed", "pip install 'driftlaw[ray]', or use --engine process"
        ) from error
    joined = ray.is_initialized()
    if not joined:
        cluster = os.environ.get("RAY_ADDRESS")
        try:
            if cluster:
                ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")
            else:
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"the cluster {cluster}" if cluster else "a local cluster"
            raise ConfigError(f"{where} cannot be reached ({error})", "check RAY_ADDRESS, or unset it") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(run_cell)
        pending: dict[Any, Cell] = {}
        waiting = list(jobs.items())
        while waiting or pending:
            while waiting and len(pending) < workers:
                cell, job = waiting.pop(0)
                pending[remote.remote(*job)] = cell
            ready, _ = ray.wait(list(pending), num_returns=1)
            cell = pending.pop(ready[0])
            try:
                outcome: int | str = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                outcome = f"its worker ended: {str(error).splitlines()[0]}"
            yield cell, outcome
    finally:
        if not joined:
            ray.shutdown()


def run_cell(packed: Packed, folder: str, threads: int, root: str) -> int | str:
    """Run or resume one cell in a worker; what goes wrong comes back as its message."""
    import yaml

    end_with_parent()
    enter(root)
    torch.set_num_threads(threads)
    try:
        if packed.own is not None:
            import cloudpickle

            study: Study = cloudpickle.loads(packed.own)  # made by the parent process of this very sweep, never a file
        else:
            study = Study.from_config(yaml.safe_load(packed.text))
        known = (Path(folder) / MANIFEST).exists() or not RunDirectory(folder).begun
        for _ in resume(folder, study=study) if known else run(study, folder, command="sweep"):
            pass
    except DriftlawError as error:
        return f"{error.what} ({error.fix})" if error.fix else error.what
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return study.generations
