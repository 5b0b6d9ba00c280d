r"""Rows fall into B exchangeable blocks, and sums over blocks merge (this project, theory section 5).

Rows are numbered i = 0, 1, ... in the order of the data. Each run of B consecutive rows is spread over the B blocks by
a permutation that is seeded by the number of the run, so

- a block is a random sample of the data, also when the data are sorted by class or time, and independent rows stay
  independent between blocks;
- the sizes of blocks differ by at most one per stretch of rows;
- the block depends on i, never on the value: equal rows are not gathered in one block, as they would be by a hash of
  their content, which would make block means of discrete data differ far more than chance.

The state is the block sizes n_b, block means m_b and M = sum_i (z_i - m)(z_i - m)^T over all rows. Chan, Golub and
LeVeque (1983): two parts of sizes n and m whose means differ by d merge as M = M_1 + M_2 + n m / (n + m) d d^T. Rows
are centred at the current mean before they are multiplied, so nothing large cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyr, dsyrk

from driftlaw.errors import InputError
from driftlaw.seeding import stream_seed

Array = NDArray[np.float64]


def block_of(first: int, n: int, blocks: int, seed: int) -> NDArray[np.int64]:
    """Blocks of the rows first, ..., first + n - 1.

    Args:
        first: number of the first row, >= 0.
        n: how many rows.
        blocks: B.
        seed: of the permutations.

    Returns:
        ``[n]`` numbers in 0..B-1.

    Example:
        >>> sorted(block_of(32, 4, blocks=4, seed=0).tolist())
        [0, 1, 2, 3]
    """
    start = first - first % blocks
    stop = -(-(first + n) // blocks) * blocks
    keys = hash64(np.arange(start, stop, dtype=np.uint64), stream_seed(seed, "sketch", "blocks"))
    order = np.argsort(keys.reshape(-1, blocks), axis=1, kind="stable")
    return order.reshape(-1)[first - start : first - start + n]


def hash64(x: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """SplitMix64 of whole numbers under a key: one uniform 64-bit number for each."""
    z = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


@dataclass(eq=False)
class BlockMoments:
    """Block means and one pooled scatter matrix of feature rows, updated in place.

    Args:
        counts: ``[B]`` int64, rows in each block.
        means: ``[B, k]`` mean of each block, 0 where it has no rows.
        scatter: ``[k, k]`` in Fortran order; the upper triangle of M, the lower one is not kept.
    """

    counts: NDArray[np.int64]
    means: Array
    scatter: Array

    @classmethod
    def empty(cls, blocks: int, dimension: int) -> BlockMoments:
        """No rows yet."""
        return cls(
            np.zeros(blocks, np.int64), np.zeros((blocks, dimension)), np.zeros((dimension, dimension), order="F")
        )

    @property
    def n(self) -> int:
        """Rows in all blocks."""
        return int(self.counts.sum())

    @property
    def mean(self) -> Array:
        """``[k]`` mean of all rows; NaN without rows."""
        if not self.n:
            return np.full(self.means.shape[1], np.nan)
        return (self.counts / self.n) @ self.means

    @property
    def covariance(self) -> Array:
        """``[k, k]`` unbiased covariance of all rows; NaN with fewer than two."""
        if self.n < 2:
            return np.full(self.scatter.shape, np.nan)
        upper = np.triu(self.scatter)
        return (upper + np.triu(upper, 1).T) / (self.n - 1)

    def copy(self) -> BlockMoments:
        """An independent copy."""
        return BlockMoments(self.counts.copy(), self.means.copy(), self.scatter.copy(order="F"))

    def add(self, z: Array, block: NDArray[np.int64]) -> None:
        """Add feature rows.

        Args:
            z: ``[m, k]`` finite, C order; overwritten.
            block: ``[m]`` block of each row, in non-decreasing order.
        """
        m, n, blocks = len(z), self.n, len(self.counts)
        if not m:
            return
        centre = self.mean if n else z.mean(axis=0)
        torch.from_numpy(z).sub_(torch.from_numpy(centre))  # twice as fast as numpy's
        added = np.bincount(block, minlength=blocks)
        ends = np.cumsum(added)
        ones = np.ones(int(added.max()))
        sums = np.stack([ones[:c] @ z[e - c : e] for c, e in zip(added, ends, strict=True)])
        offset = sums.sum(axis=0) / m
        if not np.isfinite(offset).all():
            bad = np.flatnonzero(~np.isfinite(offset))
            raise InputError(
                f"{len(bad)} of {z.shape[1]} features are NaN or infinite for some rows, the first is feature {bad[0]}",
                "look for rows far outside the range of the real data, or for a fault in the feature map",
            )
        self.scatter = dsyrk(1.0, z.T, 1.0, self.scatter, overwrite_c=1)
        self._rank_one(-m * m / (n + m), offset)
        total = self.counts + added
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.means + (sums - added[:, None] * (self.means - centre)) / total[:, None]
        self.means = np.where(added[:, None] > 0, means, self.means)
        self.counts = total

    def merge(self, other: BlockMoments) -> BlockMoments:
        """The state of both sets of rows together."""
        n, m = self.n, other.n
        if not n or not m:
            return (self if n else other).copy()
        counts = self.counts + other.counts
        share = other.counts / np.maximum(counts, 1)
        means = self.means + share[:, None] * (other.means - self.means)
        merged = BlockMoments(counts, means, np.asfortranarray(self.scatter + other.scatter))
        merged._rank_one(n * m / (n + m), other.mean - self.mean)
        return merged

    def _rank_one(self, weight: float, direction: Array) -> None:
        self.scatter = dsyr(weight, direction, a=self.scatter, overwrite_a=1)
