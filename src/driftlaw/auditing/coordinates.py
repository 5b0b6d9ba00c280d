r"""Drift coordinates: feature means of real data and of every generation, whitened by the real covariance.

With phi the features, A = C_0^{-1} the inverse covariance of the real rows and c_i = E_{gen i} phi - E_real phi,

    D_i = c_i^T A c_i  <=  chi2(p_hat^i || p)                                    (this project, theory section 5).

Every quantity of an audit is a quadratic form of the means m_0 (real), m_1..m_N: for v = sum_j w_j m_j with sum w_j = 0

    |v|^2_A  is estimated without bias by  sum_ij w_i w_j m_i^T A m_j - sum_j w_j^2 r_j,     r_j = tr(A C_j) / n_j,

so a product of means is a U-statistic once the traces r_j of the sampling covariances are taken off. Its interval is
the score interval of :mod:`driftlaw.measure.sets.twosample`: variance 2 tr(Sigma^2) where there is no drift plus
4 v^T A Sigma v where there is, Sigma = sum_j w_j^2 A^{1/2} C_j A^{1/2} / n_j, plus the error of the whitening.

The inverse of a covariance from n_0 rows is too large: A is scaled by (m - r - 1)/m, m = n_0 - 1, which makes D_i
unbiased for Gaussian features, and E tr(A C A C) = r g with g = (m-1)(m-r-1)/((m-r)(m-r-3)) enters the variances. With
fewer than 2k rows nothing is inverted: A is the diagonal of inverse variances, and a warning says so. There the real
rows' own covariance is a bad estimate of their sampling noise where features were fitted on them (it is the identity
then, whatever the truth), so it is taken from the holdout, or from a generation where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from driftlaw.auditing.evidence.interval import Terms, curved_interval
from driftlaw.auditing.evidence.moments import Moments, spread_of
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.sets.twosample import score_interval
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.numerics.directions import oriented

Array = NDArray[np.float64]

#: Real rows per feature from which the covariance is inverted, and below which that is said to be uncertain.
INVERT_FROM, FEW = 2, 10
#: Directions of the real correlation below this share of the largest one have no inverse.
RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Whitening:
    """z = (phi - m_0) W with W W^T = A, the inverse (of the diagonal, with few rows) of the real covariance.

    Args:
        mean: ``[k]`` real mean m_0.
        matrix: ``[k, r]`` W.
        null: ``[k, k - r]`` orthonormal directions (in units of `scale`) in which real rows do not vary.
        scale: ``[k]`` real standard deviations, 1 for a constant feature.
        n: real rows behind it.
        factor: what the inverse was multiplied by.
        diagonal: whether only variances were inverted.
        warnings: what a reader must know.
    """

    mean: Array
    matrix: Array
    null: Array
    scale: Array
    n: int
    factor: float
    diagonal: bool
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, real: Moments) -> Whitening:
        """Whitening by the real covariance.

        Raises:
            InputError: fewer than 4 real rows, or no feature varies.
        """
        n, covariance = real.n, np.asarray(real.covariance, np.float64)
        if n < 4:
            raise InputError(f"the real data have {n} rows", "an audit needs at least 4, and many more to see anything")
        deviation = np.sqrt(np.diag(covariance).clip(min=0.0))
        varies = deviation > 1e-12 * max(float(deviation.max()), np.finfo(float).tiny)
        if not varies.any():
            raise InputError("no feature of the real data varies", "check the data: all rows are equal")
        warnings: list[str] = []
        if constant := int((~varies).sum()):
            warnings.append(f"{constant} of {varies.size} features are constant in the real data and have no drift")
        k, scale = int(varies.sum()), deviation[varies]
        diagonal = n - 1 < INVERT_FROM * k
        if diagonal:
            vectors, values, factor = np.eye(k), np.ones(k), (n - 3) / (n - 1)
            warnings.append(
                f"{n} real rows for {k} features: no covariance can be inverted, so drift is measured in units of each "
                "feature's own variance, which is not a lower bound of chi2; use fewer features or more rows"
            )
        else:
            values, vectors = np.linalg.eigh(covariance[np.ix_(varies, varies)] / np.outer(scale, scale))
            vectors = oriented(vectors)
        keep = values > RANK_TOLERANCE * values.max()
        rank = int(keep.sum())
        if rank < k:
            warnings.append(f"the real covariance has rank {rank} of {k}: its null directions were dropped")
        if not diagonal:
            factor = (n - rank - 2) / (n - 1)
            if n < FEW * k:
                warnings.append(
                    f"{n} real rows for {k} features: the whitening adds {math.sqrt(2 / (n - rank)):.0%} of error"
                )
        matrix, null = np.zeros((varies.size, rank)), np.zeros((varies.size, varies.size - rank))
        matrix[varies] = vectors[:, keep] * math.sqrt(factor) / np.sqrt(values[keep]) / scale[:, None]
        null[varies, : k - rank] = vectors[:, ~keep]
        null[np.flatnonzero(~varies), np.arange(k - rank, varies.size - rank)] = 1.0
        units = np.where(varies, deviation, 1.0)
        return cls(np.asarray(real.mean), matrix, null, units, n, factor, diagonal, tuple(warnings))

    @property
    def rank(self) -> int:
        """Directions that are measured."""
        return int(self.matrix.shape[1])

    @property
    def relative_variance(self) -> float:
        """Of |v|_A^2 from the error of A: 2/(n_0 - r) for Gaussian features."""
        return 2.0 / (self.n if self.diagonal else self.n - self.rank)

    @property
    def spread(self) -> float:
        """g: E tr(A C A C) / r for the true covariance C and A from n_0 Gaussian rows."""
        m, r = self.n - 1, 0 if self.diagonal else self.rank
        return (m - 1) * (m - r - 1) / ((m - r) * (m - r - 3)) if m > r + 3 else math.inf

    def leaves_the_range(self, moments: Moments) -> bool:
        """Whether a set moves or varies in a direction in which real rows do not: its chi2 is infinite there."""
        if not self.null.shape[1]:
            return False
        shift = ((moments.mean - self.mean) / self.scale) @ self.null
        spread = np.einsum("ji,jk,ki->i", self.null, moments.covariance / np.outer(self.scale, self.scale), self.null)
        return bool((np.abs(shift) > 1e-6).any() or (spread > 1e-9).any())


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Whitened means and row covariances of the real data (index 0) and of N generations.

    Args:
        whitening: the metric.
        sizes: ``[N + 1]`` rows.
        means: ``[N + 1, r]`` whitened means; row 0 is 0.
        covariances: N + 1 matrices ``[r, r]`` of single whitened rows; the real one is what stands for the real rows'
            noise: the identity where they made the metric, else that of the holdout, else that of generation 1.
        behind: ``[N + 1]`` rows that each of them was computed from.
        holdout: whether the real one is that of the holdout.
        sets: real data and generations, as features; of runs of consecutive rows where those take the place of rows.
        real: the real rows themselves, behind the metric.
        serial: whether the sets are runs of consecutive rows.
    """

    whitening: Whitening
    sizes: Array
    means: Array
    covariances: tuple[Array, ...]
    behind: Array
    holdout: bool
    sets: tuple[Moments, ...] = field(repr=False)
    real: Moments = field(repr=False)
    serial: bool = False
    _squares: dict[tuple[int, int], float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        real: Moments,
        generations: Sequence[Moments],
        *,
        whitening: Whitening | None = None,
        holdout: Moments | None = None,
        rows: Moments | None = None,
    ) -> Coordinates:
        """Coordinates of generations (one or more) in the metric of the real data.

        Args:
            real: real data, or their runs of consecutive rows.
            generations: likewise.
            whitening: the metric.
            holdout: real rows that no model saw, likewise.
            rows: the real rows, where the others are runs.
        """
        w = whitening or Whitening.of(real if rows is None else rows)
        sets = (real, *generations)
        means = np.stack([(np.asarray(s.mean) - w.mean) @ w.matrix for s in sets])
        covariances = [w.matrix.T @ np.asarray(s.covariance) @ w.matrix for s in generations]
        sizes = np.array([s.n for s in sets], np.float64)
        behind = sizes.copy()
        if rows is not None:
            noise = w.matrix.T @ np.asarray(real.covariance) @ w.matrix
        elif not w.diagonal:
            noise = np.eye(w.rank)
        elif holdout is not None:
            noise, behind[0] = w.matrix.T @ np.asarray(holdout.covariance) @ w.matrix, holdout.n
        else:
            noise, behind[0] = covariances[0], sizes[1]
        held = w.diagonal and holdout is not None and rows is None
        return cls(
            w, sizes, means, (noise, *covariances), behind, held, sets, real if rows is None else rows, rows is not None
        )

    @property
    def rank(self) -> int:
        """Number of measured directions, r."""
        return self.whitening.rank

    @cached_property
    def traces(self) -> Array:
        """``[N + 1]`` tr(A C_j), the mean squared length of one row's deviation."""
        return np.array([float(np.trace(c)) for c in self.covariances])

    @cached_property
    def noise(self) -> Array:
        """``[N + 1]`` r_j = tr(A C_j)/n_j, the expected squared length of a mean's error."""
        return np.asarray(self.traces / self.sizes)

    @cached_property
    def products(self) -> Array:
        """``[N + 1, N + 1]`` raw products m_i^T A m_j about the real mean."""
        return np.asarray(self.means @ self.means.T)

    def trace_product(self, i: int, j: int) -> float:
        """tr(A C_i A C_j); where one matrix stands for both, the square of its sampling error is taken off."""
        i, j = min(i, j), max(i, j)
        if (i, j) not in self._squares:
            value = float((self.covariances[i] * self.covariances[j]).sum())
            if i == 0 and not (self.whitening.diagonal or self.serial):
                value *= self.whitening.spread
            elif self.covariances[i] is self.covariances[j]:
                n, trace = float(self.behind[j]), float(self.traces[j])
                unbiased = (n - 1.0) ** 2 / ((n - 2.0) * (n + 1.0)) * (value - trace**2 / (n - 1.0))
                value = max(unbiased, trace**2 / self.rank)
            self._squares[i, j] = value
        return self._squares[i, j]

    def second_order(self, weights: Array) -> float:
        """tr(Sigma^2) of the error of sum_j w_j m_j."""
        squares = np.asarray(weights) ** 2 / self.sizes
        at = np.flatnonzero(squares)
        return float(sum(squares[i] * squares[j] * self.trace_product(int(i), int(j)) for i in at for j in at))

    def squared_length(self, weights: Array, method: str, extra: float = 0.0) -> Estimate:
        """Unbiased |sum_j w_j m_j|^2 with its score interval.

        Args:
            weights: ``[N + 1]`` that sum to 0.
            method: in words.
            extra: variance to be added, for weights that are themselves estimated.
        """
        w = np.asarray(weights, np.float64)
        v = w @ self.means
        length = float(v @ v)
        value = length - float(w**2 @ self.noise)
        b = 2.0 * self.second_order(w) + extra
        n = int(self.sizes[np.flatnonzero(w)].min())
        c, u = 0.0, v / math.sqrt(length) if length > 0 else v
        for j in np.flatnonzero(w):
            c += 4.0 * w[j] ** 2 / self.sizes[j] * float(u @ self.covariances[j] @ u)
        blocks = spread_of(self.real)
        diagonal = self.whitening.diagonal
        if blocks is None or not (blocks.whole or diagonal) or length <= 0:
            return score_interval(value, b, c, n, method, (), self.whitening.relative_variance)
        along, factor, n0 = self.whitening.matrix @ u, self.whitening.factor, float(self.real.n)
        terms = Terms.of(blocks, np.asarray(self.real.mean), along, float(w[0]), factor, diagonal)
        # the mean's own term is known better from all rows than from blocks; r directions cost r rows
        per = 1.0 / (n0 if diagonal else max(n0 - self.rank, 1.0))
        dof = int((blocks.counts > 0).sum()) - 1.0
        return curved_interval(value, b, c, terms.cross * per, terms.metric * per, terms.heavy * per, dof, n, method)

    def drift(self, i: int) -> Estimate:
        """D_i = |c_i|^2, unbiased, for generation i >= 1."""
        weights = np.zeros(len(self.sizes))
        weights[0], weights[i] = -1.0, 1.0
        return self.squared_length(weights, "U-statistic of the Mahalanobis form, score interval")


def coordinates_of(
    real: Sketch, generations: Sequence[Sketch], whitening: Whitening, holdout: Sketch | None
) -> tuple[Coordinates, Coordinates]:
    """Coordinates for tests and intervals, of runs where the sketches keep them, and those of the rows themselves.

    Raises:
        InputError: sketches of other runs than the real one's, or fewer than 4 runs in a set.
    """
    rows = Coordinates.of(real, generations, whitening=whitening, holdout=holdout)
    sets = [real, *generations, *([] if holdout is None else [holdout])]
    for s in sets:
        if s.block != real.block:
            raise InputError(
                f"the sets keep runs of {real.block} and {s.block} rows", "sketch all of them with the same block"
            )
        if s.serial is not None and s.serial.n < 4:
            raise InputError(
                f"{s.n} rows make {s.serial.n} runs of {s.block} rows",
                "an audit needs at least 4 in every set: give more rows or a shorter block",
            )
    runs = [s.serial for s in sets if s.serial is not None]
    if not runs:
        return rows, rows
    return Coordinates.of(runs[0], runs[1 : 1 + len(generations)], whitening=whitening, rows=real), rows
