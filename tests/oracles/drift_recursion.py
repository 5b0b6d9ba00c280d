"""Closed forms of the drift recursion c_{i+1} = (1 - alpha) c_i + d + e_i, and data that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftlaw.measure.sketch.spread import BlockSpread


@dataclass
class Moments:
    """Size, mean and covariance: what an audit needs of a sketch."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, rows):
        return cls(len(rows), rows.mean(0), np.atleast_2d(np.cov(rows.T)))


@dataclass
class Rows(Moments):
    """The same with the spread of its blocks, as a sketch has it."""

    spread: BlockSpread | None = None

    @classmethod
    def of(cls, rows):
        return cls(len(rows), rows.mean(0), np.atleast_2d(np.cov(rows.T)), BlockSpread.of(rows))


def systematic_drift(innovation: float, alpha: float, n: int) -> float:
    """|c_n|^2 for aligned innovations of energy J: J ((1 - (1 - alpha)^n)/alpha)^2, from the geometric sum."""
    return innovation * sum((1 - alpha) ** j for j in range(n)) ** 2


def line(rng, *, generations, k, alpha, kappa, energy):
    """Exact c_1..c_N with |d|^2 = kappa J and E|e|^2 = (1 - kappa) J."""
    d = rng.standard_normal(k)
    d *= np.sqrt(kappa * energy) / np.linalg.norm(d)
    c = np.zeros((generations + 1, k))
    for i in range(generations):
        c[i + 1] = (1 - alpha) * c[i] + d + rng.standard_normal(k) * np.sqrt((1 - kappa) * energy / k)
    return c[1:]


def measured(rng, c, n, real):
    """Real and generated moments with the sampling error of n and `real` rows of unit covariance."""
    k = c.shape[1]
    sets = [Moments(n, x + rng.standard_normal(k) / np.sqrt(n), np.eye(k)) for x in c]
    return Moments(real, rng.standard_normal(k) / np.sqrt(real), np.eye(k)), sets
