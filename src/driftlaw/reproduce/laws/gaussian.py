"""Means and variances fitted again and again (theory section 13)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from driftlaw.reproduce.laws.simulation import Simulated


def replaced(g: np.random.Generator) -> Simulated:
    """Variance of a Gaussian fitted to n draws of the last one, after k rounds."""
    n, k, v = 20, 10, np.ones(100_000)
    for _ in range(k):
        v = v * g.chisquare(n - 1, len(v)) / n
    return Simulated("Gaussian MLE, replace", "E v_k = v_0 (1 - 1/n)^k", "arXiv 2412.17646", (1 - 1 / n) ** k, v)


def accumulated(g: np.random.Generator) -> Simulated:
    """Variance of a Gaussian fitted to all draws so far."""
    n, rounds, reps = 10, 6, 40_000
    pool, mean, scale = np.empty((reps, 0)), np.zeros(reps), np.ones(reps)
    for _ in range(rounds):
        pool = np.concatenate([pool, mean[:, None] + scale[:, None] * g.normal(size=(reps, n))], axis=1)
        mean, scale = pool.mean(1), pool.std(1)
    expected = math.prod(1 - 1 / (n * k * k) for k in range(1, rounds + 1))
    formula = "E v_t = v_0 prod_{k<=t} (1 - 1/(n k^2))"
    return Simulated("Gaussian MLE, accumulate", formula, "arXiv 2410.16713", expected, scale**2)


def accumulated_mean(g: np.random.Generator) -> Simulated:
    """Squared error of a mean fitted to all draws so far."""
    m, rounds, reps = 5, 10, 40_000
    total, mean = np.zeros(reps), np.zeros(reps)
    for k in range(1, rounds + 1):
        total += mean + g.normal(size=(reps, m)).mean(1)
        mean = total / k
    expected = sum(1 / k**2 for k in range(1, rounds + 1)) / m
    return Simulated("Mean, accumulate", "Var = (s^2/m) sum_{k<=t} 1/k^2", "arXiv 2404.01413", expected, mean**2)


def golden_ratio(g: np.random.Generator) -> Simulated:
    """Stationary squared error of the best weighted mean of n fresh and n synthetic draws."""
    n, rounds, reps = 4, 30, 100_000
    w, mean = (math.sqrt(5) - 1) / 2, np.zeros(100_000)
    for _ in range(rounds):
        fresh, made = g.normal(size=(2, reps)) / math.sqrt(n)
        mean = w * fresh + (1 - w) * (mean + made)
    expected = (w**2 + (1 - w) ** 2) / (w * (2 - w)) / n
    formula = "V = (s^2/n)(w^2 + (1-w)^2)/(w(2-w)) at w = 1/golden ratio"
    return Simulated("Golden ratio weighting", formula, "arXiv 2502.18049", expected, mean**2)


def growing(g: np.random.Generator) -> Simulated:
    """Squared error of a mean that is fitted to ever more draws of the last one: it converges where sum 1/n_t does."""
    n, rounds, mean = 3, 12, np.zeros(40_000)
    for t in range(1, rounds + 1):
        mean = mean + g.normal(size=len(mean)) / math.sqrt(n * t * t)
    expected = sum(1 / (n * t * t) for t in range(1, rounds + 1))
    return Simulated("Mean, replace, growing sets", "Var = s^2 sum_t 1/n_t", "arXiv 2505.13947", expected, mean**2)


def _slope(g: np.random.Generator, which: str) -> Simulated:
    """Slope of log stationary error of a mean with fresh data in log n or log alpha, from blocks of runs."""
    d, blocks, runs = 10, 50, 400
    small, large = ((50, 0.2), (200, 0.2)) if which == "n" else ((50, 0.02), (50, 0.04))

    def errors(n: int, alpha: float) -> NDArray[np.float64]:
        mean = np.zeros((blocks * runs, d))
        for _ in range(math.ceil(6 / alpha)):
            mean = (1 - alpha) * mean + g.normal(size=mean.shape) / math.sqrt(n)
        return np.asarray(np.square(mean).sum(1).reshape(blocks, runs).mean(1))

    def exact(n: int, alpha: float) -> float:
        return d / n / (1 - (1 - alpha) ** 2)

    ratio = math.log((large[0] / small[0]) if which == "n" else (large[1] / small[1]))
    values = np.log(errors(*large) / errors(*small)) / ratio
    expected = math.log(exact(*large) / exact(*small)) / ratio
    name = f"Scaling of the error in {'n' if which == 'n' else 'the fresh fraction'}"
    formula = "E = (d s^2/n)/(1 - (1-a)^2): -1 in n, -> -1 in a"
    return Simulated(name, formula, "arXiv 2402.07043, 2410.04840 (topic)", expected, values)


def scaling_in_n(g: np.random.Generator) -> Simulated:
    """Slope in the number of rows."""
    return _slope(g, "n")


def scaling_in_alpha(g: np.random.Generator) -> Simulated:
    """Slope in the fresh fraction."""
    return _slope(g, "alpha")
