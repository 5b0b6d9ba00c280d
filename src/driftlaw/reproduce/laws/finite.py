"""Frequencies of categories with fresh data (theory section 7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fresh(g: np.random.Generator) -> tuple[str, str, str, float, NDArray[np.float64]]:
    """Stationary chi2 of n multinomial draws a round."""
    K, n, alpha, reps = 8, 50, 0.2, 8000
    p = np.arange(1, K + 1) / (K * (K + 1) / 2)
    f = np.tile(p, (reps, 1))
    for _ in range(60):
        f = g.multinomial(n, alpha * p + (1 - alpha) * f) / n
    expected = (K - 1) / n / (1 - (1 - alpha) ** 2 * (1 - 1 / n))
    formula = "E D = ((K-1)/n)/(1 - (1-a)^2 (1-1/n))"
    return "Categories, fresh fraction", formula, "this project, theory section 7", expected, (f**2 / p).sum(1) - 1
