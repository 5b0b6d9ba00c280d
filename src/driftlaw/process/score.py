r"""Scores: grad log-densities of a diffused law, exact, learned or perturbed.

Forward process (variance preserving, OU clock): :math:`dX = -\tfrac12 X\,dt + dB`, so :math:`X_t = a_t X_0 +
\sigma_t Z` with :math:`a_t = e^{-t/2}` and :math:`\sigma_t^2 = 1 - a_t^2`. A score is :math:`s_t(x) = \nabla \log
q_t(x)`. Exact, learned and perturbed scores are all a :class:`Score`; nothing here is subclassed, only wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

#: A scalar time or one time per sample, ``[n]``.
Time = float | Tensor
#: Anything that maps ``(x [n, ...], t)`` to a vector field of the shape of x.
Field = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Score(Protocol):
    """The score of a diffused law. ``divergence(x, t) -> [n]`` is optional: see :func:`divergence_of`."""

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score at `x` (``[n, ...]``) and OU time `t` (scalar or ``[n]``); same shape as `x`."""
        ...


@runtime_checkable
class Law(Protocol):
    """A probability law with a density at time 0."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws, ``[n, ...]``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, ``[n]``."""
        ...
