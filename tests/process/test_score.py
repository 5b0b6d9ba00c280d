import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process import score as sc
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.seeding import generator
from oracles import mixture_twin

LAW = GaussianMixture([0.3, 0.7], [[-1.0, 0.5, 0.0], [1.0, 0.0, 2.0]], [[0.3, 0.5, 1.0], [1.0, 0.2, 0.4]])
MATRIX = torch.tensor([[0.5, 1.0, -2.0], [0.0, -0.3, 0.7], [1.5, 0.2, 1.1]], dtype=torch.float64)


def points(n=7):
    return torch.randn(n, 3, generator=generator(0, "points"), dtype=torch.float64)


def linear(x, t):
    return x @ MATRIX.T


class Opaque:
    """The law's score without its divergence."""

    def score(self, x, t):
        return LAW.score(x, t)


@pytest.mark.parametrize("t", [0.0, 0.3, "per sample"])
def test_every_parametrisation_converts_there_and_back(t):
    x = points()
    t = torch.linspace(0.05, 2, len(x), dtype=torch.float64) if t == "per sample" else t
    s = LAW.score(x, t)
    times = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)
    a, sigma = torch.exp(-times / 2), (-torch.expm1(-times)).sqrt()
    denoised, noise = sc.denoised_from_score(s, x, t), -sigma * s
    torch.testing.assert_close(a * denoised + sigma * noise, x)  # E[a X_0 + sigma Z | x] = x
    v = a * noise - sigma * denoised
    if isinstance(t, float) and t == 0:
        for inverse in (lambda: sc.score_from_noise(noise, t), lambda: sc.score_from_v(v, x, t)):
            with pytest.raises(InputError, match="t > 0"):
                inverse()
        with pytest.raises(InputError, match="t > 0"):
            sc.score_from_denoised(denoised, x, t)
        return
    for again in (sc.score_from_noise(noise, t), sc.score_from_denoised(denoised, x, t), sc.score_from_v(v, x, t)):
        torch.testing.assert_close(again, s, rtol=1e-10, atol=1e-10)


def test_denoised_is_the_posterior_mean():
    """E[X_0 | X_t = x] by quadrature over X_0 in one dimension."""
    law, t, x = (
        GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.2, 0.5]),
        0.6,
        torch.tensor([[0.3]], dtype=torch.float64),
    )
    x0 = torch.linspace(-8, 8, 20_001, dtype=torch.float64).unsqueeze(1)
    log_w = law.log_prob(x0) - (x - math.exp(-t / 2) * x0).squeeze(1) ** 2 / (2 * -math.expm1(-t))
    expected = (log_w.softmax(0) @ x0).item()
    assert sc.denoised_from_score(law.score(x, t), x, t).item() == pytest.approx(expected, rel=1e-9)


def test_images_and_per_sample_times_broadcast():
    eps = torch.randn(5, 1, 4, 4, generator=generator(1))
    t = torch.linspace(0.1, 1, 5)
    s = sc.score_from_noise(eps, t)
    assert s.shape == eps.shape
    assert s.dtype == torch.float32
    torch.testing.assert_close(s[3], sc.score_from_noise(eps[3:4], float(t[3]))[0])


def test_as_score_takes_scores_and_callables():
    assert sc.as_score(LAW) is LAW
    x = points()
    seen = []
    field = sc.as_score(lambda x, t: (seen.append(t), 2 * x)[1])
    assert torch.equal(field.score(x, 0.5), 2 * x)
    assert seen[0].dtype == x.dtype
    assert seen[0].shape == ()
    with pytest.raises(InputError, match="not a score"):
        sc.as_score(3.0)
    with pytest.raises(InputError, match="shape"):
        sc.as_score(lambda x, t: x[:, :1]).score(x, 0.1)


