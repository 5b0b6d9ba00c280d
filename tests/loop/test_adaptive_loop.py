"""Adaptive policies in the loop: what they are told is unbiased, what they say is kept, a killed run says it again."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import ConfigError, CorruptFileError, InputError
from driftlaw.loop.step.adapt import observe
from driftlaw.measure.sets.innovations import BLOCKS, block_innovations, block_means

SMALL = {"samples": 60, "path_samples": 0, "density_samples": 200}


def study(policy, generations=4, seed=0, **more):
    return dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.GaussianMLE(), policy=policy, samples=60,
        generations=generations, seed=seed, measures=SMALL, **more,
    )  # fmt: skip


def recursion(seed, n=80, k=3, N=4, alpha=0.5, bias=0.3):
    """Known innovations: means c_n move by bias along one axis plus noise; rows are c_n + N(0, I)."""
    g = torch.Generator().manual_seed(seed)
    c, truth = torch.zeros(k, dtype=torch.float64), []
    means = [block_means(torch.randn(n, k, generator=g, dtype=torch.float64))]
    for _ in range(N):
        delta = bias * torch.eye(k, dtype=torch.float64)[0] + 0.2 * torch.randn(k, generator=g, dtype=torch.float64)
        c = (1 - alpha) * c + delta
        truth.append((delta.numpy(), c.numpy().copy()))
        means.append(block_means(c + torch.randn(n, k, generator=g, dtype=torch.float64)))
    fresh = np.full(N, alpha)
    mixing = np.zeros((N, N + 1))
    mixing[np.arange(N), np.arange(N)] = 1 - fresh
    return block_innovations(np.stack(means), fresh, mixing, n, "x"), truth


def test_innovations_are_unbiased_with_honest_errors():
    """300 recursions: mean error within 4 standard errors of 0, and 95 % intervals of drift cover >= 90 %."""
    errors, drift_errors, covered = [], [], []
    for seed in range(300):
        found, truth = recursion(seed)
        deltas = np.array([d for d, _ in truth])
        errors.append(found.gram - deltas @ deltas.T)
        drift = np.array([c @ c for _, c in truth])
        drift_errors.append([e.value for e in found.drift] - drift)
        covered += [e.low <= d <= e.high for e, d in zip(found.drift, drift, strict=True)]
    for e in (np.array(errors), np.array(drift_errors)):
        assert (abs(e.mean(0)) <= 4.5 * e.std(0) / np.sqrt(len(e))).all()
    assert np.mean(covered) > 0.90


def test_size_alignment_and_dimension_of_known_innovations():
    """Means over 100 recursions against J = bias^2 + k 0.04 and kappa = bias^2 / J (4 standard errors)."""
    seen = [observe(recursion(s, n=400, bias=0.4)[0], [0.5] * 4, 3) for s in range(100)]
    J, kappa = 0.16 + 3 * 0.04, 0.16 / (0.16 + 3 * 0.04)
    sizes = np.array([o.innovation.value for o in seen])
    assert abs(sizes.mean() - J) < 4 * sizes.std() / 10
    kappas = np.array([o.alignment.value for o in seen])
    assert abs(np.median(kappas) - kappa) < 0.12
    assert all(1 <= o.dimension <= 3 for o in seen)
    assert np.mean([o.innovation.low <= J <= o.innovation.high for o in seen]) > 0.85


def test_records_hold_what_the_policy_said(tmp_path):
    records = list(dl.run(study(dl.Adaptive(0.5, 4)), tmp_path / "run"))
    assert records[0].fresh == 1.0
    history = dl.load(tmp_path / "run")
    for g in history:
        path = history.directory.folder(g.index) / "decision.json"
        decision = json.loads(path.read_text())
        assert decision["alpha"] == g.fresh
        assert g.mixing[-1] == pytest.approx(1 - g.fresh)
        assert "decision.json" in g.files
        assert (decision["observed"] is None) == (g.index == 1)
        assert g.lineage.real == round(60 * g.fresh)


def test_bounds_and_report_read_the_rows_of_the_records(tmp_path):
    list(dl.run(study(dl.Adaptive(1.0, 4)), tmp_path / "run"))
    history = dl.load(tmp_path / "run")
    found = dl.bounds(history, samples=200)
    assert found.main.reconstruction_error < 1e-9
    G = found.main.propagator
    assert G[2, 1] == pytest.approx(1 - history[3].fresh)
    from driftlaw import report

    assert report.write(history).stat().st_size > 10_000


def test_a_budget_that_cannot_be_kept_takes_fresh_data_only(tmp_path):
    assert [g.fresh for g in dl.run(study(dl.Adaptive(1e-6, 3), 3))] == [1.0, 1.0, 1.0]


def test_a_wide_budget_takes_none():
    assert [g.fresh for g in dl.run(study(dl.Adaptive(1e6, 3), 3))] == [1.0, 0.0, 0.0]


class Half:
    """A user's own adaptive policy."""

    grows = False

    def __init__(self, answer=0.5):
        self.answer = answer

    def next_alpha(self, observed):
        return 1.0 if observed is None else self.answer

    def config(self):
        return {"kind": "half"}


