import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.sets import prdc as module
from driftlaw.measure.sets.prdc import prdc
from driftlaw.seeding import generator
from oracles import twosample_twin as twin


def normal(n, d, *name):
    return torch.randn(n, d, generator=generator(0, *name), dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 24, 25, 24 * 7, 1 << 20])
def test_equals_the_loops_whatever_the_block(block):
    real, fake = normal(24, 2, "r"), normal(24, 2, "f") * 0.6 + 0.5
    naive = twin.prdc_naive(real, fake, 3)
    found = prdc(real, fake, 3, block=block)
    assert {k: e.value for k, e in found.items()} == pytest.approx(naive)
    assert found == prdc(real, fake, 3)


def test_jackknife_radii_are_those_of_the_remaining_rows():
    x = normal(30, 2, "j")
    group = torch.arange(30) % 10
    radii = module._radii(x, 3, group, 1 << 20)
    for g in (0, 4, 9):
        kept = group != g
        expected = torch.cdist(x[kept], x[kept]).sort(dim=1).values[:, 3]
        torch.testing.assert_close(radii[g + 1, kept], expected)
        assert (radii[g + 1, ~kept] == -1).all()


def test_intervals_cover_the_known_means_of_equal_laws():
    """E coverage has a closed form, E density = 1; the jackknife is conservative, so only 91 % from below."""
    n, k, repetitions = 60, 5, 400
    hits = {"coverage": 0, "density": 0}
    values = []
    for r in range(repetitions):
        found = prdc(normal(n, 3, "r", r), normal(n, 3, "f", r), k)
        values.append(found["coverage"].value)
        for name, truth in (("coverage", twin.coverage_equal_laws(n, k)), ("density", 1.0)):
            hits[name] += found[name].low <= truth <= found[name].high
    assert min(hits.values()) / repetitions >= 0.91
    values = torch.tensor(values).double()
    # 4 standard errors: false failure 6e-5
    assert abs(float(values.mean()) - twin.coverage_equal_laws(n, k)) < 4 * float(values.std()) / math.sqrt(repetitions)


def test_jackknife_error_follows_the_true_one():
    """Spread over 200 pairs against the stated standard error, where binomial ones are 1.4 to 1.8 times too short."""
    found = [prdc(normal(100, 2, "r", r), normal(100, 2, "f", r) * 0.5) for r in range(200)]
    for name in ("recall", "density", "coverage"):
        spread = float(torch.tensor([f[name].value for f in found]).std())
        stated = math.sqrt(sum(f[name].stderr ** 2 for f in found) / 200)
        assert 1.0 < stated / spread < 2.2, name


def test_a_collapsed_generator_loses_recall_and_coverage_not_precision():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]], dtype=torch.float64)
    real = normal(200, 2, "m") + centres[torch.arange(200) % 4]
    full = prdc(real, normal(200, 2, "full") + centres[torch.arange(200) % 4])
    one_mode = prdc(real, normal(200, 2, "one") + centres[0])
    assert one_mode["precision"].value > 0.95
    assert one_mode["recall"].value < 0.3 < 0.95 < full["recall"].value
    assert one_mode["coverage"].value < 0.3 < 0.9 < full["coverage"].value


def test_noise_loses_precision_not_recall():
    real = normal(200, 4, "m")
    found = prdc(real, normal(200, 4, "n") * 3)
    assert found["precision"].high < 0.5 < 0.95 < found["recall"].value


def test_far_sets_share_nothing_and_the_interval_is_not_a_point():
    found = prdc(normal(50, 2, "a"), normal(50, 2, "b") + 100)
    for name in ("precision", "recall", "coverage"):
        assert found[name].value == 0.0
        assert found[name].low == 0.0
        assert 0.0 < found[name].high < 0.15
    assert found["density"].value == 0.0


def test_duplicates():
    """A real set of copies has balls of radius 0: they hold exact copies and nothing else."""
    real = torch.full((20, 3), 0.1, dtype=torch.float64)
    same = prdc(real, real.clone())
    assert [same[k].value for k in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    other = prdc(real, real + 1e-9)
    assert [other[k].value for k in ("precision", "recall", "coverage")] == [0.0, 0.0, 0.0]
    copied = prdc(normal(40, 2, "c"), normal(40, 2, "c"))
    assert copied["precision"].value == copied["recall"].value == copied["coverage"].value == 1.0


def test_rows_may_be_reordered():
    real, fake = normal(60, 2, "r"), normal(60, 2, "f") + 1
    order = torch.randperm(60, generator=generator(1))
    one, two = prdc(real, fake), prdc(real[order], fake[order.flip(0)])
    assert {k: e.value for k, e in one.items()} == pytest.approx({k: e.value for k, e in two.items()})


class TestBadInput:
    def test_sizes(self):
        with pytest.raises(InputError, match="real has 20 rows and samples has 30"):
            prdc(torch.zeros(20, 2), torch.zeros(30, 2))
        with pytest.raises(InputError, match="samples has 3 row"):
            prdc(torch.zeros(20, 2), torch.zeros(3, 2))

    def test_features(self):
        with pytest.raises(InputError, match="real has 2 features and samples has 3"):
            prdc(torch.zeros(20, 2), torch.zeros(20, 3))

    def test_neighbours(self):
        with pytest.raises(InputError, match="k is 0"):
            prdc(torch.zeros(20, 2), torch.zeros(20, 2), 0)

    def test_nan(self):
        x = torch.zeros(20, 2)
        x[4] = math.nan
        with pytest.raises(InputError, match=r"1 of 20 rows of samples .* first is row 4"):
            prdc(torch.zeros(20, 2), x)
