"""Drift and its test: unbiased, covered, with the right level, the same in every metric."""

import numpy as np
import pytest
from scipy import stats

from driftlaw.auditing.coordinates import Coordinates, Whitening
from driftlaw.auditing.significance import holm, null_range, p_value
from driftlaw.errors import InputError
from oracles.drift_recursion import Moments


def pair(rng, n0, n, k, shift=0.0, draw=None):
    draw = draw or (lambda m: rng.standard_normal((m, k)))
    return Moments.of(draw(n0)), Moments.of(draw(n) + shift)


def test_hotelling_by_hand():
    """At equal sizes T^2 equals the pooled one; the law is F(k, 2n - k - 1) up to the estimated degrees of freedom."""
    rng = np.random.default_rng(0)
    n, k = 80, 4
    x, y = rng.standard_normal((n, k)), rng.standard_normal((n, k)) + 0.15
    pooled = (np.cov(x.T) + np.cov(y.T)) / 2
    gap = y.mean(0) - x.mean(0)
    t2 = n / 2 * gap @ np.linalg.inv(pooled) @ gap
    by_hand = stats.f.sf(t2 * (2 * n - k - 1) / ((2 * n - 2) * k), k, 2 * n - k - 1)
    found = p_value(Coordinates.of(Moments.of(x), [Moments.of(y)]), 1)
    assert found.value == pytest.approx(by_hand, rel=0.02)
    assert found.method.startswith("Hotelling")


@pytest.mark.parametrize(("n0", "n", "wide"), [(400, 12, 3.0), (12, 400, 3.0), (50, 40, 0.2)])
def test_one_feature_is_welchs_test(n0, n, wide):
    """The degrees of freedom with one feature are Welch's: pooled ones (n_0 + n - 2) would be off by a factor of 36."""
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((n0, 1)), wide * rng.standard_normal((n, 1)) + 0.7
    found = p_value(Coordinates.of(Moments.of(x), [Moments.of(y)]), 1)
    assert found.value == pytest.approx(stats.ttest_ind(x[:, 0], y[:, 0], equal_var=False).pvalue, rel=1e-9)


def test_degrees_of_freedom_of_krishnamoorthy_and_yu():
    """Their statistic and degrees of freedom written out in the features themselves: no whitening, an explicit sum."""
    rng = np.random.default_rng(11)
    k, x = 3, rng.standard_normal((300, 3))
    y = rng.standard_normal((30, 3)) @ np.diag([4.0, 1.0, 0.3]) + 0.4
    parts = [(len(z), np.cov(z.T) / len(z)) for z in (x, y)]
    total = parts[0][1] + parts[1][1]
    bottom = 0.0
    for rows, part in parts:
        h = part @ np.linalg.inv(total)
        bottom += (np.trace(h @ h) + np.trace(h) ** 2) / (rows - 1)
    nu = (k + k**2) / bottom
    assert nu < 60  # far from the pooled 328
    gap = y.mean(0) - x.mean(0)
    t2 = gap @ np.linalg.solve(total, gap)
    by_hand = stats.f.sf(t2 * (nu - k + 1) / (nu * k), k, nu - k + 1)
    found = p_value(Coordinates.of(Moments.of(x), [Moments.of(y)]), 1)
    assert found.value == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(("n0", "n", "k"), [(400, 400, 3), (300, 200, 60)])
def test_an_invertible_map_of_the_features_changes_nothing(n0, n, k):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((n0, k)), rng.standard_normal((n, k)) + 0.05
    A = rng.standard_normal((k, k)) + 3 * np.eye(k)
    one = Coordinates.of(Moments.of(x), [Moments.of(y)])
    two = Coordinates.of(Moments.of(x @ A + 5), [Moments.of(y @ A + 5)])
    assert one.drift(1).value == pytest.approx(two.drift(1).value, rel=1e-7)
    assert one.drift(1).low == pytest.approx(two.drift(1).low, rel=1e-6)
    assert p_value(one, 1).value == pytest.approx(p_value(two, 1).value, rel=1e-6)


@pytest.mark.parametrize(
    ("n0", "n", "k", "kind"),
    [(200, 200, 2, "Hotelling"), (200, 200, 40, "Hotelling"), (800, 120, 60, "squared"), (100, 100, 150, "squared")],
)
def test_level_under_no_drift(n0, n, k, kind):
    """5 % of real samples are called drifted. P(outside 2..26 of 240) < 1e-4 at 5 %."""
    rng = np.random.default_rng(k)
    rejected = []
    for _ in range(240):
        a, b = pair(rng, n0, n, k)
        c = Coordinates.of(a, [b])
        p = p_value(c, 1)
        rejected.append(p.value < 0.05)
        assert p.method.startswith(kind)
    assert 2 <= sum(rejected) <= 26


def test_level_with_different_covariances():
    """A generation with a wider spread and few rows, the same mean: a pooled test would reject far too often."""
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(240):
        real, wide = Moments.of(rng.standard_normal((3000, 3))), Moments.of(3 * rng.standard_normal((60, 3)))
        rejected += p_value(Coordinates.of(real, [wide]), 1).value < 0.05
    assert 2 <= rejected <= 26


