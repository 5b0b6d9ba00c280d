"""One generation: draw the training set, learn, sample, measure. Pure given the study and the generations before it.

The training set of generation n is drawn to row n-1 of the policy (theory section 4)::

    q_{n-1} = a_{n-1} p + sum_{j<n} w_{n-1,j} p_hat^j,      p_hat^0 = p

from `samples` rows: fresh real rows next in line of the supply, kept real rows of generation 0 for the weight on
p_hat^0, and stored samples of model j for the weight on p_hat^j. Every random choice comes from a stream named by the
generation and its purpose, so any generation replays alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.data.source import Batch
from driftlaw.data.supply import FreshSupply
from driftlaw.errors import ConfigError, DataExhaustedError, InputError
from driftlaw.estimate import Estimate
from driftlaw.learn.estimator import Checkpoint, FitContext, Generator
from driftlaw.loop.record import Generation, Lineage
from driftlaw.loop.study import Study
from driftlaw.measure.divergence import compare_laws
from driftlaw.measure.generation import PathMeasures, path_measures
from driftlaw.measure.moments import mode_weights, relative_drift, second_moment
from driftlaw.measure.reference import SampleReference
from driftlaw.process.law import ExactLaw, MixtureLaw

#: ``progress(stage, fraction in [0, 1], short text)``.
Progress = Callable[[str, float, str], None]
#: Sample-based measures are skipped for sets of fewer rows.
SMALLEST_SET = 24


@dataclass(frozen=True)
class Setting:
    """What stays the same through a run: the study, its policy's rows, the supply of fresh data and the reference."""

    study: Study
    device: str = "cpu"

    def prepare(self) -> None:
        """Find out now, before anything is written, whether the data suffice.

        Raises:
            DataExhaustedError: the policy needs more fresh rows than a finite source has, and reuse is off.
            InputError: the source's rows cannot be used.
        """
        study = self.study
        if self.grows and study.mixing == "multinomial":
            raise ConfigError("mixing: multinomial needs a policy of fixed size", "use mixing: stratified")
        needed, size = self.fresh_before(study.generations + 1), study.source.size
        if size is not None and needed > size and not study.reuse:
            raise DataExhaustedError(
                f"{study.generations} generations of {study.samples} rows with this policy need {needed} fresh rows; "
                f"{study.source.name} has {size}",
                "lower samples, generations or alpha, or set reuse: true to draw rows again in a new order",
            )
        _ = self.reference

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """``(fresh [N], mixing [N, N+1])`` of the policy."""
        fresh, mixing = self.study.policy.rows(self.study.generations)
        return np.asarray(fresh, float), np.asarray(mixing, float)

    @cached_property
    def supply(self) -> FreshSupply:
        """Fresh real rows, in one fixed order."""
        return FreshSupply(self.study.source, self.study.seed, self.study.reuse)

    @property
    def grows(self) -> bool:
        """Whether generation n trains on n blocks of `samples` rows instead of one."""
        return bool(getattr(self.study.policy, "grows", False))

    def stream(self, *path: int | str) -> torch.Generator:
        """Named random stream of this study."""
        return seeding.generator(self.study.seed, *path)

    def counts(self, index: int) -> tuple[int, np.ndarray]:
        """Rows of generation `index`'s training set: fresh real rows, and ``[index]`` rows of p_hat^0..p_hat^{index-1}.

        Generation 1 trains on p whatever the policy says, because p_hat^0 = p: all its rows are fresh.
        """
        fresh, mixing = self.rows
        if index == 1:
            return self.study.samples, np.zeros(1, int)
        total = self.study.samples * (index if self.grows else 1)
        weights = np.concatenate([fresh[index - 1 : index], mixing[index - 1, :index]])
        if self.study.mixing == "multinomial":
            rng = seeding.numpy_generator(self.study.seed, "generation", index, "counts")
            counts = rng.multinomial(total, weights / weights.sum())
        else:
            counts = _largest_remainder(weights, total)
        return int(counts[0]), counts[1:]

    def fresh_before(self, index: int) -> int:
        """Fresh rows that generations 1..index-1 have used: where generation `index` starts in the supply."""
        return sum(self.counts(k)[0] for k in range(1, index))

    @cached_property
    def population_tails(self) -> list[float | None]:
        """Largest component variance of p_hat^0..p_hat^N averaged over training draws; None where it is not known.

        Theory section 6: a KDE study's population law has heavier tails than any finite one, and decides whether
        chi2 is finite.
        """
        covariances = getattr(_law(self.study.source), "covariances", None)
        isotropic = isinstance(covariances, Tensor) and covariances.ndim == 1
        tails: list[float | None] = [float(torch.as_tensor(covariances).max()) if isotropic else None]
        for index in range(1, self.study.generations + 1):
            q = self.training_tail(index, tails)
            grow = getattr(self.study.estimator, "population_tail", None)
            tails.append(grow(q) if grow is not None and q is not None else None)
        return tails

    def training_tail(self, index: int, tails: Sequence[float | None]) -> float | None:
        """Largest component variance of q_{index-1}."""
        fresh, mixing = self.rows
        used = [0] if fresh[index - 1] > 0 or index == 1 else []
        used += [j for j in range(index) if mixing[index - 1, j] > 0]
        parts = [tails[j] for j in used]
        return None if None in parts else max(p for p in parts if p is not None)

    @cached_property
    def held_out(self) -> Batch | None:
        """Real rows that no model ever trains on; None when sample-based measures were switched off."""
        study, source = self.study, self.study.source
        n = min(study.measures.samples, study.samples, getattr(source, "held_out_size", study.samples))
        return source.held_out(n, self.stream("reference", "held-out")) if n >= SMALLEST_SET else None

    @cached_property
    def reference(self) -> SampleReference | None:
        """The real rows and features that sample-based measures compare against; None without held-out rows."""
        study, source, held_out = self.study, self.study.source, self.held_out
        if held_out is None:
            return None
        wanted = max(2 * len(held_out), 2 * SMALLEST_SET) + 4 * study.measures.dimension
        train = source.draw(
            wanted if source.size is None else min(source.size, 10_000), self.stream("reference", "train")
        )
        return SampleReference.fit(
            train.x,
            held_out.x,
            labels=train.y,
            held_out_labels=held_out.y,
            classes=source.classes,
            features=study.measures.features,
            dimension=study.measures.dimension,
            n=min(len(held_out), len(train) // 2),
            seed=seeding.stream_seed(study.seed, "reference"),
        )

    @cached_property
    def floor(self) -> dict[str, Estimate]:
        """Real against real rows at the same n: the same for every generation; empty without a reference."""
        return {} if self.reference is None else dict(self.reference.floor())


@dataclass(frozen=True)
class Past:
    """The generations before: real rows of generation 0, stored samples and (lazily) models."""

    samples: Callable[[int], Tensor]
    model: Callable[[int], Generator]


@dataclass(frozen=True)
class Outcome:
    """A generation that has just been made; `record.files` is filled by whoever stores it."""

    record: Generation
    model: Generator
    samples: Tensor
    seconds: dict[str, float]


def training_set(setting: Setting, index: int, past: Past) -> tuple[Tensor, Lineage]:
    """Rows ``[total, ...]`` that generation `index` learns from, and where they came from."""
    fresh, mixed = setting.counts(index)
    taken = setting.supply.take(fresh, setting.fresh_before(index)) if fresh else None
    parts = [taken.batch.x] if taken else []
    for j, count in enumerate(mixed):
        if count:
            rows = past.samples(j)
            order = torch.randperm(len(rows), generator=setting.stream("generation", index, "mix", j))
            parts.append(rows[order[:count]])
    models = {j: int(c) for j, c in enumerate(mixed) if j > 0 and c}
    kept = int(mixed[0])
    reused = taken.reused if taken else 0
    return torch.cat(parts), Lineage(real=fresh + kept, models=models, fresh=fresh - reused, reused=reused)


def _quiet(stage: str, fraction: float, text: str) -> None:
    """Progress that goes nowhere."""


def advance(
    setting: Setting, index: int, past: Past, checkpoint: Checkpoint | None = None, progress: Progress = _quiet
) -> Outcome:
    """Make generation `index` from those before it.

    Args:
        setting: the study and what is fixed through it.
        index: n >= 1.
        past: generations 0..n-1.
        checkpoint: where a long fit saves its progress and resumes from.
        progress: told which stage is how far.

    Raises:
        DataExhaustedError: the source has too few fresh rows left.
        InputError: the model or its samples are not finite.
    """
    study, seconds = setting.study, {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage], clock = now - clock, now

    rows, lineage = training_set(setting, index, past)
    lap("data")
    context = FitContext(
        seed=seeding.stream_seed(study.seed, "generation", index, "fit"),
        held_out=setting.held_out.x if setting.held_out is not None else None,
        warm_start=past.model(index - 1) if index > 1 else None,
        checkpoint=checkpoint,
        progress=lambda fraction, text: progress("training", fraction, text),
        device=setting.device,
    )
    model = study.estimator.fit(rows, context)
    lap("training")
    progress("sampling", 0.0, "")
    samples = model.sample(study.samples, setting.stream("generation", index, "sample")).cpu()
    bad = (~torch.isfinite(samples.flatten(1))).any(1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise InputError(
            f"model of generation {index} returned {int(bad.sum())} of {len(samples)} samples that are NaN or infinite "
            f"(first row {first})",
            "train longer, lower the learning rate, or use more solver steps",
        )
    lap("sampling")
    progress("measuring", 0.0, "")
    record = measure(setting, index, past, model, samples, lineage)
    lap("measuring")
    return Outcome(record, model, samples, seconds)


def measure(
    setting: Setting, index: int, past: Past, model: Generator, samples: Tensor, lineage: Lineage
) -> Generation:
    """Everything that is recorded of generation `index`."""
    source = setting.study.source
    fresh, mixing = setting.rows
    warnings: list[str] = []
    divergence, one_step, path = densities(setting, index, past, model, warnings)
    modes: dict[str, Estimate] = {}
    if setting.reference is not None:
        reference = setting.reference
        divergence |= reference.compare(samples[: reference.n])
        modes = dict(reference.classes(samples))
        warnings += reference.warnings
    responsibilities = getattr(_law(source), "responsibilities", None)
    if responsibilities is not None:
        r = responsibilities(samples)
        modes = dict(mode_weights(r, [f"mode {k}" for k in range(r.shape[1])]))
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
        training=dict(getattr(model, "training", {})),
        path=path,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _law(thing: object) -> ExactLaw | None:
    """The exact law of a source or a generator, where it has one."""
    law: ExactLaw | None = getattr(thing, "law", None)
    return law


def training_law(setting: Setting, index: int, past: Past) -> ExactLaw | None:
    """q_{index-1} as a law at time 0, where the target's and the used models' densities are known."""
    target = _law(setting.study.source)
    if target is None or index == 1:
        return target
    fresh, mixing = setting.rows
    weights = [float(fresh[index - 1] + mixing[index - 1, 0]), *map(float, mixing[index - 1, 1:index])]
    used = [(w, target if j == 0 else _law(past.model(j))) for j, w in enumerate(weights) if w > 0]
    known = [(w, law) for w, law in used if law is not None]
    if len(known) < len(used):
        return None
    return known[0][1] if len(known) == 1 else MixtureLaw([w for w, _ in known], [law for _, law in known])


def densities(
    setting: Setting, index: int, past: Past, model: Generator, warnings: list[str]
) -> tuple[dict[str, Estimate], dict[str, Estimate], PathMeasures]:
    """p_hat^n against p, against q_{n-1} and along the paths, where the laws are known; empty otherwise."""
    target, law, q = _law(setting.study.source), _law(model), None
    if target is not None and law is not None:
        q = training_law(setting, index, past)
    if target is None or law is None or q is None:
        return {}, {}, PathMeasures()
    measures, tails = setting.study.measures, setting.population_tails
    seed = seeding.stream_seed(setting.study.seed, "generation", index, "measure")
    v_hat, v_p, v_q = tails[index], tails[0], setting.training_tail(index, tails)
    try:
        against_p = compare_laws(law, target, n=measures.density_samples, seed=seed, tail=_pair(v_hat, v_p))
        against_q = against_p
        if index > 1:
            against_q = compare_laws(law, q, n=measures.density_samples, seed=seed, tail=_pair(v_hat, v_q))
        path = PathMeasures()
        fitted: ExactLaw | None = getattr(model, "fitted", None)
        if measures.path_samples and fitted is not None:
            own = getattr(model, "t0", 0.0)
            t0 = own if own > 0 else measures.t0
            late = math.exp(-t0)  # q at t0; a model with its own t0 is already there
            tail = _pair(v_hat if own > 0 or v_hat is None else late * v_hat + 1 - late,
                         None if v_q is None else late * v_q + 1 - late)  # fmt: skip
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
            )
    except InputError as error:
        warnings.append(f"no density-based measures: {error}")
        return {}, {}, PathMeasures()
    return dict(against_p), dict(against_q), path


def _pair(r: float | None, q: float | None) -> tuple[float, float] | None:
    return None if r is None or q is None else (r, q)


def _target_second_moment(setting: Setting, past: Past) -> Estimate:
    moment = getattr(_law(setting.study.source), "second_moment", None)
    if moment is not None:
        return Estimate.exact(float(moment()), "exact E|x|^2 of the target")
    return second_moment(past.samples(0))


def _largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Integers that sum to `total`, each within 1 of ``weights * total``; ties go to the first."""
    share = weights / weights.sum() * total
    counts: np.ndarray = np.floor(share + 1e-9).astype(int)
    order = np.argsort(-(share - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
