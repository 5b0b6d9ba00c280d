"""What a study would do and what it would cost, before it is run.

The rows of every training set follow from the policy alone. The time is measured, not guessed: a probe fits, samples
and measures on a small part of the same study on this machine, and each stage is scaled by its own work (optimiser
steps, rows sampled, density evaluations).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from driftlaw import seeding
from driftlaw.learn.estimator import Estimator, FitContext, Model
from driftlaw.loop.feature_kinds import classifier_of, is_network
from driftlaw.loop.run import pick_device
from driftlaw.loop.step import feature_space
from driftlaw.loop.step.generation import densities, score_path
from driftlaw.loop.step.setting import MOST_SEEN, Past, Setting, law_of
from driftlaw.loop.study import Study
from driftlaw.measure.features import network_kinds
from driftlaw.numerics.words import duration, mebibytes

T = TypeVar("T")
#: Solver steps of the probe where the study takes more than 100, rows of its critic and of a feature network.
SOLVER_STEPS, CRITIC_ROWS, NETWORK_ROWS = 20, 128, 16


@dataclass(frozen=True)
class PlannedGeneration:
    """Rows of one training set by origin."""

    index: int
    fresh: int
    kept: int
    models: dict[int, int]

    @property
    def total(self) -> int:
        """Number of training rows, fresh and synthetic together."""
        return self.fresh + self.kept + sum(self.models.values())


@dataclass(frozen=True)
class Cost:
    """A study that has not been run.

    Args:
        study: its name, source, estimator and policy in words.
        generations: the training sets.
        available: fresh rows that the source has; None for a density.
        seconds: estimated wall-clock seconds by stage for the whole run; empty when the learner was not probed.
        disk_mib: size of the run directory, MiB.
    """

    study: dict[str, Any]
    generations: tuple[PlannedGeneration, ...]
    available: int | None
    seconds: dict[str, float]
    disk_mib: float

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        rows = [
            {
                "generation": g.index,
                "fresh": g.fresh,
                "kept": g.kept,
                "models": {str(j): k for j, k in g.models.items()},
            }
            for g in self.generations
        ]
        return {
            "study": self.study,
            "generations": rows,
            "fresh_rows": sum(g.fresh for g in self.generations),
            "fresh_rows_available": self.available,
            "estimated_seconds": {k: round(v, 1) for k, v in self.seconds.items()},
            "estimated_seconds_total": round(sum(self.seconds.values()), 1) if self.seconds else None,
            "estimated_disk_mib": round(self.disk_mib, 1),
        }

    def text(self) -> str:
        """The plan in words, one line per generation."""
        lines = [f"{self.study['name']}: source {self.study['source']}, estimator {self.study['estimator']}, "]
        lines[0] += f"policy {self.study['policy']}"
        for g in self.generations:
            models = "".join(f" + {count} of model {j}" for j, count in g.models.items())
            kept = f" + {g.kept} kept real" if g.kept else ""
            lines.append(f"  generation {g.index}: {g.total} rows = {g.fresh} fresh{kept}{models}")
        stock = "endless" if self.available is None else f"{self.available} available"
        lines.append(f"  fresh rows in all: {sum(g.fresh for g in self.generations)} ({stock})")
        stages = ", ".join(f"{name} {duration(s, 2)}" for name, s in self.seconds.items())
        if self.seconds:
            lines.append(f"  about {duration(sum(self.seconds.values()), 2)} on this machine ({stages}; from a probe)")
        else:
            lines.append("  time not known: a dry run does not call a learner of your own")
        lines.append(f"  about {mebibytes(self.disk_mib)} on disk")
        return "\n".join(lines)


def cost(study: Study) -> Cost:
    """Cost a study and estimate its cost by a short probe on this machine.

    Raises:
        DriftlawError: what running it would raise before the first generation.
    """
    setting = Setting(study, pick_device(study.device))
    setting.prepare()
    rows = []
    for index in range(1, study.generations + 1):
        fresh, mixed = setting.counts(index)
        models = {j: int(c) for j, c in enumerate(mixed) if j and c}
        rows.append(PlannedGeneration(index, fresh, int(mixed[0]), models))
    config = study.config()
    words = {"name": config["name"], **{k: config[k]["kind"] for k in ("source", "estimator", "policy")}}
    row_bytes = 4 * math.prod(study.source.shape)
    stored = sum(setting.stored(j) for j in range(study.generations + 1))
    seconds, weights_bytes = (
        _probe(setting) if getattr(study.estimator, "probes", True) else ({}, row_bytes * study.size(1))
    )
    disk = (study.generations * weights_bytes + row_bytes * stored) / 2**20
    return Cost(words, tuple(rows), study.source.size, seconds, disk)


def _probe(setting: Setting) -> tuple[dict[str, float], int]:
    """Seconds by stage for the whole study, and bytes of one model."""
    study, N = setting.study, setting.study.generations
    batch = setting.supply.take(study.size(1), 0).batch
    data, seed = batch.x, seeding.stream_seed(study.seed, "probe")
    context = FitContext(seed=seed, device=setting.device, labels=batch.y, classes=study.source.classes)
    model, training = _training(study.estimator, data, context, N)
    size = sum(v.numel() * v.element_size() for v in model.state().values())
    cut = _solver_cut(study.estimator)
    few = min(study.size(1), 256 if cut == 1 else 16)
    sampled, sampling = _timed(lambda: model.sample(few, setting.stream("probe", "sample")).cpu())
    past = Past(lambda j: data, lambda j: model)
    drawn = sum(setting.stored(j) for j in range(1, N + 1))
    measuring = _comparing(setting, sampled) + _path(setting, past, model)
    return {"training": training, "sampling": cut * sampling * drawn / few, "measuring": measuring}, size


def _comparing(setting: Setting, sampled: Tensor) -> float:
    """Seconds of all comparisons of samples, with the features of a network and its training."""
    study, N = setting.study, setting.study.generations
    deep = is_network(study.measures.features)
    plain = _reduced(setting, features="pca") if deep else setting  # the numbers are others, the work is the same
    reference = plain.reference
    if reference is None:
        return 0.0
    if len(sampled) >= reference.n:
        seconds = _timed(lambda: reference.compare(sampled[: reference.n], setting.real_rows(min(2, N))))[1] * N
    else:
        seconds = _timed(lambda: reference.floor(setting.real_rows(1)))[1] * N
    if not deep:
        return seconds
    rows = setting.reference_rows + (1 + N) * reference.n  # held-out rows and samples beside them
    rows += sum(min(setting.counts(i)[0], MOST_SEEN) for i in range(1, N + 1))
    if reference.class_model is not None:
        rows += sum(setting.stored(j) for j in range(1, N + 1))
    return seconds + _network(setting, rows, setting.reference_rows - reference.n)


def _network(setting: Setting, rows: int, fitted_on: int) -> float:
    """Seconds of `rows` rows through the features' network, and of its training if it is a classifier."""
    features, source, training = setting.study.measures.features, setting.study.source, 0.0
    config, stream = classifier_of(features), setting.stream("probe", "features")
    if config is None:
        few = source.draw(min(NETWORK_ROWS, source.size or NETWORK_ROWS), stream).x
        network = network_kinds.build(features, source.shape, setting.device)
    else:
        batch = source.draw(min(2 * config.batch, source.size or 0), stream)
        few, y, classes = batch.x, batch.y, len(source.classes or ())
        assert y is not None
        short, long = (replace(config, epochs=1, least_steps=k) for k in (4, 14))
        _timed(lambda: short.fit(few, y, classes=classes, device=setting.device))  # the first call pays for caches
        base = _timed(lambda: short.fit(few, y, classes=classes, device=setting.device))[1]
        model, more = _timed(lambda: long.fit(few, y, classes=classes, device=setting.device))
        learned = feature_space.learned_rows(setting) or fitted_on
        steps = max(config.epochs * (learned // config.batch), config.least_steps)
        training = max(more - base, 1e-6) / 10 * steps
        network = feature_space.penultimate(model, setting.device)
    return training + _timed(lambda: network(few))[1] / len(few) * rows


def _path(setting: Setting, past: Past, model: Model) -> float:
    """Seconds of all measures along paths: of laws that are known, or of a score by its critic."""
    measures, N = setting.study.measures, setting.study.generations
    draws = measures.density_samples
    small = _reduced(setting, density_samples=200, path_samples=200)
    found, spent = _timed(lambda: densities(small, 1, past, model, []))
    seconds = 0.0
    if found[0]:
        blocks = sum(int((setting.rows[1][i, 1 : i + 1] > 0).sum()) + 1 for i in range(1, N)) + 1
        seconds += spent * draws / 200 * (blocks + N) / 2
    if found[2].known or not measures.critic_rows:
        return seconds
    rows = min(measures.critic_rows, CRITIC_ROWS)
    few = _reduced(setting, path_samples=0, critic_rows=rows)
    critic = _timed(lambda: score_path(few, 1, past, model, []))[1]
    seconds += critic * N * min(measures.critic_rows, measures.samples) / rows
    if measures.path_samples and law_of(setting.study.source) is not None:
        both = _timed(lambda: score_path(_reduced(few, path_samples=200), 1, past, model, []))[1]
        seconds += max(0.0, both - critic) * N * measures.path_samples / 200
    return seconds


def _reduced(setting: Setting, **measures: Any) -> Setting:
    """The same study with other measures."""
    study = setting.study
    changed = study.measures.model_copy(update=measures)
    return Setting(study.model_copy(update={"measures": changed}), setting.device)


def _training(estimator: Estimator, data: Any, context: FitContext, N: int) -> tuple[Model, float]:
    """A probe's model, and seconds of all N fits: those of a learner with `steps` are timed by the step."""
    if not hasattr(estimator, "steps"):
        model, seconds = _timed(lambda: estimator.fit(data, context))
        return model, seconds * N
    count = getattr(estimator, "fit_steps", None)
    whole: dict[str, Any] = {} if count is None else {"epochs": None, "warm_epochs": None}
    if _solver_cut(estimator) > 1:
        whole["solver_steps"] = SOLVER_STEPS
    short, long = (replace(estimator, steps=k, warm_steps=k, **whole) for k in (5, 20))  # type: ignore[type-var]
    _timed(lambda: short.fit(data, context))  # the first call pays for caches
    base = _timed(lambda: short.fit(data, context))[1]
    model, more = _timed(lambda: long.fit(data, context))
    per_step = max(more - base, 1e-6) / 15
    if count is None:
        first, later = estimator.steps, estimator.warm_steps  # type: ignore[attr-defined]
    else:
        first, later = (count(len(data), warm) for warm in (False, True))
    return model, per_step * (first + (N - 1) * later)


def _solver_cut(estimator: Estimator) -> float:
    """How many times fewer solver steps the probe takes than the study."""
    steps = getattr(estimator, "solver_steps", 0)
    return steps / SOLVER_STEPS if steps > 100 else 1.0


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
