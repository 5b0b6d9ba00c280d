"""E sum_j tanh^2(X_j) of a Gaussian mixture with independent coordinates, by Gauss-Hermite quadrature."""

import numpy as np


def mean_square(weights, means, variances):
    """Component k has mean ``means[k]`` and variance ``variances[k]`` in every coordinate."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(80)
    total = 0.0
    for w, m, v in zip(weights, means, variances, strict=True):
        values = np.tanh(np.asarray(m)[:, None] + np.sqrt(v) * nodes) ** 2
        total += w * float((values @ mass).sum() / np.sqrt(2 * np.pi))
    return total


def ideal_energy(weights, means, variance, t0, T, beta):
    """Integral over t of beta^2 E sum tanh^2 under the diffused law, Gauss-Legendre in t."""
    nodes, mass = np.polynomial.legendre.leggauss(60)
    times = t0 + (T - t0) * (nodes + 1) / 2
    values = [
        mean_square(weights, np.exp(-t / 2) * np.asarray(means), np.exp(-t) * np.asarray(variance) + 1 - np.exp(-t))
        for t in times
    ]
    return float(beta**2 * (T - t0) / 2 * mass @ np.array(values))
