"""A fork shares generations 1..K, whole, and goes on as its own settings say."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_resume import SETTINGS, cli, content, kill_in_training

import driftlaw as dl
from driftlaw.cli.options import study_from
from driftlaw.errors import ConfigError, CorruptFileError, RunDirectoryError, TrustError
from driftlaw.loop.branches.shared import FORK, parent_of
from driftlaw.loop.store import RunDirectory

SMALL = {"samples": 40, "density_samples": 100, "path_samples": 0, "critic_rows": 0}


def study(generations=4, **changes):
    settings = {"estimator": dl.KDE(0.6), "policy": 0.5, "samples": 60, "seed": 3, "measures": SMALL} | changes
    return dl.Study(**{"source": dl.GaussianMixture.paper(), "generations": generations} | settings)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    path = tmp_path_factory.mktemp("fork") / "parent"
    list(dl.run(study(), path))
    return path


def test_a_fork_without_changes_has_the_parents_numbers(parent, tmp_path):
    new = list(dl.fork(parent, at=2, out=tmp_path / "f"))
    assert [g.to_json() for g in new] == [g.to_json() for g in dl.load(parent).generations[2:]]
    assert content(tmp_path / "f") == content(parent)


def test_a_changed_policy_rules_from_k_on_and_the_parent_may_go(parent, tmp_path):
    shutil.copytree(parent, tmp_path / "p")
    new = list(dl.fork(dl.load(tmp_path / "p"), at=2, alpha=0.1, generations=5, out=tmp_path / "f"))
    assert [(g.index, g.fresh, round(g.alpha, 9)) for g in new] == [(3, 0.1, 0.1), (4, 0.1, 0.1), (5, 0.1, 0.1)]
    linked = tmp_path / "f" / "generations" / "001" / "samples.npy"
    assert linked.stat().st_nlink == 2
    assert linked.samefile(tmp_path / "p" / "generations" / "001" / "samples.npy")
    found = dl.load(tmp_path / "f").parent
    assert (found.path, found.at) == ("../p", 2)
    shutil.rmtree(tmp_path / "p")
    assert dl.verify(tmp_path / "f").clean
    history = dl.load(tmp_path / "f")
    assert [g.fresh for g in history] == [0.5, 0.5, 0.1, 0.1, 0.1]
    assert history.model(1).sample(5, torch.Generator()).shape == (5, 10)
    assert dl.bounds(history, samples=400).statements
    assert list(dl.resume(tmp_path / "f")) == []
    assert [g.index for g in dl.extend(tmp_path / "f", generations=6)] == [6]


def test_fresh_rows_of_a_finite_source_are_never_drawn_twice(tmp_path):
    rows = np.arange(4000, dtype="f4").reshape(1000, 4)
    np.save(tmp_path / "rows.npy", rows)
    seen = []

    def remember(data, context):
        seen.append((context.generation, data))
        return lambda n, g: -99 - torch.rand(n, 4, generator=g)

    made = study(3, source=str(tmp_path / "rows.npy"), estimator=dl.CallableEstimator(remember), policy=0.5)
    list(dl.run(made, tmp_path / "p"))
    seen.clear()
    parent_rows = dl.run(made, tmp_path / "q")
    next(parent_rows), next(parent_rows)
    parent_rows.close()
    list(dl.fork(tmp_path / "p", at=2, alpha=0.9, generations=4, study=made, out=tmp_path / "f"))
    assert [n for n, _ in seen] == [1, 2, 3, 4]
    fresh = torch.cat([data[data[:, 0] > -50] for _, data in seen])
    assert len(fresh) == 60 + 30 + 54 + 54
    assert len(torch.unique(fresh, dim=0)) == len(fresh)


def test_a_changed_estimator_reads_what_the_former_one_learned(parent, tmp_path):
    new = list(dl.fork(parent, at=2, estimator=dl.GaussianMLE(), policy=dl.Window(3), out=tmp_path / "f"))
    history = dl.load(tmp_path / "f")
    assert type(history.model(2)) is not type(history.model(3))
    assert new[0].lineage.models == {1: 20, 2: 20}
    assert np.isfinite(new[0].one_step["kl"].value)  # against the mixture of target and both kinds of models
    again = list(dl.fork(tmp_path / "f", at=3, estimator=dl.KDE(0.3), generations=5, out=tmp_path / "g"))
    assert len(again) == 2
    estimators = parent_of(RunDirectory(tmp_path / "g")).estimators
    assert [(last, e["kind"]) for last, e in estimators] == [(2, "kde"), (3, "gaussian")]
    list(dl.fork(tmp_path / "g", at=1, out=tmp_path / "h"))
    assert [last for last, _ in parent_of(RunDirectory(tmp_path / "h")).estimators] == [1]


def test_a_network_of_another_size_starts_anew_and_one_of_the_same_size_goes_on(tmp_path):
    small = dl.Denoiser(steps=2, warm_steps=2, width=8, solver_steps=2)
    list(dl.run(study(2, estimator=small, samples=40, measures={"samples": 0, "critic_rows": 0}), tmp_path / "p"))
    wider = {"estimator.width": 16}
    assert len(list(dl.fork(tmp_path / "p", at=1, out=tmp_path / "f", **wider))) == 1
    kept = {"estimator.lr": 1e-12}
    list(dl.fork(tmp_path / "p", at=1, out=tmp_path / "g", **kept))
    before, after = (dl.load(tmp_path / "g").model(n).state() for n in (1, 2))
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before if k.startswith("net."))


@dataclass(frozen=True)
class Own(dl.GaussianMLE):
    """A learner of one's own that no configuration rebuilds."""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at": 0}, "at = 0, but .* has generations 1..4"),
        ({"at": 5}, "at = 5"),
        ({"source": "digits"}, "cannot change source"),
        ({"seed": 4}, "cannot change seed"),
        ({"measures": SMALL | {"samples": 30}}, "cannot change measures"),
        ({"samples": 30}, "samples = 30 measures compare 30 rows"),
        ({"generations": 2}, "1..2 are shared"),
        ({"alpha": 2.0}, "alpha must be a fraction"),
        ({"alpha": 0.5, "policy": 0.1}, "both alpha and policy"),
        ({"polcy": 0.5}, "Did you mean 'policy'"),
        ({"policy": dl.Window(1, 0.0), "samples": 200}, "but 60 are stored"),
    ],
)
def test_what_contradicts_the_past_is_refused_and_nothing_is_made(parent, tmp_path, changes, words):
    with pytest.raises(dl.DriftlawError, match=words):
        dl.fork(parent, **{"at": 2, "out": tmp_path / "f"} | changes)
    assert list(tmp_path.iterdir()) == []


