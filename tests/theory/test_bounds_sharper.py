"""T1 to T8 on 500 random linear-Gaussian reverse processes and 2,000 exact recursions on finite sets: no violation."""

import math

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.theory import bounds

CASES, STEPS, T0, T = 500, 2000, 0.05, 3.0


@pytest.fixture(scope="module")
def linear():
    """q = N(m, v) at time 0, score error e = w(t) x + b(t); moments by the trapezoid (Heun) rule, all cases at once."""
    g = np.random.default_rng(0)
    m0, v0 = g.normal(size=CASES), g.uniform(0.3, 3, CASES)
    w, b = g.normal(0, 0.25, (2, CASES)), g.normal(0, 0.4, (2, CASES))
    t = np.linspace(T0, T, STEPS + 1)
    m, v = np.exp(-t / 2)[:, None] * m0, 1 + np.exp(-t)[:, None] * (v0 - 1)
    wt, bt = (x[0] + x[1] * np.sin(2 * t)[:, None] for x in (w, b))

    def solve(share):
        mean, var = np.empty((2, STEPS + 1, CASES))
        mean[-1], var[-1] = m[-1], v[-1]

        def rate(k, x, y):
            pull = 0.5 - 1 / v[k] + share * wt[k]
            return pull * x + m[k] / v[k] + share * bt[k], 2 * pull * y + 1

        for k in range(STEPS, 0, -1):
            h = t[k] - t[k - 1]
            dx, dy = rate(k, mean[k], var[k])
            ex, ey = rate(k - 1, mean[k] + h * dx, var[k] + h * dy)
            mean[k - 1], var[k - 1] = mean[k] + h * (dx + ex) / 2, var[k] + h * (dy + ey) / 2
        return mean, var, wt**2 * (var + mean**2) + 2 * wt * bt * mean + bt**2

    return t, m, v, wt, bt, solve


def kl(mean, var, m, v):
    return 0.5 * (var / v + (mean - m) ** 2 / v - 1 - np.log(var / v))


def test_pythagoras_and_the_discount(linear):
    t, m, v, wt, bt, solve = linear
    mean, var, energy = solve(1.0)
    end = kl(mean[0], var[0], m[0], v[0])
    # g = grad log p_hat/q = -(x - mean)/var + (x - m)/v
    u, c = wt - (1 / v - 1 / var), bt - (mean / var - m / v)
    missed = np.trapezoid(u**2 * (var + mean**2) + 2 * u * c * mean + c**2, t, axis=0)
    assert np.allclose(np.trapezoid(energy, t, axis=0) / 2 - missed / 2, end, rtol=1e-3, atol=1e-6)
    whole, part = np.trapezoid(energy, t, axis=0), missed
    made = [bounds.pythagoras(float(a), float(b), 0.0).value.value for a, b in zip(whole, part, strict=True)]
    assert np.allclose(made, end, rtol=1e-3, atol=1e-6)
    ratios = []
    for k in range(CASES):
        made = [bounds.discounted_gradient(t, energy[:, k], v[:, k], 0.0, theta).value.value for theta in (0, 0.3, 0.6)]
        assert min(made) >= end[k] * (1 - 1e-4)
        ratios.append(min(made) / made[0])
    assert min(ratios) < 0.8 <= 1 == max(ratios)


def test_the_half_way_path_bounds_affinity_and_tv(linear):
    t, m, v, _, _, solve = linear
    mean, var, energy = solve(1.0)
    half = np.trapezoid(solve(0.5)[2], t, axis=0)
    s = var[0] + v[0]
    affinity = 0.25 * (mean[0] - m[0]) ** 2 / s + 0.5 * np.log(s / (2 * np.sqrt(var[0] * v[0])))
    assert (affinity <= half / 8 * (1 + 1e-4)).all()
    x = np.linspace(-15, 15, 3001)[:, None]
    density = [
        np.exp(-((x - a) ** 2) / (2 * c)) / np.sqrt(2 * math.pi * c) for a, c in ((mean[0], var[0]), (m[0], v[0]))
    ]
    tv = 0.5 * np.trapezoid(abs(density[0] - density[1]), x, axis=0)
    path = np.trapezoid(energy, t, axis=0)
    assert (tv <= [bounds.half_way_tv(float(e)).value.value for e in half]).all()
    assert (tv <= [bounds.exponential_pinsker(float(e), 0.0).value.value for e in path]).all()


