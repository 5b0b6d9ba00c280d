"""The page, figures and data files of a reproduction. Nothing is computed here: tables in, files out."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from driftlaw.errors import RunDirectoryError
from driftlaw.files import TEMPORARY
from driftlaw.loop.store import storage_errors, write_atomic, write_text
from driftlaw.numerics.words import number, percent
from driftlaw.report import page
from driftlaw.reproduce.pages.figures import SERIES, Panel, panels
from driftlaw.reproduce.pages.images import image_panels
from driftlaw.reproduce.records import FIGURES, IMAGES, Claim, FigureData, Reproduction

#: Says that a folder is ours; written first.
MARKER = "reproduce.json"
#: Order of the verdicts on the page, with the class of their tag.
VERDICTS = {
    "confirmed": "within",
    "confirmed with a condition": "condition",
    "not valid as printed": "outside",
    "not reproduced": "outside",
    "not measured in this run": "unmeasured",
}
EXPLAINED = {
    "fig1": "Draws of each generation (orange) over the target (grey), in the target's two principal components. "
    "Little fresh data: the modes blur into each other.",
    "fig2": "An error of the score is seen at the end of the path only in part: η is the share. The size of the error "
    "does not matter, its direction does.",
    "fig3": "What one generation costs, measured, between the bounds that the score error gives.",
    "fig4": "How far each generation is from the target. Infinite quantities are said in words and never drawn.",
    "fig5": "Which step caused the drift, in L² of the mixture of the target and all generations, where everything is "
    "finite. Depth of colour is the square root of the share of the largest cell; blue cells are negative.",
    "table": "Energies and KL of each generation beside the printed values.",
    "controlled": "A score error of known form: half its energy is the path KL.",
    "literal": "The reverse process of the first generation in 500 Euler-Maruyama steps, beside the exact draws that "
    "replace it everywhere else.",
    "fig2-images": "An error is put on a trained network, which then plays the true score. How much of it reaches the "
    "samples depends on its form.",
    "fig8": "The first samples of each generation, not chosen. Little fresh data: detail and variety go.",
    "fig9": "Distances to held-out real images in the features of a classifier, mean over seeds with the interval "
    "between them. Grey band: real images against real images at the same n.",
    "fig10": "What is known of each network's score error from rows alone. A critic bounds its gradient part from "
    "below. A reference, the same network trained further on the same rows, bounds the whole error from below, and "
    "stands in for the true score in η: that compares generations but certifies no level.",
}


def check_folder(out: str | os.PathLike[str]) -> Path:
    """The folder of a reproduction: new, empty, or ours.

    Raises:
        RunDirectoryError: a file, or a folder that holds something else.
    """
    path = Path(out)
    if path.is_file():
        raise RunDirectoryError(f"{path} is a file", "choose another --out")
    held = [p for p in path.iterdir() if not p.name.endswith(TEMPORARY)] if path.is_dir() else []
    if held and not (path / MARKER).is_file():
        raise RunDirectoryError(f"{path} is not empty and not a reproduction", "choose an empty or new --out")
    return path


def claim_folder(out: str | os.PathLike[str], settings: Mapping[str, Any]) -> Path:
    """Make the folder and mark it as ours.

    Raises:
        RunDirectoryError: as :func:`check_folder`.
        StorageError: not writable.
    """
    path = check_folder(out)
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    write_text(path / MARKER, json.dumps({"format": 1, **settings}, indent=2, sort_keys=True) + "\n")
    return path


def write(found: Reproduction, out: str | os.PathLike[str]) -> Path:
    """Write data, figures, claims.json and the page.

    Args:
        found: what was measured.
        out: a new or empty folder, or an earlier reproduction, whose files of the same name are replaced.

    Returns:
        The page.

    Raises:
        RunDirectoryError: the folder holds something else.
        StorageError: not writable.
    """
    folder = claim_folder(out, found.settings)
    drawn = {data.name: _panels(data) for data in found.figures}
    for data in found.figures:
        for name, table in data.tables.items():
            write_parquet(folder / f"{data.name}-{name}.parquet", table)
        for panel in drawn[data.name]:
            if panel.figure is not None:
                write_text(folder / f"{panel.name}.svg", standalone(panel.figure))
    document = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "claims.json", document + "\n")
    return page.save(build(found, drawn), folder / "report.html")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(path, lambda f: f.write(buffer.getvalue()))


def standalone(figure: Markup) -> str:
    """A figure of the page as a file of its own, in light and dark."""
    css = (Path(page.__file__).parent / "templates" / "style.css").read_text()
    variables = re.sub(r"\n:root\[data-theme.*?\n\}", "", css[: css.index("* {")], flags=re.S)
    style = f"{variables}svg {{ background: var(--surface); }} text {{ font-family: sans-serif; }}"
    head, rest = str(figure).split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def build(found: Reproduction, drawn: Mapping[str, list[Panel]] | None = None) -> str:
    """The page as HTML: one file that loads nothing."""
    shown = drawn if drawn is not None else {data.name: _panels(data) for data in found.figures}
    counts = {v: sum(c.verdict == v for c in found.claims) for v in VERDICTS}
    return page.render(
        "reproduce.html.j2",
        lead=_lead(counts),
        counts=[(v, n, VERDICTS[v]) for v, n in counts.items() if n],
        claims=[_claim(c) for c in found.claims],
        figures=[_figure(data, shown[data.name]) for data in found.figures],
        settings=[(k, _text(v)) for k, v in found.settings.items()],
    )


def _panels(data: FigureData) -> list[Panel]:
    return list(image_panels(data)) if data.name in IMAGES else panels(data)


def _lead(counts: Mapping[str, int]) -> str:
    measured = sum(n for v, n in counts.items() if v != "not measured in this run")
    parts = [f"{n} {v}" for v, n in counts.items() if n and v != "not measured in this run"]
    return f"{measured} statements about model collapse, measured: {', '.join(parts)}."


def _text(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, list | tuple) else str(value)


def _claim(c: Claim) -> dict[str, Any]:
    numbers = []
    for n in c.numbers:
        e = n.measured
        interval = f"{number(e.low, 4)} to {number(e.high, 4)}" if e.stderr > 0 else ""
        expected = "" if n.expected is None else number(n.expected, 4)
        numbers.append({"what": n.what, "value": number(e.value, 4), "interval": interval, "expected": expected})
    return {"claim": c, "tag": VERDICTS[c.verdict], "numbers": numbers}


def _figure(data: FigureData, drawn: list[Panel]) -> dict[str, Any]:
    files = [f"{data.name}-{name}.parquet" for name in data.tables]
    title, grid = (
        FIGURES[data.name],
        {"fig1": "five", "fig2": "wide", "fig8": "five", "fig2-images": "wide"}.get(data.name, ""),
    )
    return {
        "name": data.name,
        "title": title,
        "text": EXPLAINED[data.name],
        "panels": drawn,
        "grid": grid,
        "files": files,
        "key": _key(data),
        "notes": [] if drawn else data.notes,
        "table": _table(data),
    }


def _key(data: FigureData) -> list[tuple[str, str]]:
    if data.name not in {"fig3", "fig4", "fig9", "fig10"}:
        return []
    alphas = sorted(next(iter(data.tables.values())).alpha.unique())
    return [(f"α = {a:g}", SERIES[k % len(SERIES)][0]) for k, a in enumerate(alphas)]


def _table(data: FigureData) -> dict[str, Any] | None:
    if data.name != "table":
        return None
    frame = data.tables["numbers"]
    kinds = [k for k in ("energy_ideal", "energy_learned", "kl", "second_moment_drift") if k in set(frame.quantity)]
    head = [h for k in kinds for h in ((_HEADS[k],) if k == "second_moment_drift" else (_HEADS[k], "printed"))]
    rows = []
    for (alpha, i), group in frame.groupby(["alpha", "i"]):
        cells = []
        for k in kinds:
            r = group[group.quantity.eq(k)].iloc[0]
            if k == "second_moment_drift":
                cells.append(percent(r.value))
                continue
            error = f" ± {number(1.96 * r.stderr, 1)}" if r.stderr > 0 else ""
            cells += [number(r.value) + error, "" if pd.isna(r.printed) else number(r.printed)]
        rows.append((f"{alpha:g}", str(i), cells))
    return {"head": head, "rows": rows}


_HEADS = {"energy_ideal": "ε*²", "energy_learned": "ε̂²", "kl": "KL at t₀", "second_moment_drift": "E|x|² against p"}
