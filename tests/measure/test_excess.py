"""Excess denoising energy against linear errors on a diffused Gaussian, where both energies are known."""

import math

import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError
from driftlaw.measure.paths.excess import excess_energy
from driftlaw.measure.paths.path import Horizon

T0, T = 0.02, 4.0
L = T - T0
NORMAL = dl.GaussianMixture([1.0], torch.zeros(1, 3), 1.0)


def rows(n=4000, seed=0):
    return NORMAL.sample(n, torch.Generator().manual_seed(seed))


def test_difference_of_two_energies():
    """e = 0.3 x against e = 0.1 x on N(0, I) in 3 dimensions: (0.09 - 0.01) 3 L; 4 standard errors fail at 6e-5."""
    found = excess_energy(lambda x, t: -0.7 * x, lambda x, t: -0.9 * x, rows(), t0=T0, T=T)
    want = 0.08 * 3 * L
    assert abs(found.total.value - want) < 4 * found.total.stderr
    assert found.total.stderr < 0.05 * want
    assert sum(e.value for e in found.by_time) == pytest.approx(found.total.value)
    for low, high, e in zip(found.edges[:-1], found.edges[1:], found.by_time, strict=True):
        assert abs(e.value - 0.24 * (high - low)) < 4 * e.stderr
    assert found.edges[0] == pytest.approx(T0)
    assert found.edges[-1] == pytest.approx(T)


def test_antisymmetric_and_zero_for_one_score():
    worse, better = (lambda x, t: -0.7 * x), (lambda x, t: -0.9 * x)
    one, two = excess_energy(worse, better, rows(500)), excess_energy(better, worse, rows(500))
    assert one.total.value == pytest.approx(-two.total.value)
    assert excess_energy(worse, worse, rows(500)).total.value == 0


def test_the_true_score_as_reference_gives_the_whole_energy():
    """A time-only error, e = (t, 0, 0): int t^2 dt."""
    field = lambda x, t: -x + torch.as_tensor(t)[:, None].to(x) * torch.tensor([1.0, 0.0, 0.0])  # noqa: E731
    found = excess_energy(field, NORMAL, rows(), t0=T0, T=T, strata=8)
    assert abs(found.total.value - (T**3 - T0**3) / 3) < 4 * found.total.stderr
    assert found.total.stderr < 0.05 * found.total.value


def test_blocks_do_not_change_the_mean(monkeypatch):
    """Standard error falls as n^-1/2 (rate by slope, seeded)."""
    errors = [excess_energy(lambda x, t: -0.7 * x, NORMAL, rows(n)).total.stderr for n in (500, 8000)]
    assert math.log(errors[0] / errors[1]) / math.log(16) == pytest.approx(0.5, abs=0.1)
    assert Horizon(T0, T).time(torch.zeros(1))[0] == pytest.approx(T0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": rows(1)}, "1 rows"),
        ({"strata": 0}, "0 strata"),
        ({"t0": 0.0}, "0 < t0"),
        ({"rows": rows(9) * math.nan}, "NaN"),
    ],
)
def test_bad_input(change, words):
    given = {"rows": rows(50), "t0": T0, "T": T} | change
    with pytest.raises(InputError, match=words):
        excess_energy(lambda x, t: -0.7 * x, NORMAL, **given)
