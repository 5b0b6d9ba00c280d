"""The target: where fresh real data comes from.

A :class:`DataSource` draws fresh rows and owns a held-out part that never overlaps with what it draws. Infinite
sources (a density) have ``size = None`` and draw independent samples. Finite sources draw without replacement within
one call; a study that needs many calls without replacement goes through :class:`driftlaw.data.supply.FreshSupply`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of data.

    Args:
        x: ``[n, d]`` vectors or ``[n, c, h, w]`` images in [-1, 1], float32.
        y: ``[n]`` int64 class labels, or None.
    """

    x: Tensor
    y: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])


@runtime_checkable
class DataSource(Protocol):
    """A target law that can be sampled. ``log_prob(x) -> [n]`` is optional and means that the density is known."""

    name: str
    shape: tuple[int, ...]
    #: number of rows that can be drawn without reuse; None when the source is a density.
    size: int | None
    #: names of the classes when labels exist.
    classes: tuple[str, ...] | None

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """`n` fresh rows: independent draws of a density, or distinct rows of a finite training part."""
        ...

    def rows(self, index: Tensor) -> Batch:
        """Rows `index` (``[m]`` int64) of the training part of a finite source."""
        ...

    def held_out(self, n: int, generator: torch.Generator) -> Batch:
        """`n` rows that :meth:`draw` and :meth:`rows` never return (a density just draws again)."""
        ...

    def config(self) -> dict[str, Any]:
        """YAML-ready description with a ``kind``; :func:`driftlaw.data.build` inverts it."""
        ...