def test_exact_divergence_by_automatic_differentiation():
    x, t = points(), torch.linspace(0, 2, 7, dtype=torch.float64)
    torch.testing.assert_close(sc.divergence_of(Opaque(), x, t), LAW.divergence(x, t), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(sc.divergence_of(Opaque(), x, t), LAW.divergence(x, t), rtol=1e-9, atol=1e-9)
    assert torch.equal(sc.divergence_of(LAW, x, t), LAW.divergence(x, t))


def test_divergence_of_an_image_field():
    images = torch.randn(3, 2, 4, 4, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(sc.divergence_of(lambda x, t: x**3, images, 0.1), 3 * images.square().sum((1, 2, 3)))


def test_hutchinson_is_unbiased_with_the_stated_variance():
    x = points(20_000)
    got = sc.divergence_of(linear, x, 0.1, probes=1, generator=generator(3))
    symmetric = (MATRIX + MATRIX.T) / 2
    variance = 2 * float(symmetric.square().sum() - symmetric.diagonal().square().sum())
    z = (got.mean() - MATRIX.trace()) / math.sqrt(variance / len(x))
    assert abs(z) < 4.5  # false failure 7e-6
    assert float(got.var()) == pytest.approx(variance, rel=0.1)  # relative standard error of the variance is below 0.02
    four = sc.divergence_of(linear, x, 0.1, probes=4, generator=generator(3))
    assert float(four.var()) == pytest.approx(variance / 4, rel=0.1)
    assert torch.equal(got, sc.divergence_of(linear, x, 0.1, probes=1, generator=generator(3)))


def test_constant_fields_have_no_divergence_but_hidden_gradients_are_refused():
    x = points()
    assert torch.equal(sc.divergence_of(lambda x, t: torch.ones_like(x), x, 0.1), torch.zeros(7).double())
    with pytest.raises(InputError, match="no gradient"):
        sc.divergence_of(torch.no_grad()(linear), x, 0.1)
    with pytest.raises(InputError, match="probes"):
        sc.divergence_of(linear, x, 0.1, probes=-1)


@pytest.mark.parametrize("base", [LAW, Opaque()], ids=["exact", "opaque"])
def test_perturbed_adds_scores_and_divergences(base):
    x, t = points(), torch.linspace(0.1, 2, 7, dtype=torch.float64)
    hat = sc.Perturbed(base, linear)
    torch.testing.assert_close(hat.score(x, t), LAW.score(x, t) + linear(x, t))
    expected = LAW.divergence(x, t) + MATRIX.trace()
    torch.testing.assert_close(hat.divergence(x, t), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sc.divergence_of(hat, x, t), expected, rtol=1e-9, atol=1e-9)


def test_perturbed_uses_the_errors_own_divergence_and_probes_only_what_needs_them():
    def error(x, t):
        return x.detach() * 2

    error.divergence = lambda x, t: torch.full((len(x),), 6.0, dtype=x.dtype)
    x = points()
    got = sc.divergence_of(sc.Perturbed(LAW, error), x, 0.2, probes=1, generator=generator(4))
    torch.testing.assert_close(got, LAW.divergence(x, 0.2) + 6)
    nested = sc.Perturbed(sc.Perturbed(LAW, error), LAW)
    torch.testing.assert_close(nested.divergence(x, 0.2), 2 * LAW.divergence(x, 0.2) + 6)


def test_perturbed_score_against_the_twin_of_a_tilted_law():
    """s + c is the score of the law tilted by exp(c.x): log density differs by c.x and the Laplacian does not."""
    x, c = points(), torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)

    def tilted(x):
        return mixture_twin.log_prob(LAW.weights, LAW.means, LAW.component_covariances, x, 0.2) + x @ c

    score, divergence = mixture_twin.score_and_divergence(tilted, x)
    hat = sc.Perturbed(LAW, lambda x, t: c.expand_as(x))
    torch.testing.assert_close(hat.score(x, 0.2), score, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(hat.divergence(x, 0.2), divergence, rtol=1e-9, atol=1e-9)


def test_checked_names_the_first_bad_row_and_its_time():
    def broken(x, t):
        return torch.where((x > 1) & (t > 0.4).reshape(-1, 1), math.nan, x)

    x = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    t = torch.tensor([0.1, 0.9, 0.5, 0.75])
    with pytest.raises(InputError, match=r"2 of 4 rows; the first is row 2 at t = 0\.5"):
        sc.checked(broken).score(x, t)
    assert torch.equal(sc.checked(broken).score(x[:2], t[:2]), x[:2])
    with pytest.raises(InputError, match="the point itself is not finite"):
        sc.checked(lambda x, t: x).score(torch.full((1, 2), math.inf), 0.1)
    with pytest.raises(InputError, match="divergence"):
        sc.checked(lambda x, t: x.abs().sqrt()).divergence(torch.zeros(2, 2), 0.1)
    assert sc.checked(sc.checked(LAW)).inner is LAW
    x = points()
    torch.testing.assert_close(sc.checked(LAW).divergence(x, 0.1), LAW.divergence(x, 0.1))
