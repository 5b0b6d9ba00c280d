r"""How much the rows of each block spread: what intervals and tests need beyond means and one covariance.

Per block b of n_b rows, about the block's own mean m_b, a sketch keeps S_b = sum_i (z_i - m_b)(z_i - m_b)^T (for more
than :data:`WIDE` features only its diagonal) and the smallest and largest value of every feature. For any matrix M the
block means of a quadratic form follow,

    q_b = mean_i (z_i - c)^T M (z_i - c) = tr(M S_b)/n_b + (m_b - c)^T M (m_b - c),

and as blocks are exchangeable (:mod:`driftlaw.measure.sketch.blocks`), n_b Var_b(q_b) estimates the variance of one
row's form: the kurtosis that decides how far the normal theory of covariances can be trusted, in any metric chosen
later. Parts merge like the moments do (Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Most features of which every block keeps a whole matrix (32 blocks: 540 kB).
WIDE = 64


@dataclass(eq=False)
class BlockSpread:
    """Scatter of each block about its own mean, and the range of every feature.

    Args:
        counts: ``[B]`` rows in each block.
        means: ``[B, k]``, 0 where a block has no rows.
        scatter: ``[B, k, k]``, or its diagonals ``[B, k]``.
        low: ``[k]`` smallest values; inf without rows.
        high: ``[k]`` largest values.
    """

    counts: NDArray[np.int64]
    means: Array
    scatter: Array
    low: Array
    high: Array

    @classmethod
    def empty(cls, blocks: int, dimension: int) -> BlockSpread:
        """Sums over no rows."""
        shape = (blocks, dimension, dimension) if dimension <= WIDE else (blocks, dimension)
        edge = np.full(dimension, np.inf)
        return cls(np.zeros(blocks, np.int64), np.zeros((blocks, dimension)), np.zeros(shape), edge, -edge)

    @classmethod
    def of(cls, rows: Array, blocks: int = 32) -> BlockSpread:
        """Of feature rows ``[n, k]`` in random order: row i falls into block i mod B."""
        out = cls.empty(blocks, rows.shape[1])
        for b in range(blocks):
            part = rows[b::blocks]
            if len(part):
                out.counts[b], out.means[b] = len(part), part.mean(0)
                gap = part - out.means[b]
                out.scatter[b] = gap.T @ gap if out.whole else (gap**2).sum(0)
        out.low, out.high = rows.min(0, initial=np.inf), rows.max(0, initial=-np.inf)
        return out

    @property
    def whole(self) -> bool:
        """Whether the scatter is matrices, not diagonals."""
        return self.scatter.ndim == 3

    def merge(self, other: BlockSpread) -> BlockSpread:
        """Of both sets of rows together."""
        total = self.counts + other.counts
        gap = other.means - self.means
        weight = self.counts * other.counts / np.maximum(total, 1)
        between = gap[:, :, None] * gap[:, None, :] if self.whole else gap**2
        return BlockSpread(
            total,
            self.means + (other.counts / np.maximum(total, 1))[:, None] * gap,
            self.scatter + other.scatter + weight.reshape(-1, *[1] * (self.scatter.ndim - 1)) * between,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def forms(self, metric: Array, centre: Array) -> tuple[Array, Array]:
        """Block means of (z - centre)^T M (z - centre) with the rows behind each, of the blocks that have rows.

        Args:
            metric: ``[k, k]`` symmetric; where only diagonals are kept, M within blocks is its diagonal.
            centre: ``[k]``.

        Returns:
            Two arrays ``[b]``.
        """
        seen = self.counts > 0
        n, gap = self.counts[seen], self.means[seen] - centre
        if self.whole:
            within = self.scatter[seen].reshape(len(n), -1) @ metric.reshape(-1)
        else:
            within = self.scatter[seen] @ np.diag(metric)
        return within / n + ((gap @ metric) * gap).sum(1), n.astype(np.float64)

    def arrays(self) -> dict[str, Array]:
        """What a file holds besides counts and means of the blocks."""
        k = self.means.shape[1]
        packed = self.scatter[:, *np.triu_indices(k)] if self.whole else self.scatter
        return {"spread.scatter": packed, "spread.range": np.stack([self.low, self.high])}

    @classmethod
    def build(cls, counts: NDArray[np.int64], means: Array, arrays: Mapping[str, NDArray[Any]]) -> BlockSpread | None:
        """Inverse of :meth:`arrays`; None of a file that has none."""
        if "spread.scatter" not in arrays:
            return None
        out = cls.empty(*means.shape)
        out.counts, out.means = np.array(counts), np.array(means)
        if out.whole:
            upper = np.triu_indices(means.shape[1])
            out.scatter[:, *upper] = arrays["spread.scatter"]
            out.scatter[:, upper[1], upper[0]] = arrays["spread.scatter"]
        else:
            out.scatter = np.array(arrays["spread.scatter"])
        out.low, out.high = np.array(arrays["spread.range"])
        return out


def row_variance(forms: Array, rows: Array) -> float:
    """Variance of one row's value from block means of it and the rows behind each: sum_b n_b (q_b - q)^2/(B - 1).

    Example:
        >>> row_variance(np.array([1.0, 3.0]), np.array([10.0, 10.0]))
        20.0
    """
    if len(forms) < 2:
        return float("nan")
    mean = float(rows @ forms / rows.sum())
    return float(rows @ (forms - mean) ** 2 / (len(forms) - 1))
