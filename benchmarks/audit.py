"""Audits judged on data that are made to be judged: level and power of the drift test, coverage, speed, memory.

    python -m benchmarks.audit [--quick] [--only level] [--json FILE] [--lines FILE]

- level: rejection at 5 % of the drift test where there is no drift, at n rows and k Gaussian features (sufficient
  statistics drawn directly: Bartlett's Wishart covariances, several Gaussian means for each pair of them, which the
  standard error counts as one; some cells from rows as well, to compare) and for uneven and heavy-tailed rows. With
  --lines each batch of repetitions is kept in that file as it is done and is not done again by a later run.
- power: :mod:`benchmarks.audit_power`.
- recursions: blind audits of Gaussian recursions with known alpha and innovations: share of effective alphas inside
  their interval, of alignments, of forecasts that hold the exact drift to come.
- studies: the same for runs of the loop (KDE and maximum likelihood on mixtures) and for KDE recursions on digits.
- uneven, halves, coverage, regimes, duplicates, misfit, speed: :mod:`benchmarks.audit_statistics`.
- memory: peak memory and CPU seconds of an audit of 10 generations from disk, in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import driftlaw as dl
from benchmarks import audit_power, audit_statistics, command
from benchmarks.machine import facts
from driftlaw.auditing.coordinates import Coordinates
from driftlaw.auditing.dynamics import Dynamics
from driftlaw.auditing.forecast import forecast
from driftlaw.auditing.significance import p_value
from driftlaw.seeding import numpy_generator


@dataclass
class Moments:
    """What the drift test needs of a set."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray


def of_rows(x):
    return Moments(len(x), x.mean(0), np.atleast_2d(np.cov(x.T)))


def gaussian_moments(rng, n, k):
    """Mean and covariance of n standard normal rows; where n > k without the rows, by Bartlett's decomposition."""
    if n <= k:
        return of_rows(rng.standard_normal((n, k)))
    root = np.tril(rng.standard_normal((k, k)), -1)
    root[np.arange(k), np.arange(k)] = np.sqrt(rng.chisquare(n - 1 - np.arange(k)))
    return Moments(n, rng.standard_normal(k) / np.sqrt(n), root @ root.T / (n - 1))


LAWS = {
    "lognormal": lambda rng, n, k: np.exp(0.7 * rng.standard_normal((n, k))),
    "Student t5": lambda rng, n, k: rng.standard_t(5, (n, k)),
    "Gaussian scale mixture": lambda rng, n, k: rng.standard_normal((n, k)) * np.sqrt(rng.exponential(size=(n, 1))),
    "correlated 0.9^|i-j|": lambda rng, n, k: _correlated(rng.standard_normal((n, k))),
}


def _correlated(z):
    x = z.copy()
    for j in range(1, z.shape[1]):
        x[:, j] = 0.9 * x[:, j - 1] + np.sqrt(1 - 0.81) * z[:, j]
    return x


#: The law that is drawn as sufficient statistics; all others are drawn as rows.
GAUSSIAN = "Gaussian"
LAWS["Gaussian, from rows"] = lambda rng, n, k: rng.standard_normal((n, k))

#: law, n, k and real rows of the table of levels
CELLS = [
    *((GAUSSIAN, n, k, real) for k in (2, 10, 100, 300, 1000) for n in (200, 2000, 20_000)
      for real in sorted({n, 20_000})),
    *((law, n, k, n) for law in LAWS for n in (200, 2000) for k in (10, 100)),
]  # fmt: skip
#: Pairs of sets that are drawn, kept and resumed together.
BATCH = 10


def _plan(law, k):
    """Pairs of sets, and pairs of means for each pair of covariances."""
    if law == GAUSSIAN:
        return (100, 100) if k > 300 else (500, 20)
    return (2000 if k == 10 else 1000), 1


def _batch(law, n, k, real, batch):
    """Rejections for each of BATCH pairs of sets of one law.

    Means and covariances of Gaussian rows are independent, and so are the critical value, which depends on covariances
    alone, and the difference of the means: one pair of covariances serves many pairs of means.
    """
    rng, (_, means), out = numpy_generator(0, "level", law, n, k, real, batch), _plan(law, k), []
    for _ in range(BATCH):
        if law != GAUSSIAN:
            reference, other = of_rows(LAWS[law](rng, real, k)), of_rows(LAWS[law](rng, n, k))
            out.append(int(p_value(Coordinates.of(reference, [other]), 1).value < 0.05))
            continue
        reference, other = gaussian_moments(rng, real, k), gaussian_moments(rng, n, k)
        gap = rng.standard_normal((means, k)) * np.sqrt(1 / real + 1 / n)
        moved = (Moments(n, reference.mean + m, other.covariance) for m in gap)
        out.append(sum(p_value(Coordinates.of(reference, [m]), 1).value < 0.05 for m in moved))
    return out


