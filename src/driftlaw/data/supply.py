r"""The stream of fresh data of one study, addressed by position so that any generation can be replayed alone.

A finite training part of :math:`M` rows is read through seeded permutations :math:`\pi_0, \pi_1, \ldots` of
:math:`\{0, \ldots, M-1\}`: position :math:`k` is row :math:`\pi_{\lfloor k/M \rfloor}(k \bmod M)`. Epoch 0 is sampling
without replacement; positions :math:`k \ge M` are *reused* rows and are refused unless `reuse` is set. A density draws
from the named stream of (seed, start). Nothing is remembered between calls: a take is a pure function of
(seed, start, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftlaw.data.source import Batch, DataSource
from driftlaw.errors import DataExhaustedError, InputError
from driftlaw.seeding import generator


@dataclass(frozen=True)
class Taken:
    """Rows taken from the supply.

    Args:
        batch: the rows.
        reused: how many of them had been handed out before because the source is finite.
    """

    batch: Batch
    reused: int

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True)
class FreshSupply:
    """Fresh rows of a source in one fixed order.

    Args:
        source: where they come from.
        seed: of the order, or of the draws of a density.
        reuse: when a finite source has no unused row left, go through it again in a new order (True) or stop (False).

    Example:
        >>> import numpy as np
        >>> from driftlaw.data.arrays import ArraySource
        >>> supply = FreshSupply(ArraySource(np.arange(8.0)[:, None], held_out=4), seed=0, reuse=True)
        >>> supply.take(3, start=2).reused
        1
    """

    source: DataSource
    seed: int
    reuse: bool = False

    def take(self, n: int, start: int) -> Taken:
        """Rows at positions ``start, ..., start + n - 1``.

        For finite sources ``take(a + b, s)`` holds the rows of ``take(a, s)`` followed by those of ``take(b, s + a)``.
        For densities different `start` values are independent, so a caller must advance `start` by what it took.

        Args:
            n: rows wanted, 0 or more.
            start: rows taken before.

        Raises:
            DataExhaustedError: a finite source has too few unused rows and `reuse` is off.
            InputError: a negative number.
        """
        if n < 0 or start < 0:
            raise InputError(f"take(n={n}, start={start}) of {self.source.name}", "both must be 0 or more")
        size = self.source.size
        if size is None:
            return Taken(self.source.draw(n, generator(self.seed, "data", "fresh", start)), 0)
        reused = start + n - max(start, size) if start + n > size else 0
        if reused and not self.reuse:
            raise DataExhaustedError(
                f"{self.source.name} has {max(size - start, 0)} of its {size} fresh rows left and {n} were asked for",
                "take fewer samples or a smaller alpha, use a larger source, or set reuse: true to draw rows again",
            )
        return Taken(self.source.rows(self._order(size, n, start)), reused)

    def _order(self, size: int, n: int, start: int) -> Tensor:
        parts = [torch.empty(0, dtype=torch.int64)]
        for epoch in range(start // size, (start + n - 1) // size + 1 if n else 0):
            order = torch.randperm(size, generator=generator(self.seed, "data", "epoch", epoch))
            parts.append(order[max(start - epoch * size, 0) : start + n - epoch * size])
        return torch.cat(parts)