def test_a_policy_of_ones_own():
    assert [g.fresh for g in dl.run(study(Half(), 3))] == [1.0, 0.5, 0.5]
    with pytest.raises(InputError, match="generation 2"):
        list(dl.run(study(Half(1.5), 3)))


def test_left_early_and_resumed_is_the_same_run(tmp_path):
    whole = list(dl.run(study(dl.Adaptive(0.8, 4)), tmp_path / "a"))
    iterator = dl.run(study(dl.Adaptive(0.8, 4)), tmp_path / "b")
    first = [next(iterator), next(iterator)]
    iterator.close()
    assert [*first, *dl.resume(tmp_path / "b")] == whole
    assert len({g.fresh for g in whole[1:]}) > 1  # it did adapt


def test_a_damaged_decision_is_named(tmp_path):
    iterator = dl.run(study(dl.Adaptive(0.3, 4)), tmp_path / "a")
    next(iterator)
    iterator.close()
    folder = tmp_path / "a/generations/002"
    folder.mkdir()
    (folder / "decision.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"decision\.json"):
        list(dl.resume(tmp_path / "a"))


def test_too_few_rows_are_refused_before_anything_is_written(tmp_path):
    small = dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.GaussianMLE(), policy=dl.Adaptive(1.0, 3), samples=60,
        measures={"samples": 2 * BLOCKS - 1},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="held-out"):
        dl.run(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


ENV = os.environ | {"OMP_NUM_THREADS": "1"}
COMMAND = [
    *("run", "digits", "--policy", "adaptive:2.0,3", "--generations", "3", "--samples", "60", "--seed", "5"),
    *("--set", "estimator.steps=30", "--set", "estimator.warm_steps=30", "--set", "estimator.checkpoint_every=5"),
    *("--set", "estimator.width=32", "--set", "estimator.batch=32", "--set", "measures.samples=60"),
]


def content(directory):
    names = [directory / n for n in ("journal.jsonl", "config.yaml", "summary.json")]
    paths = [*names, *(p for p in sorted(directory.glob("generations/*/*")) if p.name != "timing.json")]
    return {str(p.relative_to(directory)): p.read_bytes() for p in paths}


def start(directory):
    verb = ["resume", str(directory)] if (directory / "manifest.json").exists() else [*COMMAND, "--out", str(directory)]
    return subprocess.Popen(
        [sys.executable, "-m", "driftlaw", *verb], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(directory):
    process = start(directory)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()


@pytest.mark.heavy
def test_killed_runs_resume_to_the_same_files(tmp_path):
    """kill -9 in training, after the decision, and at random moments; real processes."""
    finish(tmp_path / "whole")
    whole, rng = content(tmp_path / "whole"), random.Random(0)
    directory, kills = tmp_path / "run", 0
    moments = [lambda d: (d / "generations/002/decision.json").exists(), lambda d: (d / "journal.jsonl").exists()]
    for happens in moments:
        process, end = start(directory), time.monotonic() + 120
        while process.poll() is None and not happens(directory) and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(directory)
    assert kills >= 1
    assert content(directory) == whole
