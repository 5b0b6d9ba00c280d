"""From network to score: limits, identities, noise laws."""

import math

import pytest
import torch
from scipy import stats

from driftlaw.errors import InputError
from driftlaw.learn.denoiser.preconditioning import NoiseLaw, denoised, learned_score, noised, root_mean_square
from driftlaw.process.schedule import alpha, noise_ratio, sigma


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def zero(u, lam):
    return torch.zeros_like(u)


def wavy(u, lam):
    return torch.sin(3 * u) + lam[:, None].cos()


X, SD = rows(6, 3, 0), 0.7


def test_without_noise_the_denoiser_is_the_identity():
    for t, error in ((1e-6, 4e-3), (1e-12, 4e-6)):
        assert float((denoised(wavy, X, t, SD) - X).abs().max()) < error
    assert float((denoised(wavy, X, 1e-2, SD) - X).abs().max()) > 1e-2


@pytest.mark.parametrize("t", [1e-3, 0.3, 5.0])
def test_the_zero_network_is_exact_for_a_centred_gaussian(t):
    a, s = float(alpha(t)), float(sigma(t))
    v = a * a * SD * SD + s * s
    torch.testing.assert_close(denoised(zero, X, t, SD), a * SD * SD / v * X, rtol=1e-12, atol=0)
    torch.testing.assert_close(learned_score(zero, X, t, SD), -X / v, rtol=1e-12, atol=0)


def test_score_is_tweedie_of_the_denoiser_at_times_per_row():
    t = torch.tensor([1e-3, 0.01, 0.1, 0.5, 2.0, 6.0], dtype=torch.float64)
    a, s = alpha(t)[:, None], sigma(t)[:, None]
    expected = (a * denoised(wavy, X, t, SD) - X) / s.square()
    torch.testing.assert_close(learned_score(wavy, X, t, SD), expected, rtol=1e-9, atol=1e-9)
    one = learned_score(wavy, X[2:3], 0.1, SD)
    torch.testing.assert_close(one, learned_score(wavy, X, t, SD)[2:3], rtol=1e-12, atol=0)


def test_a_network_that_hits_the_target_denoises_exactly():
    x0, z = rows(6, 3, 1), rows(6, 3, 2)
    t = torch.tensor([1e-3, 0.01, 0.1, 0.5, 2.0, 6.0], dtype=torch.float64)
    u, target = noised(x0, z, noise_ratio(t).log(), SD)
    x_t = alpha(t)[:, None] * x0 + sigma(t)[:, None] * z
    seen = []

    def oracle(inputs, lam):
        seen.append(inputs)
        return target

    torch.testing.assert_close(denoised(oracle, x_t, t, SD), x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen[0], u, rtol=1e-9, atol=1e-12)  # training and use feed the network the same


def test_input_and_target_have_unit_mean_square():
    x0 = 3.0 + 2.0 * rows(20_000, 2, 3)
    sd = root_mean_square(x0)
    for lam in (-3.0, 0.0, 2.0):
        for part in noised(x0, rows(20_000, 2, 4), torch.full((20_000,), lam, dtype=torch.float64), sd):
            assert float(part.square().mean()) == pytest.approx(1.0, abs=0.05)
    with pytest.raises(InputError, match="zero"):
        root_mean_square(torch.zeros(4, 2))


def density(kind, lam, law):
    if kind == "loguniform":
        return torch.ones_like(lam)
    if kind == "energy":
        return law.sigma_data**2 / (law.sigma_data**2 + torch.exp(2 * lam))
    z = (lam - math.log(law.sigma_data) - law.centre) / law.spread
    return torch.as_tensor(stats.norm.pdf(z.numpy()))


@pytest.mark.parametrize("kind", ["energy", "loguniform", "lognormal"])
def test_quantiles_invert_the_distribution(kind):
    law = NoiseLaw(kind, 1e-3, 6.0, SD)
    low, high = (float(noise_ratio(t).log()) for t in (1e-3, 6.0))
    grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
    mass = torch.cumulative_trapezoid(density(kind, grid, law), grid)
    mass = torch.cat([torch.zeros(1, dtype=torch.float64), mass]) / mass[-1]
    u = torch.tensor([0.0, 0.1, 0.5, 0.77, 1.0], dtype=torch.float64)
    lam = law.quantile(u)
    at = torch.searchsorted(grid, lam).clamp(max=len(grid) - 1)
    torch.testing.assert_close(mass[at], u, atol=2e-5, rtol=0)
    assert float(lam[0]) == pytest.approx(low)
    assert float(lam[-1]) == pytest.approx(high)
    assert law.time(0.0) == pytest.approx(1e-3)


def test_the_energy_law_weighs_errors_as_the_path_does():
    """int E|s_hat - s|^2 dt against the mean of |F - F*|^2 over the energy law, on a field F - F* = cos(lam)."""
    t0, T, m = 1e-3, 6.0, 4000
    law = NoiseLaw("energy", t0, T, SD)
    grid = torch.linspace(math.log(t0), math.log(T), m, dtype=torch.float64).exp()
    x = rows(m, 3, 5)
    error = learned_score(lambda u, lam: lam[:, None].cos().expand_as(u), x, grid, SD) - learned_score(
        zero, x, grid, SD
    )
    energy = torch.trapezoid(error.square().sum(1), grid)
    lam = law.quantile((torch.arange(m, dtype=torch.float64) + 0.5) / m)
    ends = [math.log1p(SD**2 / float(noise_ratio(t)) ** 2) for t in (t0, T)]  # total mass of 2 sd^2/(sd^2+s^2) d lam
    assert float(energy) == pytest.approx((ends[0] - ends[1]) * 3 * float(lam.cos().square().mean()), rel=1e-3)


def test_time_zero_is_refused():
    with pytest.raises(InputError, match="t = 0"):
        learned_score(zero, X, 0.0, SD)
