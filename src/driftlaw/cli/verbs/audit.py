"""``driftlaw audit``: how far generated data have drifted from real data, which round did it, and what comes next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.markup import escape
from rich.table import Table

from driftlaw.auditing.audit import audit as run_audit
from driftlaw.auditing.record import Audit
from driftlaw.auditing.verdict.gates import EXIT, Gate, overall
from driftlaw.auditing.verdict.gates import read as read_gates
from driftlaw.auditing.verdict.since import since
from driftlaw.auditing.words import dynamics_words, moved_words
from driftlaw.cli.console import WIDE, err, out, print_json, print_verdict, progressing
from driftlaw.cli.reading import Categorical, Columns, Encoding, Key, Mode, Separator, Size, SkipBad, mark, names
from driftlaw.errors import ConfigError
from driftlaw.estimate import Estimate
from driftlaw.files import storage_errors
from driftlaw.numerics.words import p_value, plain

LEGEND = (
    "drift is a lower bound of χ² against the real law; 97.5 % of real sets of that size stay below the floor; "
    "p is adjusted over all looks and generations (Holm); brackets are 95 % intervals"
)


def audit(
    real: Annotated[str, typer.Argument(help="Real data (file or folder), or a sketch of them.")],
    generations: Annotated[list[str], typer.Argument(help="Generated data or sketches, oldest first.")],
    holdout: Annotated[
        str | None, typer.Option(help="Real rows that no model was trained on: floor and near-duplicates.")
    ] = None,
    features: Annotated[str, typer.Option(help="auto, pca, identity, quadratic, random_fourier or hermite.")] = "auto",
    dimension: Annotated[int | None, typer.Option(help="Number of features.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Fresh fraction of each training set, if known; else it is estimated.")
    ] = None,
    shared_rows: Annotated[
        bool, typer.Option("--shared-rows", help="The audited rows are those that trained the next generation.")
    ] = False,
    later: Annotated[
        bool, typer.Option("--later", help="The first generation given was not trained on real data alone.")
    ] = False,
    block: Annotated[
        int | None, typer.Option(help="Neighbouring rows depend; runs of this many consecutive rows hardly do.")
    ] = None,
    columns: Columns = None,
    categorical: Categorical = None,
    key: Key = None,
    size: Size = None,
    mode: Mode = None,
    encoding: Encoding = None,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of features and samples of rows.")] = 0,
    horizon: Annotated[int, typer.Option(help="Generations to forecast.")] = 3,
    fail_above: Annotated[
        float | None, typer.Option(help="Gate: fail if the whole 95 % interval of the last drift is above this.")
    ] = None,
    pass_below: Annotated[
        float | None, typer.Option(help="Gate: pass only if the whole 95 % interval of the last drift is below this.")
    ] = None,
    fail_on: Annotated[str, typer.Option(help="Gate: fail on these verdicts, such as collapsed,copied,broken.")] = "",
    gates_file: Annotated[Path | None, typer.Option("--gates", help="Gates by measure and column, in YAML.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="An earlier audit (audit.json or its folder): say what changed since.")
    ] = None,
    directory: Annotated[Path | None, typer.Option("--out", help="Folder for audit.json and report.html.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Audit generations against real data: a verdict, its reasons, drift, cause and forecast.

    Exit codes: 0 done or all gates passed, 1 a gate failed, 2 bad usage or input, 3 a gate could not decide.
    """
    if mode not in (None, "L", "RGB"):
        raise ConfigError(f"--mode {mode}", "use L or RGB")
    if horizon < 1:
        raise ConfigError(f"--horizon {horizon}", "forecast 1 generation or more")
    gates = _gates(fail_above, pass_below, _names(fail_on), gates_file)
    earlier = None if compare is None else Audit.load(compare)
    with progressing("reading") as report:
        found = run_audit(
            real,
            list(generations),
            holdout=holdout,
            features=features,
            dimension=dimension,
            alpha=alpha,
            shared_rows=shared_rows,
            from_real=not later,
            block=block,
            columns=names(columns),
            categorical=names(categorical) or (),
            key=key,
            size=size,
            mode=cast(Literal["L", "RGB"] | None, mode),
            encoding=encoding,
            separator=mark(separator),
            skip_bad=skip_bad,
            seed=seed,
            progress=report,
        )
    page = None if directory is None else _write(found, directory)
    decisions = found.gate(gates)
    changed = () if earlier is None else since(earlier, found)
    if as_json:
        outcome = {
            "outcome": overall(decisions),
            "failed": overall(decisions) == "fail",
            "fail_above": fail_above,
            "gates": [d.to_json() for d in decisions],
        }
        document = found.to_json() | {"gate": outcome if gates else None}
        print_json(document if earlier is None else document | {"since": list(changed)})
    else:
        _print(found, horizon, directory)
        for line in changed:
            out.print(escape(f"Since {compare}: {line}."), soft_wrap=True)
        if page is not None:
            out.print(f"report {page}", soft_wrap=True)
    for decision in decisions:
        colour = {"pass": "green", "fail": "bold red", "cannot decide": "yellow"}[decision.outcome]
        err.print(f"[{colour}]gate: {decision.outcome}[/] {escape(decision.text)}", soft_wrap=True)
    if code := EXIT[overall(decisions)]:
        raise typer.Exit(code)


