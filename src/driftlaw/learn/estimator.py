"""The learner's contract: fit data, get a generator.

An :class:`Estimator` is a small frozen configuration object. ``fit`` maps a training set to a :class:`Generator`; it is
a pure function of the data, the seed and the warm start, also when it was interrupted and resumed from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from driftlaw.process.score import Time


@runtime_checkable
class Generator(Protocol):
    """A learned law p_hat. ``log_prob(x) -> [n]`` is optional and means that its density is known."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws, ``[n, ...]`` float32."""
        ...

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Learned score at OU time t."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that rebuild this generator through :meth:`Estimator.load` (stored as safetensors)."""
        ...


class Checkpoint(Protocol):
    """Where a long fit saves its progress. Writes are atomic; `load` returns the last complete one or None."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and JSON metadata of the last checkpoint."""
        ...

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        ...


@dataclass(frozen=True)
class FitContext:
    """Everything a fit may use besides its data.

    Args:
        seed: seed of this fit's named streams (already specific to the study and generation).
        held_out: real rows never trained on, for held-out loss and early stopping; None if there are none.
        warm_start: the previous generation's generator, or None for the first.
        checkpoint: where to save and resume, or None.
        progress: called as ``progress(fraction in [0, 1], short text)``.
        device: "cpu" or "cuda".
    """

    seed: int = 0
    held_out: Tensor | None = None
    warm_start: Generator | None = None
    checkpoint: Checkpoint | None = None
    progress: Callable[[float, str], None] = field(default=lambda fraction, text: None)
    device: str = "cpu"


@runtime_checkable
class Estimator(Protocol):
    """A learner's configuration."""

    def fit(self, data: Tensor, context: FitContext) -> Generator:
        """Learn a generator from ``[n, ...]`` data."""
        ...

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> Generator:
        """Rebuild a generator from :meth:`Generator.state`; `shape` is that of one row."""
        ...

    def config(self) -> dict[str, Any]:
        """YAML-ready description with a ``kind``; :func:`driftlaw.learn.build` inverts it."""
        ...
