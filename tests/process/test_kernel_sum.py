import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.native import kernel_sum as native
from driftlaw.process.laws import kernel_sum
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.seeding import generator
from oracles import kernel_twin

needs_fast = pytest.mark.skipif(kernel_sum.fast_attention() is None, reason="fused CPU attention is not available")


def centres(n, d=10, seed=0):
    law = GaussianMixture.paper() if d == 10 else GaussianMixture([0.5, 0.5], torch.eye(2, d) * 3, 0.36)
    return law.sample(n, generator(seed, "centres"))


def weights(n, seed=0):
    w = torch.rand(n, generator=generator(seed, "weights"), dtype=torch.float64) + 0.01
    return w / w.sum()


def plain_only(monkeypatch):
    monkeypatch.setattr(kernel_sum, "fast_attention", lambda device: None)


def fast_only(monkeypatch):
    monkeypatch.setattr(KernelMixture, "_plain_sums", None)


def relative(value, exact):
    """Root mean square error over root mean square value."""
    return float((value.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize("n", [1, 2, 7, 33])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [0.005, 1.0, "per sample"])
def test_float64_against_the_naive_twin_across_block_borders(monkeypatch, n, weighted, t):
    monkeypatch.setattr(kernel_sum, "POINTS", 5)
    monkeypatch.setattr(kernel_sum, "CENTRES", 8)
    c, w = centres(n).double(), weights(n) if weighted else None
    x = 3 * torch.randn(13, 10, generator=generator(1), dtype=torch.float64)
    t = torch.linspace(0.0, 3, 13, dtype=torch.float64) if t == "per sample" else t
    exact = kernel_twin.evaluate(c, 0.6, x, t, w)
    for value, expected in zip(KernelMixture(c, 0.6, w).evaluate(x, t), exact[:3], strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@needs_fast
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [2, 10, 14, 40])
def test_fast_path_float32_error(monkeypatch, weighted, d):
    """Root-mean-square score error at most 5e-6, also with a time per sample and an offset that float32 would lose."""
    n = 1500
    c = centres(n, d) + 5
    law = KernelMixture(c, 0.6, weights(n) if weighted else None)
    fast_only(monkeypatch)
    for t in (0.005, 0.02, 0.5, 4.0, torch.linspace(0.005, 4, 200, dtype=torch.float64)):
        a, z = torch.exp(-torch.as_tensor(t).reshape(-1, 1) / 2), torch.randn(200, d, generator=generator(2))
        x = (a * law.sample(200, generator(3)) + (1 - a * a).sqrt() * z).float()
        log_density, score, divergence, _ = kernel_twin.evaluate(c, 0.6, x, t, law.weights)
        got = law.evaluate(x, t)
        assert got.score.dtype == torch.float32
        assert relative(got.score, score) <= 5e-6
        assert relative(got.divergence, divergence) <= 2e-5
        assert float((got.log_density - log_density).abs().max()) <= 1e-4


@pytest.mark.parametrize("path", ["default", "plain"])
@pytest.mark.parametrize("case", ["apart", "empirical", "one", "far points"])
def test_float32_where_it_is_hard(monkeypatch, path, case):
    """Clusters 40 sigma apart, no bandwidth, one centre, far points: at most 5e-6 through the switch."""
    if path == "plain":
        plain_only(monkeypatch)
    c, h = centres(600), 0.6
    if case == "apart":
        c[:300, 0] += 24
    elif case == "empirical":
        h = 0.0
    elif case == "one":
        c = c[:1]
    law = KernelMixture(c, h)
    for t in (0.005, 0.02, 0.1, 1.0, 4.0):
        x = law.diffuse(t).sample(150, generator(4, int(1000 * t)))
        if case == "far points":
            x = x + 24
        log_density, score, divergence, _ = kernel_twin.evaluate(c, h, x, t)
        got = law.evaluate(x, t)
        assert relative(got.score, score) <= 5e-6
        assert relative(got.divergence, divergence) <= 2e-5
        torch.testing.assert_close(got.log_density.double(), log_density, rtol=1e-6, atol=2e-4)


@needs_fast
def test_the_switch_is_made_point_by_point():
    """A result does not depend on which other points are in the call, and mixed calls take both paths."""
    law = KernelMixture(centres(300), 0.0)
    x = law.diffuse(0.5).sample(40, generator(0))
    t = torch.where(torch.arange(40) % 3 == 0, 0.01, 0.5).double()
    x64, a, v = law._prepare(x, t)
    fast = law._fast_rows(x, x64, a, v)
    assert torch.equal(fast, t == 0.5)
    together = law.evaluate(x, t)
    for i in (0, 1, 39):
        for whole, alone in zip(together, law.evaluate(x[i : i + 1], t[i : i + 1]), strict=True):
            torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_score_and_divergence_through_autograd():
    c = centres(50).double()
    law = KernelMixture(c, 0.6, weights(50))
    x = torch.randn(9, 10, generator=generator(5), dtype=torch.float64).requires_grad_()
    t = torch.linspace(0.01, 2, 9, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(law.log_prob(x, t).sum(), x)
    score = law.score(x, t)
    torch.testing.assert_close(gradient, score, rtol=1e-9, atol=1e-9)
    divergence = sum(torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(10))
    torch.testing.assert_close(divergence, law.divergence(x, t), rtol=1e-8, atol=1e-8)


def test_float32_points_can_be_differentiated_too():
    law = KernelMixture(centres(50), 0.6)
    x = torch.randn(9, 10, generator=generator(5)).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x, 0.1).sum(), x)
    torch.testing.assert_close(gradient, law.score(x.detach(), 0.1), rtol=1e-4, atol=1e-4)


