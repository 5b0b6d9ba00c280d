"""Hermite coefficients of a simulated recursion that stops early (theory section 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from driftlaw.theory.limit import hermite_gain

ALPHA, TAU, N = 0.2, 0.05, 200_000


def _spectrum(g: np.random.Generator, degree: int) -> tuple[str, str, str, float, NDArray[np.float64]]:
    """He_m(x) of rows at stationarity, over the coefficient of the target: each row has its own random age."""
    age = g.geometric(ALPHA, N) * TAU
    x = np.where(g.random(N) < 0.7, 2 + 0.3 * g.normal(size=N), -1.4 + 0.7 * g.normal(size=N))
    y = np.exp(-age / 2) * x + np.sqrt(-np.expm1(-age)) * g.normal(size=N)
    he = y**2 - 1 if degree == 2 else y**3 - 3 * y
    exact = sum(
        w * (m**2 + v - 1 if degree == 2 else m**3 + 3 * m * (v - 1)) for w, m, v in ((0.7, 2, 0.09), (0.3, -1.4, 0.49))
    )
    expected = float(hermite_gain(degree, ALPHA, TAU))
    name, formula = f"Hermite gain, degree {degree}", "a r^m/(1 - (1-a) r^m), r = exp(-tau/2)"
    return name, formula, "arXiv 2606.13796 (topic)", expected, he / exact


def second_degree(g: np.random.Generator) -> tuple[str, str, str, float, NDArray[np.float64]]:
    """Gain of the second degree."""
    return _spectrum(g, 2)


def third_degree(g: np.random.Generator) -> tuple[str, str, str, float, NDArray[np.float64]]:
    """Gain of the third degree."""
    return _spectrum(g, 3)
