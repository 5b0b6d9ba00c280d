r"""When negative guidance helps: the weight that is best, and what it gains, from a Gram matrix.

Let e be the error of a model and e' what one more round on its own samples adds. Guidance by w has the error
:math:`e - w e'` (in scores exactly, in weights and in L2(p) to first order), so with :math:`\Gamma` the Gram matrix of
(e, e')

.. math:: \frac{|e - w e'|^2}{|e|^2} = 1 - 2 w \kappa \rho + w^2 \rho^2, \qquad
          \kappa = \frac{\langle e, e' \rangle}{|e||e'|}, \quad \rho = \frac{|e'|}{|e|} .

It helps for :math:`0 < w < 2\kappa/\rho`, best at :math:`w^* = \kappa/\rho`, where :math:`1 - \kappa^2` is left.
Errors of independent fits (:math:`\kappa = 0`) cannot be guided away; a shared bias (:math:`\kappa = 1`) can.
:math:`\kappa` of successive innovations of a recursion without fresh data is this alignment: a run, or an audit of
one's own generations, measures it (docs/derivations.md section 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftlaw.errors import InputError


@dataclass(frozen=True)
class Extrapolation:
    """What negative guidance can do.

    Args:
        alignment: kappa of the error and the error of one more round, in [-1, 1].
        ratio: rho, the size of the second over that of the first.
    """

    alignment: float
    ratio: float

    @property
    def weight(self) -> float:
        """The best w >= 0; 0 where no guidance helps."""
        return max(0.0, self.alignment / self.ratio)

    @property
    def limit(self) -> float:
        """The w below which guidance helps."""
        return 2 * self.weight

    def error(self, weight: float) -> float:
        """Squared error with guidance by `weight` over that without."""
        return 1 - 2 * weight * self.alignment * self.ratio + (weight * self.ratio) ** 2


def extrapolation(gram: np.ndarray | Sequence[Sequence[float]]) -> Extrapolation:
    """The effect of guidance from the ``[2, 2]`` Gram matrix of (error, error of one more round).

    Raises:
        InputError: not a symmetric positive semi-definite matrix of two errors that are not zero.

    Example:
        >>> shared = extrapolation([[1.0, 0.9], [0.9, 1.0]])
        >>> shared.weight, round(shared.error(shared.weight), 2)
        (0.9, 0.19)
    """
    g = np.asarray(gram, float)
    if g.shape != (2, 2) or not np.isfinite(g).all() or not np.isclose(g[0, 1], g[1, 0]):
        raise InputError(f"a Gram matrix of shape {list(g.shape)}", "give a symmetric 2 x 2 matrix")
    a, b, c = float(g[0, 0]), float(g[1, 1]), float(g[0, 1])
    if min(a, b) <= 0 or c * c > a * b * (1 + 1e-9):
        raise InputError(f"{g.tolist()} is not the Gram matrix of two errors", "sizes are positive, |c|^2 <= a b")
    return Extrapolation(max(-1.0, min(1.0, c / math.sqrt(a * b))), math.sqrt(b / a))