def _gates(above: float | None, below: float | None, words: tuple[str, ...], path: Path | None) -> tuple[Gate, ...]:
    for option, value in (("--fail-above", above), ("--pass-below", below)):
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{option} {value}", "drift is 0 or more")
    gates = [*(() if path is None else read_gates(path))]
    if above is not None or below is not None:
        gates.append(Gate("drift", fail_above=above, pass_below=below))
    if words:
        gates.append(Gate("verdict", fail_on=words))
    return tuple(gates)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in (text or "").split(","))))


def _write(found: Audit, directory: Path) -> Path:
    from driftlaw import report as pages

    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    found.save(directory)
    return pages.write_audit(found, directory / "report.html")


def _print(found: Audit, horizon: int, directory: Path | None) -> None:
    verdict = found.verdict
    action = verdict.action
    if directory is not None:
        action = action.replace("--from DIR", f"--from {directory}").removesuffix(
            ", with DIR the folder of this audit."
        )
    print_verdict(verdict, action)
    table = Table(box=None, pad_edge=False)
    heads = ["gen.", "rows", "drift", "floor", "p", "innovation"]
    if all(g.innovation.is_refused for g in found.generations[1:]):
        heads.pop()  # the first one is its drift
    wide = out.width >= WIDE

    def shown(e: Estimate) -> str:
        return "" if e.is_refused else escape(e.text(2)) if wide else plain(e.value, 2)

    for name in heads:
        table.add_column(name, no_wrap=True, justify="left" if name in {"drift", "innovation"} else "right")
    for g in found.generations:
        p = p_value(g.p_value.value).replace("below ", "<")
        mark = "[bold]" if g.exceeds_floor else ""
        drift, added = shown(g.drift), shown(g.innovation)
        cells = (str(g.index), str(g.n), f"{mark}{drift}", f"{g.floor.high:.2g}", p, added)
        table.add_row(*cells[: len(heads)])
    out.print(table)
    out.print(LEGEND, soft_wrap=True)
    for line in (moved_words(found), *dynamics_words(found)):
        out.print(escape(line), soft_wrap=True)
    ahead = found.forecast(horizon)
    if ahead[0].is_refused:
        out.print(f"No forecast: {escape(ahead[0].warnings[0])}.", soft_wrap=True)
    else:
        last = len(found.generations)
        given = [(h, e) for h, e in enumerate(ahead, 1) if not e.is_refused]
        texts = "; ".join(f"generation {last + h}: {e.text(2)}" for h, e in given)
        out.print(escape(f"Forecast if nothing changes: {texts}."), soft_wrap=True)
    notes = [(w, "") for w in found.warnings] + [
        (w, f"generation {g.index}: ") for g in found.generations for w in g.warnings
    ]
    for text, where in notes:
        err.print(f"[yellow]note[/] {escape(where + text)}", soft_wrap=True)
