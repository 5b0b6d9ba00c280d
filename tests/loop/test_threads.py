"""Small networks run on one thread, and the manifest says so; what was asked for, or begun with, stays."""

import json

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.loop.run import thread_count


@pytest.fixture(autouse=True)
def two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def study(tmp_path, **settings):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32))
    values = {"estimator": dl.Denoiser(steps=5, warm_steps=5, solver_steps=2), "policy": 0.5, "samples": 50}
    values |= {"generations": 2, "measures": {"samples": 0, "critic_rows": 0}}
    return dl.Study(source=str(tmp_path / "rows.npy"), **(values | settings))


@pytest.mark.parametrize(("asked", "used"), [(None, 1), (2, 2)])
def test_the_manifest_says_how_many(tmp_path, asked, used):
    list(dl.run(study(tmp_path, threads=asked), out=tmp_path / "a"))
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["threads"] == used


def test_which_learners_are_small(tmp_path):
    assert thread_count(study(tmp_path)) == 1
    assert thread_count(study(tmp_path, estimator=dl.Denoiser(width=1024))) is None
    assert thread_count(study(tmp_path, estimator=dl.KDE(0.3))) is None
    assert thread_count(study(tmp_path, estimator=dl.FlowMatching())) == 1
    assert not dl.Denoiser().one_thread((1, 28, 28))
    assert dl.Denoiser(net="mlp").one_thread((1, 28, 28))


def test_a_run_that_was_begun_with_more_goes_on_with_them(tmp_path):
    assert thread_count(study(tmp_path), 2) is None
    assert thread_count(study(tmp_path), 1) == 1
