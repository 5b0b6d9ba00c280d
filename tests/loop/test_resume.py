"""kill -9, then resume: the same files as a run that nothing happened to. Real processes, real signals."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.errors import RunLockedError

ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
SETTINGS = [
    *("estimator.steps=40", "estimator.warm_steps=40", "estimator.checkpoint_every=5", "estimator.width=32"),
    *("estimator.batch=32", "measures.samples=40"),
]
STUDY = ["--generations", "3", "--samples", "60", "--seed", "5", *(w for s in SETTINGS for w in ("--set", s))]


def cli(*args: str) -> list[str]:
    return [sys.executable, "-m", "driftlaw", *args]


def start(directory: Path) -> subprocess.Popen:
    verb = ["resume", str(directory)] if (directory / "manifest.json").exists() else ["run", "digits", *STUDY]
    if verb[0] == "run":
        verb += ["--out", str(directory)]
    return subprocess.Popen(cli(*verb), env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(directory: Path) -> None:
    process = start(directory)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()


def content(directory: Path) -> dict[str, bytes]:
    """Everything that must not depend on being killed."""
    names = ["journal.jsonl", "config.yaml", "summary.json"]
    files = {n: (directory / n).read_bytes() for n in names}
    for path in sorted(directory.glob("generations/*/*")):
        if path.name not in {"timing.json"}:
            files[str(path.relative_to(directory))] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    finish(directory)
    return directory


def in_training(d: Path) -> bool:
    return any(d.glob("generations/*/checkpoint.safetensors"))


def after_samples(d: Path) -> bool:
    return (d / "generations/002/samples.npy").exists()


def after_first_record(d: Path) -> bool:
    return (d / "journal.jsonl").exists()


def kill_when(directory: Path, happens, delay: float) -> bool:
    """Start or resume, kill -9 `delay` after the condition holds; True if it was alive to be killed."""
    process = start(directory)
    end = time.monotonic() + 240
    while process.poll() is None and not happens(directory) and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(delay)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def kill_in_training(command: list[str], directory: Path) -> None:
    """kill -9 of a command while a generation in this directory trains."""
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while process.poll() is None and not in_training(directory) and time.monotonic() < end:
        time.sleep(0.002)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert alive, "it ended before it could be killed"


@pytest.mark.heavy
@pytest.mark.parametrize("happens", [in_training, after_samples], ids=lambda f: f.__name__)
def test_killed_run_resumes_to_the_same_files(whole, tmp_path, happens):
    directory = tmp_path / "run"
    assert kill_when(directory, happens, 0.0), "the run ended before it could be killed"
    finish(directory)
    assert content(directory) == content(whole)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_again_and_again(whole, tmp_path, seed):
    rng, directory = random.Random(seed), tmp_path / "run"
    moments = [lambda d: d.exists(), in_training, after_first_record, after_samples]
    kills = sum(kill_when(directory, rng.choice(moments), rng.uniform(0.0, 1.5)) for _ in range(5))
    finish(directory)
    assert kills >= 1
    assert content(directory) == content(whole)


def test_resuming_a_finished_run_changes_nothing(whole):
    before = content(whole)
    finish(whole)
    assert content(whole) == before


def test_same_seed_same_numbers_other_seed_other_numbers(tmp_path):
    def study(seed):
        return dl.Study(
            source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=2, seed=seed,
            measures={"samples": 40, "density_samples": 200},
        )  # fmt: skip

    runs = [tuple(dl.run(study(s), tmp_path / str(k))) for k, s in enumerate((3, 3, 4))]
    assert runs[0] == runs[1]
    assert runs[0][0].files["samples.npy"] != runs[2][0].files["samples.npy"]


def gmm(out, generations=3):
    study = dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=generations,
        measures={"samples": 0, "density_samples": 200},
    )  # fmt: skip
    return dl.run(study, out)


def test_an_iterator_left_early_is_a_run_to_resume(tmp_path):
    iterator = gmm(tmp_path / "a")
    first = next(iterator)
    iterator.close()
    assert len(dl.load(tmp_path / "a")) == 1
    rest = list(dl.resume(tmp_path / "a"))
    assert [first, *rest] == list(gmm(tmp_path / "b"))


def test_a_second_writer_is_refused(tmp_path):
    iterator = gmm(tmp_path / "a")
    next(iterator)
    with pytest.raises(RunLockedError):
        next(dl.resume(tmp_path / "a"))
    assert len(list(iterator)) == 2


@pytest.mark.parametrize("name", ["samples.npy", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damaged_generations_are_made_again_and_named(tmp_path, name, damage):
    iterator = gmm(tmp_path / "a")
    next(iterator)
    iterator.close()
    path = tmp_path / "a/generations/001" / name
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(data[:-7] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    journal = (tmp_path / "a/journal.jsonl").read_bytes()
    first = next(iter(dl.resume(tmp_path / "a")))
    assert f"001/{name}" in first.warnings[-1]
    assert path.read_bytes() == data
    assert (tmp_path / "a/journal-1.damaged").read_bytes() == journal


def test_a_truncated_checkpoint_is_named_and_not_used(tmp_path, whole):
    directory = tmp_path / "run"
    assert kill_when(directory, in_training, 0.0)
    path = next(directory.glob("generations/*/checkpoint.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    finish(directory)
    records = dl.load(directory).generations
    assert any("checkpoint.safetensors" in w and "started over" in w for g in records for w in g.warnings)
    assert [g.files for g in records] == [g.files for g in dl.load(whole)]


@pytest.mark.heavy
def test_a_run_whose_disk_fills_up_resumes_when_there_is_room(tmp_path, small_disk):
    mount = small_disk("100k")
    args = ["gmm", "--generations", "6", "--samples", "200", "--set", "measures.samples=0"]
    args += ["--set", "measures.density_samples=100"]
    done = subprocess.run(cli("run", *args, "--out", str(mount / "run")), env=ENV, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no space left" in done.stderr.replace("\n", " ")
    finished = len(dl.load(mount / "run"))
    assert 1 <= finished < 6
    subprocess.run(["mount", "-o", "remount,size=10m", str(mount)], check=True)
    done = subprocess.run(cli("resume", str(mount / "run"), "--json"), env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["generations"]) == 6
    subprocess.run(cli("run", *args, "--out", str(tmp_path / "b")), env=ENV, check=True, capture_output=True)
    assert (mount / "run/journal.jsonl").read_bytes() == (tmp_path / "b/journal.jsonl").read_bytes()


def test_samples_are_stored_as_they_were_drawn(tmp_path):
    history = gmm(tmp_path / "a")
    records = list(history)
    loaded = dl.load(tmp_path / "a")
    assert [loaded.samples(k).shape for k in range(4)] == [(60, 10)] * 4
    assert loaded.frame().index.tolist() == [r.index for r in records] == [1, 2, 3]
    assert np.isfinite(loaded.samples(3)).all()
