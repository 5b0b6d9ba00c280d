"""Figures of an audit: drift with its forecast, innovations, features that moved, and columns cell by cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from driftlaw.auditing.changes import Column, Feature
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import number, share
from driftlaw.report import words
from driftlaw.report.figures.run import generation_axis
from driftlaw.report.figures.svg import COLOURS, Canvas

#: Generations beside each other in one figure of histograms.
MOST_BLOCKS = 8
_DOTS: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": COLOURS["surface"], "markeredgewidth": 0.8}


def drift(
    name: str,
    drifts: Sequence[Estimate],
    floors: Sequence[Estimate],
    ahead: Sequence[Estimate],
    level: float | None = None,
) -> Markup:
    """Drift by generation with 95 % intervals, the floor in blue, the forecast dashed.

    Args:
        name: unique in the page.
        drifts: D_1..D_N.
        floors: of the same generations.
        ahead: forecasts; refused ones are left out.
        level: a limit drawn as a dotted line.
    """
    canvas, N = Canvas(400, 220), len(drifts)
    at = np.arange(1, N + 1)
    later = [(N + h, e) for h, e in enumerate(ahead, 1) if not e.is_refused]
    with canvas as axes:
        axes.grid(axis="y")
        edges = np.array([[e.low, e.high] for e in floors])
        wide = np.concatenate([[0.7], at[1:], [N + 0.3]]) if N > 1 else np.array([0.7, 1.3])
        bands = np.concatenate([edges, edges[-1:]]) if N > 1 else np.repeat(edges, 2, axis=0)
        axes.fill_between(wide, bands[:, 0], bands[:, 1], color=COLOURS["real"], alpha=0.25, linewidth=0)
        axes.plot(wide, [floors[0].value] * len(wide), color=COLOURS["real"], linewidth=1.4, linestyle=(0, (4, 2)))
        if later:
            x = [float(N)] + [float(n) for n, _ in later]
            low, high = ([getattr(drifts[-1], side)] + [getattr(e, side) for _, e in later] for side in ("low", "high"))
            axes.fill_between(x, low, high, color=COLOURS["model"], alpha=0.13, linewidth=0)
            middle = [drifts[-1].value] + [e.value for _, e in later]
            axes.plot(x, middle, color=COLOURS["model"], linewidth=1.6, linestyle=(0, (4, 2)))
            axes.plot(x[1:], middle[1:], color=COLOURS["model"], linestyle="none", marker="D", **_DOTS)
        axes.vlines(at, [e.low for e in drifts], [e.high for e in drifts], color=COLOURS["model"], linewidth=1.3)
        axes.plot(at, [e.value for e in drifts], color=COLOURS["model"], linewidth=1.8, marker="o", **_DOTS)
        if level is not None:
            axes.axhline(level, color=COLOURS["muted"], linewidth=1, linestyle=(0, (1, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_ylabel("drift |c|² (lower bound of χ²)")
        generation_axis(axes, N + len(later))
    said = f"Generation 1: {words.estimate(drifts[0])}; generation {N}: {words.estimate(drifts[-1])}."
    if later:
        said += f" Forecast for generation {later[-1][0]}: {words.estimate(later[-1][1])}."
    return canvas.svg(name, f"Line chart of drift by generation with floor and forecast. {said}")


def innovations(name: str, found: Sequence[Estimate]) -> Markup | None:
    """What making each generation added, with intervals; None where nothing is known."""
    shown = [(n, e) for n, e in enumerate(found, 1) if not e.is_refused]
    if not shown:
        return None
    canvas = Canvas()
    with canvas as axes:
        axes.grid(axis="y")
        axes.axhline(0.0, color=COLOURS["grid"], linewidth=1)
        axes.vlines(
            [n for n, _ in shown],
            [e.low for _, e in shown],
            [e.high for _, e in shown],
            color=COLOURS["model"],
            linewidth=1.3,
        )
        axes.plot(
            [n for n, _ in shown],
            [e.value for _, e in shown],
            linestyle="none",
            marker="o",
            color=COLOURS["model"],
            **_DOTS,
        )
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_ylabel("innovation |d|²")
        generation_axis(axes, len(found))
    said = "; ".join(f"generation {n}: {words.estimate(e)}" for n, e in (shown[0], shown[-1]))
    return canvas.svg(name, f"Innovations by generation. {said}.")


def shifts(name: str, features: Sequence[Feature]) -> Markup:
    """The features that moved most, in real standard deviations."""
    canvas = Canvas(300, 60 + 15 * len(features))
    with canvas as axes:
        axes.grid(axis="x")
        axes.axvline(0.0, color=COLOURS["real"], linewidth=1.2)
        rows = np.arange(len(features))[::-1]
        axes.hlines(
            rows,
            [f.shift.low for f in features],
            [f.shift.high for f in features],
            color=COLOURS["model"],
            linewidth=1.4,
        )
        axes.plot(
            [f.shift.value for f in features], rows, linestyle="none", marker="o", color=COLOURS["model"], **_DOTS
        )
        axes.set_yticks(rows, [_short(f.name) for f in features])
        axes.set_ylim(-0.6, len(features) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_xlabel("shift of the mean, real standard deviations")
    said = "; ".join(f"{f.name}: {words.estimate(f.shift)}" for f in features[:3])
    return canvas.svg(name, f"Shifts of feature means. {said}.")


def histograms(name: str, real: Column, found: Sequence[tuple[int, Column]]) -> Markup:
    """Shares of the cells of one column: the real ones in blue, then every generation in orange beside their outline.

    Args:
        name: unique in the page.
        real: any record of the column; its real shares are drawn.
        found: generations with their record of the column, at most :data:`MOST_BLOCKS`.
    """
    most = 14
    used = [k for k in range(len(real.cells)) if real.real[k] > 0 or any(c.generated[k] > 0 for _, c in found)]
    keep = used if len(used) <= most else [*used[: most - 1], used[-1]]
    labels = [_short(real.cells[k], 18) for k in keep]
    top = max(max(real.real[k], *(c.generated[k] for _, c in found)) for k in keep)
    canvas = Canvas(130 + 44 * (len(found) + 1), 44 + 17 * len(labels))
    rows = np.arange(len(labels))[::-1]
    with canvas as axes:
        blocks = [("real", real.real, "real"), *((str(n), c.generated, "model") for n, c in found)]
        for position, (_, shares, colour) in enumerate(blocks):
            axes.axvline(position, color=COLOURS["grid"], linewidth=0.8)
            widths = [0.88 * shares[k] / top for k in keep]
            axes.barh(rows, widths, 0.78, left=position, color=COLOURS[colour], alpha=0.9)
            if position:
                edge = [position + 0.88 * real.real[k] / top for k in keep]
                axes.vlines(edge, rows - 0.42, rows + 0.42, color=COLOURS["real"], linewidth=1.3)
        axes.set_yticks(rows, labels)
        axes.set_xticks([p + 0.44 for p in range(len(blocks))], [label for label, *_ in blocks])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.02, len(blocks))
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.set_xlabel(f"full width: {share(top)} of rows")
    n, last = found[-1]
    gap = max(keep, key=lambda k: abs(last.generated[k] - real.real[k]))
    said = f"{real.cells[gap]}: {share(real.real[gap])} real, {share(last.generated[gap])} in generation {n}"
    return canvas.svg(name, f"Histograms of {real.name}, real and by generation. Largest difference: {said}.")


def gram(name: str, matrix: np.ndarray) -> Markup:
    """Heat map of the innovations' Gram matrix: orange adds up, blue cancels."""
    N = len(matrix)
    top = float(np.abs(matrix).max()) or 1.0
    canvas = Canvas(300, 210)
    with canvas as axes:
        for i in range(N):
            for j in range(N):
                value = float(matrix[i, j]) / top
                colour = COLOURS["heat"] if value > 0 else COLOURS["real"]
                axes.add_patch(_square(j, i, COLOURS["grid"], 0.35))
                axes.add_patch(_square(j, i, colour, round(min(1.0, abs(value)) * (1.0 if value > 0 else 0.5), 3)))
        step = max(1, math.ceil(N / 10))
        ticks = list(range(0, N, step))
        axes.set_xticks(ticks, [str(k + 1) for k in ticks])
        axes.set_yticks(ticks, [str(k + 1) for k in ticks])
        axes.set_xlim(-0.55, N - 0.45)
        axes.set_ylim(N - 0.45, -0.55)
        axes.set_xlabel("innovation that made generation j")
        axes.set_ylabel("generation i")
    off = matrix[~np.eye(N, dtype=bool)]
    values = [number(float(x)) for x in (np.diag(matrix).mean(), off.mean())]
    said = f"mean diagonal {values[0]}, mean off-diagonal {values[1]}"
    return canvas.svg(name, f"Heat map of products of innovations: {said}.")


def _square(x: float, y: float, colour: str, alpha: float) -> Rectangle:
    patch = Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=colour, linewidth=0)
    patch.set_alpha(alpha)
    return patch


def _short(text: str, most: int = 20) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
