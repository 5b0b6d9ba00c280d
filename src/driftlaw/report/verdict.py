"""The verdict of a study: the words of an audit for its last generation, judged against real data.

Every sentence compares an interval of the generation with that of real rows at the same size, or with the exact value
of the target. Class shares are compared by a two-proportion test at 5 % over all classes.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from driftlaw.analysis.report import BoundsReport
from driftlaw.auditing.verdict.verdict import (
    COPIED,
    LEVEL,
    LOST_MASS,
    LOST_RECALL,
    LOST_VARIANCE,
    MOST_REASONS,
    VERDICTS,
    VISIBLE,
    Verdict,
)
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.loop.record import Generation
from driftlaw.measure.sets.moments import proportion
from driftlaw.numerics.words import plain, share, some
from driftlaw.report.vocabulary import HEADLINE, measure
from driftlaw.report.words import verdict as against

#: Upper ends above which "no drift was seen" says little: half a standard deviation in one direction, or as much.
SEEN = {"chi2_lower": VISIBLE, "kl": 0.125, "chi2": VISIBLE, "tv": 0.1, "hellinger2": 0.05, "chi2_mix": 0.1}
#: Share of its real weight below which a class is called lost.
LOST = 0.1


@dataclass(frozen=True)
class ClassChange:
    """A class whose share differs from the real one."""

    name: str
    share: float
    real: float

    @property
    def lost(self) -> bool:
        """Whether less than a tenth of it is left."""
        return self.share < LOST * self.real

    def __str__(self) -> str:
        return f"{self.name} is {share(self.share)} (real {share(self.real)})"


def verdict(history: History) -> Verdict:
    """The word for the last generation, at most three reasons with their sizes, and what to do next."""
    if not len(history):
        raise InputError(f"{history.directory.path} has no finished generation", "go on with `driftlaw resume`")
    last = history.generations[-1]
    found = sorted(_findings(history, last), key=lambda f: VERDICTS.index(f[0]))
    if found:
        word = found[0][0]
        return Verdict(word, last.index, tuple(text for _, text in found[:MOST_REASONS]), _action(history, word))
    key = next((k for k in SEEN if k in last.divergence and math.isfinite(last.divergence[k].high)), None)
    if key is None:
        why = "no measure of this run can tell drift from noise"
        return Verdict("undetermined", last.index, (why,), "Give the study held-out rows (measures.samples).")
    limit = max([last.divergence[key].high, *([last.floor[key].high] if key in last.floor else [])])
    if limit > SEEN[key]:
        what = f"{last.samples} samples are too few: a {measure(key).inline} up to {plain(limit, 2)} would not show"
        return Verdict("undetermined", last.index, (what,), "Raise measures.samples, or run more seeds with a sweep.")
    what = f"no measure is worse than real data; a {measure(key).inline} above {plain(limit, 2)} would have shown"
    return Verdict("clean", last.index, (what,), "Go on: `driftlaw resume DIR` with more generations.")


def _findings(history: History, last: Generation) -> list[tuple[str, str]]:
    found = []
    copies, floor = last.divergence.get("memorised"), last.floor.get("memorised")
    if copies is not None and copies.low > max(COPIED, 0.0 if floor is None else floor.high):
        found.append(("copied", f"{share(copies.value)} of samples sit on training rows"))
    recall, floor = last.divergence.get("recall"), last.floor.get("recall")
    if recall is not None and floor is not None and recall.high < LOST_RECALL * floor.value:
        found.append(("collapsed", f"recall {share(recall.value)} (real rows {share(floor.value)})"))
    moment = last.moments.get("second_moment_drift")
    if moment is not None and 1 + moment.high < LOST_VARIANCE:
        found.append(("collapsed", f"the second moment is {share(1 + moment.value)} of the real one"))
    key = next((k for k in HEADLINE if k in last.divergence and math.isfinite(last.divergence[k].value)), None)
    worse = [k for k, e in last.divergence.items() if against(measure(k), e, last.floor.get(k)) == "worse"]
    if key in worse or len(worse) > 2:
        key = key if key in worse else worse[0]
        e, m, floor = last.divergence[key], measure(key), last.floor.get(key)
        beside = f"real rows {floor.text()}" if floor is not None else "0 if equal"
        found.append(("drifted", f"{m.inline} {e.text()}{f' {m.unit}' if m.unit else ''} ({beside})"))
    changed = class_changes(last.modes, real_classes(history), last.samples)
    if changed:
        lost = [c for c in changed if c.lost]
        gone = sum(c.real for c in lost) >= LOST_MASS
        said = f"{'lost' if gone else 'changed'}: {some(map(str, [*lost, *(c for c in changed if not c.lost)]))}"
        found.append(("collapsed" if gone else "drifted", f"classes {said}"))
    return found


def _action(history: History, word: str) -> str:
    directory = shlex.quote(str(history.directory.path))
    if word == "copied":
        return "Train on more rows or for fewer steps, and compare `memorised` again."
    known = BoundsReport.stored(history.directory.path)
    drift = known.main.drift[-1] if known is not None else history.generations[-1].divergence.get("chi2_lower")
    if drift is None or not (math.isfinite(drift.value) and drift.value > 0) or drift.low <= 0:
        return f"See which step caused it: driftlaw bounds {directory}"
    options = f"--from {directory} --budget {plain(drift.value / 2, 2)} --horizon {max(5, len(history))}"
    return f"For half of this drift, plan fresh data: driftlaw plan {options}"


def real_classes(history: History) -> Mapping[str, Estimate]:
    """Class or mode weights of the real data: as recorded, else the labels of the real rows of generation 0."""
    last = history.generations[-1]
    if last.real_modes:
        return last.real_modes
    labels, classes = history.labels(), history.manifest.get("classes") or []
    names = [k for k in last.modes if k != "entropy"]
    if labels is None or not len(labels) or not names or not set(names) <= set(classes):
        return {}
    return {k: proportion(int(np.sum(labels == classes.index(k))), len(labels), "share of real rows") for k in names}


def class_changes(found: Mapping[str, Estimate], real: Mapping[str, Estimate], n: int) -> Sequence[ClassChange]:
    """Classes whose shares differ at 5 % over all classes, the largest difference first.

    Args:
        found: shares of the generation; an "entropy" among them is left out.
        real: shares of real data; exact ones have n = 0.
        n: rows behind `found`.
    """
    names = [k for k in found if k != "entropy" and k in real]
    limit = NormalDist().inv_cdf(1 - LEVEL / max(len(names), 1) / 2)
    changed = []
    for name in names:
        p, q, m = found[name].value, real[name].value, real[name].n
        pooled = q if m == 0 else (n * p + m * q) / (n + m)
        error = math.sqrt(pooled * (1 - pooled) * (1 / n + (1 / m if m else 0.0)))
        if abs(p - q) > limit * error and abs(p - q) > 1e-9:
            changed.append(ClassChange(name, p, q))
    return sorted(changed, key=lambda c: -abs(c.share - c.real))
