"""The full protocol of the paper's mixture study by stage: processor seconds of a generation at N = 100,000.

    python -m benchmarks.protocol [--generations 20] [--alphas 0.1,0.5,0.9] [--samples 100000] [--json FILE]

One run of each alpha is measured with the settings of ``driftlaw reproduce --paper``, on one thread; the ten runs of
the protocol (and its 20 generations, if fewer are measured) are extrapolated from it, and the table says so. Stages are
exclusive: what a stage calls that is a stage itself counts there alone. "other" is everything else of a generation, so
that the stages add up to all of it.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import command
from benchmarks.machine import facts
from driftlaw.learn.kde import KDE, KDEModel
from driftlaw.loop import run as recursion
from driftlaw.loop.history import load
from driftlaw.loop.step import generation
from driftlaw.measure.laws.divergence import SharedDraws
from driftlaw.measure.paths import generation as measures
from driftlaw.native import kernel_sum as native
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.mixture.study import measure_runs, paper_study

ALPHAS, RUNS, GENERATIONS, TARGET_SE, GOAL_SECONDS, GOAL_MIB = (0.1, 0.5, 0.9), 10, 20, 0.02, 30 * 60, 4096
NUMBERS = {"energy_ideal": "ideal energy", "energy_learned": "learned energy", "observability": "eta"}
#: Where each stage is done.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (generation, "training_set", "training rows"),
    (recursion, "read_model", "read the model before"),
    (KDE, "fit", "fit"),
    (KDEModel, "sample", "draw the rows"),
    (native.Packed, "__init__", "order the centres"),
    (SharedDraws, "log_densities", "log densities"),
    (SharedDraws, "compare", "log densities"),
    (measures, "time_density", "pilot of the times"),
    (measures, "path_energy", "energies"),
    (measures, "observability_of_laws", "observability"),
    (GaussianMixture, "responsibilities", "mode weights"),
    (recursion, "write_array", "store"),
    (recursion, "write_tensors", "store"),
)


class Clock:
    """Exclusive processor seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack, self._since = ["other"], time.process_time()

    def _charge(self) -> None:
        now = time.process_time()
        stage = self._stack[-1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """What was charged since the last call."""
        self._charge()
        taken, self.seconds = self.seconds, {}
        return taken

    def timed(self, f: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """`f`, charged to `stage`."""

        @functools.wraps(f)
        def inside(*args: Any, **options: Any) -> Any:
            self._charge()
            self._stack.append(stage)
            try:
                return f(*args, **options)
            finally:
                self._charge()
                self._stack.pop()

        return inside


@contextlib.contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Charge every stage to its name."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]
    for owner, name, stage in STAGES:
        setattr(owner, name, clock.timed(getattr(owner, name), stage))
    try:
        yield
    finally:
        for owner, name, f in before:
            setattr(owner, name, f)


def one_run(alpha: float, generations: int, samples: int, folder: Path) -> dict[str, Any]:
    """Processor seconds by stage of one run, and the relative standard errors that its draws gave."""
    base = paper_study(samples, generations, RUNS, TARGET_SE)
    study = base.with_settings({"policy": {"kind": "fixed", "alpha": alpha}, "threads": 1})
    clock, found = Clock(), []
    with watched(clock):
        for g in recursion.run(study, folder):
            estimates = {name: getattr(g.path, name) for name in NUMBERS}
            found.append({
                "generation": g.index,
                "seconds": clock.take(),
                "relative_se": {name: e.stderr / e.value for name, e in estimates.items()},
                "draws": {name: e.n for name, e in estimates.items()},
            })  # fmt: skip
    return {"alpha": alpha, "generations": found}


def run(alphas: tuple[float, ...] = ALPHAS, generations: int = GENERATIONS, samples: int = 100_000) -> dict[str, Any]:
    """One run of each alpha, the Gram matrices, and the whole protocol extrapolated."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            folders = {alpha: Path(folder) / f"alpha-{alpha:g}" for alpha in alphas}
            runs = [one_run(alpha, generations, samples, path) for alpha, path in folders.items()]
            start = time.process_time()
            measure_runs((alpha, load(path)) for alpha, path in folders.items())
            gram = time.process_time() - start
    finally:
        torch.set_num_threads(before)
    measured = sum(sum(g["seconds"].values()) for r in runs for g in r["generations"]) / generations
    protocol = RUNS * GENERATIONS * measured + gram * GENERATIONS / generations
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "machine": facts(),
        "samples": samples,
        "runs": runs,
        "gram_seconds": gram,
        "protocol_processor_seconds": protocol,
        "goal_processor_seconds": 2 * GOAL_SECONDS,
        "peak_memory_mib": peak,
        "goal_memory_mib": GOAL_MIB,
    }


def table(result: dict[str, Any]) -> str:
    """Mean processor seconds of a generation by stage and alpha, and what they come to."""
    runs = result["runs"]
    mean = []
    for r in runs:
        sums: dict[str, float] = {}
        for g in r["generations"]:
            for stage, seconds in g["seconds"].items():
                sums[stage] = sums.get(stage, 0.0) + seconds
        mean.append({stage: total / len(r["generations"]) for stage, total in sums.items()})
    stages = sorted({s for m in mean for s in m}, key=lambda s: (s == "other", -sum(m.get(s, 0.0) for m in mean)))
    n = len(runs[0]["generations"])
    lines = [f"processor seconds of a generation, mean of {n}, N = {result['samples']:,}"]
    lines += [f"{'alpha':28}" + "".join(f"{r['alpha']:>8g}" for r in runs)]
    lines += [f"{stage:28}" + "".join(f"{m.get(stage, 0.0):8.2f}" for m in mean) for stage in stages]
    lines += [f"{'all':28}" + "".join(f"{sum(m.values()):8.2f}" for m in mean)]
    for name, words in NUMBERS.items():
        worst = [max(g["relative_se"][name] for g in r["generations"]) for r in runs]
        lines += [f"{f'largest SE, {words}':28}" + "".join(f"{100 * w:7.1f}%" for w in worst)]
    seconds = result["protocol_processor_seconds"]
    lines += [
        f"Gram matrices of the first runs: {result['gram_seconds']:.0f} s",
        f"extrapolated to {RUNS} runs of {GENERATIONS} generations at each alpha: {seconds:.0f} processor seconds,",
        f"{seconds / 120:.0f} min on two otherwise idle cores (goal {result['goal_processor_seconds'] / 120:.0f})",
        f"peak memory of the process: {result['peak_memory_mib']:.0f} MiB (goal {result['goal_memory_mib']} for two)",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--generations", type=int, default=GENERATIONS)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--alphas", default=",".join(f"{a:g}" for a in ALPHAS))
    options = parser.parse_args()
    result = run(tuple(float(a) for a in options.alphas.split(",")), options.generations, options.samples)
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
