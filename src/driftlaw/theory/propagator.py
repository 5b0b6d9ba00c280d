r"""The memory of a refresh policy: how much of generation i's error is alive in generation N.

In L^2(p) put :math:`f_i = (\hat p^{\,i} - p)/p`, so that :math:`|f_i|^2 = D_i = \chi^2(\hat p^{\,i}\|p)`. Mixing is
linear and training adds an innovation :math:`\delta_i = (\hat p^{\,i+1} - q_i)/p`:

.. math:: f_{i+1} = \sum_{j \le i} w_{ij} f_j + \delta_i
   \quad\Longrightarrow\quad f_N = \sum_{i<N} G_{N,i}\,\delta_i + G_{N,\mathrm{init}}\, f_0 .

With W the strictly lower triangular matrix of the weights on :math:`\hat p^{\,1}, \dots, \hat p^{\,N-1}`, the
propagator is the resolvent :math:`G = (I - W)^{-1}` and :math:`G_{\cdot,\mathrm{init}} = G\, w_{\cdot 0}`. Closed
forms: fixed fraction :math:`(1-\alpha)^{N-1-i}`; schedule :math:`\prod_{j=i+1}^{N-1} (1-\alpha_j)`; replace 1;
accumulate 1 for i = N - 1, else :math:`1/(i+2)`.

Reference: this project, theory section 4 (contains [KTV] Lemma F.1 for a fixed fraction).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from driftlaw.errors import InputError
from driftlaw.theory.blocks.pooled import check_sizes
from driftlaw.theory.refresh import Array, Policy, check_horizon, check_rows

#: A policy, or its rows ``(fresh [N], mixing [N, N + 1])``.
PolicyLike = Policy | tuple[ArrayLike, ArrayLike]


def rows_of(policy: PolicyLike, N: int | None = None, sizes: ArrayLike | None = None) -> tuple[Array, Array]:
    """Checked rows of a policy, or of a pair of arrays cut to N generations.

    Args:
        policy: a policy, or ``(fresh, mixing)``.
        N: number of generations; None takes all rows of a pair of arrays.
        sizes: ``[N]``, rows of the blocks n_0, ..., n_{N-1}, for a policy whose weights follow from them; None are
            equal blocks.

    Raises:
        InputError: a policy without N or sizes, more generations than rows, or rows that are not a policy's.
    """
    if isinstance(policy, tuple):
        fresh, mixing = check_rows(*policy)
        N = fresh.size if N is None else check_horizon(N)
        if fresh.size < N:
            raise InputError(f"{N} generations were asked for but the policy has {fresh.size} rows", "give more rows")
        return fresh[:N], mixing[:N, : N + 1]
    if sizes is not None:
        blocks = getattr(policy, "rows_of_blocks", None)
        if blocks is None:
            raise InputError(
                f"the weights of {type(policy).__name__} do not follow from block sizes", "leave sizes out"
            )
        return check_rows(*blocks(check_sizes(sizes, N))[:2])
    if N is None:
        raise InputError("a policy needs the number of generations", "call it as propagator(policy, N)")
    return check_rows(*policy.rows(check_horizon(N)))


def propagator(policy: PolicyLike, N: int | None = None, sizes: ArrayLike | None = None) -> Array:
    r"""Propagator of the innovations, :math:`G = (I - W)^{-1}`.

    Args:
        policy: a policy, or its rows ``(fresh [N], mixing [N, N + 1])``.
        N: number of generations.
        sizes: ``[N]``, rows of the blocks, see :func:`rows_of`; they enter exactly.

    Returns:
        ``[N, N]``, lower triangular with unit diagonal: row n - 1 holds :math:`G_{n,i}`, i = 0..N-1.

    Raises:
        InputError: see :func:`rows_of`.

    Example:
        >>> from driftlaw.theory.refresh import FixedFraction
        >>> propagator(FixedFraction(0.5), 3)
        array([[1.  , 0.  , 0.  ],
               [0.5 , 1.  , 0.  ],
               [0.25, 0.5 , 1.  ]])
    """
    _, mixing = rows_of(policy, N, sizes)
    size = mixing.shape[0]
    # Forward substitution only adds and multiplies non-negative numbers here: no cancellation at any N.
    return np.asarray(
        solve_triangular(np.eye(size) - mixing[:, 1:], np.eye(size), lower=True, unit_diagonal=True), dtype=np.float64
    )


def propagator_initial(policy: PolicyLike, N: int | None = None, sizes: ArrayLike | None = None) -> Array:
    r"""Propagator of the start, :math:`G_{n,\mathrm{init}}`, n = 1..N: what is left of f_0.

    Args:
        policy: a policy, or its rows ``(fresh [N], mixing [N, N + 1])``.
        N: number of generations.
        sizes: ``[N]``, rows of the blocks, see :func:`rows_of`.

    Returns:
        ``[N]``.
    """
    rows = rows_of(policy, N, sizes)
    return np.asarray(propagator(rows) @ rows[1][:, 0], dtype=np.float64)


def effective_memory(policy: PolicyLike, N: int | None = None, sizes: ArrayLike | None = None) -> Array:
    r"""How many generations of innovations are alive after n = 1..N generations, :math:`\sum_i G_{n,i}`.

    It is the factor by which equal, perfectly aligned innovations add up: :math:`D_n = J\,(\sum_i G_{n,i})^2`. For a
    fixed fraction it tends to 1/alpha, for replace it is n, for accumulate :math:`\sum_{k \le n} 1/k`.

    Returns:
        ``[N]``, in generations.
    """
    return np.asarray(propagator(policy, N, sizes).sum(axis=1), dtype=np.float64)
