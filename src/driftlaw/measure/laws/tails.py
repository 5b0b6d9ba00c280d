r"""Is chi2 finite? Exact tests for Gaussian mixtures, and the tail index of importance weights.

A Monte Carlo average prints a finite number for an infinite integral. Two diagnoses prevent that.

**Exact** (this project, theory section 5). For mixtures :math:`r = \sum_k w_k N(m_k, \Sigma_k)` and
:math:`q = \sum_j u_j N(m_j', S_j)` the integrand of :math:`\int r^p q^{1-p}` behaves along a direction u as
:math:`\exp(-\tfrac12 |x|^2 \max_j u^\top A_j u)` for component k of r, with precisions in

.. math:: A_j = p\,\Sigma_k^{-1} - (p-1)\,S_j^{-1}.

So the integral is finite if for every k and every u some :math:`u^\top A_j u > 0`, and infinite if for some k and u all
are negative. Order p = 2 is :math:`1 + \chi^2(r\|q)`; p = 3 is the second moment of the weights r/q under r, so it says
whether a Monte Carlo interval for chi2 exists. Isotropic, p = 2: finite if :math:`\max v_r < 2 \max v_q`, infinite if
it is larger. With one covariance on each side the condition for finiteness is :math:`2 S \succ \Sigma`.

On the boundary (:math:`\max_j u^\top A_j u = 0`) the means decide: a single Gaussian q gives infinity, but
:math:`\chi^2(N(0, 2) \| \tfrac12 N(-1, 1) + \tfrac12 N(1, 1)) < \infty` although :math:`v_r = 2 v_q`; without the means
the verdict there is "undecided".

**From draws.** The largest weights of a sample are fitted by a generalised Pareto law (J. Zhang and M. A. Stephens, "A
new and efficient estimation method for the generalized Pareto distribution", Technometrics 51, 2009; used as in Vehtari
et al., "Pareto smoothed importance sampling", JMLR 25, 2024). Its shape k is the tail index: the weights have a finite
mean iff k < 1 and a finite variance iff k < 1/2. For r/q under r, with 1-D Gaussians, :math:`k = v_r/v_q - 1`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.seeding import generator

#: The tail of a Gaussian mixture: its component covariances ``[K, d, d]``, one covariance ``[d, d]``, or a number, the
#: largest variance of an isotropic mixture with any number of components.
TailScale = float | Tensor

#: Fewest weights from which a tail index is read.
MIN_WEIGHTS = 50


@dataclass(frozen=True)
class Verdict:
    """Whether an integral is finite.

    Args:
        finite: True, False, or None when the test cannot tell.
        reason: why, in words.
    """

    finite: bool | None
    reason: str


def chi2_finite(r: TailScale, q: TailScale) -> Verdict:
    r"""Whether chi2(r || q) is finite, from the component covariances of two Gaussian mixtures.

    Args:
        r: tail of r, a :data:`TailScale`.
        q: tail of q.

    Returns:
        A :class:`Verdict`; exact except on the boundary and in rare full-covariance cases, where it is undecided.

    Raises:
        InputError: covariances that are not finite, symmetric and positive definite, or of different dimensions.

    Example:
        >>> chi2_finite(0.72, 0.36 + 1e-9).finite, chi2_finite(0.73, 0.36).finite, chi2_finite(0.72, 0.36).finite
        (True, False, None)
    """
    return renyi_finite(r, q, order=2)


def renyi_finite(r: TailScale, q: TailScale, order: int) -> Verdict:
    r"""Whether :math:`\int r^p q^{1-p}` is finite: order p = 2 is chi2, p = 3 the second moment of r/q under r.

    Args:
        r: tail of r, a :data:`TailScale`.
        q: tail of q.
        order: p >= 2.

    Returns:
        A :class:`Verdict`.

    Raises:
        InputError: covariances that cannot be used, or an order below 2.
    """
    if order < 2:
        raise InputError(f"order must be at least 2, got {order}")
    if not isinstance(r, Tensor) and not isinstance(q, Tensor):
        return _isotropic(_variance(r, "r"), _variance(q, "q"), order)
    d = int((r if isinstance(r, Tensor) else torch.as_tensor(q)).shape[-1])
    r_prec, _ = _precisions(r, d, "r")
    coarse = any(isinstance(s, Tensor) and s.dtype != torch.float64 for s in (r, q))
    q_prec, q_is_single = _precisions(q, d, "q")
    undecided = None
    for k, precision in enumerate(r_prec):
        tolerance = (1e-5 if coarse else 1e-11) * float(precision.abs().amax())  # rounding of the covariances
        verdict = _component(order * precision - (order - 1) * q_prec, q_is_single, k, tolerance)
        if verdict.finite is False:
            return verdict
        undecided = verdict if verdict.finite is None else undecided
    return undecided or Verdict(True, f"in every direction the tail of q dominates (r^{order} q^{1 - order} decays)")


def _isotropic(v_r: float, v_q: float, order: int) -> Verdict:
    factor = order / (order - 1)
    facts = f"largest variance of r {v_r:.6g}, of q {v_q:.6g}, ratio {v_r / v_q:.6g}, limit {factor:.3g}"
    if math.isclose(v_r, factor * v_q, rel_tol=1e-12):
        return Verdict(None, f"on the boundary, where the means decide: {facts}")
    if v_r < factor * v_q:
        return Verdict(True, f"the tail of q is wide enough: {facts}")
    return Verdict(False, f"r has a component too wide for the tail of q: {facts}")


def _component(forms: Tensor, q_is_single: bool, k: int, tolerance: float, steps: int = 200) -> Verdict:
    """Sign of min over directions u of max_j u'A_j u, for the forms ``A_j`` ``[J, d, d]`` of component k of r.

    Any convex combination of the forms that is positive definite certifies "finite" (it is a lower bound of the
    maximum); any u on which all forms are negative certifies "infinite". Multiplicative weights move towards both, and
    directions drawn with the covariance of those visited are tried last (rounding of the semidefinite relaxation).
    """
    least = torch.linalg.eigvalsh(forms)[:, 0]
    if bool((least > tolerance).any()):
        return Verdict(True, f"one component of q dominates component {k} of r")
    weights = torch.full((len(forms),), 1.0 / len(forms), dtype=forms.dtype)
    visited = torch.zeros_like(forms[0])
    for _ in range(steps):
        values, vectors = torch.linalg.eigh(torch.einsum("j,jab->ab", weights, forms))
        if values[0] > tolerance:
            return Verdict(True, f"components of q together dominate component {k} of r")
        along = torch.einsum("am,jab,bm->jm", vectors, forms, vectors)  # u'A_j u for every eigenvector u
        if bool((along.amax(0) < -tolerance).any()):
            return Verdict(False, f"component {k} of r is too wide for every component of q along one direction")
        visited += torch.outer(vectors[:, 0], vectors[:, 0])
        weights = torch.softmax(weights.log() + along[:, 0] / along[:, 0].abs().amax().clamp_min(tolerance), 0)
    directions = torch.randn(1000, len(visited), generator=generator(0, "tails"), dtype=forms.dtype) @ _root(visited)
    along = torch.einsum("ma,jab,mb->jm", directions, forms, directions) / directions.square().sum(1)
    if bool((along.amax(0) < -tolerance).any()):
        return Verdict(False, f"component {k} of r is too wide for every component of q along one direction")
    if q_is_single:
        return Verdict(False, f"component {k} of r is exactly at the limit of the single component of q")
    return Verdict(None, f"component {k} of r is on the boundary or no certificate was found")


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _variance(v: float, name: str) -> float:
    if not (math.isfinite(v) and v > 0):
        raise InputError(f"the tail variance of {name} must be finite and positive, got {v}")
    return float(v)


def _precisions(scale: TailScale, d: int, name: str) -> tuple[Tensor, bool]:
    """Distinct precision matrices ``[K, d, d]``, and whether the law is known to have a single component."""
    if not isinstance(scale, Tensor):
        return torch.eye(d, dtype=torch.float64)[None] / _variance(scale, name), False
    cov = scale.detach().cpu().double()
    cov = cov[None] if cov.ndim == 2 else cov
    if cov.ndim != 3 or cov.shape[-2:] != (d, d) or not len(cov):
        raise InputError(f"covariances of {name} must be [K, {d}, {d}], got {list(scale.shape)}")
    if not torch.isfinite(cov).all() or not torch.allclose(cov, cov.mT, rtol=1e-6):
        raise InputError(f"covariances of {name} must be finite and symmetric")
    _, info = torch.linalg.cholesky_ex(cov)
    if bool(info.any()):
        raise InputError(f"covariance {int(info.nonzero()[0])} of {name} is not positive definite")
    return torch.cholesky_inverse(torch.linalg.cholesky(torch.unique(cov, dim=0))), len(cov) == 1


def pareto_k(log_weights: Tensor | np.ndarray) -> Estimate:
    r"""Tail index k of positive weights, from the generalised Pareto fit to the largest of them.

    The :math:`M = \lceil\min(n/5, 3\sqrt n)\rceil` largest weights are fitted (Zhang and Stephens 2009; no shrinkage).
    Standard error :math:`(1 + k)/\sqrt M`, that of maximum likelihood on an exact generalised Pareto tail (R. L. Smith
    1987); the interval solves :math:`|\hat k - k| \le 1.96 (1 + k)/\sqrt M` for k (with the width of k = 0 for
    negative k). Where the tail is not yet Pareto at the threshold, k is biased and the interval does not show it.

    Args:
        log_weights: ``[n]`` log weights, up to a constant; ``-inf`` is a zero weight.

    Returns:
        k with its 95 % interval (n = number of weights; the tail points are named in the method); refused if n < 50 or
        if the largest weights are all equal (then there is no tail).

    Raises:
        InputError: NaN or +inf among the log weights.
    """
    lw = np.sort(np.asarray(torch.as_tensor(log_weights).detach().cpu().double()).reshape(-1))
    method = "generalised Pareto fit to the largest weights"
    if np.isnan(lw).any() or (lw == np.inf).any():
        raise InputError(f"{int((np.isnan(lw) | (lw == np.inf)).sum())} of {lw.size} log weights are NaN or +inf")
    if lw.size < MIN_WEIGHTS:
        return Estimate.refused(method, f"{lw.size} weights are too few, at least {MIN_WEIGHTS} are needed", lw.size)
    m = math.ceil(min(lw.size / 5, 3 * math.sqrt(lw.size)))
    tail = np.exp(lw[-m:] - lw[-1])
    excess = tail - np.exp(lw[-m - 1] - lw[-1])
    if excess[-1] <= 1e-12:
        return Estimate.refused(
            method, "the largest weights are equal: the weights are bounded, without a tail", lw.size
        )
    k = _zhang_stephens(np.maximum(excess, 1e-300))
    scale, z = max(1.0, 1 + k), Z95 / math.sqrt(m)
    low, high = k - scale * z / (1 + z), k + scale * z / (1 - z)
    return Estimate(k, scale / math.sqrt(m), low, high, lw.size, f"{method} (M = {m} tail points)")


def _zhang_stephens(x: np.ndarray) -> float:
    """Posterior-mean shape of a generalised Pareto law; `x` ascending and positive."""
    n = x.size
    grid = np.arange(1, 30 + math.isqrt(n) + 1) - 0.5
    b = 1 / x[-1] + (1 - np.sqrt((grid.size) / grid)) / (3 * x[(n + 2) // 4 - 1])
    shape = np.log1p(-b[:, None] * x).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = n * (np.log(-b / shape) - shape - 1)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    weight = np.exp(profile - profile.max())
    return float(np.log1p(-(weight @ b) / weight.sum() * x).mean())
