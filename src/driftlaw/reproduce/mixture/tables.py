"""The tables behind the figures: exactly the numbers that are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from driftlaw.estimate import Estimate
from driftlaw.numerics.directions import oriented
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.mixture.study import StudyNumbers
from driftlaw.reproduce.published import COLUMNS, TABLE
from driftlaw.reproduce.records import FigureData, row
from driftlaw.theory.accumulation import alignment, contributions
from driftlaw.theory.propagator import propagator
from driftlaw.theory.refresh import FixedFraction


def fig1(study: StudyNumbers) -> FigureData:
    """Draws of each generation in the principal components of the target."""
    values, vectors = np.linalg.eigh(GaussianMixture.paper().covariance().numpy())
    axes = oriented(vectors[:, np.argsort(-values.round(9), kind="stable")[:2]])
    parts = []
    for (alpha, n), points in study.clouds.items():
        xy = points.double().numpy() @ axes
        parts.append(pd.DataFrame({"alpha": alpha, "generation": n, "pc1": xy[:, 0], "pc2": xy[:, 1]}))
    return FigureData("fig1", {"points": pd.concat(parts, ignore_index=True)})


def perturbations(*parts: pd.DataFrame) -> pd.DataFrame:
    """One table of all laws."""
    return pd.concat(parts, ignore_index=True)


def fig3(study: StudyNumbers) -> FigureData:
    """Every path measure of every generation, and the bounds that they give."""
    rows = []
    for s in study.steps:
        rows += [row(e, alpha=s.alpha, i=s.index, quantity=k) for k, e in s.one_step.items()]
        half, start = s.one_step["energy_learned"].scaled(0.5), s.one_step["kl_initial"]
        bound = Estimate.normal(half.value + start.value, float(np.hypot(half.stderr, start.stderr)), half.n, "3.1")
        rows.append(row(bound, alpha=s.alpha, i=s.index, quantity="kl_upper"))
        e2, eta = s.one_step["energy_ideal"], s.one_step["observability"]
        for name, factor in (("chi2_lower", eta.value / 4), ("chi2_sharp", eta.value), ("chi2_upper", 4.0)):
            rows.append(row(e2.scaled(factor), alpha=s.alpha, i=s.index, quantity=name))
    return FigureData("fig3", {"one-generation": pd.DataFrame(rows)}, _infinite(rows, "chi2", "χ²(p̂^{i+1} ‖ q_i)"))


def fig4(study: StudyNumbers) -> FigureData:
    """Drift from the target in both directions."""
    rows = [row(e, alpha=s.alpha, generation=s.index + 1, quantity=k) for s in study.steps for k, e in s.drift.items()]
    return FigureData("fig4", {"drift": pd.DataFrame(rows)}, _infinite(rows, "chi2", "χ²(p̂^n ‖ p)"))


def _infinite(rows: list[dict[str, object]], quantity: str, symbol: str) -> list[str]:
    notes = []
    for alpha in dict.fromkeys(r["alpha"] for r in rows):
        at = [
            r.get("i", r.get("generation"))
            for r in rows
            if r["alpha"] == alpha and r["quantity"] == quantity and r["value"] == float("inf")
        ]
        if at:
            notes.append(f"{symbol} is infinite at alpha {alpha:g} in generations {min(at)} to {max(at)}.")  # type: ignore[type-var]
    return notes


def fig5(study: StudyNumbers) -> FigureData:
    """Discounted contributions, attributed contributions and the pairs of the last generation."""
    parts, notes = [], []
    for alpha, found in study.innovations.items():
        made = contributions(propagator(FixedFraction(alpha), study.generations), found.gram)
        for kind in ("discounted", "attributed", "pairwise"):
            matrix = getattr(made, kind)
            first, second = (index.ravel() for index in np.indices(matrix.shape))
            columns = {"alpha": alpha, "kind": kind, "row": first, "column": second, "value": matrix.ravel()}
            parts.append(pd.DataFrame(columns))
        share = made.discounted[-1].sum() / made.pairwise.sum()
        notes.append(
            f"Alpha {alpha:g}: the discounted sum is {share:.0%} of the drift of generation {study.generations};"
            f" alignment κ = {alignment(found.gram):.2f}."
        )
    return FigureData("fig5", {"contributions": pd.concat(parts, ignore_index=True)}, notes)


def table(study: StudyNumbers) -> FigureData:
    """Energies, KL and second-moment drift beside the printed values."""
    rows = []
    for s in study.steps:
        printed = TABLE.get((s.alpha, s.index), TABLE[0.1, 0] if s.index == 0 else (None,) * 3)
        for name, value in zip(COLUMNS, printed, strict=True):
            expected = float("nan") if value is None else value
            rows.append(row(s.one_step[name], alpha=s.alpha, i=s.index, quantity=name, printed=expected))
        moment = s.second_moment_drift
        rows.append(row(moment, alpha=s.alpha, i=s.index, quantity="second_moment_drift", printed=float("nan")))
    return FigureData("table", {"numbers": pd.DataFrame(rows)})