def level(quick, lines=None):
    """Rejection under no drift; `lines` is a file of finished batches, which are not done again."""
    done = {}
    if lines is not None and lines.exists():
        for text in lines.read_text().splitlines():
            row = json.loads(text)
            done[tuple(row["cell"])] = row["rejected"]
    out = []
    for law, n, k, real in CELLS:
        pairs, means = _plan(law, k)
        found = []
        for batch in range(pairs // BATCH // (10 if quick else 1)):
            cell = (law, n, k, real, batch)
            if cell not in done:
                done[cell] = _batch(*cell)
                if lines is not None:
                    with lines.open("a") as file:
                        file.write(json.dumps({"cell": cell, "rejected": done[cell]}) + "\n")
            found += done[cell]
        rates = np.array(found) / means
        out.append({"law": law, "real": real, "n": n, "k": k, "pairs": len(rates), "means": means,
                    "rejected": rates.mean(), "stderr": rates.std(ddof=1) / np.sqrt(len(rates))})  # fmt: skip
    return out


def recursion(rng, N, k, alpha, kappa, energy, n, real, ahead=3):
    """Exact c_1..c_{N+ahead} and measured coordinates of the first N: identity covariances, Gaussian means."""
    d = rng.standard_normal(k)
    d *= np.sqrt(kappa * energy) / np.linalg.norm(d)
    c = np.zeros((N + ahead + 1, k))
    for i in range(N + ahead):
        c[i + 1] = (1 - alpha) * c[i] + d + rng.standard_normal(k) * np.sqrt((1 - kappa) * energy / k)
    sets = [Moments(n, c[i] + rng.standard_normal(k) / np.sqrt(n), np.eye(k)) for i in range(1, N + 1)]
    return c[1:], Coordinates.of(Moments(real, rng.standard_normal(k) / np.sqrt(real), np.eye(k)), sets)


def recursions(quick):
    """Coverage over a grid of recursions."""
    reps, out = 12 if quick else 100, []
    for N in (5, 8, 12):
        for alpha in (0.1, 0.3, 0.6):
            for kappa in (0.0, 0.5, 0.95):
                for k, energy, n in ((10, 0.05, 5000), (64, 0.05, 5000)):
                    rng = np.random.default_rng([N, int(10 * alpha), int(100 * kappa), k])
                    hit = dict.fromkeys(("identified", "alpha", "alignment", "forecast_1", "forecast_3"), 0)
                    width = []
                    for _ in range(reps):
                        c, coordinates = recursion(rng, N, k, alpha, kappa, energy, n, 20_000)
                        d = Dynamics.fit(coordinates)
                        ahead = forecast(d, 3)
                        for h in (1, 3):
                            truth = float(c[N + h - 1] @ c[N + h - 1])
                            hit[f"forecast_{h}"] += ahead[h - 1].low <= truth <= ahead[h - 1].high
                        if d.identified:
                            hit["identified"] += 1
                            hit["alpha"] += d.alpha.low <= alpha <= d.alpha.high
                            aligned = d.summary()[1]
                            hit["alignment"] += aligned.is_refused or aligned.low - 0.01 <= kappa <= aligned.high + 0.01
                            width.append(d.alpha.high - d.alpha.low)
                    out.append({"N": N, "alpha": alpha, "kappa": kappa, "k": k, "energy": energy, "n": n,
                                "repetitions": reps, "width": width and float(np.median(width)), **hit})  # fmt: skip
    return out


def _kde_digits(alpha, generations, seed):
    """KDE recursion on 8 principal coordinates of the digits; fresh rows are drawn with replacement."""
    from sklearn.datasets import load_digits

    x = load_digits().data
    x = (x - x.mean(0)) @ np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:8].T
    rng, line, n = np.random.default_rng([seed, 1797]), [], 4000
    law = lambda m: x[rng.integers(len(x), size=m)]  # noqa: E731
    sets = law(n)
    for _ in range(generations):
        sample = lambda m, c=sets: c[rng.integers(len(c), size=m)] + 3.0 * rng.standard_normal((m, 8))  # noqa: E731
        line.append(sample(n))
        fresh = rng.random(n) < alpha
        sets = np.where(fresh[:, None], law(n), sample(n))
    return law(40_000), line


def _loop(estimator, alpha, generations, seed):
    """A run of the loop on a mixture in 3 dimensions: real rows and the rows kept of each model."""
    target = dl.GaussianMixture([0.5, 0.5], [[-1.5, 0.0, 0.0], [1.5, 0.0, 0.0]], [1.0, 1.0])
    quiet = {"samples": 0, "density_samples": 100, "path_samples": 0}
    study = dl.Study(source=target, estimator=estimator, policy=dl.FixedFraction(alpha), samples=4000,
                     generations=generations, seed=seed, measures=quiet)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        list(dl.run(study, out=Path(folder) / "run"))
        history = dl.load(Path(folder) / "run")
        rows = [history.samples(i) for i in range(1, generations + 1)]
    return target.sample(40_000, torch.Generator().manual_seed(seed + 10_000)).numpy(), rows


