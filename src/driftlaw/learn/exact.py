r"""Generators whose learned law is known in closed form: nothing is simulated.

A closed-form learner fits a law Q at time 0 (kernel or Gaussian mixture). Its score at OU time t is that of Q diffused
by t, and the reverse process of that score ends, at t0, exactly in :math:`P_{t_0} Q` (theory section 2: it is the time
reversal of the forward process). So the generator draws from :math:`P_{t_0} Q` directly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.learn.rows import check_shape
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Time

LawT = TypeVar("LawT", KernelMixture, GaussianMixture)


class ExactModel(Generic[LawT]):
    """The law P_{t0} Q of a fitted law Q.

    Args:
        fitted: Q, on flattened rows.
        t0: OU time of the sampled law, >= 0.
        shape: shape of one row.
        training: numbers of the fit.

    Attributes:
        law: P_{t0} Q, the law that :meth:`sample` draws from (on flattened rows).
    """

    def __init__(
        self, fitted: LawT, t0: float, shape: tuple[int, ...], training: Mapping[str, float] | None = None
    ) -> None:
        self.fitted: LawT = fitted
        self.t0, self.shape, self.training = t0, shape, dict(training or {})
        self.law: LawT = fitted.diffuse(t0) if t0 > 0 else fitted

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of P_{t0} Q, ``[n, ...]`` float32."""
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        return self.law.sample(n, generator).view(n, *self.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of P_{t0} Q at ``[n, ...]``, nats, ``[n]``."""
        return self.law.log_prob(self._flat(x))

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score of Q diffused by t (not by t0 + t), shape of `x`."""
        return self.fitted.score(self._flat(x), t).view(x.shape)

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Divergence of :meth:`score`, ``[n]``."""
        return self.fitted.divergence(self._flat(x), t)

    def state(self) -> dict[str, Tensor]:
        """Tensors of Q and t0."""
        t0 = torch.tensor(self.t0, dtype=torch.float64)
        if isinstance(self.fitted, GaussianMixture):
            law = self.fitted
            return {"weights": law.weights, "means": law.means, "covariances": law.covariances, "t0": t0}
        bandwidth = torch.tensor(self.fitted.bandwidth, dtype=torch.float64)
        return {"centres": self.fitted.centres, "bandwidth": bandwidth, "t0": t0}

    def _flat(self, x: Tensor) -> Tensor:
        check_shape(x, self.shape, "the argument")
        return x.flatten(1)


def load_mixture(state: Mapping[str, Tensor], shape: tuple[int, ...]) -> ExactModel[GaussianMixture]:
    """Rebuild a Gaussian-mixture generator from its state.

    Raises:
        InputError: the state is of another kind or of rows of another shape.
    """
    check_state(state, ("weights", "means", "covariances", "t0"), "means", shape)
    fitted = GaussianMixture(state["weights"], state["means"], state["covariances"])
    return ExactModel(fitted, float(state["t0"]), shape)


def check_state(state: Mapping[str, Tensor], keys: tuple[str, ...], points: str, shape: tuple[int, ...]) -> None:
    """Refuse a state with other tensors than `keys`, or whose tensor `points` does not hold rows of `shape`."""
    if set(state) != set(keys) or state[points].ndim != 2 or state[points].shape[1] != math.prod(shape):
        raise InputError(
            f"the state holds {', '.join(f'{k} {list(v.shape)}' for k, v in sorted(state.items()))}",
            f"expected {', '.join(keys)} for rows of shape {list(shape)}",
        )
