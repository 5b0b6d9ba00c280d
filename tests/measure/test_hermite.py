"""Hermite coefficients and gains: closed forms, samples of the limit law, and the feature map of sketches."""

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError
from driftlaw.estimate import CLEAR
from driftlaw.measure.features.hermite import usable_degree
from driftlaw.theory.limit import hermite_gain

TARGET = dl.GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.5, 2.0]], [[0.5, 0.3], [0.1, 0.6]])


def draws(law, n, seed):
    return law.sample(n, torch.Generator().manual_seed(seed), torch.float64)


def test_the_gains_of_laws_are_the_closed_ones_in_every_direction():
    found = dl.hermite_spectrum(dl.limit_law(TARGET, 0.2, 0.05), TARGET, 8, coordinates="given")
    for c in found.coefficients:
        assert c.gain.value == pytest.approx(float(hermite_gain(c.degree, 0.2, 0.05)), rel=1e-7)
    assert np.allclose([g.value for g in found.gains], hermite_gain(range(1, 9), 0.2, 0.05), rtol=1e-7)


def test_samples_give_the_gains_within_their_errors_whatever_the_blocks():
    x, real = draws(dl.limit_law(TARGET, 0.2, 0.3), 60_000, 1), draws(TARGET, 60_000, 2)
    whole = dl.hermite_spectrum(x, real, 3, coordinates="given")
    parts = dl.hermite_spectrum(iter(x.split(777)), iter(real.split(5_000)), 3, coordinates="given")
    for m, (a, b) in enumerate(zip(whole.gains, parts.gains, strict=True), start=1):
        assert a.stderr < 0.05
        assert abs(a.value - float(hermite_gain(m, 0.2, 0.3))) < CLEAR * a.stderr
        assert (a.value, a.stderr) == pytest.approx((b.value, b.stderr), rel=1e-9)


def test_errors_are_those_of_repeated_draws():
    found = [dl.hermite_spectrum(draws(TARGET, 1000, s), TARGET, 3, coordinates="given").gains for s in range(200)]
    values, stated = (np.array([[getattr(g, k) for g in row] for row in found]) for k in ("value", "stderr"))
    # the standard deviation of 200 normal draws has a relative error of 5 %
    assert np.allclose(values.std(0) / stated.mean(0), 1, atol=5 * 0.05)
    assert (abs(values.mean(0) - 1) < CLEAR * values.std(0) / np.sqrt(200)).all()


def test_whitened_coordinates_have_no_mean_and_unit_variance_to_lose():
    found = dl.hermite_spectrum(TARGET.diffuse(0.2), TARGET, 4)
    assert found.gains[0].is_refused
    assert found.gains[1].is_refused
    assert 0 < found.gains[2].value < 1
    rows = dl.hermite_spectrum(draws(TARGET, 20_000, 3), draws(TARGET, 40_000, 4), 3)
    exact = dl.hermite_spectrum(TARGET, TARGET, 3)
    for a, b in zip(rows.coefficients, exact.coefficients, strict=True):
        assert abs(a.coefficient.value - b.coefficient.value) < 0.05 * 4


def test_a_degree_beyond_the_rows_names_the_largest_usable_one():
    assert [usable_degree(n) for n in (20, 30, 929, 930, 6390)] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="largest usable degree is 3"):
        dl.hermite_spectrum(draws(TARGET, 1000, 0), TARGET, 6)


@pytest.mark.parametrize(
    ("rows", "words"),
    [(torch.full((100, 2), torch.nan), "NaN or infinite"), (torch.randn(100, 3), "3 columns, the reference 2"),
     (7, "an iterable of arrays"), (torch.full((200, 2), 1e200, dtype=torch.float64), "not finite")],
)  # fmt: skip
def test_bad_rows(rows, words):
    with pytest.raises(InputError, match=words):
        dl.hermite_spectrum(rows, TARGET, 2 if isinstance(rows, torch.Tensor) else 1)


def test_hermite_sketches_merge_and_store(tmp_path):
    rows = draws(TARGET, 3000, 5).numpy()
    a = dl.sketch(rows[:2000], "hermite", dimension=8)
    assert a.features.labels == [f"He{m}(pc{j})" for m in range(1, 5) for j in (1, 2)]
    z = a.features(rows)
    x = (z[:, :2] ** 3 - 3 * z[:, :2]) / np.sqrt(6)
    assert np.allclose(z[:, 4:6], x)
    a.save(tmp_path / "a.sketch")
    assert dl.Sketch.load(tmp_path / "a.sketch").features.fingerprint == a.features.fingerprint
    with pytest.raises(InputError, match="leave no room"):
        dl.sketch(rows, "hermite", dimension=3)
