"""The page of one run: records in, HTML out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from markupsafe import Markup

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.loop.store import storage_errors, write_text
from driftlaw.numerics.words import at_generations, count, duration, mebibytes, number, p_value, percent, share
from driftlaw.report import bounds, words
from driftlaw.report.figures import run as figures
from driftlaw.report.figures import samples
from driftlaw.report.verdict import real_classes, verdict
from driftlaw.report.vocabulary import MEASURES, TARGET, TRAINING_LAW, Measure, measure
from driftlaw.theory.propagator import propagator

#: Classes beyond this are summed up as "others" in the class table.
MOST_CLASSES = 20


@dataclass(frozen=True)
class Chart:
    """A measure with its figure, or with words in place of a figure."""

    measure: Measure
    figure: Markup | None
    notes: tuple[str, ...]
    verdict: str = ""


@dataclass(frozen=True)
class Fact:
    """A key number with its note and interval."""

    name: str
    value: str
    note: str = ""
    interval: str = ""


@cache
def environment() -> jinja2.Environment:
    """Templates of this package; everything that is not marked safe is escaped, and a missing variable is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    found = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"estimate": words.estimate, "number": number, "p_value": p_value, "share": share}
    return found


def render(template: str, **context: Any) -> str:
    """Fill a template; the page's policy allows its own script, by hash, and no request at all."""
    script = (Path(__file__).parent / "templates" / "toggle.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment().get_template(template).render(script=Markup(script), script_hash=digest, **context)


def save(html: str, path: Path) -> Path:
    """Write a page atomically.

    Raises:
        StorageError: not writable.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)
    return path


def build(history: History) -> str:
    """Page of a run; see :func:`driftlaw.report.build`."""
    if not len(history):
        raise InputError(
            f"{history.directory.path} has no finished generation to report",
            f"go on with `driftlaw resume {history.directory.path}`",
        )
    headline = words.headline(history)
    divergence = charts(history, "divergence", "drift")
    return render(
        "run.html.j2",
        headline=headline,
        verdict=verdict(history),
        facts=facts(history, headline.key),
        study=study(history),
        drift=sorted(divergence, key=lambda c: (c.figure is None, c.measure.key != headline.key)),
        has_floor=any(g.floor for g in history),
        gallery=samples.gallery(history),
        one_step=charts(history, "one_step", "step", TRAINING_LAW),
        path=charts(history, "path", "path", TRAINING_LAW),
        moments=charts(history, "moments", "moment"),
        classes=class_table(history),
        by_class=by_class(history),
        entropy=[entropy_chart(history)] if any("entropy" in g.modes for g in history) else [],
        lineage=figures.lineage("lineage", [g.lineage.fractions() for g in history]),
        legend=legend(history),
        memory=figures.memory("memory", squared_propagator(history)),
        memory_words=memory_words(history),
        bounds=bounds.section(history),
        sanity=words.sanity(history),
        warnings=words.warnings(history),
        training=training(history),
        numbers=numbers(history),
        timings=timings(history),
        reproduce=reproduce(history),
        config=yaml.safe_dump(history.config, sort_keys=False, allow_unicode=True),
    )


# -- charts ---------------------------------------------------------------------------------------------------------


def keys(history: History, group: str) -> list[str]:
    """Keys of a group in the vocabulary's order, unknown ones last."""
    found = {k: None for g in history for k in words.estimates(g, group)}
    return [k for k in MEASURES if k in found] + [k for k in found if k not in MEASURES]


def series(history: History, group: str, key: str) -> dict[int, Estimate]:
    """Estimates of one key by generation."""
    return {g.index: found[key] for g in history if key in (found := words.estimates(g, group))}


def charts(history: History, group: str, prefix: str, law: str = TARGET) -> list[Chart]:
    """One chart for each key of a group."""
    return [
        chart(
            f"{prefix}-{position}",
            measure(key, law),
            series(history, group, key),
            series(history, "floor", key) if group == "divergence" else {},
            len(history),
        )
        for position, key in enumerate(keys(history, group))
    ]


def chart(
    name: str,
    m: Measure,
    values: Mapping[int, Estimate],
    floor: Mapping[int, Estimate],
    last: int,
    level: tuple[float, str] | None = None,
) -> Chart:
    """A measure's figure, and in words what the figure cannot show."""
    notes = []
    for state, test in (("infinite", math.isinf), ("not known", math.isnan)):
        at = [i for i, e in values.items() if test(e.value)]
        why = next((w for i in at for w in values[i].warnings), "")
        if at:
            notes.append(f"{state.capitalize()} {at_generations(at, last)}" + (f": {why}." if why else "."))
    open_ended = [i for i, e in values.items() if math.isfinite(e.value) and math.isinf(e.high)]
    if open_ended:
        notes.append(f"The interval has no upper end {at_generations(open_ended, last)}.")
    if level is not None:
        notes.append(f"Dotted: {level[1]}.")
    final, real = values[max(values)], floor.get(max(values))
    judged = words.verdict(m, final, real) if floor else "unknown"
    crowded = judged == "worse" and m.better == "real" and real is not None and final.low > real.high
    if m.beyond and (judged == "beyond" or crowded):
        notes.append(f"Past real data: {m.beyond}.")
    labels = {"worse": "outside the floor", "within": "within the floor", "beyond": "past the floor"}
    return Chart(m, figures.curve(name, m, values, floor, last, level), tuple(notes), labels.get(judged, ""))


def entropy_chart(history: History) -> Chart:
    """Entropy of the class weights, with its largest possible value."""
    count = len(history.generations[-1].modes) - 1
    level = (math.log(count), f"ln {count}, all {count} classes equally often") if count > 1 else None
    real = {g.index: g.real_modes["entropy"] for g in history if "entropy" in g.real_modes}
    return chart("entropy", measure("entropy"), series(history, "modes", "entropy"), real, len(history), level)


def natural(name: str) -> tuple[tuple[bool, float, str], ...]:
    """Sort key that puts "mode 10" after "mode 2"."""
    return tuple((not part.isdigit(), float(part) if part.isdigit() else 0.0, part) for part in name.split())


def class_table(history: History) -> Markup | None:
    """Weights of classes or modes by generation."""
    names = sorted({k for g in history for k in g.modes if k != "entropy"}, key=natural)
    if not names:
        return None
    columns: dict[str, dict[str, float]] = {}
    if real := real_classes(history):
        columns["real"] = {name: real[name].value for name in names if name in real}
    for n in figures.thin(len(history), figures.MOST_CELLS):
        modes = history[n].modes
        columns[str(n)] = {name: modes[name].value for name in names if name in modes}
    if len(names) > MOST_CLASSES:
        for column in columns.values():
            rest = [column.pop(name, 0.0) for name in names[MOST_CLASSES - 1 :]]
            column[f"{len(rest)} others"] = float(sum(rest))
    return figures.classes("classes", columns) if columns[str(len(history))] else None


def by_class(history: History) -> list[tuple[str, list[str]]]:
    """Share, real share, drift and recognised share of each class in the last generation whose samples have labels."""
    found = history.generations[-1].by_class
    keys = ("share", "real_share", "drift", "recognised")
    return [(name, [words.estimate(e[k]) if k in e else "–" for k in keys]) for name, e in found.items()]


# -- lineage and memory ---------------------------------------------------------------------------------------------


def legend(history: History) -> list[tuple[str, str, float]]:
    """``(origin, colour name, opacity)`` of the lineage bars; many models are shown by their ends."""
    found = {origin for g in history for origin in g.lineage.fractions()}
    models = sorted((o for o in found if o != "real"), key=lambda o: int(o.split()[1]))
    if len(models) > 6:
        models = [models[0], models[len(models) // 2], models[-1]]
    shown = (["real"] if "real" in found else []) + models
    return [(origin, *figures.origin_style(origin, len(history))) for origin in shown]


def squared_propagator(history: History) -> np.ndarray:
    """G_{n,i}^2, ``[N, N]``, of the policy rows in the records (theory section 4)."""
    N = len(history)
    mixing = np.zeros((N, N + 1))
    for g in history:
        mixing[g.index - 1, : len(g.mixing)] = g.mixing
    return np.asarray(propagator((np.array([g.fresh for g in history]), mixing), N) ** 2)


def memory_words(history: History) -> str:
    """How long an error lives, in a sentence."""
    G2 = squared_propagator(history)
    if len(G2) < 2:
        return "One generation has no memory yet."
    last = G2[-1]
    alive = int((last >= 0.01).sum())
    if last.min() > 0.99:
        return "Nothing is forgotten: every error ever made is fully present in the last generation."
    counted = "One generation's error" if alive == 1 else f"{alive} generations' errors"
    return (
        f"Of the first error, {number(100 * float(last[0]), 2)} % of the energy is left in generation {len(G2)}. "
        f"{counted} still {'has' if alive == 1 else 'have'} at least 1 % of the energy there."
    )


# -- tables ---------------------------------------------------------------------------------------------------------


def facts(history: History, key: str | None) -> list[Fact]:
    """The key numbers at the head of the page."""
    last, config = history.generations[-1], history.config
    planned = config.get("generations", len(history))
    unfinished = "" if planned == len(history) else f"of {planned} planned: not finished"
    found = [
        Fact("Generations", str(len(history)), unfinished),
        Fact("Real share of the training set", f"{last.alpha:.1%}".replace("%", " %"), "α of the last generation"),
    ]
    if key is not None:
        m, e, floor = measure(key), last.divergence[key], last.floor.get(key)
        found.append(_number_fact(m.name, e, m.unit))
        if floor is not None:
            found.append(_number_fact("Real-vs-real floor of it", floor, m.unit))
    drift = last.moments.get("second_moment_drift")
    if drift is not None:
        interval = f"{percent(drift.low)} to {percent(drift.high)}" if drift.stderr else ""
        found.append(Fact("Second moment against real", percent(drift.value), "", interval))
    if "entropy" in last.modes:
        found.append(_number_fact("Entropy of class weights", last.modes["entropy"], "nats"))
    fresh = sum(g.lineage.fresh for g in history)
    found.append(Fact("Fresh real rows used", count(fresh), "over all generations"))
    seconds, memory = spent(history)
    if seconds:
        found.append(Fact("Time", duration(seconds), "all stages"))
    if memory:
        found.append(Fact("Peak memory", mebibytes(memory)))
    return found


def _number_fact(name: str, e: Estimate, unit: str) -> Fact:
    interval = f"{number(e.low)} to {number(e.high)}" if e.stderr != 0 and math.isfinite(e.low) else ""
    return Fact(name, number(e.value), unit, interval)


def _is_memory(stage: str) -> bool:
    return stage.endswith("_mib")


def spent(history: History) -> tuple[float, float]:
    """Seconds of all stages of all generations, and peak memory in MiB (0 where not recorded)."""
    seconds = sum(v for t in history.timings for k, v in t.items() if not _is_memory(k))
    return seconds, max((v for t in history.timings for k, v in t.items() if _is_memory(k)), default=0.0)


def _table(rows: Iterable[Mapping[str, float]], text: Any) -> tuple[list[str], list[list[str]]]:
    found = list(rows)
    columns = list({k: None for row in found for k in row})
    return columns, [[text(k, row[k]) if k in row else "–" for k in columns] for row in found]


def timings(history: History) -> tuple[list[str], list[list[str]]]:
    """Columns and one row per generation."""
    columns, rows = _table(history.timings, lambda k, v: mebibytes(v) if _is_memory(k) else duration(v))
    return [c.replace("_mib", "").replace("_", " ") for c in columns], rows


def training(history: History) -> tuple[list[str], list[list[str]]]:
    """Columns and one row per generation of the numbers of the fit."""
    columns, rows = _table([g.training for g in history], lambda k, v: number(v, 4))
    return [c.replace("_", " ") for c in columns], rows


def numbers(history: History) -> list[dict[str, Any]]:
    """Every estimate of every generation."""
    where = {"divergence": "against target", "one_step": "one step", "floor": "floor", "moments": "moments"}
    rows = []
    for g in history:
        for group in words.GROUPS:
            for key, e in sorted(words.estimates(g, group).items(), key=lambda item: natural(item[0])):
                m = measure(key, TRAINING_LAW if group in {"one_step", "path"} else TARGET)
                rows.append({"n": g.index, "group": where.get(group, group), "name": m.symbol or m.name, "estimate": e})
    return rows


def study(history: History) -> list[tuple[str, str]]:
    """What was run: the main lines of the configuration."""
    config = history.config

    def kind(part: str) -> str:
        value = config.get(part)
        if not isinstance(value, Mapping):
            return str(value)
        flat = {k: v for key, x in value.items() for k, v in (x if isinstance(x, Mapping) else {key: x}).items()}
        simple = {k: v for k, v in flat.items() if k != "kind" and isinstance(v, str | int | float)}
        settings = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in list(simple.items())[:4])
        return f"{value.get('kind', '?')}" + (f" ({settings})" if settings else "")

    parts = [("Source", kind("source")), ("Learner", kind("estimator")), ("Refresh policy", kind("policy"))]
    size = config.get("samples")
    return [*parts, ("Training rows", str(size)), ("Seed", str(config.get("seed")))]


def reproduce(history: History) -> list[tuple[str, str]]:
    """Command, seed and versions."""
    names = ("command", "seed", "driftlaw", "python", "torch", "numpy", "machine", "threads", "device", "created")
    found = {"seed": history.config.get("seed"), **history.manifest}
    return [(name, str(found[name])) for name in names if found.get(name) not in (None, "")]
