"""Straight paths: velocities and scores say the same, samplers converge at their rates, the ODE's own identity."""

import math

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process import EulerMaruyama, FlowScore, GaussianMixture, Perturbed, Solver, Straight, sample
from driftlaw.process.flow import (
    flow_grid,
    flow_time,
    score_from_velocity,
    time_of_flow,
    velocity,
    velocity_from_score,
)
from driftlaw.process.schedule import alpha, noise_ratio, sigma
from driftlaw.seeding import generator

MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
MIXTURE = GaussianMixture([0.4, 0.6], MEANS, [0.1, 0.3])
GAUSSIAN = GaussianMixture([1.0], [[1.0, -2.0]], [[0.25, 3.0]])
TIMES = torch.tensor([1e-6, 1e-3, 0.05, 0.7, 3.0, 12.0], dtype=torch.float64)


def mixture_velocity(x, s):
    """E[x_0 - z | (1-s) z + s x_0 = x] component by component, without any score: an oracle of its own."""
    s = torch.as_tensor(s, dtype=torch.float64).expand(len(x))[:, None]
    logs, parts = [], []
    for w, m, v in zip((0.4, 0.6), MEANS, (0.1, 0.3), strict=True):
        total = s**2 * v + (1 - s) ** 2  # variance of x_s within the component
        gap = x - s * m
        logs.append(math.log(w) - gap.square().sum(1) / (2 * total[:, 0]) - total[:, 0].log())
        parts.append(m + (s * v - (1 - s)) / total * gap)  # m + Cov(x_0 - z, x_s) / Var(x_s) gap
    r = torch.stack(logs, 1).softmax(1)
    return sum(r[:, k : k + 1] * part for k, part in enumerate(parts))


