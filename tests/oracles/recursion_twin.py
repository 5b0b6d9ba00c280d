"""The refresh recursion in random vectors, one generation at a time: the naive twin of the propagator."""

import numpy as np


def random_rows(N: int, rng: np.random.Generator, sparsity: float = 0.5):
    """Rows of a random policy: row-stochastic, causal, with exact zeros."""
    fresh, mixing = np.zeros(N), np.zeros((N, N + 1))
    for i in range(N):
        weights = rng.exponential(size=i + 2) * (rng.random(i + 2) > sparsity)
        if weights.sum() == 0:
            weights[rng.integers(i + 2)] = 1.0
        weights /= weights.sum()
        fresh[i], mixing[i, : i + 1] = weights[0], weights[1:]
    return fresh, mixing


def recursion(mixing, innovations, f0):
    """f_0, ..., f_N of f_{i+1} = sum_{j <= i} w_ij f_j + delta_i for vectors delta_i."""
    f = [np.array(f0, dtype=float)]
    for i, delta in enumerate(innovations):
        state = np.array(delta, dtype=float)
        for j in range(i + 1):
            state = state + mixing[i][j] * f[j]
        f.append(state)
    return np.array(f)


def impulse_propagator(mixing):
    """G by one unit impulse per generation: column i is the response to delta_i = 1."""
    N = len(mixing)
    columns = [recursion(mixing, np.eye(N)[i], 0.0)[1:] for i in range(N)]
    return np.stack(columns, axis=1)
