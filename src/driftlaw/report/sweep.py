"""The combined page of a sweep: runs with equal policies are repetitions over seeds.

For each policy and generation the page shows the mean over seeds and, as its spread, one standard deviation of the
seeds (not a standard error: it says how much two runs differ).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftlaw.errors import InputError
from driftlaw.loop.history import History
from driftlaw.numerics.words import number
from driftlaw.report import page, words
from driftlaw.report.figures import run as figures
from driftlaw.report.vocabulary import HEADLINE, MEASURES, Measure, measure

#: Groups and keys that a sweep compares, in order.
_COMPARED = ("divergence", "moments", "modes")


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds."""

    label: str
    runs: tuple[History, ...]

    def spread(self, group: str, key: str) -> tuple[list[int], np.ndarray, np.ndarray, int]:
        """Generations, mean and standard deviation ``[k]`` (0 with one seed), and how many values are not finite."""
        columns: dict[int, list[float]] = {}
        for run in self.runs:
            for g in run:
                if key in getattr(g, group):
                    columns.setdefault(g.index, []).append(getattr(g, group)[key].value)
        finite = {n: v for n, v in sorted(columns.items()) if all(math.isfinite(x) for x in v)}
        mean = np.array([np.mean(v) for v in finite.values()])
        deviation = np.array([np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in finite.values()])
        return list(finite), mean, deviation, sum(not math.isfinite(x) for v in columns.values() for x in v)


def group_runs(histories: Mapping[str, History]) -> list[Group]:
    """Group runs by their policy, in order of the real share of the data."""
    found: dict[str, list[History]] = {}
    for history in histories.values():
        found.setdefault(json.dumps(history.config.get("policy"), sort_keys=True, default=str), []).append(history)

    def order(runs: Sequence[History]) -> tuple[float, str]:
        return float(np.mean([g.fresh for run in runs for g in run])), words.policy(runs[0].config)

    groups = [tuple(runs) for runs in sorted(found.values(), key=order)]
    return [
        Group(words.policy(runs[0].config).removeprefix("at ").removeprefix("with the policy "), runs)
        for runs in groups
    ]


def build(histories: Mapping[str, History], links: Mapping[str, str]) -> str:
    """Page of a sweep; see :func:`driftlaw.report.build_sweep`."""
    finished = {label: h for label, h in histories.items() if len(h)}
    if not finished:
        raise InputError("no run of this sweep has a finished generation", "resume the sweep, then report it")
    groups = group_runs(finished)
    last = max(len(h) for h in finished.values())
    charts: list[page.Chart] = []
    columns = []
    for group, key in _keys(finished.values()):
        m = measure(key)
        spreads = {g.label: g.spread(group, key) for g in groups}
        lines = {label: (at, mean, sd) for label, (at, mean, sd, _) in spreads.items() if at}
        notes = tuple(f"{label}: {bad} values are infinite or unknown." for label, (*_, bad) in spreads.items() if bad)
        figure = figures.many_curves(f"sweep-{len(charts)}", m, lines, last) if lines else None
        charts.append(page.Chart(m, figure, notes))
        columns.append((m, spreads))
    return page.render(
        "sweep.html.j2",
        title=str(next(iter(finished.values())).config.get("name") or "Unnamed study"),
        lead=_lead(groups, finished, len(histories)),
        charts=charts,
        legend=[(g.label, k % 6 + 1, len(g.runs)) for k, g in enumerate(groups)],
        head=[m.name for m, _ in columns],
        rows=[(g.label, len(g.runs), [_cell(spreads[g.label]) for _, spreads in columns]) for g in groups],
        runs=[_run(label, h, links.get(label)) for label, h in histories.items()],
    )


def _keys(histories: Any) -> list[tuple[str, str]]:
    found = {(group, key): None for h in histories for g in h for group in _COMPARED for key in getattr(g, group)}
    known = list(MEASURES)
    kept = [(group, key) for group, key in found if group != "modes" or key == "entropy"]
    return sorted(kept, key=lambda pair: known.index(pair[1]) if pair[1] in known else len(known))


def _cell(spread: tuple[list[int], np.ndarray, np.ndarray, int]) -> str:
    at, mean, deviation, _ = spread
    if not at:
        return "not finite"
    return number(float(mean[-1])) + (f" ± {number(float(deviation[-1]), 2)}" if deviation[-1] > 0 else "")


def _lead(groups: Sequence[Group], finished: Mapping[str, History], total: int) -> str:
    seeds = max(len(g.runs) for g in groups)
    kinds = f"{len(groups)} {'policy' if len(groups) == 1 else 'policies'}"
    counted = f"{kinds}, up to {seeds} seed{'s' if seeds > 1 else ''} each."
    if len(finished) < total:
        counted += f" {total - len(finished)} of {total} runs have no finished generation and are left out."
    for key in HEADLINE:
        spreads = {g.label: g.spread("divergence", key) for g in groups}
        if all(at for at, *_ in spreads.values()):
            m: Measure = measure(key)
            said = "; ".join(f"{label}: {_cell(s)} after {s[0][-1]} generations" for label, s in spreads.items())
            return f"{counted} Measured drift ({m.inline}{', ' + m.unit if m.unit else ''}): {said}."
    return counted


def _run(label: str, history: History, link: str | None) -> dict[str, Any]:
    lead = words.headline(history).lead if len(history) else "No generation is finished yet."
    return {"label": label, "seed": history.config.get("seed"), "link": link, "lead": lead}