def test_an_own_estimator_is_kept_or_refused_by_name(tmp_path):
    made = study(2, estimator=Own())
    list(dl.run(made, tmp_path / "p"))
    with pytest.raises(ConfigError, match=r"Own of your own.*fork"):
        dl.fork(tmp_path / "p", at=1, out=tmp_path / "f")
    with pytest.raises(ConfigError, match=r"Own.*dl.register"):
        dl.fork(tmp_path / "p", at=1, out=tmp_path / "f", study=made, estimator=dl.KDE(0.3))
    assert len(list(dl.fork(tmp_path / "p", at=1, out=tmp_path / "f", study=made, alpha=0.2))) == 1


def test_another_run_is_never_overwritten(parent, tmp_path):
    list(dl.fork(parent, at=3, out=tmp_path / "f"))
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        dl.fork(parent, at=3, out=tmp_path / "f")
    (tmp_path / "empty").mkdir()
    assert len(list(dl.fork(parent, at=3, out=tmp_path / "empty"))) == 1


def test_a_copy_where_links_cannot_be_made(parent, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    list(dl.fork(parent, at=2, out=tmp_path / "f"))
    assert (tmp_path / "f" / "generations" / "001" / "samples.npy").stat().st_nlink == 1
    assert content(tmp_path / "f") == content(parent)


@pytest.mark.parametrize("name", ["generations/002/samples.npy", "journal.jsonl", FORK])
def test_damage_of_the_shared_past_is_named_and_never_made_again(parent, tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(18, "no links")))
    iterator = dl.fork(parent, at=2, alpha=0.1, out=tmp_path / "f")
    next(iterator)
    iterator.close()
    path = tmp_path / "f" / name
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(CorruptFileError, match=name.rpartition("/")[2]):
        list(dl.resume(tmp_path / "f"))
    assert not dl.verify(tmp_path / "f").clean
    with pytest.raises(CorruptFileError):
        dl.fork(tmp_path / "f", at=2, out=tmp_path / "g")
    assert not (tmp_path / "g").exists()


def bootstrap(data, context):
    """A learner by name, which only a trusted configuration may call."""
    return lambda n, g: data[torch.randint(len(data), (n,), generator=g)]


def test_code_that_only_the_shared_past_names_needs_trust(tmp_path):
    list(dl.run(study(2, estimator=dl.CallableEstimator("test_fork:bootstrap")), tmp_path / "p"))
    list(dl.fork(tmp_path / "p", at=1, estimator=dl.KDE(0.6), out=tmp_path / "f"))
    assert dl.load(tmp_path / "f").model(1).sample(3, torch.Generator()).shape == (3, 10)
    path = tmp_path / "f" / FORK
    from driftlaw.loop.store import read_json, write_json

    document = read_json(path)
    write_json(path, {k: v for k, v in document.items() if k != "signature"})
    for use in (lambda: dl.load(tmp_path / "f").model(1), lambda: dl.resume(tmp_path / "f")):
        with pytest.raises(TrustError, match="test_fork:bootstrap"):
            use()
    assert dl.load(tmp_path / "f", trust=True).model(1).sample(3, torch.Generator()).shape == (3, 10)


def test_a_killed_fork_is_whole_or_not_there_and_resumes(tmp_path):
    parent, whole, parts = tmp_path / "parent", tmp_path / "whole", tmp_path / "parts"
    made = study_from("digits", preset="laptop", settings=SETTINGS, generations=2, samples=60, seed=5)
    first = dl.run(made, parent)
    next(first)
    first.close()
    list(dl.fork(parent, at=1, alpha=0.2, generations=3, out=whole))
    forking = cli("fork", str(parent), "--at", "1", "--alpha", "0.2", "--generations", "3", "--out", str(parts))
    kill_in_training(forking, parts)
    shutil.rmtree(parent)
    list(dl.resume(parts))
    assert content(parts) == content(whole)
    assert dl.verify(parts).clean
