"""The verdict of an audit: one word, at most three reasons that name columns and sizes, and what to do next.

============ ======================================================================================================
broken       a column is missing, constant, or holds values the real data never had, in most of its rows
copied       rows sit on real training rows far more often than held-out rows do
collapsed    variance, coverage of the real modes or categories are lost
drifted      the generation differs from the real data in another way, by more than sampling
undetermined no difference was found, and a large one could have been missed
clean        no difference was found, and one of a stated size would have shown
============ ======================================================================================================

Every reason has passed a test at 5 % over all looks and generations (:mod:`driftlaw.auditing.verdict.looks`); the sizes
below decide which word it gets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from driftlaw.auditing.changes import Changes
from driftlaw.auditing.rows import RowMeasures
from driftlaw.auditing.verdict.columns import MOST_NAMES, ColumnAudit
from driftlaw.auditing.verdict.looks import Looks
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import plain, share, signed
from driftlaw.records import Record

#: The words, worst first.
VERDICTS = ("broken", "copied", "collapsed", "drifted", "undetermined", "clean")
#: Level over all looks and generations.
LEVEL = 0.05
#: Variance, recall (of its floor) and category mass beyond which a loss is called a collapse.
LOST_VARIANCE, LOST_RECALL, LOST_MASS = 0.5, 0.5, 0.05
#: Share of a column's rows beyond which it is broken, and of rows that sit on real ones beyond which a set is copied.
BROKEN, COPIED = 0.5, 0.05
#: Share of values in the real tails, and shift in real standard deviations, beyond which a unit is in doubt.
OUTSIDE, FAR = 0.8, 5.0
#: Drift that a clean verdict must have been able to see: half a standard deviation in one direction.
VISIBLE = 0.25
#: Numbers of a reason, without which columns that say the same read alike.
_NUMBERS = re.compile(r"[-+]?[\d.,]+(?:e[-+]?\d+)?%?")
#: Reasons that are given.
MOST_REASONS = 3


@dataclass(frozen=True)
class Finding(Record):
    """One reason for a verdict.

    Args:
        word: the verdict it speaks for.
        look: "mean", "columns", "spread", "dependence", "recall" or "copies".
        subject: the column or feature, or empty for the whole.
        text: in words, without a full stop.
        p: adjusted over looks and generations.
    """

    word: str
    look: str
    subject: str
    text: str
    p: float


@dataclass(frozen=True)
class Verdict(Record):
    """What an audit comes to.

    Args:
        word: one of :data:`VERDICTS`.
        generation: the generation it is about.
        reasons: at most three, in plain words.
        action: what to do next, with the command where there is one.
    """

    word: str
    generation: int
    reasons: tuple[str, ...]
    action: str

    def __str__(self) -> str:
        return self.word

    @property
    def sentence(self) -> str:
        """The word and its reasons in one line."""
        where = f"generation {self.generation}"
        return f"{self.word}: {where}: {'; '.join(self.reasons)}." if self.reasons else f"{self.word}: {where}."


def findings(
    drift: Estimate, changes: Changes, columns: Sequence[ColumnAudit], rows: RowMeasures | None, looks: Looks
) -> tuple[Finding, ...]:
    """What speaks against one generation, the worst first.

    Args:
        drift: against the real data.
        changes: its features.
        columns: all of them.
        rows: nearest-neighbour measures.
        looks: adjusted p-values.
    """
    found = [f for c in columns if (p := looks.column(c)) < LEVEL for f in _of_column(c, p)]
    if looks.copies is not None and looks.copies < LEVEL and rows is not None:
        e = rows.near_duplicates
        word = "copied" if e.low > COPIED else "drifted"
        found.append(Finding(word, "copies", "", f"{share(e.value)} of rows sit on real training rows", looks.copies))
    if looks.recall is not None and looks.recall < LEVEL and rows is not None:
        low, floor = rows.recall.value, rows.recall_floor.value
        word = "collapsed" if rows.recall.high < LOST_RECALL * floor else "drifted"
        text = f"recall {low:.0%}: that share of real rows has generated rows near it ({floor:.0%} of other real rows)"
        found.append(Finding(word, "recall", "", text, looks.recall))
    spread = changes.spread.total
    if looks.columns is not None and looks.columns < LEVEL and spread.high < LOST_VARIANCE:
        found.append(
            Finding("collapsed", "columns", "", f"{spread.value:.0%} of the real variance is left", looks.columns)
        )
    found += _of_shape(columns, looks, {f.subject for f in found})
    if looks.mean < LEVEL:
        moved = [f for f in changes.features if f.shift.low > 0 or f.shift.high < 0][:3]
        which = ", ".join(f"{f.name} by {signed(f.shift.value)}σ" for f in moved) or "no single feature stands out"
        found.append(Finding("drifted", "mean", "", f"means moved: drift {drift.text()} ({which})", looks.mean))
    return tuple(sorted(found, key=lambda f: (VERDICTS.index(f.word), f.p)))


def verdict(
    names: Sequence[str],
    found: Sequence[Sequence[Finding]],
    floors: Sequence[Estimate],
    sizes: Sequence[int],
    real: int,
    action: str,
) -> Verdict:
    """The verdict of a line of generations: that of the last one, or of the worst before it where the last is not bad.

    Args:
        names: of the generations.
        found: findings of each.
        floors: range of real rows at each size.
        sizes: rows of each.
        real: rows of the real data.
        action: what a drifted or collapsed line calls for.
    """
    bad = [i for i, f in enumerate(found) if f]
    if not bad:
        return _nothing(floors[-1], sizes[-1], real, len(names))
    i = len(names) - 1 if found[-1] else min(bad, key=lambda k: (VERDICTS.index(found[k][0].word), -k))
    word = found[i][0].word
    reasons = [_dated(f, i, found) + more for f, more in _told(found[i])]
    worse = [k for k in bad if VERDICTS.index(found[k][0].word) < VERDICTS.index(word)]
    if worse:
        reasons = [*reasons[: MOST_REASONS - 1], f"generation {worse[-1] + 1} was {found[worse[-1]][0].word}"]
    return Verdict(word, i + 1, tuple(reasons), _ACTIONS.get(word) or action)


def _told(found: Sequence[Finding]) -> list[tuple[Finding, str]]:
    """The findings that are told: columns that say the same once, with how many more there are."""
    alike: dict[str, list[Finding]] = {}
    for f in found:
        about_column = f.look == "columns" and bool(f.subject)
        said = _NUMBERS.sub("", f.text.removeprefix(f.subject)) if about_column else f.text
        alike.setdefault(said, []).append(f)
    told = []
    for group in alike.values():
        more = len({f.subject for f in group}) - 1
        told.append((group[0], f" (and {more} more column{'s' * (more > 1)})" if more else ""))
    return told[:MOST_REASONS]


#: What to do where no plan helps.
_ACTIONS = {
    "broken": "Correct how the named columns are written or read, and audit again.",
    "copied": "Remove the rows that sit on real ones, and check what the model was trained on.",
}


def _nothing(floor: Estimate, n: int, real: int, last: int) -> Verdict:
    sees = floor.high
    if sees <= VISIBLE:
        said = f"none of the looks differs from the real data; a drift above {sees:.2g} would usually have shown"
        return Verdict("clean", last, (said,), "Go on, and audit the next generation as well.")
    smaller = min(n, real)
    needed = -(-int(1.1 * smaller * sees / VISIBLE) // 10) * 10
    said = f"{smaller} rows are too few: only a drift above {sees:.2g} would usually have shown"
    return Verdict(
        "undetermined",
        last,
        (said,),
        f"Audit about {needed} rows of each set, or fewer features: then a drift above {VISIBLE} would show.",
    )


def _of_column(c: ColumnAudit, p: float) -> list[Finding]:
    """The clearest thing that is wrong with a column."""

    def finding(word: str, text: str) -> Finding:
        return Finding(word, "columns", c.name, text, p)

    out = []
    if not c.missing.is_refused and c.missing.low > c.real_missing.high:
        word = "broken" if c.missing.value - c.real_missing.value > BROKEN else "drifted"
        out.append(finding(word, f"{c.name}: {share(c.missing.value)} missing (real {share(c.real_missing.value)})"))
    if c.new:
        total = sum(part for _, part in c.new) if len(c.new) < MOST_NAMES else c.tails.value
        word = "broken" if total > BROKEN else "drifted"
        named = ", ".join(f"{name!r} {share(part)}" for name, part in c.new[:3])
        out.append(finding(word, f"{c.name}: new categories {named}"))
    if c.lost:
        mass = sum(part for _, part in c.lost)
        named = ", ".join(f"{name!r} ({share(part)} of real rows)" for name, part in c.lost[:3])
        out.append(finding("collapsed" if mass > LOST_MASS else "drifted", f"{c.name}: lost categories {named}"))
    if c.is_constant and c.missing.value < 1:
        out.append(finding("broken", f"{c.name} is constant"))
    elif not out:
        out.append(_moved(c, p))
    return out


def _of_shape(columns: Sequence[ColumnAudit], looks: Looks, named: set[str]) -> list[Finding]:
    """A column that spreads differently, and a pair whose correlation changed."""
    out = []
    if looks.spread is not None and looks.spread < LEVEL and looks.spread_of not in named:
        text, word = f"{looks.spread_of}: its values spread differently", "drifted"
        ratio = next((c.spread for c in columns if c.name == looks.spread_of and not c.spread.is_refused), None)
        if ratio is not None:
            text = f"{looks.spread_of}: {ratio.value:.2g} times the real variance"
            word = "collapsed" if ratio.high < LOST_VARIANCE else word
        out.append(Finding(word, "spread", looks.spread_of, text, looks.spread))
    if looks.dependence is not None and looks.dependence < LEVEL and looks.pair is not None:
        a, b, before, after = looks.pair
        text = f"{a} and {b}: correlation {after:+.2f} (real {before:+.2f})"
        out.append(Finding("drifted", "dependence", f"{a}, {b}", text, looks.dependence))
    return out


def _moved(c: ColumnAudit, p: float) -> Finding:
    """A column whose cells differ: narrower, wider, shifted, or otherwise."""
    word, text = "drifted", "its distribution differs"
    if c.kind == "categorical":
        text = "the shares of its categories differ"
    elif c.tails.low > OUTSIDE and not c.shift.is_refused and abs(c.shift.value) > FAR:
        far = f"{share(c.tails.value)} of values lie in the real 2 % tails"
        text = f"{far}, shifted by {signed(c.shift.value)}σ: check its unit"
    elif not c.spread.is_refused and (c.spread.high < LOST_VARIANCE or c.spread.low > 1 / LOST_VARIANCE):
        narrow = c.spread.value < 1
        word = "collapsed" if narrow else "drifted"
        text = f"{plain(c.spread.value, 2)} times the real variance"
    elif not c.shift.is_refused and abs(c.shift.value) > 0.1 and (c.shift.low > 0 or c.shift.high < 0):
        text = f"shifted by {signed(c.shift.value)}σ"
    elif c.tails.low > 0.02 or c.tails.high < 0.02:
        text = f"{share(c.tails.value)} of values in the real 2 % tails"
    elif c.inner.low > 0.5 or c.inner.high < 0.5:
        text = f"{share(c.inner.value)} of values between the real quartiles"
    return Finding(word, "columns", c.name, f"{c.name}: {text}", p)


def _dated(f: Finding, i: int, found: Sequence[Sequence[Finding]]) -> str:
    """The reason, with the generation it first appeared in."""
    first = next(k for k, others in enumerate(found) if any((o.look, o.subject) == (f.look, f.subject) for o in others))
    return f.text if first == i else f"{f.text}, since generation {first + 1}"
