"""The adaptive policy: its prediction against simulation, its limits, and that it keeps what it promises."""

import math

import numpy as np
import pytest

from driftlaw.errors import ConfigError, InputError
from driftlaw.estimate import Estimate
from driftlaw.theory import Adaptive, build, parse
from driftlaw.theory.adaptive import AdaptivePolicy, Observed, next_drift
from driftlaw.theory.planning import DriftModel, fluctuation

UNKNOWN = Estimate.refused("alignment", "one generation")


def exact(x):
    return Estimate.exact(x, "given")


def seen(drift, J=1.0, kappa=0.0, fractions=(1.0, 0.0), dimension=math.inf):
    return Observed(tuple(fractions), exact(drift), exact(J), exact(kappa), dimension)


@pytest.mark.parametrize("kappa", [0.0, 0.4, 1.0])
def test_without_errors_it_is_the_recursion(kappa):
    """One more step of the planned drift, from the drift that the fractions so far lead to."""
    model, fractions = DriftModel(2.0, kappa), (1.0, 0.3, 0.0, 0.6)
    now = seen(float(model.drift(fractions)[-1]), 2.0, kappa, fractions)
    for alpha in (0.0, 0.25, 1.0):
        expected = model.drift([*fractions, alpha])[-1]
        assert float(next_drift(alpha, now, 0.9)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_quantile_of_the_next_drift_against_simulation(kappa):
    """60,000 innovations added to a fixed f_n: the 95 % quantile within 3 % (Patnaik's error; 12 sd of the noise)."""
    rng, r, alpha, fractions = np.random.default_rng(0), 8, 0.3, (1.0, 0.2)
    (_, A), (_, S) = DriftModel(1.0, kappa).states(fractions)
    aligned, other = np.eye(r)[:2]
    f = math.sqrt(kappa) * S * aligned + math.sqrt((1 - kappa) * A) * other
    delta = math.sqrt(kappa) * aligned + math.sqrt((1 - kappa) / r) * rng.standard_normal((60_000, r))
    drift = (((1 - alpha) * f + delta) ** 2).sum(1)
    now = seen(float(f @ f), 1.0, kappa, fractions, r)
    assert float(next_drift(alpha, now, 0.95)) == pytest.approx(np.quantile(drift, 0.95), rel=0.03)


def test_fresh_data_only_when_needed_and_all_of_it_when_hopeless():
    policy = Adaptive(9.0, 10)
    assert policy.next_alpha(None) == 1.0
    assert policy.next_alpha(seen(1.0)) == 0.0
    alphas = [policy.next_alpha(seen(d)) for d in (6.0, 9.0, 20.0, 80.0)]
    assert alphas == sorted(alphas)
    assert 0 == alphas[0] < alphas[1] < alphas[3] < 1
    assert policy.next_alpha(seen(1.0, J=9.5)) == 1.0  # even fresh data alone are above the budget
    refused = Estimate.refused("drift", "no rows")
    assert policy.next_alpha(Observed((1.0,), refused, exact(1.0), exact(0.0), 5.0)) == 1.0


def test_what_is_less_known_costs_more():
    policy = Adaptive(9.0, 10)
    sharp = Observed((1.0, 0.0, 0.0), exact(6.0), exact(1.0), exact(0.3), 10.0)
    alpha = policy.next_alpha(sharp)
    for field in ("drift", "innovation", "alignment"):
        value = getattr(sharp, field).value
        vague = Estimate.normal(value, 0.3 * value + 0.1, 50, "measured")
        assert policy.next_alpha(Observed(**{**vars(sharp), field: vague})) > alpha
    assert policy.next_alpha(Observed(**{**vars(sharp), "alignment": UNKNOWN})) > alpha
    assert policy.next_alpha(Observed(**{**vars(sharp), "dimension": 3.0})) > alpha
    assert Adaptive(9.0, 10, 0.99).next_alpha(sharp) > alpha
    assert Adaptive(9.0, 100).next_alpha(sharp) > alpha


@pytest.mark.parametrize("kappa", [0.0, 0.6])
def test_all_generations_keep_the_budget_together(kappa):
    """160 recursions of 10 generations with known D, J, kappa at confidence 0.8: 0.8 - 4 sd of them or more keep it."""
    rng, r, H, B = np.random.default_rng(5), 10, 10, 6.0
    policy, kept, spent = Adaptive(B, H, 0.8), 0, 0.0
    for _ in range(160):
        f, fractions, largest = np.zeros(r), [], 0.0
        for n in range(H):
            alpha = policy.next_alpha(seen(float(f @ f), 1.0, kappa, fractions, r) if n else None)
            fractions.append(alpha)
            noise = math.sqrt((1 - kappa) / r) * rng.standard_normal(r)
            f = (1 - alpha) * f + math.sqrt(kappa) * np.eye(r)[0] + noise
            largest = max(largest, float(f @ f))
        kept, spent = kept + (largest <= B), spent + sum(fractions[1:])
    assert kept / 160 >= 0.8 - 4 * math.sqrt(0.16 / 160)
    constant = DriftModel(1.0, kappa).constant(B / fluctuation(kappa, r, 1 - 0.2 / H))
    assert 0 < spent / 160 < 9 * constant  # a constant fraction with the same confidence takes more


def test_configuration():
    policy = Adaptive(0.2, 12, 0.95)
    assert build(policy.config()) == policy
    assert parse("adaptive:0.2,12") == Adaptive(0.2, 12)
    assert isinstance(policy, AdaptivePolicy)
    now = Observed((1.0, 0.5), exact(1.0), Estimate.normal(2.0, 0.1, 9, "m"), UNKNOWN, math.inf)
    again = Observed.from_json(now.to_json())
    assert (again.fractions, again.innovation, again.dimension) == (now.fractions, now.innovation, math.inf)
    with pytest.raises(InputError, match="records"):
        policy.rows(3)


@pytest.mark.parametrize(
    "arguments", [(0.0, 5), (-1.0, 5), (math.nan, 5), (1.0, 0), (1.0, 2.5), (1.0, 5, 0.0), (1.0, 5, 1.0), ("x", 5)]
)
def test_bad_input_is_named(arguments):
    with pytest.raises(ConfigError):
        Adaptive(*arguments)
