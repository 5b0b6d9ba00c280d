"""Claims that need no draw: Proposition 4.1, Theorem 4.2 and the drift of the second moment (theory 4.2 and 6)."""

from __future__ import annotations

from driftlaw.estimate import Estimate
from driftlaw.learn.kde import KDE
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.mixture.population import population
from driftlaw.reproduce.published import DRIFT, FLOORS, REQUIRED, off
from driftlaw.reproduce.records import Claim, Number
from driftlaw.theory.bounds import (
    improved_limsup_floor,
    proposition_4_1_counter_example,
    proposition_4_1_floor,
    theorem_4_2_required_constant,
)
from driftlaw.theory.refresh import FixedFraction


def drift_figures() -> list[Claim]:
    """Drift of the second moment by closed form."""
    p, numbers = GaussianMixture.paper(), []
    for t0, by_alpha in DRIFT.items():
        for alpha, expected in by_alpha.items():
            *_, last = population(p, KDE(0.6, t0=t0), FixedFraction(alpha), 20)
            value = Estimate.exact(last.law.second_moment() / p.second_moment() - 1, "closed form")
            numbers.append(Number(f"second-moment drift, t₀ = {t0:g}, alpha {alpha:g}", value, expected))
    agree = all(off(n.measured.value, n.expected or 1.0) < 1e-3 for n in numbers)
    return [
        Claim(
            "drift",
            "table",
            "Drift of the second moment",
            "At generation 20 it has grown by these fractions.",
            "confirmed" if agree else "not reproduced",
            "",
            tuple(numbers),
        )
    ]


def theorem_4_2() -> list[Claim]:
    """Theorem 4.2 as displayed."""
    numbers = tuple(
        Number(
            f"constant needed at N = {N}",
            Estimate.exact(theorem_4_2_required_constant(0.1, lambda i: 0.04 * 0.5**i, 0.25, 1.0, N), "closed form"),
            expected,
        )
        for N, expected in REQUIRED.items()
    )
    return [
        Claim(
            "thm-4.2",
            "fig5",
            "Theorem 4.2, as displayed",
            "D_{N+1} + C_bias is comparable with the discounted sum, with constants that do not depend on N.",
            "not valid as printed",
            "Under its own summability the right side tends to 0 and the left side stays above C_bias > 0. The "
            "additive upper bound stands.",
            numbers,
        )
    ]


def proposition_4_1() -> list[Claim]:
    """Both clauses of Proposition 4.1."""
    N = 1000
    eps2, drift = proposition_4_1_counter_example(0.5, N)
    sums = Number(f"Σ ε*² up to {N}, at least, growing like log N", Estimate.exact(float(eps2.sum()), "closed form"))
    last = Number(f"D_{N} of that example", Estimate.exact(float(drift[-1]), "closed form"))
    floors, better = [], []
    for alpha, expected in FLOORS.items():
        ours, theirs = improved_limsup_floor(alpha, 1.0, 0.005), proposition_4_1_floor(alpha, 1.0, 0.005)
        floors.append(Number(f"floor at η ε*² = 0.005, alpha {alpha:g}", theirs.value, expected))
        gain = Estimate.exact(ours.value.value / theirs.value.value, "closed form")
        better.append(Number(f"our floor / theirs, alpha {alpha:g}", gain))
    agree = all(off(n.measured.value, n.expected or 1.0) < 1e-3 for n in floors)
    return [
        Claim(
            "prop-4.1-i",
            "fig4",
            "Proposition 4.1 (i)",
            "If Σ ε*² diverges, so does Σ D_i.",
            "confirmed with a condition",
            "It says nothing about single generations: with p̂ = (1 - l_i) q_i + l_i r, l_i = 1/(2√(i+1)), D_i → 0.",
            (sums, last),
        ),
        Claim(
            "prop-4.1-ii",
            "fig4",
            "Proposition 4.1 (ii)",
            "With eventual floors on η and ε*², limsup D_i ≥ α η ε*²/(16(1+(1−α)²)).",
            "confirmed with a condition" if agree else "not reproduced",
            "The floors are assumptions about all later generations, which no finite run checks; the constant can be "
            "improved.",
            (*floors, *better),
        ),
    ]
