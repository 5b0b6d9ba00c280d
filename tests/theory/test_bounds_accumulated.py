"""Bounds over many generations: discrete recursions, cases of equality, the numbers of theory section 4.2."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory import FixedFraction, Replace, Window, accumulated_drift, bounds, propagator
from oracles.discrete_chain import chi2, kl, random_law, recursion, tv
from oracles.recursion_twin import random_rows

SEEDS = given(seed=st.integers(0, 2**32 - 1))


def exact(value):
    return Estimate.exact(value, "closed form")


def l2(r, q, p):
    """|(r - q)/p|^2 in L^2(p)."""
    return float(((r - q) ** 2 / p).sum())


@SEEDS
def test_nothing_is_contradicted_by_a_discrete_recursion(seed):
    rng = np.random.default_rng(seed)
    p, alpha, N = random_law(4, rng), rng.uniform(0.05, 0.95), 6
    models, training = recursion(FixedFraction(alpha).rows(N), p, rng)
    D = [chi2(m, p) for m in models]
    I = [chi2(models[i + 1], training[i]) for i in range(N)]  # noqa: E741
    J = [l2(models[i + 1], training[i], p) for i in range(N)]
    checks = list(bounds.minkowski(FixedFraction(alpha), J, D[0], [exact(d) for d in D[1:]]))
    for i in range(N):
        q = training[i]
        checks += [
            bounds.mixing_contraction(alpha, "chi2", D[i], exact(chi2(q, p))),
            bounds.mixing_contraction(alpha, "tv", tv(models[i], p), exact(tv(q, p))),
            bounds.mixing_contraction(alpha, "kl", kl(models[i], p), exact(kl(q, p))),
            *bounds.innovation_bracket(alpha, I[i], float((q / p).max()), exact(J[i])),
            *bounds.drift_bracket(J[i], (1 - alpha) ** 2 * D[i], exact(D[i + 1])),
            bounds.two_step_floor(alpha, I[i], exact(D[i + 1] + (1 - alpha) ** 2 * D[i])),
            bounds.improved_floor(alpha, I[i], exact(max(D[i], D[i + 1]))),
        ]
    # I >= eta eps^2/8 with equality is the least that the clean regime promises: eta eps^2 = 8 I
    checks.append(bounds.proposition_4_1_sum(alpha, [1.0] * N, [8 * x for x in I], exact(sum(D))))
    for bound in checks:
        value, measured = bound.value.value, bound.measured.value
        tolerance = 1e-12 + 1e-9 * value
        if bound.side in ("upper", "identity"):
            assert measured <= value + tolerance, bound
        if bound.side in ("lower", "identity"):
            assert measured >= value - tolerance, bound


@SEEDS
def test_minkowski_for_any_policy(seed):
    rng = np.random.default_rng(seed)
    p, N = random_law(4, rng), 6
    rows = random_rows(N, rng)
    models, training = recursion(rows, p, rng, start=random_law(4, rng))
    J = [l2(models[i + 1], training[i], p) for i in range(N)]
    for n, b in enumerate(bounds.minkowski(rows, J, chi2(models[0], p)), 1):
        assert chi2(models[n], p) <= b.value.value * (1 + 1e-9)


def test_brackets_are_attained():
    """Aligned and opposite innovations reach the two ends of the bracket on D."""
    lower, upper = bounds.drift_bracket(0.09, 0.04)
    assert lower.value.value == pytest.approx((0.3 - 0.2) ** 2)
    assert upper.value.value == pytest.approx((0.3 + 0.2) ** 2)
    noisy = Estimate.normal(0.05, 0.02, 100, "x")
    assert bounds.drift_bracket(noisy, 0.04)[0].value.low == 0  # the two may be equal


def test_innovation_bracket_is_attained():
    """Where the models put no mass q = alpha p, so J = alpha I; where q/p is largest, J = sup(q/p) I."""
    alpha, p = 0.3, np.array([0.25, 0.25, 0.25, 0.25])
    model = np.array([0.0, 0.0, 0.5, 0.5])
    q = alpha * p + (1 - alpha) * model
    for shift, end in ((np.array([0.02, -0.02, 0, 0]), 0), (np.array([0, 0, 0.02, -0.02]), 1)):
        step = chi2(q + shift, q)
        bracket = bounds.innovation_bracket(alpha, step, float((q / p).max()), exact(l2(q + shift, q, p)))
        assert bracket[end].slack == pytest.approx(1, rel=1e-12)
    assert bounds.innovation_bracket(0.3, 0.1)[1].value.is_infinite


def test_floors_in_numbers():
    """eta eps^2 = .005: the floors of [KTV], and how much the improved one gains on them."""
    floors = {0.1: 1.7265e-5, 0.5: 1.25e-4, 0.9: 2.78465e-4}
    gains = {0.1: 1.003, 0.5: 1.11, 0.9: 1.67}
    for alpha, floor in floors.items():
        theirs, ours = (f(alpha, 0.5, 0.01) for f in (bounds.proposition_4_1_floor, bounds.improved_limsup_floor))
        assert theirs.value.value == pytest.approx(floor, rel=2e-5)  # printed to 5 digits
        assert ours.value.value / theirs.value.value == pytest.approx(gains[alpha], rel=2e-3)
        # both are one-generation floors at I = eta eps^2/8
        assert ours.value.value == pytest.approx(bounds.improved_floor(alpha, 0.005 / 8).value.value, rel=1e-13)
        step = bounds.two_step_floor(alpha, 0.005 / 8).value.value
        assert theirs.value.value == pytest.approx(step / (1 + (1 - alpha) ** 2), rel=1e-13)
    assert bounds.proposition_4_1_sum(0.5, [1.0] * 4, [0.1] * 4).value.value == pytest.approx(0.01)


def test_the_first_clause_of_proposition_4_1_is_about_the_sum_only():
    """Contaminations l_i = 1/(2 sqrt(i + 1)) on a finite set: divergent sums, yet D_n -> 0 as 1/(4 alpha^2 n)."""
    alpha, N = 0.5, 10_000
    p, r = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    tv, chi2 = abs(r - p).sum() / 2, (r**2 / p).sum() - 1
    eps2, D = bounds.proposition_4_1_counter_example(alpha, N, tv, chi2)
    model = p
    for i in range(50):  # the recursion itself
        q, share = alpha * p + (1 - alpha) * model, 0.5 / math.sqrt(i + 1)
        model = (1 - share) * q + share * r
        assert D[i] == pytest.approx((model**2 / p).sum() - 1, rel=1e-12)
        assert eps2[i] <= 2 * (q * np.log(q / model)).sum()
        assert eps2[i] == pytest.approx(4 * (abs(model - q).sum() / 2) ** 2, rel=1e-9)
    assert D[-1] * N * 4 * alpha**2 == pytest.approx(chi2, rel=0.02)
    # partial sums grow by a constant a decade: both series diverge
    assert eps2[N // 10 :].sum() == pytest.approx(math.log(10) * tv**2, rel=0.05)
    assert D[N // 10 :].sum() == pytest.approx(math.log(10) * chi2 / (4 * alpha**2), rel=0.05)
    assert "may still tend to 0" in bounds.proposition_4_1_sum(alpha, [1.0], [0.1]).note
    names = {a.name for a in bounds.proposition_4_1_floor(alpha, 0.5, 0.01).assumptions}
    assert "floors" in names  # clause (ii) has an assumption that clause (i) has not
    assert "floors" not in {a.name for a in bounds.proposition_4_1_sum(alpha, [1.0], [0.1]).assumptions}


def test_theorem_4_2_cannot_hold_as_printed():
    energies = [0.04 * 0.5**i for i in range(161)]
    required = [bounds.theorem_4_2_required_constant(0.1, energies, 0.25, 1.0, N) for N in (10, 160)]
    assert required[0] == pytest.approx(26.84, abs=0.005)
    assert required[1] == pytest.approx(1.43e15, rel=1e-3)
    assert bounds.theorem_4_2_required_constant(0.1, lambda i: 0.04 * 0.5**i, 0.25, 1.0, 10) == required[0]
    shown = bounds.theorem_4_2_displayed(0.1, energies[:11], 0.25, 1.0)
    assert shown.note.startswith("not valid as printed")
    assert shown.violated == ("constants",)
    assert "26.84 at N = 10" in shown.assumptions[0].evidence
    steady = bounds.theorem_4_2_displayed(0.1, [0.04] * 11, 0.0, 0.0)
    assert steady.violated == ("constants",)
    assert bounds.theorem_4_2_required_constant(1.0, lambda i: 0.0, 0.25, 1.0, 3) == math.inf
    with pytest.raises(InputError, match="needs 11 energies, got 10"):
        bounds.theorem_4_2_required_constant(0.1, energies[:10], 0.25, 1.0, 10)


def test_without_a_bias_term_aligned_innovations_give_ratio_N():
    J, N = 0.01, 25
    G = propagator(Replace(), N)
    discounted = bounds.theorem_4_2_additive(0.0, [J] * N, 0.0).value.value
    assert accumulated_drift(G, J * np.ones((N, N)))[-1] / discounted == pytest.approx(N)


@SEEDS
def test_additive_form_is_exact_with_the_cross_terms_as_bias(seed):
    rng = np.random.default_rng(seed)
    alpha, N = 0.3, 7
    delta = rng.normal(size=(N, 3)) + 1.0
    gram, G = delta @ delta.T, propagator(FixedFraction(alpha), N)
    cross = float(G[-1] @ gram @ G[-1] - (G[-1] ** 2 * np.diag(gram)).sum())
    drift = accumulated_drift(G, gram)[-1]
    if cross >= 0:
        bound = bounds.theorem_4_2_additive(alpha, list(np.diag(gram)), 0.0, cross, exact(drift))
        assert bound.slack == pytest.approx(1, rel=1e-12)
    start = bounds.theorem_4_2_additive(alpha, [0.0] * N, 2.0).value.value
    assert start == pytest.approx(2.0 * 0.7 ** (2 * N), rel=1e-12)


def test_additive_form_holds_from_any_start():
    """300 exact recursions that start away from the target: the start meets the innovations (violated in 85 of 303)."""
    rng = np.random.default_rng(17)
    without = 0
    for _ in range(300):
        alpha, N = rng.uniform(0.05, 0.9), int(rng.integers(1, 9))
        f, delta = rng.normal(size=4), 0.5 * rng.normal(size=(N, 4)) + rng.normal(size=4)
        G = propagator(FixedFraction(alpha), N)[-1]
        end = (1 - alpha) ** N * f + G @ delta
        J, D0 = list((delta**2).sum(1)), float(f @ f)
        cross = max(float(sum(G[i] * G[j] * delta[i] @ delta[j] for i in range(N) for j in range(N) if i != j)), 0.0)
        meet = max(2 * (1 - alpha) ** N * float(f @ (G @ delta)), 0.0)
        known = bounds.theorem_4_2_additive(alpha, J, D0, cross, C_start=meet).value.value
        worst = bounds.theorem_4_2_additive(alpha, J, D0, cross).value.value
        assert end @ end <= known * (1 + 1e-9) <= worst * (1 + 1e-8)
        without += end @ end > (known - meet) * (1 + 1e-9)
    assert without > 30


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_steady_states(alpha):
    J, N = 0.2, 400
    G = propagator(FixedFraction(alpha), N)
    for kind, gram in (("aligned", np.ones((N, N))), ("independent", np.eye(N))):
        measured = exact(accumulated_drift(G, J * gram)[-1])
        assert bounds.steady_state(alpha, J, kind, measured).slack == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "power"), [("chi2", 2), ("tv", 1), ("w1", 1), ("mmd", 1), ("kl", 1), ("w2 squared", 1)]
)
def test_contraction(name, power):
    bound = bounds.mixing_contraction(0.25, name, 0.8)
    assert bound.value.value == pytest.approx(0.8 * 0.75**power)
    assert bound.side == ("upper" if name in ("kl", "w2 squared") else "identity")
    assert bounds.mixing_contraction(1.0, name, math.inf).value.value == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.mixing_contraction(0.5, "kll", 0.1), "Did you mean 'kl'"),
        (lambda: bounds.mixing_contraction(1.5, "kl", 0.1), "alpha must be in"),
        (lambda: bounds.steady_state(0.0, 0.1, "aligned"), r"alpha must be in \(0, 1\]"),
        (lambda: bounds.steady_state(0.5, 0.1, "partly"), "'aligned' or 'independent'"),
        (lambda: bounds.innovation_bracket(0.5, 0.1, 0.9), "at least 1"),
        (lambda: bounds.proposition_4_1_sum(0.5, [0.1], [0.1, 0.2]), "one value per generation"),
        (lambda: bounds.proposition_4_1_counter_example(0.0, 10), r"\(0, 1\]"),
        (lambda: bounds.proposition_4_1_counter_example(0.5, 10, tv=2.0), "of one law"),
        (lambda: bounds.minkowski(Window(2), [0.1, 0.2], measured=[exact(1)]), "2 measured values"),
        (lambda: bounds.theorem_4_2_required_constant(0.1, [-1.0], 0.25, 1.0, 0), "non-negative"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
