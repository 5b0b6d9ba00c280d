"""Matplotlib figures as inline SVG that follows the page's theme.

Figures are drawn in sentinel colours (:data:`COLOURS`) that become CSS variables, text stays text in the page's font,
and ids are prefixed so that many figures share one document. Output depends on the figure alone: no dates, no random
ids. Pyplot and global figures are never used.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_NAMES = ("ink", "muted", "grid", "surface", "real", "model", "heat", "cloud", *(f"series-{k}" for k in range(1, 7)))

#: Sentinel colour of each CSS variable.
COLOURS: dict[str, str] = {name: f"#0102{k:02x}" for k, name in enumerate(_NAMES, start=3)}

_LONG = re.compile(r"(\d\.\d\d)\d+")

_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "driftlaw",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.unicode_minus": True,
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.color": COLOURS["grid"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "path.simplify": False,
}


class Canvas:
    """One figure with one pair of axes in the page's style, used as ``with Canvas(w, h) as axes: ...``; then ``svg()``.

    Args:
        width, height: in points; the page scales the figure to its column.
    """

    def __init__(self, width: float = 264, height: float = 186) -> None:
        self._size = (width / 72, height / 72)
        self._context = mpl.rc_context(_RC)  # type: ignore[arg-type]

    def __enter__(self) -> Axes:
        self._context.__enter__()
        self.figure = Figure(figsize=self._size, layout="constrained")
        return self.figure.subplots()

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                buffer = io.StringIO()
                nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                self.figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
                self._raw = buffer.getvalue()
        finally:
            self._context.__exit__(None, None, None)

    def svg(self, name: str, alt: str) -> Markup:
        """The figure as an ``<svg>`` element.

        Args:
            name: unique in the page; prefixes ids.
            alt: what the figure shows, in words.
        """
        return inline(self._raw, name, alt)


def inline(raw: str, name: str, alt: str) -> Markup:
    """Turn a matplotlib SVG file into an element of a themed page."""
    body = raw[raw.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box is not None
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    for variable, sentinel in COLOURS.items():
        body = body.replace(sentinel, f"var(--{variable})")
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda m: _LONG.sub(r"\1", m[0]), body)  # never the text itself
    body = re.sub(r"\s*\n\s*", " ", re.sub(r"<defs>\s*</defs>", "", body))
    width = round(1.45 * float(box[1].split()[2]))
    return Markup(
        f'<svg class="figure" style="max-width: {width}px" viewBox="{box[1]}" role="img" '
        f'aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(alt)}</title>{body}</svg>'
    )
