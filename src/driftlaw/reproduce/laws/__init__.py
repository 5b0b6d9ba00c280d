"""Published closed forms simulated: each measured number beside its formula, with a z-score (theory section 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from driftlaw.estimate import CLEAR, Estimate
from driftlaw.records import Record
from driftlaw.reproduce.laws import early_stopping, finite, gaussian, regression
from driftlaw.reproduce.laws.simulation import Simulated
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
        side: "identity" where the formula is the expectation, "upper" where it bounds it.
    """

    json_extra: ClassVar[tuple[str, ...]] = ("z", "agrees")
    name: str
    formula: str
    source: str
    expected: float
    measured: Estimate
    side: Literal["identity", "upper"] = "identity"

    @property
    def z(self) -> float:
        """Distance from the formula in standard errors."""
        return (self.measured.value - self.expected) / self.measured.stderr

    @property
    def agrees(self) -> bool:
        """Whether the distance is within 4.5 standard errors, or on the right side of a bound."""
        return abs(self.z) < CLEAR if self.side == "identity" else self.z < CLEAR


ALL: tuple[Callable[[np.random.Generator], Simulated], ...] = (
    gaussian.replaced,
    gaussian.accumulated,
    gaussian.accumulated_mean,
    gaussian.growing,
    gaussian.golden_ratio,
    gaussian.scaling_in_n,
    gaussian.scaling_in_alpha,
    regression.replaced,
    finite.fresh,
    finite.forgotten,
    finite.curated,
    early_stopping.second_degree,
    early_stopping.third_degree,
    early_stopping.annealed,
    early_stopping.ball,
)


def laws(seed: int = 0) -> tuple[Law, ...]:
    """Simulate every law, a few seconds on one core.

    Args:
        seed: of the named streams.
    """
    found = []
    for law in ALL:
        stream = f"{law.__module__.rsplit('.', 1)[-1]}.{law.__name__}"
        one = law(numpy_generator(seed, "laws", stream))
        measured = Estimate.mean(one.values, "independent repetitions")
        found.append(Law(one.name, one.formula, one.source, one.expected, measured, one.side))
    return tuple(found)
