"""The rows of each training set: one number, a list, a rule that grows, or a function of the generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from driftlaw.config import Described, check_keys, importable, imported, named, shown
from driftlaw.errors import ConfigError

#: Fewest and most rows of one training set.
LEAST, MOST = 2, 100_000_000


@dataclass(frozen=True)
class Growing(Described):
    """Sizes that grow by a factor: s(k) = round(start * factor^(k-1)).

    Args:
        start: rows of the first training set.
        factor: of growth from one generation to the next; below 1 they shrink.

    Raises:
        ConfigError: no whole start >= 2, or a factor that is not positive.

    Example:
        >>> [Growing(100, 1.5)(k) for k in (1, 2, 3)]
        [100, 150, 225]
    """

    start: int
    factor: float = 2.0
    kind: ClassVar[str] = "growing"

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _size("samples.start", self.start))
        number = isinstance(self.factor, int | float) and not isinstance(self.factor, bool)
        if not number or not 0 < self.factor < float("inf"):
            raise ConfigError(f"samples.factor = {shown(self.factor)}", "use a factor above 0, such as 1.5")
        object.__setattr__(self, "factor", float(self.factor))

    def __call__(self, k: int) -> int:
        """Rows of generation k, k >= 1."""
        return round(min(self.start * self.factor ** min(k - 1, 1000), 2.0 * MOST))


#: One size, one for each generation, or a rule k -> size.
Sizes = int | tuple[int, ...] | Callable[[int], int]


def rule(samples: Any) -> Sizes:
    """The setting ``samples`` of a study after a check.

    Args:
        samples: a number, a list (one for each generation), ``{kind: growing, start:, factor:}``, a function of the
            generation 1, 2, ..., or ``{"function": "module:name"}`` of one.

    Raises:
        ConfigError: none of these, or a size out of range.
    """
    if isinstance(samples, Mapping) and set(samples) == {"function"}:
        samples = imported(samples["function"], "the rule of samples")
    if isinstance(samples, Mapping):
        kind = samples.get("kind")
        if kind != Growing.kind:
            raise ConfigError(f"samples has kind {shown(kind)}", "the rule is {kind: growing, start: 100, factor: 1.5}")
        given = {str(k): v for k, v in samples.items() if k != "kind"}
        check_keys("samples", given, ("start", "factor"), ("start",))
        return Growing(**given)
    if isinstance(samples, Iterable) and not isinstance(samples, str):
        listed = tuple(_size(f"samples[{i}]", n) for i, n in enumerate(samples))
        if not listed:
            raise ConfigError("samples is an empty list", "give a size for each generation")
        return listed
    if callable(samples):
        found: Callable[[int], int] = samples
        return found
    return _size("samples", samples)


def size(samples: Sizes, k: int) -> int:
    """Rows of generation k, k >= 1; after the end of a list its last size goes on.

    Raises:
        ConfigError: a rule's answer that is no size.
    """
    if isinstance(samples, int):
        return samples
    if isinstance(samples, tuple):
        return samples[min(k, len(samples)) - 1]
    return _size(f"samples of generation {k}", samples(k))


def described(samples: Sizes) -> Any:
    """Plain data that :func:`rule` inverts; of a function its name."""
    if isinstance(samples, int):
        return samples
    if isinstance(samples, tuple):
        return list(samples)
    return samples.config() if isinstance(samples, Growing) else {"function": named(samples)}


def not_rebuilt(samples: Sizes) -> dict[str, str]:
    """A function that its description does not give back."""
    if not callable(samples) or isinstance(samples, Growing):
        return {}
    alike = importable(samples, "the rule of samples")
    return {} if alike else {"samples": named(samples).replace(":", ".")}


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not LEAST <= value <= MOST:
        raise ConfigError(f"{name} = {shown(value)} is not valid: rows are whole numbers from {LEAST} to {MOST:,}")
    return int(value)
