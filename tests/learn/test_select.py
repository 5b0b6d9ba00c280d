"""Selection by a reward: the law that it leaves, exact on mixtures, and every way to get it wrong."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.kinds import SELECTS
from driftlaw.learn.select.reward import Distance, Function, Linear, judged
from driftlaw.learn.select.select import selected, tilted
from driftlaw.seeding import generator

MIXTURE = dl.GaussianMixture(
    [0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
)
P, R = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 2.5])


def first(x):
    return x[:, 0]


def categorical(n, seed):
    return torch.from_numpy(R)[torch.multinomial(torch.from_numpy(P), n, True, generator=generator(seed))][:, None]


def bradley_terry(k):
    """p(x) E[K e^r / (e^r + sum of K - 1 others)] by enumeration of the others."""
    out = np.zeros(3)
    for others in itertools.product(range(3), repeat=k - 1):
        weight = P[list(others)].prod() * k
        out += P * weight * np.exp(R) / (np.exp(R) + np.exp(R[list(others)]).sum())
    return out


@pytest.mark.parametrize("k", [2, 4])
def test_a_bradley_terry_choice_has_the_published_law(k):
    expected = bradley_terry(k)
    assert expected.sum() == pytest.approx(1)
    pool = categorical(400_000, 0)
    select = dl.Select(first, "bradley-terry", of=k)
    kept = pool[select.choose(pool, generator(1))][:, 0]
    n = len(kept)
    assert n == 400_000 // k
    for r, p in zip(R, expected, strict=True):
        assert abs(float((kept == r).double().mean()) - p) < 5 * math.sqrt(p * (1 - p) / n)
    h = select.density(torch.from_numpy(R), pool[:, 0], generator(2)).numpy()
    np.testing.assert_allclose(h * P, expected, rtol=0.06)  # 1024 draws of the rivals


def test_the_best_of_k_and_the_top_share():
    x = torch.randn(200_000, 1, generator=generator(3), dtype=torch.float64)
    best = x[dl.Select(first, "best", of=5).choose(x, generator(0))][:, 0]
    grid = np.linspace(-6, 6, 4001)
    density = 5 * stats.norm.cdf(grid) ** 4 * stats.norm.pdf(grid)
    mean = np.trapezoid(grid * density, grid)
    sd = math.sqrt(np.trapezoid((grid - mean) ** 2 * density, grid))
    assert abs(float(best.mean()) - mean) < 5 * sd / math.sqrt(len(best))
    at = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    found = dl.Select(first, "best", of=5).density(at, x[:, 0])
    np.testing.assert_allclose(found, 5 * stats.norm.cdf(at) ** 4, rtol=0.03)
    top = dl.Select(first, "top", share=0.1)
    kept = x[top.choose(x, generator(0))][:, 0]
    assert len(kept) == 20_000
    assert float(kept.min()) >= float(x[:, 0].sort(descending=True).values[19_999])
    torch.testing.assert_close(top.density(at, x[:, 0]), torch.tensor([0.0, 0.0, 10.0], dtype=torch.float64))
    threshold = dl.Select(first, level=1.0)
    assert bool((x[threshold.choose(x, generator(0))] > 1).all())
    assert float(threshold.density(at, x[:, 0])[2]) == pytest.approx(1 / stats.norm.sf(1), rel=0.03)


@pytest.mark.parametrize("rule", ["threshold", "top", "best", "bradley-terry"])
def test_densities_have_mean_one(rule):
    x = torch.randn(20_000, generator=generator(4), dtype=torch.float64)
    h = dl.Select(first, rule).density(x, x, generator(5))
    assert float(h.mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("reward", [Linear((0.7, -0.4)), Distance((0.5, 2.0), 0.8)])
@pytest.mark.parametrize(
    "law", [MIXTURE, dl.GaussianMixture([1.0], [[0.3, -1.0]], [[0.5, 2.0]]), dl.GaussianMixture.paper()]
)
def test_the_tilt_is_exact(reward, law):
    """log of the tilted density minus r minus log of the density is one number, -log E e^r."""
    if law.dim == 10:
        pad = (0.0,) * 8
        kind = type(reward)
        reward = kind(reward.direction + pad) if kind is Linear else kind(reward.centre + pad, reward.scale)
    x = torch.randn(200, law.dim, generator=generator(6), dtype=torch.float64) * 2
    gap = tilted(law, reward).log_prob(x) - law.log_prob(x) - reward(x)
    assert float(gap.std()) < 1e-8
    e = reward(law.sample(200_000, generator(7), dtype=torch.float64)).exp()
    assert abs(float(e.mean()) * math.exp(float(gap.mean())) - 1) < 6 * float(e.std() / e.mean()) / math.sqrt(len(e))


def test_curation_of_many_is_the_tilt():
    reward, k, n = Linear((0.7, -0.4)), 200, 400_000
    x = MIXTURE.sample(n, generator(8), dtype=torch.float64)
    kept = x[dl.Select(reward, "bradley-terry", of=k).choose(x, generator(9))]
    law = tilted(MIXTURE, reward)
    error = (kept.mean(0) - law.mean()).abs() / (law.covariance().diagonal() / len(kept)).sqrt()
    assert float(error.max()) < 5  # K finite: a bias of order 1/K, 0.1 standard errors here
    assert float((MIXTURE.mean() - law.mean()).abs().max()) > 0.3


def test_rows_are_taken_until_there_are_enough():
    asked = []

    def more(c):
        asked.append(c)
        return torch.full((10, 1), float(c)) + torch.arange(10)[:, None] / 100

    pool = torch.arange(10.0)[:, None]
    rows = selected(dl.Select(lambda x: x[:, 0] % 1 < 0.035), pool, 18, generator(0), more)
    assert asked == [1, 2]
    assert torch.equal(rows[:10], pool)
    assert len(rows) == 18
    with pytest.raises(InputError, match=r"keeps 0 of 30 samples of generation 2, and 5 are needed"):
        selected(dl.Select(lambda x: x[:, 0] < 0), pool, 5, generator(0), lambda c: pool, "generation 2")
    with pytest.raises(InputError, match="keeps 1 of"):
        selected(dl.Select(lambda x: x[:, 0] == 3), pool, 5000, generator(0), lambda c: pool + 100)


def test_rewards_that_cannot_be_used():
    x = torch.randn(8, 2, generator=generator(0))

    def nan_at(x):
        r = x[:, 0].clone()
        r[5] = torch.nan
        return r

    with pytest.raises(InputError, match=r"NaN or infinite for 1 of 8 rows; the first is row 5"):
        dl.Select(nan_at).choose(x, generator(0))
    for rule in ("top", "best", "bradley-terry"):
        with pytest.raises(InputError, match="the reward is 1 for all 8 rows of a pool"):
            dl.Select(lambda x: torch.ones(len(x)), rule).choose(x, generator(0))
    assert len(dl.Select(lambda x: torch.ones(len(x))).choose(x, generator(0))) == 8  # a verifier may accept all
    with pytest.raises(InputError, match=r"maps 8 rows to a tensor of shape \[8, 2\]"):
        dl.Select(lambda x: x).choose(x, generator(0))
    with pytest.raises(InputError, match="the reward has 3 numbers and a row has 2"):
        dl.Select(Linear((1.0, 0.0, 0.0))).choose(x, generator(0))
    with pytest.raises(InputError, match="2 candidates, and one of 4"):
        dl.Select(first, "best").choose(x[:2], generator(0))
    with pytest.raises(InputError, match="no reward of the law is above 9"):
        dl.Select(first, level=9).density(x[:, 0], x[:, 0])
    with pytest.raises(InputError, match="3 numbers and the law 2 coordinates"):
        tilted(MIXTURE, Linear((1.0, 0.0, 0.0)))
    assert judged(lambda x: np.ones(len(x)), x).dtype == torch.float64


def test_configuration():
    for select in (
        dl.Select(Linear((1.0, 2.0)), "best", of=3),
        dl.Select(Distance((0.0,)), "top", share=0.2),
        dl.Select("statistics:mean"),
    ):
        assert SELECTS.build(select.config()) == select
    assert dl.Select({"kind": "linear", "direction": [1, 2]}).selector == Linear((1.0, 2.0))
    assert isinstance(dl.Select(first).selector, Function)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "bests"}, "rule = 'bests'"),
        ({"share": 0}, "share = 0"),
        ({"of": 1}, "of = 1"),
        ({"level": float("inf")}, "level = inf"),
        ({"selector": {"kind": "liner"}}, "linear"),
        ({"selector": {"kind": "distance", "centre": [0], "scale": 0}}, "scale = 0"),
        ({"selector": "no.such.module:f"}, "cannot be imported"),
        ({"selector": 3}, "reward is a int"),
        ({"sharee": 0.2}, "share"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ConfigError, match=words):
        SELECTS.build({"kind": "select", "selector": {"kind": "linear", "direction": [1.0]}} | settings)
