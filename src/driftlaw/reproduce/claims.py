"""Statement by statement: what the numbers of a reproduction say about the paper (theory sections 3, 4, 6 and 7).

A claim is *confirmed* when its numbers agree, *confirmed with a condition* when they do under something that the
statement leaves out, *not valid as printed* when no number can save it, *not reproduced* when our number differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from driftlaw.estimate import CLEAR, Estimate
from driftlaw.reproduce.mixture.perturbations import exact_eta_constant
from driftlaw.reproduce.mixture.study import Step, StudyNumbers
from driftlaw.reproduce.mixture.tanh_error import AUDIT, T0, T, ceiling
from driftlaw.reproduce.published import COLUMNS, TABLE, TOLERANCE, off
from driftlaw.reproduce.records import Claim, Number, Verdict, estimate_of
from driftlaw.theory.accumulation import accumulated_drift, alignment, contributions
from driftlaw.theory.propagator import propagator
from driftlaw.theory.refresh import FixedFraction

#: Makes the claims of one group from what was measured.
Maker = Callable[[], Sequence[Claim]]


def _name(s: Step) -> str:
    return f"alpha {s.alpha:g}, i = {s.index}"


def ratio(a: Estimate, b: Estimate, what: str) -> Estimate:
    """The ratio a / b of independent estimates, delta method."""
    value = a.value / b.value
    stderr = abs(value) * math.hypot(a.stderr / a.value, b.stderr / b.value)
    return Estimate.normal(value, stderr, min(a.n, b.n), what)


def extreme(values: Sequence[Estimate], largest: bool) -> tuple[int, Estimate]:
    """Position and estimate of the largest or smallest value."""
    k = int((np.argmax if largest else np.argmin)([e.value for e in values]))
    return k, values[k]


def one_generation(study: StudyNumbers) -> list[Claim]:
    """Propositions 3.1 and 3.3, Theorem 3.4, eta of the KDE."""
    steps = [s for s in study.steps if not s.one_step["energy_learned"].is_refused]
    return [_prop_3_1(steps), _equality(steps), _eta_kde(steps), _prop_3_3(steps), _theorem_3_4(steps)]


def _prop_3_1(steps: Sequence[Step]) -> Claim:
    half = [s.one_step["energy_learned"].scaled(0.5) for s in steps]
    slack = [
        ratio(
            Estimate.normal(
                h.value + s.one_step["kl_initial"].value, math.hypot(h.stderr, s.one_step["kl_initial"].stderr), h.n, ""
            ),
            s.one_step["kl"],
            "(KL_init + eps_hat^2/2) / KL",
        )
        for h, s in zip(half, steps, strict=True)
    ]
    contradicted = sum(e.value + CLEAR * e.stderr < 1 for e in slack)
    weights = np.array([1 / max(e.stderr, 1e-12) ** 2 for e in slack])
    mean = float(weights @ np.array([e.value for e in slack]) / weights.sum())
    pooled = Estimate.normal(mean, float(weights.sum() ** -0.5), len(slack), "weighted over all generations")
    count = Estimate.exact(contradicted, f"of {len(slack)}, beyond {CLEAR:g} standard errors")
    numbers = [
        Number("bound / KL, pooled; the bound says at least 1", pooled),
        Number("generations where KL exceeds the bound", count, 0.0),
    ]
    standard = steps[0].one_step.get("kl_standard")
    if standard is not None:
        numbers.append(Number("KL_init of a start at N(0, I), nats", standard, 0.020))
    return Claim(
        "prop-3.1",
        "fig3",
        "Proposition 3.1",
        "KL(p̂ ‖ q) at t₀ is at most ε̂²/2.",
        "not reproduced" if contradicted else "confirmed with a condition",
        "The cost KL_init of the starting law belongs in the budget; the printed form drops it. A start at N(0, I) "
        "costs about 0.02 nats here.",
        tuple(numbers),
    )


def _equality(steps: Sequence[Step]) -> Claim:
    gaps = np.array([s.one_step["kl"].value - s.one_step["kl_initial"].value for s in steps])
    halves = np.array([s.one_step["energy_learned"].value / 2 for s in steps])
    errors = np.array([math.hypot(s.one_step["kl"].stderr, s.one_step["energy_learned"].stderr / 2) for s in steps])
    weights = halves / np.maximum(errors, 1e-300) ** 2
    value = float(weights @ gaps / (weights @ halves))
    stderr = float(np.sqrt((weights**2) @ errors**2) / (weights @ halves))
    method = "weighted over all generations of (KL_t0 - KL_T) / (eps_hat^2/2)"
    pooled = Estimate.normal(value, stderr, len(steps), method)
    verdict: Verdict = "confirmed" if off(value, 1) <= 0.01 + 2 * stderr else "not reproduced"
    return Claim(
        "prop-3.1-equality",
        "fig3",
        "Equality in Proposition 3.1",
        "For a KDE or mixture the learned score is that of a diffused law, and Proposition 3.1 is an equality (ours).",
        verdict,
        "" if verdict == "confirmed" else "A finite study compares draws that are not the population's.",
        (Number("(KL at t₀ − KL at T) / (ε̂²/2), pooled", pooled, 1.0),),
    )


def _eta_kde(steps: Sequence[Step]) -> Claim:
    etas = [s.one_step["observability"] for s in steps]
    low, least = extreme(etas, largest=False)
    high, most = extreme(etas, largest=True)
    below = sum(e.high < 1 for e in etas)
    exactly = below <= 0.15 * len(etas)
    return Claim(
        "eta-kde",
        "fig3",
        "η = 1 for a KDE",
        "Every score error of a kernel density estimate is seen in the samples.",
        "confirmed" if exactly else "confirmed with a condition",
        ""
        if exactly
        else f"η is close to 1, not 1: its 95 % interval lies below 1 in {below} of {len(etas)} generations. The path "
        "ratio depends on the end point alone, but M also holds ½∫|e|² and log p̂_T/q_T, so 1 − η is of second order "
        "in the error.",
        (
            Number(f"smallest η, at {_name(steps[low])}", least, 1.0),
            Number(f"largest η, at {_name(steps[high])}", most, 1.0),
        ),
    )


def _observed_ratios(steps: Sequence[Step]) -> tuple[list[Step], list[Estimate]]:
    kept = [s for s in steps if math.isfinite(s.one_step["chi2"].value)]
    seen = [ratio(s.one_step["chi2"], s.one_step["energy_ideal"], "chi2 / eps*^2") for s in kept]
    return kept, seen


def _prop_3_3(steps: Sequence[Step]) -> Claim:
    small = [s for s in steps if s.one_step["energy_ideal"].high <= 1]
    kept, seen = _observed_ratios(small)
    if not kept:
        return Claim(
            "prop-3.3",
            "fig3",
            "Proposition 3.3",
            _STATEMENT_3_3,
            "not measured in this run",
            "No generation has ε*² ≤ 1 and a finite χ².",
        )
    over = [
        Estimate.normal(r.value / s.one_step["observability"].value, r.stderr, r.n, "chi2 / (eta eps*^2)")
        for r, s in zip(seen, kept, strict=True)
    ]
    worst, least = extreme(over, largest=False)
    holds = least.value + CLEAR * least.stderr >= 0.25
    return Claim(
        "prop-3.3",
        "fig3",
        "Proposition 3.3",
        _STATEMENT_3_3,
        "confirmed with a condition" if holds else "not reproduced",
        f"It asks for ε*² ≤ 1, which holds in {len(small)} of {len(steps)} generations,"
        " and C is a moment constant that no sample certifies. Where it applies, even the part without C holds.",
        (Number(f"smallest χ²/(η ε*²), at {_name(kept[worst])}; the bound says at least 1/4", least),),
    )


_STATEMENT_3_3 = "I ≥ η ε*²/4 − C ε*⁴ for small errors."


def _theorem_3_4(steps: Sequence[Step]) -> Claim:
    kept, seen = _observed_ratios(steps)
    title, statement = "Theorem 3.4", "I ≤ 4 ε*² + c ε*⁴."
    if not kept:
        return Claim("thm-3.4", "fig3", title, statement, "not measured in this run", "No generation has a finite χ².")
    worst, most = extreme(seen, largest=True)
    numbers = [Number(f"largest χ²/ε*², at {_name(kept[worst])}", most)]
    text = "c depends on moments of the path density (A3)."
    chi2 = np.array([s.one_step["chi2"].low for s in kept])
    e2 = np.array([s.one_step["energy_ideal"].high for s in kept])
    needed = (chi2 - 4 * e2) / e2**2
    if needed.max() > 0:
        text += (
            f" It is not small: at least {needed.max():.3g} at {_name(kept[int(needed.argmax())])}, with 95 % limits."
        )
    else:
        text += " No generation shows at 95 % that it must be above 0."
    small = [r for k, r in zip(kept, seen, strict=True) if k.one_step["energy_ideal"].high <= 1]
    if small:
        largest = extreme(small, True)[1]
        numbers.append(Number("largest χ²/ε*² where ε*² ≤ 1; the leading term allows 4", largest))
        text += " Where ε*² ≤ 1 the leading term alone "
        if max(r.high for r in small) <= 4:
            text += "is enough."
        elif max(r.low for r in small) > 4:
            text += "is not enough."
        else:
            text += "may be enough: the intervals hold 4."
    return Claim("thm-3.4", "fig3", title, statement, "confirmed with a condition", text, tuple(numbers))


def accumulated(study: StudyNumbers) -> list[Claim]:
    """The accumulation identity, and what Figure 5 leaves out."""
    gaps, shares, kappas = [], [], []
    for alpha, found in study.innovations.items():
        G = propagator(FixedFraction(alpha), study.generations)
        rebuilt = accumulated_drift(G, found.gram)
        measured = np.array([e.value for e in found.drift])
        gaps.append(float(np.abs(rebuilt / measured - 1).max()))
        share = found.statistic(_diagonal_share(G), "discounted sum / drift")
        shares.append(Number(f"discounted sum / drift of generation {study.generations}, alpha {alpha:g}", share))
        kappa = found.statistic(alignment, "alignment")
        kappas.append(Number(f"alignment κ, alpha {alpha:g}", kappa))
    return [
        Claim(
            "accumulation-identity",
            "fig5",
            "Accumulation identity",
            "D_N = Σ G_i G_j ⟨δ_i, δ_j⟩ exactly, for every policy (ours).",
            "confirmed" if max(gaps) < 1e-9 else "not reproduced",
            "",
            (Number("largest relative gap, L² of the mixture", Estimate.exact(max(gaps), "shared points"), 0.0),),
        ),
        Claim(
            "fig-5",
            "fig5",
            "Discounted contributions",
            "Drift is the discounted sum of past errors, Σ (1−α)^{2(N−1−i)} J_i.",
            "confirmed with a condition",
            "Only for innovations that neither align (κ > 0: the sum is too small) nor cancel (κ < 0: too large).",
            (*shares, *kappas),
        ),
    ]


def _diagonal_share(G: np.ndarray) -> Callable[[np.ndarray], float]:
    def share(gram: np.ndarray) -> float:
        parts = contributions(G, gram)
        return float(parts.discounted[-1].sum() / parts.pairwise.sum())

    return share


def infinite_drift(study: StudyNumbers) -> list[Claim]:
    """Chi2 drift of the population law."""
    chi2 = [s.drift["chi2"] for s in study.steps if "chi2" in s.drift]
    infinite = sum(e.is_infinite for e in chi2)
    finite = [e for e in chi2 if math.isfinite(e.value)]
    numbers = [Number("generations with infinite χ²(p̂ ‖ p)", Estimate.exact(infinite, f"of {len(chi2)}, tail test"))]
    if finite:
        numbers.append(Number("largest finite one (generation 1)", extreme(finite, largest=True)[1]))
    return [
        Claim(
            "finite-chi2",
            "fig4",
            "χ² as the measure of drift",
            "D_i = χ²(p̂^i ‖ p) is finite and can be followed over generations.",
            "confirmed with a condition",
            "For a KDE of bandwidth h = σ the law averaged over its rows has components of variance (1+k)σ²: D is "
            "infinite against p from generation 1 and against p at t₀ from generation 2. A single fitted KDE has a "
            "finite value, which grows with the sample. KL, the reverse χ² and χ² to the mixture stay finite.",
            tuple(numbers),
        )
    ]


def time_only(table: pd.DataFrame) -> list[Claim]:
    """The reading that time-only errors are not seen."""
    kinds = ("time-only, constant", "time-only, white 0.1", "time-only, white 0.01")
    stein = table[table.law.eq("mixture") & table.estimator.eq("stein")]
    rows = {r["kind"]: estimate_of(r) for r in stein.to_dict("records")}
    exact = exact_eta_constant(T - T0)
    return [
        Claim(
            "time-only",
            "fig2",
            "Time-only errors are not seen",
            "η is about 0 for an error that depends on time alone.",
            "confirmed with a condition",
            "Only if it is white in time. A constant error is one of the best seen.",
            (*(Number(f"η, {k}", rows[k]) for k in kinds), Number("η of a constant error on N(0, I)", exact)),
        ),
        Claim(
            "rotation",
            "fig2",
            "Rotations are not seen",
            "η is 0 for a rotation.",
            "confirmed with a condition",
            "Only along level sets, e = A∇log q. Turning the plane of the means moves the modes, and that is seen.",
            tuple(Number(f"η, {k}", rows[k]) for k in ("rotation of level sets", "rotation of a plane")),
        ),
    ]


def section_6(study: StudyNumbers) -> list[Claim]:
    """Table of the mixture study."""
    numbers, beyond, differing = [], 0.0, []
    for (alpha, i), expected in TABLE.items():
        if alpha not in study.alphas or i >= study.generations:
            continue
        step = study.at(alpha, i)
        for name, value in zip(COLUMNS, expected, strict=True):
            e = step.one_step[name]
            numbers.append(Number(f"{_LABELS[name]}, {_name(step)}", e, value))
            beyond = max(beyond, e.low / value - 1, 1 - e.high / value)
            if off(e.value, value) > TOLERANCE:
                differing.append(f"{numbers[-1].what} by {off(e.value, value):.1%}")
    text = f"{len(numbers)} of {3 * len(TABLE)} numbers; largest distance of one from our 95 % interval: {beyond:.1%}."
    if study.origin == "paper":
        text += (
            f" They are of the recursion of laws; a finite study adds the sampling error of its rows, which each later "
            f"generation inherits. {len(numbers) - len(differing)} agree within 2 %."
        )
    elif differing:
        text += (
            f" More than 2 % from our value: {', '.join(differing)}. Half the ε̂² printed beside a KL says what that KL "
            "must be, by the equality in Proposition 3.1."
        )
    agree: Verdict = "confirmed with a condition" if differing else "confirmed"
    verdict: Verdict = agree if beyond <= TOLERANCE else "not reproduced"
    statement = "ε*², ε̂² and KL at t₀ of the population study (theory section 6)."
    return [Claim("table-6", "table", "Mixture study, energies and KL", statement, verdict, text, tuple(numbers))]


_LABELS = {"energy_ideal": "ε*²", "energy_learned": "ε̂²", "kl": "KL at t₀"}


def controlled_case(table: pd.DataFrame, seed: int) -> list[Claim]:
    """The audit's path KL of the tanh error."""
    records = table.to_dict("records")
    numbers = [Number(f"path KL, β = {r['beta']:g}, {r['path']}", estimate_of(r), r["audit"]) for r in records]
    top = ceiling(seed).scaled((T - T0) / 2)
    numbers += [Number(f"ceiling of ε*²/2, β = {b:g}", top.scaled(b * b), v) for b, v in AUDIT.items()]
    best = min(
        max(off(n.measured.value, n.expected or 1.0) for n in numbers if n.what.endswith(path))
        for path in table.path.unique()
    )
    return [
        Claim(
            "controlled",
            "controlled",
            "Controlled error β tanh(x)",
            "Its path KL is .1403 / .5469 / 1.1973 at β = .1 / .2 / .3.",
            "confirmed" if best <= TOLERANCE else "not reproduced",
            "Half the energy is smaller on the learned Euler chain (error pushing outwards or inwards) and on the "
            "ideal path, and the printed values exceed what any weighting of times allows on the ideal path. They "
            "belong to another horizon, clock, mixture or definition.",
            tuple(numbers),
        )
    ]
