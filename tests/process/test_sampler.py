import math

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process import sampler
from driftlaw.process.ddpm import ancestral
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.schedule import log_grid, uniform_grid
from driftlaw.seeding import generator

GAUSSIAN = GaussianMixture([1.0], [[1.0, -2.0]], [[0.25, 3.0]])
T, T0 = 2.0, 0.1


def slope(steps, errors):
    """Least-squares slope of log error against log steps."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def flow(x, t, s):
    """Closed form of the Gaussian's probability flow: x_s = a_s m + sqrt(v_s/v_t) (x_t - a_t m)."""
    start, end = GAUSSIAN.diffuse(t), GAUSSIAN.diffuse(s)
    return end.means + (end.covariances / start.covariances).sqrt() * (x - start.means)


@pytest.mark.parametrize("method", ["euler_maruyama", "exponential_integrator"])
def test_strong_order_one_along_one_brownian_path(method):
    """Coarse steps driven by the same path as a step 32 times smaller than the smallest of them."""
    fine, n, h = 4096, 400, (T - T0) / 4096
    g = generator(0, method)
    z = torch.randn(fine, n, 2, generator=g, dtype=torch.float64)
    x = GAUSSIAN.diffuse(T).sample(n, g, dtype=torch.float64)
    reference = sampler.sample(GAUSSIAN, x, uniform_grid(T, T0, fine), method, noise=lambda i: z[i])
    steps, errors = [16, 32, 64, 128], []
    for coarse in steps:
        k = fine // coarse
        blocks = z.reshape(coarse, k, n, 2)
        if method == "euler_maruyama":
            noise = blocks.sum(1) / math.sqrt(k)
        else:  # int e^{(u1 - u)/2} dB over the long step from those of the short steps
            decay = torch.exp(h / 2 * torch.arange(k - 1, -1, -1, dtype=torch.float64)).reshape(1, k, 1, 1)
            noise = (decay * blocks).sum(1) * math.sqrt(math.expm1(h) / math.expm1(k * h))
        end = sampler.sample(GAUSSIAN, x, uniform_grid(T, T0, coarse), method, noise=noise.__getitem__)
        errors.append(float((end - reference).square().sum(1).mean().sqrt()))
    assert -1.2 < slope(steps, errors) < -0.85


def test_the_exponential_integrator_is_exact_for_a_constant_score():
    """dY = (Y/2 + c) du + dB has mean e^{h/2} y + 2 (e^{h/2} - 1) c and variance e^h - 1, in one step or in many."""
    x, c, h = torch.tensor([[0.7, -1.0]], dtype=torch.float64), torch.tensor([2.0, 0.3], dtype=torch.float64), T - T0
    mean = math.exp(h / 2) * x + 2 * (math.exp(h / 2) - 1) * c
    for steps in (1, 7):
        grid = uniform_grid(T, T0, steps)
        still = sampler.exponential_integrator(
            lambda x, t: c.expand_as(x), x, grid, noise=lambda i: torch.zeros_like(x)
        )
        torch.testing.assert_close(still, mean)
    one = sampler.exponential_integrator(lambda x, t: 0 * x, 0 * x, uniform_grid(T, T0, 1), noise=lambda i: x)
    torch.testing.assert_close(one, math.sqrt(math.exp(h) - 1) * x)


@pytest.mark.parametrize("method", ["heun", "multistep"])
@pytest.mark.parametrize("grid", [uniform_grid, log_grid])
def test_flows_are_of_order_two(method, grid):
    x = GAUSSIAN.diffuse(T).sample(50, generator(1), dtype=torch.float64)
    steps = [40, 80, 160, 320]
    errors = [float((sampler.sample(GAUSSIAN, x, grid(T, T0, k), method) - flow(x, T, T0)).norm()) for k in steps]
    assert -2.2 < slope(steps, errors) < -1.85


@pytest.mark.parametrize("method", ["heun", "multistep"])
def test_flows_preserve_the_marginals_of_the_papers_mixture(method):
    law = GaussianMixture.paper()
    n = 10_000
    start = law.diffuse(4.0).sample(n, generator(2))
    end = sampler.sample(law, start, log_grid(4.0, 0.02, 60), method).double()
    goal = law.diffuse(0.02)
    squares = end.square().sum(1)
    # discretisation moves E|x|^2 by less than 0.3 % here; 4.5 standard errors are about 2 %: false failure below 1e-5
    assert abs(float(squares.mean()) - goal.second_moment()) < 4.5 * float(squares.std()) / math.sqrt(n)
    share = law.responsibilities(end).mean(0)
    assert (share - 0.2).abs().max() < 4.5 * math.sqrt(0.16 / n)


