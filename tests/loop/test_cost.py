"""What a dry run counts: with every probe taking one second, the estimate is a count of work."""

import pytest

import driftlaw as dl
from driftlaw.learn import Denoiser
from driftlaw.loop import cost

TINY = Denoiser(width=8, steps=20, warm_steps=10, batch=16, solver_steps=2)


@pytest.fixture
def measuring(monkeypatch):
    """Seconds of measuring at one second a probe."""

    def count(source="digits", estimator=TINY, **measures):
        measures = {"samples": 100, "dimension": 4, "critic_rows": 0, "path_samples": 0} | measures
        study = dl.Study(source=source, estimator=estimator, policy=0.5, samples=200, generations=3, measures=measures)
        return cost.cost(study).seconds["measuring"]

    monkeypatch.setattr(cost, "_timed", lambda work: (work(), 1.0))
    return count


def test_comparisons_and_critic(measuring):
    assert measuring() == pytest.approx(3.0)
    assert measuring(critic_rows=64) == pytest.approx(3.0 + 3.0)
    assert measuring(critic_rows=5000, samples=200) == pytest.approx(3.0 + 3.0 * 200 / 128)


def test_rows_of_a_network(measuring, tmp_path):
    """1200 training and 100 held-out rows of the reference, 3 x 100 samples, and 200 + 100 + 100 rows trained on.

    With labels the classes of all samples are predicted too.
    """
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef build():\n    return nn.Flatten()\n")
    rows = 1200 + 100 + 300 + 400 + 3 * 200
    assert measuring(features=f"{tmp_path / 'net.py'}:build") == pytest.approx(3.0 + rows / cost.NETWORK_ROWS)


def test_a_classifier_is_trained(measuring, monkeypatch):
    """Two fits of ten steps' difference: 0.1 s a step, 300 steps."""
    calls = []

    def timed(work):
        calls.append(work)
        return work(), float(len(calls))

    rows = 1200 + 100 + 300 + 400 + 3 * 200
    monkeypatch.setattr(cost, "_timed", timed)
    with_one = measuring(features={"kind": "classifier", "width": 2, "features": 4})
    first = calls.copy()
    calls.clear()
    plain = measuring(features="pca")
    assert len(first) == len(calls) + 4
    last = len(first) - 1  # the fourth call of the classifier's part; then the densities
    assert with_one - plain == pytest.approx(0.1 * 300 + last / 256 * rows)


def test_a_learned_score_of_a_known_law(measuring, monkeypatch):
    """Each probe takes a second longer than the one before: 1 s for 200 of 1000 draws, three times."""

    def probes():
        taken = []
        monkeypatch.setattr(cost, "_timed", lambda work: (work(), float(len(taken) + bool(taken.append(work)))))

    probes()
    without = measuring(source="gmm", critic_rows=64)
    probes()
    assert measuring(source="gmm", critic_rows=64, path_samples=1000) == pytest.approx(without + 3 * 1000 / 200)
