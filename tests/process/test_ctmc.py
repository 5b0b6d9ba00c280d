"""Chains on finite alphabets: closed forms, reversals, words, carried laws, refusals."""

import numpy as np
import pytest
from scipy.linalg import expm

from driftlaw.errors import InputError
from driftlaw.process.ctmc import JumpProcess

RNG = np.random.default_rng(0)
P = np.array([0.4, 0.1, 0.3, 0.2])
RANDOM = JumpProcess(RNG.random((4, 4)))
CHAINS = {"uniform": JumpProcess.uniform(4), "absorbing": JumpProcess.absorbing(3), "random": RANDOM}


def law_on(chain):
    """A law without probability on the mask."""
    if chain.rates[-1].any():
        return P
    return np.append(P[:3] / P[:3].sum(), 0.0)


@pytest.mark.parametrize("t", [0.0, 0.1, 2.0, 30.0])
def test_closed_forms(t):
    keep = np.exp(-t)
    np.testing.assert_allclose(JumpProcess.uniform(4).law(P, t), keep * P + (1 - keep) / 4, atol=1e-13)
    masked = np.append(keep * P, 1 - keep)
    np.testing.assert_allclose(JumpProcess.absorbing(4).law(np.append(P, 0.0), t), masked, atol=1e-13)
    np.testing.assert_allclose(RANDOM.transition(t).sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_the_reversed_chain_goes_back_to_every_marginal(name):
    chain = CHAINS[name]
    p, T, times = law_on(chain), 3.0, [3.0, 1.0, 0.2, 0.02]
    found = chain.carried(chain.reverse_rates(p), chain.law(p, T), T, times)
    np.testing.assert_allclose(found, [chain.law(p, t) for t in times], atol=1e-9)


@pytest.mark.parametrize("name", CHAINS)
def test_one_exact_step_back(name):
    """Bayes' rule, the marginal, and the reverse rates as its derivative (error of second order in the step)."""
    chain = CHAINS[name]
    p, t = law_on(chain), 0.7
    back = chain.reverse_transition(p, t, 0.2)
    np.testing.assert_allclose(back.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(chain.law(p, t) @ back, chain.law(p, 0.2), atol=1e-12)
    errors = []
    for step in (0.02, 0.01, 0.005):
        small = np.eye(4) + step * chain.reverse_rates(p)(t)
        errors.append(abs(chain.reverse_transition(p, t, t - step) - small).max())
    slope = np.polyfit(np.log([0.02, 0.01, 0.005]), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.15)


def test_reversing_twice_is_the_chain():
    """Detailed in flows: p_t(y) R(y -> x) = p_t(x) Q(x -> y)."""
    p_t, R = RANDOM.law(P, 0.4), RANDOM.reverse_rates(P)(0.4)
    flow = p_t[:, None] * R
    expected = (p_t[:, None] * RANDOM.rates).T
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(flow[off], expected[off], atol=1e-14)
    np.testing.assert_allclose(R.sum(1), 0, atol=1e-14)


@pytest.mark.parametrize("chain", [JumpProcess.uniform(3), JumpProcess.absorbing(2)])
def test_words_of_independent_letters(chain):
    p = np.array([0.5, 0.3, 0.2]) if chain.rates[-1].any() else np.array([0.6, 0.4, 0.0])
    words = chain.words(3)
    assert words.states == 27
    product = np.kron(np.kron(p, p), p)
    one = chain.law(p, 0.8)
    np.testing.assert_allclose(words.law(product, 0.8), np.kron(np.kron(one, one), one), atol=1e-12)
    np.testing.assert_allclose(
        words.transition(0.3), np.kron(np.kron(*[chain.transition(0.3)] * 2), chain.transition(0.3))
    )
    # a word changes in one letter at a time
    assert words.rates[0, 1 * 9 + 1 * 3] == 0
    assert words.rates[0, 2] == chain.rates[0, 2]


def test_carried_by_constant_rates_is_a_matrix_exponential():
    rates = RNG.random((4, 4))
    full = rates - np.diag(np.diag(rates))
    full -= np.diag(full.sum(1))
    found = RANDOM.carried(lambda t: rates, P, 2.0, [2.0, 1.3, 0.1])
    for law, t in zip(found, (2.0, 1.3, 0.1), strict=True):
        np.testing.assert_allclose(law, P @ expm(full * (2.0 - t)), atol=1e-9)


def test_refusals():
    for bad, words in (
        (np.ones((2, 3)), "rates of shape"),
        (np.ones((1, 1)), "rates of shape"),
        (np.array([[0, -1.0], [1, 0]]), r"from state 0 to 1 is -1"),
        (np.array([[0, 1.0], [np.nan, 0]]), r"from state 1 to 0 is nan"),
    ):
        with pytest.raises(InputError, match=words):
            JumpProcess(bad)
    with pytest.raises(InputError, match="an alphabet of 1 letters"):
        JumpProcess.uniform(1)
    with pytest.raises(InputError, match="an alphabet of 0 letters"):
        JumpProcess.absorbing(0)
    with pytest.raises(InputError, match="words of 8 letters out of 4 states"):
        JumpProcess.uniform(4).words(8)
    for p, words in (
        ([0.5, 0.5], "shape"),
        ([0.5, 0.6, -0.1, 0.0], "probability 2"),
        ([0.5, 0.6, 0.1, 0.0], "sums to 1.2"),
        ([np.nan, 0.5, 0.5, 0.0], "probability 0"),
    ):
        with pytest.raises(InputError, match=words):
            RANDOM.law(p, 0.1)
    with pytest.raises(InputError, match="time -1"):
        RANDOM.law(P, -1)
    with pytest.raises(InputError, match="t = 0"):
        RANDOM.reverse_rates(P)(0.0)
    with pytest.raises(InputError, match="a step back"):
        RANDOM.reverse_transition(P, 0.1, 0.2)
    with pytest.raises(InputError, match=r"do not descend"):
        RANDOM.carried(RANDOM.reverse_rates(P), P, 1.0, [0.1, 0.2])
    with pytest.raises(InputError, match="negative or not finite"):
        RANDOM.carried(lambda t: -np.ones((4, 4)), P, 1.0, [0.5])
