"""One generation: draw the training set, learn, sample, measure. Pure given the study and the generations before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.errors import DriftlawError, InputError, SanityError
from driftlaw.estimate import Estimate
from driftlaw.learn.conditional.embedding import check_labels
from driftlaw.learn.estimator import Checkpoint, Chunks, FitContext, Model
from driftlaw.loop.record import Finding, Generation, Lineage
from driftlaw.loop.step import own_measures, sanity
from driftlaw.loop.step.selection import effect
from driftlaw.loop.step.setting import Past, Setting, law_of, provenance, training_law, unseen_rows
from driftlaw.measure.laws.divergence import SharedDraws
from driftlaw.measure.paths.generation import PathMeasures, path_measures
from driftlaw.measure.paths.score_path import score_path_measures
from driftlaw.measure.sets.labels import labelled
from driftlaw.measure.sets.moments import mode_weights, relative_drift, second_moment
from driftlaw.numerics.rows import check_finite
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.law import Diffused, ExactLaw, known_later

#: ``progress(stage, fraction in [0, 1], short text)``.
Stages = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Workspace:
    """Where a generation under way keeps what it needs to go on after a kill; each part may be missing.

    Args:
        checkpoint: of the fit.
        chunks: finished parts of the sampling.
        folder: of this generation, where a learner may keep files of its own.
        previous: folder of the generation before.
        strict: stop at the first finding of the checks, before anything is measured or recorded.
    """

    checkpoint: Checkpoint | None = None
    chunks: Chunks | None = None
    folder: Path | None = None
    previous: Path | None = None
    strict: bool = False


@dataclass(frozen=True)
class Outcome:
    """A generation that has just been made; `record.files` is filled by whoever stores it."""

    record: Generation
    model: Model
    samples: Tensor
    seconds: dict[str, float]
    labels: Tensor | None = None


def _quiet(stage: str, fraction: float, text: str) -> None:
    """Progress that goes nowhere."""


def advance(
    setting: Setting, index: int, past: Past, workspace: Workspace | None = None, progress: Stages = _quiet
) -> Outcome:
    """Make generation `index` from those before it.

    Args:
        setting: the study and what is fixed through it.
        index: n >= 1.
        past: generations 0..n-1.
        workspace: where long fits and long sampling save their progress and resume from.
        progress: told which stage is how far.

    Raises:
        DataExhaustedError: the source has too few fresh rows left.
        InputError: the model or its samples are not finite.
        SanityError: the workspace is strict, and there is a finding.
    """
    study, seconds, work = setting.study, {}, workspace or Workspace()
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage], clock = now - clock, now

    found = provenance(setting, index, past)
    if not getattr(study.estimator, "order_free", False):
        found = found.shuffled(setting.stream("generation", index, "shuffle"))
    rows = found.rows
    lap("data")
    context = FitContext(
        seed=seeding.stream_seed(study.seed, "generation", index, "fit"),
        held_out=setting.held_out.x if setting.held_out is not None else None,
        warm_start=_warm_start(setting, index, past),
        checkpoint=work.checkpoint,
        progress=lambda fraction, text: progress("training", fraction, text),
        device=setting.device,
        generation=index,
        samples=setting.stored(index),
        folder=work.folder,
        previous=work.previous,
        origin=found.origin,
        labels=found.labels,
        classes=study.source.classes,
        held_out_labels=setting.held_out.y if setting.held_out is not None else None,
    )
    model = setting.maker(index).fit(rows, context)
    lap("training")
    progress("sampling", 0.0, "")
    stream, in_chunks = setting.stream("generation", index, "sample"), getattr(model, "sample_in_chunks", None)
    labels = _labels(setting, index, model)
    given, n = {} if labels is None else {"labels": labels}, setting.stored(index)
    if in_chunks is None:
        samples = model.sample(n, stream, **given).cpu()
    else:
        samples = in_chunks(n, stream, work.chunks, lambda f, text: progress("sampling", f, text), **given)
    fix = "train longer, lower the learning rate, or use more solver steps"
    check_finite(samples, f"samples of generation {index}'s model", fix)
    lap("sampling")
    progress("measuring", 0.0, "")
    noted = sanity.findings(setting, index, model, found, samples)
    if work.strict and noted:
        raise SanityError(
            f"generation {index}: " + "; ".join(f"{f.kind}: {f.text}" for f in noted),
            "change the study, or go on with the same one without strict: its training is kept",
        )
    record = measure(setting, index, past, model, samples, found.lineage, noted, labels)
    lap("measuring")
    return Outcome(record, model, samples, seconds, labels)


def _labels(setting: Setting, index: int, model: Model) -> Tensor | None:
    """Classes of the samples that are drawn next, of a model that has any."""
    draw, n = getattr(model, "draw_labels", None), setting.stored(index)
    labels = None if draw is None else draw(n, setting.stream("generation", index, "labels"))
    if labels is None:
        return None
    if not setting.study.source.classes:
        raise InputError(
            f"generation {index}'s model gives its samples labels", "give a source whose classes have names"
        )
    return check_labels(labels, n, len(setting.study.source.classes))


def _warm_start(setting: Setting, index: int, past: Past) -> Model | None:
    """The model before, if this learner can start from it: a fork may go on with another one."""
    if index == 1:
        return None
    before, now = past.model(index - 1), setting.maker(index)
    if setting.maker(index - 1) is now:
        return before
    if type(setting.maker(index - 1)) is not type(now):
        return None
    try:
        now.load(before.state(), setting.study.source.shape)
    except DriftlawError:
        return None
    return before


def measure(
    setting: Setting,
    index: int,
    past: Past,
    model: Model,
    samples: Tensor,
    lineage: Lineage,
    found: tuple[Finding, ...] = (),
    labels: Tensor | None = None,
) -> Generation:
    """Everything that is recorded of generation `index`; `found` by the checks before it, `labels` of the samples."""
    source = setting.study.source
    fresh, mixing = setting.rows
    warnings: list[str] = list(getattr(source, "warnings", ()))  # such as images that were skipped
    divergence, one_step, path = densities(setting, index, past, model, warnings)
    if not path.known:
        path = score_path(setting, index, past, model, warnings)
    modes: dict[str, Estimate] = {}
    by_class: dict[str, dict[str, Estimate]] = {}
    real_modes: dict[str, Estimate] = {}
    if setting.reference is not None:
        reference = setting.reference
        divergence |= reference.compare(samples[: reference.n], setting.real_rows(index))
        modes, real_modes = dict(reference.classes(samples)), dict(reference.real_classes())
        warnings += reference.warnings
        if labels is not None and setting.held_out is not None and setting.held_out.y is not None:
            by_class = labelled.by_class(reference, samples, labels, setting.held_out.x, setting.held_out.y)
    divergence |= own_measures.compare(setting, index, samples, model)
    law = law_of(source)
    responsibilities = getattr(law, "responsibilities", None)
    if responsibilities is not None:
        r = responsibilities(samples)
        modes = dict(mode_weights(r, [f"mode {k}" for k in range(r.shape[1])]))
        exact = getattr(law, "weights", torch.empty(0)).tolist()
        real_modes = {f"mode {k}": Estimate.exact(w, "weight of the target") for k, w in enumerate(exact)}
    moment = second_moment(samples)
    target = _target_second_moment(setting, past)
    if setting.reference is None:
        warnings.append("sample-based measures were skipped: switched off, or too few rows to compare")
    if lineage.reused:
        warnings.append(f"{lineage.reused} fresh rows had been used before: the source is finite and reuse is on")
    for group in (divergence, one_step):
        warnings += [f"{name}: {w}" for name, e in group.items() for w in e.warnings if e.is_infinite or e.is_refused]
    return Generation(
        index=index,
        alpha=lineage.real / lineage.total,
        fresh=float(fresh[index - 1]),
        mixing=tuple(float(w) for w in mixing[index - 1, :index]),
        lineage=lineage,
        samples=len(samples),
        divergence=divergence,
        one_step=one_step,
        floor=setting.floor,
        moments={"second_moment": moment, "second_moment_drift": relative_drift(moment, target)},
        modes=modes,
        real_modes=real_modes if real_modes.keys() == modes.keys() else {},
        training=dict(getattr(model, "training", {})),
        path=path,
        selection=effect(setting, index, past),
        warnings=tuple(dict.fromkeys(warnings)),
        sanity=found,
        by_class=by_class,
    )


def densities(
    setting: Setting, index: int, past: Past, model: Model, warnings: list[str]
) -> tuple[dict[str, Estimate], dict[str, Estimate], PathMeasures]:
    """p_hat^n against p, against q_{n-1} and along the paths, where the laws are known; empty otherwise.

    Every law is evaluated once at shared draws. A KDE is read through its law at time 0 at every later time, so that
    its centres are put in order once.
    """
    target, law, q = law_of(setting.study.source), law_of(model), None
    if target is not None and law is not None:
        q = training_law(setting, index, past)
    if target is None or law is None or (q is None and not setting.selects(index)):
        return {}, {}, PathMeasures()
    measures, tails = setting.study.measures, setting.population_tails
    seed = seeding.stream_seed(setting.study.seed, "generation", index, "measure")
    if q is None:  # selection changed it in a way that has no density here
        drawn = SharedDraws({"p": target, "p_hat": law}, n=measures.density_samples, seed=seed)
        return dict(drawn.compare("p_hat", "p", None)), {}, PathMeasures()
    v_hat, v_p, v_q = tails[index], tails[0], setting.training_tail(index, tails)
    fitted: ExactLaw | None = getattr(model, "fitted", None)
    own = getattr(model, "t0", 0.0)
    t0 = own if own > 0 else measures.t0
    laws: dict[str, ExactLaw] = {"p": target, "q": q, "p_hat": law}
    if fitted is not None:
        laws |= {"q at t0": Diffused(q, t0), "p_hat at t0": Diffused(fitted, t0)}
        if isinstance(fitted, KernelMixture):
            laws["p_hat"] = Diffused(fitted, own)
    try:
        drawn = SharedDraws(laws, n=measures.density_samples, seed=seed)
        against_p = drawn.compare("p_hat", "p", _pair(v_hat, v_p))
        against_q = against_p if index == 1 else drawn.compare("p_hat", "q", _pair(v_hat, v_q))
        path = PathMeasures()
        if measures.path_samples and fitted is not None:
            late = math.exp(-t0)  # q at t0; a model with its own t0 is already there
            tail = _pair(
                v_hat if own > 0 or v_hat is None else late * v_hat + 1 - late,
                None if v_q is None else late * v_q + 1 - late,
            )
            path = path_measures(
                fitted,
                q,
                t0=t0,
                T=measures.T,
                n=measures.path_samples,
                density_samples=measures.density_samples,
                seed=seed,
                target_se=measures.target_se,
                tail=tail,
                ends=drawn.log_densities("p_hat" if own > 0 else "p_hat at t0", "q at t0"),
            )
    except InputError as error:
        warnings.append(f"no density-based measures: {error}")
        return {}, {}, PathMeasures()
    return dict(against_p), dict(against_q), path


def score_path(setting: Setting, index: int, past: Past, model: Model, warnings: list[str]) -> PathMeasures:
    """Path measures of a learned score that is not known to be the score of a law, from rows of q_{index-1}."""
    measures = setting.study.measures
    if not measures.critic_rows:
        return PathMeasures()
    own, config = getattr(model, "t0", 0.0), getattr(model, "config", None)
    q = training_law(setting, index, past)
    try:
        if hasattr(model, "score"):
            model.score(torch.zeros(1, *setting.study.source.shape), own if own > 0 else measures.t0)
    except NotImplementedError:  # declared, and absent
        return PathMeasures()
    except InputError:
        pass  # said below
    try:
        return score_path_measures(
            model,
            unseen_rows(setting, index, past),
            q if measures.path_samples and q is not None and known_later(q) else None,
            t0=own if own > 0 else measures.t0,
            T=getattr(config, "T", measures.T),
            n=measures.path_samples,
            critic=measures.critic,
            seed=seeding.stream_seed(setting.study.seed, "generation", index, "score path"),
        )
    except InputError as error:
        warnings.append(f"no measures of the score: {error}")
        return PathMeasures()


def _pair(r: float | None, q: float | None) -> tuple[float, float] | None:
    return None if r is None or q is None else (r, q)


def _target_second_moment(setting: Setting, past: Past) -> Estimate:
    moment = getattr(law_of(setting.study.source), "second_moment", None)
    if moment is not None:
        return Estimate.exact(float(moment()), "exact E|x|^2 of the target")
    return second_moment(past.samples(0))
