"""Recursive training where the model is a histogram: everything about it is known."""

import numpy as np


def simulate(p, n, rows, repetitions, rng):
    """chi2(p_hat^i || p) for i = 1..N when p_hat^{i+1} is the histogram of n draws from q_i and p_hat^0 = p.

    Returns ``[repetitions, N]``.
    """
    fresh, mixing = rows
    laws = [np.broadcast_to(p, (repetitions, p.size))]
    drift = []
    for i in range(fresh.size):
        q = fresh[i] * p + sum(mixing[i, j] * laws[j] for j in range(i + 1))
        laws.append(rng.multinomial(n, q / q.sum(axis=1, keepdims=True)) / n)
        drift.append((laws[-1] ** 2 / p).sum(axis=1) - 1)
    return np.stack(drift, axis=1)


def expected_fixed_fraction(alpha, K, n, N):
    """E D_1..D_N by E D_{i+1} = (1 - alpha)^2 (1 - 1/n) E D_i + (K - 1)/n, D_0 = 0."""
    drift = [0.0]
    for _ in range(N):
        drift.append((1 - alpha) ** 2 * (1 - 1 / n) * drift[-1] + (K - 1) / n)
    return np.array(drift[1:])


def expected_innovations(rows, K, n):
    """E J_i = (K - 1 - E chi2(q_i || p))/n for any policy; the innovations are uncorrelated.

    E <f_j, f_k> is propagated in full, without the propagator.
    """
    fresh, mixing = rows
    N = fresh.size
    gram_f = np.zeros((N + 1, N + 1))
    J = np.zeros(N)
    for i in range(N):
        w = mixing[i, : i + 1]
        q_with_f = w @ gram_f[: i + 1, : i + 1]
        chi2_q = q_with_f @ w
        J[i] = (K - 1 - chi2_q) / n
        gram_f[i + 1, : i + 1] = gram_f[: i + 1, i + 1] = q_with_f
        gram_f[i + 1, i + 1] = chi2_q + J[i]
    return J, np.diag(gram_f)[1:]
