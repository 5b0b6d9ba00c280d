"""What stays the same through a run, and the rows and laws that a generation learns from.

Row n-1 of the policy (theory section 4) gives the training law of generation n::

    q_{n-1} = a_{n-1} p + sum_{j<n} w_{n-1,j} p_hat^j,      p_hat^0 = p

Its training set is fresh real rows next in line of the supply, kept real rows of generation 0 for the weight on
p_hat^0, and stored samples of model j for the weight on p_hat^j. Every random choice comes from a stream named by the
generation and its purpose, so any generation replays alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.data.source import Batch
from driftlaw.data.supply import FreshSupply
from driftlaw.errors import ConfigError, DataExhaustedError, InputError
from driftlaw.estimate import Estimate
from driftlaw.learn.drawn import DrawnSamples
from driftlaw.learn.estimator import Estimator
from driftlaw.learn.select.select import selected
from driftlaw.loop.branches.shared import Shared
from driftlaw.loop.feature_kinds import is_network
from driftlaw.loop.record import Lineage
from driftlaw.loop.step import feature_space, own_measures, room
from driftlaw.loop.step.allocation import Allocation
from driftlaw.loop.step.laws import law_of as law_of
from driftlaw.loop.step.training import KEPT, TrainingSet, largest_remainder, together
from driftlaw.loop.step.training import Past as Past
from driftlaw.loop.study import Study
from driftlaw.measure.sets.reference import SampleReference
from driftlaw.process.laws.law import ExactLaw, MixtureLaw

#: Sample-based measures are skipped for sets of fewer rows.
SMALLEST_SET = 24
#: Training rows of one generation that are searched for copies.
MOST_SEEN = 10_000


@dataclass(frozen=True)
class Setting(Allocation):
    """What stays the same through a run: the study, its policy's rows, the supply of fresh data and the reference.

    Args:
        study: what is run.
        device: where learners work.
        decided: the fractions that an adaptive policy has decided so far; see :meth:`decide`.
        folder: of the run, where a trained feature space is kept; None keeps it in memory.
        shared: generations that the run has from its parent, whatever the study says of them; none for its own run.
    """

    study: Study
    device: str = "cpu"
    decided: list[float] = field(default_factory=list, compare=False)
    folder: Path | None = field(default=None, compare=False)
    shared: Shared = field(default_factory=Shared, compare=False)

    def prepare(self) -> None:
        """Find out now, before anything is written, whether the data suffice.

        Raises:
            LimitError: it does not fit this machine's memory.
            DataExhaustedError: the policy needs more fresh rows than a finite source has, and reuse is off.
            InputError: the source's rows, or this learner on them, cannot be used.
        """
        study = self.study
        room.check(study, law_of(study.source) is not None)
        check = getattr(study.estimator, "check", None)
        if check is not None:
            check(study.source.shape, self.device)
        if getattr(study.estimator, "conditional", False) and not study.source.classes:
            raise ConfigError(
                f"the learner is conditional and {study.source.name} has no labels",
                "give a source with labels (a label column, class folders, y), or set conditional: false",
            )
        if getattr(study.estimator, "conditional", False) and study.select is not None:
            raise ConfigError("selected samples have no labels, and the learner is conditional", "leave select out")
        if study.mixing == "multinomial" and any(
            self.total(k) > study.size(k) for k in range(1, study.generations + 1)
        ):
            raise ConfigError("mixing: multinomial needs a policy of fixed size", "use mixing: stratified")
        self._check_blocks()
        certain = study.generations
        if self.adaptive is not None:  # it decides the others later
            certain = max(1, len(self.shared))
        needed, size = self.fresh_before(certain + 1), study.source.size
        if size is not None and needed > size and not study.reuse:
            raise DataExhaustedError(
                f"{study.generations} generations of {study.rows_in_words()} rows with this policy need "
                f"{needed} fresh rows; {study.source.name} has {size}",
                "lower samples, generations or alpha, or set reuse: true to draw rows again in a new order",
            )
        _ = self.own_floor  # what fails on real rows fails before anything is trained
        if is_network(study.measures.features):
            feature_space.check(self)  # training one waits until its weights can be stored
        else:
            _ = self.reference

    def maker(self, index: int) -> Estimator:
        """Who learned, or will learn, generation `index`."""
        if index <= len(self.shared):
            return self.shared.estimators[index - 1]
        estimator: Estimator = self.study.learner(index)
        return estimator

    def selects(self, index: int) -> bool:
        """Whether samples of models are selected to train generation `index`."""
        if index <= len(self.shared):
            return bool(self.shared.records[index - 1].selection)
        return self.study.select is not None

    @cached_property
    def supply(self) -> FreshSupply:
        """Fresh real rows, in one fixed order."""
        return FreshSupply(self.study.source, self.study.seed, self.study.reuse)

    def stream(self, *path: int | str) -> torch.Generator:
        """Named random stream of this study."""
        return seeding.generator(self.study.seed, *path)

    @cached_property
    def population_tails(self) -> list[float | None]:
        """Largest component variance of p_hat^0..p_hat^N averaged over training draws; None where it is not known.

        Theory section 6: a KDE study's population law has heavier tails than any finite one, and decides whether
        chi2 is finite.
        """
        covariances = getattr(law_of(self.study.source), "covariances", None)
        isotropic = isinstance(covariances, Tensor) and covariances.ndim == 1
        tails: list[float | None] = [float(torch.as_tensor(covariances).max()) if isotropic else None]
        for index in range(1, self.study.generations + 1):
            q = self.training_tail(index, tails)
            grow = getattr(self.maker(index), "population_tail", None)
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
        n = min(study.measures.samples, self.smallest, getattr(source, "held_out_size", self.smallest))
        return source.held_out(n, self.stream("reference", "held-out")) if n >= SMALLEST_SET else None

    @cached_property
    def reference(self) -> SampleReference | None:
        """The real rows and features that sample-based measures compare against; None without held-out rows."""
        study, source, held_out = self.study, self.study.source, self.held_out
        if held_out is None:
            return None
        train = source.draw(self.reference_rows, self.stream("reference", "train"))
        n, seed = min(len(held_out), len(train) // 2), seeding.stream_seed(study.seed, "reference")
        features, notes = feature_space.of_run(self, train, held_out, n, seed)
        reference = SampleReference.fit(
            train.x,
            held_out.x,
            labels=train.y,
            held_out_labels=held_out.y,
            classes=source.classes,
            features=features,
            dimension=study.measures.dimension,
            n=n,
            seed=seed,
        )
        return replace(reference, warnings=(*notes, *reference.warnings))

    @property
    def reference_rows(self) -> int:
        """Real training rows that fit the reference and play its floor."""
        size, measures = self.study.source.size, self.study.measures
        wanted = 2 * max(len(self.held_out or ()), SMALLEST_SET) + 4 * measures.dimension
        most = max(wanted, 4_000) if is_network(measures.features) else 10_000  # a network is slow
        return wanted if size is None else min(size, most)

    def real_rows(self, index: int) -> list[Tensor]:
        """Real rows that generations 1 and `index` trained on, at most :data:`MOST_SEEN` of each, for memorisation."""
        parts = []
        for generation in dict.fromkeys((1, index)):
            count = self.counts(generation)[0]
            if self.study.source.size is not None:
                count = min(count, MOST_SEEN)  # the first rows of a take are those of a shorter one
            if count:
                parts.append(self.supply.take(count, self.fresh_before(generation)).batch.x[:MOST_SEEN])
        return parts

    @cached_property
    def floor(self) -> dict[str, Estimate]:
        """Real against real rows at the same n: the same for every generation; empty without a reference."""
        built_in = {} if self.reference is None else dict(self.reference.floor(self.real_rows(1)))
        return built_in | self.own_floor

    @cached_property
    def own_floor(self) -> dict[str, Estimate]:
        """Measures of one's own for real against real rows."""
        return own_measures.compare(self, 0, self.supply.take(self.stored(0), 0).batch.x)


