"""Levels, coverage and regimes of audits on uneven data: parts of ``python -m benchmarks.audit``.

- uneven: rejection at 5 % without drift for one-hot, rare, skewed, heavy-tailed, rounded and mixed columns, unequal n.
- halves: false alarms of whole audits (all looks) on random halves of real tables, as they are, rounded, and one-hot.
- coverage: of drift intervals with 400 real rows under alternatives.
- regimes: laws of growth named wrongly, curves drawn from each law in r directions.
- duplicates: rate and exact p-value of near-duplicates of honest rows that tie.
- misfit: recursions that the stationary model does not describe, and those that it does.
- speed: 200,000 x 10 against 200,000.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

import driftlaw as dl
from driftlaw.auditing.coordinates import Coordinates
from driftlaw.auditing.evidence.misfit import find_misfit
from driftlaw.auditing.significance import assess
from driftlaw.estimate import Estimate
from driftlaw.measure.sets.memorisation import copied_p, memorisation
from driftlaw.measure.sketch.spread import BlockSpread
from driftlaw.seeding import numpy_generator
from driftlaw.theory.propagator import propagator
from driftlaw.theory.refresh import Accumulate, FixedFraction, Replace
from driftlaw.theory.regimes import classify


@dataclass
class Rows:
    """What a sketch knows of rows."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    spread: BlockSpread

    @classmethod
    def of(cls, x):
        """Of rows ``[n, k]``."""
        return cls(len(x), x.mean(0), np.atleast_2d(np.cov(x.T)), BlockSpread.of(x))


def zipf(rng, n, levels=30):
    share = 1 / np.arange(1, levels + 1)
    return (rng.choice(levels, size=n, p=share / share.sum())[:, None] == np.arange(1, levels)).astype(float)


UNEVEN = {
    "Zipf, 30 levels": zipf,
    "1 % values, 5 columns": lambda rng, n: (rng.random((n, 5)) < 0.01).astype(float),
    "0.1 % values, 5 columns": lambda rng, n: (rng.random((n, 5)) < 0.001).astype(float),
    "lognormal, sigma = 1, 5 columns": lambda rng, n: np.exp(rng.standard_normal((n, 5))),
    "Student t3, 20 columns": lambda rng, n: rng.standard_t(3, (n, 20)),
    "rounded normal, 5 columns": lambda rng, n: np.round(rng.standard_normal((n, 5))),
    "mixed, 17 columns": lambda rng, n: np.column_stack(
        [zipf(rng, n, 12), np.exp(rng.standard_normal((n, 2))), rng.standard_normal((n, 2)), rng.random((n, 2)) < 0.01]
    ),
}
SIZES = ((300, 300), (8000, 300), (300, 8000), (2000, 2000))


def uneven(quick):
    out, reps = [], 100 if quick else 1000
    for law, draw in UNEVEN.items():
        for real, n in SIZES:
            rng, hit, tried = numpy_generator(0, "uneven", law, real, n), 0, 0
            while tried < reps:
                x, y = draw(rng, real), draw(rng, n)
                if not x.std(0).any():
                    continue  # refused by an audit: no column of the real rows varies
                tried += 1
                hit += assess(Coordinates.of(Rows.of(x), [Rows.of(y)]), 1).p.value < 0.05
            out.append({"law": law, "real": real, "n": n, "repetitions": reps, "rejected": hit / reps})
    return out


def _tables():
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "diabetes", "digits"):
        x = getattr(datasets, f"load_{name}")().data
        yield name, "as it is", x
        yield name, "rounded", np.round(x / np.maximum(x.std(0), 1e-9), 0)
        cut = np.digitize(x[:, :6], np.quantile(x[:, :6], [0.5, 0.8]))
        yield name, "one-hot", np.column_stack([(cut[:, [j]] == [[0, 1]]).astype(float) for j in range(cut.shape[1])])


