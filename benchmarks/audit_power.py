"""Power of audits beside other two-sample tests at 5 %: a part of ``python -m benchmarks.audit --only power``.

500 real rows against 500 generated ones in 10 columns. Beside the drift test and an audit of sketches (means, columns,
spread and dependence together, adjusted): Hotelling's T^2, the permutation test of the MMD, and classifier two-sample
tests (accuracy on a held-out half against a fair coin), logistic regression and boosted trees.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import driftlaw as dl
from driftlaw.measure.sets.twosample import mmd_permutation

N, K = 500, 10


def gaussian(rng, n):
    return rng.standard_normal((n, K))


def flagged(share):
    """The last column is 1 in a share of the rows."""
    return lambda rng, n: np.column_stack([rng.standard_normal((n, K - 1)), rng.random(n) < share])


def tailed(rng, n):
    """The first column has a Student law of 3 degrees, scaled to unit variance."""
    x = rng.standard_normal((n, K))
    x[:, 0] = rng.standard_t(3, n) / np.sqrt(3)
    return x


def paired(rng, n):
    """Correlation 0.3 of the first two columns."""
    x = rng.standard_normal((n, K))
    x[:, 1] = 0.3 * x[:, 0] + np.sqrt(0.91) * x[:, 1]
    return x


#: Real law and generated one.
CASES = {
    "no change": (gaussian, gaussian),
    "mean, all columns, D = 0.08": (gaussian, lambda rng, n: gaussian(rng, n) + np.sqrt(0.08 / K)),
    "mean, one column, D = 0.08": (gaussian, lambda rng, n: gaussian(rng, n) + np.sqrt(0.08) * (np.arange(K) == 0)),
    "variance of one column, 1.5 times": (gaussian, lambda rng, n: gaussian(rng, n) * np.r_[1.5**0.5, np.ones(K - 1)]),
    "correlation 0 to 0.3": (gaussian, paired),
    "category of 1 % now 5 %": (flagged(0.01), flagged(0.05)),
    "Gaussian column now t3": (gaussian, tailed),
}


def hotelling(x, y):
    """p-value of the pooled T^2 for Gaussian rows."""
    n, m, k = len(x), len(y), x.shape[1]
    gap = x.mean(0) - y.mean(0)
    pooled = ((n - 1) * np.cov(x.T) + (m - 1) * np.cov(y.T)) / (n + m - 2)
    t2 = n * m / (n + m) * float(gap @ np.linalg.pinv(pooled) @ gap)
    return float(stats.f.sf(t2 * (n + m - k - 1) / (k * (n + m - 2)), k, n + m - k - 1))


def classifier(model, x, y, rng):
    """p-value of the accuracy on the half of the rows that did not train."""
    rows, labels = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    order = rng.permutation(len(rows))
    train, test = np.split(order, 2)
    right = int((model.fit(rows[train], labels[train]).predict(rows[test]) == labels[test]).sum())
    return float(stats.binom.sf(right - 1, len(test), 0.5))


def audited(x, y, phi):
    """p-values of the drift test and of the smallest adjusted look."""
    real = dl.sketch(x, like=phi)
    g = dl.audit(real, [dl.sketch(y, like=phi)]).generations[0]
    looks = g.looks
    each = [p for p in (looks.mean, looks.columns, looks.spread, looks.dependence) if p is not None]
    return g.p_value_single.value, min(each)


def power(quick):
    """Share of rejections, and CPU milliseconds of one test."""
    reps, out = 30 if quick else 200, []
    for case, (real, generated) in CASES.items():
        hits, spent = dict.fromkeys(("drift", "audit", "hotelling", "mmd", "logistic", "boosted"), 0), {}
        for r in range(reps):
            rng = np.random.default_rng([r, 500])
            x, y = real(rng, N), generated(rng, N)
            phi = dl.sketch(x, "identity", fit_on=real(rng, N))
            tests = {
                "audit": lambda x=x, y=y, phi=phi: audited(x, y, phi),
                "hotelling": lambda x=x, y=y: hotelling(x, y),
                "mmd": lambda x=x, y=y, r=r: (
                    mmd_permutation(torch.from_numpy(x), torch.from_numpy(y), permutations=199, seed=r).value
                ),
                "logistic": lambda x=x, y=y, rng=rng: classifier(LogisticRegression(), x, y, rng),
                "boosted": lambda x=x, y=y, rng=rng: classifier(HistGradientBoostingClassifier(), x, y, rng),
            }
            for name, test in tests.items():
                start = time.process_time()
                p = test()
                spent[name] = spent.get(name, 0.0) + time.process_time() - start
                if name == "audit":
                    hits["drift"] += p[0] < 0.05
                    p = p[1]
                hits[name] += p < 0.05
        out.append({"case": case, "repetitions": reps, **{name: h / reps for name, h in hits.items()},
                    "cpu_ms": {name: round(1000 * s / reps, 1) for name, s in spent.items()}})  # fmt: skip
    return out
