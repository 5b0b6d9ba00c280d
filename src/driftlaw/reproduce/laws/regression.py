"""Linear regression on its own labels (theory section 13)."""

from __future__ import annotations

import numpy as np

from driftlaw.reproduce.laws.simulation import Simulated


def replaced(g: np.random.Generator) -> Simulated:
    """Excess test error after n rounds of T fresh inputs labelled by the last fit."""
    d, T, rounds, reps = 5, 30, 5, 8000
    w = np.zeros((reps, d))
    for _ in range(rounds):
        x, noise = g.normal(size=(reps, T, d)), g.normal(size=(reps, T, 1))
        w += np.linalg.solve(x.mT @ x, x.mT @ noise)[..., 0]
    expected = rounds * d / (T - d - 1)
    return Simulated("Linear regression, replace", "E = n s^2 d/(T-d-1)", "arXiv 2404.01413", expected, (w**2).sum(1))
