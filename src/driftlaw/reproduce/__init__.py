"""The figures and claims of [KTV] (arXiv 2602.16601) made again: numbers only; :mod:`driftlaw.report` draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftlaw.errors import InputError, nearest
from driftlaw.loop.history import History
from driftlaw.loop.run import threads
from driftlaw.loop.sweep import Cell
from driftlaw.reproduce import claims
from driftlaw.reproduce.image_claims import TEXTS as IMAGE_TEXTS
from driftlaw.reproduce.image_claims import image_claims
from driftlaw.reproduce.images import Effort, image_figures
from driftlaw.reproduce.mixture import closed_forms, tables
from driftlaw.reproduce.mixture.literal import STATEMENT, TITLE, literal_chains, literal_figure
from driftlaw.reproduce.mixture.perturbations import on_digits, on_mixture
from driftlaw.reproduce.mixture.study import (
    ALPHAS,
    GENERATIONS,
    StudyNumbers,
    Watch,
    draws,
    measure_population,
    silent,
)
from driftlaw.reproduce.mixture.tanh_error import controlled
from driftlaw.reproduce.records import FIGURES, IMAGES, Claim, FigureData, Reproduction

__all__ = [
    "FIGURES",
    "IMAGES",
    "Effort",
    "Reproduction",
    "check_names",
    "population_study",
    "reproduce",
    "reproduce_images",
]

#: Targets that need the study.
STUDY = frozenset({"fig1", "fig3", "fig4", "fig5", "table"})


def check_names(names: Sequence[str], images: bool = False) -> tuple[str, ...]:
    """Targets in their order, each once; for none, all those of images or all the others.

    Raises:
        InputError: an unknown name, with the nearest, or one of the other kind.
    """
    for name in names:
        if name not in FIGURES:
            raise InputError(f"unknown figure {name!r}", nearest(name, FIGURES))
        if (name in IMAGES) != images:
            raise InputError(
                f"{name} is {'not ' if images else ''}made from image runs",
                f"{'leave out' if images else 'add'} --images",
            )
    return tuple(f for f in FIGURES if (f in IMAGES) == images and (f in names or not names))


def population_study(
    names: Sequence[str],
    *,
    alphas: Sequence[float] = ALPHAS,
    generations: int = GENERATIONS,
    seed: int = 0,
    target_se: float = 0.01,
    workers: int = 1,
    watch: Watch = silent,
) -> StudyNumbers | None:
    """The population study if one of the targets needs it."""
    if not STUDY & set(names):
        return None
    return measure_population(alphas, generations, seed=seed, target_se=target_se, workers=workers, watch=watch)


def reproduce(
    names: Sequence[str] = (),
    study: StudyNumbers | None = None,
    *,
    seed: int = 0,
    target_se: float = 0.01,
    samples: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Reproduction:
    """Make figures and claims.

    Args:
        names: targets of :data:`FIGURES`; none means all.
        study: the measured study that fig1, fig3, fig4, fig5 and table need.
        seed: seed of the named streams.
        target_se: as of :func:`population_study`; scales the draws of fig2, of the controlled error and of the
            literal simulation.
        samples: rows of the KDE that is simulated literally; None for its law with infinitely many.
        settings: what to remember of the run.

    Raises:
        InputError: an unknown target, or a target whose study is missing.
    """
    chosen, found, figures = check_names(names), [], []
    if STUDY & set(chosen) and study is None:
        raise InputError("these figures need a study", "pass population_study(names)")
    for name in chosen:
        made, said = _make(name, study, seed, target_se, samples)
        figures.append(made)
        found += said
    every = {c.key: c for c in found}
    ordered = [_with_command(every.get(key, missing), settings or {}) for key, missing in CLAIMS.items()]
    return Reproduction({"seed": seed, **(settings or {})}, tuple(figures), tuple(ordered))


def reproduce_images(
    names: Sequence[str],
    runs: Mapping[Cell, History],
    folder: Path,
    effort: Effort,
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    watch: Callable[[str], None] = print,
) -> Reproduction:
    """Make the figures and claims of image runs.

    Args:
        names: targets among :data:`IMAGES`; none means all.
        runs: finished runs of one study, by alpha and seed.
        folder: where finished parts are kept.
        effort: spent on the score errors.
        seed: seed of the named streams.
        settings: what to remember of the run.
        watch: told about each part.

    Raises:
        InputError: an unknown target, or rows that are not images.
    """
    chosen = check_names(names, images=True)
    figures = image_figures(runs, folder, effort, names=chosen, seed=seed, watch=watch)
    every = {c.key: c for c in image_claims(figures)}
    ordered = [_with_command(every.get(key, missing), settings or {}) for key, missing in CLAIMS.items()]
    return Reproduction({"seed": seed, **(settings or {})}, tuple(figures), tuple(ordered))


#: Settings that a command line need not name, by mode; the others become flags of their name.
DEFAULTS: dict[str, dict[str, Any]] = {
    "population": {"mode": "population", "alphas": list(ALPHAS), "generations": 20, "target-se": 0.01, "seed": 0},
    "images": {
        "study": "fashion-mnist",
        "preset": "laptop",
        "alphas": list(ALPHAS),
        "generations": 5,
        "runs": 3,
        "seed": 0,
    },
    "paper": {"alphas": list(ALPHAS), "generations": 20, "target-se": 0.02, "seed": 0, "runs": 10, "samples": 100_000},
}


def _options(settings: Mapping[str, Any]) -> str:
    """The flags that repeat these settings."""
    usual = DEFAULTS[settings.get("mode", "population")]
    parts = []
    for key, value in settings.items():
        if usual.get(key) == value:
            continue
        text = ",".join(f"{a:g}" for a in value) if isinstance(value, list | tuple) else f"{value}"
        parts.append(f"--{value}" if key == "mode" else f"--{key} {text}")
    return " ".join(parts)


def _with_command(claim: Claim, settings: Mapping[str, Any]) -> Claim:
    images, mode = claim.figure in IMAGES, settings.get("mode", "population")
    options = _options(settings) if images == (mode == "images") else "--images" if images else ""
    return replace(claim, command=f"driftlaw reproduce {claim.figure} {options}".rstrip())


def _make(
    name: str, study: StudyNumbers | None, seed: int, target_se: float, samples: int | None
) -> tuple[FigureData, list[Claim]]:
    if name == "fig2":
        with threads(1):
            parts = on_mixture(seed, draws(8192, target_se)), on_digits(seed, draws(2048, target_se))
        table = tables.perturbations(*parts)
        return FigureData(name, {"eta": table}), claims.time_only(table)
    if name == "controlled":
        with threads(1):
            table = controlled(seed, draws(2000, target_se))
            said = claims.controlled_case(table, seed)
        return FigureData(name, {"path-kl": table}), said
    if name == "literal":
        return literal_figure(literal_chains(seed, draws(2000 if samples is None else 4000, target_se), samples))
    assert study is not None
    makers: dict[str, Callable[[], list[Claim]]] = {
        "fig1": list,
        "fig3": lambda: claims.one_generation(study),
        "fig4": lambda: [*claims.infinite_drift(study), *closed_forms.proposition_4_1()],
        "fig5": lambda: [*closed_forms.theorem_4_2(), *claims.accumulated(study)],
        "table": lambda: [*claims.section_6(study), *closed_forms.drift_figures()],
    }
    return getattr(tables, name)(study), makers[name]()


def _missing(key: str, figure: str, title: str, statement: str) -> tuple[str, Claim]:
    return key, Claim(key, figure, title, statement, "not measured in this run", f"Its target is {figure}.")


#: Every claim of the page, in its order, as it reads where a run did not measure it.
CLAIMS: dict[str, Claim] = dict(
    _missing(*parts)
    for parts in (
        ("prop-3.1", "fig3", "Proposition 3.1", "KL(p̂ ‖ q) at t₀ is at most ε̂²/2."),
        ("prop-3.1-equality", "fig3", "Equality in Proposition 3.1", "For a KDE or mixture it is an equality (ours)."),
        ("prop-3.3", "fig3", "Proposition 3.3", "I ≥ η ε*²/4 − C ε*⁴ for small errors."),
        ("thm-3.4", "fig3", "Theorem 3.4", "I ≤ 4 ε*² + c ε*⁴."),
        ("eta-kde", "fig3", "η = 1 for a KDE", "Every score error of a kernel density estimate is seen."),
        ("time-only", "fig2", "Time-only errors are not seen", "η is about 0 for an error that depends on time alone."),
        ("rotation", "fig2", "Rotations are not seen", "η is 0 for a rotation."),
        ("prop-4.1-i", "fig4", "Proposition 4.1 (i)", "If Σ ε*² diverges, so does Σ D_i."),
        ("prop-4.1-ii", "fig4", "Proposition 4.1 (ii)", "Eventual floors on η and ε*² give a floor on limsup D_i."),
        ("finite-chi2", "fig4", "χ² as the measure of drift", "D_i is finite and can be followed over generations."),
        ("thm-4.2", "fig5", "Theorem 4.2, as displayed", "D + C_bias is comparable with the discounted sum."),
        ("fig-5", "fig5", "Discounted contributions", "Drift is the discounted sum of past errors."),
        ("accumulation-identity", "fig5", "Accumulation identity", "D_N = Σ G_i G_j ⟨δ_i, δ_j⟩ exactly (ours)."),
        ("table-6", "table", "Mixture study, energies and KL", "The numbers of the population study."),
        ("drift", "table", "Drift of the second moment", "Its growth at generation 20."),
        ("controlled", "controlled", "Controlled error β tanh(x)", "Its path KL is .1403 / .5469 / 1.1973."),
        ("literal", "literal", TITLE, STATEMENT),
        *((key, key.replace("fig-2-", "fig2-").replace("fig-", "fig"), *text) for key, text in IMAGE_TEXTS.items()),
    )
)
