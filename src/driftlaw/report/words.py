"""A run in words: verdicts against the floor, the headline, the warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.loop.record import Generation
from driftlaw.numerics.words import at_generations, generations, interval, number, percent
from driftlaw.report.vocabulary import HEADLINE, Measure, measure

GROUPS = ("divergence", "one_step", "floor", "moments", "modes", "path")

Verdict = Literal["worse", "within", "beyond", "unknown"]


def estimates(g: Generation, group: str) -> dict[str, Estimate]:
    """The estimates of one group of a record by name."""
    return dict(getattr(g, group).items())


def estimate(e: Estimate) -> str:
    """Value with its 95 % interval as a page writes it, or a word."""
    return interval(e.value, e.low, e.high, number)


def policy(config: Mapping[str, Any]) -> str:
    """The refresh policy in words, after "at" or "with"."""
    described = config.get("policy")
    if not isinstance(described, Mapping):
        return f"with the policy {described}"
    kind = described.get("kind", "unknown")
    if kind == "fixed" and "alpha" in described:
        return f"at α = {float(described['alpha']):g}"
    others = ", ".join(f"{k} = {_plain(v)}" for k, v in described.items() if k != "kind")
    return f"with the policy “{kind}”" + (f" ({others})" if others else "")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(v) for v in value[:8])
        return f"{shown}, …" if len(value) > 8 else shown
    return f"{value:g}" if isinstance(value, float) else str(value)


def verdict(m: Measure, value: Estimate, floor: Estimate | None) -> Verdict:
    """Where an interval lies relative to the floor's; without a floor 0 is the reference of a lower-is-better one.

    Beyond the floor on the side that looks better is no praise: nothing is nearer to real data than real data.
    """
    if value.is_refused or m.better == "neither" or (floor is not None and not math.isfinite(floor.value)):
        return "unknown"
    low, high = (floor.low, floor.high) if floor else (0.0, 0.0)
    if floor is None and m.better != "lower":
        return "unknown"
    above, below = value.low > high, value.high < low
    if not above and not below:
        return "within"
    return "worse" if m.better == "real" or above == (m.better == "lower") else "beyond"


@dataclass(frozen=True)
class Headline:
    """The run in three sentences, and the measure that they speak of."""

    title: str
    lead: str
    details: tuple[str, ...]
    key: str | None


def headline(history: History) -> Headline:
    """What was run and what happened."""
    last = history.generations[-1]
    how = policy(history.config)
    plural = "s" if last.index > 1 else ""
    title = str(history.config.get("name") or "Unnamed study")
    opening = f"After {last.index} generation{plural} {how}"
    key = next((k for k in HEADLINE if k in last.divergence and math.isfinite(last.divergence[k].value)), None)
    lead = f"{opening} {_drift(history, key) if key else 'no finite measure of drift was recorded.'}"
    return Headline(
        title, lead, tuple(s for s in (_others(last), _infinite(history), _moment(last), _entropy(last)) if s), key
    )


def _drift(history: History, key: str) -> str:
    last, m = history.generations[-1], measure(key)
    value, floor = last.divergence[key], last.floor.get(key)
    unit = f" {m.unit}" if m.unit else ""
    state = verdict(m, value, floor)
    if state == "within":
        reference = f"the real-vs-real floor of {estimate(floor)}" if floor else "0"
        return f"no drift is visible: the {m.inline} is {estimate(value)}{unit}, which cannot be told from {reference}."
    text = f"the measured drift ({m.inline}) is {estimate(value)}{unit}"
    if state == "beyond" and floor:
        return f"{text}, below the real-vs-real floor of {estimate(floor)}: {m.beyond or 'look for copies'}."
    if floor is None:
        return f"{text}; 0 would mean that the model equals the target."
    if state == "unknown":
        return f"{text}; no floor was recorded to judge it by."
    since = _since(history, key)
    begun = f", and it has been above since generation {since}" if since > 1 else ", from the first generation on"
    if floor.low > 0:
        factor = f"{number(value.value / floor.value, 2)} times the real-vs-real floor of {estimate(floor)}"
    else:
        factor = f"above the real-vs-real floor of {estimate(floor)} (which cannot be told from 0)"
    return f"{text}, {factor}{begun if last.index > 1 else ''}."


def _since(history: History, key: str) -> int:
    since = history.generations[-1].index
    for g in reversed(history.generations):
        if key not in g.divergence or verdict(measure(key), g.divergence[key], g.floor.get(key)) != "worse":
            break
        since = g.index
    return since


def _others(last: Generation) -> str:
    found = {k: verdict(measure(k), e, last.floor.get(k)) for k, e in last.divergence.items() if k in last.floor}
    judged = {k: v for k, v in found.items() if v != "unknown"}
    worse = [measure(k).inline for k, v in judged.items() if v == "worse"]
    if len(judged) < 2:
        return ""
    if not worse:
        return f"None of the {len(judged)} measures that have a floor is worse than it."
    listing = ", ".join(worse)
    verb = "is" if len(worse) == 1 else "are"
    return f"{len(worse)} of {len(judged)} measures with a floor {verb} worse than it: {listing}."


def _infinite(history: History) -> str:
    parts = []
    for key in {k: None for g in history for k in g.divergence}:
        at = [g.index for g in history if key in g.divergence and g.divergence[key].is_infinite]
        if at:
            parts.append(f"{measure(key).symbol or measure(key).name} is infinite {at_generations(at, len(history))}")
    return "; ".join(parts) + "." if parts else ""


def _moment(last: Generation) -> str:
    drift = last.moments.get("second_moment_drift")
    if drift is None or not math.isfinite(drift.value):
        return ""
    if drift.low <= 0 <= drift.high:
        return f"The second moment is that of the real data within its interval ({percent(drift.value)})."
    return f"The second moment has {'grown' if drift.value > 0 else 'shrunk'} by {percent(abs(drift.value))[1:]}."


def _entropy(last: Generation) -> str:
    """The entropy of the class weights, judged against real data; without them it is only said."""
    found, real = last.modes.get("entropy"), last.real_modes.get("entropy")
    if found is None or not math.isfinite(found.value):
        return ""
    if real is None:
        return f"The entropy of the class weights is {estimate(found)} nats; that of real data was not recorded."
    said = f"{estimate(found)} nats, real data {estimate(real)}"
    if found.high < real.low:
        return f"The entropy of the class weights is below that of real data: {said}."
    if found.low > real.high:
        return f"The entropy of the class weights is above that of real data: {said}."
    return f"The entropy of the class weights cannot be told from that of real data: {said}."


@dataclass(frozen=True)
class Warning:
    """A warning and what it concerns."""

    text: str
    about: tuple[str, ...]
    where: str


def warnings(history: History) -> list[Warning]:
    """Every warning once, with the generations and measures that it concerns, in order of appearance."""
    seen: dict[str, tuple[set[int], dict[str, None]]] = {}
    for g in history:
        repeated = set()
        for group in GROUPS:
            for key, e in estimates(g, group).items():
                for text in e.warnings:
                    repeated.add(f"{key}: {text}")
                    at, about = seen.setdefault(text, (set(), {}))
                    at.add(g.index)
                    about[_about(group, key)] = None
        for text in g.warnings:
            if text not in repeated:
                seen.setdefault(text, (set(), {}))[0].add(g.index)
    return [Warning(text, tuple(about), generations(at)) for text, (at, about) in seen.items()]


def sanity(history: History) -> list[Warning]:
    """What the checks of each generation found, once for each kind: the first sentence, and where."""
    found: dict[str, list[tuple[int, str]]] = {}
    for g in history:
        for f in g.sanity:
            found.setdefault(f.kind, []).append((g.index, f.text))
    return [Warning(at[0][1], (kind,), generations({i for i, _ in at})) for kind, at in found.items()]


def _about(group: str, key: str) -> str:
    if group == "modes" and key != "entropy":
        return "class weights"
    name = measure(key).name
    return {"one_step": f"{name}, one step", "floor": f"{name}, floor"}.get(group, name)
