r"""The accumulation identity: drift is a quadratic form in the propagator and the Gram matrix of innovations.

With :math:`f_0 = 0` and :math:`\Gamma_{ij} = \langle \delta_i, \delta_j \rangle_p`, for every policy and every n,

.. math:: D_n = \sum_{i,j} G_{n,i}\, G_{n,j}\, \Gamma_{ij},

exactly: no smallness, no constant. The diagonal terms :math:`G_{n,i}^2 J_i`, :math:`J_i = \Gamma_{ii}`, are [KTV]'s
discounted sum (their Figure 5); the off-diagonal terms say whether errors align or cancel. The identity holds in
L^2(mu) for any reference law mu, and in feature coordinates; D and the Gram matrix must use the same one. A start
:math:`f_0 \ne 0` is one more innovation: put ``propagator_initial(...)`` in front of G as a column and f_0 in the Gram
matrix.

Reference: this project, theory sections 4 and 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from driftlaw.errors import InputError
from driftlaw.theory.refresh import Array

#: Largest asymmetry of a Gram matrix that counts as rounding, relative to its largest entry.
SYMMETRY_TOLERANCE: float = 1e-8


def check_gram(gram: ArrayLike) -> Array:
    """A Gram matrix as float64, symmetrised to rounding.

    Raises:
        InputError: not square, not finite, or not symmetric; the entry is named.
    """
    gamma = np.asarray(gram, dtype=np.float64)
    if gamma.ndim != 2 or gamma.shape[0] != gamma.shape[1] or gamma.shape[0] < 1:
        raise InputError(
            f"a Gram matrix of innovations is square, got shape {list(gamma.shape)}",
            "entry (i, j) is <delta_i, delta_j>, one row and one column per generation",
        )
    if not np.isfinite(gamma).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(gamma))[0])
        raise InputError(
            f"entry ({i}, {j}) of the Gram matrix is {gamma[i, j]}",
            "where chi2 against p is infinite, measure in L^2 of the mixture of p and all generations",
        )
    gap = abs(gamma - gamma.T)
    if gap.max() > SYMMETRY_TOLERANCE * abs(gamma).max():
        i, j = (int(k) for k in np.unravel_index(gap.argmax(), gap.shape))
        raise InputError(
            f"the Gram matrix is not symmetric: entry ({i}, {j}) is {gamma[i, j]:g} but ({j}, {i}) is {gamma[j, i]:g}",
            "average it with its transpose if that is estimation noise",
        )
    return np.asarray((gamma + gamma.T) / 2, dtype=np.float64)


def _check_propagator(G: ArrayLike, size: int) -> Array:
    g = np.asarray(G, dtype=np.float64)
    if g.ndim != 2 or g.shape[1] != size or not np.isfinite(g).all():
        raise InputError(
            f"the propagator must be a finite matrix with one column per innovation ({size}), got {list(g.shape)}",
            "use propagator(policy, N) with N the size of the Gram matrix",
        )
    return g


def accumulated_drift(G: ArrayLike, gram: ArrayLike) -> Array:
    r"""Drift of every generation, :math:`D_n = \sum_{ij} G_{n,i} G_{n,j} \Gamma_{ij}`.

    Args:
        G: ``[N, K]``, propagator (K = N, or N + 1 with the start in front).
        gram: ``[K, K]``, Gram matrix of the innovations. An estimated one may be indefinite; then D_n may be negative
            and is returned as it is.

    Returns:
        ``[N]``, D_1..D_N.

    Raises:
        InputError: a Gram matrix that is not square, symmetric and finite, or shapes that do not match.

    Example:
        >>> from driftlaw.theory import Replace, propagator
        >>> accumulated_drift(propagator(Replace(), 3), np.ones((3, 3)))
        array([1., 4., 9.])
    """
    gamma = check_gram(gram)
    g = _check_propagator(G, gamma.shape[0])
    return np.asarray(((g @ gamma) * g).sum(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class Contributions:
    r"""Which generation caused today's drift.

    Args:
        discounted: ``[N, K]``, :math:`G_{n,i}^2 J_i`: [KTV] Figure 5, alignment ignored.
        attributed: ``[N, K]``, :math:`G_{n,i} \sum_j G_{n,j} \Gamma_{ij}`: rows sum to D_n exactly. Negative where an
            innovation cancels earlier ones.
        pairwise: ``[K, K]``, :math:`G_{N,i} G_{N,j} \Gamma_{ij}` for the last generation; sums to D_N.
    """

    discounted: Array
    attributed: Array
    pairwise: Array


def contributions(G: ArrayLike, gram: ArrayLike) -> Contributions:
    """Decompose the drift of every generation by the generation that caused it.

    Args:
        G: ``[N, K]``, propagator.
        gram: ``[K, K]``, Gram matrix of the innovations.

    Raises:
        InputError: as :func:`accumulated_drift`.
    """
    gamma = check_gram(gram)
    g = _check_propagator(G, gamma.shape[0])
    return Contributions(g**2 * np.diag(gamma), g * (g @ gamma), np.outer(g[-1], g[-1]) * gamma)


def alignment(gram: ArrayLike, weights: ArrayLike | None = None) -> float:
    r"""Alignment kappa of the innovations: off-diagonal mass relative to perfectly aligned innovations.

    .. math:: \kappa = \frac{\sum_{i \ne j} u_i u_j \Gamma_{ij}}{\sum_{i \ne j} u_i u_j \sqrt{J_i J_j}}, \qquad
       \sum_{ij} u_i u_j \Gamma_{ij} = (1-\kappa) \sum_i u_i^2 J_i + \kappa \Big(\sum_i u_i \sqrt{J_i}\Big)^2 .

    kappa = 1: all innovations point the same way (systematic bias). kappa = 0: they do not add up (sampling noise).
    kappa < 0: they cancel. By Cauchy-Schwarz kappa <= 1 for a true Gram matrix.

    Args:
        gram: ``[N, N]``. Negative diagonal entries of an unbiased estimate count as 0.
        weights: ``[N]`` non-negative u; None weighs generations equally. With a row of the propagator the second
            formula is D_n.

    Returns:
        kappa; ``nan`` if fewer than two innovations are non-zero (alignment of one vector means nothing).

    Raises:
        InputError: a Gram matrix that is not square, symmetric and finite, or bad weights.
    """
    gamma = check_gram(gram)
    u = np.ones(gamma.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    if u.shape != (gamma.shape[0],) or not (u >= 0).all():
        raise InputError(
            f"alignment needs {gamma.shape[0]} non-negative weights, got {u.tolist()}", "use a row of the propagator"
        )
    lengths = u * np.sqrt(np.maximum(np.diag(gamma), 0.0))
    aligned = lengths.sum() ** 2 - (lengths**2).sum()
    if np.count_nonzero(lengths) < 2:
        return float("nan")
    return float((u @ gamma @ u - (u**2 * np.diag(gamma)).sum()) / aligned)


def certified_drift(G: ArrayLike, J: ArrayLike, G_init: ArrayLike | None = None, D0: float = 0.0) -> Array:
    r"""Upper bound on drift from innovation energies alone.

    .. math:: \sqrt{D_n} \le \sum_i G_{n,i} \sqrt{J_i} + G_{n,\mathrm{init}} \sqrt{D_0}

    Minkowski's inequality: every policy, no bias term, no smallness. Equality for aligned innovations.

    Args:
        G: ``[N, N]``, propagator.
        J: ``[N]``, innovation energies J_i >= 0 (``inf`` gives ``inf`` wherever it is remembered).
        G_init: ``[N]``, propagator of the start; needed if D0 > 0.
        D0: drift of p_hat^0.

    Returns:
        ``[N]``, upper bounds on D_1..D_N.

    Raises:
        InputError: negative or NaN energies, D0 without G_init, or shapes that do not match.
    """
    energies = np.asarray(J, dtype=np.float64)
    if energies.ndim != 1 or not (energies >= 0).all() or not D0 >= 0:
        raise InputError(
            f"energies must be a list of non-negative numbers, got J {energies.tolist()}, D0 {D0}",
            "an unbiased estimate that fell below zero should enter as 0 or as its upper confidence limit",
        )
    g = _check_propagator(G, energies.size)
    start = np.zeros(g.shape[0]) if G_init is None else np.asarray(G_init, dtype=np.float64)
    if start.shape != (g.shape[0],) or (G_init is None and D0 > 0):
        raise InputError(
            "a start with D0 > 0 needs G_init, one number per generation", "use propagator_initial(policy, N)"
        )
    finite = np.isfinite(energies)
    root = g[:, finite] @ np.sqrt(energies[finite]) + (start * np.sqrt(D0) if D0 > 0 else 0.0)
    root = np.where((g[:, ~finite] > 0).any(axis=1), np.inf, root)
    return np.asarray(root**2, dtype=np.float64)