def points(t, n=40):
    return MIXTURE.diffuse(float(t)).sample(n, generator(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize("t", TIMES.tolist())
def test_the_velocity_of_a_mixture_is_its_score(t):
    x, scale = points(t), float(alpha(t) + sigma(t))
    exact = MIXTURE.score(x, t)
    found = FlowScore(mixture_velocity).score(x, t)
    size = max(1.0, float(exact.abs().max()))
    # the score is (a v - x) / (sigma (a + sigma)): rounding of v is divided by sigma
    assert float((found - exact).abs().max()) < 1e-10 * size / math.sqrt(min(1.0, t))
    s = flow_time(t)
    torch.testing.assert_close(velocity(MIXTURE, x / scale, s), mixture_velocity(x / scale, s), rtol=1e-10, atol=1e-10)


def test_conversions_invert_each_other_at_times_per_row():
    t = TIMES[1:]
    x = torch.randn(len(t), 3, 2, 2, generator=generator(1), dtype=torch.float64)
    score = torch.randn(x.shape, generator=generator(2), dtype=torch.float64)
    v = velocity_from_score(score, x, t)
    torch.testing.assert_close(score_from_velocity(v, x, t), score, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(time_of_flow(flow_time(t)), t, rtol=1e-9, atol=0)
    torch.testing.assert_close((1 - flow_time(t)) / flow_time(t), noise_ratio(t), rtol=1e-9, atol=0)
    assert float(flow_time(0.0)) == 1.0
    assert float(time_of_flow(1)) == 0.0
    torch.testing.assert_close(velocity_from_score(score, x, 0.0), x)  # at the data, E[x_0 - z] = x


def test_regression_of_x0_minus_z_gives_the_velocity():
    """The definition, by least squares on a Gaussian: x_0 - z on x_s."""
    n, s = 200_000, 0.3
    x0 = GAUSSIAN.sample(n, generator(3), dtype=torch.float64)
    z = torch.randn(n, 2, generator=generator(4), dtype=torch.float64)
    x, y = (1 - s) * z + s * x0, x0 - z
    slope = ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / (x - x.mean(0)).square().sum(0)
    at = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    fitted = y.mean(0) + slope * (at - x.mean(0))
    residual = (y - y.mean(0) - slope * (x - x.mean(0))).std(0)
    gap = (velocity(GAUSSIAN, at, s) - fitted).abs() / (residual / math.sqrt(n))
    assert float(gap.max()) < 5 * (1 + float(((at - x.mean(0)) / x.std(0)).abs().max()))


def gaussian_flow(x, t, s):
    """Closed form: the flow moves standardised coordinates nowhere."""
    start, end = GAUSSIAN.diffuse(t), GAUSSIAN.diffuse(s)
    return end.means + (end.covariances / start.covariances).sqrt() * (x - start.means)


@pytest.mark.parametrize(("order", "low", "high"), [(1, -1.15, -0.9), (2, -2.2, -1.85)])
@pytest.mark.parametrize("t0", [0.01, 0.2])
def test_straight_solvers_converge_at_their_order(order, low, high, t0):
    x = GAUSSIAN.diffuse(3.0).sample(50, generator(5), dtype=torch.float64)
    steps = [40, 80, 160, 320]
    exact = gaussian_flow(x, 3.0, t0)
    ends = [sample(GAUSSIAN, x, flow_grid(3.0, t0, k), Straight(order)) for k in steps]
    slope = np.polyfit(np.log(steps), np.log([float((e - exact).norm()) for e in ends]), 1)[0]
    assert low < slope < high


def test_straight_euler_is_the_euler_step_of_the_probability_flow():
    class Euler(Solver):
        def step(self, score, x, t, s, noise, memory):
            slope = -float(sigma(t)) * score.score(x, t)
            return float(alpha(s)) * (x / float(alpha(t)) + float(noise_ratio(s) - noise_ratio(t)) * slope), None

    x, grid = points(3.0), flow_grid(3.0, 0.0, 7)
    torch.testing.assert_close(
        sample(MIXTURE, x, grid, Straight(1)), sample(MIXTURE, x, grid, Euler()), rtol=1e-10, atol=1e-10
    )


def test_the_grid_has_equal_steps_of_flow_time():
    grid = flow_grid(6.0, 0.001, 9)
    s = flow_time(grid)
    assert (float(grid[0]), float(grid[-1])) == (6.0, 0.001)
    torch.testing.assert_close(s.diff(), torch.full((9,), float(s[-1] - s[0]) / 9, dtype=torch.float64))
    assert float(flow_grid(2.0, 0.0, 3)[-1]) == 0.0


def test_both_samplers_of_a_velocity_give_the_law():
    """The reverse diffusion and the ODE of the same velocity, from the law at T: means and variances at t0."""
    n, law = 20_000, MIXTURE.diffuse(0.05)
    start = MIXTURE.diffuse(4.0).sample(n, generator(6))
    field = FlowScore(lambda x, s: mixture_velocity(x.double(), s.double()).to(x.dtype))
    for method, steps in ((Straight(2), 40), (EulerMaruyama(), 400)):
        x = sample(field, start, flow_grid(4.0, 0.05, steps), method, generator(7)).double()
        error = torch.cov(x.T) - law.covariance()
        assert float((x.mean(0) - law.mean()).abs().max()) < 5 * 1.3 / math.sqrt(n) + 0.01
        assert float(error.abs().max()) < 0.06  # 5 standard errors of a variance of 1.6 are 0.056


def test_the_odes_identity_and_why_the_error_alone_bounds_nothing():
    """KL = KL_T + 1/2 int E[e . g] dt for a Gaussian flow whose learned score is not that of its own law.

    The learned score is -(1 + c) x on N(0, 1): the ODE contracts, dx/du = x/2 + s_hat/2 = -c x/2, so that
    p_hat_t = N(0, v), v = e^{-c (T - t)}; e = -c x and g = (1 - 1/v) x. As the horizon grows, KL grows without end
    while int E_{p_hat}|e|^2 dt = c^2 int v dt stays below c.
    """
    c = 0.4
    ratios = []
    for T in (2.0, 8.0, 32.0):
        t = torch.linspace(0, T, 20_001, dtype=torch.float64)
        v = (-c * (T - t)).exp()
        right = 0.5 * float(torch.trapezoid(-c * v * (1 - 1 / v), t))
        end = float(v[0])
        kl = 0.5 * (end - 1 - math.log(end))
        assert right == pytest.approx(kl, rel=1e-6)
        x = torch.randn(4000, 1, generator=generator(8), dtype=torch.float64)
        grid = torch.linspace(T, 1e-9, 801, dtype=torch.float64)
        carried = sample(Perturbed(lambda x, t: -x, lambda x, t: -c * x), x, grid, "heun")
        assert float((carried / x).square().mean()) == pytest.approx(end, rel=0.02)
        energy = c**2 * float(torch.trapezoid(v, t))
        assert energy < c
        ratios.append(kl / energy)
    assert ratios[2] > 3 * ratios[1] > 9 * ratios[0]


def test_refusals():
    x = torch.zeros(3, 2)
    with pytest.raises(InputError, match=r"flow time is not in \(0, 1\]"):
        velocity(MIXTURE, x, 0.0)
    with pytest.raises(InputError, match=r"flow time is not in \(0, 1\]"):
        time_of_flow(1.5)
    with pytest.raises(InputError, match="says nothing about the score at t = 0"):
        FlowScore(mixture_velocity).score(x, 0.0)
    with pytest.raises(InputError, match=r"maps points \[3, 2\] to \[3, 1\]"):
        FlowScore(lambda x, s: x[:, :1]).score(x, 0.5)
    for bad in ((1.0, 2.0, 3), (2.0, 1.0, 0), (math.inf, 0.1, 3)):
        with pytest.raises(InputError, match="a grid of"):
            flow_grid(*bad)
