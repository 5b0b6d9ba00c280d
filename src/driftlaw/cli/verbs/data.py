"""``driftlaw data list``, ``driftlaw data fetch NAME`` and ``driftlaw data check PATH``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from driftlaw.cli.reading import Categorical, Columns, Encoding, Key, Mode, Separator, Size, SkipBad, mark, names

if TYPE_CHECKING:
    from driftlaw.auditing.reading.checking import Checked

app = typer.Typer(
    help="Data sets with a name: what is here, and how to get the rest.", no_args_is_help=True, add_completion=False
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the named data sets, and where each was found or how to get it."""
    from driftlaw.data import catalogue

    rows = catalogue()
    if as_json:
        typer.echo(json.dumps({"datasets": rows}, indent=2))
        return
    table = [("name", "rows", "held out", "shape", "where")]
    for row in rows:
        counts = ["endless" if row[key] is None else f"{row[key]}" for key in ("rows", "held_out")]
        where = row["where"] if row["available"] else f"not here: {row['where']}"
        table.append((row["name"], *counts, "x".join(map(str, row["shape"])), where.split(", ")[0]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("Your own data: a file of rows or a folder of images; driftlaw data check PATH says what it is.")
    typer.echo("A copy that you have: set DRIFTLAW_DATA to the folder that holds it.")


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="gmm, digits, fashion-mnist or cifar10.")], as_json: Json = False
) -> None:
    """Make a named data set available: find it here, or download it with its checksum verified."""
    from driftlaw.cli.console import progressing
    from driftlaw.data import fetch_named

    with progressing(name) as progress:
        where = fetch_named(name, progress)
    typer.echo(json.dumps({"name": name, "where": where}) if as_json else f"{name}: {where}")


@app.command("check")
def check(
    paths: Annotated[list[str], typer.Argument(help="Real data, then generations: files, folders or addresses.")],
    columns: Columns = None,
    categorical: Categorical = None,
    key: Key = None,
    size: Size = None,
    mode: Mode = None,
    encoding: Encoding = None,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Say what data are recognised as, and whether generations can be compared with the first, real set."""
    from driftlaw.auditing.reading.checking import check as read
    from driftlaw.data.rows.opened import Options

    colours = cast(Literal["L", "RGB"] | None, mode)
    sets, question = read(
        paths,
        Options(names(columns), key, size, colours, names(categorical) or (), encoding, mark(separator), skip_bad),
    )
    refused = any(s.refused for s in sets)
    if as_json:
        typer.echo(
            json.dumps({"sets": [s.to_json() for s in sets], "question": question, "refused": refused}, indent=2)
        )
    else:
        for number, found in enumerate(sets):
            if number:
                typer.echo()
            for label, text in _lines(found):
                typer.echo(f"{label:<12} {text}".rstrip())
        if question:
            typer.echo(f"\n{'question':<12} {question}")
        if len(sets) > 1 and not any(s.differences or s.refused for s in sets):
            typer.echo("\nNo difference of columns, types, shapes or ranges.")
    if refused:
        typer.echo("error: some sets cannot be compared with the real data", err=True)
        raise typer.Exit(2)


def _lines(found: Checked) -> list[tuple[str, str]]:
    """What was recognised, as pairs of a label and a text."""
    rows = found.rows
    shape = (
        f" x {rows.shape[0]} columns" if rows.kind == "table" else f" of shape {'x'.join(map(str, rows.shape)) or 1}"
    )
    lines: list[tuple[str, str]] = [
        (rows.kind, f"{rows.name}: {found.count:,} rows{shape}{f', {rows.dtype}' if rows.dtype else ''}")
    ]
    if found.extent is not None:
        lines.append(("range", f"[{found.extent[0]:.6g}, {found.extent[1]:.6g}]"))
    for column in rows.columns:
        seen = found.columns[column.name]
        facts = [f"{column.kind}{f', {column.unit}' if column.unit else ''} ({column.stored})"]
        if seen.low <= seen.high:
            extent = (seen.low, seen.high)
            facts.append(f"[{extent[0]:.6g}, {extent[1]:.6g}]")
        if column.kind == "text":
            shown = ", ".join(sorted(seen.categories, key=lambda c: -seen.categories[c])[:3])
            facts.append(f"{len(seen.categories):,} categories: {shown}{' ...' if len(seen.categories) > 3 else ''}")
        if seen.missing:
            facts.append(f"{seen.missing:,} missing")
        lines.append((f"  {column.name}", "; ".join(facts)))
    if rows.encoding is not None:
        lines.append(("text", f"{rows.encoding}, separated by {rows.separator!r}"))
    lines += [("skipped", str(s)) for s in rows.skipped]
    lines += [("note", note) for note in rows.notes if note not in found.differences]
    lines += [("difference", text) for text in found.differences]
    return lines + [("refused", text) for text in found.refused]
