"""A run that goes on to N generations has the numbers of one that was started with N; also after kill -9."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import torch
import yaml
from test_resume import SETTINGS, cli, content, kill_in_training

import driftlaw as dl
from driftlaw.cli.options import study_from
from driftlaw.errors import ConfigError, TrustError
from driftlaw.files import sha256
from driftlaw.loop import store, trust
from driftlaw.loop.branches import extend as extension
from driftlaw.loop.store import RunDirectory, write_text
from driftlaw.records import signed, unsigned

SMALL = {"samples": 40, "density_samples": 100, "path_samples": 0, "critic_rows": 0}


def study(generations, **changes):
    settings = {"estimator": dl.KDE(0.6), "policy": 0.5, "samples": 60, "seed": 3, "measures": SMALL} | changes
    return dl.Study(**{"source": dl.GaussianMixture.paper(), "generations": generations} | settings)


def rows(n=400):
    return np.random.default_rng(0).normal(size=(n, 3)).astype("f4")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixing": "multinomial", "policy": dl.Window(2, 0.3)},
        {"policy": dl.Accumulate()},
        {"source": rows(), "estimator": dl.GaussianMLE(), "policy": dl.Schedule([1, 0.5, 0.2, 0.1, 0.3])},
        {"policy": dl.Adaptive(0.5, 5), "samples": 80, "measures": SMALL | {"samples": 80}},
    ],
    ids=["fixed", "multinomial", "accumulate", "finite", "adaptive"],
)
def test_an_extended_run_is_bit_for_bit_the_longer_one(tmp_path, changes):
    if isinstance(changes.get("source"), np.ndarray):
        np.save(tmp_path / "rows.npy", changes["source"])
        changes = changes | {"source": str(tmp_path / "rows.npy")}
    list(dl.run(study(2, **changes), tmp_path / "a"))
    assert (tmp_path / "a" / "summary.json").exists()
    new = list(dl.extend(tmp_path / "a", generations=5))
    assert [g.index for g in new] == [3, 4, 5]
    list(dl.run(study(5, **changes), tmp_path / "b"))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert dl.load(tmp_path / "a").manifest["extended"][0]["to"] == 5
    assert dl.verify(tmp_path / "a").clean
    assert dl.bounds(dl.load(tmp_path / "a"), samples=200).statements


def test_derived_pages_do_not_outlive_the_shorter_run(tmp_path):
    list(dl.run(study(2), tmp_path / "a"))
    dl.bounds(dl.load(tmp_path / "a"), samples=200).save(tmp_path / "a")
    dl.write_report(dl.load(tmp_path / "a"))
    iterator = dl.extend(dl.load(tmp_path / "a"), generations=4)
    assert (tmp_path / "a" / "bounds.json").exists()  # nothing happens before the first generation is asked for
    next(iterator)
    iterator.close()
    left = {p.name for p in (tmp_path / "a").iterdir()}
    assert not left & {"bounds.json", "summary.json", "report.html"}
    assert [g.index for g in dl.resume(tmp_path / "a")] == [4]


class Counting:
    """A policy whose first rows depend on the number of generations."""

    kind = "test-counting"

    def rows(self, N):
        return dl.FixedFraction(1 / N).rows(N)

    def config(self):
        return {"kind": self.kind}


@pytest.mark.parametrize(
    ("changes", "generations", "words"),
    [
        ({}, 1, "started with 2"),
        ({}, 2.5, "2.5"),
        ({"policy": dl.Schedule([1, 0.5])}, 3, "schedule has 2 fractions but 3"),
        ({"policy": Counting()}, 3, "test-counting depend on the number of generations"),
        (
            {"policy": dl.Adaptive(0.5, 2), "samples": 80, "measures": SMALL | {"samples": 80}}, 3,
            "policy adaptive plans for 2",
        ),
        ({"source": rows(100), "estimator": dl.GaussianMLE(), "samples": 30, "policy": 0.5}, 9, "fresh rows"),
    ],
)  # fmt: skip
def test_what_would_begin_differently_is_refused_by_name(tmp_path, changes, generations, words):
    if isinstance(changes.get("source"), np.ndarray):
        np.save(tmp_path / "rows.npy", changes["source"])
        changes = changes | {"source": str(tmp_path / "rows.npy")}
    made = study(2, **changes)
    list(dl.run(made, tmp_path / "a"))
    before = content(tmp_path / "a")
    with pytest.raises(dl.DriftlawError, match=words):
        dl.extend(tmp_path / "a", generations=generations, study=made)
    assert content(tmp_path / "a") == before


def test_a_trained_feature_space_is_refused_where_it_would_be_another(tmp_path):
    changes = {"source": "digits", "estimator": dl.GaussianMLE(ridge=0.1), "samples": 60, "measures": SMALL | {
        "features": {"kind": "classifier", "epochs": 1, "least_steps": 1}}}  # fmt: skip
    made = study(2, policy=0.1, **changes)
    list(dl.run(made, tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"features \(classifier\)"):
        dl.extend(tmp_path / "a", generations=3)
    list(dl.run(study(2, policy=0.0, **changes), tmp_path / "b"))  # takes no more fresh rows, however long it is
    assert [g.index for g in dl.extend(tmp_path / "b", generations=3)] == [3]


class Stopping:
    """Writes files until the given call, which stops the process as a kill would."""

    def __init__(self, stop_at):
        self.left = stop_at

    def __call__(self, path, text):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return write_text(path, text)


@pytest.mark.parametrize("stop_at", [1, 2, 3])  # before the first manifest, the configuration, the last manifest
@pytest.mark.parametrize("then", [4, 6])
def test_killed_between_two_files_of_the_configuration_one_of_both_runs_is_there(tmp_path, monkeypatch, stop_at, then):
    list(dl.run(study(2), tmp_path / "a"))
    stopping = Stopping(stop_at)
    monkeypatch.setattr(extension, "write_text", stopping)
    monkeypatch.setattr(store, "write_text", stopping)
    with pytest.raises(KeyboardInterrupt):
        next(dl.extend(tmp_path / "a", generations=4))
    stopping.left = 0
    assert [g.index for g in dl.load(tmp_path / "a")] == [1, 2]
    stopping.left = 2  # killed once more, before the configuration is replaced
    if then > dl.load(tmp_path / "a").study().generations:
        with pytest.raises(KeyboardInterrupt):
            next(dl.extend(tmp_path / "a", generations=then))
    monkeypatch.undo()
    assert [g.index for g in dl.extend(tmp_path / "a", generations=then)] == list(range(3, then + 1))
    assert dl.verify(tmp_path / "a").clean


def bootstrap(data, context):
    """A learner by name, which only a trusted configuration may call."""
    return lambda n, g: data[torch.randint(len(data), (n,), generator=g)]


def test_the_signature_is_renewed_only_where_the_run_was_this_users(tmp_path):
    made = study(1, estimator=dl.CallableEstimator("test_extend:bootstrap"))
    list(dl.run(made, tmp_path / "a"))
    list(dl.extend(tmp_path / "a", generations=2))
    text = (tmp_path / "a" / "config.yaml").read_text()
    assert trust.is_signed(yaml.safe_load(text), trust.signature_in(text))
    # somebody else's: the same files without a signature of this user
    stranger = text.partition("\n")[2]
    (tmp_path / "a" / "config.yaml").write_text(stranger)
    directory = RunDirectory(tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    forged = signed(unsigned(manifest) | {"config_sha256": sha256(stranger.encode())})
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(forged))
    with pytest.raises(TrustError, match="test_extend:bootstrap"):
        dl.extend(tmp_path / "a", generations=3)
    assert [g.index for g in dl.extend(tmp_path / "a", generations=3, trust=True)] == [3]
    assert trust.signature_in((tmp_path / "a" / "config.yaml").read_text()) is None
    with pytest.raises(TrustError):
        directory.study()


def test_an_extension_killed_in_training_resumes_to_the_longer_run(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def digits(generations):
        return study_from("digits", settings=SETTINGS, generations=generations, samples=60, seed=5)

    list(dl.run(digits(3), whole))
    list(dl.run(digits(1), parts))
    kill_in_training(cli("resume", str(parts), "--generations", "3"), parts)
    list(dl.resume(parts))
    assert content(parts) == content(whole)


def test_the_command_line_says_what_n_means_and_refuses_fewer(tmp_path):
    env = os.environ | {"COLUMNS": "200"}
    text = subprocess.run(cli("resume", "--help"), env=env, capture_output=True, text=True, check=True).stdout
    assert "in total" in text
    list(dl.run(study(2), tmp_path / "a"))
    done = subprocess.run(cli("resume", str(tmp_path / "a"), "--generations", "1"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "counts all generations" in " ".join(done.stderr.split())
