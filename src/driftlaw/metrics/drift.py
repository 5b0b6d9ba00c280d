"""Drift as a metric of a training loop, with the interface of torchmetrics: update, compute, reset, forward.

State is one sketch: constant memory, exact under merging. In a distributed job ``compute`` merges the sketches of all
ranks first: each gets what one process with all rows would get, up to rounding and the choice of blocks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from driftlaw.auditing.audit import audit
from driftlaw.auditing.sketching import sketch
from driftlaw.errors import InputError
from driftlaw.measure.sketch.features import AUTO
from driftlaw.measure.sketch.sketch import Sketch

#: Fewest rows that have a drift.
FEWEST = 4


class DriftMetric:
    """Drift of generated rows from real ones, with interval and p-value.

    Args:
        real: real rows in any form that :func:`driftlaw.sketch` takes, or a sketch of them (or its file).
        features: as in :func:`driftlaw.sketch`; those of a sketch stay.
        options: more arguments of :func:`driftlaw.sketch`, such as ``dimension`` or ``seed``.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> metric = DriftMetric(torch.randn(2000, 3, generator=g).numpy(), "identity")
        >>> metric.update(torch.randn(500, 3, generator=g))
        >>> metric.update(torch.randn(500, 3, generator=g))
        >>> bool(metric.compute()["p_value"] > 1e-4)
        True
    """

    higher_is_better, is_differentiable, full_state_update = False, False, False

    def __init__(self, real: Any, features: Any = AUTO, **options: Any) -> None:
        given = Sketch.load(real) if isinstance(real, str | Path) and Path(real).suffix == ".sketch" else real
        self.real: Sketch = given if isinstance(given, Sketch) else sketch(given, features, **options)
        self._device = torch.device("cpu")
        self.reset()

    def reset(self) -> None:
        """Forget all generated rows."""
        self._seen = self._empty()

    def update(self, rows: Tensor) -> None:
        """Add generated rows ``[n, ...]``.

        Raises:
            InputError: rows of another shape than the real ones, NaN or infinities.
        """
        self._add(rows)

    def compute(self) -> dict[str, Tensor]:
        """Drift of all rows of all ranks, as scalars on the device of the inputs.

        Returns:
            ``drift`` with ``drift_low`` and ``drift_high``, ``p_value``, and ``n``.

        Raises:
            InputError: fewer than 4 rows.
        """
        return self._drift(self._everywhere())

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Add rows and give the drift of these alone."""
        return self._drift(self._add(rows))

    __call__ = forward

    def _empty(self) -> Sketch:
        return Sketch(self.real.features, self.real.blocks, block=self.real.block)

    def _add(self, rows: Tensor) -> Sketch:
        """Add rows, and give the sketch of these alone."""
        part = sketch(rows.detach().cpu().numpy(), like=self.real, first_row=self._seen.n)
        self._device = rows.device
        self._seen = self._seen.merge(part) if self._seen.n else part
        return part

    def _drift(self, seen: Sketch) -> dict[str, Tensor]:
        if seen.n < FEWEST:
            raise InputError(f"{seen.n} generated rows have no drift", f"update with at least {FEWEST} first")
        found = audit(self.real, [seen]).generations[0]
        numbers = {"drift": found.drift.value, "drift_low": found.drift.low, "drift_high": found.drift.high}
        numbers |= {"p_value": found.p_value.value, "n": float(seen.n)}
        return {name: torch.tensor(x, dtype=torch.float64, device=self._device) for name, x in numbers.items()}

    def _everywhere(self) -> Sketch:
        """The sketches of all ranks, merged; this one's outside a distributed job."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self._seen
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rank.sketch"
            self._seen.save(path)
            mine = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
            sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(distributed.get_world_size())]
            distributed.all_gather(sizes, torch.tensor([len(mine)], device=device))
            padded = torch.zeros(int(max(sizes)), dtype=torch.uint8, device=device)
            padded[: len(mine)] = mine
            parts = [torch.zeros_like(padded) for _ in sizes]
            distributed.all_gather(parts, padded)
            merged: Sketch | None = None
            for part, size in zip(parts, sizes, strict=True):
                path.write_bytes(part[: int(size)].cpu().numpy().tobytes())
                one = Sketch.load(path)
                if one.n:
                    merged = one if merged is None else merged.merge(one)
        return self._seen if merged is None else merged
