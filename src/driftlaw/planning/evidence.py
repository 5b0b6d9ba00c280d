r"""What a plan is made from: size and alignment of innovations, from numbers, a run or an audit.

======== =========================================== =============================================================
source   coordinates                                 where it comes from
======== =========================================== =============================================================
numbers  the user's                                  values or :class:`~driftlaw.estimate.Estimate`
run      p (chi2), mixture, or the study's features  exact densities on shared points (:mod:`driftlaw.analysis.bounds`),
                                                     or new rows of every stored model (:mod:`driftlaw.loop.step.adapt`)
audit    the audit's features                        :class:`driftlaw.auditing.record.Audit`
======== =========================================== =============================================================

A budget is a drift in the same coordinates. Innovations are those of the run's own learner, size and policy: a plan for
other fractions takes them as unchanged, which the report says (theory section 6: the one-step error of a kernel density
estimate rises with alpha).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftlaw.analysis.bounds import REFERENCES, analyse
from driftlaw.analysis.opened import OpenRun
from driftlaw.auditing.record import FILE as AUDIT
from driftlaw.auditing.record import Audit
from driftlaw.errors import InputError, RunDirectoryError, nearest
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History, load
from driftlaw.loop.own import refuse, to_read
from driftlaw.loop.step.adapt import Observer
from driftlaw.loop.store import MANIFEST
from driftlaw.records import Record
from driftlaw.theory.planning import SampleNoise

#: Whatever innovations can be read from.
Source = History | Audit | str | os.PathLike[str]


@dataclass(frozen=True)
class PlanInputs(Record):
    """Innovations, as far as they are known.

    Args:
        innovation: J, or how it follows from alpha.
        alignment: kappa; refused where it cannot be told.
        drift: of the last generation; None where there is none.
        dimension: number of directions that independent innovations are spread over; ``inf`` leaves their fluctuation
            from run to run out.
        coordinates: where drift is measured, in words.
        samples: rows of a training set; None where that is not known.
        goes_on: whether the plan is for the generations after those of the source, as for an audit.
        notes: what a reader must know.
    """

    innovation: Estimate | SampleNoise
    alignment: Estimate
    drift: Estimate | None = None
    dimension: float = math.inf
    coordinates: str = "as given"
    samples: int | None = None
    goes_on: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Strict JSON document; an infinite dimension is null."""
        noise = {} if isinstance(self.innovation, Estimate) else {"kind": "sample-noise"}
        document = super().to_json()
        finite = self.dimension if math.isfinite(self.dimension) else None
        return document | {"innovation": noise | document["innovation"], "dimension": finite}


def read(source: Source, *, reference: str | None = None, seed: int = 0) -> PlanInputs:
    """Innovations of a run or an audit.

    Args:
        source: a ``History``, an ``Audit``, or a directory that holds one of them.
        reference: of a run: "p", "mixture" or "features"; None takes p where chi2 is finite, else features where the
            run has held-out rows, else the mixture.
        seed: seed of the comparison.

    Raises:
        InputError: no finished generation, or coordinates that the source does not have.
        RunDirectoryError: a directory without a run or an audit.
    """
    if isinstance(source, Audit):
        return _of_audit(source)
    if isinstance(source, History):
        return _of_run(source, reference, seed)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"a plan cannot be made from a {type(source).__name__}", "give a run, an audit or a directory")
    path = Path(source)
    if (path / MANIFEST).is_file():
        return _of_run(load(path), reference, seed)
    if (path / AUDIT).is_file() or path.is_file():
        return _of_audit(Audit.load(path))
    raise RunDirectoryError(
        f"{path} holds neither a run ({MANIFEST}) nor an audit ({AUDIT})",
        "make one with `driftlaw run` or `driftlaw audit`, or give innovation and alignment",
    )


def _of_audit(audit: Audit) -> PlanInputs:
    if audit.innovation.is_refused:
        raise InputError(
            f"this audit has no innovations: {'; '.join(audit.innovation.warnings)}",
            "give --innovation and --alignment",
        )
    k = audit.features.get("dimension", math.inf)
    name = str(audit.features.get("name", "features"))
    where = f"the audit's feature coordinates ({name})"
    return PlanInputs(audit.innovation, audit.alignment, audit.drift[-1], float(k), where, goes_on=True)


def _of_run(history: History, reference: str | None, seed: int) -> PlanInputs:
    if not len(history):
        raise InputError(f"{history.directory.path} has no finished generation", "go on with `driftlaw resume`")
    if reference is not None and reference not in REFERENCES:
        raise InputError(f"unknown reference {reference!r}", nearest(reference, REFERENCES))
    samples = history[1].lineage.total
    failed: list[str] = []
    for name in [reference] if reference else ["p", "features", "mixture"]:
        try:
            found = _in_features(history) if name == "features" else _in_law(history, name, seed)
        except InputError as error:
            failed.append(str(error))
            continue
        return PlanInputs(*found, samples=samples)
    raise InputError(f"this run has no innovations to plan with: {failed[0]}", "give innovation and alignment")


def _in_law(history: History, reference: str, seed: int) -> tuple[Estimate, Estimate, Estimate, float, str]:
    """Innovations in L^2 of p or of the mixture, by exact densities."""
    found = analyse(history, seed=seed, reference=reference).main
    return mean_of(found.sizes), found.alignment, found.drift[-1], math.inf, f"L² of the {reference}"


def _in_features(history: History) -> tuple[Estimate, Estimate, Estimate, float, str]:
    """Innovations in the study's feature coordinates, by new rows of the stored models."""
    refuse(to_read(history.manifest.get("own") or {}), "a plan")
    run = OpenRun(history)
    seen = Observer(run.setting, run.model).observe(len(history))
    return seen.innovation, seen.alignment, seen.drift, seen.dimension, "the study's feature coordinates"


def mean_of(sizes: Sequence[Estimate]) -> Estimate:
    """Mean of estimates, with the larger of their own errors and their scatter."""
    values = np.array([e.value for e in sizes])
    own = math.sqrt(sum(e.stderr**2 for e in sizes)) / len(sizes)
    scatter = float(values.std(ddof=1)) / math.sqrt(len(sizes)) if len(sizes) > 1 else 0.0
    words = f"mean size of {len(sizes)} innovations; {sizes[0].method}"
    return Estimate.normal(float(values.mean()), max(own, scatter), sizes[0].n, words)