def test_the_stein_floor_is_below_chi2(linear):
    t, m, v, wt, bt, solve = linear
    c = np.exp(-(t - T0) / 2)[:, None]
    l2 = np.trapezoid(-wt / v * c**2, t, axis=0)
    l1 = np.trapezoid((wt * m - bt) / v * c, t, axis=0)
    l0 = np.trapezoid(wt + bt * m / v - wt / v * (1 - c**2), t, axis=0)
    stein_mean = l0 + l1 * m[0] + l2 * (v[0] + m[0] ** 2)
    assert np.allclose(stein_mean, 0, atol=1e-5)
    spread = (l1 + 2 * l2 * m[0]) ** 2 * v[0] + 2 * l2**2 * v[0] ** 2
    mean, var, _ = solve(1.0)
    learned = l0 + l1 * mean[0] + l2 * (var[0] + mean[0] ** 2)
    finite = 2 * v[0] > var[0] * 1.001
    chi2 = v[0] / np.sqrt(np.where(finite, var[0] * (2 * v[0] - var[0]), 1)) * np.exp(
        np.where(finite, (mean[0] - m[0]) ** 2 / np.where(finite, 2 * v[0] - var[0], 1), 0)) - 1  # fmt: skip
    floor = np.array([bounds.stein_floor(abs(a), s).value.value for a, s in zip(learned, spread, strict=True)])
    assert finite.mean() > 0.8
    assert (floor <= chi2 * (1 + 1e-3) + 1e-6)[finite].all()
    assert np.median((floor / chi2)[finite]) > 0.3


def test_the_stein_mean_of_a_consistent_field_is_its_energy(linear):
    """E_{p_hat} L = -eps_hat^2 where e = grad log p_hat_t/q_t: both diffused Gaussians, all in closed form."""
    t, m, v, *_ = linear
    g = np.random.default_rng(3)
    a0, c0 = g.normal(size=CASES), g.uniform(0.3, 1.5, CASES)
    mean, var = np.exp(-t / 2)[:, None] * a0, 1 + np.exp(-t)[:, None] * (c0 - 1)
    wt, bt = 1 / v - 1 / var, mean / var - m / v
    energy = wt**2 * (var + mean**2) + 2 * wt * bt * mean + bt**2
    # A e = div e + e s, s = (m - x)/v, in the mean of p_hat_t
    stein = wt + wt * m / v * mean - wt / v * (var + mean**2) + bt * (m - mean) / v
    assert np.allclose(np.trapezoid(stein, t, axis=0), -np.trapezoid(energy, t, axis=0), rtol=1e-9, atol=1e-12)


def test_a_bounded_error_bounds_chi2(linear):
    """A constant field moves the mean alone; starts that differ count, too."""
    t, _, v, _, bt, _ = linear
    pull = np.exp(
        -np.concatenate(
            [
                [np.zeros(CASES)],
                np.cumsum(np.diff(t)[:, None] * (1 / v[1:] + 1 / v[:-1]) / 2 - 0.5 * np.diff(t)[:, None], 0),
            ]
        )
    )
    shift = np.trapezoid(pull * bt, t, axis=0)
    for start in (0.0, 0.7):
        moved = shift + pull[-1] * start
        chi2, at_T = np.expm1(moved**2 / v[0]), np.expm1(start**2 / v[-1])
        b2 = np.trapezoid(bt**2, t, axis=0)
        made = [bounds.bounded_error(float(b), float(c)).value.value for b, c in zip(b2, at_T, strict=True)]
        assert (chi2 <= np.array(made) * (1 + 1e-4) + 1e-9).all()
        assert np.median(chi2 / np.array(made)) > 0.05
    assert bounds.bounded_error(1e4).value.value == math.inf


