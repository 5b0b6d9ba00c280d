r"""Planning: the drift that a schedule of fresh fractions will have, before anything is trained.

Generation n trains on :math:`\alpha_n p + (1 - \alpha_n)\,\hat p^{\,n-1}`. Innovations of size J and alignment
:math:`\kappa \in [0, 1]`, and a start :math:`f_0` of size :math:`D_0` that is aligned with them in the same degree,
have the Gram matrix

.. math:: \langle \delta_i, \delta_j \rangle = \sqrt{J_i J_j}\,[(1-\kappa)\,1_{ij} + \kappa],

so that the accumulation identity :math:`D_n = G \Gamma G^T` needs two numbers of state only, and is exact:

.. math:: D_n = (1-\kappa) A_n + \kappa S_n^2, \qquad A_n = (1-\alpha_n)^2 A_{n-1} + J_n, \qquad
   S_n = (1-\alpha_n) S_{n-1} + \sqrt{J_n}, \qquad A_0 = S_0^2 = D_0 .

A is the drift of independent innovations, S the root of the drift of aligned ones. In the steady state of a constant
fraction :math:`D = J\,[(1-\kappa)/(\alpha(2-\alpha)) + \kappa/\alpha^2]`, which a budget B turns into

========= =============================================================================
kappa     smallest constant fraction
========= =============================================================================
1         :math:`\alpha = \sqrt{J/B}`
0         :math:`\alpha = 1 - \sqrt{1 - J/B}`
otherwise the root in (0, 1] of :math:`B\alpha^3 - 2B\alpha^2 + J(1-2\kappa)\alpha + 2\kappa J`
========= =============================================================================

A budget B < J cannot be kept, even by training on fresh data alone. :class:`SampleNoise` is the case where alpha is
the *weight* of a fresh and a synthetic set of given sizes: then J depends on alpha, drift has a minimum in it, and for
equal sizes that lies at the inverse golden ratio.

Innovations fluctuate from run to run. If their independent part is spread evenly over r directions, :math:`D_n` is
:math:`(1-\kappa) A_n / r` times a noncentral chi-square variable with r degrees of freedom and noncentrality
:math:`r \kappa S_n^2 / ((1-\kappa) A_n)`; :func:`fluctuation` bounds the ratio of its quantile to its mean.

Reference: this project, theory sections 4, 7 (weighted mean) and 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.theory.refresh import Array, check_horizon


def _positive(name: str, value: Any, fix: str, *, zero: bool = False) -> float:
    """`value` as a float if it is finite and > 0 (or >= 0)."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise InputError(f"{name} must be a finite number {'>=' if zero else '>'} 0, got {value!r}", fix)
    return float(value)


def check_alignment(kappa: Any) -> float:
    """`kappa` if it is a number in [0, 1]."""
    value = _positive("alignment", kappa, "0 is independent (sampling noise), 1 is aligned (bias)", zero=True)
    if value > 1:
        raise InputError(f"alignment must be in [0, 1], got {kappa!r}", "0 is independent, 1 is aligned")
    return value


def check_budget(budget: Any) -> float:
    """`budget` if it is a positive number."""
    return _positive("the budget", budget, "a budget is a drift, in the units of the innovation: use a number > 0")


def check_schedule(schedule: ArrayLike) -> Array:
    """Schedules ``[..., H]`` of fresh fractions as float64."""
    alphas = np.asarray(schedule, dtype=np.float64)
    if alphas.ndim < 1 or alphas.shape[-1] < 1 or not ((alphas >= 0) & (alphas <= 1)).all():
        raise InputError("a schedule is a list of fractions in [0, 1], one per generation", "use [0.1, 0.1, ...]")
    return alphas


@dataclass(frozen=True)
class SampleNoise:
    r"""Innovations of sampling noise when alpha weighs two sets of given sizes.

    .. math:: J(\alpha) = k\,\Big(\frac{\alpha^2}{n_\mathrm{fresh}} + \frac{(1-\alpha)^2}{n_\mathrm{synthetic}}\Big)

    k whitened features each have variance 1 in the target. With kappa = 0 the steady drift is the variance of the
    weighted mean of theory section 7, least at :math:`w^* = (\sqrt{\rho^2 + 4\rho} - \rho)/2`,
    :math:`\rho = n_\mathrm{fresh}/n_\mathrm{synthetic}`.

    Args:
        n_fresh, n_synthetic: rows of either kind in each generation's training set.
        features: k.

    Raises:
        InputError: a size that is not positive.

    Example:
        >>> round(SampleNoise(1000, 1000, 10).best_weight, 6)
        0.618034
    """

    n_fresh: float
    n_synthetic: float
    features: float = 1.0

    def __post_init__(self) -> None:
        for name in ("n_fresh", "n_synthetic", "features"):
            object.__setattr__(self, name, _positive(name, getattr(self, name), "sizes are positive numbers"))

    def __call__(self, alpha: ArrayLike) -> Array:
        """J(alpha), the shape of `alpha`."""
        a = np.asarray(alpha, dtype=np.float64)
        return np.asarray(self.features * (a**2 / self.n_fresh + (1 - a) ** 2 / self.n_synthetic))

    def slope(self, alpha: ArrayLike) -> Array:
        """Derivative of J with respect to alpha."""
        a = np.asarray(alpha, dtype=np.float64)
        return np.asarray(2 * self.features * (a / self.n_fresh - (1 - a) / self.n_synthetic))

    @property
    def best_weight(self) -> float:
        """The constant weight of least steady drift for independent innovations."""
        rho = self.n_fresh / self.n_synthetic
        return 2 / (1 + math.sqrt(1 + 4 / rho))  # (sqrt(rho^2 + 4 rho) - rho) / 2 without cancellation


