"""A part of one's own is used or refused by name, never swapped for the built-in one that it resembles."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest
import torch

import driftlaw as dl
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
    assert set(frame["estimator.components"]) == {"2", "3"}
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
