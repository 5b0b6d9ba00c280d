import dataclasses
import math

import pytest
import torch
from scipy import stats

from driftlaw.errors import InputError
from driftlaw.process import approximate, matched_blocks, native
from driftlaw.process.approximate import (
    CLIP,
    FEWEST,
    SUSPECTS,
    ApproximateKernelMixture,
    checked,
    clipped_limit,
)
from driftlaw.process.draws import LawValues
from driftlaw.process.kernel_sum import KernelMixture
from driftlaw.process.law import Diffused, ExactLaw
from driftlaw.process.matched_blocks import Parts, Query, partition
from driftlaw.process.mixture import GaussianMixture
from driftlaw.process.schedule import alpha, variance
from driftlaw.seeding import generator
from oracles import kernel_twin


@pytest.fixture
def eager(monkeypatch):
    """The approximation is used wherever it is accurate enough, however expensive."""
    monkeypatch.setattr(approximate, "WORTH", math.inf)


def mixture(n, d, h=0.6, weighted=False, dtype=torch.float32, seed=0):
    law = GaussianMixture([0.5, 0.5], 4 * torch.eye(2, d) if d > 1 else [[-4.0], [4.0]], 0.36)
    w = torch.rand(n, generator=generator(seed, "w"), dtype=torch.float64) + 0.1 if weighted else None
    return KernelMixture(law.sample(n, generator(seed, "c")).to(dtype), h, None if w is None else w / w.sum())


def points(law, t, n, seed=1):
    """Draws of the law at its times, in the dtype of its centres."""
    a = alpha(torch.as_tensor(t, dtype=torch.float64)).reshape(-1, 1)
    noise = torch.randn(n, law.dim, generator=generator(seed, "z"), dtype=torch.float64)
    x = a * law.sample(n, generator(seed, "x"), torch.float64) + (1 - a * a).sqrt() * noise
    return x.to(law.centres.dtype)


