"""Girsanov for jumps: equality for consistent ratios, a naive chain of small steps, observability, bounds."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import expm

from driftlaw.errors import InputError
from driftlaw.measure.paths.jumps import jump_measures
from driftlaw.process.ctmc import JumpProcess, generator_of
from driftlaw.theory import bounds

RNG = np.random.default_rng(1)
CHAINS = {
    "uniform": JumpProcess.uniform(5),
    "absorbing": JumpProcess.absorbing(4),
    "random": JumpProcess(RNG.random((5, 5))),
}


def law_on(chain, seed):
    p = 0.8 * np.random.default_rng(seed).dirichlet(np.ones(5)) + 0.04
    if not chain.rates[-1].any():
        p[-1] = 0
        p /= p.sum()
    return p


def wrong(chain, p, size, seed):
    """Rates of the law p times 1 + size g, for a fixed smooth field g that is the ratio of no law."""
    g = np.random.default_rng(seed).normal(size=(chain.states, chain.states)).clip(-2, 2)
    true = chain.reverse_rates(p)
    return lambda t: generator_of(true(t) * (1 + size * g * np.exp(-t)))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("t0", [0.02, 0.5])
def test_the_path_kl_of_consistent_ratios_is_the_kl_at_the_end(name, t0):
    chain = CHAINS[name]
    p, r, T = law_on(chain, 2), law_on(chain, 3), 2.0
    m = jump_measures(chain, p, chain.reverse_rates(r), start=chain.law(r, T), t0=t0, T=T)
    assert m.kl.value == pytest.approx(m.kl_initial.value + m.energy_learned.value / 2, rel=1e-9)
    assert m.kl_reverse.value == pytest.approx(
        m.kl_initial_reverse.value + m.energy_learned_reverse.value / 2, rel=1e-9
    )
    end, true = chain.law(r, t0), chain.law(p, t0)
    assert m.kl.value == pytest.approx(float((end * np.log(end / true)).sum()))
    assert not m.kl.warnings


def naive_path_kl(chain, p, rates_hat, start, t0, T, steps):
    """Sum over small steps of E KL between one-step kernels, rates frozen at the middle of each step."""
    true = chain.reverse_rates(p)
    t = np.exp(np.linspace(np.log(T), np.log(t0), steps + 1))
    law, total = start, 0.0
    for a, b in pairwise(t):
        middle = (a * b) ** 0.5
        first, second = (expm(generator_of(r(middle)) * (a - b)) for r in (rates_hat, true))
        used = first > 0
        total += float((law[:, None] * np.where(used, first * np.log(np.where(used, first / second, 1.0)), 0)).sum())
        law = law @ first
    return total, law


@pytest.mark.parametrize("name", ["uniform", "random"])
def test_any_rates_against_a_naive_chain(name):
    chain, T, t0 = CHAINS[name], 2.0, 0.05
    p = law_on(chain, 4)
    rates = wrong(chain, p, 0.3, 5)
    m = jump_measures(chain, p, rates, t0=t0, T=T)
    errors = []
    for steps in (100, 200, 400):
        total, law = naive_path_kl(chain, p, rates, chain.law(p, T), t0, T, steps)
        errors.append(abs(total - m.energy_learned.value / 2))
    assert errors[2] < 1e-2 * m.energy_learned.value
    assert np.polyfit(np.log([100, 200, 400]), np.log(errors), 1)[0] < -0.8
    true = chain.law(p, t0)
    assert float(((law - true) ** 2 / true).sum()) == pytest.approx(m.chi2.value, rel=2e-2)


@pytest.mark.parametrize("name", CHAINS)
def test_observability_is_what_shows_to_first_order(name):
    """chi2 / (eta eps*^2) tends to 1 at first order in the size, for rates that are those of no law."""
    chain = CHAINS[name]
    p = law_on(chain, 6)
    gaps = []
    for size in (0.2, 0.05, 0.0125):
        m = jump_measures(chain, p, wrong(chain, p, size, 7))
        gaps.append(abs(m.chi2.value / (m.observability.value * m.energy_ideal.value) - 1))
        assert 0 <= m.observability.value <= 1
        assert m.stein_floor.value <= m.chi2.value * (1 + 1e-9)
    assert gaps[2] < 0.05
    assert gaps[2] < 0.4 * gaps[1] < 0.16 * gaps[0]
    assert m.stein_floor.value > 0.99 * m.chi2.value
    assert m.observability.value < 0.9  # part of such an error does not show
    energies = (m.energy_ideal.value, m.energy_learned.value)
    assert energies[0] == pytest.approx(energies[1], rel=0.05)


@pytest.mark.heavy
def test_bounds_that_rest_on_data_processing_hold_for_any_rates():
    """40 random chains, laws and rates: no violation, and the statements of theory section 3 take the numbers."""
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        chain = JumpProcess(rng.random((4, 4)) * rng.integers(0, 2, (4, 4)) + 0.05)
        p, start = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
        rates = wrong(chain, p, rng.uniform(0.05, 0.45), seed)
        m = jump_measures(chain, p, rates, start=start, t0=0.05, T=float(rng.uniform(0.5, 4)))
        forward = bounds.proposition_3_1(m.energy_learned, m.kl_initial, m.kl)
        backward = bounds.proposition_3_1_reverse(m.energy_learned_reverse, m.kl_initial_reverse, m.kl_reverse)
        for b in (forward, backward, bounds.exponential_pinsker(m.energy_learned, m.kl_initial, m.tv)):
            assert not b.contradicted, (seed, b.name)
        assert m.stein_floor.value <= m.chi2.value * (1 + 1e-9)


def test_words_of_masked_letters():
    """A model that learns letters but not their order: the exact twin of masked diffusion on words of two letters."""
    chain = JumpProcess.absorbing(2).words(2)  # letters a, b and the mask: 9 words
    real, independent = np.zeros((3, 3)), np.full((3, 3), 0.0)
    real[:2, :2], independent[:2, :2] = [[0.4, 0.1], [0.1, 0.4]], 0.25
    p, r = real.ravel(), independent.ravel()
    m = jump_measures(chain, p, chain.reverse_rates(r), start=chain.law(r, 6.0), T=6.0)
    assert m.kl.value == pytest.approx(m.kl_initial.value + m.energy_learned.value / 2, rel=1e-9)
    shown = np.exp(-2 * 0.02)  # both letters are seen
    assert m.kl.value == pytest.approx(shown * float((0.25 * np.log(0.25 / real[:2, :2])).sum()), rel=1e-9)


def test_impossible_rates_and_bad_input():
    chain = CHAINS["uniform"]
    p = law_on(chain, 8)

    def never_to_first(t):
        r = chain.reverse_rates(p)(t).copy()
        r[:, 0] = 0.0
        return r

    m = jump_measures(chain, p, never_to_first)
    assert m.energy_learned_reverse.is_infinite
    assert m.energy_learned.value > 0
    same = jump_measures(chain, p, chain.reverse_rates(p))
    assert same.energy_ideal.value == pytest.approx(0, abs=1e-20)
    assert same.kl.value == pytest.approx(0, abs=1e-9)

    def jagged(t):
        return chain.reverse_rates(p)(t) * (1 + 0.3 * (t > 0.437))

    assert any("not smooth" in w for w in jump_measures(chain, p, jagged, t0=0.2, T=1.0).energy_ideal.warnings)
    for bad in ({"t0": 0.0}, {"t0": 2.0, "T": 1.0}):
        with pytest.raises(InputError, match="a horizon"):
            jump_measures(chain, p, chain.reverse_rates(p), **bad)
    with pytest.raises(InputError, match="starting law"):
        jump_measures(chain, p, chain.reverse_rates(p), start=[1.0])