def halves(quick):
    out, reps = [], 4 if quick else 67
    for name, form, x in _tables():
        alarms = means = 0
        for r in range(reps):
            order = numpy_generator(r, "halves", name, form).permutation(len(x))
            g = dl.audit(x[order[: len(x) // 2]], [x[order[len(x) // 2 :]]], features="identity").generations[0]
            alarms += bool(g.findings)
            means += g.p_value_single.value < 0.05
        out.append({"table": name, "form": form, "splits": reps, "alarms": alarms, "mean_rejected": means})
    return out


def coverage(quick):
    reps, scale = 100 if quick else 1000, np.sqrt((np.e - 1) * np.e)
    cases = {
        "Gaussian, 5 columns": (lambda g, n: g.standard_normal((n, 5)), 5),
        "lognormal, 1 column": (lambda g, n: np.exp(g.standard_normal((n, 1))) / scale, 1),
        "lognormal, 3 columns": (lambda g, n: np.exp(g.standard_normal((n, 3))) / scale, 3),
        "Student t3, 1 column": (lambda g, n: g.standard_t(3, (n, 1)) / np.sqrt(3), 1),
        "Student t3, 4 columns": (lambda g, n: g.standard_t(3, (n, 4)) / np.sqrt(3), 4),
    }
    out = []

    def add(case, truth, draw):
        rng, hit, open_ends = numpy_generator(0, "coverage", case, truth), 0, 0
        for _ in range(reps):
            x, y = draw(rng)
            d = Coordinates.of(Rows.of(x), [Rows.of(y)]).drift(1)
            hit += d.low <= truth <= d.high
            open_ends += np.isinf(d.high)
        out.append({"law": case, "drift": truth, "repetitions": reps, "covered": hit / reps,
                    "no_upper_end": float(open_ends / reps)})  # fmt: skip

    for case, (law, k) in cases.items():
        for drift in (0.1, 0.5, 2.0):
            add(case, drift, lambda g, law=law, k=k, d=drift: (law(g, 400), law(g, 400) + np.sqrt(d / k)))
    for p, q in ((0.3, 0.5), (0.05, 0.1)):
        truth = (q - p) ** 2 / (p * (1 - p))
        add(f"Bernoulli {p} to {q}", truth, lambda g, p=p, q=q: ((g.random((400, 1)) < p) * 1.0,
                                                                (g.random((400, 1)) < q) * 1.0))  # fmt: skip
    square = lambda z: np.column_stack([z, z**2, z[:, :1] * z[:, 1:2]])  # noqa: E731
    for s in (1.0, 1.2):
        add(f"quadratic, {s} times as wide", (s**2 - 1) ** 2,
            lambda g, s=s: (square(g.standard_normal((400, 2))), square(s * g.standard_normal((400, 2)))))  # fmt: skip
    return out


LAWS = {
    "diffusive": (Replace(), 0.0, {"diffusive"}),
    "ballistic": (Replace(), 1.0, {"ballistic"}),
    "logarithmic": (Accumulate(), 1.0, {"logarithmic"}),
    "accumulate, independent": (Accumulate(), 0.0, {"stable"}),
    "fixed 0.3, independent": (FixedFraction(0.3), 0.0, {"stable", "transient"}),
    "fixed 0.1, aligned 0.9": (FixedFraction(0.1), 0.9, {"stable", "transient"}),
}


def regimes(quick):
    out, reps = [], 30 if quick else 300
    for law, (policy, kappa, right) in LAWS.items():
        for N in (6, 12, 24):
            G = propagator(policy, N)
            for r in (3, 10, 100):
                rng, names = numpy_generator(0, "regimes", law, N, r), Counter()
                for _ in range(reps):
                    d = rng.standard_normal(r)
                    steps = d * np.sqrt(kappa) / np.linalg.norm(d)
                    steps = steps + rng.standard_normal((N, r)) * np.sqrt((1 - kappa) / r)
                    D = ((G @ steps) ** 2).sum(1) * np.exp(0.05 * rng.standard_normal(N))
                    names[classify([Estimate.normal(x, 0.05 * x, 1000, "drawn") for x in D]).name] += 1
                wrong = sum(c for name, c in names.items() if name not in right | {"undetermined"})
                out.append({"law": law, "N": N, "r": r, "curves": reps, "wrong": wrong,
                            "undetermined": names["undetermined"]})  # fmt: skip
    return out


def duplicates(quick):
    out, reps = [], 20 if quick else 200
    forms = {
        "continuous": lambda x: x,
        "discrete": np.round,
        "rounded": lambda x: np.round(5 * x[:, :2]) / 5,
        "mixed": lambda x: np.column_stack([x[:, 0] > 0, np.round(x[:, 1]), x[:, 2]]),
    }
    for name, form in forms.items():
        rates, alarms, found = [], 0, 0
        for i in range(reps):
            x = numpy_generator(i, "duplicates", name).standard_normal((1400, 4))
            t, h, s = np.split(torch.from_numpy(np.asarray(form(x), float)), [800, 1100])
            rates.append(memorisation(s, t, h)["memorised"].value)
            alarms += copied_p(s, t, h) < 0.05
            found += copied_p(torch.cat([t[:150], s[:150]]), t, h) < 0.05
        out.append({"rows": name, "sets": reps, "rate": float(np.mean(rates)), "alarms": alarms / reps,
                    "half_copies_found": found / reps})  # fmt: skip
    return out


def misfit(quick):
    out, reps = [], 10 if quick else 100
    kinds = {"none": {}, "growing bias": {"g": 1.3}, "shrinking bias": {"g": 0.7}, "alpha changed": {"after": 0.1},
             "outlier generation": {"spike": 4}, "shared rows": {"shared": True, "n": 300}}  # fmt: skip
    for name, kind in kinds.items():
        names = Counter()
        for i in range(reps):
            rng, N, k, n = numpy_generator(i, "misfit", name), 10, 10, kind.get("n", 5000)
            d = rng.standard_normal(k)
            d *= np.sqrt(0.045) / np.linalg.norm(d)
            c, means = np.zeros(k), [rng.standard_normal(k) / np.sqrt(20_000)]
            for j in range(N):
                alpha = kind.get("after", 0.4) if j >= N // 2 else 0.4
                e = rng.standard_normal(k) * np.sqrt((0.8 if j == kind.get("spike") else 0.005) / k)
                c = (1 - alpha) * c + d * kind.get("g", 1.0) ** j + e
                seen = c + rng.standard_normal(k) / np.sqrt(n)
                means.append(seen)
                c = seen if kind.get("shared") else c
            m = np.array(means) - means[0]
            found = find_misfit(m @ m.T, np.r_[k / 20_000, np.full(N, k / n)], k, False, True)
            names[found.cause if found else "none"] += 1
        out.append({"truth": name, "lines": reps, "named": dict(names)})
    return out


def speed(quick):
    rng = np.random.default_rng(0)
    real, made = ({f"c{j}": rng.standard_normal(200_000) for j in range(10)} for _ in range(2))
    times = []
    for _ in range(3):
        start = time.process_time()
        dl.audit(real, [made])
        times.append(time.process_time() - start)
    return {"rows": 200_000, "columns": 10, "cpu_s": times}


PARTS = {"uneven": uneven, "halves": halves, "coverage": coverage, "regimes": regimes, "duplicates": duplicates,
         "misfit": misfit, "speed": speed}  # fmt: skip
