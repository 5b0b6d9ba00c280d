"""Numbers for other tools: ``dl.metrics(generation)`` as a flat mapping, and :class:`DriftMetric` for training loops.

The module is callable: ``driftlaw.metrics(generation)`` is :func:`driftlaw.metrics.flat.flatten`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from driftlaw.metrics.drift import DriftMetric
from driftlaw.metrics.flat import flatten

__all__ = ["DriftMetric", "flatten"]


class _Callable(ModuleType):
    def __call__(self, generation: Any) -> dict[str, float]:
        return flatten(generation)


sys.modules[__name__].__class__ = _Callable
#: ``driftlaw.metrics`` is this module, however it is reached.
metrics = sys.modules[__name__]
