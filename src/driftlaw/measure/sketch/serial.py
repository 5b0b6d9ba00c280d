r"""Sums over blocks of consecutive rows: what is left of independence when neighbouring rows depend on each other.

Rows of a time series, of one session or of one patient after another are not independent. Blocks of N consecutive rows
are nearly so, once N is several times the range of the dependence. The mean of all rows is the mean of the block means
b_j, and

    Cov(mean) = Cov(b)/J,    J blocks,

whatever happens within a block (batch means, Conway 1963; the non-overlapping blocks of Carlstein 1986). So the blocks
take the place of rows wherever the error of a mean counts. The rows of a block that is not full yet wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.measure.sketch.blocks import BlockMoments, BlockSums, block_of
from driftlaw.measure.sketch.spread import BlockSpread

Array = NDArray[np.float64]


class SerialSums:
    """Means of blocks of `length` consecutive rows as rows of their own, in `groups` exchangeable groups.

    Args:
        length: N, rows in a block, at least 2.
        groups: B, groups of blocks.
        dimension: k.
        seed: of the groups.

    Example:
        >>> sums = SerialSums(2, groups=2, dimension=1, seed=0)
        >>> sums.add(np.array([[1.0], [3.0], [5.0]]))
        >>> sums.add(np.array([[7.0], [0.0]]))
        >>> sums.n, sums.covariance.tolist()
        (2, [[8.0]])
    """

    def __init__(self, length: int, groups: int, dimension: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self._moments = BlockMoments.empty(groups, dimension)
        self._spread = BlockSpread.empty(groups, dimension)
        self._waiting, self._rows = np.zeros(dimension), 0

    @property
    def n(self) -> int:
        """Full blocks."""
        return self._moments.n

    @property
    def mean(self) -> Array:
        """``[k]`` mean of the full blocks."""
        return self._moments.mean

    @property
    def covariance(self) -> Array:
        """``[k, k]`` unbiased covariance of block means."""
        return self._moments.covariance

    @property
    def spread(self) -> BlockSpread:
        """How block means spread within each group."""
        return self._spread

    def copy(self) -> SerialSums:
        """A copy that shares nothing that changes."""
        other = SerialSums(self.length, len(self._moments.counts), len(self._waiting), self.seed)
        other._moments, other._spread = self._moments.copy(), self._spread
        other._waiting, other._rows = self._waiting.copy(), self._rows
        return other

    def add(self, z: Array) -> None:
        """Add feature rows ``[m, k]`` that follow those before them."""
        N, m = self.length, len(z)
        edges = np.arange(N - self._rows, m + 1, N)  # rows of z before the end of each block
        if not len(edges):
            self._waiting += z.sum(0)
            self._rows += m
            return
        whole = z[edges[0] : edges[-1]].reshape(len(edges) - 1, N, z.shape[1]).sum(1)
        means = np.concatenate([(self._waiting + z[: edges[0]].sum(0))[None], whole]) / N
        groups = block_of(self.n, len(means), len(self._moments.counts), self.seed)
        sums = BlockSums(len(self._moments.counts), means.shape[1])
        sums.add(np.ascontiguousarray(means), groups)
        moments = sums.moments()
        self._moments.include(moments)
        self._spread = self._spread.merge(sums.spread())
        self._waiting, self._rows = z[edges[-1] :].sum(0), m - int(edges[-1])

    def merge(self, other: SerialSums) -> SerialSums:
        """Of the full blocks of both: rows that wait at the end of a part belong to no block."""
        merged = self.copy()
        merged._moments.include(other._moments)
        merged._spread = self._spread.merge(other._spread)
        merged._waiting, merged._rows = other._waiting.copy(), other._rows
        return merged

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds."""
        m = self._moments
        upper = m.scatter[np.triu_indices(len(self._waiting))]
        inner = {f"serial.{name}": a for name, a in self._spread.arrays().items()}
        return {
            "serial.counts": m.counts,
            "serial.means": m.means,
            "serial.scatter": upper,
            "serial.waiting": np.append(self._waiting, float(self._rows)),
            **inner,
        }

    @classmethod
    def build(cls, length: int, seed: int, arrays: Mapping[str, NDArray[Any]]) -> SerialSums:
        """Inverse of :meth:`arrays`."""
        counts, means = np.array(arrays["serial.counts"]), np.array(arrays["serial.means"])
        out = cls(length, len(counts), means.shape[1], seed)
        scatter = np.zeros((means.shape[1],) * 2, order="F")
        scatter[np.triu_indices(means.shape[1])] = arrays["serial.scatter"]
        out._moments = BlockMoments(counts, means, scatter)
        inner = {name.removeprefix("serial."): a for name, a in arrays.items() if name.startswith("serial.spread")}
        spread = BlockSpread.build(counts, means, inner)
        assert spread is not None
        out._spread = spread
        out._waiting, out._rows = np.array(arrays["serial.waiting"][:-1]), int(arrays["serial.waiting"][-1])
        return out
