"""The TV certificate against discrete recursions where every path KL and every TV is a finite sum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory import FixedFraction, Replace, bounds
from oracles.discrete_chain import kl, random_law, recursion, tv
from oracles.recursion_twin import random_rows

SEEDS = given(seed=st.integers(0, 2**32 - 1))


def energies(models, seen):
    """eps^2 that makes the path KL bounds equalities: eps^2/2 = KL, in both directions."""
    hat = [2 * kl(m, q) for m, q in zip(models[1:], seen, strict=True)]
    star = [2 * kl(q, m) for m, q in zip(models[1:], seen, strict=True)]
    return hat, star


@SEEDS
def test_certificate_of_any_policy(seed):
    rng = np.random.default_rng(seed)
    p, N = random_law(4, rng), 6
    rows, first = random_rows(N, rng), random_law(4, rng)
    models, training = recursion(rows, p, rng, start=first)
    hat, star = energies(models, training)
    both = bounds.tv_certificate(rows, hat, star, tv_initial=tv(first, p))
    only = bounds.tv_certificate(rows, hat, tv_initial=tv(first, p))
    for n in range(N):
        assert tv(models[n + 1], p) <= both[n].value.value * (1 + 1e-12)
        assert both[n].value.value <= only[n].value.value * (1 + 1e-12)


@SEEDS
def test_certificate_with_early_stopping(seed):
    """Energies compare p_hat^{i+1} with P q_i; the certificate is for TV(p_hat^n, P p)."""
    rng = np.random.default_rng(seed)
    K, N = 4, 6
    p, rows = random_law(K, rng), random_rows(N, rng)
    kernel = 0.7 * np.eye(K) + 0.3 * rng.dirichlet(np.ones(K), size=K)
    models, training = recursion(rows, p, rng, strength=0.1, kernel=kernel)
    hat, star = energies(models, [q @ kernel for q in training])
    blur = tv(p, p @ kernel)
    for n, bound in enumerate(bounds.tv_certificate(rows, hat, star, blur=blur), 1):
        assert tv(models[n], p @ kernel) <= bound.value.value + 1e-12
        assert "P_t0" in bound.quantity


def test_certificate_is_nearly_attained_by_small_aligned_steps():
    """Two cells, p = (1/2, 1/2), the same small push each time: Pinsker and TV addition are both tight."""
    p, push, N = np.array([0.5, 0.5]), np.array([1e-4, -1e-4]), 8
    for policy, alpha in ((Replace(), 0.0), (FixedFraction(0.4), 0.4)):
        model, models, training = p, [p], []
        for _ in range(N):
            q = alpha * p + (1 - alpha) * model
            model = q + push
            models.append(model)
            training.append(q)
        hat, star = energies(models, training)
        measured = [Estimate.exact(tv(m, p), "sum") for m in models[1:]]
        for bound in bounds.tv_certificate(policy, hat, star, measured=measured):
            assert bound.slack == pytest.approx(1, abs=1e-4)
            assert bound.slack >= 1 - 1e-9


def test_early_stopping_term_is_nearly_attained_by_a_weak_blur():
    """An exact learner, p_hat^{i+1} = P q_i, with P close to the identity: the blurs add up."""
    p, alpha, N = np.array([0.8, 0.2]), 0.3, 6
    kernel = (1 - 1e-4) * np.eye(2) + 1e-4 * np.full((2, 2), 0.5)
    model, drift = p, []
    for _ in range(N):
        model = (alpha * p + (1 - alpha) * model) @ kernel
        drift.append(Estimate.exact(tv(model, p @ kernel), "sum"))
    certificate = bounds.tv_certificate(FixedFraction(alpha), [0.0] * N, blur=tv(p, p @ kernel), measured=drift)
    assert certificate[0].value.value == 0  # p_hat^0 = p: the first generation is exactly P p
    for bound in certificate[1:]:
        assert bound.slack == pytest.approx(1, abs=2e-3)
        assert bound.slack >= 1 - 1e-9


def test_one_step_term():
    assert bounds.one_step_tv(0.02) == pytest.approx(math.sqrt(0.005))
    assert bounds.one_step_tv(0.02, 0.01) == pytest.approx(math.sqrt(0.0025))
    assert bounds.one_step_tv(0.02, 0.01, 0.0, 0.1) == pytest.approx(math.sqrt(0.005))  # the init of each direction
    assert bounds.one_step_tv(0.02, kl_init=0.1) == pytest.approx(math.sqrt(0.055))
    assert bounds.one_step_tv() == 1
    assert bounds.one_step_tv(math.nan, 0.01) == pytest.approx(0.05)


def test_steady_state():
    """eps/(2 alpha), which the certificate approaches from below."""
    eps2, alpha = 1e-4, 0.2
    steady = bounds.tv_steady_state(alpha, eps2).value.value
    assert steady == pytest.approx(0.01 / (2 * alpha))
    late = bounds.tv_certificate(FixedFraction(alpha), [eps2] * 120)[-1].value.value
    assert late == pytest.approx(steady, rel=1e-9)
    with_init = bounds.tv_certificate(FixedFraction(alpha), [eps2] * 120, kl_init=1e-3)[-1].value.value
    assert with_init == pytest.approx(bounds.tv_steady_state(alpha, eps2, 1e-3).value.value, rel=1e-9)


def test_vacuous_and_unknown_are_said():
    loose = bounds.tv_certificate(Replace(), [4.0, 4.0])
    assert loose[1].value.value == 1
    assert "vacuous" in loose[1].note
    assert bounds.tv_certificate(Replace(), [math.inf])[0].violated == ("energy",)
    assert bounds.tv_certificate(Replace(), [math.inf], [0.1])[0].violated == ()
    # one finite energy in every generation is enough, whichever of the two it is
    alternating = bounds.tv_certificate(FixedFraction(0.5), [math.inf, 0.1, math.inf], [0.1, math.inf, 0.1])[-1]
    assert alternating.violated == ()
    assert alternating.value.value < 1
    noisy = Estimate.normal(0.01, 0.001, 100, "x")
    bound = bounds.tv_certificate(Replace(), [noisy, noisy], tv_initial=0.1)[1]
    assert bound.value.low < bound.value.value < bound.value.high
    assert {a.name: a.status for a in bound.assumptions} == {"energy": "checked", "A2": "not checkable from data"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.tv_certificate(Replace()), "needs eps_hat"),
        (lambda: bounds.tv_certificate(Replace(), [0.1], [0.1, 0.2]), "equally many"),
        (lambda: bounds.tv_certificate(Replace(), [-0.1]), "non-negative"),
        (lambda: bounds.tv_certificate(Replace(), [0.1], measured=[]), "1 measured"),
        (lambda: bounds.tv_steady_state(0.0, 0.1), r"\(0, 1\]"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
