r"""Forecasts: where the fitted recursion goes next, with everything that is not known about it.

With rho = 1 - alpha and stationary innovations d + e_i (``dynamics``), h generations after the last one,

    c_{N+h} = rho^h c_N + g_h d + sum_{j<h} rho^j e_j,    g_h = 1 + rho + ... + rho^{h-1},

    E D_{N+h} = |rho^h c_N + g_h d|^2 + s (1 + rho^2 + ... + rho^{2(h-1)}).

d is estimated by the mean of the estimated innovations, so the first term is a quadratic form of the means, from which
the traces of the measurement and of the innovations in that mean are taken off. At each rho the law of D_{N+h} is a
gamma law with this mean and the variance of measurement, estimated d, future innovations and s; the forecast is the
mixture of these laws over the confidence in rho. The interval is for the drift itself, not for its next measurement.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from driftlaw.auditing.coordinates import Array
from driftlaw.auditing.dynamics import Dynamics, innovation_weights
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate

METHOD = "stationary innovations, mixture over effective alpha, 95 % prediction interval"


def forecast(dynamics: Dynamics, horizon: int) -> tuple[Estimate, ...]:
    """Drift of the next generations if they are made as the last ones were.

    Args:
        dynamics: the fitted recursion.
        horizon: how many generations, at least 1.

    Returns:
        D_{N+1}..D_{N+horizon} with 95 % prediction intervals; refused with fewer than 2 comparable generations.

    Raises:
        InputError: horizon < 1.
    """
    if horizon < 1:
        raise InputError(f"the horizon is {horizon} generations", "ask for 1 or more")
    n = int(dynamics.sizes.min())
    if dynamics.generations - (not dynamics.from_real) < 2:
        why = "one innovation does not tell bias from noise: forecasts need at least 2 comparable generations"
        return tuple(Estimate.refused(METHOD, why, n) for _ in range(horizon))
    warnings = () if dynamics.identified else ("alpha is not identifiable: every value that fits is in the interval",)
    out = []
    for h in range(1, horizon + 1):
        mean, variance = _moments(dynamics, h)
        value = float(dynamics.weight @ mean)
        deviation = float(np.sqrt(dynamics.weight @ (variance + (mean - value) ** 2)))
        low, high = (_quantile(q, dynamics.weight, mean, variance) for q in (0.025, 0.975))
        out.append(Estimate(value, deviation, min(low, value), max(high, value), n, METHOD, warnings))
    return tuple(out)


def _moments(x: Dynamics, h: int) -> tuple[Array, Array]:
    """Mean and variance of D_{N+h} at each rho."""
    rho, N, first = x.rho, x.generations, 0 if x.from_real else 1
    used = N - first
    g = np.sum([rho**j for j in range(h)], axis=0)
    future = x.random * np.sum([rho ** (2 * j) for j in range(h)], axis=0)
    weights = (g / used)[:, None] * innovation_weights(rho, N)[:, first:].sum(1)
    weights[:, N] += rho**h
    weights[:, 0] -= rho**h
    measured = weights**2 @ x.noise
    if x.shared_rows:  # the errors of later training sets are innovations as well
        future = future + x.noise[N] * np.sum([rho ** (2 * j) for j in range(1, h)], axis=0)
    remembered = np.sum([rho ** (N - 1 - j) for j in range(first, N)], axis=0)
    in_mean = x.random / used * g**2
    plain = np.einsum("gi,ij,gj->g", weights, x.products, weights)
    systematic = np.maximum(plain - measured - in_mean - 2.0 * x.random / used * g * rho**h * remembered, 0.0)
    error = measured + in_mean + future
    variance = (2.0 * error**2 + 4.0 * systematic * error + 2.0 * future**2 / max(used - 1, 1)) / x.effective
    return systematic + future, np.maximum(variance, 1e-300)


def _quantile(q: float, weight: Array, mean: Array, variance: Array) -> float:
    """Quantile of the mixture of gamma laws, by bisection."""
    mean = np.maximum(mean, 1e-3 * np.sqrt(variance))
    shape, scale = mean**2 / variance, variance / mean
    low, high = 0.0, float((mean + 12.0 * np.sqrt(variance)).max())
    for _ in range(60):
        middle = (low + high) / 2.0
        if float(weight @ stats.gamma.cdf(middle, shape, scale=scale)) < q:
            low = middle
        else:
            high = middle
    return high
