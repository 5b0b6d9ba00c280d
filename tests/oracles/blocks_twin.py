"""Naive twin of recursions with blocks of rows: every row is carried by its origin, nothing is weighted."""

from __future__ import annotations

import numpy as np


def errors(training_sets, innovations):
    """f_1..f_N of a recursion whose training sets are lists of origins.

    Args:
        training_sets: of generation 1, 2, ...: an origin for each row, None for the target, j for model j.
        innovations: ``[N, d]``.

    Returns:
        ``[N, d]``: the mean of the errors of a training set's rows, and what training adds.
    """
    made = []
    for rows, delta in zip(training_sets, innovations, strict=True):
        of_rows = [np.zeros_like(delta) if origin is None else made[origin - 1] for origin in rows]
        made.append(np.mean(of_rows, axis=0) + delta)
    return np.array(made)


def kept(sizes):
    """Everything is kept: real rows, then the rows of each model."""
    pool, sets = [None] * sizes[0], []
    for j in range(len(sizes)):
        pool = pool if j == 0 else pool + [j] * sizes[j]
        sets.append(list(pool))
    return sets


def beside_a_real_set(sizes):
    """The same real rows for ever, and the rows of the last model."""
    return [[None] * sizes[0] + ([j] * sizes[j] if j else []) for j in range(len(sizes))]


def subsampled(sizes, totals):
    """Everything is kept and seen at one in `sizes`: whole pools repeated, so that shares are exact."""
    return [pool * total for pool, total in zip(kept(sizes), totals, strict=True)]
