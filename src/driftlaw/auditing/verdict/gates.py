"""Gates for pipelines: a limit on a measure or on the verdict, with three outcomes.

A gate *passes* where the whole 95 % interval lies on the good side of its limit, *fails* where it lies on the bad side,
and *cannot decide* in between. With ``fail_above`` alone only a clear excess fails and everything else passes; with
``pass_below`` alone, or both, what lies between is undecided.

A file of gates is YAML::

    verdict: {fail_on: [collapsed, copied, broken]}
    drift: {fail_above: 0.1, pass_below: 0.05}
    recall: {fail_below: 0.5}
    columns:
      income: {shift: {fail_above: 0.2}, missing: {fail_above: 0.02}}
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from driftlaw.auditing.verdict.verdict import VERDICTS
from driftlaw.errors import ConfigError, nearest
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import interval
from driftlaw.records import Record

if TYPE_CHECKING:
    from driftlaw.auditing.verdict.columns import ColumnAudit

Outcome = Literal["pass", "fail", "cannot decide"]
#: Exit code of each outcome.
EXIT: dict[Outcome, int] = {"pass": 0, "fail": 1, "cannot decide": 3}
#: Measures of a generation, and of a column, that a gate may limit.
MEASURES = ("drift", "recall", "coverage", "near_duplicates", "variance_ratio")
COLUMN_MEASURES = ("shift", "spread", "tails", "missing")
LIMITS = ("fail_above", "pass_below", "fail_below", "pass_above")


@dataclass(frozen=True)
class Gate:
    """Limits on one measure.

    Args:
        measure: one of :data:`MEASURES`, of :data:`COLUMN_MEASURES` with a column, or "verdict".
        column: of a table; empty for the whole.
        fail_above, pass_below: limits of a measure that is better small.
        fail_below, pass_above: limits of a measure that is better large.
        fail_on: verdicts that fail.
    """

    measure: str
    column: str = ""
    fail_above: float | None = None
    pass_below: float | None = None
    fail_below: float | None = None
    pass_above: float | None = None
    fail_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value != value):
                raise ConfigError(f"the gate {self.name}: {name} = {value!r}", "give a number")
        if self.fail_above is not None and self.pass_below is not None and self.pass_below > self.fail_above:
            raise ConfigError(
                f"the gate {self.name} passes below {self.pass_below:g} and fails above {self.fail_above:g}",
                "let pass_below be at most fail_above",
            )
        if self.fail_below is not None and self.pass_above is not None and self.pass_above < self.fail_below:
            raise ConfigError(
                f"the gate {self.name} passes above {self.pass_above:g} and fails below {self.fail_below:g}",
                "let pass_above be at least fail_below",
            )
        for word in self.fail_on:
            if word not in VERDICTS:
                raise ConfigError(f"there is no verdict {word!r}", nearest(str(word), VERDICTS))

    @property
    def name(self) -> str:
        """What the gate is on, for messages."""
        return f"{self.measure} of {self.column}" if self.column else self.measure


@dataclass(frozen=True)
class Decision(Record):
    """What became of one gate."""

    gate: str
    outcome: Outcome
    text: str


def limit(gate: Gate, e: Estimate, size: bool = False) -> Decision:
    """Hold an estimate against the limits of a gate.

    Args:
        gate: of a measure.
        e: its estimate; refused cannot be decided.
        size: compare magnitudes (of a shift, which has a sign).
    """
    if e.is_refused:
        why = e.warnings[0] if e.warnings else "no number could be given"
        return Decision(gate.name, "cannot decide", f"{gate.name} is not known: {why}")
    low, high = e.low, e.high
    if size:
        low, high = (0.0 if low < 0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))
    said = f"{gate.name} {interval(abs(e.value) if size else e.value, low, high)}"
    above, below = gate.fail_above, gate.pass_below
    floor, top = gate.fail_below, gate.pass_above
    if below is not None and above is None:
        above = below
    if top is not None and floor is None:
        floor = top
    if above is not None and low > above:
        return Decision(gate.name, "fail", f"{said} is above {above:g}")
    if floor is not None and high < floor:
        return Decision(gate.name, "fail", f"{said} is below {floor:g}")
    if (below is None or high < below) and (top is None or low > top):
        return Decision(gate.name, "pass", f"{said} is within the limits")
    return Decision(gate.name, "cannot decide", f"{said} is on both sides of a limit")


def on_verdict(gate: Gate, word: str) -> Decision:
    """Hold a verdict against the words that fail; "undetermined" cannot decide unless it is named."""
    if word in gate.fail_on:
        return Decision(gate.name, "fail", f"the verdict is {word}")
    if word == "undetermined":
        return Decision(gate.name, "cannot decide", "the verdict is undetermined")
    return Decision(gate.name, "pass", f"the verdict is {word}")


def overall(decisions: Sequence[Decision]) -> Outcome:
    """The worst outcome: one failed gate fails all, and one undecided leaves the rest undecided."""
    found = {d.outcome for d in decisions}
    return "fail" if "fail" in found else "cannot decide" if "cannot decide" in found else "pass"


def column_of(columns: Sequence[ColumnAudit], name: str) -> ColumnAudit:
    """The column of a gate.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    for column in columns:
        if column.name == name:
            return column
    raise ConfigError(
        f"a gate names the column {name!r}, which was not audited", nearest(name, [c.name for c in columns])
    )


def read(path: str | os.PathLike[str]) -> tuple[Gate, ...]:
    """Gates of a YAML file.

    Raises:
        ConfigError: unreadable, not YAML, or an unknown measure, limit or verdict, with the nearest one.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the gates {path} ({error})", "give a YAML file") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())})", "correct it there") from error
    if not isinstance(document, Mapping) or not document:
        raise ConfigError(f"{path} holds no gates", "write for example 'drift: {fail_above: 0.1}'")
    return tuple(_gates(document))


def _gates(document: Mapping[Any, Any]) -> Iterator[Gate]:
    for measure, limits in document.items():
        if measure == "columns":
            if not isinstance(limits, Mapping):
                raise ConfigError("the gates of columns are not a mapping", "name the columns below it")
            for column, measures in limits.items():
                if not isinstance(measures, Mapping):
                    raise ConfigError(f"the gates of column {column!r} are not a mapping", "name its measures below it")
                for name, values in measures.items():
                    yield _gate(name, values, COLUMN_MEASURES, str(column))
        else:
            yield _gate(measure, limits, (*MEASURES, "verdict", "columns"))


def _gate(measure: Any, limits: Any, known: Sequence[str], column: str = "") -> Gate:
    if measure not in known:
        raise ConfigError(f"no gate is on {measure!r}", nearest(str(measure), known))
    allowed = ("fail_on",) if measure == "verdict" else LIMITS
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigError(f"the gate {measure} has no limits", f"give one of {', '.join(allowed)}")
    for name in limits:
        if name not in allowed:
            raise ConfigError(f"the gate {measure} has no limit {name!r}", nearest(str(name), allowed))
    values = dict(limits)
    if measure == "verdict":
        words = values["fail_on"]
        values["fail_on"] = tuple(words) if isinstance(words, list | tuple) else (words,)
    elif any(isinstance(v, float) and math.isinf(v) for v in values.values()):
        raise ConfigError(f"the gate {measure} has an infinite limit", "give a number")
    return Gate(str(measure), column, **values)
