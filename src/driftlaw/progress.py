"""Progress, told one way by whatever takes long: ``progress(fraction, text)``."""

from __future__ import annotations

import math
from collections.abc import Callable

#: Called with the fraction done in [0, 1], NaN where the whole is not known, and what is being done.
Progress = Callable[[float, str], None]


def silent(fraction: float, text: str) -> None:
    """Ignore progress."""


def part(done: int, total: int | None) -> float:
    """The fraction done of a whole that may not be known.

    Example:
        >>> part(3, 4), part(3, None)
        (0.75, nan)
    """
    return min(1.0, done / total) if total else math.nan
