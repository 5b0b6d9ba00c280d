"""The section "Bounds and certificates": the document of :mod:`driftlaw.analysis.report`, drawn and put in words."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from driftlaw.analysis.collapse import Sign
from driftlaw.analysis.report import (
    Accumulation,
    BoundsReport,
    Outcome,
    Statement,
    alignment_words,
    reference_words,
    regime_words,
)
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.numerics.words import at_generations, generations, number
from driftlaw.report import words
from driftlaw.report.figures import run as figures
from driftlaw.report.figures.svg import COLOURS, Canvas
from driftlaw.report.mathml import mathml
from driftlaw.theory.bounds import Bound

#: Marker of a bound by its side; a bound is green everywhere.
MARKERS = {"upper": "v", "lower": "^", "identity": "_"}
BOUND = "series-3"
_RANK = {"violated": 0, "not checkable from data": 1, "checked": 2}
#: Plain text of the theory as a reader writes it, in this order.
_READABLE = tuple(
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"p_hat", "p̂"),
        (r"eps_hat", "ε̂"),
        (r"\beps\b", "ε"),
        (r"\balpha\b", "α"),
        (r"\beta\b", "η"),
        (r"\bkappa\b", "κ"),
        (r"\bdelta", "δ"),
        (r"\bgamma\b", "γ"),
        (r"\|\|", "‖"),
        (r"[Cc]hi2\b", "χ²"),
        (r"\^2\b", "²"),
        (r"\^4\b", "⁴"),
        (r"\^n\b", "ⁿ"),
        (r"_\{i\+1\}", "ᵢ₊₁"),
        (r"(?<=[DIJq])_i\b", "ᵢ"),
        (r"(?<=D)_n\b", "ₙ"),
        (r"P_t0\b", "Pₜ₀"),
        (r"\bt0\b", "t₀"),
        (r" >= ", " ≥ "),
        (r" <= ", " ≤ "),
    )
)


@dataclass(frozen=True)
class Badge:
    """An assumption over the generations: its worst status, in words, with the reason."""

    name: str
    status: str
    words: str


@dataclass(frozen=True)
class Card:
    """One statement over the generations."""

    name: str
    tag: str
    formula: Markup
    about: str
    figure: Markup | None
    badges: tuple[Badge, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Everything that the template shows."""

    cards: tuple[Card, ...]
    whole: tuple[Card, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    gram: Markup
    memory: Markup
    causes: Markup
    causes_words: str
    collapse: tuple[Sign, ...]


def section(history: History) -> Section | None:
    """The section of a run that was analysed; None for one that was not."""
    found = BoundsReport.stored(history.directory.path)
    if found is None:
        return None
    groups: dict[tuple[str, str], list[Statement]] = {}
    for s in found.statements:
        if s.generation is not None:
            groups.setdefault((s.reference, s.bound.name), []).append(s)
    ordered = sorted(groups.values(), key=lambda g: g[0].reference != "")  # one step first
    notes = list(found.notes)
    if found.generations != len(history):
        made = f"{found.generations} of {len(history)} generations"
        notes.append(f"These bounds were made after {made}: run `driftlaw bounds` again.")
    main = found.main
    return Section(
        cards=tuple(_card(f"bound-{k}", group, found.generations) for k, group in enumerate(ordered)),
        whole=tuple(_whole(s) for s in found.at(None)),
        sentences=_sentences(found),
        notes=tuple(readable(note[:1].upper() + note[1:].rstrip(".")) + "." for note in notes),
        gram=gram("gram", main),
        memory=figures.memory("bound-memory", main.propagator**2),
        causes=causes("causes", main),
        collapse=tuple(dataclasses.replace(c, evidence=readable(c.evidence)) for c in found.collapse),
        causes_words=_causes_words(main),
    )


def _sentences(found: BoundsReport) -> tuple[str, ...]:
    main = found.main
    reasons = "; ".join(main.regime.evidence)
    alignment = alignment_words(main.alignment)
    where = reference_words(main.reference)
    return (
        readable(f"Regime in {where}: {regime_words(main.regime)}. {reasons[:1].upper()}{reasons[1:]}."),
        f"{alignment[:1].upper()}{alignment[1:]}. The policy remembers {number(float(main.memory[-1]))} "
        f"generations of aligned error. Rebuilt from innovations and policy, Dₙ = (G Γ Gᵀ)ₙₙ agrees with the measured "
        f"drift to a relative {number(main.reconstruction_error, 2)}: rounding.",
    )


# -- statements -----------------------------------------------------------------------------------------------------


def _card(name: str, group: Sequence[Statement], last: int) -> Card:
    first = group[-1].bound
    quantity = first.quantity.replace(f"_{last}", "_n").replace(f"^{last}", "^n")
    return Card(
        name=first.name,
        tag=_tag(group),
        formula=mathml(first.formula),
        about=_about(group[-1], quantity),
        figure=curve(name, first.name, group, last),
        badges=_badges(group, last),
        notes=tuple(_notes(group, last)),
    )


def _about(s: Statement, quantity: str) -> str:
    """What is bounded, in which reference law, and where that is proved."""
    where, source = reference_words(s.reference), s.bound.reference
    return readable(f"{quantity}, {where}" if where else quantity) + f". {source[:1].upper()}{source[1:]}."


def readable(quantity: str) -> str:
    """A quantity of a bound as a reader writes it.

    Example:
        >>> readable("KL(p_hat || q) at t0")
        'KL(p̂ ‖ q) at t₀'
    """
    for pattern, shown in _READABLE:
        quantity = pattern.sub(shown, quantity)
    return quantity


#: Outcomes as a card says them, the one that matters most first.
TAGS: dict[Outcome, str] = {
    "outside": "outside the bound",
    "undetermined": "undetermined",
    "within": "within the bound",
    "equal": "equal within noise",
    "not measured": "not measured",
    "says nothing": "says nothing here",
    "not valid as printed": "not valid as printed",
}


def _tag(found: Sequence[Statement]) -> str:
    outcomes = {s.outcome for s in found}
    if "undetermined" in outcomes and outcomes & {"within", "equal"} and "outside" not in outcomes:
        return "partly undetermined"
    return next(text for outcome, text in TAGS.items() if outcome in outcomes)


def _badges(group: Sequence[Statement], last: int) -> tuple[Badge, ...]:
    seen: dict[str, list[tuple[int, str, str, str]]] = {}
    for s in group:
        for a in s.bound.assumptions:
            seen.setdefault(a.name, []).append((s.generation or last, a.status, a.text, a.evidence))
    badges = []
    for name, entries in seen.items():
        status = min((e[1] for e in entries), key=lambda x: _RANK[x])
        at = [e[0] for e in entries if e[1] == status]
        _, _, text, evidence = next(e for e in reversed(entries) if e[1] == status)
        where = "" if status == "checked" or len(set(at)) >= last else f" {at_generations(at, last)}"
        reason = f" ({evidence})" if evidence else ""
        badges.append(Badge(readable(name), status, readable(f"{status}{where}: {text}{reason}")))
    return tuple(badges)


def _notes(group: Sequence[Statement], last: int) -> list[str]:
    found = [s.bound for s in group]
    notes = []
    for note in dict.fromkeys(b.note for b in found if b.note):
        at = [s.generation or last for s in group if s.bound.note == note]
        where = "" if len(set(at)) == last else f" ({generations(at)})"
        notes.append(readable(note[:1].upper() + note[1:]) + where + ".")
    rough = sorted({s.generation or last for s in group if s.outcome == "undetermined"})
    if rough:
        notes.append(f"Undetermined {at_generations(rough, last)}: the intervals of bound and measurement meet.")
    infinite = sorted({s.generation or last for s in group if s.bound.measured and s.bound.measured.is_infinite})
    if infinite:
        notes.append(f"The measured value is infinite {at_generations(infinite, last)}.")
    for side in dict.fromkeys(b.side for b in found):
        slack = [b.slack for b in found if b.side == side and math.isfinite(b.slack) and not _infinite(b)]
        if slack:
            low, high = (number(x) for x in (min(slack), max(slack)))
            span = low if low == high else f"{low} to {high}"
            what = {"upper": "upper bound", "lower": "lower bound", "identity": "value"}[side]
            notes.append(f"Slack, {what} / measured: {span}.")
    return notes


def _whole(s: Statement) -> Card:
    b = s.bound
    sign = {"upper": "≤", "lower": "≥", "identity": "="}[b.side]
    measured = "" if b.measured is None else f"Measured {words.estimate(b.measured)}, "
    slack = f" Slack {number(b.slack)}." if math.isfinite(b.slack) and not _infinite(b) else ""
    note = (readable(b.note[:1].upper() + b.note[1:]) + ".",) if b.note else ()
    stated = f"{measured}stated {sign} {words.estimate(b.value)}.{slack}"
    return Card(b.name, _tag([s]), mathml(b.formula), _about(s, b.quantity), None, _badges([s], 1), (stated, *note))


def _infinite(b: Bound) -> bool:
    return b.measured is not None and b.measured.is_infinite


# -- figures --------------------------------------------------------------------------------------------------------


def curve(name: str, title: str, group: Sequence[Statement], last: int) -> Markup | None:
    """Measured values (orange, 95 % intervals) beside the bound (green markers), over generations, on a log scale.

    Args:
        name: unique in the page.
        title: the statement's name.
        group: its statements.
        last: last generation of the axis.

    Returns:
        The figure, or None when nothing positive and finite is left to draw.
    """
    measured = {s.generation: s.bound.measured for s in group if s.bound.measured is not None}
    points = [(n, e) for n, e in measured.items() if n and 0 < e.value < math.inf]
    limits = [(s.generation, s.bound) for s in group if s.generation and 0 < s.bound.value.value < math.inf]
    if not limits:
        return None
    canvas = Canvas(height=172)
    with canvas as axes:
        axes.set_yscale("log")
        axes.grid(axis="y")
        for side, marker in MARKERS.items():
            at = [(n, b.value) for n, b in limits if b.side == side]
            _dots(axes, at, BOUND, marker, 9.0 if marker == "_" else 7.0)
        _dots(axes, points, "model", "o", 5.5)
        figures.generation_axis(axes, last)
        axes.set_ylabel("measured and bound")
        values = [e.value for _, e in points] + [b.value.value for _, b in limits]
        low, high = min(values), max(values)
        room = max(1.15, (high / low) ** 0.1)
        axes.set_ylim(low / room, high * room)
        axes.yaxis.set_major_formatter(lambda x, _: number(x, 2))
        axes.yaxis.set_minor_formatter(lambda x, _: number(x, 2) if high / low < 8 else "")
        axes.tick_params(axis="y", which="minor", length=0, labelsize=8, labelcolor=COLOURS["muted"])
        if high / low < 8:
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.yaxis.set_minor_locator(MaxNLocator(nbins=1))
            axes.yaxis.set_minor_formatter(lambda x, _: "")
    said = "; ".join(
        f"generation {n}: bound {words.estimate(b.value)}"
        + (f", measured {words.estimate(measured[n])}" if n in measured else "")
        for n, b in limits[-2:]
    )
    return canvas.svg(name, f"Dot plot of {title}, measured against its bound by generation. {said}.")


def _dots(axes: Axes, points: Sequence[tuple[int, Estimate]], colour: str, marker: str, size: float) -> None:
    if not points:
        return
    at = [n for n, _ in points]
    ends = [(max(e.low, e.value / 1e3), e.high if math.isfinite(e.high) else e.value * 1e3) for _, e in points]
    ends = [(low if math.isfinite(low) else e.value, high) for (low, high), (_, e) in zip(ends, points, strict=True)]
    axes.vlines(at, [low for low, _ in ends], [high for _, high in ends], color=COLOURS[colour], linewidth=1.1)
    style = {"markersize": size, "markeredgecolor": COLOURS["surface" if marker != "_" else colour]}
    style |= {"markeredgewidth": 0.5 if marker != "_" else 2.0}
    axes.plot(at, [e.value for _, e in points], color=COLOURS[colour], linestyle="none", marker=marker, **style)  # type: ignore[arg-type]


def gram(name: str, found: Accumulation) -> Markup:
    """Heat map of the Gram matrix of innovations: orange adds up, blue cancels."""
    size = len(found.gram)
    shown = figures.thin(size, figures.MOST_CELLS)
    top = float(abs(found.gram).max()) or 1.0
    canvas = Canvas(320, 215)
    with canvas as axes:
        for row, i in enumerate(shown):
            for column, j in enumerate(shown):
                value = float(found.gram[i - 1, j - 1])
                colour, share = ("heat", 1.0) if value >= 0 else ("real", 0.4)
                box = (column - 0.48, row - 0.47), 0.96, 0.94
                axes.add_patch(Rectangle(*box, facecolor=COLOURS["grid"], alpha=0.35, linewidth=0))
                alpha = round(share * abs(value) / top, 3)
                if alpha >= 0.004:
                    axes.add_patch(Rectangle(*box, facecolor=COLOURS[colour], alpha=alpha, linewidth=0))
                if len(shown) <= 7:
                    axes.text(column, row, number(value, 2), ha="center", va="center", fontsize=8)
        ticks = range(0, len(shown), max(1, math.ceil(len(shown) / 10)))
        axes.set_xticks(list(ticks), [str(shown[k] - 1) for k in ticks])
        axes.set_yticks(list(ticks), [str(shown[k] - 1) for k in ticks])
        axes.set_xlim(-0.55, len(shown) - 0.45)
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.set_xlabel("step j")
        axes.set_ylabel("step i")
    return canvas.svg(name, f"Heat map of the Gram matrix of {size} innovations, {alignment_words(found.alignment)}.")


def causes(name: str, found: Accumulation) -> Markup:
    """Bars: the part of the last generation's drift that each step caused, and the part without alignment."""
    parts = found.contributions
    at = np.arange(len(found.gram))
    canvas = Canvas(320, 215)
    with canvas as axes:
        axes.grid(axis="y")
        axes.axhline(0, color=COLOURS["grid"], linewidth=0.8)
        for i in at:
            share = float(parts.attributed[-1, i])
            axes.add_patch(Rectangle((i - 0.38, 0), 0.76, share, facecolor=COLOURS["model"], alpha=0.85, linewidth=0))
        style = {"markersize": 9 if len(at) < 12 else 5, "markeredgewidth": 2.0}
        axes.plot(at, parts.discounted[-1], linestyle="none", marker="_", color=COLOURS["ink"], **style)  # type: ignore[arg-type]
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_xlim(-0.6 - 0.02 * len(at), len(at) - 0.4 + 0.02 * len(at))
        axes.autoscale_view(scalex=False)
        axes.set_xlabel("step i, where the error arose")
        axes.set_ylabel("part of today's drift")
    said = ", ".join(f"step {i}: {number(float(parts.attributed[-1, i]), 2)}" for i in at[-3:])
    return canvas.svg(name, f"Bars of the last generation's drift by the step that caused it. {said}.")


def _causes_words(found: Accumulation) -> str:
    parts = found.contributions.attributed[-1]
    total = float(parts.sum())
    if not total > 0:
        return "The drift of the last generation is not above its noise."
    share = parts / total
    top, last = int(share.argmax()), len(share) - 1
    most = "" if top == last else f"; the largest part, {number(100 * float(share[top]), 2)} %, from step {top}"
    of_last = f"{number(100 * float(share[-1]), 2)} % came from the last step"
    return f"Of the last generation's drift of {number(total)}, {of_last}{most}."
