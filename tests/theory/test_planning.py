"""The drift of a schedule against the accumulation identity, closed forms; best schedules against exhaustive grids."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from driftlaw.errors import InputError
from driftlaw.theory import Schedule, accumulated_drift, propagator, propagator_initial
from driftlaw.theory.planning import DriftModel, SampleNoise, fluctuation, noncentral_quantile
from driftlaw.theory.schedules import cleanest, constant_within, evaluate, fewest, least, smallest_budget

FRACTION = st.floats(0, 1)
OBJECTIVES = ("max", "mean", "terminal")


@given(st.lists(FRACTION, min_size=1, max_size=9), FRACTION, st.floats(0.01, 50), st.floats(0, 20))
def test_two_states_are_the_accumulation_identity(alphas, kappa, J, start):
    model = DriftModel(J, kappa, start)
    G = np.column_stack([propagator_initial(Schedule(alphas), len(alphas)), propagator(Schedule(alphas), len(alphas))])
    lengths = np.sqrt([start, *[J] * len(alphas)])
    gram = np.outer(lengths, lengths) * ((1 - kappa) * np.eye(len(lengths)) + kappa)
    np.testing.assert_allclose(model.drift(alphas), accumulated_drift(G, gram), rtol=1e-10)
    np.testing.assert_allclose(model.gram(alphas), gram[1:, 1:], rtol=1e-12)


@pytest.mark.parametrize("innovation", [2.0, SampleNoise(300, 100, 5)], ids=["constant", "sample noise"])
def test_gradient_is_the_slope_of_drift(innovation):
    model = DriftModel(innovation, 0.4, 1.5)
    at, h = np.random.default_rng(0).uniform(0.1, 0.9, 6), 1e-6
    _, jacobian = model.drift_and_gradient(at)
    numeric = np.column_stack([(model.drift(at + h * e) - model.drift(at - h * e)) / (2 * h) for e in np.eye(6)])
    np.testing.assert_allclose(jacobian, numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("J", "B"), [(1.0, 100.0), (0.03, 0.2), (2.0, 2.0), (1e-12, 1.0)])
def test_constant_fraction_closed_forms(J, B):
    assert DriftModel(J, 1.0).constant(B) == pytest.approx(math.sqrt(J / B), rel=1e-12)
    assert DriftModel(J, 0.0).constant(B) == pytest.approx(1 - math.sqrt(1 - J / B), rel=1e-4 if J < 1e-9 else 1e-9)
    between = DriftModel(J, 0.37)
    assert float(between.steady(between.constant(B))) == pytest.approx(B, rel=1e-9)


@given(FRACTION, st.floats(0.05, 0.95))
def test_steady_state_is_where_the_recursion_settles(kappa, alpha):
    model = DriftModel(1.0, kappa)
    assert model.drift(np.full(600, alpha))[-1] == pytest.approx(float(model.steady(alpha)), rel=1e-9)


def test_the_golden_ratio():
    model = DriftModel(SampleNoise(500, 500, 8), 0.0)
    assert model.most_useful == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-9)
    for fresh, synthetic in ((100, 700), (900, 40)):
        k, noise = fresh / synthetic, SampleNoise(fresh, synthetic, 3)
        w = noise.best_weight
        assert w == pytest.approx((math.sqrt(k * k + 4 * k) - k) / 2, abs=1e-12)
        theory = 3 / fresh * (w**2 + k * (1 - w) ** 2) / (w * (2 - w))
        assert float(DriftModel(noise, 0.0).steady(w)) == pytest.approx(theory, rel=1e-12)
        grid = np.linspace(1e-4, 1, 200_001)
        assert abs(grid[DriftModel(noise, 0.0).steady(grid).argmin()] - w) < 1e-5
        mixed = DriftModel(noise, 0.6)
        assert abs(grid[mixed.steady(grid).argmin()] - mixed.most_useful) < 1e-5
    # step by step the best weights are the gains of a Kalman filter, which settle there
    assert cleanest(model, 30)[-1] == pytest.approx(model.most_useful, abs=1e-6)
    assert cleanest(model, 30)[0] == pytest.approx(0.5, abs=1e-6)


def test_published_averages_of_bursts():
    aligned, independent = DriftModel(1.0, 1.0), DriftModel(1.0, 0.0)
    bursts = aligned.drift(([1.0] + [0.0] * 9) * 100)[-10:]
    assert bursts.mean() == pytest.approx(38.5, abs=1e-9)
    assert bursts.max() == pytest.approx(100, abs=1e-9)
    assert float(aligned.steady(0.1)) == pytest.approx(100, abs=1e-9)
    six = independent.drift([0.6, 0, 0, 0, 0, 0] * 100)[-6:]
    assert float(independent.steady(0.1)) == pytest.approx(5.263, abs=5e-4)
    assert six.mean() == pytest.approx(4.643, abs=5e-4)
    assert six.max() > float(independent.steady(0.1))


def test_constant_minimises_the_maximum_of_independent_innovations_in_the_steady_state():
    model, rng = DriftModel(1.0, 0.0), np.random.default_rng(1)
    for _ in range(200):
        pattern = rng.dirichlet(np.full(6, rng.uniform(0.2, 5))) * 0.6
        assert model.drift(np.tile(np.minimum(pattern, 1), 60))[-6:].max() >= float(model.steady(0.1)) - 1e-9


def exhaustive(model, horizon, levels):
    grid = np.array(list(itertools.product(np.linspace(0, 1, levels), repeat=horizon)))
    return grid.sum(1), model.drift(grid)


CASES = [(3, 21, 0.5, 12.0), (5, 9, 0.0, 0.0), (5, 9, 1.0, 30.0), (8, 5, 0.3, 0.0), (8, 4, 1.0, 9.0)]


@pytest.mark.parametrize(("horizon", "levels", "kappa", "start"), CASES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_schedules_are_as_good_as_all_schedules_of_a_grid(horizon, levels, kappa, start, objective):
    model = DriftModel(1.0, kappa, start)
    cost, drift = exhaustive(model, horizon, levels)
    values = evaluate(drift, objective)
    for total in (0.5, 1.0, 2.5):
        schedule = least(model, total, horizon, objective)
        assert schedule.sum() <= total * (1 + 1e-9)
        assert evaluate(model.drift(schedule), objective) <= 1.01 * values[cost <= total + 1e-9].min()
    for share in (0.05, 0.3, 0.7):
        budget = values.min() + share * (np.quantile(values, 0.98) - values.min())
        schedule = fewest(model, budget, horizon, objective)
        assert evaluate(model.drift(schedule), objective) <= budget
        assert schedule.sum() <= 1.01 * cost[values <= budget].min() + 1e-9


@given(FRACTION, st.floats(0, 5), st.integers(0, 2**32 - 1))
def test_spending_last_is_best_for_the_terminal_drift(kappa, total, seed):
    """The proof in driftlaw.theory.schedules, against random schedules of the same total."""
    model = DriftModel(1.0, kappa, 4.0)
    best = model.drift(least(model, total, 5, "terminal"))[-1]
    other = np.minimum(np.random.default_rng(seed).dirichlet(np.full(5, 0.5)) * total, 1)
    assert best <= model.drift(other)[-1] * (1 + 1e-12)


def test_more_fresh_data_never_hurts_and_a_schedule_never_costs_more_than_a_constant():
    model = DriftModel(1.0, 0.5)
    for objective in OBJECTIVES:
        values = [
            float(evaluate(model.drift(least(model, f, 12, objective)), objective)) for f in (0, 0.5, 1, 2, 4, 12)
        ]
        assert (np.diff(values) <= 1e-9).all()
        alpha = constant_within(model, 9.0, 12, objective)
        assert evaluate(model.drift(np.full(12, alpha)), objective) == pytest.approx(9.0, rel=1e-9)
        assert fewest(model, 9.0, 12, objective).sum() <= 12 * alpha


def test_infeasible_budgets():
    model = DriftModel(1.0, 0.5)
    for objective in OBJECTIVES:
        assert smallest_budget(model, 5, objective) == pytest.approx(1.0)
        assert fewest(model, 0.999, 5, objective) is None
        assert fewest(model, 1.0, 5, objective) is not None
        assert math.isnan(constant_within(model, 0.999, 5, objective))
    assert math.isnan(model.constant(0.5))


def test_fluctuation_bounds_the_quantile_of_simulated_drift():
    """Quantile of D_n over 40,000 recursions; the bound holds for every n and is met at kappa = 0 (2 %: 10 sd)."""
    rng, r = np.random.default_rng(3), 6
    for kappa in (0.0, 0.5):
        f, direction = np.zeros((40_000, r)), np.eye(r)[0]
        model, alphas = DriftModel(1.0, kappa), np.full(8, 0.2)
        for n in range(8):
            delta = math.sqrt(kappa) * direction + math.sqrt((1 - kappa) / r) * rng.standard_normal(f.shape)
            f = 0.8 * f + delta
            drift = (f**2).sum(1)
            assert drift.mean() == pytest.approx(model.drift(alphas)[n], rel=0.02)
            ratio = np.quantile(drift, 0.9) / drift.mean()
            assert ratio <= fluctuation(kappa, r, 0.9) * 1.02
            if kappa == 0:
                assert ratio == pytest.approx(fluctuation(0.0, r, 0.9), rel=0.02)


def test_noncentral_quantile_has_the_right_moments_and_limits():
    assert float(noncentral_quantile(0.9, 7, 0.0)) == pytest.approx(stats.chi2.ppf(0.9, 7))
    assert float(noncentral_quantile(0.95, 10, 5.0)) == pytest.approx(stats.ncx2.ppf(0.95, 10, 5.0), rel=0.01)
    assert fluctuation(1.0, 3, 0.99) == 1.0
    assert fluctuation(0.2, math.inf, 0.99) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: DriftModel(-1.0, 0.0),
        lambda: DriftModel(0.0, 0.0),
        lambda: DriftModel(math.nan, 0.0),
        lambda: DriftModel(1.0, 1.1),
        lambda: DriftModel(1.0, math.nan),
        lambda: DriftModel(1.0, 0.0, -1.0),
        lambda: DriftModel(1.0, 0.0).constant(0.0),
        lambda: DriftModel(1.0, 0.0).drift([0.2, 1.2]),
        lambda: fewest(DriftModel(1.0, 0.0), -1.0, 3, "max"),
        lambda: fewest(DriftModel(1.0, 0.0), 1.0, 0, "max"),
        lambda: fewest(DriftModel(1.0, 0.0), 1.0, 3, "median"),
        lambda: least(DriftModel(1.0, 0.0), math.nan, 3, "max"),
        lambda: least(DriftModel(1.0, 0.0), -1.0, 3, "max"),
        lambda: SampleNoise(0, 10),
        lambda: fluctuation(0.0, 0.5, 0.9),
        lambda: fluctuation(0.0, 5, 1.0),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(InputError):
        call()
