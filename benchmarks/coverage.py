"""Coverage of nominal 95 % intervals at small n: divergences of known densities, eta, path energies.

    python -m benchmarks.coverage [--quick] [--only divergences] [--json FILE]

- divergences: KL both ways, TV, Hellinger and chi2 to the mixture at 50 and 200 draws of each law, chi2 at 50 to
  10,000: shifts, blurs, rare and lost modes in one dimension, truth by quadrature. For chi2: share of two-sided
  intervals (the others have a lower end only), and share of all sets whose interval, of either kind, misses the truth.
- paths: eta of both estimators and path energies at 300 draws; truth in closed form, or from 200,000 draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import command
from benchmarks.machine import facts
from driftlaw.measure.laws.divergence import LogDensities, divergences
from driftlaw.measure.paths.observability import observability, observability_of_laws
from driftlaw.measure.paths.path import path_energy
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Perturbed

T0, T = 0.02, 4.0


def law(weights, means, variance):
    """A mixture on the line."""
    return GaussianMixture(weights, [[float(m)] for m in means], variance)


def normal(mean=0.0, variance=1.0):
    return law([1.0], [mean], variance)


def line(k, weight=None):
    """Modes three apart."""
    return law([1 / k] * k if weight is None else weight, [3 * i for i in range(k)], 0.25)


PAIRS = {
    "shift 0.1": (normal(0.1), normal()),
    "shift 0.5": (normal(0.5), normal()),
    "shift 2": (normal(2.0), normal()),
    "narrow 0.5": (normal(0.0, 0.25), normal()),
    "narrow 0.9": (normal(0.0, 0.81), normal()),
    "wide 1.1": (normal(0.0, 1.21), normal()),
    "wide 1.2": (normal(0.0, 1.44), normal()),
    "blur of two modes": (law([0.5, 0.5], [-2, 2], 0.36), law([0.5, 0.5], [-2, 2], 0.25)),
    "weights changed": (law([0.5, 0.5], [-2, 2], 0.36), law([0.7, 0.3], [-2, 2], 0.3025)),
    "new mode, 10 %": (GaussianMixture([0.9, 0.1], [[0.0], [4.0]], [1.0, 0.25]), normal()),
    "new mode, 3 %": (GaussianMixture([0.97, 0.03], [[0.0], [4.0]], [1.0, 0.25]), normal()),
    "one of four modes lost": (law([1 / 3] * 3, [0, 3, 6], 0.25), line(4)),
    "one of ten modes lost": (law([1 / 9] * 9, [3 * i for i in range(9)], 0.25), line(10)),
}


def truth(r, q):
    """Every divergence by quadrature."""
    x = torch.linspace(-14, 45, 200_001, dtype=torch.float64)
    dx, lr, lq = float(x[1] - x[0]), r.log_prob(x[:, None]), q.log_prob(x[:, None])
    a, b = lr.exp(), lq.exp()
    of = lambda f: float(torch.nan_to_num(f, 0.0).sum()) * dx  # noqa: E731
    return {
        "kl": of(a * (lr - lq)), "kl_reverse": of(b * (lq - lr)), "tv": of((a - b).abs()) / 2,
        "hellinger2": 1 - of(((lr + lq) / 2).exp()), "chi2_mix": of((a - b) ** 2 / (2 * (a + b))),
        "chi2": of((2 * lr - lq).exp()) - 1,
    }  # fmt: skip


def sets(r, q, n, repetitions, seed):
    """Log densities at `repetitions` pairs of sets of n draws."""
    g = torch.Generator().manual_seed(seed)
    x, y = r.sample(n * repetitions, g), q.sample(n * repetitions, g)
    logs = [a.log_prob(z).reshape(repetitions, n) for z in (x, y) for a in (r, q)]
    return [LogDensities(*(one[i] for one in logs)) for i in range(repetitions)]


def of_divergences(quick):
    out, reps = [], 200 if quick else 1000
    for name, (r, q) in PAIRS.items():
        want, tails = truth(r, q), (r.component_covariances, q.component_covariances)
        for n in (50, 200, 1000, 10_000):
            times = reps if n < 10_000 else reps // 5
            hit, two, missed = dict.fromkeys(want, 0), 0, 0
            for ld in sets(r, q, n, times, n):
                for key, e in divergences(ld, tails).items():
                    inside = e.low <= want[key] <= e.high or e.is_refused or e.is_infinite
                    hit[key] += inside
                    if key == "chi2":
                        two += math.isfinite(e.high)
                        missed += not inside
            row = {"pair": name, "n": n, "repetitions": times}
            if n <= 200:
                row |= {key: hit[key] / times for key in want if key != "chi2"}
            out.append(row | {"chi2_two_sided": two / times, "chi2_missed": missed / times})
    return out


def _constant(x, t):
    return 0.3 + 0 * x


def _linear(x, t):
    return 0.2 * x


def _singular(x, t):
    return x / t.sqrt()[:, None]


def of_paths(quick):
    plane, span, reps = GaussianMixture([1.0], [[0.0, 0.0]], 1.0), T - T0, 200 if quick else 1000
    wide, blurred = PAIRS["wide 1.2"], PAIRS["blur of two modes"]
    few = law([0.95, 0.05], [-2, 2], 0.25), law([0.5, 0.5], [-2, 2], 0.25)
    cases: dict[str, tuple[Callable, float | None]] = {}
    for name, field, eta, energy in (
        ("constant", _constant, 4 * (1 - math.exp(-span / 2)) ** 2 / span, 0.18 * span),
        ("linear", _linear, 2 * (1 - math.exp(-span)) ** 2 / span, 0.08 * span),
        ("singular", _singular, None, 2 * math.log(T / T0)),
    ):
        s = Perturbed(plane, field)
        if eta is not None:
            for points in (1, 4):
                stein = lambda n, seed, s=s, p=points: observability(s, plane, plane, T0, T, n, seed, p)  # noqa: E731
                cases[f"eta, {name}, {points} times"] = (stein, eta)
        cases[f"energy, {name}"] = (lambda n, seed, s=s: path_energy(s, plane, plane, T0, T, n=n, seed=seed), energy)
    for name, (p, q) in {"wide 1.2": wide, "blur": blurred, "mode nearly lost": few}.items():
        of_laws = lambda n, seed, p=p, q=q: observability_of_laws(p, q, T0, T, n=n, seed=seed)  # noqa: E731
        eta = of_laws(200_000, 5).value
        cases[f"eta of laws, {name}"] = (of_laws, eta)
        cases[f"eta, {name}"] = (lambda n, seed, p=p, q=q: observability(p, q, q, T0, T, n=n, seed=seed), eta)
        for side, at in (("ideal", q), ("learned", p)):
            energy = lambda n, seed, p=p, q=q, at=at: path_energy(p, q, at, T0, T, n=n, seed=seed)  # noqa: E731
            cases[f"energy, {name}, {side}"] = (energy, energy(200_000, 5).value)
    out = []
    for name, (estimate, want) in cases.items():
        found = [estimate(300, seed) for seed in range(reps)]
        low, high = (float(np.mean(x)) for x in ([e.low > want for e in found], [e.high < want for e in found]))
        out.append({"case": name, "n": 300, "repetitions": reps, "covered": 1 - low - high,
                    "low_end_above": low, "high_end_below": high})  # fmt: skip
    return out


PARTS = {"divergences": of_divergences, "paths": of_paths}


def run(quick: bool = True, only: str | None = None) -> dict:
    result = {"machine": facts(), "quick": quick}
    for name, part in PARTS.items():
        if only is None or name in only.split(","):
            start = time.process_time()
            result[name] = part(quick)
            result[f"{name}_cpu_s"] = round(time.process_time() - start, 1)
    return result


def table(result: dict) -> str:
    return "\n".join(f"{name}: {row}" for name in PARTS for row in result.get(name, []))


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the repetitions")
    parser.add_argument("--only", help=f"parts, comma-separated: {', '.join(PARTS)}")
    options = parser.parse_args()
    command.finish(run(options.quick, options.only), table, options.json)


if __name__ == "__main__":
    main()
