import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.sets.diversity import diversity, effective_number
from driftlaw.seeding import generator


def draw(n, *name, d=3):
    return torch.randn(n, d, generator=generator(0, "diversity", *name)).double()


def test_naive_twin():
    x = draw(40, "x")
    d = torch.cdist(x, x)[~torch.eye(40, dtype=torch.bool)]
    assert diversity(x, block=100).value == pytest.approx(float(d.mean()))
    number = pytest.approx(1 / float(torch.exp(-d.square() / 0.49).mean()))
    assert effective_number(x, 0.7, block=100).value == number
    assert effective_number(x + 1e8, 0.7).value == pytest.approx(number.expected, rel=1e-5), "no cancellation"
    assert diversity(torch.cat([x, x]) + 1e5).value > 0.0, "equal rows are at distance 0"


def test_closed_forms_and_coverage():
    """Standard Gaussian in 3 dimensions, 200 sets of 80.

    E|X - X'| = sqrt(2) E|Z_3| = 4/sqrt(pi); E exp(-|X - X'|^2/h^2) = (1 + 4/h^2)^{-3/2}. P(fewer than 176 of
    200 | 95 %) = 4e-5.
    """
    mean, number = 4 / math.sqrt(math.pi), (1 + 4.0) ** 1.5
    covered = [0, 0]
    for i in range(200):
        x = draw(80, i)
        for j, (found, truth) in enumerate(((diversity(x), mean), (effective_number(x, 1.0), number))):
            covered[j] += found.low <= truth <= found.high
    assert min(covered) >= 176, covered


def test_clusters_are_counted():
    """m tight, far clusters of equal weight: 1/E k^2 = m up to the missing diagonal, (n - m)/(n m - m)."""
    centres = 100.0 * torch.eye(7).double()[torch.arange(700) % 7]
    found = effective_number(centres + 1e-3 * draw(700, "noise", d=7), 1.0)
    assert found.value == pytest.approx(7 * 699 / 693, rel=1e-4)
    one = effective_number(1e-3 * draw(100, "one"), 1.0)
    assert one.value == pytest.approx(1.0, abs=1e-4)
    assert one.low >= 1.0 - 1e-12
    assert effective_number(torch.tensor([[0.0], [0.0], [0.0], [0.3]]), 1.0).low == 1.0


def test_collapse_lowers_both_and_noise_raises_both():
    x = draw(400, "x")
    for other, sign in ((0.6 * x, -1), (x + draw(400, "noise"), 1)):
        for measure in (diversity, lambda z: effective_number(z, 1.0)):
            assert sign * (measure(other).value - measure(x).value) > 0
            assert measure(other).low > measure(x).high if sign > 0 else measure(other).high < measure(x).low


def test_nothing_is_close():
    found = effective_number(1000.0 * draw(20, "far"), 1.0)
    assert found.high == math.inf
    assert found.low == pytest.approx(190 / 3)  # rule of three for 190 pairs
    assert "no two of the 20 rows are close" in found.warnings[0]


def test_bad_input():
    with pytest.raises(InputError, match="the bandwidth is 0"):
        effective_number(draw(10, "x"), 0)
    with pytest.raises(InputError, match="at least 4"):
        diversity(draw(3, "x"))
