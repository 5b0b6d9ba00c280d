"""Model collapse by definition: the meanings of the word that are in use, each answered for one run.

The literature means different things by "model collapse" (arXiv 2503.03150 lists eight, named here for the topic; the
thresholds are this project's and are said in each definition). An answer is "yes" or "no" only where the 95 % intervals
of both sides lie apart, else "undetermined"; what one run cannot show is "not measured", with what would show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.records import Record
from driftlaw.theory.regimes import classify

Answer = Literal["yes", "no", "undetermined", "not measured"]
#: Population risk, best first: what the model misses in nats, else distances of samples.
RISKS = {"kl_reverse": "KL(p || p_hat)", "frechet": "Frechet distance", "chi2_lower": "squared distance of means"}
#: Measures of drift whose growth is classified.
DRIFTS = ("chi2", "chi2_lower", "kl_reverse", "frechet")
GROWING = {"diffusive", "ballistic", "logarithmic"}


@dataclass(frozen=True)
class Sign(Record):
    """One definition of collapse and whether a run meets it.

    Args:
        name: short.
        definition: what is asked, with its threshold.
        answer: whether the last generation meets it.
        evidence: the numbers behind the answer, or what would be needed.
    """

    name: str
    definition: str
    answer: Answer
    evidence: str


def collapse_profile(history: History) -> tuple[Sign, ...]:
    """Which definitions of model collapse a run meets; public as ``driftlaw.collapse_profile``.

    Args:
        history: a finished or growing run.

    Returns:
        One sign for each definition, in a fixed order.

    Raises:
        InputError: no finished generation.

    Reference: this project, theory section 13; arXiv 2503.03150 for the list of topics.
    """
    if not len(history):
        raise InputError(f"{history.directory.path} has no finished generation", "go on with `driftlaw resume`")
    return tuple(_signs(history))


def _signs(history: History) -> Iterator[Sign]:
    first, last = history[1], history[len(history)]
    risk = next((k for k in RISKS if k in last.divergence and not last.divergence[k].is_refused), None)
    missing = "no divergence was measured: set measures.samples or use a target with a density"
    rise = "the population risk rises with the generation (Kendall's trend test, one-sided level 1 %)"
    tenfold = "the population risk is more than ten times that of generation 1"
    if risk is None or len(history) < 2:
        why = missing if risk is None else "one generation has nothing to be compared with"
        yield Sign("risk rises", rise, "not measured", why)
        yield Sign("risk explodes", tenfold, "not measured", why)
    else:
        before, now = first.divergence[risk], last.divergence[risk]
        seen = f"{RISKS[risk]}: {before} at generation 1, {now} at generation {last.index}"
        yield Sign("risk rises", rise, *_trend([g.divergence[risk].value for g in history], seen))
        yield Sign("risk explodes", tenfold, _above(now, before, 10.0), seen)
    yield _growth(history)
    yield _variance(last.moments.get("second_moment_drift"))
    yield Sign(
        "scaling changes",
        "the test error falls more slowly with n than on real data",
        "not measured",
        "one run has one size: compare runs, such as driftlaw sweep --grid samples=250,500,1000",
    )
    parts = (
        ("tails lost", "recall", "recall is below nine tenths of real rows against real rows"),
        ("invented rows", "precision", "precision is below nine tenths of real rows against real rows"),
        ("modes lost", "coverage", "coverage is below nine tenths of real rows against real rows"),
    )
    for name, key, definition in parts:
        yield _against_real(name, key, definition, last.divergence.get(key), last.floor.get(key))


def _trend(risks: list[float], seen: str) -> tuple[Answer, str]:
    """A trend beyond chance: intervals of single generations leave out the chance of each fit."""
    if len(risks) < 5 or not all(math.isfinite(r) for r in risks):
        return "undetermined", f"{seen}; a trend needs at least 5 generations of finite risk"
    found = stats.kendalltau(range(len(risks)), risks, alternative="greater")
    answer: Answer = "undetermined"
    if found.pvalue < 0.01:
        answer = "yes"
    elif found.statistic <= 0:
        answer = "no"
    return answer, f"{seen}; trend p = {found.pvalue:.2g}"


def _above(now: Estimate, before: Estimate, factor: float) -> Answer:
    if now.is_refused or before.is_refused:
        return "undetermined"
    if now.low > factor * max(before.high, 0.0):
        return "yes"
    return "no" if now.high < factor * max(before.low, 0.0) or now.high <= 0 else "undetermined"


def _growth(history: History) -> Sign:
    definition = "drift keeps growing with the generation instead of settling"
    for key in DRIFTS:
        drift = [g.divergence[key] for g in history if key in g.divergence]
        if len(drift) == len(history) and not any(d.is_refused or d.is_infinite for d in drift):
            regime = classify(drift)
            answer: Answer = "yes" if regime.name in GROWING else "no"
            if regime.name == "undetermined":
                answer = "undetermined"
            return Sign("risk diverges", definition, answer, f"{key} over {len(drift)} generations: {regime.name}")
    return Sign("risk diverges", definition, "not measured", "no drift is finite in every generation")


def _variance(change: Estimate | None) -> Sign:
    definition = "the second moment has lost more than half of its value"
    if change is None or change.is_refused:
        return Sign("variance collapses", definition, "not measured", "the second moment was not measured")
    answer: Answer = "undetermined"
    if change.high < -0.5:
        answer = "yes"
    elif change.low > -0.5:
        answer = "no"
    return Sign("variance collapses", definition, answer, f"relative change of the second moment {change}")


def _against_real(name: str, key: str, definition: str, found: Estimate | None, floor: Estimate | None) -> Sign:
    if found is None or floor is None or found.is_refused or floor.is_refused:
        return Sign(name, definition, "not measured", f"{key} needs samples of the target: set measures.samples")
    answer: Answer = "undetermined"
    if found.high < 0.9 * floor.low:
        answer = "yes"
    elif found.low > 0.9 * floor.high:
        answer = "no"
    return Sign(name, definition, answer, f"{key} {found}, of real rows {floor}")
