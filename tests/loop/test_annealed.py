"""Early stopping by generation: stored, forked, read by bounds, refused where it has no meaning."""

import dataclasses

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import ConfigError
from driftlaw.loop.branches.fork import fork
from driftlaw.theory.annealing import Annealed, Given, annealed_times, build, stopped_at

SMALL = {"measures": {"samples": 0, "density_samples": 200, "path_samples": 200}}


def study(**changes):
    target = dl.GaussianMixture([0.5, 0.5], [[2.0], [-2.0]], [0.3, 0.3])
    settings = {"samples": 200, "generations": 3, "t0": {"kind": "annealed", "start": 0.3}} | SMALL | changes
    return dl.Study(source=target, estimator=dl.KDE(0.4), policy=0.3, **settings)


def test_each_generation_stops_at_its_own_time(tmp_path):
    records = list(dl.run(study(), out=tmp_path / "a"))
    history = dl.load(tmp_path / "a")
    assert [round(history.model(n).t0, 12) for n in (1, 2, 3)] == [0.3, 0.15, 0.1]
    rows = [dl.KDE(0.4, t0=t).fit(torch.zeros(2, 1)).t0 for t in annealed_times(0.3, 3)]
    assert [history.model(n).t0 for n in (1, 2, 3)] == rows
    assert len(records) == 3
    assert "t0" in history.config
    assert dl.Study.from_config(history.config).times == study().times


def test_a_list_is_a_constant_where_it_is_one(tmp_path):
    """The same numbers as an estimator with that t0, bit for bit."""
    listed = list(dl.run(study(t0=[0.1, 0.1, 0.1]), out=tmp_path / "a"))
    constant = dl.Study(
        **{name: getattr(study(), name) for name in ("source", "policy", "samples", "generations", "measures")},
        estimator=dl.KDE(0.4, t0=0.1),
    )
    plain = list(dl.run(constant, out=tmp_path / "b"))
    for a, b in zip(listed, plain, strict=True):
        assert a.divergence == b.divergence
        assert a.path == b.path
    found = [dl.bounds(dl.load(tmp_path / name), samples=200).to_json() for name in "ab"]
    assert found[0] == found[1]


def test_bounds_leave_out_what_needs_one_time(tmp_path):
    list(dl.run(study(), out=tmp_path / "a"))
    found = dl.bounds(dl.load(tmp_path / "a"), samples=400)
    names = {s.bound.name for s in found.statements}
    assert "TV certificate" not in names
    assert "Equality for consistent fields" in names
    assert not any(s.bound.contradicted for s in found.statements if s.bound.name == "Equality for consistent fields")
    assert any("stop at different times" in note for note in found.notes)


def test_forks_keep_the_times_of_the_shared_generations(tmp_path):
    list(dl.run(study(), out=tmp_path / "a"))
    list(fork(tmp_path / "a", at=2, out=tmp_path / "b", alpha=0.9))
    child, parent = dl.load(tmp_path / "b"), dl.load(tmp_path / "a")
    assert [child.model(n).t0 for n in (1, 2, 3)] == [parent.model(n).t0 for n in (1, 2, 3)]
    assert child[2].divergence == parent[2].divergence
    assert child[3].divergence != parent[3].divergence


def test_networks_stop_at_their_own_times(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    learner = dl.Denoiser(net="mlp", width=16, steps=20, warm_steps=10, solver_steps=4)
    one = dl.Study(
        source=str(tmp_path / "rows.npy"), estimator=learner, policy=0.5, samples=100, generations=2, t0=[0.05, 0.02]
    )
    list(dl.run(one, out=tmp_path / "a"))
    assert [dl.load(tmp_path / "a").model(n).t0 for n in (1, 2)] == [0.05, 0.02]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.1, 0.1], "2 times for 3 generations"),
        ([0.1, -1, 0.1], "no schedule"),
        ([0.1, float("nan"), 0.1], "no schedule"),
        (0.1, "estimator.t0"),
        ([], "no schedule"),
        ({"kind": "annealed", "start": 0}, "start"),
        ({"kind": "anneal", "start": 1}, "annealed"),
        ({"kind": "annealed", "start": 1, "decay": 2}, "decay"),
    ],
)
def test_what_is_no_schedule_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        study(t0=given)


def test_learners_without_a_time_are_refused():
    class Own:
        def fit(self, data, context):
            return None

        def load(self, state, shape):
            return None

        def config(self):
            return {"kind": "own"}

    with pytest.raises(ConfigError, match="Own has no early-stopping time"):
        stopped_at(Own(), 0.1)
    with pytest.raises(ConfigError, match="t0"):
        stopped_at(dl.Denoiser(), 1e9)


def test_schedules():
    assert build(None) is None
    assert build([0.2, 0]) == Given((0.2, 0.0))
    assert build({"kind": "annealed", "start": 0.1, "decay": 0.5}).times(3) == pytest.approx((0.1, 0.05, 0.025))
    assert Annealed(0.1, least=0.04).times(4) == pytest.approx((0.1, 0.05, 0.04, 0.04))
    assert dataclasses.replace(Annealed(0.1), decay=1.0).times(2) == (0.1, 0.1)
