"""What an audit found: frozen records that read and write strict JSON, and forecast without the data.

The document (``audit.json``) has ``format``, ``real``, ``features``, ``generations`` (each with ``drift``, ``p_value``,
``innovation``, ``floor``), ``innovation``, ``alignment``, ``effective_alpha``, ``memory``, ``regime``, ``forecast`` and
``dynamics``, from which any forecast is recomputed. Every measured number is an
:class:`~driftlaw.estimate.Estimate`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from driftlaw.auditing.changes import Changes
from driftlaw.auditing.dynamics import Dynamics
from driftlaw.auditing.evidence.eigenimages import Eigenimages
from driftlaw.auditing.forecast import forecast
from driftlaw.auditing.rows import RowMeasures
from driftlaw.auditing.verdict.columns import ColumnAudit
from driftlaw.auditing.verdict.gates import Decision, Gate, column_of, limit, on_verdict
from driftlaw.auditing.verdict.looks import Looks
from driftlaw.auditing.verdict.verdict import Finding, Verdict, verdict
from driftlaw.errors import CorruptFileError, DataNotFoundError, InputError
from driftlaw.estimate import Estimate
from driftlaw.files import write_atomic
from driftlaw.numerics.words import plain
from driftlaw.records import Record, decode, encode, signed, unsigned
from driftlaw.theory.planning import fluctuation, upper_limit
from driftlaw.theory.regimes import Regime

FORMAT = 1
FILE = "audit.json"
AGAIN = "make the audit again"
#: Level at which a Holm-adjusted p-value counts as drift.
LEVEL = 0.05
#: Generations that the advice plans for.
PLANNED = 5
#: Generations ahead that a document lists.
HORIZON = 5


@dataclass(frozen=True)
class GenerationAudit(Record):
    """One generation against the real data.

    Args:
        index: from 1.
        name: where it came from.
        n: rows.
        drift: |c_i|^2, a lower bound of chi2 against the real law within the features' span; unbiased.
        floor: real against real, scaled to this generation's size: from the holdout, else 0; its interval is where
            rows of the real law fall 95 % of the time.
        p_value: that the drift is sampling alone, adjusted over generations and looks (Holm).
        p_value_single: the same for this generation alone.
        innovation: |d_{i-1}|^2, what making this generation added; refused where alpha is not known.
        changes: what moved.
        rows: what needs raw rows, None where only a sketch was given.
        warnings: what a reader of these numbers must know.
        columns: every column beside the real one, at most 64.
        looks: adjusted p-values of all looks.
        findings: what speaks against it, the worst first.
        flags: the same for programs: "own noise" (drift above the floor that the generation's own noise explains),
            "rare values" (decided by exact counts), "spreads differ", "too few rows" (no upper end of the drift).
        eigenimages: of images, where the mean and the features that moved most changed them; else None.
    """

    json_extra: ClassVar[tuple[str, ...]] = ("exceeds_floor",)
    index: int
    name: str
    n: int
    drift: Estimate
    floor: Estimate
    p_value: Estimate
    p_value_single: Estimate
    innovation: Estimate
    changes: Changes
    rows: RowMeasures | None
    warnings: tuple[str, ...] = ()
    columns: tuple[ColumnAudit, ...] = ()
    looks: Looks | None = None
    findings: tuple[Finding, ...] = ()
    flags: tuple[str, ...] = ()
    eigenimages: Eigenimages | None = None

    @property
    def exceeds_floor(self) -> bool:
        """Whether the drift is more than sampling, at 5 % over all generations and looks together."""
        return bool(self.p_value.value < LEVEL)


@dataclass(frozen=True, eq=False)
class Audit(Record):
    """Real data against a line of generations.

    Args:
        real: name of the real data and its rows.
        features: name, dimension k, measured directions, fingerprint.
        generations: oldest first.
        innovation: mean |d_i|^2.
        alignment: kappa of the innovations.
        effective_alpha: estimated, or given; refused when not identifiable.
        memory: 1/alpha generations.
        regime: law of growth and what drives it.
        dynamics: the fitted recursion.
        warnings: what a reader of all numbers must know.
    """

    real: dict[str, Any]
    features: dict[str, Any]
    generations: tuple[GenerationAudit, ...]
    innovation: Estimate
    alignment: Estimate
    effective_alpha: Estimate
    memory: Estimate
    regime: Regime
    dynamics: Dynamics = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def drift(self) -> tuple[Estimate, ...]:
        """Drift of generations 1..N."""
        return tuple(g.drift for g in self.generations)

    def forecast(self, k: int = HORIZON) -> tuple[Estimate, ...]:
        """Drift of the next k generations with 95 % prediction intervals.

        Raises:
            InputError: k < 1.
        """
        return forecast(self.dynamics, k)

    @property
    def verdict(self) -> Verdict:
        """What it comes to: clean, drifted, collapsed, copied, broken or undetermined, why, and what to do."""
        return verdict(
            [g.name for g in self.generations],
            [g.findings for g in self.generations],
            [g.floor for g in self.generations],
            [g.n for g in self.generations],
            int(self.real["n"]),
            self._action(),
        )

    def _action(self) -> str:
        last = self.generations[-1].drift
        if self.innovation.is_refused or last.is_refused or self.effective_alpha.is_refused:
            return (
                "Audit more generations of the same line, or give --alpha: then `driftlaw plan` can say how much fresh "
                "data keeps drift in budget."
            )
        least = self._reachable()
        budget = plain(max(last.value / 2, least), 2)
        command = f"driftlaw plan --from DIR --budget {budget} --horizon {PLANNED}, with DIR the folder of this audit."
        if last.value / 2 >= least:
            return f"To bring drift below {budget}, half of what it is, plan fresh data: {command}"
        return (
            f"Innovations are known so roughly that even fresh data alone can only promise a drift below {budget}, at "
            f"95 % confidence. Audit more rows to promise less, or plan for that: {command}"
        )

    def _reachable(self) -> float:
        """The smallest budget that a plan from this audit can keep, with a little room for its rounding."""
        part = 1 - 0.05 / 4
        low = 2 * self.alignment.value - upper_limit(self.alignment, part)
        kappa = 0.0 if not math.isfinite(low) else min(1.0, max(0.0, low))
        r = float(self.features.get("dimension", math.inf))
        margin = fluctuation(kappa, r, 1 - (1 - part) / PLANNED)
        return 1.05 * upper_limit(self.innovation, part) * margin

    def gate(self, gates: Sequence[Gate]) -> tuple[Decision, ...]:
        """Hold the last generation against gates.

        Raises:
            ConfigError: a gate on a column that was not audited.
        """
        last = self.generations[-1]
        nearby = (
            {} if last.rows is None else {k: getattr(last.rows, k) for k in ("recall", "coverage", "near_duplicates")}
        )
        whole = {"drift": last.drift, "variance_ratio": last.changes.spread.total, **nearby}
        out = []
        for g in gates:
            if g.measure == "verdict":
                out.append(on_verdict(g, self.verdict.word))
            elif g.column:
                out.append(limit(g, getattr(column_of(last.columns, g.column), g.measure), size=g.measure == "shift"))
            else:
                missing = Estimate.refused(g.measure, "it needs the raw rows of real data and generation", last.n)
                out.append(limit(g, whole.get(g.measure, missing)))
        return tuple(out)

    def fails(self, above: float) -> bool:
        """Whether the last generation's drift is above a limit beyond doubt: its whole 95 % interval is.

        Raises:
            InputError: a limit that is not a number.
        """
        if not above == above:
            raise InputError("the limit is not a number", "give the largest acceptable drift")
        return bool(self.generations[-1].drift.low > above)

    def to_json(self) -> dict[str, Any]:
        """Strict JSON document; verdict and forecast follow from the rest and are there for readers."""
        derived = {"verdict": self.verdict.to_json(), "forecast": encode(self.forecast(HORIZON))}
        return {"format": FORMAT, "kind": "audit"} | super().to_json() | derived

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "") -> Audit:
        """Inverse of :meth:`to_json`.

        Args:
            document: of an audit.
            where: the file, for messages.

        Raises:
            InputError: not the document of an audit, or of a newer format.
            CorruptFileError: a key that is missing or holds something else.
        """
        if not isinstance(document, Mapping) or document.get("kind") != "audit":
            raise InputError("this is not the document of an audit", "make one with driftlaw audit --out DIR")
        if document.get("format") != FORMAT:
            raise InputError(
                f"the audit has format {document.get('format')}, this version reads {FORMAT}", "make the audit again"
            )
        found = decode(cls, document, where, AGAIN)
        if not found.generations or type(found.real.get("n")) is not int:
            lacks = "generations" if not found.generations else "real.n"
            raise CorruptFileError(f"{where or 'the stored Audit'} is damaged: it lacks {lacks}", AGAIN)
        return found

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``audit.json`` into a folder, whole or not at all.

        Raises:
            StorageError: not writable.
        """
        text = json.dumps(signed(self.to_json()), indent=1, sort_keys=True, allow_nan=False) + "\n"
        path = Path(directory) / FILE
        write_atomic(path, lambda f: f.write(text.encode()))
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Audit:
        """Read ``audit.json``, or the folder it lies in.

        Raises:
            DataNotFoundError: no such file.
            CorruptFileError: not JSON, or an audit with keys that do not fit.
            InputError: JSON that is no audit.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise DataNotFoundError(f"there is no audit at {file}", "make one with driftlaw audit --out DIR")
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CorruptFileError(f"{file} is not JSON: {error}", AGAIN) from error
        try:
            document = unsigned(document) if isinstance(document, dict) else document
        except ValueError as error:
            raise CorruptFileError(f"{file} is damaged ({error})", AGAIN) from error
        return cls.from_json(document, str(file))
