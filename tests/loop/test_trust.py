"""What a stranger's files name is not run, not read and not followed; one's own run goes on without asking."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

import driftlaw as dl
from driftlaw.errors import RunDirectoryError, StorageError, TrustError
from driftlaw.files import sha256
from driftlaw.loop import trust
from driftlaw.loop.store import RunDirectory, write_text
from driftlaw.records import signed, unsigned

SMALL = {"samples": 0, "density_samples": 200, "path_samples": 0}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user of this machine; changing it is being another one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished(home):
    study = dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=2, measures=SMALL)
    list(dl.run(study, out=home / "run"))
    return home / "run"


def forge(run, change):
    """Change a run's configuration and make every hash right again."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    text = yaml.safe_dump(config)
    (run / "config.yaml").write_text(text)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(
        json.dumps(signed(unsigned(manifest) | {"config_sha256": sha256(text.encode())}))
    )


def planted(home):
    """A module that leaves a trace when it is imported."""
    (home / "evil.py").write_text(
        "import pathlib, torch\npathlib.Path('ran').touch()\ndef build(): return torch.nn.Flatten()\n"
        "def fit(rows, context): return lambda n, g: rows[:n]\n"
    )


def set_estimator(config):
    config["estimator"] = {"kind": "callable", "function": "evil:fit"}


def set_features(config):
    config["measures"]["features"] = "evil.py:build"


def set_command(config):
    config["estimator"] = {"kind": "command", "command": ["touch", "ran"]}


def set_onnx(config):
    config["measures"]["features"] = {"kind": "onnx", "path": "evil.dat"}


def set_source(config):
    config["source"] = {"kind": "array", "path": "private.npy"}


def driftlaw(*words, **env):
    command = [sys.executable, "-m", "driftlaw", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, "."])} | env
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize("change", [set_estimator, set_features, set_command, set_onnx, set_source])
def test_a_forged_run_runs_and_reads_nothing_without_trust(home, finished, change, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    planted(home)
    forge(finished, change)
    history = dl.load(finished)
    for use in (
        lambda: list(dl.resume(finished)),
        lambda: dl.bounds(history, samples=400),
        lambda: dl.plan(history=finished, budget=0.1, horizon=3),
    ):
        with pytest.raises(TrustError, match=r"evil|touch ran|private"):
            use()
    dl.write_report(history)
    assert not (home / "ran").exists()


def test_trust_is_what_it_takes(home, finished, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    planted(home)
    forge(finished, set_estimator)
    list(dl.resume(finished, trust=True))
    assert (home / "ran").exists()


def test_ones_own_run_goes_on_unasked_and_another_users_does_not(home, monkeypatch):
    import numpy as np

    np.save(home / "rows.npy", np.random.default_rng(0).normal(size=(200, 2)).astype("float32"))
    study = dl.Study(source="rows.npy", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=2, measures=SMALL)
    next(iter(dl.run(study, out=home / "run")))
    shutil.copytree(home / "run", home / "sent")
    assert len(list(dl.resume(home / "run"))) == 1
    assert (home / "config" / "driftlaw" / "secret").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "somebody"))
    with pytest.raises(TrustError, match=r"read .*rows.npy"):
        dl.resume(home / "sent")
    with pytest.raises(TrustError):
        dl.load(home / "sent").study()
    assert not (home / "somebody").exists(), "reading makes no secret"


def test_a_changed_configuration_is_not_covered_by_its_signature(home):
    config = {"estimator": {"kind": "command", "command": ["true"]}, "seed": 1}
    signature = trust.sign(config)
    assert trust.is_signed(config, signature)
    assert not trust.is_signed({**config, "seed": 2}, signature)
    assert not trust.is_signed(config, "é" * 64)
    assert trust.sign({"estimator": {"kind": "kde"}}) is None


def test_a_secret_that_others_can_read_or_that_is_a_link_signs_nothing(home):
    config = {"estimator": {"kind": "command", "command": ["true"]}}
    signature = trust.sign(config)
    secret = home / "config" / "driftlaw" / "secret"
    secret.chmod(0o644)
    assert not trust.is_signed(config, signature)
    secret.chmod(0o600)
    secret.rename(home / "elsewhere")
    secret.symlink_to(home / "elsewhere")
    assert not trust.is_signed(config, signature)


