r"""How varied one set is: mean distance of two of its rows, and how many distinct rows its law amounts to.

.. math:: \text{diversity} = E\,|\phi(X) - \phi(X')|, \qquad
          \text{effective number} = 1 / E\,k(X, X')^2, \quad k(x, x') = e^{-|\phi(x) - \phi(x')|^2 / (2 h^2)}

for independent X, X' of the law. The second is the order-2 Vendi score (Friedman and Dieng, TMLR 2023; the inverse of
sum K_ij^2 / n^2) with the diagonal left out: the score itself is at most n and grows with n, this one estimates a
property of the law. m equal clusters that are tight and far apart at scale h have the effective number m. Both are
U-statistics with the jackknife's variance, 4/n times the variance of the row means; the effective number has its
interval on the logarithmic scale. A model that collapses lowers both; noise raises both.
"""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.features.fitted import as_rows
from driftlaw.numerics.memory import PAIR_BYTES

#: distances in memory at once
BLOCK = PAIR_BYTES // 8


def diversity(x: Tensor, *, block: int = BLOCK) -> Estimate:
    """Mean distance between two rows, in units of the features.

    Args:
        x: ``[n, k]`` features.
        block: distances in memory at once.

    Raises:
        InputError: fewer than 4 rows, NaN or infinite rows.

    Example:
        >>> diversity(torch.tensor([[0.0], [0.0], [1.0], [1.0]])).value  # 4 of the 6 pairs differ
        0.6666666666666666
    """
    distances, _ = _row_means(as_rows(x, "the sample", 4), 1.0, block)
    n, value = len(distances), float(distances.mean())
    stderr = 2.0 * math.sqrt(float(distances.var()) / n)
    return Estimate.normal(value, stderr, n, "mean distance of two rows, U-statistic", dof=n - 1)


def effective_number(x: Tensor, bandwidth: float, *, block: int = BLOCK) -> Estimate:
    """Effective number of distinct rows at scale `bandwidth`, at least 1.

    Args:
        x: ``[n, k]`` features.
        bandwidth: h, units of the features.
        block: distances in memory at once.

    Returns:
        The estimate; without an upper end where no two rows are close at that scale.

    Raises:
        InputError: a bandwidth that is not positive, fewer than 4 rows, NaN or infinite rows.
    """
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise InputError(f"the bandwidth is {bandwidth}", "give a positive number")
    _, squares = _row_means(as_rows(x, "the sample", 4), bandwidth, block)
    n, mean = len(squares), float(squares.mean())
    method = f"1 / E k^2, Gaussian kernel h={bandwidth:.4g}, interval of its logarithm"
    pairs = n * (n - 1) / 2
    if mean * pairs < 1.0:
        least = pairs / 3.0  # no pair seen: E k^2 is below 3/pairs with 95 % confidence (rule of three)
        why = f"no two of the {n} rows are close at this scale: at least {least:.0f}, no upper end"
        return Estimate(1.0 / max(mean, 1.0 / pairs), math.nan, least, math.inf, n, method, (why,))
    relative = 2.0 * math.sqrt(float(squares.var()) / n) / mean
    spread = math.exp(min(float(stats.t.ppf(0.975, n - 1)) * relative, 700.0))
    return Estimate(1.0 / mean, relative / mean, max(1.0, 1.0 / mean / spread), spread / mean, n, method)


def _row_means(x: Tensor, bandwidth: float, block: int) -> tuple[Tensor, Tensor]:
    """Mean over the other rows of |x_i - x_j| and of k(x_i, x_j)^2, ``[n]`` each."""
    n = len(x)
    x = x - x.mean(dim=0)
    norms = x.square().sum(dim=1)
    distances, squares = torch.empty(2, n, dtype=torch.float64)
    for rows in torch.split(torch.arange(n), max(1, block // n)):
        square = (norms[rows, None] + norms - 2.0 * x[rows] @ x.T).clamp_(min=0.0)
        square[torch.arange(len(rows)), rows] = 0.0
        distances[rows] = square.sqrt().sum(dim=1) / (n - 1)
        squares[rows] = (square.mul_(-1.0 / bandwidth**2).exp_().sum(dim=1) - 1.0) / (n - 1)
    return distances, squares