@dataclass(frozen=True)
class DriftModel:
    """Innovations of size J and alignment kappa, and a start.

    Args:
        innovation: J > 0, in the units of drift, or a :class:`SampleNoise`.
        alignment: kappa in [0, 1].
        start: D_0 >= 0.

    Raises:
        InputError: a value out of range.

    Example:
        >>> DriftModel(1.0, 1.0).drift([0.0, 0.0, 1.0])
        array([1., 4., 1.])
    """

    innovation: float | SampleNoise
    alignment: float
    start: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.innovation, SampleNoise):
            fix = "an estimate that is not above its noise should enter as its upper confidence limit"
            object.__setattr__(self, "innovation", _positive("the innovation", self.innovation, fix))
        object.__setattr__(self, "alignment", check_alignment(self.alignment))
        fix = "0 starts from the target itself"
        object.__setattr__(self, "start", _positive("the starting drift", self.start, fix, zero=True))

    def sizes(self, alpha: ArrayLike) -> Array:
        """J of a generation that is trained with fraction alpha, the shape of `alpha`."""
        if isinstance(self.innovation, SampleNoise):
            return self.innovation(alpha)
        return np.full(np.shape(alpha), self.innovation)

    def states(self, schedule: ArrayLike) -> tuple[Array, Array]:
        """A_1..A_H and S_1..S_H, each ``[..., H]``."""
        alphas = check_schedule(schedule)
        J = self.sizes(alphas)
        root, keep = np.sqrt(J), 1 - alphas
        A, S = np.empty_like(alphas), np.empty_like(alphas)
        a, s = np.full(alphas.shape[:-1], self.start), np.full(alphas.shape[:-1], math.sqrt(self.start))
        for n in range(alphas.shape[-1]):
            a = A[..., n] = keep[..., n] ** 2 * a + J[..., n]
            s = S[..., n] = keep[..., n] * s + root[..., n]
        return A, S

    def drift(self, schedule: ArrayLike) -> Array:
        """D_1..D_H of schedules ``[..., H]``; the same shape.

        Raises:
            InputError: a fraction outside [0, 1].
        """
        A, S = self.states(schedule)
        return np.asarray((1 - self.alignment) * A + self.alignment * S**2)

    def drift_and_gradient(self, schedule: ArrayLike) -> tuple[Array, Array]:
        """D_1..D_H of one schedule, and its Jacobian ``[H, H]``, dD_n/dalpha_m at (n - 1, m - 1)."""
        alphas = check_schedule(schedule)
        H, kappa = alphas.size, self.alignment
        A, S = self.states(alphas)
        J = self.sizes(alphas)
        slope = self.innovation.slope(alphas) if isinstance(self.innovation, SampleNoise) else np.zeros(H)
        dA, dS, jacobian = np.zeros(H), np.zeros(H), np.empty((H, H))
        a, s = self.start, math.sqrt(self.start)
        for n in range(H):
            keep = 1 - alphas[n]
            dA, dS = keep**2 * dA, keep * dS
            dA[n] = -2 * keep * a + slope[n]
            dS[n] = -s + slope[n] / (2 * math.sqrt(J[n]))
            a, s = A[n], S[n]
            jacobian[n] = (1 - kappa) * dA + 2 * kappa * s * dS
        return np.asarray((1 - kappa) * A + kappa * S**2), jacobian

    def gram(self, schedule: ArrayLike) -> Array:
        """Gram matrix of the innovations of one schedule ``[H]``, the start not included."""
        root = np.sqrt(self.sizes(check_schedule(schedule)))
        return np.asarray(np.outer(root, root) * ((1 - self.alignment) * np.eye(root.size) + self.alignment))

    def steady(self, alpha: ArrayLike) -> Array:
        """Drift that a constant fraction settles at, ``inf`` for alpha = 0; the shape of `alpha`."""
        a = np.asarray(alpha, dtype=np.float64)
        with np.errstate(divide="ignore"):
            return np.asarray(self.sizes(a) * ((1 - self.alignment) / (a * (2 - a)) + self.alignment / a**2))

    @property
    def most_useful(self) -> float:
        """The constant fraction of least steady drift: 1, or less for :class:`SampleNoise`."""
        if not isinstance(self.innovation, SampleNoise):
            return 1.0
        if self.alignment == 0:
            return self.innovation.best_weight
        grid = np.linspace(0, 1, 10_001)[1:]
        k = int(self.steady(grid).argmin())
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, grid.size - 1)]
        for _ in range(100):  # golden-section search: the minimum of a smooth function with one valley
            left, right = high - (high - low) * 0.6180339887498949, low + (high - low) * 0.6180339887498949
            low, high = (low, right) if self.steady(left) < self.steady(right) else (left, high)
        return float((low + high) / 2)

    def constant(self, budget: float) -> float:
        """Smallest constant fraction whose steady drift is within the budget; ``nan`` if there is none.

        Raises:
            InputError: a budget that is not positive.

        Example:
            >>> round(DriftModel(1.0, 1.0).constant(100.0), 12), round(DriftModel(1.0, 0.0).constant(1 / 0.19), 12)
            (0.1, 0.1)
        """
        B, best = check_budget(budget), self.most_useful
        if not self.steady(best) <= B * (1 + 1e-12):
            return math.nan
        if not isinstance(self.innovation, SampleNoise):
            ratio = min(1.0, self.innovation / B)
            if self.alignment in (0.0, 1.0):
                return math.sqrt(ratio) if self.alignment else ratio / (1 + math.sqrt(1 - ratio))
        if self.steady(best) >= B:
            return best
        low = best
        while self.steady(low) < B:
            low /= 2
        return float(brentq(lambda a: float(self.steady(a)) / B - 1, low, best, xtol=1e-15, rtol=1e-15))


