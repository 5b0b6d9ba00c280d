"""A run read back: rows in the units of the data, and tables without Python objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError

SMALL = {"samples": 40, "density_samples": 100, "path_samples": 0, "critic_rows": 0}


def run(out, source, **changes):
    settings = {"estimator": dl.GaussianMLE(ridge=0.01), "policy": 0.5, "samples": 60, "generations": 2, "seed": 7}
    list(dl.run(dl.Study(source=source, measures=SMALL, **settings | changes), out))
    return dl.load(out)


def test_rows_of_a_table_come_back_in_their_own_units(tmp_path):
    raw = np.random.default_rng(0).normal([1e3, -5.0], [50.0, 0.1], size=(300, 2))
    np.save(tmp_path / "rows.npy", raw)
    history = run(tmp_path / "a", str(tmp_path / "rows.npy"))
    real = history.samples(0, units="data")
    assert real.dtype == np.float64
    for row in real[:5]:
        assert np.abs(raw - row).max(axis=1).min() < 1e-3  # a row of the file, up to float32
    ours = history.samples(2, units="data")
    assert np.abs(ours.mean(0) - [1e3, -5]).max() < 30  # standard errors of 60 rows are 6.5
    assert np.abs(history.samples(2).mean(0)).max() < 1


def test_images_from_bytes_are_bytes_again_and_a_law_has_one_unit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, size=(200, 1, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    history = run(tmp_path / "a", str(tmp_path / "images.npy"))
    real = history.samples(0, units="data")
    assert np.abs(real - real.round()).max() < 1e-4
    assert np.isin(real.round()[0], pixels).all()
    law = run(tmp_path / "b", dl.GaussianMixture([1.0], [[0.0]], [1.0]))
    assert (law.samples(1, units="data") == law.samples(1)).all()


def test_unknown_units_and_an_own_source_are_named(tmp_path):
    history = run(tmp_path / "a", dl.GaussianMixture([1.0], [[0.0]], [1.0]))
    with pytest.raises(InputError, match="units = 'raw'"):
        history.samples(1, units="raw")


def test_tables_hold_numbers(tmp_path):
    frame = run(tmp_path / "a", dl.GaussianMixture([1.0], [[0.0]], [1.0])).frame()
    assert set(map(str, frame.dtypes)) == {"int64", "float64"}
    assert str(frame.index.dtype) == "int64"
    assert frame["seed"].tolist() == [7, 7]
    assert frame["alpha"].tolist() == [1.0, 0.5]
    assert str(frame["real"].dtype) == "int64"


def test_a_sweep_is_one_table_with_typed_settings(tmp_path):
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    study = dl.Study(source=law, estimator=dl.KDE(0.5), policy=0.5, samples=60, generations=1, measures=SMALL)
    grid = {"estimator.bandwidth": [1, 0.3, "scott"], "reuse": [True, False]}
    found = dl.sweep(study, tmp_path, alphas=[1], seeds=[3], grid=grid)
    frame = found.frame()
    assert len(frame) == 6
    kinds = {name: str(frame[name].dtype) for name in ("estimator.bandwidth", "reuse", "alpha", "seed", "samples")}
    assert kinds == {
        "estimator.bandwidth": "string", "reuse": "bool", "alpha": "float64", "seed": "int64", "samples": "int64",
    }  # fmt: skip
    assert "object" not in set(map(str, frame.dtypes))
    assert set(frame["estimator.bandwidth"]) == {"1", "0.3", "scott"}
    few = dl.sweep(study, tmp_path / "b", alphas=[1], seeds=[3], grid={"estimator.bandwidth": [1, 0.3]}).frame()
    assert few["estimator.bandwidth"].tolist() == [1.0, 0.3]


def test_the_generator_is_not_the_global_one(tmp_path):
    state = torch.random.get_rng_state()
    run(tmp_path / "a", dl.GaussianMixture([1.0], [[0.0]], [1.0])).frame()
    assert torch.equal(state, torch.random.get_rng_state())
