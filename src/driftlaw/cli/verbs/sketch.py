"""``driftlaw sketch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from driftlaw.cli.console import err, out, print_json, progressing
from driftlaw.cli.reading import Categorical, Columns, Encoding, Key, Mode, Separator, Size, SkipBad, mark, names
from driftlaw.errors import InputError

if TYPE_CHECKING:
    from driftlaw.measure.sketch.sketch import Sketch


def sketch(
    path: Annotated[
        list[str],
        typer.Argument(help="A file of rows, a folder of images or such files, an address, or several of these."),
    ],
    output: Annotated[Path, typer.Option("--out", "-o", help="File of the sketch.")],
    features: Annotated[str, typer.Option(help="auto, pca, identity, quadratic, random_fourier or hermite.")] = "auto",
    dimension: Annotated[int | None, typer.Option(help="Most features (32; quadratic 256).")] = None,
    like: Annotated[
        Path | None, typer.Option(help="A sketch of the real data: same features, nothing is fitted.")
    ] = None,
    fit_on: Annotated[
        str | None, typer.Option(help="Other real data to fit on (default: a fifth of the rows, not counted).")
    ] = None,
    columns: Columns = None,
    categorical: Categorical = None,
    key: Key = None,
    size: Size = None,
    mode: Mode = None,
    encoding: Encoding = None,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    blocks: Annotated[int | None, typer.Option(help="Blocks for intervals (32).")] = None,
    seed: Annotated[int, typer.Option(help="Of the fitting rows, the map and the blocks.")] = 0,
    first_row: Annotated[int, typer.Option(help="Rows before this shard of a larger data set.")] = 0,
    block: Annotated[
        int | None, typer.Option(help="Neighbouring rows depend; runs of this many consecutive rows hardly do.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Reduce a data set of any size to a small file for audits: means, covariance, histograms; no rows."""
    from driftlaw.auditing import sketching

    if not output.absolute().parent.is_dir():
        raise InputError(f"there is no folder {output.absolute().parent}", "make it, or choose another --out")
    if output.is_dir():
        raise InputError(f"{output} is a folder", "give the name of a file")
    with progressing("reading") as progress:
        result = sketching.sketch(
            path[0] if len(path) == 1 else path,
            features,
            like=like,
            fit_on=fit_on,
            dimension=dimension,
            blocks=blocks,
            seed=seed,
            columns=names(columns),
            categorical=names(categorical) or (),
            key=key,
            size=size,
            mode=mode,  # type: ignore[arg-type]
            encoding=encoding,
            separator=mark(separator),
            skip_bad=skip_bad,
            first_row=first_row,
            block=block,
            progress=progress,
        )
    result.save(output)
    if as_json:
        print_json({"sketch": str(output), "bytes": output.stat().st_size, **describe(result)})
        return
    _print(result, output)


def describe(sketch: Sketch) -> dict[str, Any]:
    """JSON-ready facts of a sketch."""
    phi = sketch.features
    return {
        "n": sketch.n,
        "blocks": sketch.blocks,
        "features": phi.name,
        "dimension": phi.dimension,
        "fitted_on": phi.fitted_on,
        "seed": phi.seed,
        "fingerprint": phi.fingerprint,
        "encoder": phi.encoder.config()["kind"],
        "columns": len(phi.encoder.names),
        "missing": sketch.missing,
        "unknown": sketch.unknown,
        "warnings": list(sketch.warnings),
    }


def _print(sketch: Sketch, output: Path) -> None:
    phi = sketch.features
    lines = [
        ("rows", f"{sketch.n:,} in {sketch.blocks} blocks"),
        ("features", f"{phi.dimension} {phi.name} of {len(phi.encoder.names)} columns"),
        ("fitted on", f"{phi.fitted_on:,} real rows, which are not counted"),
    ]
    if sketch.missing:
        lines.append(("missing", ", ".join(f"{name} {count:,}" for name, count in sketch.missing.items())))
    if any(sketch.unknown.values()):
        lines.append(("other", ", ".join(f"{name} {count:,}" for name, count in sketch.unknown.items() if count)))
    lines.append(("fingerprint", phi.fingerprint[:16]))
    lines.append(("file", f"{output} ({output.stat().st_size / 1024:.0f} KiB)"))
    for label, text in lines:
        out.print(f"{label:<12} {escape(text)}", soft_wrap=True)
    for warning in sketch.warnings:
        err.print("[yellow]note[/] " + escape(warning), soft_wrap=True)
