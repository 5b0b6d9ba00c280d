"""The figures of a reproduction, each panel a pure function of the table beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from driftlaw.numerics.words import number, ranges
from driftlaw.report.figures import run as figures
from driftlaw.report.figures.svg import COLOURS, Canvas
from driftlaw.reproduce.records import FigureData

#: Colour name and marker of each alpha, in order.
SERIES = (("series-1", "o"), ("series-2", "s"), ("series-3", "^"), ("series-4", "D"), ("series-5", "v"))
EDGE: dict[str, Any] = {"markeredgecolor": COLOURS["surface"], "markeredgewidth": 0.6}


@dataclass(frozen=True)
class Panel:
    """One drawing with its title, what it does not show, and a key of ``(words, colour name)``."""

    name: str
    title: str
    text: str
    figure: Markup | None
    notes: tuple[str, ...] = ()
    key: tuple[tuple[str, str], ...] = ()


def panels(data: FigureData) -> list[Panel]:
    """The panels of a figure, in order."""
    makers = {"fig1": _fig1, "fig2": _fig2, "fig3": _fig3, "fig4": _fig4, "fig5": _fig5, "controlled": _controlled}
    maker = makers.get(data.name)
    return list(maker(data)) if maker else []


def colour_of(alphas: list[float], alpha: float) -> tuple[str, str]:
    """Colour name and marker of one alpha."""
    return SERIES[alphas.index(alpha) % len(SERIES)]


def _fig1(data: FigureData) -> Iterator[Panel]:
    points = data.tables["points"]
    xy = points[["pc1", "pc2"]].to_numpy()
    reach = float(np.quantile(np.abs(xy), 0.995)) * 1.1
    limits = ((-reach, reach), (-reach, reach))
    for alpha, group in points.groupby("alpha"):
        real = group.loc[group.generation.eq(0), ["pc1", "pc2"]].to_numpy()
        for n, cloud in group[group.generation.gt(0)].groupby("generation"):
            title = f"α = {alpha:g}, n = {n}"
            alt = f"Draws of generation {n} at alpha {alpha:g} over the target in its two principal components."
            figure = figures.scatter(
                f"fig1-{alpha:g}-{n}".replace(".", ""), real, cloud[["pc1", "pc2"]].to_numpy(), limits, alt
            )
            yield Panel(f"fig1-alpha-{alpha:g}-generation-{n}", title, "", figure)


def _fig2(data: FigureData) -> Iterator[Panel]:
    table = data.tables["eta"]
    text = {
        "mixture": "Filled: Stein estimate with 95 % interval. Open: the regression's lower bound.",
        "digits": "8×8 digits with the exact score of their empirical law; Stein estimate with 95 % interval.",
    }
    for law, group in table.groupby("law", sort=False):
        yield observabilities(f"fig2-{law}", f"η of each error on the {law}", text[str(law)], group)


def observabilities(name: str, title: str, text: str, group: pd.DataFrame) -> Panel:
    """One line for each kind of error."""
    kinds = list(dict.fromkeys(group.kind))
    canvas = Canvas(360, 60 + 19 * len(kinds))
    with canvas as axes:
        axes.axvline(0, color=COLOURS["grid"], linewidth=1)
        axes.axvline(1, color=COLOURS["grid"], linewidth=1)
        for r in group.to_dict("records"):
            y, first = kinds.index(r["kind"]), r["estimator"] == group.estimator.iloc[0]
            colour = COLOURS["model" if first else "real"]
            shift = -0.13 if first else 0.17
            axes.hlines(y + shift, r["low"], r["high"], color=colour, linewidth=1.6)
            face = colour if first else "none"
            axes.plot(r["value"], y + shift, "o", color=colour, markerfacecolor=face, markersize=4.6)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_ylim(len(kinds) - 0.4, -0.6)
        axes.set_xlim(min(-0.05, float(group.low.min()) - 0.03), max(1.05, float(group.high.max()) + 0.03))
        axes.set_xlabel("observability η")
    main = group[group.estimator.eq(group.estimator.iloc[0])]
    said = "; ".join(f"{k}: {number(v, 2)}" for k, v in zip(main.kind, main.value, strict=True))
    return Panel(name, title, text, canvas.svg(name, f"Observability by kind of error. {said}."))


def _fig3(data: FigureData) -> Iterator[Panel]:
    table = data.tables["one-generation"]
    wide = table.pivot_table(index=["alpha", "i"], columns="quantity", values="value", dropna=False)
    axes = ("KL_init + ε̂²/2, nats", "KL(p̂ ‖ q) at t₀, nats")
    text = "Measured KL against its bound, one point a generation. On the line the bound is an equality."
    yield _versus(wide[["kl_upper", "kl"]], "fig3-kl", "Proposition 3.1", axes, text, (1.0,))
    finite = wide[np.isfinite(wide.chi2)]
    left = [f"α = {a:g}, i = {i}" for a, i in wide.index[~np.isfinite(wide.chi2)]]
    notes = (f"Not drawn, because χ² is infinite or unknown: {', '.join(left)}.",) if left else ()
    text = (
        "Dashed: η ε*² (the small-error limit, ours); dotted: one quarter and four times it, the leading terms of the "
        "paper's bounds (the upper one without η, which is near 1 here)."
    )
    axes, title = ("η ε*²", "χ²(p̂ ‖ q) at t₀"), "Proposition 3.3 and Theorem 3.4"
    if len(finite):
        yield _versus(finite[["chi2_sharp", "chi2"]], "fig3-chi2", title, axes, text, (1.0, 0.25, 4.0), notes)
    else:
        yield Panel("fig3-chi2", title, "", None, notes)
    for alpha, group in table.groupby("alpha"):
        yield _estimators(float(str(alpha)), group)


def _versus(
    pairs: pd.DataFrame,
    name: str,
    title: str,
    labels: tuple[str, str],
    text: str,
    factors: tuple[float, ...],
    notes: tuple[str, ...] = (),
) -> Panel:
    """Second column against the first, both logarithmic, with lines ``y = factor x``."""
    alphas = sorted(pairs.index.get_level_values("alpha").unique())
    x, y = pairs.columns
    canvas = Canvas(300, 230)
    with canvas as axes:
        axes.grid(True)
        ends = np.array([pairs[x].min() / 1.6, pairs[x].max() * 1.6])
        for factor in factors:
            style = (0, (4, 2)) if factor == 1 else (0, (1, 2))
            axes.plot(ends, factor * ends, color=COLOURS["muted"], linewidth=1, linestyle=style)
        for alpha in alphas:
            colour, marker = colour_of(alphas, alpha)
            rows = pairs.loc[alpha]
            axes.plot(rows[x], rows[y], marker, color=COLOURS[colour], markersize=5.5, **EDGE)
        figures.logarithmic(axes, "x", "y")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
    span = " to ".join(number(float(v), 2) for v in (pairs[y].min(), pairs[y].max()))
    alt = f"{labels[1]} against {labels[0]}, {len(pairs)} points, {span}."
    return Panel(name, title, text, canvas.svg(name, alt), notes)


#: How each estimator of eta is drawn: colour, marker, words.
ESTIMATORS = {
    "observability": ("series-2", "o", "conditional variance"),
    "observability_stein": ("series-1", "s", "two-copy Stein"),
    "observability_regression": ("series-3", "^", "regression, a lower bound"),
    "observability_first_order": ("series-4", "D", "first order, χ²/ε*²"),
}


def _estimators(alpha: float, group: pd.DataFrame) -> Panel:
    name, top = f"fig3-eta-{alpha:g}", 1.4
    notes, key = [], []
    canvas = Canvas(300, 200)
    with canvas as axes:
        axes.axhline(1, color=COLOURS["muted"], linewidth=0.9, linestyle=(0, (1, 2)))
        for quantity, (colour, marker, label) in ESTIMATORS.items():
            rows = group[group.quantity.eq(quantity) & np.isfinite(group.value)]
            if rows.empty:
                continue
            key.append((label, colour))
            if len(high := rows[rows.value > top]):
                reach = " to ".join(dict.fromkeys(number(v) for v in (high.value.min(), high.value.max())))
                notes.append(f"Above the axis: {label} at i = {ranges(high.i)}, {reach}.")
            rows = rows[rows.value <= top]
            axes.vlines(rows.i, rows.low, rows.high, color=COLOURS[colour], linewidth=1)
            axes.plot(rows.i, rows.value, marker, color=COLOURS[colour], markersize=4.5, **EDGE)
        axes.set_ylim(0, top)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.set_xlabel("generation i")
        axes.set_ylabel("observability η")
    eta = group[group.quantity.eq("observability")].value
    reach = f"{eta.min():.3f} to {eta.max():.3f}"
    svg = canvas.svg(name.replace(".", ""), f"Estimates of eta by generation, alpha {alpha:g}; {reach}.")
    return Panel(name, f"η by its estimators, α = {alpha:g}", "", svg, tuple(notes), tuple(key))


#: Quantity, title, axis and whether the axis is logarithmic.
DRIFTS = (
    ("kl", "KL(p̂ ‖ p)", "nats", False),
    ("kl_reverse", "KL(p ‖ p̂)", "nats", False),
    ("chi2", "χ²(p̂ ‖ p)", "χ²", True),
    ("chi2_reverse", "χ²(p ‖ p̂)", "χ²", True),
    ("chi2_mix", "χ² to the mixture of both", "χ², at most 1", False),
    ("tv", "Total variation", "TV, at most 1", False),
)


def _fig4(data: FigureData) -> Iterator[Panel]:
    table = data.tables["drift"]
    alphas, last = sorted(table.alpha.unique()), int(table.generation.max())
    for quantity, title, label, wide in DRIFTS:
        rows = table[table.quantity.eq(quantity)]
        finite = rows[np.isfinite(rows.value)]
        notes = tuple(data.notes) if quantity == "chi2" else ()
        if finite.generation.nunique() < min(2, last):
            values = (
                f"α = {r['alpha']:g}: {number(r['value'])} in generation {r['generation']}."
                for r in finite.to_dict("records")
            )
            yield Panel(f"fig4-{quantity}", title, "", None, (*notes, *values) or ("Not measured in this run.",))
            continue
        canvas = Canvas(280, 190)
        with canvas as axes:
            axes.grid(axis="y")
            for alpha, group in finite.groupby("alpha"):
                colour, marker = colour_of(alphas, float(str(alpha)))
                band(axes, group, COLOURS[colour], marker)
            if wide:
                figures.logarithmic(axes, "y")
            else:
                axes.set_ylim(bottom=0)
            figures.generation_axis(axes, last)
            axes.set_ylabel(label)
        ends = finite[finite.generation.eq(finite.generation.max())]
        said = "; ".join(f"alpha {a:g}: {number(v)}" for a, v in zip(ends.alpha, ends.value, strict=True))
        alt = f"{title} by generation. Generation {int(finite.generation.max())}: {said}."
        yield Panel(f"fig4-{quantity}", title, "", canvas.svg(f"fig4-{quantity.replace('_', '-')}", alt), notes)


def band(axes: Axes, group: pd.DataFrame, colour: str, marker: str) -> None:
    """A curve over generations with its intervals."""
    high = group.high.where(np.isfinite(group.high), group.value)
    low = group.low.where(np.isfinite(group.low), group.value)
    axes.fill_between(group.generation, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(group.generation, group.value, color=colour, linewidth=1.6, marker=marker, markersize=4, **EDGE)


KINDS = {
    "discounted": ("Discounted, G² J (the paper's)", "generation n", "step i"),
    "attributed": ("Attributed, G_i Σ_j G_j Γ_ij (ours)", "generation n", "step i"),
    "pairwise": ("Pairs of the last generation (ours)", "step j", "step i"),
}


def _fig5(data: FigureData) -> Iterator[Panel]:
    table = data.tables["contributions"]
    for (alpha, note), (kind, (title, down, across)) in (
        (a, k) for a in zip(sorted(table.alpha.unique()), data.notes, strict=True) for k in KINDS.items()
    ):
        rows = table[table.alpha.eq(alpha) & table.kind.eq(kind)]
        matrix = rows.pivot(index="row", columns="column", values="value").to_numpy()
        name = f"fig5-{kind}-{alpha:g}"
        yield Panel(
            name,
            f"α = {alpha:g}: {title}",
            "",
            _heat(name, matrix, down, across, kind == "pairwise"),
            (note,) if kind == "discounted" else (),
        )


def _heat(name: str, matrix: np.ndarray, down: str, across: str, square: bool) -> Markup:
    top = float(np.abs(matrix).max()) or 1.0
    canvas = Canvas(230, 215)
    with canvas as axes:
        for (y, x), value in np.ndenumerate(matrix):
            if not square and x > y:
                continue
            axes.add_patch(
                Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=COLOURS["grid"], alpha=0.3, linewidth=0)
            )
            strength = math.sqrt(abs(value) / top)
            if strength > 0.02:
                colour = COLOURS["model" if value > 0 else "real"]
                axes.add_patch(
                    Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, linewidth=0, alpha=round(strength, 3))
                )
        size = len(matrix)
        step = max(1, math.ceil(size / 6))
        shift = 0 if square else 1
        axes.set_xticks(range(0, size, step), [str(k) for k in range(0, size, step)])
        axes.set_yticks(range(0, size, step), [str(k + shift) for k in range(0, size, step)])
        axes.set_xlim(-0.6, size - 0.4)
        axes.set_ylim(size - 0.4, -0.6)
        axes.set_xlabel(across)
        axes.set_ylabel(down)
    low, high = (number(float(v)) for v in (matrix.min(), matrix.max()))
    alt = f"Heat map, {down} by {across}; largest {high}, smallest {low}."
    return canvas.svg(name.replace(".", ""), alt)


def _controlled(data: FigureData) -> Iterator[Panel]:
    table = data.tables["path-kl"]
    canvas = Canvas(300, 210)
    with canvas as axes:
        axes.grid(axis="y")
        for k, (_, group) in enumerate(table.groupby("path", sort=False)):
            colour, marker = SERIES[k]
            axes.plot(
                group.beta, group.value, color=COLOURS[colour], marker=marker, linewidth=1.4, markersize=5, **EDGE
            )
        first = table.drop_duplicates("beta")
        axes.plot(first.beta, first.audit, "x", color=COLOURS["ink"], markersize=7)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("β")
        axes.set_ylabel("path KL, nats")
    ends = zip(table.beta, table.path, table.value, strict=True)
    said = "; ".join(f"β {b:g} {path}: {number(v)}" for b, path, v in ends)
    key = tuple((str(path), SERIES[k][0]) for k, path in enumerate(dict.fromkeys(table.path)))
    text = "Crosses: the values that an audit printed."
    figure = canvas.svg("controlled", f"Path KL by beta. {said}.")
    yield Panel("controlled", "Path KL of β tanh(x)", text, figure, key=key)