def test_features_fitted_on_the_same_rows_do_no_harm():
    """Whitened on the very real rows, more features than rows: their covariance is the identity by construction."""
    rng = np.random.default_rng(3)
    rejected, drifts = 0, []
    for _ in range(120):
        x, y = rng.standard_normal((60, 90)), rng.standard_normal((60, 90))
        _, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
        W = v[:-1].T / s[:-1] * np.sqrt(59)
        c = Coordinates.of(Moments.of((x - x.mean(0)) @ W), [Moments.of((y - x.mean(0)) @ W)])
        rejected += p_value(c, 1).value < 0.05
        drifts.append(c.drift(1).value)
    assert abs(np.mean(drifts)) < 4 * np.std(drifts) / np.sqrt(120)
    assert rejected <= 18  # P(more at 5 %) < 1e-4


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_drift_is_unbiased_and_covered(shift):
    rng, k, reps = np.random.default_rng(4), 10, 300
    truth, values, covered = k * shift**2, [], 0
    for _ in range(reps):
        a, b = pair(rng, 200, 150, k, shift)
        d = Coordinates.of(a, [b]).drift(1)
        values.append(d.value)
        covered += d.low <= truth <= d.high
    # 4 standard errors: a false failure has probability 6e-5; at 95 %, P(fewer than 267 of 300) < 1e-4
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(reps)
    assert covered >= 267


def test_null_range_holds_real_rows():
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        a, b = pair(rng, 400, 200, 8)
        c = Coordinates.of(a, [b])
        _, low, high = null_range(c, 1)
        inside += low <= c.drift(1).value <= high
    assert inside >= 267


def few_rows(seed=12):
    """40 real rows of 30 correlated features (nothing is inverted), two unlike generations, a holdout."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((30, 30))
    sets = [rng.standard_normal((40, 30)), rng.standard_normal((50, 30)), rng.standard_normal((25, 30)) @ mix]
    return [*map(Moments.of, sets), Moments.of(rng.standard_normal((60, 30)) @ mix.T)]


def test_real_covariances_do_not_enter_the_null_of_the_diagonal_metric():
    """Features fitted on the real rows make their covariance the identity; only the real variances may be used."""
    real, first, second, held = few_rows()
    bare = Moments(real.n, real.mean, np.diag(np.diag(real.covariance)))
    for holdout in (None, held):
        one, two = (Coordinates.of(r, [first, second], holdout=holdout) for r in (real, bare))
        assert one.whitening.diagonal
        for i in (1, 2):
            assert p_value(one, i) == p_value(two, i)
            assert null_range(one, i) == null_range(two, i)


@pytest.mark.parametrize("with_holdout", [False, True])
def test_null_moments_of_the_diagonal_metric_by_hand(with_holdout):
    """Real rows' noise is that of the holdout, else of the very generation tested, also beside an unlike first one."""
    real, first, second, held = few_rows()
    A = np.diag((real.n - 3) / (real.n - 1) / np.diag(real.covariance))

    def product(a, b):
        """tr(A C A C'), less the sampling error of one matrix where both are the same."""
        value = np.trace(A @ a.covariance @ A @ b.covariance)
        if a is not b:
            return value
        m, trace = a.n - 1, np.trace(A @ a.covariance)
        return max(m**2 / ((m - 1) * (m + 2)) * (value - trace**2 / m), trace**2 / 30)

    c = Coordinates.of(real, [first, second], holdout=held if with_holdout else None)
    for i, generation in enumerate((first, second), start=1):
        stands = held if with_holdout else generation
        mean = np.trace(A @ stands.covariance) / real.n + np.trace(A @ generation.covariance) / generation.n
        square = product(stands, stands) / real.n**2 + product(generation, generation) / generation.n**2
        square += 2 * product(stands, generation) / (real.n * generation.n)
        gap = generation.mean - real.mean
        by_hand = stats.chi2.sf(gap @ A @ gap * mean / square, mean**2 / square)
        assert p_value(c, i).value == pytest.approx(by_hand, rel=1e-9)
    # the error of the drift itself: one matrix that stands for both sets is corrected in the mixed term as well
    assert c.trace_product(0, 1) == pytest.approx(product(held if with_holdout else first, first), rel=1e-9)


def test_holm_against_its_definition():
    rng = np.random.default_rng(6)
    for _ in range(50):
        p = rng.random(6) ** 2
        order = np.argsort(p)
        expected, running = np.empty(6), 0.0
        for rank, j in enumerate(order):
            running = max(running, min(1.0, (6 - rank) * p[j]))
            expected[j] = running
        assert holm(p) == pytest.approx(expected)
    assert holm([0.2]).tolist() == [0.2]


def test_few_rows_are_never_inverted_silently():
    rng = np.random.default_rng(7)
    w = Whitening.of(Moments.of(rng.standard_normal((30, 40))))
    assert w.diagonal
    assert "no covariance can be inverted" in w.warnings[0]
    close = Whitening.of(Moments.of(rng.standard_normal((200, 40))))
    assert not close.diagonal
    assert "the whitening adds 11% of error" in close.warnings[0]
    assert Whitening.of(Moments.of(rng.standard_normal((4000, 40)))).warnings == ()


def test_constant_and_dependent_columns():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((500, 4))
    x[:, 2], x[:, 3] = 1.0, x[:, 0] + x[:, 1]
    w = Whitening.of(Moments.of(x))
    assert w.rank == 2
    assert any("1 of 4 features are constant" in text for text in w.warnings)
    assert any("rank 2 of 3" in text for text in w.warnings)
    y = x.copy()
    assert not w.leaves_the_range(Moments.of(y))
    y[:, 2] += 0.1
    assert w.leaves_the_range(Moments.of(y))
    y = x.copy()
    y[:, 3] += rng.standard_normal(500)
    assert w.leaves_the_range(Moments.of(y))
    with pytest.raises(InputError, match="no feature of the real data varies"):
        Whitening.of(Moments.of(np.ones((10, 3))))
