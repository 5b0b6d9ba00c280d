"""The page of an audit: its record in, HTML out; only the forecast is evaluated, from the fit in the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from driftlaw.auditing import words as said
from driftlaw.auditing.record import HORIZON, Audit, GenerationAudit
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import count, number, p_value
from driftlaw.report.figures import audit as figures
from driftlaw.report.figures.run import thin
from driftlaw.report.figures.samples import contact_sheet, png, signed
from driftlaw.report.page import Fact, render

#: Columns drawn cell by cell, and generations whose examples are shown.
MOST_COLUMNS, MOST_SHEETS = 6, 8


@dataclass(frozen=True)
class Sheet:
    """Examples of one generation."""

    title: str
    picture: Markup


def build(audit: Audit) -> str:
    """Page of an audit; see :func:`driftlaw.report.build_audit`."""
    last = audit.generations[-1]
    dynamics, plural = audit.dynamics, "s" if len(audit.generations) != 1 else ""
    gram = (
        dynamics.gram(float(dynamics.rho[dynamics.best]))
        if dynamics.identified and len(audit.generations) > 1
        else None
    )
    ahead = audit.forecast(HORIZON)
    moved = [c for c in last.changes.columns if c.chi2.low > 0 and np.count_nonzero(np.add(c.real, c.generated)) > 1]
    moved = moved[:MOST_COLUMNS]
    return render(
        "audit.html.j2",
        title=f"{len(audit.generations)} generation{plural} against {audit.real['name']}",
        verdict=audit.verdict,
        details=[said.moved_words(audit), *said.dynamics_words(audit)],
        study=_study(audit),
        facts=_facts(audit),
        drift=figures.drift("drift", audit.drift, [g.floor for g in audit.generations], ahead),
        no_forecast=ahead[0].warnings[0] if ahead[0].is_refused else "",
        unknown=_unknown(audit),
        innovations=figures.innovations("innovations", [g.innovation for g in audit.generations]),
        gram=None if gram is None else figures.gram("gram", np.asarray(gram)),
        last=last.index,
        shifts=figures.shifts("shifts", last.changes.features) if last.changes.features else None,
        columns=[(c, _histograms(audit, f"column-{k}", c.name)) for k, c in enumerate(moved)],
        eigenimages=list(_eigenimages(audit)),
        quiet=sum(c.chi2.low <= 0 for c in last.changes.columns),
        spread=last.changes.spread,
        evidence=[e[:1].upper() + e[1:] for e in audit.regime.evidence],
        rows=[(g.index, g.rows) for g in audit.generations if g.rows is not None],
        sheets=list(_sheets(audit)),
        generations=audit.generations,
        warnings=list(_warnings(audit)),
        numbers=list(_numbers(audit)),
    )


def _unknown(audit: Audit) -> str:
    """Why there is no innovation to draw, and what would give one."""
    why = audit.generations[-1].innovation.why or "innovations are not known"
    return f"{why[:1].upper()}{why[1:]}. Give --alpha if the fresh fraction is known, or audit more generations."


def _study(audit: Audit) -> list[tuple[str, str]]:
    f, holdout = audit.features, audit.real["holdout"]
    return [
        ("real data", f"{audit.real['name']}, {count(audit.real['n'])} rows"),
        ("holdout", "none" if holdout is None else f"{holdout['name']}, {count(holdout['n'])} rows"),
        ("features", f"{f['name']}, {f['measured']} measured directions of {f['dimension']}"),
    ]


def _facts(audit: Audit) -> list[Fact]:
    last = audit.generations[-1]

    def fact(name: str, e: Estimate, note: str = "") -> Fact:
        interval = "" if e.is_refused or e.low == e.high else f"{number(e.low)} to {number(e.high)}"
        return Fact(name, number(e.value), note, interval)

    known = (
        ("Effective α", audit.effective_alpha, ""),
        ("Memory", audit.memory, "generations"),
        ("Alignment κ of innovations", audit.alignment, ""),
        ("Mean innovation", audit.innovation, ""),
    )
    return [
        fact(f"Drift of generation {last.index}", last.drift),
        Fact("Real-vs-real floor at its size", number(last.floor.high), "real rows stay below, 97.5 %"),
        Fact("p that it is sampling", p_value(last.p_value.value), "over all looks and generations (Holm)"),
        *(fact(name, e, note) for name, e, note in known if not e.is_refused),
        *([Fact("Regime", audit.regime.name)] if audit.regime.name != "undetermined" else []),
    ]


def _histograms(audit: Audit, name: str, column: str) -> Markup:
    """One column in every generation that recorded it, thinned evenly where there are many."""
    found = [(g.index, c) for g in audit.generations for c in g.changes.columns if c.name == column]
    if len(found) > figures.MOST_BLOCKS:
        found = [found[i - 1] for i in thin(len(found), figures.MOST_BLOCKS)]
    return figures.histograms(name, found[-1][1], found)


def _eigenimages(audit: Audit) -> Iterable[Sheet]:
    """Where the mean image of each generation changed, and the features of the last one that moved most."""
    shown = [g for g in audit.generations if g.eigenimages is not None]
    for g in [shown[i - 1] for i in thin(len(shown), MOST_SHEETS)] if shown else []:
        e = g.eigenimages
        assert e is not None
        images = e.images()
        for k in range(len(images) if g.index == len(audit.generations) else 1):
            alt = f"{e.names[k]} of generation {g.index}: orange is brighter than real data, blue darker"
            title = f"Generation {g.index}: {e.names[k]}"
            yield Sheet(title, signed(f"eigenimage-{g.index}-{k}", images[k].mean(axis=-1), alt, e.largest[k]))


def _sheets(audit: Audit) -> Iterable[Sheet]:
    shown = [g for g in audit.generations if g.rows is not None and g.rows.exemplars is not None]
    if len(shown) > MOST_SHEETS:
        shown = [shown[round(x)] for x in np.linspace(0, len(shown) - 1, MOST_SHEETS)]
    for g in shown:
        e = g.rows.exemplars if g.rows is not None else None
        if e is None:
            continue
        images = e.images().transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0
        for part, what in ((images[: e.drifted], "farthest along the drift"), (images[e.drifted :], "not chosen")):
            sheet = contact_sheet(part)
            alt = escape(f"{len(part)} images of generation {g.index}, {what}")
            yield Sheet(
                f"Generation {g.index}: {what}",
                Markup(
                    f'<img class="sheet" width="{sheet.width}" height="{sheet.height}" alt="{alt}" src="{png(sheet)}">'
                ),
            )


def _warnings(audit: Audit) -> Iterable[dict[str, Any]]:
    for text in audit.warnings:
        yield {"text": text, "where": "all numbers"}
    for g in audit.generations:
        for text in g.warnings:
            yield {"text": text, "where": f"generation {g.index}"}
    for name, e in (("effective α", audit.effective_alpha), ("alignment", audit.alignment)):
        for text in e.warnings:
            yield {"text": text, "where": name}


def _numbers(audit: Audit) -> Iterable[tuple[str, str, Estimate]]:
    for g in audit.generations:
        yield from ((str(g.index), name, e) for name, e in _estimates(g))
    for name, e in (
        ("effective α", audit.effective_alpha),
        ("memory", audit.memory),
        ("alignment κ", audit.alignment),
        ("mean innovation", audit.innovation),
    ):
        yield "all", name, e
    for h, e in enumerate(audit.forecast(HORIZON), len(audit.generations) + 1):
        yield str(h), "forecast of the drift", e


def _estimates(g: GenerationAudit) -> Iterable[tuple[str, Estimate]]:
    yield from (
        ("drift", g.drift),
        ("real-vs-real floor", g.floor),
        ("p-value, adjusted", g.p_value),
        ("p-value, this generation alone", g.p_value_single),
        ("innovation", g.innovation),
        ("mean variance ratio", g.changes.spread.total),
        ("smallest variance ratio", g.changes.spread.smallest),
        ("largest variance ratio", g.changes.spread.largest),
    )
    for f in g.changes.features[:5]:
        yield f"shift of {f.name}", f.shift
    for c in g.changes.columns[:5]:
        yield f"χ² of the cells of {c.name}", c.chi2
        yield f"tail mass of {c.name}", c.tail
    if g.rows is not None:
        yield from (
            ("recall", g.rows.recall),
            ("recall of real rows", g.rows.recall_floor),
            ("coverage", g.rows.coverage),
            ("coverage of real rows", g.rows.coverage_floor),
            ("near-duplicates", g.rows.near_duplicates),
        )
