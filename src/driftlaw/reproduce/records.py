"""What a reproduction is made of: tables of estimates for each figure, and claims with their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pandas as pd

from driftlaw.estimate import Estimate
from driftlaw.records import Record

Verdict = Literal[
    "confirmed", "confirmed with a condition", "not valid as printed", "not reproduced", "not measured in this run"
]

#: The targets of ``driftlaw reproduce``.
FIGURES: dict[str, str] = {
    "fig1": "What each generation looks like",
    "fig2": "Which score errors are seen",
    "fig3": "One generation between its bounds",
    "fig4": "Drift in both directions",
    "fig5": "Which generation caused today's drift",
    "table": "The numbers of the mixture study",
    "controlled": "The controlled error",
    "literal": "One generation simulated step by step",
    "fig2-images": "Which errors of a trained network are seen",
    "fig8": "Samples by fresh fraction and generation",
    "fig9": "Drift of images in a classifier's features",
    "fig10": "Score error of image models",
}
#: Those that image runs make (``driftlaw reproduce --images``).
IMAGES = ("fig2-images", "fig8", "fig9", "fig10")


def row(e: Estimate, **keys: Any) -> dict[str, Any]:
    """An estimate as one row of a table, after the columns that say what it is."""
    return {
        **keys,
        "value": e.value,
        "stderr": e.stderr,
        "low": e.low,
        "high": e.high,
        "n": e.n,
        "method": e.method,
        "warnings": " | ".join(e.warnings),
    }


def estimate_of(record: Mapping[Any, Any]) -> Estimate:
    """The estimate that :func:`row` wrote."""
    found = tuple(w for w in str(record["warnings"]).split(" | ") if w)
    value, stderr, low, high = (float(record[k]) for k in ("value", "stderr", "low", "high"))
    return Estimate(value, stderr, low, high, int(record["n"]), str(record["method"]), found)


@dataclass(frozen=True)
class Number(Record):
    """One measured number of a claim.

    Args:
        what: in words.
        measured: with its interval.
        expected: the value that it is compared with, or None.
    """

    what: str
    measured: Estimate
    expected: float | None = None


@dataclass(frozen=True)
class Claim(Record):
    """One statement of the paper, or about it, and what became of it.

    Args:
        key: unique and stable.
        figure: the target of ``driftlaw reproduce`` that measures it.
        title: its name in the paper.
        statement: what it says, in our words.
        verdict: what the numbers say.
        because: the condition or the reason, in words.
        numbers: the evidence.
        command: prints the numbers again.
    """

    key: str
    figure: str
    title: str
    statement: str
    verdict: Verdict
    because: str = ""
    numbers: tuple[Number, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class FigureData:
    """The numbers behind one figure: exactly what is drawn, and what is said beside it.

    Args:
        name: key of :data:`FIGURES`.
        tables: data frames by name.
        notes: what the drawing cannot show (infinite quantities, conditions).
    """

    name: str
    tables: Mapping[str, pd.DataFrame]
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Reproduction(Record):
    """Everything that one ``driftlaw reproduce`` found.

    Args:
        settings: mode, seed, alphas, generations, ...
        figures: in the order of :data:`FIGURES`.
        claims: all of them, also those that this run did not measure.
    """

    settings: Mapping[str, Any]
    figures: tuple[FigureData, ...]
    claims: tuple[Claim, ...]
    #: The tables are files of their own.
    json_hidden: ClassVar[frozenset[str]] = frozenset({"figures"})