STUDIES = {
    "KDE, mixture": lambda a, N, s: _loop(dl.KDE(0.5), a, N, s),
    "maximum likelihood, mixture": lambda a, N, s: _loop(dl.GaussianMLE(), a, N, s),
    "KDE, digits": _kde_digits,
}


def studies(quick):
    """Blind audits of recursions that were really run; the last two generations are held back and forecast."""
    out, N = [], 9
    for name, make in STUDIES.items():
        hit = dict.fromkeys(("runs", "identified", "alpha", "forecasts", "forecast"), 0)
        found = []
        for alpha in (0.2, 0.5):
            for seed in range(4 if quick else 15):
                real, line = make(alpha, N, seed)
                seen = dl.audit(real, line[:-2], features="quadratic")
                later = dl.audit(real, line, features="quadratic", alpha=alpha).drift[-2:]
                hit["runs"] += 1
                e = seen.effective_alpha
                if not e.is_refused:
                    hit["identified"] += 1
                    hit["alpha"] += e.low <= alpha <= e.high
                    found.append([alpha, e.value, e.low, e.high])
                for ahead, measured in zip(seen.forecast(2), later, strict=True):
                    slack = 1.96 * measured.stderr
                    hit["forecasts"] += 1
                    hit["forecast"] += ahead.low - slack <= measured.value <= ahead.high + slack
        out.append({"study": name, **hit, "found": found})
    return out


_CHILD = """
import json, sys, time
from pathlib import Path
import driftlaw as dl
from benchmarks.machine import peak_resident
folder = Path(sys.argv[1])
imported, start, wall = peak_resident(), time.process_time(), time.perf_counter()
found = dl.audit(folder / "real.npy", sorted(folder.glob("gen*.npy")), dimension=256)
print(json.dumps({"import_mib": imported, "peak_mib": peak_resident(),
                  "cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - wall,
                  "measured": found.features["measured"], "drift": str(found.drift[-1])}))
"""


def memory(quick):
    """Ten generations of 10^5 rows, and 10^6 rows: all ten generations of them, or one in the quick mode."""
    return [_memory(100_000, 10), _memory(1_000_000, 1 if quick else 10)]


def _memory(n, generations, d=256):
    """Real rows and generations in files of their own: 11 GB for ten generations of 10^6 rows."""
    with tempfile.TemporaryDirectory() as folder:
        need, free = 4 * n * d * (generations + 1), shutil.disk_usage(folder).free
        if need > 0.9 * free:
            sys.exit(f"{need / 1e9:.1f} GB are needed in {folder}, {free / 1e9:.1f} GB are free: set TMPDIR")
        for i in range(generations + 1):
            rng = np.random.default_rng([n, i])
            name = f"gen{i:02d}.npy" if i else "real.npy"
            out = np.lib.format.open_memmap(Path(folder) / name, "w+", np.float32, (n, d))
            for start in range(0, n, 10_000):
                out[start : start + 10_000] = rng.standard_normal((min(10_000, n - start), d), np.float32) + 0.002 * i
            del out
        done = subprocess.run([sys.executable, "-c", _CHILD, folder], stdout=subprocess.PIPE, text=True, check=True)
    return {"generations": generations, "rows": n, "columns": d, **json.loads(done.stdout)}


PARTS = {"level": level, "power": audit_power.power, "recursions": recursions, "studies": studies, "memory": memory,
         **audit_statistics.PARTS}  # fmt: skip


def run(quick: bool = True, only: str | None = None, lines: Path | None = None) -> dict:
    result = {"machine": facts(), "quick": quick}
    for name, part in PARTS.items():
        if only is None or name in only.split(","):
            start = time.process_time()
            result[name] = level(quick, lines) if part is level else part(quick)
            result[f"{name}_cpu_s"] = round(time.process_time() - start, 1)
    return result


def table(result: dict) -> str:
    lines = []
    for r in result.get("level", []):
        lines.append(
            f"level: {r['law']}, real {r['real']}, n {r['n']}, k {r['k']}: {r['rejected']:.2%} +- {r['stderr']:.2%} "
            f"({r['pairs']} pairs of sets, {r['means']} pairs of means each)"
        )
    lines += [f"power: {r}" for r in result.get("power", [])]
    if rows := result.get("recursions"):
        total = {key: sum(r[key] for r in rows) for key in ("repetitions", "identified", "alpha", "alignment",
                                                            "forecast_1", "forecast_3")}  # fmt: skip
        lines.append(f"recursions: {total}")
    for r in result.get("studies", []):
        lines.append(f"study: { {k: v for k, v in r.items() if k != 'found'} }")
    lines += [f"memory: {m}" for m in result.get("memory", [])]
    for name in audit_statistics.PARTS:
        found = result.get(name, [])
        lines += [f"{name}: {row}" for row in (found if isinstance(found, list) else [found])]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes on one core")
    parser.add_argument("--only", help=f"parts, comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--lines", type=Path, help="keep finished batches of the levels here and go on from them")
    options = parser.parse_args()
    result = run(options.quick, options.only, options.lines)
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
