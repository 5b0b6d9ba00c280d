"""The propagator against the recursion that it resolves and against its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.errors import InputError
from driftlaw.theory import (
    Accumulate,
    FixedFraction,
    Replace,
    Schedule,
    Window,
    effective_memory,
    propagator,
    propagator_initial,
)
from oracles.recursion_twin import impulse_propagator, random_rows, recursion

ANY_POLICY = given(N=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))


@ANY_POLICY
def test_resolves_the_recursion_of_any_policy(N, seed):
    rng = np.random.default_rng(seed)
    rows = random_rows(N, rng)
    innovations, f0 = rng.normal(size=(N, 4)), rng.normal(size=4)
    G, start = propagator(rows), propagator_initial(rows)
    expected = recursion(rows[1], innovations, f0)[1:]
    np.testing.assert_allclose(G @ innovations + start[:, None] * f0, expected, atol=1e-13)
    np.testing.assert_allclose(G, impulse_propagator(rows[1]), atol=1e-14)


@ANY_POLICY
def test_remembers_at_most_everything(N, seed):
    """0 <= G <= 1: mixing is a convex combination; with no fresh data the start is remembered in full."""
    fresh, mixing = random_rows(N, np.random.default_rng(seed))
    G, start = propagator((fresh, mixing)), propagator_initial((fresh, mixing))
    assert (G >= 0).all()
    assert (G <= 1 + 1e-12).all()
    assert (np.diag(G) == 1).all()
    assert (np.triu(G, 1) == 0).all()
    assert (start <= 1 + 1e-12).all()
    no_fresh = mixing.copy()
    no_fresh[:, 0] += fresh  # fresh data moved to the kept real set: the same law, remembered as p_hat^0
    np.testing.assert_allclose(propagator_initial((np.zeros(N), no_fresh)), 1, atol=1e-12)


def test_closed_forms():
    N = 12
    n, i = np.arange(1, N + 1)[:, None], np.arange(N)[None, :]
    past = i < n
    np.testing.assert_allclose(propagator(FixedFraction(0.3), N), past * 0.7 ** np.maximum(n - 1 - i, 0), rtol=1e-13)
    np.testing.assert_allclose(propagator_initial(FixedFraction(0.3), N), 0.7 ** n[:, 0], rtol=1e-13)
    assert (propagator(Replace(), N) == past).all()
    assert (propagator_initial(Replace(), N) == 1).all()
    assert (propagator(FixedFraction(1.0), N) == np.eye(N)).all()
    accumulate = np.where(i == n - 1, 1.0, past / (i + 2.0))
    np.testing.assert_allclose(propagator(Accumulate(), N), accumulate, rtol=1e-13)
    alphas = np.random.default_rng(0).random(N)
    schedule = [[np.prod(1 - alphas[k + 1 : m]) if k < m else 0 for k in range(N)] for m in range(1, N + 1)]
    np.testing.assert_allclose(propagator(Schedule(alphas), N), schedule, rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_window_remembers_its_mean_age(k):
    """Renewal theorem: without fresh data an innovation keeps the share 2/(k + 1) = 1 / (mean age of what is used)."""
    G = propagator(Window(k), 400)
    np.testing.assert_allclose(G[-1, 50:100], 2 / (k + 1), rtol=1e-9)


def test_effective_memory():
    N = 400
    np.testing.assert_allclose(effective_memory(FixedFraction(0.1), N)[-1], 10, rtol=1e-12)
    np.testing.assert_allclose(effective_memory(FixedFraction(0.1), N)[:2], [1, 1.9])
    assert (effective_memory(Replace(), N) == np.arange(1, N + 1)).all()
    np.testing.assert_allclose(effective_memory(Accumulate(), N), np.cumsum(1 / np.arange(1, N + 1)), rtol=1e-12)


def test_arrays_are_cut_to_the_horizon():
    rows = Accumulate().rows(6)
    assert (propagator(rows, 4) == propagator(Accumulate(), 4)).all()
    assert propagator(rows).shape == (6, 6)
    with pytest.raises(InputError, match="7 generations were asked for but the policy has 6 rows"):
        propagator(rows, 7)
    with pytest.raises(InputError, match="needs the number of generations"):
        propagator(Accumulate())
    with pytest.raises(InputError, match=r"row 0 .* negative"):
        propagator((np.array([1.5]), np.array([[-0.5, 0.0]])))
