r"""Laws of growth compared under the noise of their own mechanisms (this project, theory section 4).

The state is c_n = mu_n d + sum_i G_{n,i} e_i in r directions: d common to all rounds (share kappa of one innovation's
energy), e_i independent. With m_n = kappa mu_n^2 + (1 - kappa) v_n and the lag covariances v_{mn} = sum_i G_{m,i}
G_{n,i},

    E D_n ~ m_n,     Cov(D_m, D_n) ~ [2 (1 - kappa)^2 v_{mn}^2 + 4 kappa (1 - kappa) mu_m mu_n v_{mn}]/r.

A random walk (kappa = 0, G = 1) in r directions thus has Var D_n = 2 D_n^2/r, strongly correlated from round to
round: its curve bends by itself, and a law judged by its smoothness alone is called with confidence and wrong. log
D_n is taken as Gaussian with this covariance (delta method), measurement and model error added. Its likelihood is
integrated over the scale and averaged over a grid of kappa, r and forgetting rates for every law; with equal prior
weights that gives the probability of each law.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import polygamma

from driftlaw.theory.refresh import Array

#: Directions, shares of the common error and kept shares 1 - alpha on the grid.
DIRECTIONS = (2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
ALIGNED = (0.8, 1.0)
KEPT = tuple(round(0.05 * i, 2) for i in range(20))
FALLING = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
#: Share of the plateau that counts as arrived.
ARRIVED = 0.9


@dataclass(frozen=True, eq=False)
class Curve:
    """One law with its parameters set.

    Args:
        name: of the law.
        mean: ``[N]`` E D_n up to a factor.
        spread: ``[N, N]`` covariance of log D_n.
        plateau: limit of `mean`; 0 where there is none.
        weight: prior weight within all curves.
    """

    name: str
    mean: Array
    spread: Array
    plateau: float
    weight: float


def _curve(name: str, G: Array, kappa: float, r: float, plateau: float = 0.0) -> Curve:
    mu, v = G.sum(1), G @ G.T
    mean = kappa * mu**2 + (1.0 - kappa) * np.diag(v)
    # polygamma(1, r/2) is the variance of the log of a chi-squared variable of r degrees of freedom; 2/r for large r
    unit = float(polygamma(1, r / 2.0)) / 2.0
    cov = (2.0 * (1.0 - kappa) ** 2 * v**2 + 4.0 * kappa * (1.0 - kappa) * np.outer(mu, mu) * v) * unit
    return Curve(name, mean, cov / np.outer(mean, mean), plateau, 1.0)


@lru_cache(maxsize=16)
def curves(N: int) -> tuple[Curve, ...]:
    """All curves of N generations; every law has the same weight in sum."""
    i, n = np.arange(N), np.arange(1, N + 1)
    lower = np.tril(np.ones((N, N)))
    accumulate = np.tril(np.where(i[None, :] == i[:, None], 1.0, 1.0 / (i[None, :] + 2.0)))
    found = [_curve("diffusive", lower, 0.0, r) for r in DIRECTIONS]
    for kappa in ALIGNED:
        for r in DIRECTIONS if kappa < 1.0 else DIRECTIONS[:1]:
            found += [_curve("ballistic", lower, kappa, r), _curve("logarithmic", accumulate, kappa, r)]
    found += [_curve("stable", accumulate, 0.0, r, np.pi**2 / 6.0) for r in DIRECTIONS]
    for rho in KEPT:
        G = np.tril(rho ** np.maximum(i[:, None] - i[None, :], 0).astype(float))
        for kappa in (0.0, *ALIGNED):
            limit = kappa / (1.0 - rho) ** 2 + (1.0 - kappa) / (1.0 - rho**2)
            for r in DIRECTIONS if kappa < 1.0 else DIRECTIONS[:1]:
                one = _curve("stable", G, kappa, r, limit)
                name = "stable" if one.mean[-1] >= ARRIVED * limit else "transient"
                found.append(Curve(name, one.mean, one.spread, limit, 1.0))
    found += [
        Curve("transient", np.asarray(rho ** (2.0 * n), np.float64), np.zeros((N, N)), 0.0, 1.0) for rho in FALLING
    ]
    totals: dict[str, float] = {}
    for c in found:
        totals[c.name] = totals.get(c.name, 0.0) + c.weight
    return tuple(Curve(c.name, c.mean, c.spread, c.plateau, c.weight / totals[c.name]) for c in found)


@dataclass(frozen=True, eq=False)
class Judged:
    """Laws given a curve of drift.

    Args:
        probability: of each law.
        best: the most likely curve of all.
        log_scale, stderr: of log D_n - log mean for the best curve.
    """

    probability: dict[str, float]
    best: Curve
    log_scale: float
    stderr: float


def judge(n: Array, log_drift: Array, sigma: Array) -> Judged:
    """Probability of each law.

    Args:
        n: ``[m]`` generations with a usable drift, from 1.
        log_drift: ``[m]``.
        sigma: ``[m]`` error of each, measurement and model.
    """
    at = n.astype(int) - 1
    every = curves(int(at[-1]) + 1)
    y = log_drift - np.log(np.stack([c.mean[at] for c in every]))
    V = np.stack([c.spread[np.ix_(at, at)] for c in every]) + np.diag(sigma**2)
    inverse = np.linalg.inv(V)
    ones = inverse.sum(2)
    total = ones.sum(1)
    centre = (ones * y).sum(1) / total
    gap = y - centre[:, None]
    fit = np.einsum("gi,gij,gj->g", gap, inverse, gap)
    log_like = -0.5 * (np.linalg.slogdet(V)[1] + np.log(total) + fit) + np.log([c.weight for c in every])
    best = int(log_like.argmax())
    weight = np.exp(log_like - log_like[best])
    probability: dict[str, float] = {}
    for c, w in zip(every, weight / weight.sum(), strict=True):
        probability[c.name] = probability.get(c.name, 0.0) + float(w)
    inflation = max(1.0, float(fit[best]) / max(len(at) - 1, 1))
    return Judged(probability, every[best], float(centre[best]), float(np.sqrt(inflation / total[best])))
