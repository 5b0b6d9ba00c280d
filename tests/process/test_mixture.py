import math

import pytest
import torch

from driftlaw.errors import ConfigError, InputError
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.schedule import alpha, expand
from driftlaw.seeding import generator
from oracles import mixture_twin

KINDS = ["scalar", "isotropic", "diagonal", "full"]


def random_mixture(kind, k=3, d=4, seed=0):
    g = generator(seed, "mixture", kind)
    weights = torch.rand(k, generator=g, dtype=torch.float64) + 0.2
    means = 2 * torch.randn(k, d, generator=g, dtype=torch.float64)
    root = torch.randn(k, d, d, generator=g, dtype=torch.float64)
    covariances = {
        "scalar": 0.7,
        "isotropic": torch.rand(k, generator=g, dtype=torch.float64) + 0.1,
        "diagonal": torch.rand(k, d, generator=g, dtype=torch.float64) + 0.1,
        "full": root @ root.mT / d + 0.1 * torch.eye(d, dtype=torch.float64),
    }[kind]
    return GaussianMixture(weights / weights.sum(), means, covariances)


def points(law, n=12, seed=1):
    return 2 * torch.randn(n, law.dim, generator=generator(seed, "points"), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.0, 0.3, "per sample"])
def test_density_score_and_divergence_against_the_naive_twin(kind, t):
    law = random_mixture(kind)
    x = points(law)
    t = torch.rand(len(x), generator=generator(2), dtype=torch.float64) * 3 if t == "per sample" else t

    def naive(x):
        return mixture_twin.log_prob(law.weights, law.means, law.component_covariances, x, t)

    score, divergence = mixture_twin.score_and_divergence(naive, x)
    values = law.evaluate(x, t)
    for log_density, s in ((law.log_prob(x, t), law.score(x, t)), (values.log_density, values.score)):
        torch.testing.assert_close(log_density, naive(x), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(s, score, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(law.divergence(x, t), divergence, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_gradient_also_through_autograd(kind):
    law = random_mixture(kind)
    x = points(law).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x, 0.2).sum(), x)
    torch.testing.assert_close(gradient, law.score(x, 0.2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_diffused_law_is_the_law_at_that_time(kind):
    law = random_mixture(kind)
    x = points(law)
    later = law.diffuse(0.4)
    assert later.covariances.ndim == law.covariances.ndim
    for ours, theirs in zip(later.evaluate(x, 0.3), law.evaluate(x, 0.7), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_samples(kind):
    law = random_mixture(kind)
    n = 40_000
    x = law.sample(n, generator(3), dtype=torch.float64)
    # 4 + 16 z-scores and one more, bound 5.5: false failure below 1e-5 for normal z
    z = (x.mean(0) - law.mean()) / (x.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5
    products = torch.einsum("ni,nj->nij", x - law.mean(), x - law.mean())
    z = (products.mean(0) - law.covariance()) / (products.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5
    squares = x.square().sum(1)
    assert abs(float(squares.mean()) - law.second_moment()) < 5.5 * float(squares.std()) / math.sqrt(n)


def test_the_papers_mixture():
    law = GaussianMixture.paper()
    assert (len(law), law.dim) == (5, 10)
    assert law.second_moment() == pytest.approx(29.2, rel=1e-12)  # theory section 6
    assert law.diffuse(0.02).second_moment() == pytest.approx(
        29.2 * math.exp(-0.02) - 10 * math.expm1(-0.02), rel=1e-12
    )


def test_float32_is_the_rounded_float64_answer_40_sigma_away():
    law = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [24.0, 0.0]], 0.36)
    x = torch.tensor([[0.1, 0.2], [12.0, 0.0], [12.001, 0.0], [24.0, 0.3], [48.0, 0.0], [-24.0, 24.0]])
    for t in (0.0, 0.005, 4.0):
        exact = law.evaluate(x.double(), t)
        for rounded, value in zip(law.evaluate(x, t), exact, strict=True):
            assert rounded.dtype == torch.float32
            assert torch.isfinite(rounded).all()
            assert torch.equal(rounded, value.float())
    # halfway between the modes the divergence is (gap / 2 / v)^2 - d / v, a number that naive float32 sums lose
    expected = (12 / 0.36) ** 2 - 2 / 0.36
    assert float(law.divergence(x[1:2])) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_reverse_transition_returns_to_the_law(kind):
    law = random_mixture(kind)
    n, t, s = 40_000, 1.2, 0.3
    start = law.diffuse(t).sample(n, generator(4), dtype=torch.float64)
    end, goal = law.reverse_transition(start, t, s, generator(5)), law.diffuse(s)
    # 8 + 16 z-scores, bound 5.5: false failure below 1e-5
    z = (end.mean(0) - goal.mean()) / (end.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5
    products = torch.einsum("ni,nj->nij", end - goal.mean(), end - goal.mean())
    z = (products.mean(0) - goal.covariance()) / (products.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5
    # the joint law: E[X_t X_s^T] = a_{t-s} Cov(X_s) + means
    a = math.exp(-(t - s) / 2)
    cross = torch.einsum("ni,nj->nij", start - law.diffuse(t).mean(), end - goal.mean())
    z = (cross.mean(0) - a * goal.covariance()) / (cross.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5


def test_reverse_transition_over_no_time_is_the_identity():
    law = random_mixture("full")
    x = points(law)
    torch.testing.assert_close(law.reverse_transition(x, 0.5, 0.5, generator(0)), x, rtol=1e-12, atol=1e-12)
    t = torch.linspace(0.1, 2, len(x), dtype=torch.float64)
    torch.testing.assert_close(law.reverse_transition(x, t, t, generator(0)), x, rtol=1e-12, atol=1e-12)


def test_responsibilities_are_a_distribution_and_name_the_component():
    law = GaussianMixture.paper()
    r = law.responsibilities(law.means, 0.02)
    torch.testing.assert_close(r, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    far = law.responsibilities(law.means, 4.0)
    torch.testing.assert_close(far.sum(1), torch.ones(5, dtype=torch.float64))
    assert far[0].max() < 0.3


@pytest.mark.parametrize("kind", ["isotropic", "full"])
def test_blocks_of_rows_change_nothing(monkeypatch, kind):
    law = random_mixture(kind)
    x = points(law, 50)
    t = torch.linspace(0, 2, 50, dtype=torch.float64)
    whole = *law.evaluate(x, t), law.log_prob(x, t), law.score(x, t), law.responsibilities(x, t)
    monkeypatch.setattr("driftlaw.process.laws.components.PASS_BYTES", 8 * 6 * 3 * 4 * 7)
    monkeypatch.setattr("driftlaw.process.laws.components.CACHE_BYTES", 2 * 8 * 3 * 7)
    assert law._components.rows == 7
    blocks = *law.evaluate(x, t), law.log_prob(x, t), law.score(x, t), law.responsibilities(x, t)
    for one, blocked in zip(whole, blocks, strict=True):
        torch.testing.assert_close(blocked, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.7, "per sample"])
def test_matrix_products_of_isotropic_mixtures_are_the_general_sums(t):
    """Many components of few ages, as a late generation of the recursion of laws, far from the origin."""
    g = generator(7)
    ages = torch.randint(1, 5, (40,), generator=g).double()
    means = 4 * torch.randn(40, 10, generator=g, dtype=torch.float64) + 1e5
    weights = torch.rand(40, generator=g, dtype=torch.float64) + 0.1
    isotropic = GaussianMixture(weights / weights.sum(), means, 0.36 * ages)
    general = GaussianMixture(weights / weights.sum(), means, (0.36 * ages).unsqueeze(1).expand(40, 10))
    t = torch.linspace(0, 2, 40, dtype=torch.float64) if t == "per sample" else t
    x = torch.randn(40, 10, generator=g, dtype=torch.float64) + expand(alpha(t), 2) * means
    assert type(isotropic._components) is not type(general._components)
    for ours, theirs in zip(isotropic.evaluate(x, t), general.evaluate(x, t), strict=True):
        # 1e5 from the origin, a difference x - m has an error of 1e-11 in both
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(isotropic.score(x, t), general.score(x, t), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(isotropic.log_prob(x, t), general.log_prob(x, t), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_round_trip_and_equality(kind):
    law = random_mixture(kind)
    again = GaussianMixture.from_config(law.config())
    assert again == law
    assert hash(again) == hash(law)
    assert law != random_mixture(kind, seed=9)
    assert law != "gmm"


def test_sampling_is_replayable_and_fresh_without_a_generator():
    law = GaussianMixture.paper()
    assert torch.equal(law.sample(5, generator(1)), law.sample(5, generator(1)))
    assert not torch.equal(law.sample(5), law.sample(5))
    assert law.sample(0, generator(1)).shape == (0, 10)
    assert law.score(torch.zeros(0, 10), 0.1).shape == (0, 10)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([0.5, 0.4], [[0.0], [1.0]], 1.0), "sum to"),
        (([1.5, -0.5], [[0.0], [1.0]], 1.0), "weight 1"),
        (([1.0], [[0.0], [1.0]], 1.0), "2 components"),
        (([1.0], [0.0], 1.0), "means"),
        (([1.0], [[math.nan]], 1.0), "NaN"),
        (([1.0], [["a"]], 1.0), "numbers"),
        (([1.0], [[0.0]], -1.0), "positive definite"),
        (([1.0], [[0.0]], 0.0), "positive definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "positive definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
        (([1.0], [[0.0, 0.0]], [[1.0, 1.0, 1.0]]), "covariances of shape"),
    ],
)
def test_unusable_mixtures_are_named(arguments, word):
    with pytest.raises(InputError, match=word):
        GaussianMixture(*arguments)


def test_unusable_points_times_and_configurations_are_named():
    law = GaussianMixture.paper()
    for x in (torch.zeros(3, 9), torch.zeros(10), torch.zeros(3, 10, dtype=torch.float16), torch.zeros(3, 10).long()):
        with pytest.raises(InputError):
            law.score(x, 0.1)
    with pytest.raises(InputError, match="not an OU time"):
        law.score(torch.zeros(3, 10), -0.1)
    with pytest.raises(InputError, match="s <= t"):
        law.reverse_transition(torch.zeros(3, 10), 0.1, 0.2)
    with pytest.raises(ConfigError, match="Did you mean 'weights'"):
        GaussianMixture.from_config(law.config() | {"weigths": 1})
    with pytest.raises(ConfigError, match="missing means"):
        GaussianMixture.from_config({"kind": "gmm", "weights": [1.0], "covariances": 1.0})
    with pytest.raises(ConfigError, match="kind"):
        GaussianMixture.from_config(law.config() | {"kind": "kde"})
