"""Effective alpha, alignment, innovations and forecasts: closed forms, coverage, what must not be claimed."""

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.auditing.coordinates import Coordinates
from driftlaw.auditing.dynamics import Dynamics
from driftlaw.auditing.forecast import forecast
from driftlaw.errors import InputError
from oracles.drift_recursion import Moments, line, measured, systematic_drift

HUGE = 10**9


def exact(alpha, generations=8, k=4, energy=0.04):
    """A line without noise: aligned innovations, billions of rows."""
    direction = np.eye(k)[0] * np.sqrt(energy)
    c, sets = np.zeros(k), []
    for _ in range(generations):
        c = (1 - alpha) * c + direction
        sets.append(Moments(HUGE, c.copy(), np.eye(k)))
    return Coordinates.of(Moments(HUGE, np.zeros(k), np.eye(k)), sets)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.75])
def test_closed_form_of_the_aligned_recursion(alpha):
    c, energy, N = exact(alpha), 0.04, 8
    drift = [c.drift(i).value for i in range(1, N + 1)]
    assert drift == pytest.approx([systematic_drift(energy, alpha, n) for n in range(1, N + 1)], rel=1e-5)
    d = Dynamics.fit(c)
    assert d.alpha.value == pytest.approx(alpha, abs=0.003)
    assert d.alpha.high - d.alpha.low < 0.02
    innovation, alignment = d.summary()
    assert innovation.value == pytest.approx(energy, rel=0.03)
    assert alignment.value == pytest.approx(1.0, abs=1e-3)
    ahead = forecast(d, 3)
    truth = [systematic_drift(energy, alpha, N + h) for h in (1, 2, 3)]
    assert [e.value for e in ahead] == pytest.approx(truth, rel=0.02)
    assert [d.innovation(c, i).value for i in range(N)] == pytest.approx([energy] * N, rel=0.06)


def test_gram_matrix_reconstructs_the_drift_at_every_rho():
    """G(rho) Gamma(rho) G(rho)^T is the measured drift whatever rho is: an identity, not an estimate."""
    from driftlaw.theory.accumulation import accumulated_drift
    from driftlaw.theory.propagator import propagator
    from driftlaw.theory.refresh import FixedFraction

    rng = np.random.default_rng(3)
    real, sets = measured(rng, line(rng, generations=5, k=6, alpha=0.4, kappa=0.5, energy=0.1), HUGE, HUGE)
    c = Coordinates.of(real, sets)
    d = Dynamics.fit(c)
    for alpha in (0.05, 0.4, 0.9):
        gram = d.gram(1 - alpha)
        found = accumulated_drift(propagator(FixedFraction(alpha), 5), gram)
        assert found == pytest.approx([c.drift(i).value for i in range(1, 6)], rel=1e-6)


def test_given_alpha_is_used_and_a_contradiction_is_said():
    c = exact(0.3)
    right = Dynamics.fit(c, alpha=0.3)
    assert (right.alpha.value, right.alpha.warnings) == (0.3, ())
    assert forecast(right, 1)[0].value == pytest.approx(systematic_drift(0.04, 0.3, 9), rel=1e-4)
    assert "effective alpha of 0.3" in Dynamics.fit(c, alpha=0.9).alpha.warnings[0]


def test_a_forecast_below_the_floor_is_refused():
    """Honest draws as a line of 4: medians collapsed to 1e-18; a median that is given lies above what rows resolve."""
    said = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 9])
        real, line = rng.standard_normal((2000, 4)), [rng.standard_normal((500, 4)) for _ in range(4)]
        for e in dl.audit(dl.sketch(real, "identity", fit_on=rng.standard_normal((99, 4))), line).forecast(2):
            said += e.is_refused and "below the floor" in e.warnings[0]
            assert e.is_refused or e.value > 0.006  # 4 (1/2000 + 1/500) (chi2 quantile / 4 - 1) = 0.0137
    assert said >= 10


