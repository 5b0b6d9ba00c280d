"""The page and the document of the published laws."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftlaw.loop.store import write_text
from driftlaw.numerics.words import number
from driftlaw.report import page
from driftlaw.reproduce.laws import Law
from driftlaw.reproduce.pages.page import claim_folder


def write(laws: Sequence[Law], seed: int, out: str | os.PathLike[str]) -> Path:
    """Write ``laws.json`` and the page.

    Args:
        laws: what was simulated.
        seed: that it was simulated with.
        out: a new or empty folder, or an earlier reproduction.

    Returns:
        The page.

    Raises:
        RunDirectoryError: the folder holds something else.
        StorageError: not writable.
    """
    folder = claim_folder(out, {"mode": "laws", "seed": seed})
    text = json.dumps(document(laws, seed), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "laws.json", text + "\n")
    return page.save(build(laws, seed), folder / "report.html")


def document(laws: Sequence[Law], seed: int) -> dict[str, Any]:
    """The laws as strict JSON."""
    return {"seed": seed, "laws": [law.to_json() for law in laws]}


def build(laws: Sequence[Law], seed: int) -> str:
    """The page as HTML: one file that loads nothing."""
    agree = sum(law.agrees for law in laws)
    lead = f"{agree} of {len(laws)} simulations agree with their formula within 4.5 standard errors."
    return page.render("laws.html.j2", lead=lead, laws=[_row(law) for law in laws], seed=seed)


def _row(law: Law) -> dict[str, Any]:
    e, relation = law.measured, "≤ " if law.side == "upper" else ""
    return {
        "law": law,
        "expected": relation + number(law.expected, 4),
        "measured": number(e.value, 4),
        "interval": f"{number(e.low, 4)} to {number(e.high, 4)}",
        "z": distance(law),
    }


def distance(law: Law) -> str:
    """Distance from the formula in standard errors; of a bound, whether it is kept."""
    if law.side == "upper":
        return "below" if law.agrees else f"above by {law.z:.1f}"
    return f"{law.z:+.1f}"
