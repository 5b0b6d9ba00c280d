r"""Row counts: how many rows each generation adds, and the weights that follow from them.

Block j holds :math:`n_j` rows: block 0 is the kept real set, block j the stored samples of :math:`\hat p^{\,j}`.
Generation k trains on block sizes given by a rule :math:`n_{k-1} = s(k)`. A policy that pools blocks whole weighs them
by their sizes,

.. math:: q_i = \sum_{j \le i} \frac{n_j}{S_i}\, \hat p^{\,j}, \qquad S_i = n_0 + \dots + n_i,

and its propagator is :math:`G_{N,N-1} = 1`, else :math:`G_{N,i} = n_{i+1} / S_{i+1}`: the pool's mean
:math:`A_i = \sum_{j \le i} n_j f_j` obeys :math:`A_{i+1} = A_i S_{i+1}/S_i + n_{i+1} \delta_i`. Equal blocks give
:math:`1/(i+2)`. Blocks that grow by a factor r keep the share :math:`(r-1)/r` of every innovation for ever, so that the
memory grows like that of a window, not like the harmonic sum.

Reference: this project, theory section 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftlaw.config import shown
from driftlaw.errors import InputError

Array = NDArray[np.float64]


def check_sizes(sizes: ArrayLike, N: int | None = None) -> Array:
    """Block sizes ``[N]`` as float64.

    Raises:
        InputError: not a list of N whole positive numbers.
    """
    found = np.asarray(sizes, dtype=np.float64)
    if found.ndim != 1 or found.size < 1 or not (found >= 1).all() or (found != np.floor(found)).any():
        raise InputError(f"block sizes are whole numbers >= 1, got {shown(sizes)}", "give n_0, ..., n_{N-1}")
    if N is not None and found.size != N:
        raise InputError(f"{found.size} block sizes for {N} generations", f"give n_0, ..., n_{N - 1}")
    return found


def pooled(sizes: ArrayLike) -> tuple[Array, Array]:
    """Weights of blocks that are pooled whole.

    Args:
        sizes: ``[N]``, n_0, ..., n_{N-1}.

    Returns:
        ``(mixing [N, N + 1], totals [N])``: rows n_j / S_i for j <= i, and S_i.

    Example:
        >>> pooled([2, 6])[0]
        array([[1.  , 0.  , 0.  ],
               [0.25, 0.75, 0.  ]])
    """
    n = check_sizes(sizes)
    whole = np.tril(np.broadcast_to(n, (n.size, n.size)))
    totals = n.cumsum()
    return np.column_stack([whole / totals[:, None], np.zeros(n.size)]), totals


def pooled_propagator(sizes: ArrayLike) -> Array:
    """Closed form of the propagator of pooled blocks, ``[N, N]``: 1 on the diagonal, n_{i+1} / S_{i+1} before it.

    Example:
        >>> pooled_propagator([1, 1, 1])[-1]
        array([0.5       , 0.33333333, 1.        ])
    """
    n = check_sizes(sizes)
    share = np.append((n / n.cumsum())[1:], 0.0)
    return np.asarray(np.tril(np.broadcast_to(share, (n.size, n.size)), -1) + np.eye(n.size))
