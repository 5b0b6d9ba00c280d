"""The DDPM chain: its clock, its closed-form variances with an exact score, the naive algorithm, diffusers itself."""

import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process.ddpm import SCHEDULES, ancestral, betas, chain_grid, chain_times, level_at
from driftlaw.process.laws.mixture import GaussianMixture


def closed_form_variance(beta, v, spread):
    """Variance of every level of the ancestral chain for data N(0, v), in DDPM's own notation; float64 recursion.

    mu = (x - beta/sqrt(1-abar) eps)/sqrt(1-beta) with eps(x) = sqrt(1-abar) x / (abar v + 1 - abar).
    """
    abar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    variances = [1.0]
    for k in range(len(beta), 0, -1):
        b = float(beta[k - 1])
        marginal = float(abar[k] * v + 1 - abar[k])
        keep = (1 - b / marginal) / math.sqrt(1 - b)
        noise = b if spread == "large" else b * float((1 - abar[k - 1]) / (1 - abar[k]))
        variances.append(keep**2 * variances[-1] + (noise if k > 1 else 0.0))
    return variances


@pytest.mark.parametrize("spread", ["small", "large"])
@pytest.mark.parametrize(("schedule", "v"), [("linear", 0.2), ("cosine", 3.0)])
def test_exact_score_gives_the_chains_variance(schedule, v, spread):
    """The sampler is linear in its start and its 1000 noises; a row for each gives its variance without Monte Carlo."""
    beta = betas(schedule)
    impulses = torch.eye(1001, dtype=torch.float64)
    law = GaussianMixture([1.0], [[0.0]], v)
    grid = chain_grid(chain_times(beta), 1000)
    found = ancestral(law, impulses[:, :1], grid, noise=lambda i: impulses[:, i + 1 : i + 2], spread=spread)
    expected = closed_form_variance(beta, v, spread)[-1]
    assert float(found.square().sum()) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(v, rel=0.05)  # and the chain nearly has the data's variance


def test_the_two_variances_are_exact_where_they_should_be():
    """Large for N(0, I) before the last step, small for a point mass."""
    beta = betas(steps=50, end=0.3)
    assert closed_form_variance(beta, 1.0, "large")[-2] == pytest.approx(1.0, abs=1e-12)
    small, abar = closed_form_variance(beta, 0.0, "small"), (1 - beta).cumprod(0)
    start = 1 - (1 - float(abar[-1]))  # the chain starts at variance 1 instead of 1 - abar_K
    assert small[-2] == pytest.approx(1 - float(abar[0]), rel=2 * start)
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = chain_grid(chain_times(beta), 50)
    point = ancestral(lambda y, t: -y / (1 - torch.exp(-t)), x, grid, torch.Generator().manual_seed(1))
    assert float(point.abs().max()) < 1e-12


def test_the_clock_of_the_chain():
    for schedule in SCHEDULES:
        beta = betas(schedule)
        times = chain_times(beta)
        torch.testing.assert_close(torch.exp(-times), (1 - beta).cumprod(0), rtol=1e-12, atol=0)
        assert bool((times.diff() > 0).all())
    # alpha_bar_1000 of the linear schedule as it is usually quoted
    assert float(torch.exp(-chain_times(betas())[-1])) == pytest.approx(4.0358e-5, rel=1e-4)
    times = chain_times(betas(steps=10, end=0.9))
    torch.testing.assert_close(level_at(times, times), torch.arange(10.0, dtype=torch.float64))
    middle = (times[3] + 3 * times[4]) / 4
    assert float(level_at(times, middle)) == pytest.approx(3.75)
    assert chain_grid(times, 10).tolist() == [*times.flip(0).tolist(), 0.0]
    assert chain_grid(times, 3).tolist() == [float(times[9]), float(times[6]), float(times[2]), 0.0]


def test_it_is_algorithm_2_of_ho_et_al():
    """One step of the published formula with a noise prediction, level by level."""
    beta = betas(steps=20, end=0.4)
    abar = (1 - beta).cumprod(0)
    g = torch.Generator().manual_seed(0)
    x, z = (torch.randn(*s, 3, generator=g, dtype=torch.float64) for s in ((5,), (20, 5)))
    law = GaussianMixture([0.5, 0.5], [[1.0, 0, 0], [-1.0, 0, 2.0]], 0.3)
    found = ancestral(law, x, chain_grid(chain_times(beta), 20), noise=lambda i: z[i])
    for k in range(20, 0, -1):
        eps = -(1 - abar[k - 1]).sqrt() * law.score(x, float(-abar[k - 1].log()))
        x = (x - beta[k - 1] / (1 - abar[k - 1]).sqrt() * eps) / (1 - beta[k - 1]).sqrt()
        if k > 1:
            x = x + (beta[k - 1] * (1 - abar[k - 2]) / (1 - abar[k - 1])).sqrt() * z[20 - k]
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spread", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_it_is_the_scheduler_of_diffusers(name, spread):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=60, beta_end=0.2, clip_sample=False, variance_type=f"fixed_{spread}",
        beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[name],
    )  # fmt: skip
    law, g = GaussianMixture([1.0], [[0.5, -1.0]], 0.4), torch.Generator().manual_seed(3)
    x = start = torch.randn(7, 2, generator=g, dtype=torch.float64)
    times, noises = chain_times(betas(name, 60, end=0.2)), []
    for k in range(59, -1, -1):
        eps = -torch.sqrt(-torch.expm1(-times[k])) * law.score(x, float(times[k]))
        state = g.get_state()
        x = scheduler.step(eps, k, x, generator=g).prev_sample
        g.set_state(state)
        noises.append(torch.randn(7, 2, generator=g, dtype=torch.float64) if k else None)
    found = ancestral(law, start, chain_grid(times, 60), noise=lambda i: noises[i], spread=spread)
    torch.testing.assert_close(found, x, rtol=2e-3, atol=2e-3)  # diffusers keeps alpha_bar in float32


def test_refusals():
    for arguments, words in (
        (("cosin",), "Did you mean 'cosine'"),
        (("linear", 0), "a chain of 0 steps"),
        (("linear", 10, 0.5, 0.1), "beta from 0.5 to 0.1"),
        (("linear", 10, 0.5, 1.0), "beta from 0.5 to 1.0"),
    ):
        with pytest.raises(InputError, match=words):
            betas(*arguments)
    times = chain_times(betas(steps=5))
    with pytest.raises(InputError, match="6 ancestral steps through a chain of 5 levels"):
        chain_grid(times, 6)
    for t in (0.0, 1.0):
        with pytest.raises(InputError, match="outside the noise chain"):
            level_at(times, torch.tensor([t]))
    with pytest.raises(InputError, match="not numbers in"):
        chain_times([0.1, 1.0])
    with pytest.raises(InputError, match="NaN or infinite"):
        ancestral(lambda x, t: x * torch.nan, torch.zeros(2, 1), chain_grid(times, 5))
