r"""What a bound is here: a statement with its reference, value, assumptions and distance to the measurement.

A bound never "holds": each of its assumptions is *checked* (the data could have refuted it and did not), *not checkable
from data*, or *violated*. Slack is bound / measured: >= 1 for an upper bound that is respected, <= 1 for a lower one.

Values computed from estimates carry a box interval: the formula at the ends of the intervals of its inputs. The half
width :math:`\sum_i |\partial_i f|\, z\, \mathrm{se}_i` is at least that of the delta method, so to first order the box
covers with at least 95 % whatever the dependence between the inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.records import Record

Side = Literal["upper", "lower", "identity"]
Status = Literal["checked", "not checkable from data", "violated"]
#: A number that is known or one that was measured.
Number = float | Estimate


@dataclass(frozen=True)
class Assumption(Record):
    """One hypothesis of a statement.

    Args:
        name: its label in the reference ("A3") or a short name.
        text: what it says.
        status: "checked" means that this data could have refuted it and did not, not that it is proved.
        evidence: the number or the reason behind the status.
    """

    name: str
    text: str
    status: Status
    evidence: str = ""


@dataclass(frozen=True)
class Bound(Record):
    """A statement about one quantity, with its numbers.

    Args:
        name: "Proposition 3.1", "TV certificate", ...
        reference: where it is stated and proved.
        quantity: what is bounded, in words or symbols; `measured` is an estimate of this.
        formula: the whole statement, LaTeX without delimiters.
        side: "upper", "lower", or "identity" (equality, up to what the assumptions say).
        value: the bound, with the interval that its inputs imply.
        measured: the measured quantity, or None.
        assumptions: everything that the statement needs.
        note: what a reader must know ("not valid as printed", ...).
    """

    json_extra: ClassVar[tuple[str, ...]] = ("slack", "contradicted", "certified")
    name: str
    reference: str
    quantity: str
    formula: str
    side: Side
    value: Estimate
    measured: Estimate | None = None
    assumptions: tuple[Assumption, ...] = ()
    note: str = ""

    @property
    def slack(self) -> float:
        """Bound / measured; ``nan`` if there is no measurement or both are zero or infinite."""
        if self.measured is None:
            return math.nan
        value, measured = self.value.value, self.measured.value
        if measured == 0:
            return math.copysign(math.inf, value) if value != 0 and not math.isnan(value) else math.nan
        return value / measured

    @property
    def contradicted(self) -> bool:
        """Whether the measurement is on the wrong side, beyond both intervals: an assumption or a number is wrong."""
        if self.measured is None:
            return False
        too_large = self.measured.low > self.value.high
        too_small = self.measured.high < self.value.low
        return {"upper": too_large, "lower": too_small, "identity": too_large or too_small}[self.side]

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of the assumptions that are violated; the statement says nothing while there is one."""
        return tuple(a.name for a in self.assumptions if a.status == "violated")

    @property
    def certified(self) -> bool:
        """Whether every assumption is checked; true for a statement that needs none."""
        return all(a.status == "checked" for a in self.assumptions)


def check_alpha(alpha: float, *, positive: bool = False) -> float:
    """`alpha` if it is a fraction of fresh data, otherwise `InputError`."""
    if not 0 <= alpha <= 1 or (positive and alpha == 0):
        interval = "(0, 1]" if positive else "[0, 1]"
        raise InputError(f"alpha must be in {interval}, got {alpha!r}", "alpha is the fraction of fresh data")
    return float(alpha)


def check_eta(eta: Number) -> Number:
    """`eta` if its value may be an observability, otherwise `InputError`; an estimate may stray by its interval."""
    if (eta.high < 0 or eta.low > 1) if isinstance(eta, Estimate) else not 0 <= eta <= 1:
        raise InputError(f"the observability eta must be in [0, 1], got {eta}", "eta = Var(E[M | Y_t0]) / eps*^2")
    return eta


def _ends(x: Number, name: str) -> tuple[float, float, float]:
    """Value, low and high of a non-negative input; the interval of an estimate is cut at zero."""
    if isinstance(x, Estimate):
        return (max(x.value, 0.0), max(x.low, 0.0), max(x.high, 0.0)) if not x.is_refused else (math.nan,) * 3
    if not x >= 0:
        raise InputError(f"{name} must be a non-negative number, got {x!r}", "energies and divergences are >= 0")
    return (float(x),) * 3


def path_kl(e: float, k: float) -> float:
    """Path KL of Girsanov's theorem with unit noise: initial KL `k` plus half of the energy `e`, nats."""
    return k + 0.5 * e


def propagate(function: Callable[..., float], method: str, **inputs: Number | Sequence[Number]) -> Estimate:
    """``function(**inputs)`` with the box interval of its inputs.

    Args:
        function: of floats, or of lists of floats where the input is a sequence; monotone in each input (the ends of
            the interval are looked for at the corners of the box, a sequence moving as one).
        method: for the resulting estimate.
        inputs: non-negative numbers or estimates.

    Raises:
        InputError: a number that is negative or NaN.
    """
    ends: dict[str, tuple[Any, Any, Any]] = {}
    estimates: list[tuple[str, Estimate]] = []
    for name, x in inputs.items():
        items: list[Number] = [x] if isinstance(x, float | int | Estimate) else list(x)
        estimates += [(name, item) for item in items if isinstance(item, Estimate)]
        value, low, high = zip(*(_ends(item, name) for item in items), strict=True)
        scalar = isinstance(x, float | int | Estimate)
        ends[name] = (value[0], low[0], high[0]) if scalar else (list(value), list(low), list(high))
    warnings = dict.fromkeys(f"{name}: {w}" for name, e in estimates for w in e.warnings)
    n = max((e.n for _, e in estimates), default=0)
    result = function(**{name: e[0] for name, e in ends.items()})
    if math.isnan(result):
        return Estimate.refused(method, "missing, or infinite terms cancel, among: " + ", ".join(inputs), n)
    corners = itertools.product(*((low, high) for _, low, high in ends.values()))
    reached = [result, *(function(**dict(zip(ends, corner, strict=True))) for corner in corners)]
    low, high = np.nanmin(reached).item(), np.nanmax(reached).item()
    stderr = 0.0 if low == high else (high - low) / (2 * Z95)
    return Estimate(result, stderr, low, high, n, method, tuple(warnings))


def premise(name: str, text: str, x: Number, limit: float) -> Assumption:
    """The assumption that `x` is at most `limit`, judged by the interval of `x`; no limit (inf) asks for finiteness."""
    low, high = (x.low, x.high) if isinstance(x, Estimate) else (x, x)
    if math.isnan(low) or math.isnan(high) or math.isnan(limit):
        return Assumption(name, text, "not checkable from data", "not measured")
    status: Status = "not checkable from data"
    if high < math.inf and high <= limit:
        status = "checked"
    elif low > limit or low == math.inf:
        status = "violated"
    evidence = f"{name} = {x if isinstance(x, Estimate) else f'{x:.4g}'}"
    return Assumption(name, text, status, evidence + ("" if math.isinf(limit) else f", limit {limit:.4g}"))


def finite(symbol: str, x: Number) -> Assumption:
    """The assumption that `x` is finite."""
    return premise(symbol, f"{symbol} is finite", x, math.inf)
