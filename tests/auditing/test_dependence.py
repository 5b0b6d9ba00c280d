"""Rows that depend on their neighbours: runs of them in place of rows, and a warning with an exact level."""

import json
import sys

import numpy as np
import pytest
from scipy.signal import lfilter

import driftlaw as dl
from driftlaw.auditing.evidence.dependence import serial
from driftlaw.cli import app
from driftlaw.errors import InputError
from driftlaw.measure.sketch.serial import SerialSums


def series(rng, n, k=2, phi=0.9):
    """Stationary autoregression of unit variance."""
    z = rng.standard_normal((n + 200, k))
    return lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], z, axis=0)[200:]


def audited(a, b, **options):
    return dl.audit(a, [b], features="identity", **options)


def sketched(a, b, block):
    """The same from sketches, without nearest neighbours."""
    real = dl.sketch(a, "identity", block=block)
    return dl.audit(real, [dl.sketch(b, like=real)]).generations[0]


def test_sums_over_runs_are_those_of_the_rows():
    z = np.random.default_rng(0).standard_normal((1003, 3))
    want = z[:1000].reshape(100, 10, 3).mean(1)
    for cuts in ([500], [3, 7, 8, 25, 500, 1001], range(1, 1003)):
        sums = SerialSums(10, groups=4, dimension=3, seed=1)
        for part in np.split(z, cuts):
            sums.add(part)
        assert sums.n == 100
        np.testing.assert_allclose(sums.mean, want.mean(0), atol=1e-12)
        np.testing.assert_allclose(sums.covariance, np.cov(want.T), atol=1e-12)
        assert sums.spread.counts.tolist() == [25] * 4


def test_a_sketch_keeps_runs(tmp_path):
    x = series(np.random.default_rng(1), 4000)
    whole = dl.sketch(x, "identity", block=50)
    whole.save(tmp_path / "x.sketch")
    again = dl.Sketch.load(tmp_path / "x.sketch")
    assert again.block == 50
    for name in ("n", "mean", "covariance"):
        np.testing.assert_array_equal(getattr(again.serial, name), getattr(whole.serial, name))
    np.testing.assert_array_equal(again.serial.spread.scatter, whole.serial.spread.scatter)
    halves = [dl.sketch(part, like=whole) for part in np.split(x, [2000])]
    both = halves[0].merge(halves[1])
    one = dl.sketch(x, like=whole)
    assert both.serial.n == one.serial.n == 80
    np.testing.assert_allclose(both.serial.covariance, one.serial.covariance, rtol=1e-10)
    with pytest.raises(InputError, match="cannot be merged"):
        both.merge(dl.sketch(x, like=whole, block=1))


def test_blocks_restore_the_level_and_the_coverage():
    """40 pairs of series that forget in 10 rows: 5 % rejected, 95 % covered; > 9 and < 30 have probability < 1e-4.

    Taken as independent rows most are rejected.
    """
    rejected, covered, naive, drift = 0, 0, 0, 0.09
    for r in range(40):
        rng = np.random.default_rng([r, 1])
        a, b = series(rng, 3000), series(rng, 3000)
        rejected += sketched(a, b, 100).p_value_single.value < 0.05
        naive += r < 10 and sketched(a, b, 1).p_value_single.value < 0.05
        e = sketched(a, b + np.sqrt(drift / 2), 100).drift
        covered += e.low <= drift <= e.high
    assert rejected <= 9
    assert covered >= 30
    assert naive >= 5


def test_columns_of_series_raise_no_alarm():
    """Cells, too, count as fewer rows: an audit of 30 honest pairs; 5 % in all, > 8 has probability < 1e-4."""
    alarms = 0
    for r in range(30):
        rng = np.random.default_rng([r, 2])
        alarms += bool(sketched(series(rng, 3000), series(rng, 3000), 100).findings)
    assert alarms <= 8


def test_audits_of_sketches_use_their_runs():
    rng = np.random.default_rng(3)
    a, b = series(rng, 3000), series(rng, 2000)
    real = dl.sketch(a, "identity", block=60)
    made = dl.sketch(b, like=real)
    by_sketch = dl.audit(real, [made], block=60).generations[0]
    by_rows = audited(a, b, block=60).generations[0]
    assert by_sketch.drift == by_rows.drift
    assert by_sketch.p_value_single.value == by_rows.p_value_single.value
    with pytest.raises(InputError, match="keeps runs of 60 rows, not of 30"):
        dl.audit(real, [made], block=30)
    with pytest.raises(InputError, match="keep runs of 60 and 1 rows"):
        dl.audit(real, [dl.sketch(b, like=real, block=1)])
    with pytest.raises(InputError, match="make 2 runs of 1000 rows"):
        audited(a, b, block=1000)


def test_the_warning_has_its_level_and_its_power():
    """Level 2 % over 150 sets of independent rows: > 12 has probability < 1e-4; a short memory is found always."""
    rng = np.random.default_rng(4)
    false = sum(serial(np.exp(rng.standard_normal((128, 2))), 0, 0.02) is not None for _ in range(150))
    assert false <= 12
    for phi in (0.3, 0.9):
        length, ratio = serial(series(rng, 2048, phi=phi), 0)
        assert length >= (2 if phi == 0.3 else 16)
        assert ratio > 1.3
    assert serial(-((-1.0) ** np.arange(400))[:, None] + 0.1 * rng.standard_normal((400, 1)), 0) is None


def test_the_warning_names_a_block(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(5)
    a, b = series(rng, 5000), rng.standard_normal((1000, 2))
    (note,) = (w for w in audited(a, b).warnings if "alike" in w)
    assert "audit with block" in note
    assert not any("alike" in w for w in audited(a, b, block=64).warnings)
    assert not any("alike" in w for w in audited(rng.permutation(a), b).warnings)
    trend = np.sort(a, axis=0)  # 1024 rows apart the file still looks sorted
    assert any("alike" in w for w in audited(trend, b).warnings)
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", a)
    np.save("b.npy", b)
    monkeypatch.setattr(sys, "argv", ["driftlaw", "audit", "a.npy", "b.npy", "--block", "64", "--json"])
    with pytest.raises(SystemExit):
        app.main()
    document = json.loads(capsys.readouterr().out)
    assert document["generations"][0]["drift"]["value"] == audited(a, b, block=64).generations[0].drift.value
