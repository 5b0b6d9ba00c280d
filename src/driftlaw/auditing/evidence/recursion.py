r"""The Wishart likelihood of a line's innovations, for any weights of means and any pattern of the common error.

Gamma = W M W^T - R estimates the Gram matrix of innovations, R = W diag(noise) W^T its measurement. With a common error
of squared length a whose size follows the pattern u (1 for a steady bias) and independent ones of squared length s,

    E (Gamma + R) = V = a u u^T + s I + R,      log L = -(r/2) (log|V| + tr V^{-1} (Gamma + R)).

a, s >= 0 are found by Fisher scoring.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from driftlaw.auditing.evidence.moments import Array

_STEPS = 20


def kept_weights(kept: Array) -> Array:
    """W, ``[g, N, N + 1]``: row i holds the weights of m_0..m_N in d_i.

    Args:
        kept: ``[g, N]`` share rho_i of the model before that generation i + 1 kept; the first is not used.
    """
    g, N = kept.shape
    W, i = np.zeros((g, N, N + 1)), np.arange(N)
    W[:, i, i + 1], W[:, 0, 0] = 1.0, -1.0
    W[:, i[1:], i[1:]] = -kept[:, 1:]
    W[:, 1:, 0] = kept[:, 1:] - 1.0
    return W


def grams(W: Array, products: Array, noise: Array, shared_rows: bool) -> tuple[Array, Array]:
    """Gamma and R for weights W, ``[g, N, N]`` each."""
    noisy = W.copy()
    if shared_rows:  # m_i entered generation i + 1 as it is: its error is no error of d_i
        i = np.arange(1, W.shape[1])
        noisy[:, i, i] = 0.0
    R = np.einsum("gij,j,gkj->gik", noisy, noise, noisy)
    return np.asarray(W @ products @ W.transpose(0, 2, 1) - R), np.asarray(R)


def profile(gram: Array, R: Array, rank: int, u: Array | None = None, least: float = 0.0) -> tuple[Array, Array, Array]:
    """Log likelihood, a and s of each of g models.

    Args:
        gram: ``[g, n, n]`` Gamma.
        R: ``[g, n, n]``.
        rank: coordinates r.
        u: ``[g, n]`` pattern of the common error, 1 if None.
        least: added to s: what no recursion of real models is exact to.
    """
    g, n = gram.shape[:2]
    u = np.ones((g, n)) if u is None else u
    trace = np.trace(gram, axis1=1, axis2=2) / n
    form = np.einsum("gi,gij,gj->g", u, gram, u)
    between = (form - (u**2 * np.diagonal(gram, axis1=1, axis2=2)).sum(1)) / (
        (u**2).sum(1) ** 2 - (u**4).sum(1) + 1e-300
    )
    floor = 1e-6 * np.trace(gram + R, axis1=1, axis2=2) / n + 1e-300 + least
    a = np.maximum(between if n > 1 else np.zeros(g), 0.0)
    s = np.maximum(trace - a * (u**2).mean(1), 0.0)
    for _ in range(_STEPS if n > 1 else 0):
        inverse = np.linalg.inv(_covariance(R, a, s + floor, u))
        along = np.einsum("gij,gj->gi", inverse, u)
        t00, t01 = np.trace(inverse @ inverse, axis1=1, axis2=2), (along**2).sum(1)
        t11 = (along * u).sum(1) ** 2
        u0 = np.trace(inverse @ gram @ inverse, axis1=1, axis2=2)
        u1 = np.einsum("gi,gij,gj->g", along, gram, along)
        det = np.maximum(t00 * t11 - t01**2, 1e-12 * t00 * t11)
        new_s, new_a = (u0 * t11 - u1 * t01) / det, (t00 * u1 - t01 * u0) / det
        new_a, new_s = (
            np.where(new_s < 0, np.maximum(u1 / t11, 0.0), np.maximum(new_a, 0.0)),
            np.where(new_a < 0, np.maximum(u0 / t00, 0.0), np.maximum(new_s, 0.0)),
        )
        a, s = (a + new_a) / 2.0, (s + new_s) / 2.0
    V = _covariance(R, a, s + floor, u)
    fit = np.trace(np.linalg.solve(V, gram + R), axis1=1, axis2=2)
    return np.asarray(-0.5 * rank * (np.linalg.slogdet(V)[1] + fit)), a, s


def _covariance(R: Array, a: Array, s: Array, u: Array) -> Array:
    eye = np.eye(R.shape[1])
    return np.asarray(R + a[:, None, None] * u[:, :, None] * u[:, None, :] + s[:, None, None] * eye)


def effective(gram: Array, R: Array, rank: int, a: float, s: float, u: Array | None = None) -> float:
    """Independent coordinates r_eff, from the scatter of Gamma's off-diagonal entries about a u u^T.

    Where errors of variance V are even over r directions, d.e_i has variance |d|^2 V/r and e_i.e_j has V^2/r. The
    ratio of the scatter to what these give is r/r_eff, at least 1; its upper quartile limit is used.

    Args:
        gram: ``[n, n]`` Gamma.
        R: ``[n, n]``.
        rank: coordinates r.
        a: squared length of the common error.
        s: that of the independent errors.
        u: ``[n]`` pattern of the common error.
    """
    n = len(gram)
    u = np.ones(n) if u is None else u
    deviation = np.sqrt(np.diag(R) + s + 1e-300)
    off = ((gram + R - a * np.outer(u, u)) / np.outer(deviation, deviation))[np.triu_indices(n, 1)]
    scatter = float(((off - off.mean()) ** 2).sum()) / (len(off) - 1)
    along = 2.0 * a * float((u**2).mean()) / float((deviation**2).mean()) * (n - 2) / (n - 1)
    cautious = (n - 1) / float(stats.chi2.ppf(0.25, n - 1))  # of few entries the scatter is itself uncertain
    return float(rank / np.clip(cautious * scatter * rank / (1.0 + along), 1.0, rank))