@pytest.mark.parametrize("generations", [1, 2, 3])
def test_few_generations_do_not_identify_alpha(generations):
    d = Dynamics.fit(exact(0.3, generations))
    assert d.alpha.is_refused
    assert "not identifiable" in d.alpha.warnings[0]
    innovation, alignment = d.summary()
    assert alignment.is_refused
    assert innovation.is_refused == (generations > 1)
    ahead = forecast(d, 2)
    assert ahead[0].is_refused == (generations < 3)
    if generations > 2:
        truth = systematic_drift(0.04, 0.3, generations + 1)
        assert ahead[0].low <= truth <= ahead[0].high
        assert "not identifiable" in ahead[0].warnings[0]


def test_no_drift_identifies_nothing():
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(20):
        real, sets = measured(rng, np.zeros((8, 10)), 2000, 8000)
        refused += Dynamics.fit(Coordinates.of(real, sets)).alpha.is_refused
    # pure noise is identified now and then by chance; P(fewer than 10 of 20) < 1e-4 at a rate of 0.8
    assert refused >= 10


def test_a_line_that_did_not_start_from_real_data():
    """The first innovation is left out, and alpha is still found from the rest."""
    c = exact(0.3, 14)
    later = Coordinates.of(
        Moments(HUGE, np.zeros(4), np.eye(4)), [Moments(HUGE, m[::-1].copy(), np.eye(4)) for m in c.means[5:]]
    )
    d = Dynamics.fit(later, from_real=False)
    assert d.alpha.value == pytest.approx(0.3, abs=0.01)
    assert d.innovation(later, 0).is_refused
    wrong = Dynamics.fit(later, from_real=True)
    assert (wrong.misfit, wrong.misfit_at) == ("outlier generation", 1)
    assert wrong.alpha.is_refused
    assert forecast(d, 1)[0].value == pytest.approx(systematic_drift(0.04, 0.3, 15), rel=0.02)


def test_shared_rows_change_what_counts_as_error():
    """Training on the audited rows makes their sampling error an innovation; only the right setting recovers alpha."""
    rng, alpha, n, k = np.random.default_rng(6), 0.3, 500, 40
    found = {True: [], False: []}
    for _ in range(12):
        c, sets = np.zeros(k), []
        for _ in range(10):
            c = c + rng.standard_normal(k) * 0.005  # a learner with little noise of its own
            seen = c + rng.standard_normal(k) / np.sqrt(n)
            sets.append(Moments(n, seen, np.eye(k)))
            c = (1 - alpha) * seen
        coordinates = Coordinates.of(Moments(10**7, np.zeros(k), np.eye(k)), sets)
        for shared in found:
            found[shared].append(Dynamics.fit(coordinates, shared_rows=shared))
    # truth is in each 95 % interval; P(3 or more misses of 12) < 0.02 at 95 %, < 1e-4 at the measured 99 %
    inside = sum(f.alpha.is_refused or f.alpha.low <= alpha <= f.alpha.high for f in found[True])
    assert inside >= 10
    best = {shared: np.mean([1 - f.rho[f.best] for f in fits]) for shared, fits in found.items()}
    assert abs(best[True] - alpha) < abs(best[False] - alpha)


def coverage(repetitions, seed):
    rng, alpha = np.random.default_rng(seed), 0.4
    hits = dict.fromkeys(("identified", "alpha", "kappa", "forecast"), 0)
    for r in range(repetitions):
        kappa = (0.0, 0.5, 0.9)[r % 3]
        c = line(rng, generations=9, k=20, alpha=alpha, kappa=kappa, energy=0.05)
        real, sets = measured(rng, c[:8], 5000, 20_000)
        d = Dynamics.fit(Coordinates.of(real, sets))
        ahead = forecast(d, 1)[0]
        hits["forecast"] += ahead.low <= c[8] @ c[8] <= ahead.high
        if not d.alpha.is_refused:
            hits["identified"] += 1
            hits["alpha"] += d.alpha.low <= alpha <= d.alpha.high
            aligned = d.summary()[1]
            hits["kappa"] += aligned.is_refused or aligned.low - 0.01 <= kappa <= aligned.high + 0.01
    return hits


