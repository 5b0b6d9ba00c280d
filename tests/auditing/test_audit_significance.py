"""Drift and its test: unbiased, covered, with the right level, the same in every metric."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from driftlaw.auditing.coordinates import Coordinates, Whitening
from driftlaw.auditing.evidence.pooled import mean_test, relabelling_moments
from driftlaw.auditing.evidence.rare import mid_p
from driftlaw.auditing.significance import assess, holm, null_range, p_value
from driftlaw.errors import InputError
from oracles.drift_recursion import Moments, Rows


def pair(rng, n0, n, k, shift=0.0, draw=None):
    draw = draw or (lambda m: rng.standard_normal((m, k)))
    return Moments.of(draw(n0)), Moments.of(draw(n) + shift)


def test_hotelling_by_hand():
    """Gaussian moments: T^2 with the pooled covariance and F(k, N - k - 1), exactly, at unequal sizes too."""
    rng = np.random.default_rng(0)
    n0, n, k = 160, 80, 4
    x, y = rng.standard_normal((n0, k)), rng.standard_normal((n, k)) + 0.15
    pooled = ((n0 - 1) * np.cov(x.T) + (n - 1) * np.cov(y.T)) / (n0 + n - 2)
    gap = y.mean(0) - x.mean(0)
    t2 = n0 * n / (n0 + n) * gap @ np.linalg.inv(pooled) @ gap
    N = n0 + n
    by_hand = stats.f.sf(t2 * (N - k - 1) / ((N - 2) * k), k, N - k - 1)
    found = mean_test(Moments.of(x), Moments.of(y))
    assert found.p == pytest.approx(by_hand, rel=0.01)
    assert found.method.startswith("pooled Hotelling")


@pytest.mark.parametrize(("n0", "n", "draw"), [(7, 5, "skewed"), (9, 3, "normal"), (4, 8, "counts")])
def test_moments_over_all_relabellings(n0, n, draw):
    """Mean and variance of the statistic over every relabelling, listed one by one."""
    rng = np.random.default_rng(n0)
    rows = {"skewed": rng.exponential(size=(n0 + n, 2)), "normal": rng.standard_normal((n0 + n, 3)),
            "counts": rng.integers(0, 3, (n0 + n, 2)).astype(float)}[draw]  # fmt: skip
    y, N = rows - rows.mean(0), n0 + n
    metric = np.linalg.inv(y.T @ y / N)
    values = []
    for chosen in combinations(range(N), n):
        total = y[list(chosen)].sum(0)
        values.append(total @ metric @ total / (n0 * n))
    b = np.mean(np.einsum("ij,jk,ik->i", y, metric, y) ** 2)
    k = rows.shape[1]
    mean, variance = relabelling_moments(n0, n, k, k, b)
    assert (mean, variance) == pytest.approx((np.mean(values), np.var(values)), rel=1e-9)


@pytest.mark.parametrize(("n0", "n", "wide"), [(400, 12, 3.0), (100, 400, 3.0), (50, 40, 0.2)])
def test_one_feature_with_unequal_spreads_is_never_below_welchs_test(n0, n, wide):
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((n0, 1)), wide * rng.standard_normal((n, 1)) + 0.7
    found = mean_test(Moments.of(x), Moments.of(y))
    welch, pooled = (stats.ttest_ind(x[:, 0], y[:, 0], equal_var=e).pvalue for e in (False, True))
    assert found.spreads_differ
    assert found.unequal == pytest.approx(welch, rel=1e-9)
    assert found.value == pytest.approx(max(welch, pooled), rel=0.1)


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
    assert mean_test(Moments.of(x), Moments.of(y)).unequal == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(("total", "generated", "n0", "n"), [(4, 4, 100, 100), (3, 0, 8000, 300), (7, 3, 40, 20)])
def test_mid_p_by_hand(total, generated, n0, n):
    weights = [math.comb(total, g) * math.comb(n0 + n - total, n - g) / math.comb(n0 + n, n) for g in range(total + 1)]
    seen = weights[generated]
    less, equal = (sum(w for w in weights if f(w)) for f in (lambda w: w < seen * (1 - 1e-9),
                                                           lambda w: abs(w / seen - 1) < 1e-9))  # fmt: skip
    assert mid_p(total, generated, n0, n) == pytest.approx(less + equal / 2, rel=1e-8)


def uneven(name, rng, n):
    """Rows of laws in which normal theory fails."""
    if name == "zipf":
        share = 1 / np.arange(1, 31)
        return (rng.choice(30, size=n, p=share / share.sum())[:, None] == np.arange(1, 30)).astype(float)
    if name == "rare":
        return np.column_stack([rng.random((n, 3)) < 0.01, rng.random((n, 3)) < 0.001]).astype(float)
    if name == "skewed":
        return np.exp(rng.standard_normal((n, 4)))
    return np.column_stack([np.round(rng.standard_normal((n, 2))), rng.standard_t(3, (n, 3)), rng.random(n) < 0.02])


@pytest.mark.heavy
@pytest.mark.parametrize(("n0", "n"), [(8000, 300), (300, 8000)])
@pytest.mark.parametrize("name", ["zipf", "rare", "skewed", "mixed"])
def test_level_of_rare_skewed_and_mixed_columns(name, n0, n):
    """P(more than 20 of 150) < 1e-4 at 5 %; unequal covariances from few rows gave 98 % for a Zipf column."""
    rng = np.random.default_rng(21)
    rejected = 0
    for _ in range(150):
        sets = [Rows.of(uneven(name, rng, m)) for m in (n0, n)]
        rejected += p_value(Coordinates.of(sets[0], sets[1:]), 1).value < 0.05
    assert rejected <= 20


def test_level_of_a_zipf_column():
    """The same, small: P(more than 12 of 60) < 1e-4 at 5 %."""
    rng = np.random.default_rng(22)
    rejected = 0
    for _ in range(60):
        sets = [Rows.of(uneven("zipf", rng, m)) for m in (2000, 150)]
        rejected += p_value(Coordinates.of(sets[0], sets[1:]), 1).value < 0.05
    assert rejected <= 12


@pytest.mark.parametrize("ones", [1, 2, 3])
def test_a_column_of_one_rare_value_alone_is_judged(ones):
    """One row of 300 that differs: the law of the drift has two points, and nothing divides by its variance."""
    x, y = np.zeros((300, 1)), np.zeros((300, 1))
    x[:ones] = 1.0
    found = assess(Coordinates.of(Rows.of(x), [Rows.of(y)]), 1)
    assert 0.05 < found.p.value <= 1
    assert np.isfinite(found.floor.quantile(0.05))


def test_a_new_value_is_found_by_counts():
    rng = np.random.default_rng(23)
    x, y = (np.column_stack([rng.standard_normal(m), np.zeros(m)]) for m in (8000, 300))
    y[:6, 1] = 1.0  # 6 of 300, none of 8000
    found = assess(Coordinates.of(Rows.of(x), [Rows.of(y)]), 1)
    assert found.p.value < 1e-4
    assert found.rare == (1,)
    assert "rare values" in found.flags


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
    [(200, 200, 2, "pooled"), (200, 200, 40, "pooled"), (800, 120, 60, "pooled"), (100, 100, 150, "squared")],
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
    """A generation with a wider spread and few rows, the same mean: a pooled test alone would reject far too often."""
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


def test_the_floor_is_that_of_real_rows_alone():
    """A generation ten times wider has the floor of any other; what counts as drift lies above it."""
    rng = np.random.default_rng(12)
    real, like = Rows.of(rng.standard_normal((4000, 5))), Rows.of(rng.standard_normal((500, 5)))
    wide = Rows.of(10 * rng.standard_normal((500, 5)))
    c = Coordinates.of(real, [like, wide])
    assert null_range(c, 1) == null_range(c, 2)
    found = assess(c, 2)
    assert found.p.value > 0.05
    assert found.drift.low <= 0


@pytest.mark.parametrize(("n0", "n", "wide"), [(2000, 300, 1.0), (1500, 60, 3.0), (1500, 2000, 0.5)])
def test_verdict_floor_p_and_interval_agree(n0, n, wide):
    """Drift is found only above the floor; the interval is above 0 only where drift is found."""
    rng = np.random.default_rng(13)
    found = 0
    for r in range(60):
        shift = (0.05 if wide <= 1 else 0.3) * (r % 4)
        c = Coordinates.of(Rows.of(rng.standard_normal((n0, 4))), [Rows.of(wide * rng.standard_normal((n, 4)) + shift)])
        a = assess(c, 1)
        if a.p.value < 0.05:
            found += 1
            assert a.drift.value > null_range(c, 1)[2]
        else:
            assert a.drift.low <= 0
            assert a.own_noise == (a.drift.value > null_range(c, 1)[2])
    assert found > 5


@pytest.mark.heavy
@pytest.mark.parametrize("law", ["gaussian", "lognormal", "t3", "bernoulli", "quadratic"])
def test_drift_intervals_cover_with_400_real_rows(law):
    """P(fewer than 176 of 200) < 1e-4 at 95 %; 69-87 % where the metric counted as Gaussian."""
    rng, reps, covered = np.random.default_rng(14), 200, 0
    scale = np.sqrt((np.e - 1) * np.e)
    square = lambda z: np.column_stack([z, z**2, z[:, :1] * z[:, 1:2]])  # noqa: E731
    draws = {
        "gaussian": (lambda m: rng.standard_normal((m, 3)), 0.3, 0.27),
        "lognormal": (lambda m: np.exp(rng.standard_normal((m, 2))) / scale, 0.5, 0.5),
        "t3": (lambda m: rng.standard_t(3, (m, 2)) / np.sqrt(3), 0.5, 0.5),
        "bernoulli": (lambda m: (rng.random((m, 1)) < 0.3).astype(float), None, 0.04 / 0.21),
        "quadratic": (lambda m: square(rng.standard_normal((m, 2))), None, None),
    }
    draw, shift, truth = draws[law]
    for _ in range(reps):
        x = draw(400)
        if law == "bernoulli":
            y = (rng.random((400, 1)) < 0.5).astype(float)
        elif law == "quadratic":  # variance 1.44: each square moves by .44 = .311 standard deviations
            y, truth = square(1.2 * rng.standard_normal((400, 2))), 2 * 0.44**2 / 2
        else:
            y = draw(400) + shift
        d = Coordinates.of(Rows.of(x), [Rows.of(y)]).drift(1)
        covered += d.low <= truth <= d.high
    assert covered >= 176


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
