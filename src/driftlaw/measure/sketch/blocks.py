r"""Rows fall into B exchangeable blocks, and sums over blocks merge (this project, theory section 5).

Rows are numbered i = 0, 1, ... in the order of the data. Each run of B consecutive rows is spread over the B blocks by
a permutation that is seeded by the number of the run, so

- a block is a random sample of the data, also when the data are sorted by class or time, and independent rows stay
  independent between blocks;
- the sizes of blocks differ by at most one per stretch of rows;
- the block depends on i, never on the value: equal rows are not gathered in one block, as they would be by a hash of
  their content, which would make block means of discrete data differ far more than chance.

The state is the block sizes n_b, block means m_b and M = sum_i (z_i - m)(z_i - m)^T over all rows. Chan, Golub and
LeVeque (1983): two parts of sizes n and m whose means differ by d merge as M = M_1 + M_2 + n m / (n + m) d d^T. A part
is summed relative to a centre c, the mean of its first chunk of n_1 rows: M_c = M + n (m - c)(m - c)^T. As those rows
alone give v^T M v >= n_1 (v . (m - c))^2 in every direction v, M loses at most a factor 1 + n / n_1 of precision, which
rows that are anything like exchangeable are far from: nothing large cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyr, dsyrk

from driftlaw.errors import InputError
from driftlaw.measure.sketch.spread import WIDE, BlockSpread
from driftlaw.native import row_passes
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
        """Sums over no rows."""
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
        """A copy that shares no memory."""
        return BlockMoments(self.counts.copy(), self.means.copy(), self.scatter.copy(order="F"))

    def include(self, other: BlockMoments) -> None:
        """Become the state of both sets of rows together."""
        n, m = self.n, other.n
        if not m:
            return
        shift = other.mean - self.mean if n else np.zeros(self.means.shape[1])
        self.counts = self.counts + other.counts
        self.means += (other.counts / np.maximum(self.counts, 1))[:, None] * (other.means - self.means)
        self.scatter += other.scatter
        self.scatter = dsyr(n * m / (n + m), shift, a=self.scatter, overwrite_a=1)

    def merge(self, other: BlockMoments) -> BlockMoments:
        """The state of both sets of rows together."""
        merged = self.copy()
        merged.include(other)
        return merged


class BlockSums:
    """Sums over one part of the rows, relative to the mean of its first chunk.

    Args:
        blocks: B.
        dimension: k.

    Example:
        >>> sums, z = BlockSums(blocks=2, dimension=1), np.array([[1.0], [3.0], [5.0], [7.0]])
        >>> sums.add(z, np.array([0, 1, 1, 0]))
        >>> moments = sums.moments()
        >>> moments.means.tolist(), moments.covariance.tolist()
        ([[4.0], [4.0]], [[6.666666666666667]])
    """

    def __init__(self, blocks: int, dimension: int) -> None:
        self._counts, self._sums = np.zeros(blocks, np.int64), np.zeros((blocks, dimension))
        self._scatter = np.zeros((dimension, dimension), order="F")
        self._centre: Array | None = None
        self._spread = BlockSpread.empty(blocks, dimension)

    def add(self, z: Array, block: NDArray[np.int64]) -> None:
        """Add feature rows.

        Args:
            z: ``[m, k]``, C order; overwritten.
            block: ``[m]`` block of each row.
        """
        if not len(z):
            return
        if self._centre is None:
            self._centre = z.mean(axis=0)
        added = np.bincount(block, minlength=len(self._counts))
        self._counts += added
        np.minimum(self._spread.low, z.min(axis=0), out=self._spread.low)
        np.maximum(self._spread.high, z.max(axis=0), out=self._spread.high)
        if row_passes.serves(z.size):
            row_passes.centre(z, self._centre, block, self._sums)
        else:
            torch.from_numpy(z).sub_(torch.from_numpy(self._centre))  # twice as fast as numpy's
            rows, ones = z[np.argsort(block, kind="stable")], np.ones(int(added.max()))
            ends = np.cumsum(added)
            self._sums += [ones[:c] @ rows[e - c : e] for c, e in zip(added, ends, strict=True)]
        self._scatter = dsyrk(1.0, z.T, 1.0, self._scatter, overwrite_c=1)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by `moments`
            self._add_spread(z, block, added)

    def _add_spread(self, z: Array, block: NDArray[np.int64], added: NDArray[np.int64]) -> None:
        if z.shape[1] > WIDE:
            z *= z
            one = np.zeros((len(added), len(z)))
            one[block, np.arange(len(z))] = 1.0
            self._spread.scatter += one @ z
        else:
            rows, ends = z[np.argsort(block, kind="stable")], np.cumsum(added)
            for b in np.flatnonzero(added):
                part = rows[ends[b] - added[b] : ends[b]]
                self._spread.scatter[b] += part.T @ part

    def spread(self) -> BlockSpread:
        """Scatter of the blocks of these rows; it is used up."""
        out = self._spread
        if self._centre is not None:
            out.counts = self._counts.copy()
            gap = self._sums / np.maximum(self._counts, 1)[:, None]
            squares = gap[:, :, None] * gap[:, None, :] if out.whole else gap**2
            out.scatter -= self._counts.reshape(-1, *[1] * (out.scatter.ndim - 1)) * squares
            out.means = np.where(self._counts[:, None] > 0, self._centre + gap, 0.0)
        return out

    def moments(self) -> BlockMoments:
        """The state of these rows; the sums are used up.

        Raises:
            InputError: features that are not finite.
        """
        n = int(self._counts.sum())
        if self._centre is None:
            return BlockMoments.empty(*self._sums.shape)
        offset = self._sums.sum(axis=0) / n
        bad = np.flatnonzero(~np.isfinite(offset))
        if len(bad):
            raise InputError(
                f"{len(bad)} of {len(offset)} features are NaN or infinite for some rows, "
                f"the first is feature {bad[0]}",
                "look for rows far outside the range of the real data, or for a fault in the feature map",
            )
        means = self._centre + self._sums / np.maximum(self._counts, 1)[:, None]
        means[self._counts == 0] = 0
        return BlockMoments(self._counts, means, dsyr(-n, offset, a=self._scatter, overwrite_a=1))
