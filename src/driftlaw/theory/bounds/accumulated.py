r"""Many generations: what the innovations say about the accumulated drift.

Symbols: :math:`D_i = \chi^2(\hat p^{\,i}\|p)`; :math:`I_i = \chi^2(\hat p^{\,i+1}\|q_i)` one generation against its
training law; :math:`J_i = |\hat p^{\,i+1} - q_i|^2_{L^2(1/p)}` its innovation. All in L^2(p): where these are infinite,
measure and bound them against the mixture of p and all generations instead.

Reference: this project, theory sections 4 and 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from driftlaw.errors import InputError, nearest
from driftlaw.estimate import Estimate
from driftlaw.theory.accumulation import certified_drift
from driftlaw.theory.bounds.assumptions import UNKNOWN
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, Side, check_alpha, propagate
from driftlaw.theory.propagator import PolicyLike, propagator, propagator_initial, rows_of

REFERENCE = "this project, theory section 4.1"
#: How much of a divergence is left by q = alpha p + (1 - alpha) p_hat: power of (1 - alpha), and whether exactly.
CONTRACTION: dict[str, tuple[int, Side]] = {
    "chi2": (2, "identity"),
    "tv": (1, "identity"),
    "mmd": (1, "identity"),
    "w1": (1, "identity"),
    "kl": (1, "upper"),
    "w2 squared": (1, "upper"),
}


def mixing_contraction(alpha: float, divergence: str, value: Number, measured: Estimate | None = None) -> Bound:
    r"""What mixing with fresh data leaves of a divergence to p.

    .. math:: \chi^2(q_i\|p) = (1-\alpha)^2 D_i

    TV, MMD and W1 are contracted by exactly :math:`1 - \alpha`, KL and the squared W2 at least by that.

    Args:
        alpha: fraction of fresh data.
        divergence: "chi2", "tv", "mmd", "w1", "kl" or "w2 squared".
        value: of p_hat^i against p.
        measured: the same divergence of q_i against p.

    Raises:
        InputError: an unknown divergence, alpha outside [0, 1], or a negative value.
    """
    if divergence not in CONTRACTION:
        raise InputError(f"no contraction is known for {divergence!r}", nearest(divergence, CONTRACTION))
    power, side = CONTRACTION[divergence]
    factor = (1 - check_alpha(alpha)) ** power
    sign = "=" if side == "identity" else r"\le"
    return Bound(
        name="Mixing contracts",
        reference=REFERENCE,
        quantity=f"{divergence} of q_i against p",
        formula=rf"\mathrm{{d}}(q_i, p) {sign} (1-\alpha)^{power}\, \mathrm{{d}}(\hat p^i, p)",
        side=side,
        value=propagate(lambda d: factor * d if factor else 0.0, f"(1 - alpha)^{power} times {divergence}", d=value),
        measured=measured,
    )


def innovation_bracket(
    alpha: float, chi2: Number, ratio_sup: float | None = None, measured: Estimate | None = None
) -> tuple[Bound, Bound]:
    r"""Innovation against one-generation chi2: :math:`\alpha I_i \le J_i \le \sup(q_i/p)\, I_i`.

    Args:
        alpha: weight of fresh data in q_i (any policy's a_i).
        chi2: I_i = chi2(p_hat^{i+1} || q_i).
        ratio_sup: sup q_i/p; None if unknown (the upper bound is then infinite).
        measured: J_i.

    Returns:
        The lower and the upper bound.
    """
    a = check_alpha(alpha)
    sup = math.inf if ratio_sup is None else float(ratio_sup)
    if not sup >= 1:
        raise InputError(f"sup q/p is at least 1 for two probability laws, got {ratio_sup!r}", "or None: unknown")
    known = Assumption("sup q/p", "sup q_i/p is finite and known", UNKNOWN, f"sup q_i/p = {sup:g}")
    common = {"name": "Innovation bracket", "reference": REFERENCE, "quantity": "J_i", "measured": measured}
    formula = r"\alpha I_i \le J_i \le \sup(q_i/p)\, I_i"
    lower = propagate(lambda i: a * i if a else 0.0, "alpha I", i=chi2)
    upper = propagate(lambda i: sup * i if i else 0.0, "sup(q/p) I", i=chi2)
    return (
        Bound(side="lower", value=lower, formula=formula, **common),  # type: ignore[arg-type]
        Bound(side="upper", value=upper, formula=formula, assumptions=(known,), **common),  # type: ignore[arg-type]
    )


def drift_bracket(J: Number, chi2_q: Number, measured: Estimate | None = None) -> tuple[Bound, Bound]:
    r"""Two-sided bound of the next drift, by the triangle inequality in L^2(p).

    .. math:: |\sqrt{J_i} - \sqrt{\chi^2(q_i\|p)}| \le \sqrt{D_{i+1}} \le \sqrt{J_i} + \sqrt{\chi^2(q_i\|p)}

    Args:
        J: innovation J_i.
        chi2_q: chi2(q_i || p); (1 - alpha)^2 D_i for a fixed fraction.
        measured: D_{i+1}.

    Returns:
        The lower and the upper bound on D_{i+1}.
    """
    formula = r"|\sqrt{J_i} - \sqrt{\chi^2(q_i\|p)}| \le \sqrt{D_{i+1}} \le \sqrt{J_i} + \sqrt{\chi^2(q_i\|p)}"

    def below(j: float, c: float) -> float:
        return (math.sqrt(j) - math.sqrt(c)) ** 2

    def above(j: float, c: float) -> float:
        return (math.sqrt(j) + math.sqrt(c)) ** 2

    lower = propagate(below, "(sqrt J - sqrt chi2_q)^2", j=J, c=chi2_q)
    if lower.low > 0 and _overlap(J, chi2_q):
        lower = Estimate(lower.value, lower.stderr, 0.0, lower.high, lower.n, lower.method, lower.warnings)
    upper = propagate(above, "(sqrt J + sqrt chi2_q)^2", j=J, c=chi2_q)
    return (
        Bound("Bracket", REFERENCE, "D_{i+1}", formula, "lower", lower, measured),
        Bound("Bracket", REFERENCE, "D_{i+1}", formula, "upper", upper, measured),
    )


def _overlap(x: Number, y: Number) -> bool:
    """Whether the intervals of two numbers meet: the distance between them may then be zero inside the box."""
    (x0, x1), (y0, y1) = ((z.low, z.high) if isinstance(z, Estimate) else (z, z) for z in (x, y))
    return x0 <= y1 and y0 <= x1


def minkowski(
    policy: PolicyLike, J: Sequence[Number], D0: Number = 0.0, measured: Sequence[Estimate] | None = None
) -> tuple[Bound, ...]:
    r"""Drift of any policy from its innovation energies, without bias term or smallness.

    .. math:: \sqrt{D_n} \le \sum_{i<n} G_{n,i}\sqrt{J_i} + G_{n,\mathrm{init}}\sqrt{D_0}

    Args:
        policy: a policy or its rows.
        J: J_0..J_{N-1}.
        D0: drift of p_hat^0.
        measured: D_1..D_N.

    Returns:
        One bound for each n = 1..N.
    """
    N = len(J)
    rows = rows_of(policy, N)
    G, start = propagator(rows), propagator_initial(rows)
    _check_length(measured, N)

    def bound(n: int) -> Bound:
        def drift(j: list[float], d0: float) -> float:
            if np.isnan([*j, d0]).any():
                return math.nan
            return float(certified_drift(G[n - 1 : n, :n], j, start[n - 1 : n], d0)[0])

        return Bound(
            name="Minkowski",
            reference=REFERENCE,
            quantity=f"D_{n}",
            formula=r"\sqrt{D_n} \le \sum_i G_{n,i}\sqrt{J_i} + G_{n,\mathrm{init}}\sqrt{D_0}",
            side="upper",
            value=propagate(drift, "Minkowski over the propagator", j=J[:n], d0=D0),
            measured=None if measured is None else measured[n - 1],
        )

    return tuple(bound(n) for n in range(1, N + 1))


def _check_length(measured: Sequence[Estimate] | None, N: int) -> None:
    if measured is not None and len(measured) != N:
        raise InputError(f"{N} generations need {N} measured values, got {len(measured)}", "pass D_1..D_N")


def steady_state(
    alpha: float, J: Number, kind: Literal["aligned", "independent"], measured: Estimate | None = None
) -> Bound:
    r"""Level that a fixed fraction settles at when all innovations are equal.

    .. math:: D = J/\alpha^2 \;\text{(aligned)}, \qquad D = J/(1-(1-\alpha)^2) \;\text{(independent)}

    Args:
        alpha: fraction of fresh data, positive (with none there is no steady state).
        J: innovation energy of every generation.
        kind: "aligned" (kappa = 1: systematic bias) or "independent" (kappa = 0: sampling noise).
        measured: drift after many generations.
    """
    a = check_alpha(alpha, positive=True)
    if kind not in ("aligned", "independent"):
        raise InputError(f"innovations are 'aligned' or 'independent', got {kind!r}", "see driftlaw.theory.alignment")
    gain = {"aligned": 1 / a**2, "independent": 1 / (1 - (1 - a) ** 2)}[kind]
    kappa = {"aligned": 1, "independent": 0}[kind]
    return Bound(
        name=f"Steady state, {kind}",
        reference="this project, theory section 4",
        quantity="D after many generations",
        formula={"aligned": r"D = J/\alpha^2", "independent": r"D = J/(1-(1-\alpha)^2)"}[kind],
        side="identity",
        value=propagate(lambda j: gain * j, f"{gain:g} J", j=J),
        measured=measured,
        assumptions=(
            Assumption("alignment", f"innovations are {kind}: kappa = {kappa}", UNKNOWN, "needs the Gram matrix"),
            Assumption("steady", "innovations have settled, and many more than 1/alpha generations passed", UNKNOWN),
        ),
    )
