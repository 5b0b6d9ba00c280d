"""The limit law, its Hermite gains, rates and annealing against the recursion itself."""

import itertools
import math

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError
from driftlaw.theory import limit
from driftlaw.theory.annealing import annealed_times

GAINS = [0.8876, 0.7960, 0.7197, 0.6554, 0.6003, 0.5527, 0.5112]


def hermite(law, m):
    """E He_m of a 1-D mixture: e_{m+1} = mu e_m + m (v - 1) e_{m-1}."""
    mu, v = law.means[:, 0].numpy(), law.covariances.reshape(len(law), -1)[:, 0].numpy()
    e = [np.ones_like(mu), mu]
    for k in range(1, m):
        e.append(mu * e[k] + k * (v - 1) * e[k - 1])
    return float(law.weights.numpy() @ e[m])


def target():
    return dl.GaussianMixture([0.3, 0.7], [[-1.4], [2.0]], [0.5, 0.09])


def tv(p, q, x):
    a, b = (law.log_prob(x).exp() for law in (p, q))
    return 0.5 * float(torch.trapezoid((a - b).abs(), x[:, 0]))


def test_gains_are_those_of_any_target():
    law = dl.limit_law(target(), 0.2, 0.05, tolerance=1e-14)
    measured = [hermite(law, m) / hermite(target(), m) for m in range(1, 9)]
    assert np.allclose(measured, limit.hermite_gain(range(1, 9), 0.2, 0.05), rtol=1e-10, atol=0)
    assert np.allclose(measured[:7], GAINS, atol=5e-5)


@pytest.mark.parametrize("covariances", [0.36, [[0.4, 0.2], [0.1, 0.9]], [[[1, 0.3], [0.3, 0.5]]] * 2])
def test_the_limit_is_a_fixed_point_of_every_covariance_kind(covariances):
    p = dl.GaussianMixture([0.4, 0.6], [[0.0, 2.0], [1.0, -1.0]], covariances)
    law = dl.limit_law(p, 0.3, 0.1)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = 0.3 * p.log_prob(x, 0.1).exp() + 0.7 * law.log_prob(x, 0.1).exp()
    assert torch.allclose(image, law.log_prob(x).exp(), rtol=1e-7, atol=1e-12)


def test_the_recursion_closes_in_at_the_stated_rate():
    p, x = target(), torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    law = dl.limit_law(p, 0.2, 0.05, tolerance=1e-12)
    distances = [tv(limit.recursion_law(p, 0.2, [0.05] * n), law, x) for n in range(1, 61)]
    rate = limit.limit_rates(0.2, 0.05)["tv"]
    assert all(b <= rate * a + 1e-12 for a, b in itertools.pairwise(distances))
    assert distances[-1] < 1e-6
    assert law.missing <= 1e-12
    assert law.rounds == math.ceil(math.log(1e-12) / math.log(0.8))


def test_the_recursion_law_is_the_recursion_step_by_step():
    p, taus = target(), [0.3, 0.0, 0.1]
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)[:, None]

    def density(n, t):  # of p_n at OU time t
        if n == 0:
            return p.log_prob(x, t).exp()
        at = t + taus[n - 1]
        return 0.25 * p.log_prob(x, at).exp() + 0.75 * density(n - 1, at)

    assert torch.allclose(limit.recursion_law(p, 0.25, taus).log_prob(x).exp(), density(3, 0.0), rtol=1e-10)


def test_annealing_removes_the_compounding():
    constant = limit.hermite_gain_after(4, 0.2, [0.05] * 60)[-1]
    harmonic = limit.hermite_gain_after(4, 0.2, annealed_times(0.05, 60))[-1]
    geometric = limit.hermite_gain_after(4, 0.2, annealed_times(0.05, 60, 0.9))[-1]
    assert np.allclose([constant, harmonic, geometric], [0.655, 0.991, 0.998], atol=1e-3)


def test_w2_in_one_dimension_stays_in_the_ball():
    q = (np.arange(4000) + 0.5) / 4000
    x = torch.linspace(-9, 9, 20001, dtype=torch.float64)[:, None]

    def quantiles(law):
        cdf = np.cumsum(law.log_prob(x).exp().numpy()) * float(x[1] - x[0])
        return np.interp(q, cdf, x[:, 0].numpy())

    p, far = target(), dl.limit_law(target(), 0.2, 0.05)
    w2 = [float(np.sqrt(np.mean((quantiles(limit.recursion_law(p, 0.2, [0.05] * n)) - quantiles(far)) ** 2)))
          for n in range(1, 12)]  # fmt: skip
    rho = limit.limit_rates(0.2, 0.05)["w2"]
    assert all(b <= rho * a for a, b in itertools.pairwise(w2))
    assert w2[-1] <= limit.w2_ball(0.2, 0.05, 0.0, w2[0], 10)
    assert limit.w2_ball(0.2, 0.05, 0.1, 0.0, 10_000) == pytest.approx(0.1 / (1 - rho))


@pytest.mark.parametrize(
    ("alpha", "t0", "words"),
    [(0, 0.05, "no limit law"), (0.2, 0, "the target itself"), (1.2, 0.05, "alpha"), (0.2, math.nan, "not a time"),
     (1e-6, 0.05, "terms of 2 components")],
)  # fmt: skip
def test_what_has_no_limit_is_refused(alpha, t0, words):
    with pytest.raises(InputError, match=words):
        dl.limit_law(target(), alpha, t0)


@pytest.mark.parametrize("taus", [[], [-0.1], [math.inf], 0.1])
def test_times_that_are_none_are_refused(taus):
    with pytest.raises(InputError, match="not a list of OU times"):
        limit.recursion_law(target(), 0.2, taus)


def test_all_fresh_is_one_blur():
    law = dl.limit_law(target(), 1.0, 0.1)
    x = torch.linspace(-3, 3, 20, dtype=torch.float64)[:, None]
    assert law.missing == 0
    assert torch.allclose(law.log_prob(x), target().log_prob(x, 0.1))
