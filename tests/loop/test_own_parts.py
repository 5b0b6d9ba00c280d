"""A part of one's own is used or refused by name, never swapped for the built-in one that it resembles."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.config import Kinds
from driftlaw.errors import ConfigError
from driftlaw.loop.own import own_parts
from driftlaw.loop.sweep import Cell, cells, find

SMALL = {"samples": 0, "density_samples": 100, "path_samples": 0}


@dataclass(frozen=True)
class Triple(dl.GaussianMLE):
    """Looks like GaussianMLE in its configuration, and fits three times the rows' spread."""

    def fit(self, data, context=None):
        return super().fit(3 * data, dl.FitContext())


class Half:
    """A policy without a kind of its own."""

    def rows(self, N):
        return dl.FixedFraction(0.5).rows(N)

    def config(self):
        return {"kind": "fixed", "alpha": 0.9}


def study(estimator=None, **changes):
    settings = {"policy": 0.5, "samples": 60, "generations": 2, "measures": SMALL} | changes
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    return dl.Study(source=law, estimator=estimator or dl.GaussianMLE(), **settings)


def spread(history):
    return float(torch.from_numpy(history.samples(1).copy()).var())


@pytest.mark.parametrize(
    ("made", "own"),
    [
        (study(), set()),
        (study(dl.KDE()), set()),
        (study(dl.Denoiser(steps=2)), set()),
        (study(policy=dl.Accumulate()), set()),
        (study(policy=dl.Adaptive(0.1, 2)), set()),
        (study(Triple()), {"estimator"}),
        (study(policy=Half()), {"policy"}),
    ],
)
def test_own_parts_are_known(made, own):
    assert set(own_parts(made)) == own


def test_a_changed_setting_keeps_the_parts_it_does_not_name():
    mine = Triple()
    changed = study(mine).with_settings({"policy": 0.1, "seed": 4, "measures.density_samples": 120})
    assert changed.estimator is mine
    assert (changed.seed, changed.measures.density_samples) == (4, 120)
    with pytest.raises(ConfigError, match=r"Triple of your own"):
        study(mine).with_settings({"estimator.ridge": 0.1})
    assert study(mine).with_settings({"estimator": "kde"}).estimator == dl.KDE()


def test_a_run_with_an_own_part_is_read_with_its_study_or_not_at_all(tmp_path):
    mine = study(Triple())
    run = dl.run(mine, out=tmp_path / "run")
    next(run)
    run.close()
    with pytest.raises(ConfigError, match=r"Triple of your own.*resume"):
        dl.resume(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"Triple of your own"):
        dl.bounds(dl.load(tmp_path / "run"), samples=200)
    assert len(list(dl.resume(tmp_path / "run", study=mine))) == 1
    assert len(dl.bounds(dl.load(tmp_path / "run"), samples=200, study=mine).statements)
    with pytest.raises(ConfigError, match="not that of the run"):
        dl.bounds(dl.load(tmp_path / "run"), samples=200, study=study(dl.KDE()))


SCRIPT = """
import sys
import driftlaw as dl
from dataclasses import dataclass

@dataclass(frozen=True)
class Wide(dl.GaussianMLE):
    def fit(self, data, context=None):
        return super().fit(3 * data, dl.FitContext())

if __name__ == "__main__":
    study = dl.Study(source=dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0]), estimator=Wide(),
                     samples=200, generations=1, policy=0.5,
                     measures={"samples": 0, "density_samples": 100, "path_samples": 0})
    found = dl.sweep(study, sys.argv[1], alphas=[0.5], seeds=[0, 1], workers=2)
    print(len(found.failures), min(float(h.samples(1).var()) for h in found.values()) > 4)
"""


def test_classes_of_the_running_script_reach_the_workers(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "True"], done.stderr


class Fails(dl.GaussianMLE):
    """Fails for one of the seeds."""

    def fit(self, data, context=None):
        if context.seed % 2 == 0:
            raise RuntimeError("no memory left on this card")
        return super().fit(data, dl.FitContext())


