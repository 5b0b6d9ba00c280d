"""The figures of image runs: contact sheets, and curves by fresh fraction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from driftlaw.numerics.words import at_generations, number
from driftlaw.report.figures import run as figures
from driftlaw.report.figures.samples import contact_sheet, png
from driftlaw.report.figures.svg import COLOURS, Canvas
from driftlaw.report.vocabulary import measure
from driftlaw.reproduce.pages.figures import Panel, band, colour_of, observabilities
from driftlaw.reproduce.records import FigureData

#: What is drawn of the drift, in this order.
DRAWN = ("frechet", "chi2_gauss", "kid", "mmd2", "precision", "recall", "effective_number", "class_chi2", "memorised")
#: Title and axis of each score error.
ERRORS = {
    "gradient": ("Gradient part, from below", "G², nats"),
    "excess": ("Excess over a longer trained network", "ε*²(ŝ) − ε*²(r), nats"),
    "eta": ("Observability of the difference to it, from below", "η"),
}


def image_panels(data: FigureData) -> Iterator[Panel]:
    """The panels of a figure that image runs made."""
    table = next(iter(data.tables.values()))
    makers = {"fig2-images": _known, "fig8": _sheets, "fig9": _drift, "fig10": _errors}
    return makers[data.name](table)


def _known(table: pd.DataFrame) -> Iterator[Panel]:
    text = "A trained network plays the true score; the regression's lower bound with 95 % interval."
    yield observabilities("fig2-images", "η of each error on a trained network", text, table)


def _sheets(table: pd.DataFrame) -> Iterator[Panel]:
    for (alpha, n), group in table.groupby(["alpha", "generation"]):
        if n == 0 and alpha != table.alpha.min():
            continue
        images = np.stack(
            [np.frombuffer(p, np.uint8).reshape(tuple(s)) for p, s in zip(group.pixels, group["shape"], strict=True)]
        )
        sheet = contact_sheet(images.astype(np.float32) / 127.5 - 1)
        title = "Real" if n == 0 else f"α = {alpha:g}, n = {n}"
        name = f"fig8-{alpha:g}-{n}".replace(".", "")
        alt = f"{len(images)} images: {title}"
        picture = Markup(
            f'<svg class="figure" viewBox="0 0 {sheet.width} {sheet.height}" role="img" aria-labelledby="{name}-title" '
            f'style="image-rendering: pixelated"><title id="{name}-title">{escape(alt)}</title>'
            f'<image width="{sheet.width}" height="{sheet.height}" href="{png(sheet)}"/></svg>'
        )
        yield Panel(f"fig8-alpha-{alpha:g}-generation-{n}", title, "", picture)


def _drift(table: pd.DataFrame) -> Iterator[Panel]:
    found = set(table.quantity)
    for key in DRAWN:
        if key in found:
            m = measure(key)
            floor = table[table.quantity.eq(f"{key}, floor")]
            yield _curves(f"fig9-{key}", m.name, m.axis, table[table.quantity.eq(key)], floor, m.meaning)


def _errors(table: pd.DataFrame) -> Iterator[Panel]:
    for key, (title, axis) in ERRORS.items():
        rows = table[table.quantity.eq(key)]
        if len(rows):
            yield _curves(f"fig10-{key}", title, axis, rows, rows.iloc[:0])
    parts = table[table.quantity.str.startswith("excess, ") & table.generation.eq(table.generation.max())]
    if len(parts):
        yield _by_time(parts)


def _curves(name: str, title: str, axis: str, rows: pd.DataFrame, floor: pd.DataFrame, text: str = "") -> Panel:
    """One curve for each alpha; a grey band for real against real."""
    alphas, last = sorted(rows.alpha.unique()), int(rows.generation.max())
    finite, notes = rows[np.isfinite(rows.value)], []
    for alpha, group in rows[~np.isfinite(rows.value)].groupby("alpha"):
        state = "infinite" if np.isinf(group.value).all() else "unknown"
        notes.append(f"α = {alpha:g}: {state} {at_generations(list(group.generation), last)}.")
    if finite.empty:
        return Panel(name, title, text, None, tuple(notes))
    canvas = Canvas(280, 190)
    with canvas as axes:
        axes.grid(axis="y")
        if len(floor) and np.isfinite(floor.value).all():
            axes.axhspan(floor.low.min(), floor.high.max(), color=COLOURS["real"], alpha=0.2, linewidth=0)
        for alpha, group in finite.groupby("alpha"):
            colour, marker = colour_of(alphas, float(str(alpha)))
            band(axes, group, COLOURS[colour], marker)
        positive = bool((finite.value > 0).all())
        if positive and finite.value.max() > 300 * finite.value.min():
            figures.logarithmic(axes, "y")
        figures.generation_axis(axes, last)
        axes.set_ylabel(axis)
    ends = finite[finite.generation.eq(last)]
    said = "; ".join(f"alpha {a:g}: {number(v)}" for a, v in zip(ends.alpha, ends.value, strict=True))
    return Panel(
        name, title, text, canvas.svg(name.replace("_", "-"), f"{title}. Generation {last}: {said}."), tuple(notes)
    )


def _by_time(parts: pd.DataFrame) -> Panel:
    """Where in time the excess of the last generation lies."""
    alphas, names = sorted(parts.alpha.unique()), list(dict.fromkeys(parts.quantity))
    canvas = Canvas(280, 190)
    with canvas as axes:
        axes.grid(axis="y")
        for k, alpha in enumerate(alphas):
            colour, marker = colour_of(alphas, alpha)
            group = parts[parts.alpha.eq(alpha)]
            at = np.array([names.index(q) for q in group.quantity]) + 0.12 * (k - (len(alphas) - 1) / 2)
            axes.vlines(at, group.low, group.high, color=COLOURS[colour], linewidth=1.4)
            axes.plot(at, group.value, marker, color=COLOURS[colour], markersize=5)
        labels = [q.removeprefix("excess, t = ").replace(" to ", "–") for q in names]
        axes.set_xticks(range(len(names)), labels)
        axes.set_xlabel("OU time t")
        axes.set_ylabel("excess energy, nats")
    return Panel(
        "fig10-time", "Where in time the excess lies, last generation", "", canvas.svg("fig10-time", "Excess by time.")
    )
