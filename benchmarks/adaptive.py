"""Adaptive refresh against the smallest constant fraction, and whether planned fractions keep the drift they promise.

    python -m benchmarks.adaptive [--only mixture|digits|planned] [--seeds 20] [--json FILE]

mixture   a Gaussian fitted by maximum likelihood to 500 rows of the paper's mixture, 12 generations: sampling noise.
digits    a small denoiser on 200 rows of 8 x 8 digits, 8 generations: noise and bias.
planned   a pilot run of 8 generations at alpha = 0.3, `dl.plan` from it at confidence 0.9, then 12 new generations at
          the planned fraction.

Drift is |c_n|^2 in whitened features, measured by a referee that the policy does not see: exactly, from the fitted mean
(mixture), or with 2,000 new rows of each model against all rows of the data set (digits). A run keeps the budget if the
largest drift of all its generations does. Fresh data are counted in training sets after generation 1, which trains on
the target whatever the policy says. Constant fractions are oracles: they are chosen with every outcome known.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import driftlaw as dl
from benchmarks import command
from benchmarks.machine import facts
from driftlaw.loop.history import History, read_model
from driftlaw.loop.step.setting import Setting
from driftlaw.measure.sets.innovations import block_innovations, block_means
from driftlaw.seeding import generator

CONFIDENCE = 0.9
MIXTURE = {"budgets": (0.12, 0.4), "alphas": (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), "generations": 12}
DIGITS = {"budgets": (1.5,), "alphas": (0.1, 0.2, 0.3), "generations": 8}


def mixture(policy: Any, seed: int, generations: int, *, watched: bool) -> dl.Study:
    """The mixture study; sample-based measures only where the policy or a plan needs them."""
    measures = {"samples": 500 if watched else 0, "path_samples": 0, "density_samples": 100}
    return dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.GaussianMLE(), policy=policy, samples=500,
        generations=generations, seed=seed, measures=measures,
    )  # fmt: skip


def mixture_drift(history: History, study: dl.Study) -> list[float]:
    """Exact |c_n|^2: the fitted mean, whitened by the exact covariance of the target."""
    law = dl.GaussianMixture.paper()
    w, m = law.weights.double(), law.means.double()
    centre = w @ m
    spread = (m - centre).T @ torch.diag(w) @ (m - centre) + 0.36 * torch.eye(m.shape[1], dtype=torch.float64)
    found = []
    for n in range(1, len(history) + 1):
        fitted = read_model(history.directory, study.estimator, study.source.shape, n).law
        c = fitted.weights.double() @ fitted.means.double() - centre
        found.append(float(c @ torch.linalg.solve(spread, c)))
    return found


def digits(policy: Any, seed: int, generations: int, *, watched: bool = True) -> dl.Study:
    """The digits study at its smallest size."""
    learner = dl.Denoiser(width=64, lr=0.004, steps=300, warm_steps=150)
    return dl.Study(
        source="digits", estimator=learner, policy=policy, samples=200, generations=generations, seed=seed,
        reuse=True, threads=1, measures={"samples": 200},
    )  # fmt: skip


def digits_drift(history: History, study: dl.Study) -> list[float]:
    """|c_n|^2 from 2,000 new rows of each model against all real rows; unbiased but for the finite real set."""
    setting = Setting(study)
    assert setting.reference is not None
    assert setting.held_out is not None
    phi, source = setting.reference.features, study.source
    real = torch.cat([source.draw(source.size, generator(0, "referee")).x, setting.held_out.x])
    means = [block_means(phi.in_parts(real[torch.randperm(len(real), generator=generator(0, "referee", "order"))]))]
    for n in range(1, len(history) + 1):
        model = read_model(history.directory, study.estimator, source.shape, n)
        means.append(block_means(phi.in_parts(model.sample(2_000, generator(study.seed, "referee", n)).cpu())))
    N = len(history)
    nothing = np.ones(N), np.zeros((N, N + 1))  # drift does not depend on the rows
    return [e.value for e in block_innovations(np.stack(means), *nothing, 2_000, "referee").drift]


Referee = Callable[[History, dl.Study], list[float]]


def outcome(study: dl.Study, referee: Referee, folder: str) -> tuple[list[float], list[float]]:
    """Fractions of generations 2.. and drift of generations 1.. of one run."""
    out = Path(folder) / "run"
    records = list(dl.run(study, out=out))
    return [g.fresh for g in records[1:]], referee(dl.load(out), study)


def interval(successes: int, n: int) -> list[float]:
    """Exact 95 % interval of a proportion (Clopper and Pearson)."""
    found = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    return [round(float(found.low), 3), round(float(found.high), 3)]


def row(runs: Sequence[tuple[list[float], list[float]]], budget: float, **what: Any) -> dict[str, Any]:
    """One line of the table: fresh data and how many runs kept the budget."""
    fresh = np.array([sum(f) for f, _ in runs])
    kept = sum(max(drift) <= budget for _, drift in runs)
    half = stats.t.ppf(0.975, len(runs) - 1) * fresh.std(ddof=1) / np.sqrt(len(runs))
    return what | {
        "budget": budget, "runs": len(runs), "kept": int(kept), "kept_interval": interval(int(kept), len(runs)),
        "fresh": round(float(fresh.mean()), 3), "fresh_half_width": round(float(half), 3),
    }  # fmt: skip


def compare(
    name: str, make: Callable[..., dl.Study], referee: Referee, setup: dict[str, Any], seeds: int
) -> list[dict]:
    """Adaptive and constant fractions on the same seeds."""
    H, rows = setup["generations"], []
    for budget in setup["budgets"]:
        policy = dl.Adaptive(budget, H, CONFIDENCE)
        runs = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(outcome(make(policy, seed, H, watched=True), referee, folder))
            print(name, policy, seed, round(sum(runs[-1][0]), 3), round(max(runs[-1][1]), 3), file=sys.stderr)
        rows.append(row(runs, budget, policy="adaptive"))
    for alpha in setup["alphas"]:
        runs = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(outcome(make(dl.FixedFraction(alpha), seed, H, watched=False), referee, folder))
        print(name, "constant", alpha, round(float(np.mean([max(d) for _, d in runs])), 3), file=sys.stderr)
        rows += [row(runs, budget, policy="constant", alpha=alpha) for budget in setup["budgets"]]
    return sorted(rows, key=lambda r: (r["budget"], r["policy"], r.get("alpha", 0.0)))


def planned(seeds: int, budget: float = 0.4) -> dict[str, Any]:
    """Pilot, plan, run: does the planned fraction keep the budget?"""
    H, runs, alphas = 12, [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            list(dl.run(mixture(dl.FixedFraction(0.3), 10_000 + seed, 8, watched=True), out=Path(folder) / "pilot"))
            found = dl.plan(history=Path(folder) / "pilot", budget=budget, horizon=H, confidence=CONFIDENCE,
                            reference="features")  # fmt: skip
            alphas.append(found.alpha if found.feasible else 1.0)
            runs.append(outcome(mixture(dl.FixedFraction(alphas[-1]), seed, H, watched=False), mixture_drift, folder))
        print("planned", seed, round(alphas[-1], 3), round(max(runs[-1][1]), 3), file=sys.stderr)
    return row(runs, budget, policy="planned") | {"alphas": [round(a, 3) for a in alphas]}


def run(only: str | None = None, seeds: int = 20) -> dict[str, Any]:
    """All parts, or the one named `only`."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": facts(), "seeds": seeds, "confidence": CONFIDENCE}
    if only in {None, "mixture"}:
        result["mixture"] = compare("mixture", mixture, mixture_drift, MIXTURE, seeds)
    if only in {None, "digits"}:
        result["digits"] = compare("digits", digits, digits_drift, DIGITS, max(2, seeds // 2))
    if only in {None, "planned"}:
        result["planned"] = [planned(2 * seeds)]
    return result


def table(result: dict[str, Any]) -> str:
    lines = [f"{'study':8} {'budget':>6} {'policy':>14} {'fresh':>14} {'kept':>8}  95 % interval"]
    for part in ("mixture", "digits", "planned"):
        for r in result.get(part, []):
            policy = f"constant {r['alpha']:g}" if "alpha" in r else r["policy"]
            fresh = f"{r['fresh']:.2f} +- {r['fresh_half_width']:.2f}"
            low, high = r["kept_interval"]
            kept = f"{r['kept']}/{r['runs']}"
            lines.append(f"{part:8} {r['budget']:6g} {policy:>14} {fresh:>14} {kept:>8}  {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--only", choices=("mixture", "digits", "planned"))
    parser.add_argument(
        "--seeds", type=int, default=20, help="of the mixture; digits takes half, planned twice as many"
    )
    options = parser.parse_args()
    result = run(options.only, options.seeds)
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
