import pytest
import torch

from driftlaw.data import as_source
from driftlaw.errors import ConfigError, InputError
from driftlaw.kinds import CLASSIFIERS
from driftlaw.learn.classifier import ConvClassifier
from driftlaw.seeding import generator

SMALL = ConvClassifier(width=4, features=16, least_steps=40)


def stripes(n, shape=(3, 32, 32), classes=3, name="x"):
    """Images whose class is the period of their stripes, in a random phase and with noise."""
    g = generator(0, "stripes", name)
    y = torch.arange(n) % classes
    phase = 6.3 * torch.rand(n, 1, generator=g)
    wave = torch.sin(torch.arange(shape[2]) * (0.4 + 0.5 * y[:, None]) + phase)
    return 0.5 * wave[:, None, None, :] + 0.2 * torch.randn(n, *shape, generator=g), y


def test_digits_are_told_apart():
    """About 98 % at this size; 92 % would be 20 standard errors below (false failure far below 1e-4)."""
    source = as_source("digits")
    train, test = source.draw(1200, generator(0, "train")), source.held_out(597, generator(0, "test"))
    model = ConvClassifier(width=8, features=32, least_steps=120).fit(train.x, train.y, classes=10, seed=0)
    assert float((model.predict(test.x) == test.y).float().mean()) > 0.92
    assert model.trained_on == 1200


def test_colour_images():
    x, y = stripes(300)
    model = SMALL.fit(x, y, classes=3, seed=0)
    fresh, truth = stripes(90, name="fresh")
    assert float((model.predict(fresh) == truth).float().mean()) > 0.9
    assert model.features(fresh).shape == (90, 16)


def test_the_head_reads_the_features():
    x, y = stripes(60, (1, 8, 8))
    model = SMALL.fit(x, y, classes=3, seed=0)
    scores = model.net.head(torch.nn.functional.silu(model.features(x)))
    assert torch.equal(scores.argmax(dim=1), model.predict(x))


def test_a_fit_depends_on_rows_labels_and_seed_only():
    x, y = stripes(60, (1, 9, 7))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = SMALL.fit(x, y, classes=3, seed=5)
        torch.manual_seed(2)
        again = SMALL.fit(x, y, classes=3, seed=5)
    other = SMALL.fit(x, y, classes=3, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one.state().values(), again.state().values(), strict=True))
    assert not torch.equal(one.features(x), other.features(x))


def test_state_and_config_round_trip():
    x, y = stripes(60, (1, 8, 8))
    model = SMALL.fit(x, y, classes=3, seed=0)
    back = SMALL.load(model.state(), (1, 8, 8), trained_on=60)
    assert torch.equal(back.features(x), model.features(x))
    assert CLASSIFIERS.build(SMALL.config()) == SMALL
    with pytest.raises(InputError, match=r"not of a classifier of rows \[3, 8, 8\]"):
        SMALL.load(model.state(), (3, 8, 8))


def test_progress_ends_at_one():
    seen = []
    x, y = stripes(40, (1, 8, 8))
    SMALL.fit(x, y, classes=3, progress=lambda fraction, text: seen.append((fraction, text)))
    assert seen[-1][0] == 1.0
    assert "loss" in seen[-1][1]


class TestBadInput:
    x, y = stripes(12, (1, 8, 8))

    def test_labels_of_another_length(self):
        with pytest.raises(InputError, match=r"labels are torch.int64 \[11\] for 12 rows. Give one integer label"):
            SMALL.fit(self.x, self.y[:11], classes=3)

    def test_labels_outside(self):
        with pytest.raises(InputError, match=r"4 of 12 labels are outside 0..1, the first is row 2: 2"):
            SMALL.fit(self.x, self.y, classes=2)

    def test_one_class(self):
        with pytest.raises(InputError, match="all 12 labels name one class"):
            SMALL.fit(self.x, torch.zeros(12, dtype=torch.int64), classes=3)

    def test_vectors_and_tiny_images(self):
        for rows in (torch.zeros(12, 5), torch.zeros(12, 1, 3, 8)):
            with pytest.raises(InputError, match="Give images"):
                SMALL.fit(rows, self.y, classes=3)

    def test_nan(self):
        x = self.x.clone()
        x[7, 0, 0, 0] = torch.nan
        with pytest.raises(InputError, match=r"1 of 12 rows of the labelled set .* first is row 7"):
            SMALL.fit(x, self.y, classes=3)

    def test_wrong_channels(self):
        model = SMALL.fit(self.x, self.y, classes=3)
        with pytest.raises(InputError, match=r"rows of shape \[3, 8, 8\].*Expected rows of shape \[1, 8, 8\]"):
            model.predict(torch.zeros(2, 3, 8, 8))

    def test_settings(self):
        with pytest.raises(ConfigError, match="width = 0 cannot be used"):
            ConvClassifier(width=0)
