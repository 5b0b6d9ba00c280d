"""Options of reading data, the same for every verb; each applies to the data that it fits."""

from __future__ import annotations

from typing import Annotated

import typer

Columns = Annotated[str | None, typer.Option(help="Columns of tables, such as age,income.")]
Categorical = Annotated[str | None, typer.Option(help="Numeric columns of tables that are categories, such as zip.")]
Key = Annotated[str | None, typer.Option(help="Array of .npz files and groups.")]
Size = Annotated[int | None, typer.Option(help="Crop images to a square and resize to this many pixels.")]
Mode = Annotated[str | None, typer.Option(help="Read images as L (grey) or RGB.")]
Encoding = Annotated[str | None, typer.Option(help="Of text files, such as latin-1 (otherwise found out).")]
Separator = Annotated[str | None, typer.Option("--sep", help="Of fields in text files: , ; | tab (found out).")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out and count them.")]


def names(text: str | None) -> tuple[str, ...] | None:
    """Comma-separated names; None where nothing was given."""
    return tuple(filter(None, (part.strip() for part in (text or "").split(",")))) or None


def mark(separator: str | None) -> str | None:
    """A separator as it is typed: "tab" is one too."""
    return {"tab": "\t", "\\t": "\t"}.get(separator or "", separator)
