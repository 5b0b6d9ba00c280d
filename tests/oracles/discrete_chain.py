"""A recursion between discrete laws in which every divergence is a finite sum."""

import numpy as np


def chi2(r, q):
    return float(((r - q) ** 2 / q).sum())


def tv(r, q):
    return float(abs(r - q).sum() / 2)


def kl(r, q):
    return float((r * np.log(r / q)).sum())


def recursion(rows, p, rng, strength=0.5, kernel=None, start=None):
    """Laws p_hat^0..p_hat^N and q_0..q_{N-1}; training pulls the (diffused) q_i towards a random law.

    `kernel` is a row-stochastic matrix that stands for the early stopping: laws are learned from q_i @ kernel.
    """
    fresh, mixing = rows
    models, training = [p if start is None else start], []
    for i in range(fresh.size):
        q = fresh[i] * p + sum(mixing[i, j] * models[j] for j in range(i + 1))
        training.append(q)
        seen = q if kernel is None else q @ kernel
        pull = strength * rng.random()
        models.append((1 - pull) * seen + pull * rng.dirichlet(np.ones(p.size)))
    return models, training


def random_law(K, rng):
    """A law on K cells, none of them nearly empty."""
    return 0.8 * rng.dirichlet(np.ones(K)) + 0.2 / K