def test_literal_reverse_sde_agrees_with_the_exact_transition():
    """The ideal sampler of a kernel mixture: many Euler-Maruyama steps against one exact draw."""
    law = KernelMixture(GaussianMixture.paper().sample(40, generator(3)), 0.6)
    n = 4000
    start = law.diffuse(4.0).sample(n, generator(4))
    literal = sampler.euler_maruyama(law, start, log_grid(4.0, 0.05, 300), generator(5)).double()
    exact = law.reverse_transition(start, 4.0, 0.05, generator(6)).double()
    difference = literal.square().sum(1) - exact.square().sum(1)
    # the two share the start; the step bias is below 0.3 %, 5 standard errors are about 1.5 % of 29
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / math.sqrt(n)


@pytest.mark.parametrize("method", ["heun", "multistep"])
def test_a_last_step_to_time_zero(method):
    x = GAUSSIAN.diffuse(T).sample(50, generator(7), dtype=torch.float64)
    end = sampler.sample(GAUSSIAN, x, uniform_grid(T, 0.0, 400), method)
    torch.testing.assert_close(end, flow(x, T, 0.0), rtol=0, atol=0.02)


def test_one_data_point_is_reached_exactly():
    """The denoised prediction is constant, so the multistep method is exact in one step."""
    law = KernelMixture(torch.tensor([[1.0, 2.0]], dtype=torch.float64), 0.0)
    x = torch.randn(5, 2, generator=generator(8), dtype=torch.float64)
    for steps in (1, 3):
        end = sampler.multistep(law, x, uniform_grid(4.0, 0.0, steps))
        torch.testing.assert_close(end, law.centres.expand(5, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", sampler.METHODS)
def test_replay_dtype_progress_images_and_no_gradients(method):
    seen = []
    x = torch.randn(3, 1, 2, 2, generator=generator(9)).requires_grad_()

    def run():
        grid = uniform_grid(1.0, 0.1, 4)
        return sampler.sample(
            lambda x, t: -x, x, grid, method, generator(10), progress=lambda f, s: seen.append((f, s))
        )

    end = run()
    assert end.shape == x.shape
    assert end.dtype == torch.float32
    assert not end.requires_grad
    assert torch.equal(end, run())
    assert seen[:4] == [(0.25, "step 1/4"), (0.5, "step 2/4"), (0.75, "step 3/4"), (1.0, "step 4/4")]


def test_coarse_noise_is_fresh_without_a_generator():
    x = torch.zeros(3, 2)
    grid = uniform_grid(1.0, 0.1, 2)
    assert not torch.equal(sampler.euler_maruyama(GAUSSIAN, x, grid), sampler.euler_maruyama(GAUSSIAN, x, grid))


@pytest.mark.parametrize("method", sampler.METHODS)
def test_bad_input_is_named(method):
    x = torch.zeros(3, 2)
    for grid in ([1.0], [0.1, 1.0], [1.0, 1.0], [1.0, -0.1], [math.inf, 1.0], [1.0, math.nan]):
        with pytest.raises(InputError, match="descend"):
            sampler.sample(GAUSSIAN, x, torch.tensor(grid), method)
    for bad in (torch.full((1, 2), math.nan), torch.zeros(1, 2).long()):
        with pytest.raises(InputError, match="starting points"):
            sampler.sample(GAUSSIAN, bad, uniform_grid(1, 0.1, 2), method)
    with pytest.raises(InputError, match="row 0 at t = 1"):
        sampler.sample(lambda x, t: x / 0, x, uniform_grid(1, 0.1, 2), method)


def test_unknown_method():
    with pytest.raises(InputError, match="Did you mean 'heun'"):
        sampler.sample(GAUSSIAN, torch.zeros(3, 2), uniform_grid(1, 0.1, 2), "heum")


def test_ancestral_steps_by_name():
    x, grid = torch.randn(4, 2, generator=generator(3)), uniform_grid(2.0, 0.0, 5)
    by_name = sampler.sample(GAUSSIAN, x, grid, "ancestral", generator(4))
    assert torch.equal(by_name, ancestral(GAUSSIAN, x, grid, generator(4)))
    assert not torch.equal(by_name, ancestral(GAUSSIAN, x, grid, generator(4), spread="large"))


def test_a_solver_of_ones_own_is_one_step():
    class Euler(sampler.Solver):
        """Probability flow dx/du = x/2 + s/2, and how many steps were made."""

        def step(self, score, x, t, s, noise, memory):
            steps.append(memory)
            return x + (t - s) / 2 * (x + score.score(x, t)), (memory or 0) + 1

    steps, x = [], torch.randn(4, 2, generator=generator(3), dtype=torch.float64)
    ends = [sampler.sample(GAUSSIAN, x, uniform_grid(2.0, 0.1, k), Euler()) for k in (200, 400)]
    assert steps[:4] == [None, 1, 2, 3]
    exact = sampler.sample(GAUSSIAN, x, uniform_grid(2.0, 0.1, 400))
    coarse, fine = (float((end - exact).norm()) for end in ends)
    assert 1.8 < coarse / fine < 2.2  # order 1
    with pytest.raises(NotImplementedError):
        sampler.sample(GAUSSIAN, x, uniform_grid(2.0, 0.1, 2), sampler.Solver())
