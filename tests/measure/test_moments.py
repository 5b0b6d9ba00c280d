"""Moments, proportions and entropy: closed forms, coverage, bad input."""

import math

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.sets.moments import (
    class_counts,
    entropy,
    histogram,
    mode_weights,
    proportion,
    relative_drift,
    second_moment,
)


def covered(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


def test_second_moment_covers():
    x = 1.5 * torch.randn(400, 100, 4, generator=torch.Generator().manual_seed(0)) + 1
    assert 0.91 <= covered([second_moment(rows) for rows in x], 4 * (2.25 + 1)) <= 0.99


def test_second_moment_of_images_and_numbers():
    x = torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert second_moment(x).value == pytest.approx(float(x.flatten(1).square().sum(1).mean()), rel=1e-6)
    assert second_moment(torch.tensor([3.0, 4.0])).value == 12.5


def test_relative_drift():
    a = Estimate.normal(30.0, 0.3, 100, "a")
    exact = relative_drift(a, 29.2)
    assert exact.value == pytest.approx(30 / 29.2 - 1)
    assert exact.stderr == pytest.approx(0.3 / 29.2)
    assert exact.low == pytest.approx(a.low / 29.2 - 1)
    g = np.random.default_rng(0)
    drifts = []
    for x, y in zip(12 + g.normal(size=400), 10 + g.normal(size=400), strict=True):
        drifts.append(relative_drift(Estimate.normal(x, 1.0, 9, "x"), Estimate.normal(y, 1.0, 9, "y")))
    assert 0.91 <= covered(drifts, 0.2) <= 0.99
    with pytest.raises(InputError, match="reference"):
        relative_drift(a, 0.0)


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5])
def test_proportions_cover(p):
    """Exact coverage of the Wilson interval at n = 400, summed over the binomial law."""
    from scipy import stats

    counts = np.arange(401)
    inside = [e.low <= p <= e.high for e in (proportion(int(c), 400) for c in counts)]
    assert 0.93 <= stats.binom.pmf(counts, 400, p) @ inside <= 0.99


def test_proportion_at_the_ends():
    assert proportion(0, 100).value == proportion(0, 100).low == 0.0
    assert 0.03 < proportion(0, 100).high < 0.05
    assert proportion(100, 100).high == 1.0
    with pytest.raises(InputError):
        proportion(3, 2)


def test_mode_weights():
    g = torch.Generator().manual_seed(2)
    names = ("a", "b", "c")
    hard = torch.eye(3)[torch.multinomial(torch.tensor([0.2, 0.3, 0.5]), 400 * 200, True, generator=g)]
    runs = [mode_weights(rows, names) for rows in hard.reshape(400, 200, 3)]
    rows = -torch.rand(400 * 200, 3, generator=g, dtype=torch.float64).log() * torch.tensor([0.4, 0.6, 1.0])
    rows = (rows / rows.sum(1, keepdim=True)).reshape(400, 200, 3)
    truth = rows.mean((0, 1))
    softs = [mode_weights(r, names) for r in rows]
    for j, (name, p) in enumerate(zip(names, (0.2, 0.3, 0.5), strict=True)):
        assert 0.91 <= covered([run[name] for run in runs], p) <= 0.99
        assert 0.91 <= covered([run[name] for run in softs], float(truth[j])) <= 0.99
    assert "Wilson" in runs[0]["a"].method
    assert "Wilson" not in softs[0]["a"].method


def test_a_mode_nobody_visits_keeps_an_upper_end():
    r = torch.tensor([[1 - 1e-9, 1e-9]], dtype=torch.float64).expand(100, 2)
    assert mode_weights(r, ("a", "b"))["b"].high > 0.03


def test_histogram():
    got = histogram(torch.tensor([0, 2, 2, 2]), ("cat", "dog", "owl"))
    assert {k: e.value for k, e in got.items()} == {"cat": 0.25, "dog": 0.0, "owl": 0.75}
    assert got["dog"].high > 0.4
    assert class_counts(torch.tensor([1, 1]), 3).tolist() == [0, 2, 0]


LAWS = {
    "uniform 10": np.full(10, 0.1),
    "two": np.array([0.5, 0.5]),
    "nearly two": np.array([0.535, 0.465]),  # the delta method alone covers 84 % here
    "skewed": np.array([0.6, 0.2, 0.1, 0.05, 0.05]),
    "nearly uniform": np.array([0.24, 0.26, 0.25, 0.25]),
}


@pytest.mark.parametrize("name", LAWS)
def test_entropy_covers_and_is_nearly_unbiased(name):
    """400 repetitions of n = 300: 95 +- 4 % (conservative near uniform)."""
    p = LAWS[name]
    truth = -float(p @ np.log(p))
    estimates = [entropy(torch.as_tensor(c)) for c in np.random.default_rng(3).multinomial(300, p, size=400)]
    assert covered(estimates, truth) >= 0.91
    if name == "skewed":
        assert covered(estimates, truth) <= 0.99


def test_entropy_is_nearly_unbiased():
    """Miller-Madow removes (K - 1)/(2n) = .0067 of bias; 4 standard errors of the mean of 8000 are .0022."""
    p = LAWS["skewed"]
    draws = np.random.default_rng(4).multinomial(300, p, size=8000)
    values = np.array([entropy(torch.as_tensor(c)).value for c in draws])
    assert abs(values.mean() + p @ np.log(p)) < 0.0025


def test_entropy_of_the_uniform_histogram_has_width():
    e = entropy([50, 50])
    assert e.high == pytest.approx(math.log(2))
    assert e.low < e.value - 0.005
    assert e.stderr > 0


def test_entropy_of_one_class():
    e = entropy([100, 0, 0])
    assert e.value == 0.0
    assert 0.1 < e.high < math.log(3)
    assert e.warnings
    assert entropy([100]).high == 0.0


def test_bad_input():
    x = torch.zeros(5, 2)
    x[3, 1] = math.nan
    with pytest.raises(InputError, match=r"1 of 5 rows.*row 3"):
        second_moment(x)
    with pytest.raises(InputError, match="at least 2"):
        second_moment(torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"1 of 2 labels.*number 1: 7"):
        histogram(torch.tensor([0, 7]), ("a", "b"))
    with pytest.raises(InputError, match="integers"):
        histogram(torch.tensor([0.5]), ("a",))
    with pytest.raises(InputError, match="rows of responsibilities"):
        mode_weights(torch.tensor([[0.5, 0.6], [0.5, 0.5]]), ("a", "b"))
    with pytest.raises(InputError, match="responsibilities must be"):
        mode_weights(torch.ones(4, 1), ("a", "b"))
    with pytest.raises(InputError, match="at least 2"):
        entropy([1, 0])
    with pytest.raises(InputError, match="non-negative"):
        entropy([-1, 3])
