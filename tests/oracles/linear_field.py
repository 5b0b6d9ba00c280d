"""Linear error fields e(x) = E(x - m) + b on a diffused Gaussian, the slow and obvious way."""

import math

import numpy as np
from scipy import integrate


def gradient_part(Sigma, E):
    """Symmetric S that minimises E|S y - E y|^2 over y ~ N(0, Sigma): least squares over a basis."""
    d = len(Sigma)
    root = np.linalg.cholesky(Sigma)  # E|A y|^2 = |A root|_F^2
    basis = []
    for i in range(d):
        for j in range(i, d):
            B = np.zeros((d, d))
            B[i, j] = B[j, i] = 1.0
            basis.append(B)
    columns = np.stack([(B @ root).ravel() for B in basis], axis=1)
    weights, *_ = np.linalg.lstsq(columns, (E @ root).ravel(), rcond=None)
    return sum(w * B for w, B in zip(weights, basis, strict=True))


def diffused(Sigma, t):
    return math.exp(-t) * Sigma - math.expm1(-t) * np.eye(len(Sigma))


def energies(Sigma, E, b, t0, T):
    """(G^2, eps*^2) by adaptive quadrature over time."""

    def density(t, whole):
        S_t = diffused(Sigma, t)
        field = E if whole else gradient_part(S_t, E)
        return np.trace(field @ S_t @ field.T) + b @ b

    return tuple(
        integrate.quad(density, t0, T, args=(whole,), epsabs=1e-10, epsrel=1e-10)[0] for whole in (False, True)
    )
