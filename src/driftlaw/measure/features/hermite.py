r"""The Hermite spectrum of a sample beside that of a reference: which degrees and directions were damped.

In coordinates y = A (x - b) the coefficient of degree m along direction j is :math:`a_{m,j} = E\,He_m(y_j)`, and the
gain is its ratio to that of the reference. A recursion that stops early at OU time tau multiplies degree m by
:math:`\alpha r_m/(1-(1-\alpha)r_m)`, :math:`r_m = e^{-m\tau/2}`: a low-pass filter. Sampling noise leaves the gains at
1 within their intervals, a lost mode moves them by no such law.

The prediction is exact in the coordinates where the noise of the diffusion is standard: ``"given"`` ones for a process
that runs on the rows as they are. ``"whitened"`` ones (principal axes of the reference, its mean 0 and variance 1) have
no coefficients of degree 1 and 2 to lose, and compare shapes. Products along several directions are left out.

One pass in constant memory: means and covariance of the :math:`He_m(y_j)` are all that is kept.

Reference: this project, theory section 9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import CLEAR, Estimate
from driftlaw.measure.features.fitted import as_rows
from driftlaw.measure.features.steps import Hermite
from driftlaw.numerics.directions import oriented
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.records import Record

#: Rows that are mapped at once.
PART = 16_384
#: Largest degree; float64 sums of higher ones cancel.
LARGEST = 16
#: Rows needed for each unit of the fourth moment of He_m/sqrt(m!): the standard error is then known to a third.
ROWS_PER_KURTOSIS = 10
#: Most coefficients (directions times degree).
MOST = 2048
Coordinates = Literal["whitened", "given"]


@dataclass(frozen=True)
class HermiteCoefficient(Record):
    """One coefficient.

    Args:
        degree: m.
        direction: number of the axis.
        coefficient: E He_m(y) of the rows.
        reference: that of the reference.
        gain: their ratio; refused where the reference is within 4.5 standard errors of zero.
    """

    degree: int
    direction: int
    coefficient: Estimate
    reference: Estimate
    gain: Estimate


@dataclass(frozen=True)
class HermiteSpectrum(Record):
    """What :func:`hermite_spectrum` returns.

    Args:
        degree: largest degree.
        coordinates: "whitened" or "given".
        n: rows; 0 for an exact law.
        coefficients: by degree, then direction.
        gains: gain of degrees 1..degree over all directions that the reference has, weighted by its coefficients.
    """

    degree: int
    coordinates: str
    n: int
    coefficients: tuple[HermiteCoefficient, ...]
    gains: tuple[Estimate, ...]


@dataclass(frozen=True)
class _Moments:
    """Means of the features and the covariance of these means; degree runs slowest."""

    n: int
    mean: Tensor
    error: Tensor


def usable_degree(n: int) -> int:
    """Largest degree whose coefficient has a trustworthy interval from n rows.

    The variance of He_m is itself estimated; under N(0, 1) its relative error is sqrt(K_m / n) with
    K_m = E He_m^4 / m!^2 (3, 15, 93, 639, ...), and n must be at least 10 K_m.

    Example:
        >>> [usable_degree(n) for n in (100, 1000, 10_000)]
        [1, 3, 4]
    """
    x, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    usable = 0
    for m in range(1, LARGEST + 1):
        he = np.polynomial.hermite_e.hermeval(x, [0] * m + [1]) / math.sqrt(math.factorial(m))
        if n < ROWS_PER_KURTOSIS * float(w @ he**4) * (1 - 1e-9):
            break
        usable = m
    return usable


def hermite_spectrum(
    rows: Any,
    reference: Any,
    degree: int = 4,
    *,
    coordinates: Coordinates = "whitened",
    directions: int = 8,
) -> HermiteSpectrum:
    """Hermite coefficients and gains by degree and direction; public as ``driftlaw.hermite_spectrum``.

    Args:
        rows: ``[n, ...]`` array, an iterable of such arrays (one pass), or a Gaussian mixture (exact).
        reference: the same for the target; half of its rows (of an iterable, its first array) fits the coordinates.
        degree: largest degree, at most that which n allows (:func:`usable_degree`).
        coordinates: "whitened" or "given" (rows as they are, one direction a column).
        directions: most directions.

    Returns:
        The spectrum; every number with a 95 % interval.

    Raises:
        InputError: a degree too high for n, widths that differ, NaN or infinite rows.

    Example:
        >>> p = GaussianMixture([0.5, 0.5], [[-1.0], [2.0]], 0.25)
        >>> found = hermite_spectrum(p.diffuse(0.1), p, 2, coordinates="given")
        >>> [round(g.value, 4) for g in found.gains]  # e^(-m/20)
        [0.9512, 0.9048]
    """
    if not 1 <= degree <= LARGEST:
        raise InputError(f"degree {degree} is not in 1..{LARGEST}", "choose a smaller degree")
    if coordinates not in ("whitened", "given") or directions < 1:
        raise InputError(
            f"coordinates {coordinates!r}, {directions} directions",
            "choose 'whitened' or 'given', and at least one direction",
        )
    chunks, (centre, matrix) = _coordinates(reference, coordinates, directions)
    if matrix.shape[1] * degree > MOST:
        raise InputError(
            f"{matrix.shape[1]} directions of degree {degree} are more than {MOST} coefficients",
            "choose fewer directions or a smaller degree",
        )
    base = _moments(reference if chunks is None else chunks, centre, matrix, degree, "the reference")
    mine = _moments(rows, centre, matrix, degree, "the sample")
    k = matrix.shape[1]
    coefficients, gains = [], []
    for m in range(1, degree + 1):
        block = slice((m - 1) * k, m * k)
        b = base.mean[block]
        seen = b.abs() > CLEAR * base.error[block, block].diagonal().sqrt() + 1e-9 * math.sqrt(math.factorial(m))
        for j in range(k):
            axis = torch.zeros(k, dtype=torch.float64)
            axis[j] = 1.0
            mean, known = (_estimate(x, block, axis, f"mean of He_{m}") for x in (mine, base))
            gain = _gain(mine, base, block, axis) if seen[j] else _unseen(m, mine.n)
            coefficients.append(HermiteCoefficient(m, j, mean, known, gain))
        weights = torch.where(seen, b, 0.0)
        gains.append(_gain(mine, base, block, weights) if seen.any() else _unseen(m, mine.n))
    return HermiteSpectrum(degree, coordinates, mine.n, tuple(coefficients), tuple(gains))


def _unseen(m: int, n: int) -> Estimate:
    return Estimate.refused(
        "ratio of Hermite coefficients", f"the reference has no coefficient of degree {m} to lose", n
    )


def _estimate(x: _Moments, block: slice, weights: Tensor, method: str) -> Estimate:
    value = float(weights @ x.mean[block])
    if not x.n:
        return Estimate.exact(value, f"{method}, closed form")
    return Estimate.normal(value, math.sqrt(float(weights @ x.error[block, block] @ weights)), x.n, method, dof=x.n - 1)


def _gain(mine: _Moments, base: _Moments, block: slice, weights: Tensor) -> Estimate:
    """Ratio of the weighted sums, by the delta method: the reference is at least 4.5 standard errors from zero."""
    above, below = (_estimate(x, block, weights, "") for x in (mine, base))
    gain = above.value / below.value
    stderr = math.hypot(above.stderr, gain * below.stderr) / abs(below.value)
    if stderr == 0.0:
        return Estimate.exact(gain, "ratio of Hermite coefficients, closed form")
    return Estimate.normal(gain, stderr, mine.n or base.n, "ratio of Hermite coefficients")


def _coordinates(
    reference: Any, coordinates: Coordinates, directions: int
) -> tuple[Iterator[Tensor] | None, tuple[Tensor, Tensor]]:
    """What is left of the reference to measure (None: the law itself), centre ``[d]`` and matrix ``[d, k]``."""
    if isinstance(reference, GaussianMixture):
        chunks, mean, covariance = None, reference.mean(), reference.covariance()
    else:
        found = _chunks(reference, "the reference")
        first = next(found)
        if isinstance(reference, Tensor | np.ndarray) and coordinates == "whitened":
            whole = as_rows(reference, "the reference", 4)
            first, rest = whole[: len(whole) // 2], whole[len(whole) // 2 :]
            found = iter(torch.split(rest, PART))
        elif coordinates == "given":
            found = _after(first, found)
        chunks, mean = found, first.mean(0)
        covariance = (
            torch.cov(first.T).reshape(first.shape[1], -1) if len(first) > 1 else torch.zeros(first.shape[1], 1)
        )
    d = len(mean)
    if coordinates == "given":
        return chunks, (torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)[:, :directions])
    values, vectors = torch.linalg.eigh(covariance)
    order = values.argsort(descending=True)[:directions]
    order = order[values[order] > 1e-10 * values.max()]
    if not len(order):
        raise InputError("no direction of the reference varies", "check the data: all rows are equal")
    return chunks, (mean, oriented(vectors[:, order]) / values[order].sqrt())


def _after(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _chunks(rows: Any, name: str) -> Iterator[Tensor]:
    """Blocks ``[m, d]`` float64 of finite rows."""
    if isinstance(rows, Tensor | np.ndarray):
        return iter(torch.split(as_rows(rows, name), PART))
    if not isinstance(rows, Iterable):
        raise InputError(
            f"{name} is {type(rows).__name__}", "give an array, an iterable of arrays or a GaussianMixture"
        )
    return (part for block in rows for part in torch.split(as_rows(block, name, 1), PART))


def _moments(rows: Any, centre: Tensor, matrix: Tensor, degree: int, name: str) -> _Moments:
    if isinstance(rows, GaussianMixture):
        if rows.dim != len(centre):
            raise InputError(f"{name} has {rows.dim} columns, the reference {len(centre)}")
        mean = (rows.means - centre) @ matrix
        spread = torch.einsum("ik,cij,jk->ck", matrix, rows.component_covariances, matrix)
        parts = [torch.ones_like(mean), mean]
        for m in range(1, degree):
            parts.append(mean * parts[m] + m * (spread - 1) * parts[m - 1])
        exact = torch.cat([rows.weights @ part for part in parts[1:]])
        return _Moments(0, exact, torch.zeros(len(exact), len(exact), dtype=torch.float64))
    step, n = Hermite(torch.tensor([degree]), torch.tensor([matrix.shape[1]])), 0
    scale = torch.tensor([math.sqrt(math.factorial(m)) for m in range(1, degree + 1)], dtype=torch.float64)
    scale = scale.repeat_interleave(matrix.shape[1])
    mean = torch.zeros(len(scale), dtype=torch.float64)
    scatter = torch.zeros(len(scale), len(scale), dtype=torch.float64)
    for block in _chunks(rows, name):
        if block.shape[1] != len(centre):
            raise InputError(f"{name} has {block.shape[1]} columns, the reference {len(centre)}")
        z = step((block - centre) @ matrix)
        m, here = len(z), z.mean(0)
        scatter += (z - here).T @ (z - here) + torch.outer(here - mean, here - mean) * (n * m / (n + m))
        mean += (here - mean) * (m / (n + m))
        n += m
    if (usable := usable_degree(n)) < degree:
        raise InputError(
            f"degree {degree} is too high for {n} rows of {name}: the variance of He_{degree} is not known from so few",
            f"the largest usable degree is {usable}" if usable else "give at least 30 rows",
        )
    if not bool(torch.isfinite(scatter).all()):
        raise InputError(
            f"{name} has Hermite moments that are not finite", "choose a smaller degree, or scale the rows"
        )
    return _Moments(n, mean * scale, scatter / (n * (n - 1)) * torch.outer(scale, scale))