def test_transport_of_log_concave_laws(linear):
    t, m, v, _, _, solve = linear
    mean, var, energy = solve(1.0)
    w2 = np.hypot(mean[0] - m[0], np.sqrt(var[0]) - np.sqrt(v[0]))
    made = np.array([bounds.transport(t, energy[:, k], v[:, k]).value.value for k in range(CASES)])
    assert (w2 <= made * (1 + 1e-3) + 1e-6).all()
    assert np.median(w2 / made) > 0.3
    one = np.ones_like(t)  # a constant field moves the mean by all that the bound allows
    rate = 0.5 - 1 / v[:, 0]
    moved = np.trapezoid(np.exp(np.concatenate([[0], np.cumsum(np.diff(t) * (rate[1:] + rate[:-1]) / 2)])), t)
    assert bounds.transport(t, one, v[:, 0]).value.value == pytest.approx(moved, rel=1e-3)
    started = bounds.transport(t, energy[:, 0], v[:, 0], 1.0).value.value - made[0]
    growth = np.exp(0.5 * (t[-1] - t[0]) - np.trapezoid(1 / v[:, 0], t))
    assert started == pytest.approx(growth, rel=1e-3)


@pytest.mark.parametrize("T", [0.5, 2.0])
def test_starts_of_mixtures(T):
    x = torch.linspace(-14, 14, 6001, dtype=torch.float64)[:, None]
    normal = -0.5 * x[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)

    def kl_to(log_q, log_r):
        return float(torch.trapezoid(log_q.exp() * (log_q - log_r), x[:, 0]))

    g = np.random.default_rng(5)
    for _ in range(20):
        K = int(g.integers(1, 4))
        target = GaussianMixture(g.dirichlet(np.ones(K)), g.normal(0, 2, (K, 1)), g.uniform(0.2, 2, K))
        exact = kl_to(normal, target.log_prob(x, T))
        bound = bounds.start_kl(target, T).value.value
        assert exact <= bound + 1e-9
        assert K > 1 or exact == pytest.approx(bound, abs=1e-6)
        early, late = (kl_to(target.log_prob(x, s), normal) for s in (T / 2, T))
        assert late <= bounds.start_kl_decay(early, T / 2).value.value + 1e-9


def test_the_start_of_a_full_mixture_is_that_of_its_isotropic_twin():
    isotropic = GaussianMixture([0.3, 0.7], [[1.0, 2.0], [0.0, -1.0]], [0.5, 2.0])
    full = GaussianMixture(
        [0.3, 0.7], [[1.0, 2.0], [0.0, -1.0]], torch.tensor([0.5, 2.0])[:, None, None] * torch.eye(2)
    )
    assert bounds.start_kl(full, 1.0).value.value == pytest.approx(bounds.start_kl(isotropic, 1.0).value.value)


def test_the_floor_by_tv_on_random_recursions():
    g = np.random.default_rng(1)
    violations, gain = 0, []
    for alpha in (0.05, 0.3, 0.9):
        p = g.dirichlet(np.ones(8), 2000)
        now = g.dirichlet(np.ones(8), 2000)
        q = alpha * p + (1 - alpha) * now
        new = 0.7 * q + 0.3 * g.dirichlet(np.ones(8), 2000)
        D = np.maximum(*((x**2 / p).sum(1) - 1 for x in (now, new)))
        tv, chi2 = abs(new - q).sum(1) / 2, (new**2 / q).sum(1) - 1
        floors = np.array([bounds.floor_without_alpha(alpha, float(x)).value.value for x in tv])
        violations += int((floors > D).sum())
        gain.append(np.median(floors / (alpha * chi2 / (2 - alpha) ** 2)))
    assert violations == 0
    assert gain[0] > gain[1] > 1 > gain[2]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="constants"):
        bounds.discounted_gradient([0, 1], [1], [1, 1], 0.0)
    with pytest.raises(InputError, match="out of range"):
        bounds.discounted_gradient([0, 1], [1, 1], [1, 1], 0.0, theta=1.0)
    with pytest.raises(InputError, match="out of range"):
        bounds.transport([0, 1], [1, math.nan], [1, 1])
    with pytest.raises(InputError, match="elapsed"):
        bounds.start_kl_decay(1.0, -1.0)
