import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.sets.classes import ClassModel
from driftlaw.seeding import generator

CENTRES = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
NAMES = ("ant", "bee", "cat")


def labelled(n, name, weights=(1, 1, 1), spread=1.0):
    g = generator(0, name)
    y = torch.multinomial(torch.tensor(weights).float(), n, replacement=True, generator=g)
    return CENTRES[y] + spread * torch.randn(n, 2, generator=g), y


def model(spread=1.0, **options):
    x, y = labelled(300, "train", spread=spread)
    return ClassModel.fit(FeatureMap.fit(x, "identity"), x, y, *labelled(300, "held", spread=spread), **options)


@pytest.mark.parametrize("kind", ["logistic", "knn"])
def test_separated_classes_are_recovered(kind):
    m = model(classes=NAMES, kind=kind)
    assert m.accuracy.value > 0.98
    assert m.accuracy.n == 300
    x, y = labelled(500, "new", weights=(6, 3, 1))
    shares = m.class_histogram(x)
    assert tuple(shares) == NAMES
    for c, name in enumerate(NAMES):
        assert abs(shares[name].value - float((y == c).double().mean())) < 0.01
        assert shares[name].low < (0.6, 0.3, 0.1)[c] < shares[name].high
        assert "not corrected" in shares[name].warnings[-1]
    law = torch.tensor([0.6, 0.3, 0.1]).double()
    e = m.entropy(x)
    assert e.low < float(-(law * law.log()).sum()) < e.high


def test_a_collapsed_set_has_no_entropy():
    m = model()
    x, _ = labelled(200, "one", weights=(0, 1, 0))
    assert m.class_histogram(x)["1"].value > 0.99
    assert m.entropy(x).value < 0.05 < math.log(3)


def test_a_confused_classifier_says_so():
    m = model(spread=8.0)
    assert m.accuracy.value < 0.8
    assert str(m.accuracy) in m.entropy(labelled(50, "x")[0]).warnings[-1]


def test_it_replays():
    x, _ = labelled(100, "x", spread=6.0)
    assert torch.equal(model(spread=6.0, seed=3).predict(x), model(spread=6.0, seed=3).predict(x))


class TestBadInput:
    x, y = labelled(60, "bad")
    phi = FeatureMap.fit(x, "identity")

    def fit(self, y=None, classes=None, **options):
        return ClassModel.fit(self.phi, self.x, self.y if y is None else y, self.x, self.y, classes, **options)

    def test_unknown_kind(self):
        with pytest.raises(InputError, match="Did you mean 'knn'"):
            self.fit(kind="kn")

    def test_wrong_length(self):
        with pytest.raises(InputError, match=r"labels has shape \(59,\) for 60 rows"):
            self.fit(self.y[:-1])

    def test_not_integers(self):
        with pytest.raises(InputError, match="integers"):
            self.fit(self.y.float())
        with pytest.raises(InputError, match="integers"):
            self.fit(self.y - 1)

    def test_unnamed_class(self):
        with pytest.raises(InputError, match="label 2 has no name"):
            self.fit(classes=("a", "b"))

    def test_one_class(self):
        with pytest.raises(InputError, match="one class only"):
            self.fit(torch.zeros(60, dtype=torch.int64))

    def test_nan_sample(self):
        x = self.x.clone()
        x[5] = math.nan
        with pytest.raises(InputError, match="the first is row 5"):
            self.fit().class_histogram(x)
