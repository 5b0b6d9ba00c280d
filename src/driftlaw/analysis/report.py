"""What :func:`driftlaw.analysis.bounds.analyse` finds out about a run: the document ``bounds.json`` beside it.

A :class:`BoundsReport` holds statements (one :class:`~driftlaw.theory.bounds.Bound` per generation or for the whole
run), the accumulation identity in each reference law that the run allows, the regime, and notes in words.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from driftlaw.analysis.collapse import Sign
from driftlaw.errors import RunDirectoryError
from driftlaw.estimate import Estimate
from driftlaw.loop.store import BOUNDS, write_json
from driftlaw.records import Record, decode, read_json
from driftlaw.theory.accumulation import Contributions, contributions
from driftlaw.theory.bounds import Bound
from driftlaw.theory.refresh import Array
from driftlaw.theory.regimes import Regime

FORMAT = 1
#: Standard errors between a bound and a measurement that count as a contradiction.
CLEARLY = 4.0
#: Noise, relative to the numbers, up to which intervals that meet are called equal.
ROUGH = 0.1
#: What a comparison of a bound with a measurement comes to.
Outcome = Literal["within", "equal", "undetermined", "outside", "says nothing", "not measured", "not valid as printed"]
#: Reference laws of the accumulation identity in words; any other name is that of a feature map.
REFERENCES = {"p": "L² of the target p", "mixture": "L² of the mixture of p and all generations"}


def reference_words(reference: str) -> str:
    """A reference law in words; empty for statements that need none."""
    return REFERENCES.get(reference, f"{reference} feature coordinates" if reference else "")


def alignment_words(kappa: Estimate) -> str:
    """What an alignment means, judged by its interval."""
    if kappa.is_refused:
        return f"alignment is not known: {kappa.why}"
    if kappa.low > 0.5:
        verdict = "errors of different generations point the same way and add up (systematic bias)"
    elif kappa.high < 0:
        verdict = "errors of different generations partly cancel"
    elif kappa.high < 0.5:
        verdict = "errors of different generations are mostly independent (sampling noise)"
    elif kappa.low > 0:
        verdict = "errors of different generations partly point the same way"
    else:
        verdict = "too noisy to tell whether errors of different generations add up"
    return f"alignment κ = {kappa}: {verdict}"


def regime_words(regime: Regime) -> str:
    """A regime with what drives it."""
    driver = {"unknown": "what drives it is not known", "alignment": "driven by aligned errors"}
    return f"{regime.name}, {driver.get(regime.driver, f'driven by the {regime.driver}')}"


@dataclass(frozen=True)
class Statement(Record):
    """One bound with the place where it applies.

    Args:
        generation: n, the generation whose model it speaks of; None for the whole run.
        reference: "p", "mixture" or a feature map where drift is measured in one of these; "" for path measures at t0.
        bound: the statement and its numbers.
    """

    generation: int | None
    reference: str
    bound: Bound

    @property
    def beyond(self) -> bool:
        """Whether the measurement is on the wrong side by more than 4 standard errors.

        A report holds hundreds of comparisons, many of them equalities: disjoint 95 % intervals happen by chance there.
        """
        b = self.bound
        if b.measured is None or not b.contradicted:
            return False
        gap = abs(b.measured.value - b.value.value)
        return not gap <= CLEARLY * float(np.hypot(b.measured.stderr, b.value.stderr))

    @property
    def outcome(self) -> Outcome:
        """How the measurement compares with the bound, both with their intervals.

        Intervals that meet are "equal" where noise is small beside the numbers, and "undetermined" where it is not.
        """
        b, measured = self.bound, self.bound.measured
        if b.note.startswith("not valid"):
            return "not valid as printed"
        trivial = b.side == "upper" and b.value.is_infinite
        if b.violated or b.value.is_refused or trivial:
            return "says nothing"
        if measured is None or measured.is_refused:
            return "not measured"
        if self.beyond:
            return "outside"
        if measured.is_infinite:
            return "equal" if b.value.is_infinite else "within" if b.side == "lower" else "undetermined"
        apart = measured.low > b.value.high, measured.high < b.value.low
        if (b.side == "lower" and apart[0]) or (b.side == "upper" and apart[1]):
            return "within"
        noise = float(np.hypot(measured.high - measured.low, b.value.high - b.value.low)) / 2
        size = max(abs(measured.value), abs(b.value.value))
        same = abs(measured.value - b.value.value) <= 1e-9 * size  # an identity on the same points
        return "equal" if same or (not any(apart) and noise <= ROUGH * size) else "undetermined"

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        place = {"generation": self.generation, "where": self.reference, "beyond": self.beyond, "outcome": self.outcome}
        return {**place, **self.bound.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Statement:
        """Read the document that :meth:`to_json` writes."""
        place = {"generation": document.get("generation"), "reference": document.get("where")}
        return decode(cls, place | {"bound": document})


@dataclass(frozen=True, eq=False)
class Accumulation(Record):
    r"""The accumulation identity :math:`D_n = (G \Gamma G^T)_{nn}` of one run in one reference law.

    Args:
        reference: "p", "mixture" or the name of the feature map.
        method: how the numbers were estimated.
        n: points or rows behind them.
        propagator: G, ``[N, N]``.
        gram: Gamma, ``[N, N]``.
        gram_stderr: its standard errors.
        drift: D_1..D_N, measured on the same points without the identity.
        sizes: J_0..J_{N-1}.
        alignment: kappa with its jackknife interval, all generations weighing the same.
        reconstruction_error: largest relative difference between D_n and the identity's value; rounding only.
        regime: the law of growth and what drives it.
    """

    reference: str
    method: str
    n: int
    propagator: Array
    gram: Array
    gram_stderr: Array
    drift: tuple[Estimate, ...]
    sizes: tuple[Estimate, ...]
    alignment: Estimate
    reconstruction_error: float
    regime: Regime

    @property
    def contributions(self) -> Contributions:
        """The drift of every generation by the step that caused it."""
        return contributions(self.propagator, self.gram)

    @property
    def memory(self) -> Array:
        """Effective memory of the policy after n = 1..N generations, in generations: sum_i G_{n,i}."""
        return np.asarray(self.propagator.sum(axis=1))

    def to_json(self) -> dict[str, Any]:
        """Strict JSON document; contributions and memory follow from the rest and are there for readers."""
        parts = self.contributions
        shares = {name: getattr(parts, name).tolist() for name in ("discounted", "attributed", "pairwise")}
        return super().to_json() | {"effective_memory": self.memory.tolist(), "contributions": shares}


@dataclass(frozen=True, eq=False)
class BoundsReport(Record):
    """Every bound and certificate of a run beside the measured value.

    Args:
        study: name of the study.
        generations: N, how many generations the run had when it was analysed.
        t0: early-stopping time at which path statements compare laws; nan without path measures.
        samples, seed: what :func:`driftlaw.analysis.bounds.analyse` was called with.
        statements: bounds, by generation, those of the whole run last.
        accumulations: the accumulation identity; the first is the one that regime and sentences speak of.
        notes: in words, what a reader must know.
        collapse: whether the run collapsed, by each definition; empty in files of 0.1.
    """

    study: str
    generations: int
    t0: float
    samples: int
    seed: int
    statements: tuple[Statement, ...]
    accumulations: tuple[Accumulation, ...]
    notes: tuple[str, ...] = ()
    collapse: tuple[Sign, ...] = ()

    @property
    def main(self) -> Accumulation:
        """The accumulation identity in the strongest reference law that the run allows."""
        return self.accumulations[0]

    @property
    def regime(self) -> Regime:
        """Regime in the reference law of :attr:`main`."""
        return self.main.regime

    @property
    def alignment(self) -> Estimate:
        """Kappa in the reference law of :attr:`main`."""
        return self.main.alignment

    def at(self, generation: int | None) -> tuple[Statement, ...]:
        """Statements on one generation, or with None those on the whole run."""
        return tuple(s for s in self.statements if s.generation == generation)

    def named(self, name: str) -> tuple[Statement, ...]:
        """Statements of one name, by generation."""
        return tuple(s for s in self.statements if s.bound.name == name)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``bounds.json`` into a run directory, whole or not at all.

        Raises:
            StorageError: the disk is full or not writable.
        """
        path = Path(directory) / BOUNDS
        write_json(path, self.to_json())
        return path

    @classmethod
    def stored(cls, directory: str | os.PathLike[str]) -> BoundsReport | None:
        """What ``driftlaw bounds`` stored beside a run, or None if it was not asked yet.

        Raises:
            CorruptFileError: the stored file is damaged.
        """
        return cls.load(directory) if (Path(directory) / BOUNDS).is_file() else None

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> BoundsReport:
        """Read ``bounds.json`` of a run directory.

        Raises:
            RunDirectoryError: the run was not analysed yet, or by a newer format.
            CorruptFileError: the file is damaged.
        """
        path = Path(directory) / BOUNDS
        if not path.is_file():
            raise RunDirectoryError(f"{directory} has no {BOUNDS}", f"make it with `driftlaw bounds {directory}`")
        again = f"make it again with `driftlaw bounds {directory}`"
        return decode(cls, read_json(path, FORMAT, again), str(path), again)

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        return {"format": FORMAT} | super().to_json()
