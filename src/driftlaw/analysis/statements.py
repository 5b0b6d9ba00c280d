r"""Which statements apply to a run, and the numbers that each of them gets.

=================  ==================================================  ==============================================
place              statements                                          numbers
=================  ==================================================  ==============================================
one step, at t0    Prop 3.1 both ways, its equality, Prop 3.3, Thm     energies, eta, G^2, KL and chi2 of the records
                   3.4, sharp first order, gradient bounds
one step, fields   eps*^2 >= G^2, gradient bound; all of the above     G^2 by a critic; energies and eta where q is
                   with energies where q is known                      known (a network on a known law)
in L^2(mu)         bracket, contraction, Minkowski, additive Thm 4.2,  innovations, in p, the mixture or features
                   steady states
against p          innovation bracket, floors, Prop 4.1 (i) and (ii)   chi2 against p, which must be finite to say much
TV                 certificate, steady state                           energies; TV measured at t0
=================  ==================================================  ==============================================

A weight on :math:`\hat p^0` is a weight on p. Statements that [KTV] make for a fixed fraction are given for one only;
those of one step back are given wherever q_i mixes p with the latest model alone.

Reference: this project, theory sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from driftlaw.analysis.report import Statement
from driftlaw.estimate import Estimate
from driftlaw.measure.paths.generation import PathMeasures
from driftlaw.measure.sets.innovations import Innovations
from driftlaw.theory import bounds
from driftlaw.theory.accumulation import alignment
from driftlaw.theory.bounds import Assumption, Evidence
from driftlaw.theory.propagator import propagator
from driftlaw.theory.refresh import Array

UNKNOWN: bounds.statement.Status = "not checkable from data"
COUNTER_EXAMPLE = (
    "not valid as printed. Counter-example: alpha = 0.1, eps_i^2 = 0.04 x 0.5^i, D_0 = 0.25, C_bias = 1 would need the "
    "constant {:.4g} at N = 10 and {:.3g} at N = 160; the additive form stands"
)


@dataclass(frozen=True)
class Rows:
    """The policy's rows of the finished generations.

    Args:
        fresh: ``[N]``, a_i.
        mixing: ``[N, N+1]``, w_ij.
    """

    fresh: Array
    mixing: Array

    @property
    def N(self) -> int:  # noqa: N802 (the theory's letter)
        """N, the number of generations."""
        return len(self.fresh)

    @property
    def pair(self) -> tuple[Array, Array]:
        """As theory functions take it."""
        return self.fresh, self.mixing

    @property
    def G(self) -> Array:  # noqa: N802
        """The propagator of the policy, ``[N, N]``."""
        return propagator(self.pair)

    def real(self, i: int) -> float:
        """Weight of p in q_i; 1 at i = 0, where p_hat^0 = p."""
        return 1.0 if i == 0 else float(self.fresh[i] + self.mixing[i, 0])

    def memory_one(self, i: int) -> bool:
        """Whether q_i mixes p with the latest model alone."""
        return not self.mixing[i, 1:i].any()

    @property
    def alpha(self) -> float | None:
        """The fixed fraction of fresh data, if the policy is one."""
        one = all(self.memory_one(i) and (i == 0 or self.mixing[i, 0] == 0) for i in range(self.N))
        return float(self.fresh[0]) if one and np.allclose(self.fresh, self.fresh[0], rtol=1e-9, atol=0) else None


def one_step(n: int, path: PathMeasures, evidence: Evidence) -> Iterator[Statement]:
    """Statements of one generation at t0, from its path measures (consistent fields: kernel and Gaussian mixtures)."""
    m, eta = path, fraction(path.observability)  # E_{p_hat} L = -eps_hat^2 for consistent fields (derivations, T3)
    learned, ideal = m.energy_learned, m.energy_ideal
    standard = bounds.proposition_3_1(learned, m.kl_standard, None, evidence)
    start = Assumption(
        "start", "eps_hat^2 is that of the path from N(0, I)", UNKNOWN, "it was measured along the path from p_hat_T"
    )
    found = (
        bounds.proposition_3_1(learned, m.kl_initial, m.kl, evidence),
        bounds.proposition_3_1_reverse(ideal, m.kl_initial_reverse, m.kl_reverse, evidence),
        replace(
            standard,
            name="Proposition 3.1, N(0, I) start",
            assumptions=(*standard.assumptions, start),
            note="the learned law here starts at p_hat_T; this is the budget of a sampler that starts at N(0, I)",
        ),
        bounds.consistent_field_identity(learned, m.kl_initial, m.kl, consistent=True),
        bounds.proposition_3_3(eta, ideal, None, m.chi2, evidence),
        bounds.proposition_3_3_clean(eta, ideal, None, m.chi2, evidence),
        bounds.theorem_3_4(ideal, None, m.chi2, evidence),
        bounds.sharp_first_order(eta, ideal, m.chi2),
        bounds.stein_floor(learned, bounds.statement.propagate(_product, "eta eps*^2", a=eta, b=ideal), m.chi2),
        bounds.exponential_pinsker(learned, m.kl_initial, m.tv, evidence),
        bounds.gradient_observability(m.gradient_energy, ideal, eta, exact=True),
        bounds.gradient_kl(learned, m.kl_initial, m.kl, exact=True),
        bounds.gradient_kl_reverse(m.gradient_energy, m.kl_initial_reverse, m.kl_reverse, exact=True),
    )
    return (Statement(n, "", b) for b in found)


def score_field(n: int, path: PathMeasures) -> Iterator[Statement]:
    """Statements of one generation whose score is a field (a network's): what its gradient part bounds.

    Where q is known, its energies and eta stand beside that. The learned law is not known, and so nothing is measured
    that its divergences from q could be compared with.
    """
    m, G2 = path, path.gradient_energy
    if not G2.is_refused:
        yield Statement(n, "", bounds.gradient_floor(G2, m.energy_ideal if m.known else None))
        yield Statement(n, "", bounds.gradient_kl_reverse(G2, m.kl_standard_reverse))
    if m.known:
        evidence, eta = Evidence(eps_hat2=m.energy_learned), fraction(m.observability)
        yield Statement(n, "", bounds.proposition_3_1(m.energy_learned, m.kl_standard, None, evidence))
        yield Statement(n, "", bounds.proposition_3_1_reverse(m.energy_ideal, m.kl_standard_reverse, None, evidence))
        yield Statement(n, "", bounds.proposition_3_3(eta, m.energy_ideal, None, None, evidence))
        yield Statement(n, "", bounds.theorem_3_4(m.energy_ideal, None, None, evidence))
        yield Statement(n, "", bounds.gradient_observability(G2, m.energy_ideal, eta))


def accumulated(rows: Rows, found: Innovations, energies: Sequence[Estimate] | None) -> Iterator[Statement]:
    """Statements on drift in L^2(mu), whatever mu is; `energies` eps*_i^2 are for the displayed Theorem 4.2."""
    N, G, mu = rows.N, rows.G, found.reference
    drift, J = found.drift, found.sizes
    yield from (Statement(n, mu, b) for n, b in enumerate(bounds.minkowski(rows.pair, J, measured=drift), start=1))
    for i in range(N):
        w = rows.mixing[i, 1 : i + 1] @ G[:i] if i else np.zeros(N)
        chi2_q = found.statistic(lambda gamma, w=w: float(w @ gamma @ w), "|q_i - p|^2")  # type: ignore[misc]
        for b in bounds.drift_bracket(J[i], chi2_q, drift[i]):
            yield Statement(i + 1, mu, b)
        if i and rows.memory_one(i):
            yield Statement(i + 1, mu, bounds.mixing_contraction(rows.real(i), "chi2", drift[i - 1], chi2_q))
    alpha = rows.alpha
    if alpha is None:
        return
    g = G[-1]
    cross = found.statistic(lambda gamma: float(g @ gamma @ g - g**2 @ np.diag(gamma)), "cross terms")
    yield Statement(None, mu, bounds.theorem_4_2_additive(alpha, J, 0.0, cross, drift[-1]))
    if energies and not any(e.is_refused for e in energies):
        example = [bounds.theorem_4_2_required_constant(0.1, lambda i: 0.04 * 0.5**i, 0.25, 1.0, n) for n in (10, 160)]
        bias = replace(cross, value=max(cross.value, 0.0), low=max(cross.low, 0.0), high=max(cross.high, 0.0))
        printed = bounds.theorem_4_2_displayed(alpha, energies, 0.0, bias.value, total([drift[-1], bias]))
        yield Statement(None, mu, replace(printed, note=COUNTER_EXAMPLE.format(*example)))
    if alpha > 0:
        late = np.arange(N) >= N // 2
        level = found.statistic(lambda gamma: float(np.diag(gamma)[late].mean()), "mean late J")
        kappa = found.statistic(alignment, "alignment")
        for kind, ideal in (("aligned", 1.0), ("independent", 0.0)):
            steady = bounds.steady_state(alpha, level, kind, drift[-1])  # type: ignore[arg-type]
            yield Statement(None, mu, replace(steady, assumptions=_audited(steady.assumptions, kappa, ideal)))


def _audited(assumptions: Sequence[Assumption], kappa: Estimate, ideal: float) -> tuple[Assumption, ...]:
    """The assumption kappa = `ideal` of a steady state, judged by the measured interval; a refused one refutes none."""
    status: bounds.statement.Status = "checked" if kappa.low <= ideal <= kappa.high else "violated"
    if kappa.is_refused:
        status = UNKNOWN
    return tuple(
        replace(a, status=status, evidence=f"kappa = {kappa}") if a.name == "alignment" else a for a in assumptions
    )


def against_p(
    rows: Rows,
    one_step_chi2: Sequence[Estimate],
    one_step_tv: Sequence[Estimate],
    drift: Sequence[Estimate],
    J: Sequence[Estimate] | None,
) -> Iterator[Statement]:
    """Statements that compare chi2 against p with chi2 of one step.

    Args:
        rows: the policy.
        one_step_chi2: I_0..I_{N-1}, p_hat^{i+1} against q_i at the time where models are sampled.
        one_step_tv: TV of the same laws.
        drift: D_1..D_N against p, infinite where they are.
        J: innovation energies in L^2(p); None where they are not finite.
    """
    for i, chi2 in enumerate(one_step_chi2):
        a, before = rows.real(i), drift[i - 1] if i else Estimate.exact(0.0, "p_hat^0 = p")
        if J is not None:
            lower, upper = bounds.innovation_bracket(a, chi2, 1.0 if a == 1 else None, J[i])
            yield Statement(i + 1, "p", lower)
            if a == 1:  # q_i = p; sup q_i/p is not known otherwise
                yield Statement(i + 1, "p", upper)
        if rows.memory_one(i):
            both = total([drift[i], before.scaled((1 - a) ** 2)])
            yield Statement(i + 1, "p", bounds.two_step_floor(a, chi2, both))
            yield Statement(i + 1, "p", bounds.improved_floor(a, chi2, largest([before, drift[i]])))
            yield Statement(i + 1, "p", bounds.floor_without_alpha(a, one_step_tv[i], largest([before, drift[i]])))


def proposition_4_1(
    rows: Rows, paths: Sequence[PathMeasures], drift: Sequence[Estimate], evidence: Evidence, model_t0: float
) -> Iterator[Statement]:
    """Both clauses of Proposition 4.1, kept apart, and the improved limit; a fixed fraction only."""
    alpha = rows.alpha
    if not alpha:
        return
    eta, eps2 = [fraction(p.observability) for p in paths], [p.energy_ideal for p in paths]
    late = range(rows.N // 2, rows.N)
    floor_eta, floor_eps2 = smallest([eta[i] for i in late]), smallest([eps2[i] for i in late])
    top = largest([drift[i] for i in late])
    found = (
        bounds.proposition_4_1_sum(alpha, eta, eps2, total(drift), evidence),
        bounds.proposition_4_1_floor(alpha, floor_eta, floor_eps2, top, evidence),
        bounds.improved_limsup_floor(alpha, floor_eta, floor_eps2, top, evidence),
    )
    extra: tuple[Assumption, ...] = ()
    if model_t0 > 0:
        evidence_t0 = f"models stop at t0 = {model_t0:g}: energies compare them with q_i diffused to t0, D_i with p"
        extra = (Assumption("t0", "laws are compared at one time", UNKNOWN, evidence_t0),)
    yield from (Statement(None, "p", replace(b, assumptions=(*b.assumptions, *extra))) for b in found)


def certificates(
    rows: Rows, paths: Sequence[PathMeasures], tv: Sequence[Estimate], blur: Estimate | None, evidence: Evidence
) -> Iterator[Statement]:
    """The TV certificate at t0, with the early-stopping term where models are sampled at t0 themselves.

    Args:
        rows: the policy.
        paths: path measures of generations 1..N.
        tv: TV of the models at t0 against p at t0, 1..N.
        blur: TV(p, P_t0 p) where models are sampled at t0; None where they are sampled at time 0 and then diffused.
        evidence: of A2.
    """
    hats, stars = [p.energy_learned for p in paths], [p.energy_ideal for p in paths]
    start, reverse = largest([p.kl_initial for p in paths]), largest([p.kl_initial_reverse for p in paths])
    found = bounds.tv_certificate(
        rows.pair,
        hats,
        stars,
        kl_init=start,
        kl_init_reverse=reverse,
        blur=0.0 if blur is None else blur,
        measured=tv,
        evidence=evidence,
    )
    for n, b in enumerate(found, start=1):
        at_t0 = b if blur is not None else replace(b, quantity=f"TV(P_t0 p_hat^{n}, P_t0 p)")
        yield Statement(n, "", at_t0)
    if rows.alpha and blur is None:
        ways = [(largest(hats), start), (largest(stars), reverse)]
        eps2, kl = min(ways, key=lambda way: float(way[1]) + float(way[0]) / 2)
        steady = bounds.tv_steady_state(rows.alpha, eps2, kl, tv[-1])
        assumptions = (steady.assumptions[0], *evidence.assumptions("A2"))
        quantity = "TV(P_t0 p_hat^n, P_t0 p), all n"
        yield Statement(None, "", replace(steady, assumptions=assumptions, quantity=quantity))


def _product(a: float, b: float) -> float:
    return a * b


# -- estimates ------------------------------------------------------------------------------------------------------


def fraction(e: Estimate) -> Estimate:
    """An estimate of a number in [0, 1], cut to it."""
    if e.is_refused:
        return e
    value, low, high = (min(max(x, 0.0), 1.0) for x in (e.value, e.low, e.high))
    return replace(e, value=value, low=low, high=high)


def largest(estimates: Sequence[Estimate]) -> Estimate:
    """The estimate of largest value; an infinite one wins, then a refused one, because the largest is not known."""
    return max(estimates, key=lambda e: (e.is_infinite, e.is_refused, 0.0 if e.is_refused else e.value))


def smallest(estimates: Sequence[Estimate]) -> Estimate:
    """The estimate of smallest value; a refused one wins."""
    return min(estimates, key=lambda e: -math.inf if e.is_refused else e.value)


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Sum of non-negative numbers with the interval that holds whatever the dependence: the ends are added."""
    if any(e.is_refused or e.is_infinite for e in estimates):
        return largest(estimates)
    value, stderr, low, high = (sum(getattr(e, k) for e in estimates) for k in ("value", "stderr", "low", "high"))
    warnings = dict.fromkeys(w for e in estimates for w in e.warnings)
    return Estimate(value, stderr, low, high, max(e.n for e in estimates), "sum", tuple(warnings))
