"""Command lines that nobody would type: exit code 0 to 3, never a traceback."""

import random

import numpy as np
import pytest

from driftlaw.cli.app import VERBS
from fuzz.outcomes import command

WORDS = (
    *("--alpha", "--policy", "--generations", "--samples", "--seed", "--preset", "--out", "-o", "--device", "--set"),
    *("--dry-run", "--json", "--alphas", "--seeds", "--grid", "--engine", "--workers", "--features", "--holdout"),
    *("--fail-above", "--pass-below", "--budget", "--horizon", "--objective", "--innovation", "--alignment", "--from"),
    *("--at", "--trust", "--help", "--blocks", "--dimension", "--key", "--columns", "--like", "--compare", "--sep"),
)
VALUES = (
    *("", " ", "0", "-1", "1", "0.5", "nan", "inf", "-inf", "1e400", "99999999999999999999", "0.1,0.5", "0-9", "9-0"),
    *("a-b", ",", "=", "a=", "=b", "estimator.bandwidth=", "policy.kind=[1]", "samples={", "x.y.z=1", "measures=1"),
    *("gmm", "rows.npy", "nowhere", ".", "..", "/dev/null", "/proc/self/mem", "/dev/zero", "\0x", "é" * 200, "a" * 300),
    *("kde", "replace", "window:", "schedule:", "fixed:nan", "adaptive:1", "max", "mean", "pca", "{", "\ud800", "*"),
    *("rows.sketch", "fifo", "http://", "s3://x", "file://rows.npy", "rows.npy:key", "~nobody/x", "$HOME", "-", "--"),
)


@pytest.mark.parametrize(
    "examples", [pytest.param(80, id="few"), pytest.param(500, id="many", marks=pytest.mark.heavy)]
)
def test_words(tmp_path, monkeypatch, examples):
    import os

    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    os.mkfifo("fifo")
    assert command(["sketch", "rows.npy", "-o", "rows.sketch"]) == "exit 0"
    for i in range(examples):
        rng = random.Random(f"words {i}")
        verb = rng.choice(list(VERBS))
        words = [verb, *(rng.choice(rng.choice((WORDS, VALUES, VALUES))) for _ in range(rng.randrange(6)))]
        if verb in ("run", "resume", "sweep", "reproduce", "extend", "fork"):  # nothing that would take minutes
            words += ["--dry-run"] if verb in ("run", "sweep") else ["--no-such-option"]
        outcome = command(words)
        assert outcome in ("exit 0", "exit 1", "exit 2", "exit 3"), (i, words, outcome)