def test_cells_have_folders_of_their_own():
    near = cells([0.1234567, 0.1234568], [0])
    assert len({c.folder for c in near}) == len({c.label for c in near}) == 2
    assert Cell(1.0, 3).folder.as_posix() == "alpha-1/seed-3"
    assert Cell(0.5, 0).folder.as_posix() == "alpha-0.5/seed-0"
    grid = cells([0.5], [0], {"estimator.bandwidth": [0.3, "scott"]})
    assert [c.folder.as_posix() for c in grid] == [
        "alpha-0.5/estimator.bandwidth-0.3/seed-0",
        "alpha-0.5/estimator.bandwidth-scott/seed-0",
    ]


@pytest.mark.heavy
def test_every_cell_runs_and_failures_are_retried(tmp_path):
    bad = study(dl.MixtureEM(40), samples=60, generations=1)
    found = dl.sweep(bad, tmp_path, alphas=[0.5], seeds=[0], grid={"estimator.components": [2, 70]})
    assert len(found) == 1
    assert len(found.failures) == 1
    assert all("70" in text for text in found.failures.values())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("journal.jsonl")}
    again = dl.sweep(bad, tmp_path, alphas=[0.5], seeds=[0], grid={"estimator.components": [2, 3]})
    assert not again.failures
    assert len(again) == 2
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if "components-2" in str(p))
    frame = again.frame()
    assert set(frame["estimator.components"]) == {2, 3}
    assert frame["estimator.components"].dtype == np.int64
    assert {"alpha", "seed", "kl", "generation"} <= set(frame.columns)
    assert {c for c, h in find(tmp_path).items() if len(h)} == set(again)  # the failed one began and made nothing


def test_an_adaptive_run_is_opened_with_the_rows_it_had(tmp_path):
    from driftlaw.analysis.opened import OpenRun

    made = study(policy=dl.Adaptive(0.5, 4), generations=4, measures=SMALL | {"samples": 60, "features": "identity"})
    run = dl.run(made, out=tmp_path / "run")
    for _ in range(2):
        next(run)
    run.close()
    history = dl.load(tmp_path / "run")
    fresh, _ = OpenRun(history).setting.rows
    assert list(fresh[:2]) == [g.fresh for g in history]
    assert len(OpenRun(history).setting.decided) == 2


@dataclass(frozen=True)
class Registered(Triple):
    """An own class that is a kind of its own."""

    kind = "test-triple"


def test_a_registered_class_is_rebuilt_as_itself(tmp_path):
    dl.register("test-triple", Registered)
    mine = study(Registered())
    assert not own_parts(mine)
    list(dl.run(mine, out=tmp_path / "run"))
    assert type(dl.load(tmp_path / "run").study().estimator) is Registered
    with pytest.raises(ConfigError, match="no class of an estimator, policy or source"):
        dl.register("test-odd", int)


def test_kinds_of_installed_packages_are_found(tmp_path, monkeypatch):
    folder = tmp_path / "wide-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: wide\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[driftlaw.tests]\ninstalled = driftlaw.learn.kde:KDE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = Kinds("estimator", {}, group="driftlaw.tests")
    assert "installed" in kinds
    assert kinds.build({"kind": "installed", "bandwidth": 0.5}) == dl.KDE(0.5)


class Greedy:
    """Grows by one block a generation, and weighs the last model more than one block."""

    grows = True

    def rows(self, N):
        fresh, mixing = np.zeros(N), np.zeros((N, N + 1))
        for i in range(N):
            mixing[i, i] = 1.0
        return fresh, mixing

    def config(self):
        return {"kind": "test-greedy"}


def test_a_policy_that_takes_more_rows_than_are_stored_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="takes 120 rows of generation 1 to train generation 2, but 60 are stored"):
        dl.run(study(policy=Greedy()), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_history_gives_its_models(tmp_path):
    mine = study(Triple())
    list(dl.run(mine, out=tmp_path / "own"))
    history = dl.load(tmp_path / "own")
    with pytest.raises(ConfigError, match=r"Triple of your own"):
        history.model(1)
    variance = float(history.model(1, study=mine).sample(4000, torch.Generator().manual_seed(0)).var())
    assert 4 < variance < 18  # 9 for 60 rows of variance 1: beyond 5 standard errors of 120 values
    (tmp_path / "own" / "generations" / "001" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(dl.CorruptFileError):
        history.model(1, study=mine)
