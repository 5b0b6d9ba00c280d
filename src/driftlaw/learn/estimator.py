"""The learner's contract: fit data, get a model.

An :class:`Estimator` is a small frozen configuration object. ``fit`` maps a training set to a :class:`Model`; it is
a pure function of the data, the seed and the warm start, also when it was interrupted and resumed from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from driftlaw.process.score import Time
from driftlaw.progress import Progress, silent


@runtime_checkable
class Model(Protocol):
    """A learned law p_hat.

    ``log_prob(x) -> [n]`` (nats) is optional: with it alone, divergences are measured. A ``score`` that raises
    ``NotImplementedError`` means that there is none. ``draw_labels(n, generator) -> [n]`` is optional, too: `sample`
    then takes them as ``labels=``, and they are stored with the samples.
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws, ``[n, ...]`` float32; without a generator from fresh entropy."""
        ...

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Learned score at OU time t."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that rebuild this model through :meth:`Estimator.load` (stored as safetensors)."""
        ...


class Checkpoint(Protocol):
    """Where a long fit saves its progress. Writes are atomic; `load` returns the last complete one or None."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and JSON metadata of the last checkpoint."""
        ...

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        ...


class Chunks(Protocol):
    """Where long sampling keeps its finished parts. A model that can use it has ``sample_in_chunks(n, generator,
    chunks, progress)``, which returns what ``sample(n, generator)`` does.
    """

    def load(self, index: int, identity: str) -> Tensor | None:
        """Part `index`, or None when it is not there whole, or belongs to another model or other settings."""
        ...

    def save(self, index: int, rows: Tensor, identity: str) -> None:
        """Keep part `index` of what `identity` names."""
        ...


@dataclass(frozen=True)
class FitContext:
    """Everything a fit may use besides its data.

    Args:
        seed: seed of this fit's named streams (already specific to the study and generation).
        held_out: real rows never trained on, for held-out loss and early stopping; None if there are none.
        warm_start: the previous generation's model, or None for the first.
        checkpoint: where to save and resume, or None.
        progress: called as ``progress(fraction in [0, 1], short text)``.
        device: "cpu" or "cuda".
        generation: index of the model that is fitted, from 1; 0 outside a run.
        samples: rows that will be asked of the model; 0 when that is not known.
        folder: folder of this generation in the run directory, where a learner may keep files of its own; None outside
            a run.
        previous: the same folder of the generation before; None for the first.
        origin: ``[n]`` int64, where each row came from: 0 fresh real, -1 real kept from generation 0, j a sample of
            model j; None outside a run.
        labels: ``[n]`` int64 class of each row, -1 where it is not known; None where no row has one.
        classes: their names.
        held_out_labels: classes of the held-out rows.
    """

    seed: int = 0
    held_out: Tensor | None = None
    warm_start: Model | None = None
    checkpoint: Checkpoint | None = None
    progress: Progress = silent
    device: str = "cpu"
    generation: int = 0
    samples: int = 0
    folder: Path | None = None
    previous: Path | None = None
    origin: Tensor | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    held_out_labels: Tensor | None = None


#: Outside a run.
ALONE = FitContext()


@runtime_checkable
class Estimator(Protocol):
    """A learner's frozen configuration; fitting it returns a model.

    Rows come in random order; a learner that says ``order_free = True`` (it shuffles by itself, or needs no order) gets
    them as they were put together.
    """

    def fit(self, data: Tensor, context: FitContext = ALONE) -> Model:
        """Learn a model from ``[n, ...]`` data."""
        ...

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> Model:
        """Rebuild a model from :meth:`Model.state`; `shape` is that of one row."""
        ...

    def config(self) -> dict[str, Any]:
        """YAML-ready description with a ``kind``; :func:`driftlaw.learn.build` inverts it."""
        ...
