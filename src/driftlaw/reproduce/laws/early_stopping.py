"""Recursions that stop early: Hermite gains, annealing, and the W2 ball around the limit law (theory section 9)."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial.hermite_e import hermeval
from numpy.typing import NDArray

from driftlaw.reproduce.laws.simulation import Simulated
from driftlaw.theory.annealing import annealed_times
from driftlaw.theory.limit import hermite_gain, hermite_gain_after, w2_ball

ALPHA, TAU, N = 0.2, 0.05, 200_000
SOURCE = "arXiv 2606.13796 (topic)"
#: Weights, means and standard deviations of the target.
TARGET = ((0.7, 2.0, 0.3), (0.3, -1.4, 0.7))

Array = NDArray[np.float64]


def _rows(g: np.random.Generator, n: int) -> Array:
    first, second = (mean + sd * g.normal(size=n) for _, mean, sd in TARGET)
    return np.where(g.random(n) < TARGET[0][0], first, second)


def _hermite(x: Array, degree: int) -> Array:
    return np.asarray(hermeval(x, [0] * degree + [1]))


def _coefficient(degree: int) -> float:
    """E He_m(X) by Gauss-Hermite quadrature, exact for polynomials."""
    x, w = np.polynomial.hermite_e.hermegauss(degree + 1)
    return float(sum(p * (w * _hermite(m + s * x, degree)).sum() / w.sum() for p, m, s in TARGET))


def _spectrum(g: np.random.Generator, degree: int) -> Simulated:
    """He_m(x) of rows at stationarity, over the coefficient of the target: each row has its own random age."""
    age, x = g.geometric(ALPHA, N) * TAU, _rows(g, N)
    y = np.exp(-age / 2) * x + np.sqrt(-np.expm1(-age)) * g.normal(size=N)
    expected = float(hermite_gain(degree, ALPHA, TAU))
    formula = "a r^m/(1 - (1-a) r^m), r = exp(-tau/2)"
    return Simulated(
        f"Hermite gain, degree {degree}", formula, SOURCE, expected, _hermite(y, degree) / _coefficient(degree)
    )


def second_degree(g: np.random.Generator) -> Simulated:
    """Gain of the second degree."""
    return _spectrum(g, 2)


def third_degree(g: np.random.Generator) -> Simulated:
    """Gain of the third degree."""
    return _spectrum(g, 3)


def annealed(g: np.random.Generator) -> Simulated:
    """Gain of the fourth degree after 60 rounds of 1/(n+1) times as early stopping: hardly any blur adds up."""
    rounds, degree = 60, 4
    taus, y = annealed_times(TAU, rounds), _rows(g, N)
    for tau in taus:
        y = np.where(g.random(N) < ALPHA, _rows(g, N), y)
        y = math.exp(-tau / 2) * y + math.sqrt(-math.expm1(-tau)) * g.normal(size=N)
    expected = float(hermite_gain_after(degree, ALPHA, taus)[-1])
    formula = "g_(n+1) = exp(-m tau_n/2)(a + (1-a) g_n), tau_n = tau_0/(n+1)"
    values = _hermite(y, degree) / _coefficient(degree)
    return Simulated("Annealed early stopping, degree 4", formula, SOURCE, expected, values)


def ball(g: np.random.Generator) -> Simulated:
    """W2 to the limit law of a recursion whose every round is off by a shift of `error`, within the ball."""
    error, rounds, reps, n = 0.1, 12, 40, 20_000
    found = np.empty(reps)
    for r in range(reps):
        y = x = _rows(g, n)
        for _ in range(rounds):  # coupled: the same fresh rows, ages and noise
            new, fresh, noise = g.random(n) < ALPHA, _rows(g, n), math.sqrt(-math.expm1(-TAU)) * g.normal(size=n)
            x = math.exp(-TAU / 2) * np.where(new, fresh, x) + noise
            y = math.exp(-TAU / 2) * np.where(new, fresh, y) + noise + error
        found[r] = math.sqrt(np.square(np.sort(x) - np.sort(y)).mean())
    expected = w2_ball(ALPHA, TAU, error, 0.0, rounds)
    formula = "W2(p_n, p_inf) <= eps (1-rho^n)/(1-rho), rho = sqrt(1-a) exp(-tau/2)"
    return Simulated("W2 ball of early stopping", formula, SOURCE, expected, found, "upper")
