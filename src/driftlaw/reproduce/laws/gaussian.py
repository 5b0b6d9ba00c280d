"""Means and variances fitted again and again (theory section 13)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Simulated = tuple[str, str, str, float, NDArray[np.float64]]


def replaced(g: np.random.Generator) -> Simulated:
    """Variance of a Gaussian fitted to n draws of the last one, after k rounds."""
    n, k, v = 20, 10, np.ones(100_000)
    for _ in range(k):
        v = v * g.chisquare(n - 1, len(v)) / n
    return "Gaussian MLE, replace", "E v_k = v_0 (1 - 1/n)^k", "arXiv 2412.17646", (1 - 1 / n) ** k, v


def accumulated(g: np.random.Generator) -> Simulated:
    """Variance of a Gaussian fitted to all draws so far."""
    n, rounds, reps = 10, 6, 40_000
    pool, mean, scale = np.empty((reps, 0)), np.zeros(reps), np.ones(reps)
    for _ in range(rounds):
        pool = np.concatenate([pool, mean[:, None] + scale[:, None] * g.normal(size=(reps, n))], axis=1)
        mean, scale = pool.mean(1), pool.std(1)
    expected = math.prod(1 - 1 / (n * k * k) for k in range(1, rounds + 1))
    formula = "E v_t = v_0 prod_{k<=t} (1 - 1/(n k^2))"
    return "Gaussian MLE, accumulate", formula, "arXiv 2410.16713", expected, scale**2


def accumulated_mean(g: np.random.Generator) -> Simulated:
    """Squared error of a mean fitted to all draws so far."""
    m, rounds, reps = 5, 10, 40_000
    total, mean = np.zeros(reps), np.zeros(reps)
    for k in range(1, rounds + 1):
        total += mean + g.normal(size=(reps, m)).mean(1)
        mean = total / k
    expected = sum(1 / k**2 for k in range(1, rounds + 1)) / m
    return "Mean, accumulate", "Var = (s^2/m) sum_{k<=t} 1/k^2", "arXiv 2404.01413", expected, mean**2


def golden_ratio(g: np.random.Generator) -> Simulated:
    """Stationary squared error of the best weighted mean of n fresh and n synthetic draws."""
    n, rounds, reps = 4, 30, 100_000
    w, mean = (math.sqrt(5) - 1) / 2, np.zeros(100_000)
    for _ in range(rounds):
        fresh, made = g.normal(size=(2, reps)) / math.sqrt(n)
        mean = w * fresh + (1 - w) * (mean + made)
    expected = (w**2 + (1 - w) ** 2) / (w * (2 - w)) / n
    formula = "V = (s^2/n)(w^2 + (1-w)^2)/(w(2-w)) at w = 1/golden ratio"
    return "Golden ratio weighting", formula, "arXiv 2502.18049", expected, mean**2