def relative(value, exact):
    return float((value.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def query(law, x, t):
    t = torch.as_tensor(t, dtype=torch.float64)
    return Query(x, t, alpha(t), alpha(t).square() * law.bandwidth**2 + variance(t))


@pytest.mark.parametrize("path", ["default", "no compiler"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 3, 16])
@pytest.mark.parametrize("t", [0.05, 2.0, "per point"])
def test_within_tolerance_of_the_float64_twin(monkeypatch, eager, path, weighted, dtype, d, t):
    if path == "no compiler":
        monkeypatch.setattr(native, "available", lambda: False)
    law = mixture(1200, d, weighted=weighted, dtype=dtype)
    t = torch.linspace(0.02, 3, 700, dtype=torch.float64) if t == "per point" else t
    x = points(law, t, 700)
    tolerance = (
        0.5 if d == 16 else 0.05
    )  # far from the error, so that the decision does not hang on which points are checked
    view = ApproximateKernelMixture(law, tolerance=tolerance, blocks=24, check=200)
    got = view.evaluate(x, t)
    log_density, score, divergence, _ = kernel_twin.evaluate(law.centres, law.bandwidth, x, t, law.weights)
    assert view.last_error.decision == "approximate"
    assert view.last_error.n == 200
    assert view.fallbacks == 0
    errors = [getattr(view.last_error, name) for name in got._fields]
    assert all(error.value <= error.limit <= tolerance for error in errors)
    assert view.last_error.largest == max(error.limit for error in errors)
    assert relative(got.score, score) <= tolerance
    assert relative(got.divergence, divergence) <= tolerance
    assert float((got.log_density - log_density).square().mean().sqrt()) <= tolerance
    assert all(z.dtype == dtype for z in got)
    for name, value in zip(("log_prob", "score", "divergence"), got, strict=True):
        assert torch.equal(getattr(view, name)(x, t), value)


@pytest.mark.parametrize("path", ["default", "no compiler"])
@pytest.mark.parametrize("t", [0.05, "per point"])
def test_everything_heavy_is_the_exact_sum(monkeypatch, path, t):
    """With tau -> 0 every part is summed exactly: only rounding is left, also of the divergence."""
    if path == "no compiler":
        monkeypatch.setattr(native, "available", lambda: False)
    law = mixture(500, 3, weighted=True)
    t = torch.linspace(0.02, 3, 90, dtype=torch.float64) if t == "per point" else t
    x = points(law, t, 90)
    got, suspect = Parts(law, 16).evaluate(query(law, x, t), 1e-300)
    assert bool((suspect < math.log(1e-250)).all())
    for value, exact in zip(got, kernel_twin.evaluate(law.centres, 0.6, x, t, law.weights), strict=False):
        torch.testing.assert_close(value, exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("t", [0.3, "per point"])
def test_everything_matched_is_the_gaussian_mixture_with_the_moments_of_the_blocks(monkeypatch, t):
    monkeypatch.setattr(matched_blocks, "STRAYS", 0.0)
    law = mixture(400, 4, weighted=True, dtype=torch.float64)
    parts = Parts(law, 7)
    w, m, c = [], [], []
    for rows in parts.rows:
        p = law.weights[rows]
        w.append(p.sum())
        p = p / p.sum()
        m.append(p @ law.centres[rows])
        y = law.centres[rows] - m[-1]
        c.append(torch.einsum("k,ki,kj->ij", p, y, y) + law.bandwidth**2 * torch.eye(4, dtype=torch.float64))
    twin = GaussianMixture(torch.stack(w), torch.stack(m), torch.stack(c))
    t = torch.linspace(0.02, 3, 50, dtype=torch.float64) if t == "per point" else t
    x = points(law, t, 50)
    got, _ = parts.evaluate(query(law, x, t), math.inf)
    torch.testing.assert_close(got.score, twin.score(x, t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got.divergence, twin.divergence(x, t), rtol=1e-9, atol=1e-9)
    each = torch.as_tensor(t, dtype=torch.float64).expand(50).tolist()
    log_density = torch.cat([twin.diffuse(u).log_prob(x[i : i + 1]) for i, u in enumerate(each)])
    torch.testing.assert_close(got.log_density, log_density, rtol=1e-9, atol=1e-9)


def test_polynomials_and_eigenbases_agree(monkeypatch):
    """One common time by matrix products equals the same time given point by point."""
    law = mixture(600, 5)
    parts, x = Parts(law, 12), points(law, 0.4, 80)
    for cut in (math.inf, 0.03):
        together, s1 = parts.evaluate(query(law, x, 0.4), cut)
        apart, s2 = parts.evaluate(query(law, x, torch.full((80,), 0.4)), cut)
        torch.testing.assert_close(s1, s2, rtol=1e-3, atol=1e-3)
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)


def test_blocks_of_memory_do_not_change_results(monkeypatch):
    law = mixture(600, 3)
    parts, x = Parts(law, 12), points(law, 0.4, 200)
    whole = parts.evaluate(query(law, x, 0.4), 0.03)[0]
    monkeypatch.setattr(matched_blocks, "BLOCK_BYTES", 0)
    for one, other in zip(whole, parts.evaluate(query(law, x, 0.4), 0.03)[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_errors_fall_with_the_cut():
    law = mixture(3000, 3, dtype=torch.float64)
    parts, x = Parts(law, 48), points(law, 0.05, 150)
    score = kernel_twin.evaluate(law.centres, 0.6, x, 0.05)[1]
    errors = [relative(parts.evaluate(query(law, x, 0.05), cut)[0].score, score) for cut in (math.inf, 0.03, 1e-3)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_an_absurd_tolerance_gives_the_exact_sum_bit_for_bit(eager):
    law = mixture(1200, 3)
    x = points(law, 0.1, 700)
    view = ApproximateKernelMixture(law, tolerance=1e-14, blocks=24, check=200)
    for one, other in zip(view.evaluate(x, 0.1), law.evaluate(x, 0.1), strict=True):
        assert torch.equal(one, other)
    assert view.fallbacks == 1
    assert view.last_error.decision.startswith("exact: the error")
    assert view.last_error.score.limit >= view.last_error.score.value > 1e-14


def test_a_pilot_that_was_too_hopeful_is_caught_by_the_check(monkeypatch, eager):
    law = mixture(1200, 3)
    x = points(law, 0.1, 700)
    view = ApproximateKernelMixture(law, tolerance=1e-3, blocks=24, check=200)
    monkeypatch.setattr(view, "_choose", lambda pilot, n: (math.inf, None))
    for one, other in zip(view.evaluate(x, 0.1), law.evaluate(x, 0.1), strict=True):
        assert torch.equal(one, other)
    assert view.fallbacks == 1
    assert (view.last_error.n, view.last_error.cut) == (200, math.inf)
    assert view.last_error.decision.startswith("exact: the error")


def test_points_that_are_not_finite_never_pass_the_check(eager):
    law = mixture(1200, 3)
    x = points(law, 1.0, 700)
    x[7] = math.nan
    view = ApproximateKernelMixture(law, tolerance=0.1, blocks=24, check=200)
    got, exact = view.evaluate(x, 1.0), law.evaluate(x, 1.0)
    assert view.fallbacks == 1
    assert torch.equal(got.score.nan_to_num(7.0), exact.score.nan_to_num(7.0))


def kl(p, q):
    return sum(u * math.log(u / z) for u, z in ((p, q), (1 - p, 1 - q)) if u > 0)


@pytest.mark.parametrize("delta", [0.05, 0.005, 1e-6])
@pytest.mark.parametrize("n", [20, 200, 5000])
def test_the_limit_of_a_mean_solves_its_equation(n, delta):
    assert clipped_limit(0.0, n, delta) == pytest.approx(1 - delta ** (1 / n), rel=1e-9)
    assert clipped_limit(1.0, n, delta) == 1.0
    for mean in (0.003, 0.2, 0.9):
        limit = clipped_limit(mean, n, delta)
        assert mean < limit < 1
        assert n * kl(mean, limit) == pytest.approx(math.log(1 / delta), rel=1e-6)
    assert math.isnan(clipped_limit(math.nan, n, delta))


@pytest.mark.parametrize("population", [500, 20_000])
@pytest.mark.parametrize("n", [FEWEST, 200, 400])
@pytest.mark.parametrize("bad", [1, 5, 20, 100, 250])
def test_the_limit_covers_whatever_share_of_a_population_is_as_bad_as_can_be(population, n, bad):
    """Exact coverage, from the hypergeometric law of the bad points in the sample; nothing is random here."""
    seen = stats.hypergeom(population, bad, n)
    misses = [k for k in range(min(n, bad) + 1) if clipped_limit(k / n, n, 1 / 300) < bad / population]
    assert float(seen.pmf(misses).sum() if misses else 0.0) <= 1 / 300


@pytest.mark.parametrize(("d", "t"), [(2, 0.05), (2, 2.0), (10, 0.05), (10, 2.0), (16, 0.05), (16, 2.0), (16, "mixed")])
def test_the_limits_cover_the_errors_of_real_calls(d, t):
    """1000 checks of 200 of 4000 points, at tolerances of once and a tenth of the true error (most errors clipped).

    A limit fails with probability <= 1/300: more than 17 times in 1000 with P < 1e-6 for all 42.
    """
    law, count = mixture(1200, d, weighted=d == 16), 4000
    t = torch.linspace(0.02, 3, count, dtype=torch.float64) if t == "mixed" else t
    x = points(law, t, count)
    got, _ = Parts(law, 24).evaluate(query(law, x, t), 0.03)
    truth = law.evaluate(x, t)
    scale = float(got.score.square().sum(1).mean().sqrt())
    size = float(got.divergence.square().mean().sqrt())
    errors = (got.score - truth.score).norm(dim=1) / scale, (got.log_density - truth.log_density).abs()
    for error in (*errors, (got.divergence - truth.divergence).abs() / size):
        true = float(error.square().mean().sqrt())
        for tolerance in (true, true / 10):
            clipped = float(error.clamp(max=CLIP * tolerance).square().mean().sqrt())
            draws = [error[torch.randperm(count, generator=generator(s))[:200]] for s in range(1000)]
            limits = [checked(e, tolerance, 200).limit for e in draws]
            assert sum(limit < clipped for limit in limits) <= 17
            if tolerance == true:  # and it is not useless
                assert sorted(limits)[500] < 2.5 * true


@pytest.mark.parametrize(("d", "t"), [(2, 0.05), (10, 0.05), (16, 0.05), (16, "mixed")])
def test_a_call_whose_error_is_too_large_is_answered_exactly(monkeypatch, eager, d, t):
    """The promise of whole calls, also if the pilot does its worst: any tau may be tried and the check decides.

    60 calls at a tolerance below the true clipped error of the score, each accepted with probability <= 0.01: more
    than 6 of them with P < 3e-6 in each of the four cases.
    """
    law = mixture(1200, d)
    t = torch.linspace(0.02, 3, 700, dtype=torch.float64) if t == "mixed" else t
    x = points(law, t, 700)
    got, suspect = Parts(law, 24).evaluate(query(law, x, t), 0.03)
    truth = law.evaluate(x, t)
    error = (got.score - truth.score).norm(dim=1) / got.score.square().sum(1).mean().sqrt()
    error[suspect.topk(math.ceil(SUSPECTS * 700)).indices] = 0.0
    # the 128 points of the pilot count as exact: the rest alone must be worse than the tolerance
    tolerance = 0.8 * float(error.square().mean().sqrt())
    for _ in range(50):
        clipped = float(error.clamp(max=CLIP * tolerance).square().mean().sqrt())
        if clipped > 1.2 * tolerance:
            break
        tolerance *= 0.95
    assert clipped > 1.2 * tolerance
    accepted = 0
    view = ApproximateKernelMixture(law, tolerance=tolerance, blocks=24, check=200)
    monkeypatch.setattr(view, "_choose", lambda pilot, n: (0.03, None))
    for seed in range(60):
        view.seed = seed
        view.score(x, t)
        accepted += view.last_error.decision == "approximate"
    assert accepted <= 6
    assert view.fallbacks == 60 - accepted


def test_suspects_and_pilot_take_the_exact_sum_and_count_as_exact(monkeypatch, eager):
    monkeypatch.setattr(approximate, "SUSPECTS", 0.4)
    law = mixture(1200, 3)
    x = points(law, 0.1, 700)
    view = ApproximateKernelMixture(law, tolerance=0.05, blocks=24, check=200)
    got, exact = view.evaluate(x, 0.1), law.evaluate(x, 0.1)
    report, q = view.last_error, query(law, x, 0.1)
    rough, suspect = view._parts.evaluate(q, report.cut)
    rows = torch.zeros(700, dtype=torch.bool)
    rows[suspect.topk(280).indices] = rows[view._random_order(q)[: approximate.PILOT]] = True
    for one, other in zip(got, exact, strict=True):
        torch.testing.assert_close(one[rows], other[rows], rtol=1e-5, atol=1e-5)
    assert not torch.equal(got.log_density[~rows], exact.log_density[~rows])
    # what is checked are others, and the limit is for all points
    rest = view._random_order(q)[approximate.PILOT :]
    check = rest[~rows[rest]][:200]
    errors = (rough.log_density - exact.log_density)[check].abs()
    share = 1 - float(rows.double().mean())
    assert report.log_density == pytest.approx(checked(errors, 0.05, 200, share), rel=1e-3)


@pytest.mark.skipif(not native.available(), reason="no compiled path")
def test_pairs_that_lose_too_much_are_summed_in_float64(monkeypatch):
    monkeypatch.setattr(matched_blocks, "COMPILED_LIMIT", -1.0)
    law = mixture(500, 3)
    x = points(law, 0.3, 50)
    got, _ = Parts(law, 8).evaluate(query(law, x, 0.3), 1e-300)
    for value, exact in zip(got, kernel_twin.evaluate(law.centres, 0.6, x, 0.3), strict=False):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-10)


def test_errors_are_clipped_scaled_and_shared():
    errors = torch.tensor([0.0, 0.01, 1.0, 0.02])  # tolerance 0.01, k = 5: 1.0 counts as 0.05
    one, other = checked(errors, 0.01, 400), checked(errors, 0.01, 400, share=0.25)
    mean = (0.01**2 + 0.05**2 + 0.02**2) / 4
    assert one.value == pytest.approx(math.sqrt(mean), rel=1e-6)
    assert one.limit == pytest.approx(0.05 * math.sqrt(clipped_limit(mean / 0.05**2, 400, 1 / 300)), rel=1e-6)
    assert (other.value, other.limit) == pytest.approx((one.value / 2, one.limit / 2))
    assert checked(torch.zeros(9), 1.0, FEWEST).limit <= 1.0 < checked(torch.zeros(9), 1.0, FEWEST - 1).limit
    assert math.isnan(checked(torch.tensor([0.0, math.nan]), 1.0, 400).limit)
    # nothing is clipped: a limit of the plain root mean square, as good as its sample allows
    plain = torch.rand(400, generator=generator(0))
    limit = checked(plain, 1.0, 400)
    assert limit.value == pytest.approx(float(plain.square().mean().sqrt()), rel=1e-6)
    assert limit.value < limit.limit < 1.8 * limit.value


@pytest.mark.parametrize("broken", ["score", "log_density", "divergence"])
def test_each_of_the_three_errors_is_enough_for_a_fallback(monkeypatch, eager, broken):
    law = mixture(1200, 3)
    x = points(law, 2.0, 700)
    view = ApproximateKernelMixture(law, tolerance=0.02, blocks=24, check=200)
    view.score(x, 2.0)
    assert view.last_error.decision == "approximate"
    evaluate = Parts.evaluate

    def off(self, query, cut):
        values, suspect = evaluate(self, query, cut)
        return values._replace(**{broken: getattr(values, broken) + 0.2}), suspect

    monkeypatch.setattr(Parts, "evaluate", off)
    view.score(x, 2.0)
    assert view.fallbacks == 1
    assert all((getattr(view.last_error, name).limit > 0.02) == (name == broken) for name in LawValues._fields)


def test_deterministic_and_the_check_depends_on_seed_and_points(eager):
    law = mixture(1200, 3)
    x = points(law, 0.5, 700)
    views = [ApproximateKernelMixture(law, tolerance=0.02, blocks=24, check=200, seed=s) for s in (0, 0, 1)]
    values = [view.evaluate(x, 0.5) for view in views]
    views[0].evaluate(x + 1, 0.5)
    again = views[0].evaluate(x, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(values[0], again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(values[0], values[1], strict=True))
    assert views[0].last_error == views[1].last_error
    rows = [view._random_order(query(law, x, 0.5)) for view in views]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], views[0]._random_order(query(law, x + 1, 0.5)))
    assert not torch.equal(rows[0], views[0]._random_order(query(law, x, 0.6)))
    assert torch.equal(rows[0].sort().values, torch.arange(700))


@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_fewer_centres_than_blocks(eager, n):
    """Blocks of single centres are Gaussians of the kernel's covariance: exact."""
    law = mixture(n, 3)
    x = points(law, 0.3, 2000)
    view = ApproximateKernelMixture(law, tolerance=1e-3)
    got = view.evaluate(x, 0.3)
    assert view.last_error.decision == "approximate"
    for value, exact in zip(got, kernel_twin.evaluate(law.centres, 0.6, x, 0.3), strict=False):
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)


def test_equal_centres_and_no_bandwidth(eager):
    law = KernelMixture(torch.ones(50, 2), 0.0)
    x = points(law, 0.3, 2000)
    view = ApproximateKernelMixture(law)
    torch.testing.assert_close(view.score(x, 0.3), law.score(x, 0.3), rtol=1e-4, atol=1e-4)
    assert len(partition(law.centres.double(), torch.full((50,), 0.02, dtype=torch.float64), 8)) == 1


def test_partition_covers_every_row_once_and_finds_clusters():
    c = mixture(301, 3).centres.double()
    w = torch.full((301,), 1 / 301, dtype=torch.float64)
    for blocks in (1, 2, 13, 400):
        rows = partition(c, w, blocks)
        assert torch.equal(torch.cat(rows).sort().values, torch.arange(301))
        assert len(rows) == min(blocks, 301)
    first, second = partition(c, w, 2)
    assert len({bool(z) for z in c[first, 0] > 2}) == len({bool(z) for z in c[second, 0] > 2}) == 1


def test_when_the_exact_sum_is_taken(monkeypatch):
    law = mixture(1200, 3)
    view = ApproximateKernelMixture(law, tolerance=0.05, blocks=19, check=200)
    x = points(law, 1.0, 700)
    view.score(x[:656], 1.0)
    assert view.last_error.decision == "exact: few points"
    grad = x.clone().requires_grad_()
    view.log_prob(grad, 1.0).sum().backward()
    assert view.last_error.decision == "exact: gradients are recorded"
    torch.testing.assert_close(grad.grad, law.score(x, 1.0), rtol=1e-3, atol=1e-3)
    assert torch.equal(view.score(x, 1.0), law.score(x, 1.0))
    assert view.last_error.decision == "exact: the approximation would not be cheaper"
    assert view.last_error.n == approximate.PILOT
    small = ApproximateKernelMixture(law, tolerance=0.05, blocks=24, check=200)
    assert torch.equal(small.score(x, 1.0), law.score(x, 1.0))
    assert small.last_error.decision == "exact: the approximation would not be cheaper"
    assert small.last_error.n == 0
    assert view.fallbacks == 0
    monkeypatch.setattr(approximate, "WORTH", math.inf)
    assert not torch.equal(view.score(x, 1.0), law.score(x, 1.0))
    assert view.last_error.decision == "approximate"


def test_large_late_calls_are_predicted_to_gain_and_small_early_ones_are_not():
    law = mixture(20_000, 3)
    view = ApproximateKernelMixture(law, blocks=32)
    late, early = (query(law, points(law, t, 32), t) for t in (4.0, 0.02))
    assert view._choose(late, 20_000)[1] is None
    assert view._choose(late, 300)[1].decision.endswith("cheaper")
    assert view._choose(early, 300)[1].decision.startswith("exact")


def test_it_is_an_exact_law():
    law = mixture(300, 3)
    view = ApproximateKernelMixture(law)
    assert isinstance(view, ExactLaw)
    assert torch.equal(view.sample(5, generator(0)), law.sample(5, generator(0)))
    assert view.second_moment() == law.second_moment()
    assert (view.dim, len(view)) == (3, 300)
    assert repr(view) == "ApproximateKernelMixture(KernelMixture(N=300, d=3, bandwidth=0.6), tolerance=0.001)"
    x = points(law, 0.3, 10)
    assert torch.equal(Diffused(view, 0.1).score(x, 0.2), law.score(x, 0.1 + 0.2))
    assert view.last_error is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.last_error.value = 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "tolerance 0"),
        ({"tolerance": math.nan}, "tolerance nan"),
        ({"tolerance": math.inf}, "tolerance inf"),
        ({"blocks": 0}, "0 blocks"),
        ({"check": approximate.FEWEST - 1}, "check on"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        ApproximateKernelMixture(mixture(10, 2), **arguments)


def test_bad_input():
    with pytest.raises(InputError, match="is not a KernelMixture"):
        ApproximateKernelMixture(GaussianMixture.paper())
    view = ApproximateKernelMixture(KernelMixture(torch.eye(4, 2), 0.0))
    with pytest.raises(InputError, match="no density at t = 0"):
        view.score(torch.zeros(2000, 2), 0.0)
    with pytest.raises(InputError, match="float16"):
        view.score(torch.zeros(2000, 2).half(), 0.1)
    with pytest.raises(InputError, match="2 dimensions"):
        view.score(torch.zeros(2000, 3), 0.1)
    with pytest.raises(InputError, match="not an OU time"):
        view.score(torch.zeros(2000, 2), -1.0)
    with pytest.raises(InputError, match="do not fit"):
        view.score(torch.zeros(2000, 2), torch.ones(7))
