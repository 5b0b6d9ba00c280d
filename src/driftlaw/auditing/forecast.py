r"""Forecasts: where the fitted recursion goes next, with everything that is not known about it.

With rho = 1 - alpha and stationary innovations d + e_i (``dynamics``), h generations after the last one,

    c_{N+h} = rho^h c_N + g_h d + sum_{j<h} rho^j e_j,    g_h = 1 + rho + ... + rho^{h-1},

    E D_{N+h} = |rho^h c_N + g_h d|^2 + s (1 + rho^2 + ... + rho^{2(h-1)}).

d is estimated by the mean of the estimated innovations, so the first term is a quadratic form of the means, from which
the traces of the measurement and of the innovations in that mean are taken off. Given rho and s, D_{N+h} is drawn from
a gamma law with this mean and the variance of measurement, estimated d and future innovations; rho and s are drawn from
what the data leave open (``Dynamics.draws``). The interval is for the drift itself, not for its next measurement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from driftlaw.auditing.coordinates import Array
from driftlaw.auditing.dynamics import Dynamics, innovation_weights
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.seeding import numpy_generator

#: Comparable generations that a forecast needs, and how far above the floor an interval that holds it may reach.
LEAST, VACUOUS = 3, 100.0
METHOD = "stationary innovations, mixture over effective alpha, 95 % prediction interval"


def forecast(dynamics: Dynamics, horizon: int) -> tuple[Estimate, ...]:
    """Drift of the next generations if they are made as the last ones were.

    Args:
        dynamics: the fitted recursion.
        horizon: how many generations, at least 1.

    Returns:
        Medians of D_{N+1}..D_{N+horizon} with 95 % prediction intervals; refused below 3 generations, where the
        recursion does not fit, where the interval holds the floor and spans more than two orders of magnitude above
        it, and where the median lies below what 95 % of honest real rows of that size show.

    Raises:
        InputError: horizon < 1.
    """
    if horizon < 1:
        raise InputError(f"the horizon is {horizon} generations", "ask for 1 or more")
    n = int(dynamics.sizes.min())
    why = ""
    if dynamics.generations - (not dynamics.from_real) < LEAST:
        why = f"forecasts need at least {LEAST} comparable generations"
    elif dynamics.misfit:
        why = f"the recursion does not fit: {dynamics.misfit_words}"
    if why:
        return tuple(Estimate.refused(METHOD, why, n) for _ in range(horizon))
    warnings = () if dynamics.identified else ("alpha is not identifiable: every value that fits is in the interval",)
    at, _, s = dynamics.draws()
    noise = float(dynamics.noise[0] + dynamics.noise[-1])
    floor, resolved = 2.0 * noise, noise * (float(stats.chi2.ppf(0.95, dynamics.rank)) / dynamics.rank - 1.0)
    rng = numpy_generator(0, "audit", "forecast")
    out = []
    for h in range(1, horizon + 1):
        mean, variance = _moments(dynamics, at, s, h)
        mean = np.maximum(mean, 1e-3 * np.sqrt(variance))
        drawn = rng.gamma(mean**2 / variance, variance / mean)
        low, value, high = (float(q) for q in np.quantile(drawn, [0.025, 0.5, 0.975]))
        if low <= floor and high > VACUOUS * floor:
            said = f"everything from nothing to {high:.2g} fits: it would say nothing"
            out.append(Estimate.refused(METHOD, said, n))
            continue
        if value < resolved:
            said = f"below the floor: at most {high:.2g}, and real rows of this size differ by up to {resolved:.2g}"
            out.append(Estimate.refused(METHOD, said, n))
            continue
        out.append(Estimate(value, float(drawn.std()), min(low, value), max(high, value), n, METHOD, warnings))
    return tuple(out)


def _moments(x: Dynamics, at: NDArray[np.int64], s: Array, h: int) -> tuple[Array, Array]:
    """Mean and variance of D_{N+h} for each drawn index of rho and s."""
    N, first = x.generations, 0 if x.from_real else 1
    used, grid = N - first, x.rho
    g = np.sum([grid**j for j in range(h)], axis=0)
    weights = (g / used)[:, None] * innovation_weights(grid, N)[:, first:].sum(1)
    weights[:, N] += grid**h
    weights[:, 0] -= grid**h
    measured = (weights**2 @ x.noise)[at]
    plain = np.einsum("gi,ij,gj->g", weights, x.products, weights)[at]
    rho, g = grid[at], g[at]
    future = s * np.sum([rho ** (2 * j) for j in range(h)], axis=0)
    if x.shared_rows:  # the errors of later training sets are innovations as well
        future = future + x.noise[N] * np.sum([rho ** (2 * j) for j in range(1, h)], axis=0)
    in_mean = s / used * g**2
    remembered = np.sum([rho ** (N - 1 - j) for j in range(first, N)], axis=0)
    systematic = np.maximum(plain - measured - in_mean - 2.0 * s / used * g * rho**h * remembered, 0.0)
    error = measured + in_mean + future
    variance = (2.0 * error**2 + 4.0 * systematic * error) / x.effective
    return systematic + future, np.maximum(variance, 1e-300)