def test_a_yaml_file_with_code_needs_trust_also_for_a_dry_run(home):
    planted(home)
    text = "{source: gmm, estimator: {kind: callable, function: 'evil:fit'}, policy: 0.5, samples: 50, generations: 1}"
    (home / "study.yaml").write_text(text)
    for words in (["run", "study.yaml", "--dry-run"], ["sweep", "study.yaml", "--out", "s"]):
        done = driftlaw(*words)
        assert (done.returncode, "evil:fit" in done.stderr, "--trust" in done.stderr) == (2, True, True), done.stderr
    assert not (home / "ran").exists()
    assert driftlaw("run", "study.yaml", "--dry-run", "--trust").returncode == 0
    assert (home / "ran").exists()


def test_names_that_yaml_repeats_without_end_are_looked_at_once():
    node = {"function": "evil:fit"}
    for _ in range(60):
        node = {"a": node, "b": node}
    loop = []
    loop.append(loop)
    assert trust.code({"x": node, "y": loop}) == ["import and call the function 'evil:fit'"]


@pytest.mark.parametrize("link", ["generations", "generations/003", "summary.json", ".lock", "journal.jsonl"])
def test_no_link_inside_a_run_is_followed(home, finished, link):
    forge(finished, lambda config: config.update(generations=3))
    outside = home / "outside"
    if link.startswith("generations"):
        if link == "generations":
            shutil.move(finished / link, outside)
        else:
            outside.mkdir()
    else:
        outside.write_bytes((finished / link).read_bytes() if (finished / link).exists() else b"mine")
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    (finished / link).unlink(missing_ok=True)
    (finished / link).symlink_to(outside)
    with pytest.raises(RunDirectoryError, match=r"link"):
        list(dl.resume(finished))
    assert {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()} == before


def test_a_run_may_itself_be_reached_through_a_link(home, finished):
    (home / "alias").symlink_to(finished)
    assert list(dl.resume(home / "alias")) == []


def test_a_hard_linked_lock_and_a_pipe_are_refused(home, finished):
    (finished / ".lock").unlink()
    (home / "mine").write_text("mine")
    (finished / ".lock").hardlink_to(home / "mine")
    with pytest.raises(RunDirectoryError, match="link"):
        list(dl.resume(finished))
    (finished / ".lock").unlink()
    (finished / "journal.jsonl").unlink()
    os.mkfifo(finished / "journal.jsonl")
    with pytest.raises(RunDirectoryError, match="not an ordinary file"):
        dl.load(finished)


def test_devices_are_not_replaced(tmp_path):
    with pytest.raises(StorageError, match="not an ordinary file"):
        write_text(tmp_path / ".." / ".." / ".." / ".." / ".." / ".." / "dev" / "null", "x")


def test_a_file_system_without_locks_is_said(home, finished, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    forge(finished, lambda config: config.update(generations=3))
    (record,) = dl.resume(finished)
    assert any("has no locks" in w for w in record.warnings)


def test_a_run_killed_before_its_manifest_starts_when_it_is_resumed(home, finished):
    whole = [g.files for g in dl.load(finished)]
    early = home / "early"
    early.mkdir()
    (early / ".lock").touch()
    shutil.copy(finished / "config.yaml", early)
    with pytest.raises(RunDirectoryError, match=r"resume"):
        RunDirectory(early).check_new()
    with pytest.raises(RunDirectoryError, match=r"`driftlaw resume .*early` starts it"):
        dl.load(early)
    assert [g.files for g in dl.resume(early)] == whole
    earlier = home / "earlier"
    earlier.mkdir()
    (earlier / ".lock").touch()
    (earlier / ".0123456789abcdef.driftlaw-tmp").touch()
    RunDirectory(earlier).check_new()


def test_resume_makes_damaged_generations_again_and_says_so(home, finished):
    whole = (finished / "journal.jsonl").read_bytes()
    path = finished / "generations" / "002" / "samples.npy"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(RunDirectoryError, match=r"002.samples.npy"):
        dl.load(finished).samples(2)
    (record,) = dl.resume(finished)
    assert path.read_bytes() == kept
    assert "made again" in record.warnings[-1]
    assert (finished / "journal-2.damaged").read_bytes() == whole
    assert list(dl.resume(finished)) == []
