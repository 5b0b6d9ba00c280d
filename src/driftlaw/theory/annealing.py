r"""Early stopping by generation: a schedule of the study.

With perfect scores annealing removes all compounding of the blur: the Hermite coefficient
:math:`a_m^{n+1} = r_m(\tau_n)(\alpha a_m + (1-\alpha) a_m^n)` tends to :math:`a_m` for every degree m once
:math:`\tau_n \to 0` (this project, theory section 9). With a score error that grows as :math:`\tau \to 0` there is a
best :math:`\tau_n > 0`, and annealing is not free: that is why it is a setting, to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from driftlaw.config import Described, Kinds, shown, validate
from driftlaw.errors import ConfigError, InputError


@dataclass(frozen=True)
class Annealed(Described):
    """tau_n = max(least, start/(n + 1)), or max(least, start decay^n), in round n = 0, 1, ...

    Args:
        start: OU time of the first generation.
        decay: factor a generation; 1 is constant, None the harmonic schedule.
        least: no time is below it (a network's smallest trained time).

    Example:
        >>> Annealed(0.06).times(3)
        (0.06, 0.03, 0.02)
    """

    kind: ClassVar[str] = "annealed"
    start: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    decay: Annotated[float, Field(gt=0, le=1)] | None = None
    least: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def __post_init__(self) -> None:
        validate(self)

    def times(self, generations: int) -> tuple[float, ...]:
        """t0 of generations 1..N."""
        return tuple(float(max(self.least, t)) for t in annealed_times(self.start, generations, self.decay))


@dataclass(frozen=True)
class Given:
    """Times given one by one."""

    values: tuple[float, ...]

    def config(self) -> list[float]:
        """The list, as in YAML."""
        return list(self.values)

    def times(self, generations: int) -> tuple[float, ...]:
        """t0 of generations 1..N.

        Raises:
            ConfigError: fewer times than generations.
        """
        if len(self.values) < generations:
            raise ConfigError(
                f"t0 has {len(self.values)} times for {generations} generations", "give one for each generation"
            )
        return self.values[:generations]


TimesOfStopping = Annealed | Given
KINDS = Kinds("t0", {"annealed": Annealed}, methods=("times", "config"))


def build(value: Any) -> TimesOfStopping | None:
    """A schedule from a mapping, a list of times or None.

    Raises:
        ConfigError: a time that is negative or not finite.
    """
    if value is None or isinstance(value, Annealed | Given):
        return value
    if isinstance(value, Mapping | str):
        found: TimesOfStopping = KINDS.build(value)
        return found
    if not isinstance(value, Sequence) or not value or not all(_is_time(t) for t in value):
        raise ConfigError(
            f"t0 = {shown(value)} is no schedule",
            "give {kind: annealed, start: 0.05} or a list of times >= 0; one time for all is estimator.t0",
        )
    return Given(tuple(float(t) for t in value))


def _is_time(t: object) -> bool:
    return isinstance(t, int | float) and not isinstance(t, bool) and 0 <= t < np.inf


def stopped_at(estimator: Any, t0: float) -> Any:
    """The learner with another t0.

    Raises:
        ConfigError: it has none, or not this one.
    """
    if not is_dataclass(estimator) or isinstance(estimator, type) or "t0" not in {f.name for f in fields(estimator)}:
        raise ConfigError(
            f"{type(estimator).__name__} has no early-stopping time",
            "leave the study's t0 out, or use another learner",
        )
    return replace(estimator, t0=t0)


def annealed_times(t0: float, rounds: int, decay: float | None = None) -> NDArray[np.float64]:
    """Annealed early stopping, ``[rounds]``: tau_n = t0/(n + 1), or t0 decay^n.

    Args:
        t0: time of the first round, > 0.
        rounds: number of rounds.
        decay: factor a round, in (0, 1]; None for the harmonic schedule.

    Raises:
        InputError: numbers out of range.
    """
    if rounds < 1 or not (0 < t0 < np.inf) or not (decay is None or 0 < decay <= 1):
        raise InputError(
            f"no schedule of {rounds} rounds from t0 = {t0} with decay {decay}",
            "t0 > 0, decay in (0, 1], at least one round",
        )
    n = np.arange(rounds, dtype=np.float64)
    return t0 / (n + 1) if decay is None else t0 * decay**n
