import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.law import Diffused, ExactLaw, MixtureLaw, diffuse, evaluate
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.seeding import generator

A = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [3.0, 0.0]], [[0.3, 0.5], [1.0, 0.2]])
CENTRES = torch.randn(12, 2, generator=generator(0, "centres"), dtype=torch.float64) * 2
B = KernelMixture(CENTRES, 0.6)
BLEND = MixtureLaw([0.25, 0.75], [A, B])
#: the same law written as one Gaussian mixture
FLAT = GaussianMixture(
    torch.cat([0.25 * A.weights, torch.full((12,), 0.75 / 12, dtype=torch.float64)]),
    torch.cat([A.means, CENTRES]),
    torch.cat([A.covariances, torch.full((12, 2), 0.36, dtype=torch.float64)]),
)


class Opaque:
    """A law with the three functions and no other."""

    def sample(self, n, generator=None):
        return A.sample(n, generator)

    def log_prob(self, x, t=0.0):
        return A.log_prob(x, t)

    def score(self, x, t):
        return A.score(x, t)

    def divergence(self, x, t):
        return A.divergence(x, t)


def points(n=15):
    return 2 * torch.randn(n, 2, generator=generator(1, "points"), dtype=torch.float64)


def same_values(ours, theirs):
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.4, "per sample"])
def test_a_blend_is_the_flat_mixture(t):
    x = points()
    t = torch.linspace(0, 2, 15, dtype=torch.float64) if t == "per sample" else t
    same_values(BLEND.evaluate(x, t), FLAT.evaluate(x, t))
    same_values((BLEND.log_prob(x, t), BLEND.score(x, t), BLEND.divergence(x, t)), FLAT.evaluate(x, t))
    same_values(MixtureLaw([0.25, 0.75], [Opaque(), B]).evaluate(x, t), FLAT.evaluate(x, t))
    same_values(MixtureLaw([0.5, 0.5], [BLEND, BLEND]).evaluate(x, t), FLAT.evaluate(x, t))
    torch.testing.assert_close(BLEND.responsibilities(x, t)[:, 0], FLAT.responsibilities(x, t)[:, :2].sum(1))


def test_far_apart_in_float32():
    blend = MixtureLaw([0.5, 0.5], [GaussianMixture([1.0], [[s, 0.0]], 0.36) for s in (-12.0, 12.0)])
    flat = GaussianMixture([0.5, 0.5], [[-12.0, 0.0], [12.0, 0.0]], 0.36)
    x = torch.tensor([[0.0, 0.0], [0.01, 0.0], [-12.0, 0.1], [12.0, 0.0], [40.0, 0.0]])
    for one, two in zip(blend.evaluate(x, 0.01), flat.evaluate(x, 0.01), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_zero_weights_are_never_evaluated():
    class Broken(Opaque):
        def log_prob(self, x, t=0.0):
            raise AssertionError("evaluated")

        sample = score = divergence = log_prob

    blend = MixtureLaw([0.0, 1.0], [Broken(), A])
    x = points()
    same_values(blend.evaluate(x, 0.1), A.evaluate(x, 0.1))
    assert blend.sample(4, generator(0)).shape == (4, 2)


def test_diffused_is_the_law_later():
    x, t = points(), torch.linspace(0, 1, 15, dtype=torch.float64)
    same_values(Diffused(A, 0.3).evaluate(x, t), A.evaluate(x, t + 0.3))
    same_values(evaluate(Diffused(Opaque(), 0.3), x, t), A.evaluate(x, t + 0.3))
    same_values(BLEND.diffuse(0.3).evaluate(x, t), FLAT.evaluate(x, t + 0.3))
    same_values(evaluate(diffuse(Opaque(), 0.3), x, 0.2), A.evaluate(x, 0.5))
    assert isinstance(diffuse(Opaque(), 0.3), Diffused)
    assert Diffused(BLEND, 0.3).second_moment() == pytest.approx(FLAT.diffuse(0.3).second_moment(), rel=1e-12)
    assert BLEND.second_moment() == pytest.approx(FLAT.second_moment(), rel=1e-12)


@pytest.mark.parametrize("law", [BLEND, Diffused(BLEND, 0.4)], ids=["blend", "diffused"])
def test_moments_of_samples(law):
    n = 40_000
    flat = FLAT if law is BLEND else FLAT.diffuse(0.4)
    x = law.sample(n, generator(2)).double()
    products = torch.einsum("ni,nj->nij", x - flat.mean(), x - flat.mean())
    # 2 + 4 z-scores in each of 2 cases, bound 5: false failure below 1e-5
    for got, expected in ((x, flat.mean()), (products, flat.covariance())):
        assert ((got.mean(0) - expected) / (got.std(0) / math.sqrt(n))).abs().max() < 5
    # rows of different laws come in random order: the first half has the same mean as the second
    halves = x[: n // 2].mean(0) - x[n // 2 :].mean(0)
    assert (halves / (x.std(0) * math.sqrt(4 / n))).abs().max() < 5


@pytest.mark.parametrize("law", [BLEND, Diffused(BLEND, 0.2)], ids=["blend", "diffused"])
def test_reverse_transition_returns_to_the_law(law):
    n, t, s = 40_000, 0.9, 0.1
    flat = FLAT if law is BLEND else FLAT.diffuse(0.2)
    start = flat.diffuse(t).sample(n, generator(3), dtype=torch.float64)
    end, goal = law.reverse_transition(start, t, s, generator(4)), flat.diffuse(s)
    products = torch.einsum("ni,nj->nij", end - goal.mean(), end - goal.mean())
    cross = torch.einsum("ni,nj->nij", start - flat.diffuse(t).mean(), end - goal.mean()) * math.exp((t - s) / 2)
    # 10 z-scores in each of 2 cases, bound 5.2: false failure below 1e-5
    for got, expected in ((end, goal.mean()), (products, goal.covariance()), (cross, goal.covariance())):
        assert ((got.mean(0) - expected) / (got.std(0) / math.sqrt(n))).abs().max() < 5.2


def test_protocol():
    assert all(isinstance(law, ExactLaw) for law in (A, B, BLEND, Diffused(A, 0.1), Opaque()))
    assert BLEND.dim == Diffused(A, 0.1).dim == 2


def test_unusable_blends_are_named():
    for weights, laws in (([], []), ([1.0], [A, B]), ([0.5, 0.4], [A, B]), ([1.5, -0.5], [A, B]), ([0.0, 0.0], [A, B])):
        with pytest.raises(InputError):
            MixtureLaw(weights, laws)
    with pytest.raises(InputError, match="not an OU time"):
        Diffused(A, -0.1)
    with pytest.raises(InputError, match="no second_moment"):
        MixtureLaw([1.0], [Opaque()]).second_moment()
    with pytest.raises(InputError, match="no reverse_transition"):
        MixtureLaw([1.0], [Opaque()]).reverse_transition(points(), 0.2, 0.1)
