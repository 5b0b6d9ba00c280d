"""Early stopping, constant and annealed: drift after eight generations of two learners.

    python -m benchmarks.annealing [--seeds 8] [--json FILE]

Target: two Gaussians in two dimensions; 300 rows a generation, a fifth fresh. ``mixture``: two components by EM, the
right family, whose error does not grow as t0 -> 0: annealing only removes blur. ``kernels``: one point mass a row,
blurred by t0 alone, whose density does not exist at t0 = 0: score error grows as t0 -> 0, so that a best t0 > 0 must
exist. Numbers are KL(p || p_hat) of generation 8, nats: mean over seeds with its 95 % interval (t).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import driftlaw as dl
from benchmarks import command
from benchmarks.machine import facts

ALPHA, ROWS, GENERATIONS = 0.2, 300, 8
LEARNERS = {
    "mixture": lambda t: dl.MixtureEM(components=2, t0=t),
    "kernels": lambda t: dl.KDE(0.0, t0=t),
}
#: Name to the schedule of a study.
SCHEDULES: dict[str, Any] = {
    **{f"constant {t:g}": [t] * GENERATIONS for t in (0.3, 0.1, 0.03, 0.01)},
    "0.3/(n+1)": {"kind": "annealed", "start": 0.3},
    "0.3 x 0.7^n": {"kind": "annealed", "start": 0.3, "decay": 0.7},
    "0.1/(n+1)": {"kind": "annealed", "start": 0.1},
}


def one(learner: str, schedule: str, seed: int) -> float:
    """KL of the last generation of one run."""
    study = dl.Study(
        source=dl.GaussianMixture([0.5, 0.5], [[1.5, 0.0], [-1.5, 0.5]], [0.1, 0.2]),
        estimator=LEARNERS[learner](0.1),
        policy=ALPHA,
        samples=ROWS,
        generations=GENERATIONS,
        seed=seed,
        t0=SCHEDULES[schedule],
        measures={"samples": 0, "path_samples": 0, "density_samples": 2000},
    )
    with tempfile.TemporaryDirectory() as folder:
        *_, last = dl.run(study, out=Path(folder) / "run")
    return last.divergence["kl_reverse"].value


def run(seeds: int = 8) -> dict[str, Any]:
    """All learners and schedules."""
    found: dict[str, Any] = {"machine": facts(), "seeds": seeds, "kl": {}}
    for learner in LEARNERS:
        for schedule in SCHEDULES:
            values = np.array([one(learner, schedule, s) for s in range(seeds)])
            half = float(stats.t.ppf(0.975, seeds - 1) * values.std(ddof=1) / seeds**0.5)
            found["kl"][f"{learner}, {schedule}"] = {"mean": float(values.mean()), "half_width": half}
    return found


def table(found: dict[str, Any]) -> str:
    """One line for each schedule, one column for each learner."""
    lines = [f"{'t0':<14}" + "".join(f"{name:>18}" for name in LEARNERS)]
    for schedule in SCHEDULES:
        cells = (found["kl"][f"{learner}, {schedule}"] for learner in LEARNERS)
        lines.append(f"{schedule:<14}" + "".join(f"{c['mean']:>10.4f} ±{c['half_width']:.4f}" for c in cells))
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    command.finish(run(options.seeds), table, options.json)


if __name__ == "__main__":
    main()