def fluctuation(alignment: float, dimension: float, confidence: float) -> float:
    r"""How far drift may lie above its mean: its quantile in units of its mean, an upper bound over all n.

    The ratio falls with the noncentrality, and :math:`S_n^2 \ge A_n`, so it is largest for
    :math:`\lambda = r\kappa/(1-\kappa)`. Quantiles by :func:`noncentral_quantile`.

    Args:
        alignment: kappa.
        dimension: r >= 1, the number of directions that independent innovations are spread over; ``inf`` is none.
        confidence: level of the quantile, in (0, 1).

    Raises:
        InputError: a value out of range.

    Example:
        >>> fluctuation(1.0, 10, 0.95), round(fluctuation(0.0, 10, 0.95), 3)
        (1.0, 1.831)
    """
    kappa, level = check_alignment(alignment), check_confidence(confidence)
    if not isinstance(dimension, int | float | np.integer | np.floating) or not dimension >= 1:
        raise InputError(f"dimension must be a number >= 1, got {dimension!r}", "inf leaves fluctuations out")
    if kappa == 1 or math.isinf(dimension):
        return 1.0
    quantile = float(noncentral_quantile(level, dimension, dimension * kappa / (1 - kappa)))
    return max(1.0, quantile * (1 - kappa) / dimension)


def noncentral_quantile(level: float, dimension: float, noncentrality: ArrayLike) -> Array:
    r"""Quantile of the noncentral chi-square law by Patnaik's approximation (Biometrika 36, 1949).

    .. math:: \chi^2_r(\lambda) \approx c\,\chi^2_\nu, \qquad c = \frac{r + 2\lambda}{r + \lambda}, \qquad
       \nu = \frac{(r + \lambda)^2}{r + 2\lambda}

    It has the right mean and variance for every lambda, is exact for lambda = 0, and costs the same for any lambda.

    Args:
        level: in (0, 1).
        dimension: r > 0.
        noncentrality: lambda >= 0, any shape.

    Returns:
        The shape of `noncentrality`.
    """
    mean = dimension + np.asarray(noncentrality, dtype=np.float64)
    spread = 2 * mean - dimension
    return np.asarray(spread / mean * stats.chi2.ppf(level, mean**2 / spread))


def upper_limit(estimate: Estimate, confidence: float) -> float:
    """One-sided upper confidence limit, from the upper half of the 95 % interval; ``nan`` for a refused estimate."""
    scale = float(stats.norm.ppf(check_confidence(confidence))) / Z95
    return estimate.value + scale * (estimate.high - estimate.value) if estimate.stderr else estimate.value


def check_confidence(confidence: Any) -> float:
    """`confidence` if it is a number in (0, 1)."""
    value = _positive("confidence", confidence, "use for example 0.95")
    if value >= 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence!r}", "use for example 0.95")
    return value


def constant_schedule(alpha: float, horizon: int) -> Array:
    """The same fraction in every generation, ``[H]``."""
    return np.full(check_horizon(horizon), alpha)