def test_intervals_cover_small():
    hits = coverage(30, 11)
    # at 95 % coverage, P(fewer than 22 of 30) < 1e-5
    assert hits["forecast"] >= 22
    assert hits["identified"] >= 12
    assert hits["alpha"] >= hits["identified"] - 6


@pytest.mark.heavy
def test_intervals_cover():
    hits = coverage(240, 12)
    # at 95 % coverage P(under 207 of 240 = 86 %) < 1e-6
    assert hits["forecast"] >= 207
    assert hits["identified"] >= 150
    assert hits["alpha"] >= 0.86 * hits["identified"]
    assert hits["kappa"] >= 0.86 * hits["identified"]


def test_round_trip_and_bad_horizon():
    d = Dynamics.fit(exact(0.2))
    again = Dynamics.from_json(d.to_json())
    assert forecast(again, 4) == forecast(d, 4)
    with pytest.raises(InputError, match="horizon is 0"):
        forecast(d, 0)


def test_gram_matrix_is_unbiased_by_sampling():
    """Without drift every product of innovations is 0 on average, also through the shared real mean."""
    rng = np.random.default_rng(13)
    grams = []
    for _ in range(150):
        real, sets = measured(rng, np.zeros((3, 10)), 4000, 2000)
        grams.append(Dynamics.fit(Coordinates.of(real, sets), alpha=0.5).gram(0.5))
    # 9 entries at 4.5 standard errors: a false failure has probability below 1e-4
    assert (abs(np.mean(grams, 0)) < 4.5 * np.std(grams, 0) / np.sqrt(150)).all()


def bent(rng, cause, generations=10, k=10, n=5000):
    """A line that the stationary recursion does not describe."""
    d = rng.standard_normal(k)
    d *= 0.2 / np.linalg.norm(d)
    c, sets = np.zeros(k), []
    for i in range(generations):
        alpha = 0.1 if cause == "alpha changed" and i >= generations // 2 else 0.4
        growth = {"growing bias": 1.3, "shrinking bias": 0.7}.get(cause, 1.0)
        e = rng.standard_normal(k) * (1.2 if cause == "outlier generation" and i == 4 else 0.02) / np.sqrt(k)
        c = (1 - alpha) * c + d * growth**i + e
        sets.append(Moments(n, c + rng.standard_normal(k) / np.sqrt(n), np.eye(k)))
    return Coordinates.of(Moments(20_000, rng.standard_normal(k) / np.sqrt(20_000), np.eye(k)), sets)


@pytest.mark.parametrize("cause", ["growing bias", "shrinking bias", "alpha changed", "outlier generation"])
def test_a_recursion_that_does_not_fit_is_named(cause):
    """3 lines each; alpha and forecast are refused where the model is wrong, and the likeliest cause is said."""
    rng = np.random.default_rng(31)
    found = [Dynamics.fit(bent(rng, cause)) for _ in range(3)]
    assert sum(d.misfit == cause for d in found) >= 2, [d.misfit for d in found]
    for d in found:
        if d.misfit:
            assert d.alpha.is_refused
            assert "does not fit" in d.alpha.warnings[0]
            assert forecast(d, 1)[0].is_refused


def test_a_recursion_that_fits_is_left_alone():
    """None of 720 simulated lines was called a misfit; 6 are drawn here."""
    rng = np.random.default_rng(32)
    for kappa in (0.0, 0.5, 0.95):
        for _ in range(2):
            real, sets = measured(
                rng, line(rng, generations=8, k=10, alpha=0.3, kappa=kappa, energy=0.05), 5000, 20_000
            )
            assert not Dynamics.fit(Coordinates.of(real, sets)).misfit
