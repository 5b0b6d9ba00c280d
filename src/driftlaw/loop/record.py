"""What a study remembers of one generation: a frozen record, and the history that they form.

Generation n is the model p_hat^n, trained on q_{n-1} = a_{n-1} p + sum_j w_{n-1,j} p_hat^j; p_hat^0 = p is the target.
A record holds nothing that changes when a killed run is resumed: wall-clock times live beside it, not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftlaw.estimate import Estimate
from driftlaw.measure.paths.generation import PathMeasures
from driftlaw.records import Record


@dataclass(frozen=True)
class Lineage(Record):
    """Where the rows of a training set came from.

    Args:
        real: rows of the target, fresh or kept from generation 0.
        models: ``models[j]`` rows sampled from p_hat^j; key 0 never occurs (p_hat^0 is the target).
        fresh: how many of the real rows were drawn for the first time.
        reused: how many fresh draws repeated a row because a finite source ran out.
    """

    real: int
    models: Mapping[int, int]
    fresh: int
    reused: int = 0

    @property
    def total(self) -> int:
        """Rows in the training set."""
        return self.real + sum(self.models.values())

    def fractions(self) -> dict[str, float]:
        """Fraction of the training set by origin: ``{"real": .., "model 1": .., ...}``."""
        parts = {"real": self.real, **{f"model {j}": k for j, k in sorted(self.models.items())}}
        return {name: count / self.total for name, count in parts.items() if count}


@dataclass(frozen=True)
class Finding(Record):
    """Something that makes the numbers of a generation mean something else than they seem to.

    Args:
        kind: "spread", "start", "blur", "solver", "clip", "guidance", "training" or "classes".
        text: a sentence in plain words, with what to do.
        value: the number that it is about.
    """

    kind: str
    text: str
    value: float


Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Generation(Record):
    """One generation of a study.

    Args:
        index: n >= 1; this record describes p_hat^n.
        alpha: realised fraction of the training set that is real data.
        fresh: a_{n-1}, the policy's weight of fresh data in q_{n-1}.
        mixing: w_{n-1,0..n-1}, the policy's weights on p_hat^0..p_hat^{n-1}.
        lineage: rows of the training set by origin.
        samples: rows sampled from p_hat^n and kept.
        divergence: p_hat^n against the target. With densities: kl, kl_reverse, tv, hellinger2, chi2, chi2_mix. From
            samples: chi2_lower, mmd2, kid, frechet, precision, recall, density, coverage, energy; own measures.
        one_step: p_hat^n against its training law q_{n-1}, same density keys (empty without densities).
        floor: the sample-based keys of `divergence` for real against real rows at the same n.
        moments: second_moment (E|x|^2), and relative drift of it: second_moment_drift.
        modes: weight of each mixture component or class, by name; entropy of it under "entropy" (nats).
        real_modes: the same of real rows: exact weights of a mixture, or held-out rows by the same classifier.
        training: numbers of the fit (losses, steps); empty for closed-form learners.
        path: path measures against the training law (energies, observability); refused where no score is known.
        selection: what selection did to its training set: kept, reward_before, reward_after, selection, drift_before,
            alignment (with minus the drift); empty without selection.
        warnings: in words, what a reader must know.
        files: SHA-256 of each file of this generation, by name relative to its folder.
        by_class: of samples with labels, for each class: "share" of the labels and "real_share" among held-out rows,
            "drift" (squared distance of mean features from the real rows of the class), and "recognised" (share that
            the run's classifier puts into it).
        sanity: what was found before anything was measured, see :mod:`driftlaw.loop.step.sanity`.
    """

    index: int
    alpha: float
    fresh: float
    mixing: tuple[float, ...]
    lineage: Lineage
    samples: int
    divergence: Estimates
    one_step: Estimates = field(default_factory=dict)
    floor: Estimates = field(default_factory=dict)
    moments: Estimates = field(default_factory=dict)
    modes: Estimates = field(default_factory=dict)
    real_modes: Estimates = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)
    path: PathMeasures = field(default_factory=PathMeasures)
    selection: Estimates = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    by_class: Mapping[str, Estimates] = field(default_factory=dict)
    sanity: tuple[Finding, ...] = ()
