"""The figures of the page, each a pure function of numbers. Orange is the model, blue is real data, everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from driftlaw.estimate import Estimate
from driftlaw.numerics.words import number
from driftlaw.report import words
from driftlaw.report.figures.svg import COLOURS, Canvas
from driftlaw.report.vocabulary import Measure

#: More generations than this are thinned evenly in figures with one cell or panel per generation.
MOST_CELLS, MOST_PANELS = 40, 24

Limits = tuple[float, float]
Limits2 = tuple[Limits, Limits]
#: Generations ``[k]``, mean ``[k]`` and spread ``[k]`` of one group of runs.
Band = tuple[list[int], np.ndarray, np.ndarray]


def thin(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 1..count, evenly spaced, first and last among them."""
    return sorted({round(x) for x in np.linspace(1, count, min(count, most))})


def logarithmic(axes: Axes, *names: str) -> None:
    """Logarithmic axes with plain numbers at 1 and 3 times powers of ten, powers alone over long ranges."""
    for name in names:
        axes.set(**{f"{name}scale": "log"})
        axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < 300 * low else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_minor_formatter(NullFormatter())


def generation_axis(axes: Axes, last: int) -> None:
    """Integer ticks from 1 to the last generation."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    margin = 0.4 + 0.02 * last
    axes.set_xlim(1 - margin, last + margin)
    axes.set_xlabel("generation n")


def _finite(series: Mapping[int, Estimate]) -> tuple[list[int], list[Estimate]]:
    keep = {i: e for i, e in series.items() if math.isfinite(e.value)}
    return list(keep), list(keep.values())


def _bounds(e: Estimate) -> tuple[float, float]:
    low = e.low if math.isfinite(e.low) else e.value
    return low, e.high if math.isfinite(e.high) else e.value


def curve(
    name: str,
    m: Measure,
    series: Mapping[int, Estimate],
    floor: Mapping[int, Estimate],
    last: int,
    level: tuple[float, str] | None = None,
) -> Markup | None:
    """One measure over the generations with 95 % intervals and, in blue, the real-vs-real floor.

    Args:
        name: unique in the page.
        m: the measure.
        series: estimate by generation; infinite and refused ones are left out (the page says so in words).
        floor: the same for real against real.
        last: last generation of the axis.
        level: a reference value and its name, drawn as a dashed line.

    Returns:
        The figure, or None when nothing finite is left to draw.
    """
    at, values = _finite(series)
    if not at:
        return None
    canvas = Canvas()
    with canvas as axes:
        axes.grid(axis="y")
        floor_at, floor_values = _finite(floor)
        if floor_at:
            edges = np.array([_bounds(e) for e in floor_values])
            x = np.array(floor_at, float)
            x[0], x[-1] = (x[0] - 0.3, x[-1] + 0.3) if len(x) > 1 else (x[0], x[-1])
            if len(x) == 1:
                x, edges = np.array([x[0] - 0.3, x[0] + 0.3]), np.repeat(edges, 2, axis=0)
            axes.fill_between(x, edges[:, 0], edges[:, 1], color=COLOURS["real"], alpha=0.22, linewidth=0)
            middle = [e.value for e in floor_values] * (2 if len(floor_at) == 1 else 1)
            axes.plot(x, middle, color=COLOURS["real"], linewidth=1.4, linestyle=(0, (4, 2)))
        edges = np.array([_bounds(e) for e in values])
        middle = [e.value for e in values]
        axes.fill_between(at, edges[:, 0], edges[:, 1], color=COLOURS["model"], alpha=0.2, linewidth=0)
        axes.vlines(at, edges[:, 0], edges[:, 1], color=COLOURS["model"], linewidth=1.1)
        style = {"markersize": 4.5, "markeredgecolor": COLOURS["surface"], "markeredgewidth": 0.8}
        axes.plot(at, middle, color=COLOURS["model"], linewidth=1.8, marker="o", **style)  # type: ignore[arg-type]
        if level is not None:
            axes.axhline(level[0], color=COLOURS["muted"], linewidth=1, linestyle=(0, (1, 2)))
        _value_axis(axes, m)
        generation_axis(axes, last)
    shown = [at[0], at[len(at) // 2], at[-1]] if len(at) > 3 else at
    said = "; ".join(f"generation {i}: {words.estimate(series[i])}" for i in dict.fromkeys(shown))
    against = f" Real-vs-real floor: {words.estimate(floor_values[-1])}." if floor_at else ""
    return canvas.svg(name, f"Line chart of {m.axis} by generation. {said}.{against}")


def _value_axis(axes: Axes, m: Measure) -> None:
    low, high = axes.get_ylim()
    if m.bounded:
        low, high = min(0.0, low), max(1.04, high) if m.better == "higher" else min(1.04, high * 1.1)
    elif m.better == "lower":
        low, high = (0.0 if low > 0 or -low < 0.06 * high else low), high
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_ylabel(m.axis)


def lineage(name: str, fractions: Sequence[Mapping[str, float]]) -> Markup:
    """Stacked bars: where the training rows of each model came from; older models are paler.

    Args:
        name: unique in the page.
        fractions: by origin ("real", "model 1", ...), one mapping per generation.
    """
    canvas = Canvas(320, 215)
    with canvas as axes:
        for n, parts in enumerate(fractions, start=1):
            bottom = 0.0
            for origin, share in parts.items():
                colour, alpha = origin_style(origin, len(fractions))
                axes.add_patch(
                    Rectangle(
                        (n - 0.4, bottom),
                        0.8,
                        share,
                        facecolor=COLOURS[colour],
                        alpha=alpha,
                        edgecolor=COLOURS["surface"],
                        linewidth=0.6,
                    )
                )
                bottom += share
        generation_axis(axes, len(fractions))
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of the training set of model n")
    said = ", ".join(f"{share:.0%} {origin}" for origin, share in fractions[-1].items())
    return canvas.svg(name, f"Stacked bars of training data by origin. Generation {len(fractions)}: {said}.")


def origin_style(origin: str, generations: int) -> tuple[str, float]:
    """Colour name and opacity of an origin; models go from pale (oldest) to full (newest)."""
    if origin == "real":
        return "real", 1.0
    age = int(origin.removeprefix("model ")) / max(1, generations - 1)
    return "model", round(0.3 + 0.7 * min(1.0, age), 3)


def memory(name: str, G2: np.ndarray) -> Markup:
    """Heat map of the squared propagator: how much of innovation i is alive in generation n.

    Args:
        name: unique in the page.
        G2: ``[N, N]``, row n - 1 holds G_{n,i}^2.
    """
    shown = thin(len(G2), MOST_CELLS)
    canvas = Canvas(320, 215)
    with canvas as axes:
        for row, n in enumerate(shown):
            for column, source in enumerate(shown[: row + 1]):
                value = float(G2[n - 1, source - 1])
                _cell(axes, column, row, value)
                if len(shown) <= 7:
                    axes.text(column, row, number(value, 2), ha="center", va="center", fontsize=8)
        step = max(1, math.ceil(len(shown) / 10))
        ticks = range(0, len(shown), step)
        axes.set_xticks(list(ticks), [str(shown[k] - 1) for k in ticks])
        axes.set_yticks(list(ticks), [str(shown[k]) for k in ticks])
        axes.set_xlim(-0.55, len(shown) - 0.45)
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.set_xlabel("step i, where the error arose")
        axes.set_ylabel("generation n")
    first = number(float(G2[-1, 0]), 2)
    return canvas.svg(
        name, f"Heat map of G² by generation n and step i. In generation {len(G2)}, {first} is left of step 0."
    )


def _cell(axes: Axes, x: float, y: float, opacity: float) -> None:
    axes.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=COLOURS["grid"], alpha=0.35, linewidth=0))
    if opacity >= 0.004:
        patch = Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=COLOURS["heat"], linewidth=0)
        patch.set_alpha(round(min(1.0, opacity), 3))
        axes.add_patch(patch)


def classes(name: str, columns: Mapping[str, Mapping[str, float]]) -> Markup:
    """Heat table of class (or mode) weights: one row per class, one column per generation, stronger colour is heavier.

    Args:
        name: unique in the page.
        columns: weight by class name, by column name ("real" or a generation).
    """
    heads = list(columns)
    rows = list(columns[heads[-1]])
    top = max((w for c in columns.values() for w in c.values() if math.isfinite(w)), default=1.0) or 1.0
    canvas = Canvas(min(460, 70 + 26 * len(heads)) if len(heads) > 8 else 320, 46 + 16 * len(rows))
    with canvas as axes:
        for x, head in enumerate(heads):
            for y, row in enumerate(rows):
                weight = columns[head].get(row, math.nan)
                _cell(axes, x, y, weight / top if math.isfinite(weight) else 0.0)
                if len(heads) <= 12:
                    text = f"{weight:.0%}" if math.isfinite(weight) else "–"
                    axes.text(x, y, text, ha="center", va="center", fontsize=8)
        step = max(1, math.ceil(len(heads) / 11))
        axes.set_xticks(range(0, len(heads), step), heads[::step])
        axes.set_yticks(range(len(rows)), [row if len(row) <= 16 else f"{row[:15]}…" for row in rows])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xlim(-0.55, len(heads) - 0.45)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlabel("generation n")
    said = ", ".join(f"{row} {columns[heads[-1]][row]:.1%}" for row in rows[:20])
    return canvas.svg(name, f"Table of class weights by generation. Generation {heads[-1]}: {said}.")


def scatter(
    name: str,
    real: np.ndarray,
    model: np.ndarray | None,
    limits: Limits2,
    alt: str,
) -> Markup:
    """Points of a model over the real ones, in shared axes.

    Args:
        name: unique in the page.
        real: ``[n, 2]`` drawn in grey below.
        model: ``[m, 2]`` drawn in orange, or None for the real panel.
        limits: ``((x low, x high), (y low, y high))``.
        alt: the figure in words.
    """
    canvas = Canvas(200, 176)
    with canvas as axes:
        _points(axes, real, limits, COLOURS["cloud"] if model is not None else COLOURS["real"], 2.2)
        if model is not None:
            _points(axes, model, limits, COLOURS["model"], 2.2)
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
    return canvas.svg(name, alt)


def _points(axes: Axes, xy: np.ndarray, limits: Limits2, colour: str, size: float) -> None:
    """Dots as one path of zero-length strokes with round ends: a tenth of the size of as many markers."""
    inside = np.all([(xy[:, k] >= limits[k][0]) & (xy[:, k] <= limits[k][1]) for k in (0, 1)], axis=0)
    dots = xy[inside]
    if len(dots):
        vertices = np.repeat(dots, 2, axis=0)
        path = Path(vertices, np.tile([Path.MOVETO, Path.LINETO], len(dots)))
        style = {"edgecolor": colour, "facecolor": "none", "linewidth": size, "capstyle": "round", "alpha": 0.75}
        axes.add_patch(PathPatch(path, **style))


def histogram(name: str, real: np.ndarray, model: np.ndarray | None, limits: Limits, alt: str) -> Markup:
    """Histogram of one-dimensional rows, the real ones in grey behind."""
    bins = np.linspace(*limits, 41).tolist()
    canvas = Canvas(200, 176)
    with canvas as axes:
        colour = COLOURS["cloud"] if model is not None else COLOURS["real"]
        axes.hist(real, bins=bins, density=True, color=colour, alpha=0.55)
        if model is not None:
            axes.hist(model, bins=bins, density=True, histtype="step", color=COLOURS["model"], linewidth=1.6)
        axes.set_xlim(*limits)
        axes.set_xlabel("x")
        axes.set_ylabel("density")
    return canvas.svg(name, alt)


def many_curves(name: str, m: Measure, lines: Mapping[str, Band], last: int) -> Markup:
    """Mean curves of several groups with their spread over seeds as bands.

    Args:
        name: unique in the page.
        m: the measure.
        lines: by group, generations ``[k]``, mean ``[k]`` and spread ``[k]`` (one standard deviation).
        last: last generation of the axis.
    """
    canvas = Canvas()
    with canvas as axes:
        axes.grid(axis="y")
        for k, (at, mean, spread) in enumerate(lines.values()):
            colour = COLOURS[f"series-{k % 6 + 1}"]
            marker, dash = "os^Dv"[k % 5], ("-", (0, (5, 2)), (0, (1, 1.5)))[k // 6 % 3]
            axes.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.16, linewidth=0)
            axes.plot(at, mean, color=colour, linewidth=1.7, linestyle=dash, marker=marker, markersize=4)
        _value_axis(axes, m)
        generation_axis(axes, last)
    said = "; ".join(f"{label}: {number(float(mean[-1]))}" for label, (_, mean, _) in lines.items())
    return canvas.svg(name, f"Line chart of {m.axis} by generation, one line per policy. Last values: {said}.")
