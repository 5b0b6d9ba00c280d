import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.sets.reference import KEYS, SampleReference
from driftlaw.seeding import generator


def draw(n, *name, d=4):
    x = torch.randn(n, d, generator=generator(0, *name))
    x[:, 0] += 4.0 * (torch.arange(n) % 2)
    return x


def reference(**options):
    return SampleReference.fit(draw(600, "train"), draw(200, "held"), **options)


def test_keys_sizes_and_floor():
    r = reference()
    assert r.n == 200
    floor = r.floor()
    assert tuple(floor) == KEYS == tuple(r.compare(draw(200, "new")))
    assert all(e.n == 200 for e in floor.values())
    for key in ("chi2_lower", "mmd2", "kid", "energy", "frechet"):
        assert floor[key].low <= 0.0 <= floor[key].high, key
    assert floor["p_value"].value > 0.05


def test_the_floor_is_calibrated():
    """Real against real: 300 references of 96+24 rows. Intervals cover 0 in >= 90 %, the test rejects 5 %.

    P(p <= 0.05) = 0.05; 4 standard errors over 300 are 0.05 (false failure 6e-5). Needs the whitening and the bandwidth
    to come from other rows than the floor's.
    """
    covered, rejected, size = 0, 0, 300
    for i in range(size):
        r = SampleReference.fit(draw(120, "t", i, d=2), draw(24, "h", i, d=2), n=24, seed=i)
        floor = r.floor()
        covered += floor["chi2_lower"].low <= 0.0 <= floor["chi2_lower"].high
        rejected += floor["p_value"].value <= 0.05
    assert covered / size >= 0.90
    assert rejected / size < 0.10


def test_the_three_real_sets_are_disjoint():
    """Rows carry their own number: what the features are fitted on never plays the floor or the held-out set."""
    train, held = torch.arange(100.0)[:, None], 100 + torch.arange(40.0)[:, None]
    r = SampleReference.fit(train, held, features="identity")
    step = r.features.steps[0]
    back = (torch.cat([r.other, r.real]) / step.matrix + step.mean).round().reshape(-1)
    assert len(back.unique()) == 80
    assert (back[:40] < 100).all()
    assert (back[40:] >= 100).all()
    unseen = set(back[:40].long().tolist())
    fitted = torch.tensor([i for i in range(100) if i not in unseen]).double()
    assert r.features.fitted_on == 60
    assert float(step.mean) == pytest.approx(float(fitted.mean()))


def test_a_shift_is_seen_and_in_the_right_place():
    found = reference().compare(draw(200, "new") + torch.tensor([0.0, 1.0, 0.0, 0.0]))
    for key in ("chi2_lower", "mmd2", "kid", "energy", "frechet"):
        assert found[key].low > 0.0, key
    # shift of one standard deviation in a coordinate of variance 1: Mahalanobis 1
    assert found["chi2_lower"].low < 1.0 < found["chi2_lower"].high
    assert found["p_value"].value == 1 / 500


def test_a_lost_mode_is_seen_by_recall_not_precision():
    collapsed = draw(400, "new")[::2]
    r = reference()
    found, floor = r.compare(collapsed), r.floor()
    assert found["precision"].value > floor["precision"].value - 0.05
    assert found["recall"].value < floor["recall"].value - 0.2
    assert found["coverage"].value < floor["coverage"].value - 0.2


def test_more_samples_are_subsampled_and_said():
    r = reference()
    found = r.compare(draw(500, "many"))
    assert found["mmd2"].n == 200
    assert "200 of the 500 samples were compared" in found["mmd2"].warnings[0]
    assert found == r.compare(draw(500, "many"))


def test_few_rows_warn():
    r = reference(n=30)
    assert any("30 rows for 4 features" in w for w in r.warnings)


def test_classes_and_images():
    x, h = draw(600, "train").reshape(600, 1, 2, 2), draw(200, "held").reshape(200, 1, 2, 2)
    r = SampleReference.fit(
        x, h, labels=torch.arange(600) % 2, held_out_labels=torch.arange(200) % 2, classes=("even", "odd")
    )
    shares = r.classes(h)
    assert tuple(shares) == ("even", "odd", "entropy")
    assert shares["even"].low < 0.5 < shares["even"].high
    assert shares["entropy"].value == pytest.approx(math.log(2), abs=0.01)
    assert reference().classes(draw(50, "x")) == {}


def test_own_features():
    phi = FeatureMap.fit(draw(300, "else"), "random_fourier", dimension=6)
    r = reference(features=phi)
    assert r.features is phi
    assert r.real.shape == (200, 6)


class TestBadInput:
    def test_too_few_samples(self):
        with pytest.raises(InputError, match=r"150 samples were given, real sets have 200 rows.*n=150"):
            reference().compare(draw(150, "x"))

    def test_size(self):
        with pytest.raises(InputError, match="Choose 12 to 200"):
            reference(n=201)

    def test_small_real_sets(self):
        with pytest.raises(InputError, match="the real training set has 20 row"):
            SampleReference.fit(draw(20, "a"), draw(20, "b"))
        with pytest.raises(InputError, match="held_out has 1 row"):
            SampleReference.fit(draw(50, "a"), draw(1, "b"))

    def test_shapes(self):
        with pytest.raises(InputError, match=r"training rows have shape \(4,\), held-out rows \(3,\)"):
            SampleReference.fit(draw(50, "a"), draw(50, "b")[:, :3])

    def test_labels_on_one_side(self):
        with pytest.raises(InputError, match="only one of the two"):
            reference(labels=torch.zeros(600, dtype=torch.int64))

    def test_wrong_labels(self):
        with pytest.raises(InputError, match=r"labels has shape \(5,\) for 600 rows"):
            reference(labels=torch.zeros(5).long(), held_out_labels=torch.arange(200) % 2)

    def test_nan(self):
        x = draw(200, "x")
        x[9, 1] = math.nan
        with pytest.raises(InputError, match="1 of 200 rows of the sample are NaN or infinite, the first is row 9"):
            reference().compare(x)
