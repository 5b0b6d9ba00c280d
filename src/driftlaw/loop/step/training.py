"""What a generation learns from: rows, and for each where it came from and of which class it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from driftlaw.learn.conditional.embedding import UNKNOWN
from driftlaw.learn.estimator import Model
from driftlaw.loop.record import Lineage

#: Origin of real rows that are kept from generation 0.
KEPT = -1


@dataclass(frozen=True)
class TrainingSet:
    """What a generation learns from.

    Args:
        rows: ``[n, ...]``.
        lineage: how many came from where.
        origin: ``[n]``: 0 fresh, -1 kept real, j model j.
        labels: ``[n]``, -1 where a row has none; None where no row has one.
    """

    rows: Tensor
    lineage: Lineage
    origin: Tensor
    labels: Tensor | None

    def shuffled(self, generator: torch.Generator) -> TrainingSet:
        """The same rows in random order, so that their order does not say where they came from."""
        order = torch.randperm(len(self.rows), generator=generator)
        labels = None if self.labels is None else self.labels[order]
        return TrainingSet(self.rows[order], self.lineage, self.origin[order], labels)


@dataclass(frozen=True)
class Past:
    """The generations before: real rows of generation 0, stored samples, (lazily) models, classes of the samples."""

    samples: Callable[[int], Tensor]
    model: Callable[[int], Model]
    labels: Callable[[int], Tensor | None] = lambda j: None


def largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Integers that sum to `total`, each within 1 of ``weights * total``; ties go to the first."""
    share = weights / weights.sum() * total
    counts: np.ndarray = np.floor(share + 1e-9).astype(int)
    order = np.argsort(-(share - counts).round(9), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def together(parts: Sequence[Tensor], labels: Sequence[Tensor | None]) -> Tensor | None:
    """Labels of all parts, -1 for rows of a part that has none; None if no part has any."""
    if all(y is None for y in labels):
        return None
    return torch.cat([torch.full((len(x),), UNKNOWN) if y is None else y for x, y in zip(parts, labels, strict=True)])
