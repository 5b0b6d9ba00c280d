r"""Kernel density estimate: the learner of [KTV]'s mixture study, without its simulation.

The KDE of rows :math:`x_j` with bandwidth h is :math:`Q = \tfrac1n \sum_j N(x_j, h^2 I)`; the model is
:math:`P_{t_0} Q` (see :mod:`driftlaw.learn.exact`). Its second moment obeys, in expectation over the
draws of the rows from q, :math:`m' = e^{-t_0}(m_q + d h^2) + d(1 - e^{-t_0})` (theory section 6).

Rules for the bandwidth, with :math:`\sigma^2` the mean over coordinates of the rows' variance: Scott
:math:`h = \sigma n^{-1/(d+4)}`, Silverman :math:`h = \sigma (4/((d+2)n))^{1/(d+4)}` (Silverman 1986, eq. 4.14 and
table 4.1: optimal for normal data). [KTV] (arXiv 2602.16601) use h = 0.6 in their mixture study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from driftlaw.config import Described, validate
from driftlaw.errors import InputError
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.exact import ExactModel, check_state
from driftlaw.learn.rows import check_rows
from driftlaw.process.laws.kernel_sum import KernelMixture

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class KDE(Described):
    """Gaussian kernel density estimate, sampled at t0.

    Args:
        bandwidth: h >= 0 in the units of the data, or the rule "scott" (the default) or "silverman". 0 is the empirical
        law.
        t0: early-stopping time on the OU clock, >= 0.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> model = KDE(0.6, t0=0.02).fit(torch.randn(100, 2, generator=g), FitContext())
        >>> model.sample(5, g).shape
        torch.Size([5, 2])
    """

    kind: ClassVar[str] = "kde"
    order_free: ClassVar[bool] = True
    bandwidth: Number | Literal["scott", "silverman"] = "scott"
    t0: Number = 0.0

    def __post_init__(self) -> None:
        validate(self)

    def fit(self, data: Tensor, context: FitContext = ALONE) -> KDEModel:
        """The KDE of ``[n, ...]`` rows, n >= 2. Deterministic; nothing in `context` is used.

        Raises:
            InputError: unusable rows.
        """
        data = check_rows(data)
        flat = data.flatten(1)
        return KDEModel(KernelMixture(flat, self._width(flat)), self.t0, tuple(data.shape[1:]))

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> KDEModel:
        """Restore the model from :meth:`ExactModel.state`."""
        check_state(state, ("centres", "bandwidth", "t0"), "centres", shape)
        return KDEModel(KernelMixture(state["centres"], float(state["bandwidth"])), float(state["t0"]), shape)

    def population_tail(self, v_q: float) -> float | None:
        r"""Largest per-coordinate component variance of the law averaged over training draws.

        :math:`e^{-t_0}(v_q + h^2) + 1 - e^{-t_0}`: averaged over its rows the model is q, blurred by h, diffused to t0.
        It decides whether chi2 against another mixture is finite (theory sections 5 and 6).

        Args:
            v_q: the same number for the training law q.

        Returns:
            The variance; None for a bandwidth rule, whose h depends on the rows.
        """
        if isinstance(self.bandwidth, str):
            return None
        a2 = math.exp(-self.t0)
        return a2 * (v_q + self.bandwidth**2) + 1 - a2

    def _width(self, flat: Tensor) -> float:
        if not isinstance(self.bandwidth, str):
            return float(self.bandwidth)
        n, d = flat.shape
        scale = math.sqrt(float(flat.double().var(dim=0).mean()))
        factor = 1.0 if self.bandwidth == "scott" else (4 / (d + 2)) ** (1 / (d + 4))
        return scale * factor * float(n ** (-1 / (d + 4)))


class KDEModel(ExactModel[KernelMixture]):
    """P_{t0} of a kernel density estimate."""

    @property
    def bandwidth(self) -> float:
        """H in the units of the data, resolved."""
        return self.fitted.bandwidth

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of P_{t0} KDE at ``[n, ...]``, nats, ``[n]``.

        Raises:
            InputError: bandwidth and t0 are both 0, so that there is no density.
        """
        if self.law.bandwidth == 0:
            raise InputError(
                "a KDE with bandwidth 0 and t0 = 0 is the empirical law and has no density",
                "set bandwidth or t0 above 0",
            )
        return super().log_prob(x)
