"""The accumulation identity: against the recursion in vectors, the table of theory section 4, and simulated refresh."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from driftlaw.errors import InputError
from driftlaw.theory import (
    Accumulate,
    AccumulateSubsample,
    FixedFraction,
    Replace,
    Schedule,
    Window,
    accumulated_drift,
    alignment,
    certified_drift,
    contributions,
    propagator,
    propagator_initial,
)
from oracles.categorical import expected_fixed_fraction, expected_innovations, simulate
from oracles.recursion_twin import random_rows, recursion

ANY_POLICY = given(N=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
J = 0.37


@ANY_POLICY
def test_identity_for_any_policy(N, seed):
    """|f_n|^2 of the brute-force recursion, with a start, to rounding."""
    rng = np.random.default_rng(seed)
    rows = random_rows(N, rng)
    vectors = rng.normal(size=(N + 1, 3))  # f_0, then the innovations
    f = recursion(rows[1], vectors[1:], vectors[0])[1:]
    G = np.column_stack([propagator_initial(rows), propagator(rows)])
    gram = vectors @ vectors.T
    drift = accumulated_drift(G, gram)
    np.testing.assert_allclose(drift, (f**2).sum(axis=1), rtol=1e-11, atol=1e-12)

    parts = contributions(G, gram)
    np.testing.assert_allclose(parts.attributed.sum(axis=1), drift, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(parts.pairwise.sum(), drift[-1], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(parts.discounted[-1], np.diag(parts.pairwise), rtol=1e-12)
    np.testing.assert_allclose(parts.pairwise.sum(axis=0), parts.attributed[-1], rtol=1e-11, atol=1e-12)

    energies = np.diag(gram)
    certificate = certified_drift(G[:, 1:], energies[1:], G[:, 0], energies[0])
    assert (certificate >= drift * (1 - 1e-12)).all()
    kappa = alignment(gram, G[-1])
    if np.isfinite(kappa):
        lengths = G[-1] * np.sqrt(energies)
        np.testing.assert_allclose((1 - kappa) * (lengths**2).sum() + kappa * lengths.sum() ** 2, drift[-1], rtol=1e-9)


TABLE = {
    # policy: (independent, aligned) as functions of n, per unit J
    "replace": (Replace(), lambda n: n, lambda n: n**2),
    "fixed 0.1": (
        FixedFraction(0.1),
        lambda n: (1 - 0.9 ** (2 * n)) / (1 - 0.9**2),
        lambda n: ((1 - 0.9**n) / 0.1) ** 2,
    ),
    "accumulate": (
        Accumulate(),
        lambda n: np.cumsum(1 / n**2),
        lambda n: (1 + np.concatenate([[0], np.cumsum(1 / n[1:])])) ** 2,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_of_section_4(name):
    policy, independent, aligned = TABLE[name]
    n = np.arange(1, 301, dtype=float)
    G = propagator(policy, n.size)
    np.testing.assert_allclose(accumulated_drift(G, J * np.eye(n.size)), J * independent(n), rtol=1e-11)
    np.testing.assert_allclose(accumulated_drift(G, J * np.ones((n.size,) * 2)), J * aligned(n), rtol=1e-11)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_limits_of_a_fixed_fraction(alpha):
    G = propagator(FixedFraction(alpha), 300)
    np.testing.assert_allclose(accumulated_drift(G, J * np.eye(300))[-1], J / (1 - (1 - alpha) ** 2), rtol=1e-11)
    np.testing.assert_allclose(accumulated_drift(G, J * np.ones((300, 300)))[-1], J / alpha**2, rtol=1e-11)


def test_limits_of_accumulate():
    """Independent: pi^2/6, approached as 1/N. Aligned: log^2 N, so the square root grows by one per e-fold."""
    G = propagator(Accumulate(), 1600)
    independent = accumulated_drift(G, np.eye(1600))
    assert np.pi**2 / 6 - independent[-1] == pytest.approx(1 / 1600, rel=1e-3)
    root = np.sqrt(accumulated_drift(G, np.ones((1600, 1600))))
    assert (root[1599] - root[99]) / np.log(16) == pytest.approx(1, abs=2e-3)


# --- simulated refresh -----------------------------------------------------------------------------------------------
# 5 standard errors per comparison, 5.7e-7 two-sided if normal; at most 24 comparisons a test: false failures < 2e-5.
SIGMAS = 5.0


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5])
def test_categorical_refresh_law(alpha):
    """n multinomial draws per generation: E D_{i+1} = (1 - alpha)^2 (1 - 1/n) E D_i + (K - 1)/n."""
    p = np.array([0.35, 0.25, 0.2, 0.1, 0.1])
    n, N, repetitions = 40, 8, 20_000
    drift = simulate(p, n, FixedFraction(alpha).rows(N), repetitions, np.random.default_rng(int(100 * alpha)))
    law = expected_fixed_fraction(alpha, p.size, n, N)
    assert (abs(drift.mean(axis=0) - law) < SIGMAS * drift.std(axis=0) / repetitions**0.5).all()


@pytest.mark.parametrize(
    "policy", [AccumulateSubsample(), Window(3, 0.1), Schedule([0.5, 0, 0, 1, 0.2, 0.0])], ids=repr
)
def test_categorical_refresh_of_other_policies(policy):
    """Sampling noise is independent between generations: E D_n = sum_i G_{n,i}^2 E J_i, for the simulation too."""
    p = np.array([0.35, 0.25, 0.2, 0.1, 0.1])
    n, N, repetitions = 40, 6, 20_000
    rows = policy.rows(N)
    energies, law = expected_innovations(rows, p.size, n)
    np.testing.assert_allclose(accumulated_drift(propagator(policy, N), np.diag(energies)), law, rtol=1e-12)
    drift = simulate(p, n, rows, repetitions, np.random.default_rng(3))
    assert (abs(drift.mean(axis=0) - law) < SIGMAS * drift.std(axis=0) / repetitions**0.5).all()


def test_accumulated_gaussian_mean():
    """Mean of all rows so far, m new rows from N(mean, sigma^2) per generation: Var = (sigma^2/m) sum 1/k^2.

    Kept rows are used again, so innovations are correlated: Gram (sigma^2/m)/max(i + 1, j + 1), not diagonal.
    """
    sigma, m, N, repetitions = 1.7, 5, 7, 20_000
    law = sigma**2 / m * np.cumsum(1 / np.arange(1, N + 1) ** 2)
    k = np.arange(1, N + 1)
    gram = sigma**2 / m / np.maximum.outer(k, k)
    np.testing.assert_allclose(accumulated_drift(propagator(Accumulate(), N), gram), law, rtol=1e-12)

    rng = np.random.default_rng(11)
    pool, mean = np.zeros((repetitions, 0)), np.zeros(repetitions)
    variances = []
    for _ in range(N):
        pool = np.concatenate([pool, rng.normal(mean[:, None], sigma, (repetitions, m))], axis=1)
        mean = pool.mean(axis=1)
        variances.append((mean**2).mean())
    relative_error = (2 / repetitions) ** 0.5  # of a normal variance
    assert (abs(np.array(variances) / law - 1) < SIGMAS * relative_error).all()


@pytest.mark.parametrize("k", [0.25, 1.0, 4.0])
def test_weight_of_fresh_data_that_is_optimal(k):
    """mean = w (mean of n fresh) + (1 - w)(mean of m = n/k synthetic): at k = 1 the optimum is 1/golden ratio."""
    n = 50.0

    def steady(w):
        innovation = w**2 / n + (1 - w) ** 2 * k / n
        return accumulated_drift(propagator(FixedFraction(w), 400), innovation * np.eye(400))[-1]

    for w in (0.1, 0.4, 0.8):
        assert steady(w) == pytest.approx((w**2 + k * (1 - w) ** 2) / n / (w * (2 - w)), rel=1e-12)
    best = minimize_scalar(steady, bounds=(0.05, 0.99), method="bounded", options={"xatol": 1e-10}).x
    assert best == pytest.approx(((k**2 + 4 * k) ** 0.5 - k) / 2, abs=1e-6)
    if k == 1.0:
        assert best == pytest.approx(2 / (1 + 5**0.5), abs=1e-6)


# --- alignment and certificates --------------------------------------------------------------------------------------


def test_alignment():
    lengths = np.array([1.0, 2.0, 0.5])
    assert alignment(np.outer(lengths, lengths)) == pytest.approx(1)
    assert alignment(np.diag(lengths)) == 0
    assert alignment(np.outer(lengths, lengths) * 0.3 + np.diag(0.7 * lengths**2)) == pytest.approx(0.3)
    assert alignment(np.array([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx(-1)
    assert alignment(np.diag([1.0, -0.1, 1.0])) == 0  # an unbiased J_i may fall below zero
    assert np.isnan(alignment([[1.0]]))
    assert np.isnan(alignment(np.zeros((3, 3))))
    with pytest.raises(InputError, match="3 non-negative weights"):
        alignment(np.eye(3), [1.0, -1.0, 0.0])


def test_minkowski_is_attained_by_aligned_innovations():
    energies = np.array([0.2, 0.0, 1.3, 0.4])
    G, start = propagator(Window(2, 0.2), 4), propagator_initial(Window(2, 0.2), 4)
    lengths = np.sqrt(np.concatenate([[0.25], energies]))
    exact = accumulated_drift(np.column_stack([start, G]), np.outer(lengths, lengths))
    np.testing.assert_allclose(certified_drift(G, energies, start, 0.25), exact, rtol=1e-12)


def test_an_infinite_innovation_is_certified_as_long_as_it_is_remembered():
    G = propagator(Schedule([0.5, 0.5, 1.0]), 3)
    assert certified_drift(G, [np.inf, 1.0, 0.5]).tolist() == pytest.approx([np.inf, np.inf, 0.5])


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (np.ones((2, 3)), "square"),
        (np.ones(3), "square"),
        ([[1.0, np.nan], [np.nan, 1.0]], r"entry \(0, 1\) of the Gram matrix is nan"),
        ([[np.inf, 0.0], [0.0, 1.0]], "mixture of p and all generations"),
        ([[1.0, 0.2], [0.3, 1.0]], "not symmetric"),
    ],
)
def test_bad_gram(gram, message):
    for function in (accumulated_drift, contributions):
        with pytest.raises(InputError, match=message):
            function(np.eye(2), gram)
    with pytest.raises(InputError, match=message):
        alignment(gram)


def test_bad_shapes_and_energies():
    with pytest.raises(InputError, match="one column per innovation"):
        accumulated_drift(np.eye(3), np.eye(2))
    with pytest.raises(InputError, match="non-negative"):
        certified_drift(np.eye(2), [1.0, -1e-9])
    with pytest.raises(InputError, match="non-negative"):
        certified_drift(np.eye(2), [1.0, np.nan])
    with pytest.raises(InputError, match="needs G_init"):
        certified_drift(np.eye(2), [1.0, 1.0], D0=0.1)