def training_set(setting: Setting, index: int, past: Past) -> tuple[Tensor, Lineage]:
    """Rows ``[total, ...]`` that generation `index` learns from, block by block, and where they came from."""
    found = provenance(setting, index, past)
    return found.rows, found.lineage


def provenance(setting: Setting, index: int, past: Past) -> TrainingSet:
    """:func:`training_set` with the origin and class of each row: fresh ones first, then those of models in order."""
    fresh, mixed = setting.counts(index)
    taken = setting.supply.take(fresh, setting.fresh_before(index)) if fresh else None
    parts = [taken.batch.x] if taken else []
    labels: list[Tensor | None] = [taken.batch.y] if taken else []
    origin = [torch.zeros(fresh, dtype=torch.int64)] if taken else []
    for j, count in enumerate(mixed):
        if count and j and setting.study.select is not None:
            parts.append(_selected(setting, index, past, j, int(count)))
            labels.append(None)
            origin.append(torch.full((int(count),), j))
        elif count:
            rows = past.samples(j)
            order = torch.randperm(len(rows), generator=setting.stream("generation", index, "mix", j))
            if count > len(rows):
                raise InputError(f"generation {index} needs {count} rows of generation {j}, {len(rows)} are stored")
            parts.append(rows[order[:count]])
            known = past.labels(j)
            labels.append(None if known is None else known[order[:count]])
            origin.append(torch.full((int(count),), j or KEPT))
    models = {j: int(c) for j, c in enumerate(mixed) if j > 0 and c}
    kept = int(mixed[0])
    reused = taken.reused if taken else 0
    lineage = Lineage(real=fresh + kept, models=models, fresh=fresh - reused, reused=reused)
    return TrainingSet(torch.cat(parts), lineage, torch.cat(origin), together(parts, labels))