def test_equals_the_gaussian_mixture_of_its_kernels():
    c, w = centres(6).double(), weights(6)
    kernel, mixture = KernelMixture(c, 0.6, w), GaussianMixture(w, c, 0.36)
    x = torch.randn(20, 10, generator=generator(6), dtype=torch.float64)
    for ours, theirs in zip(kernel.evaluate(x, 0.3), mixture.evaluate(x, 0.3), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert kernel.second_moment() == pytest.approx(mixture.second_moment(), rel=1e-12)
    later = kernel.diffuse(0.4)
    for ours, theirs in zip(later.evaluate(x, 0.3), kernel.evaluate(x, 0.7), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_of_samples(weighted):
    law = KernelMixture(centres(40), 0.6, weights(40) if weighted else None)
    n = 40_000
    x = law.sample(n, generator(7)).double()
    w = torch.full((40,), 1 / 40, dtype=torch.float64) if law.weights is None else law.weights
    # 11 z-scores, bound 5.3: false failure below 2e-6
    z = (x.mean(0) - w @ law.centres.double()) / (x.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.3
    squares = x.square().sum(1)
    assert abs(float(squares.mean()) - law.second_moment()) < 5.3 * float(squares.std()) / math.sqrt(n)


@pytest.mark.parametrize("path", ["default", "plain", "compiled"])
def test_centres_are_chosen_by_their_responsibilities(monkeypatch, path):
    """Chi-square of the chosen centres of one point against the twin's responsibilities, over three blocks."""
    if path == "plain":
        plain_only(monkeypatch)
    monkeypatch.setattr(kernel_sum, "CENTRES", 8)
    c = 0.5 * torch.randn(20, 3, generator=generator(8))
    law = KernelMixture(c, 1.0, weights(20))
    if path == "compiled":
        if not native.available():
            pytest.skip(native.describe())
        monkeypatch.setattr(kernel_sum, "COMPILED_CENTRES", 1)
        monkeypatch.setattr(KernelMixture, "_plain_sums", None)
        monkeypatch.setattr(KernelMixture, "_fast_sums", None)
    n = 20_000
    x = torch.tensor([[0.3, -0.2, 0.5]]).expand(n, 3)
    x64, a, v = law._prepare(x, 0.3)
    label = law._labels(x64, a, v, law._block_log_sums(x, x64, a, v), generator(9))
    expected = n * kernel_twin.evaluate(c, 1.0, x[:1], 0.3, law.weights)[3][0]
    chi2 = float(((torch.bincount(label, minlength=20) - expected).square() / expected).sum())
    assert chi2 < 57  # chi2 with 19 degrees of freedom: P(> 57) < 2e-5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("limit", [1e9, 0.0])
def test_blocks_of_centres_are_the_same_by_every_path(monkeypatch, weighted, limit):
    """The compiled path, also where it gives every point to the plain one, and attention, against float64."""
    if not native.available():
        pytest.skip(native.describe())
    monkeypatch.setattr(kernel_sum, "CENTRES", 100)
    law = KernelMixture(centres(450), 0.6, weights(450) if weighted else None)
    x = law.diffuse(0.5).sample(30, generator(16))
    x64, a, v = law._prepare(x, 0.5)
    exact = law._block_log_sums(x.double(), x64, a, v)
    assert exact.shape == (30, 5)
    total = law.log_prob(x.double(), 0.5) + x64.square().sum(1) / (2 * v) + 5 * torch.log(2 * math.pi * v)
    torch.testing.assert_close(exact.logsumexp(1), total, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law._block_log_sums(x, x64, a, v), exact, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(kernel_sum, "COMPILED_CENTRES", 1)
    monkeypatch.setattr(kernel_sum, "COMPILED_LIMIT", limit)
    tolerance = 1e-9 if limit == 0 else 1e-4
    compiled = law._block_log_sums(x, x64, a, v)
    torch.testing.assert_close(compiled, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("h", [0.0, 0.6])
def test_bridge_of_one_centre_against_gaussian_conditioning(h):
    """X_s | X_t = x from the joint Gaussian law of (X_s, X_t): regression coefficient and residual variance."""
    law, n, t = KernelMixture(torch.tensor([[1.0, -2.0]]), h), 40_000, 0.7
    x = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    for s in (0.1, 0.4):
        at, to = (GaussianMixture([1.0], law.centres, h * h + 1e-12).diffuse(u) for u in (t, s))
        v_t, v_s, covariance = (
            float(at.covariances),
            float(to.covariances),
            math.exp(-(t - s) / 2) * float(to.covariances),
        )
        mean = to.means + covariance / v_t * (x - at.means)
        end = law.reverse_transition(x.expand(n, 2), t, s, generator(15))
        # 8 + 8 z-scores, bound 5.2: false failure below 1e-5
        assert ((end.mean(0) - mean) / math.sqrt((v_s - covariance**2 / v_t) / n)).abs().max() < 5.2
        assert (end.var(0) / (v_s - covariance**2 / v_t) - 1).abs().max() < 5.2 * math.sqrt(2 / n)


@pytest.mark.parametrize("path", ["default", "plain"])
@pytest.mark.parametrize("h", [0.0, 0.6])
def test_reverse_transition_returns_to_the_law(monkeypatch, path, h):
    if path == "plain":
        plain_only(monkeypatch)
    monkeypatch.setattr(kernel_sum, "CENTRES", 16)
    law = KernelMixture(centres(50, d=2) / 3, h, weights(50))
    n, t = 20_000, torch.linspace(0.3, 0.5, 20_000, dtype=torch.float64)
    a = torch.exp(-t / 2).unsqueeze(1)
    start = law.sample(n, generator(10), dtype=torch.float64)
    start = a * start + (1 - a * a).sqrt() * torch.randn(n, 2, generator=generator(11), dtype=torch.float64)
    start = start if path == "plain" else start.float()
    for s in (0.0, 0.1):
        end = law.reverse_transition(start, t, s, generator(12)).double()
        goal = GaussianMixture(law.weights, law.centres, h * h + 1e-12).diffuse(s)
        products = torch.einsum("ni,nj->nij", end - goal.mean(), end - goal.mean())
        cross = torch.einsum("ni,nj->nij", start - a * math.exp(s / 2) * goal.mean(), end - goal.mean())
        cross = cross / (a.unsqueeze(1) * math.exp(s / 2))
        # 2 + 4 + 4 z-scores in each of 8 cases, bound 5.7: false failure below 1e-6
        for got, expected in ((end, goal.mean()), (products, goal.covariance()), (cross, goal.covariance())):
            assert ((got.mean(0) - expected) / (got.std(0) / math.sqrt(n))).abs().max() < 5.7


def test_the_empirical_law_returns_to_its_own_rows():
    law = KernelMixture(centres(30), 0.0)
    x = law.diffuse(1.0).sample(100, generator(13))
    end = law.reverse_transition(x, 1.0, 0.0, generator(14))
    assert float(torch.cdist(end.double(), law.centres.double()).min(dim=1).values.max()) < 1e-5


def test_empty_calls():
    law = KernelMixture(centres(30), 0.6)
    assert law.sample(0, generator(0)).shape == law.score(torch.zeros(0, 10), 0.1).shape == (0, 10)
    assert law.evaluate(torch.zeros(0, 10, dtype=torch.float64), 0.1).log_density.shape == (0,)
    assert law.reverse_transition(torch.zeros(0, 10), 0.2, 0.1, generator(0)).shape == (0, 10)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((torch.zeros(0, 2), 1.0), "N >= 1"),
        ((torch.zeros(3), 1.0), "N >= 1"),
        ((torch.zeros(3, 2, dtype=torch.float16), 1.0), "dtype"),
        ((torch.zeros(3, 2).long(), 1.0), "dtype"),
        ((torch.tensor([[0.0], [math.nan], [math.inf]]), 1.0), "2 of 3 .* row 1"),
        ((torch.zeros(3, 2), -1.0), "bandwidth"),
        ((torch.zeros(3, 2), math.nan), "bandwidth"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([1.0, 0.0])), "weight 1"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([0.0, 0.0])), "weight 0"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([0.3, 0.3])), "sum to"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([1.0])), "2 components"),
    ],
)
def test_unusable_laws_are_named(arguments, word):
    with pytest.raises(InputError, match=word):
        KernelMixture(*arguments)


def test_unusable_calls_are_named():
    law = KernelMixture(torch.zeros(3, 2), 0.0)
    with pytest.raises(InputError, match="bandwidth 0"):
        law.score(torch.zeros(1, 2), 0.0)
    with pytest.raises(InputError, match="bandwidth 0"):
        law.score(torch.zeros(2, 2), torch.tensor([0.1, 0.0]))
    with pytest.raises(InputError, match="2 dimensions"):
        law.score(torch.zeros(1, 3), 0.1)
    with pytest.raises(InputError, match="points on meta for centres on cpu"):
        law.score(torch.zeros(1, 2, device="meta"), 0.1)
    with pytest.raises(InputError, match="float16"):
        law.score(torch.zeros(1, 2, dtype=torch.float16), 0.1)
    with pytest.raises(InputError, match="not an OU time"):
        law.score(torch.zeros(1, 2), -0.1)
    with pytest.raises(InputError, match="s <= t"):
        law.reverse_transition(torch.zeros(1, 2), 0.1, 0.2)
