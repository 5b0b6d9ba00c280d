"""Published closed forms simulated: each measured number beside its formula, with a z-score (theory section 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from driftlaw.estimate import CLEAR, Estimate
from driftlaw.records import Record
from driftlaw.reproduce.laws import early_stopping, finite, gaussian, regression
from driftlaw.seeding import numpy_generator


@dataclass(frozen=True)
class Law(Record):
    """One closed form and its simulation.

    Args:
        name: what it says.
        formula: in symbols.
        source: the paper on the topic; formulas are derived again here.
        expected: value of the formula.
        measured: mean over independent repetitions.
    """

    json_extra: ClassVar[tuple[str, ...]] = ("z", "agrees")
    name: str
    formula: str
    source: str
    expected: float
    measured: Estimate

    @property
    def z(self) -> float:
        """Distance from the formula in standard errors."""
        return (self.measured.value - self.expected) / self.measured.stderr

    @property
    def agrees(self) -> bool:
        """Whether the distance is within 4.5 standard errors."""
        return abs(self.z) < CLEAR


Simulated = tuple[str, str, str, float, NDArray[np.float64]]
ALL: tuple[Callable[[np.random.Generator], Simulated], ...] = (
    gaussian.replaced,
    gaussian.accumulated,
    gaussian.accumulated_mean,
    gaussian.golden_ratio,
    regression.replaced,
    finite.fresh,
    early_stopping.second_degree,
    early_stopping.third_degree,
)


def laws(seed: int = 0) -> tuple[Law, ...]:
    """Simulate every law, a few seconds on one core.

    Args:
        seed: of the named streams.
    """
    found = []
    for law in ALL:
        stream = f"{law.__module__.rsplit('.', 1)[-1]}.{law.__name__}"
        name, formula, source, expected, values = law(numpy_generator(seed, "laws", stream))
        found.append(Law(name, formula, source, expected, Estimate.mean(values, "independent repetitions")))
    return tuple(found)