def candidates(setting: Setting, index: int, past: Past, j: int) -> tuple[Tensor, torch.Generator]:
    """Stored samples of model j in the order in which generation `index` selects from them, and its chance."""
    rows = past.samples(j)
    order = torch.randperm(len(rows), generator=setting.stream("generation", index, "mix", j))
    return rows[order], setting.stream("generation", index, "select", j)


def _selected(setting: Setting, index: int, past: Past, j: int, count: int, purpose: str = "select") -> Tensor:
    """`count` selected samples of model j: stored ones first (none for another purpose), then new draws."""
    select = setting.study.select
    assert select is not None

    def more(c: int) -> Tensor:
        model, n = past.model(j), setting.stored(j)
        if isinstance(model, DrawnSamples):
            raise InputError(
                f"selection keeps too few of the {n} samples of {model.what}, and {count} are needed to train on",
                "raise alpha, keep more, or let the program draw what it selects: its stored samples are all there are",
            )
        return model.sample(n, setting.stream("generation", index, purpose, j, c)).cpu()

    pool, chance = candidates(setting, index, past, j)
    if purpose != "select":
        pool, chance = more(0), setting.stream("generation", index, purpose, j)
    return selected(select, pool, count, chance, more, f"generation {j}")


def training_law(setting: Setting, index: int, past: Past) -> ExactLaw | None:
    """q_{index-1} as a law at time 0, where target and used models have densities and nothing was selected."""
    target = law_of(setting.study.source)
    if target is None or index == 1:
        return target
    fresh, mixing = setting.rows
    if setting.selects(index) and mixing[index - 1, 1:index].any():
        return None
    weights = [float(fresh[index - 1] + mixing[index - 1, 0]), *map(float, mixing[index - 1, 1:index])]
    used = [(w, target if j == 0 else law_of(past.model(j))) for j, w in enumerate(weights) if w > 0]
    known = [(w, law) for w, law in used if law is not None]
    if len(known) < len(used):
        return None
    return known[0][1] if len(known) == 1 else MixtureLaw([w for w, _ in known], [law for _, law in known])


def unseen_rows(setting: Setting, index: int, past: Past) -> Tensor:
    """Rows ``[m, ...]`` of q_{index-1} on which no model was trained, in the proportions of its mixture.

    Real rows are held-out ones. Rows of the latest model are stored ones that no training set took, then new draws;
    rows of older models are new draws, because an earlier training set may hold the stored ones.
    """
    fresh, mixing = setting.rows
    weights = np.array([1.0]) if index == 1 else mixing[index - 1, :index].copy()
    if index > 1:
        weights[0] += fresh[index - 1]
    held_out, total = setting.held_out, setting.study.measures.critic_rows
    real = 0 if held_out is None else len(held_out)
    if weights[0] > 0:
        total = min(total, math.floor(real / weights[0]))
    counts = largest_remainder(weights, total)
    parts = [] if held_out is None else [held_out.x[: counts[0]]]
    used = setting.counts(index)[1]
    for j in (int(k) for k in np.flatnonzero(counts[1:]) + 1):
        if setting.study.select is not None:
            parts.append(_selected(setting, index, past, j, int(counts[j]), "critic"))
            continue
        rows = past.samples(j)
        order = torch.randperm(len(rows), generator=setting.stream("generation", index, "mix", j))
        unused = rows[order[used[j] :]] if j == index - 1 else rows[:0]
        parts.append(unused[: counts[j]])
        if (missing := int(counts[j]) - len(parts[-1])) > 0:
            parts.append(past.model(j).sample(missing, setting.stream("generation", index, "critic", j)).cpu())
    return torch.cat(parts) if parts else past.samples(0)[:0]
