"""Odd places: no home, foreign users, odd names, what cannot be written, links in a sweep. Real processes."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.errors import UnsafePathError
from driftlaw.system import places

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = {"samples": 0, "density_samples": 200, "path_samples": 0}
WORDS = ["--samples", "60", "--generations", "1", *(f"--set=measures.{k}={v}" for k, v in SMALL.items())]


def cli(*words, cwd, env=ENV, before=()):
    command = [*before, sys.executable, "-m", "driftlaw", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def without(*names, **more):
    return {k: v for k, v in ENV.items() if k not in names} | more


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    study = dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=1, measures=SMALL)
    list(dl.run(study, out))
    return out


@pytest.mark.parametrize("env", ["no home", "read-only home", "relative cache"])
def test_a_run_without_a_place_of_its_own(tmp_path, env):
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    variables = {
        "no home": without("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
        "read-only home": without("XDG_CACHE_HOME", "XDG_CONFIG_HOME", HOME="/proc/self"),
        "relative cache": without(HOME=str(home), XDG_CACHE_HOME="here", XDG_CONFIG_HOME="here"),
    }[env]
    done = cli("run", "gmm", *WORDS, "--out", "out", cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "here/driftlaw").exists()  # other packages take a relative place for one


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_an_unknown_user(tmp_path):
    tmp_path.chmod(0o777)
    code = "from driftlaw.system.places import cache_folder, NoPlaceError\ntry:\n print(cache_folder())\n"
    code += "except NoPlaceError as error:\n print(error)\n"
    import pwd

    with pytest.raises(KeyError):
        pwd.getpwuid(54321)
    before = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    env = without("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    words = [*before, sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    if "Permission denied" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("this Python cannot be read by other users")
    assert done.returncode == 0, done.stderr
    assert "no home folder" in done.stdout


def test_a_cache_that_everybody_may_write_to_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "driftlaw"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(places.NoPlaceError, match="can be written by everybody"):
        places.cache_folder()


def test_a_directory_that_cannot_be_written_is_still_read(tmp_path, run):
    if os.geteuid() == 0:  # root writes everywhere but where nothing can be written
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        mounted = subprocess.run(["mount", "--bind", str(copy), str(copy)], capture_output=True).returncode == 0
        if not mounted or subprocess.run(["mount", "-o", "remount,bind,ro", str(copy)], capture_output=True).returncode:
            pytest.skip("this sandbox cannot mount")
    else:
        mounted, copy = False, shutil.copytree(run, tmp_path / "run")
        copy.chmod(0o555)
    try:
        assert len(dl.load(copy)) == 1
        dl.load(copy).samples(1)
        assert dl.verify(copy).clean
        done = cli("report", copy, cwd=tmp_path)
        assert done.returncode == 2
        assert "cannot write" in done.stderr.replace("\n", " ")
        dl.write_report(dl.load(copy), tmp_path / "page.html")
    finally:
        if mounted:
            subprocess.run(["umount", str(copy)], check=True)


@pytest.mark.parametrize("name", ["with space", "ü—名", "new\nline", "-dash", "a" * 255, "[bold]x[/]"])
def test_odd_names(tmp_path, name):
    out = tmp_path / name
    study = dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=1, measures=SMALL)
    list(dl.run(study, out))
    assert len(dl.load(out)) == 1
    assert dl.verify(out).clean
    assert list(dl.resume(out)) == []
    rows = tmp_path / f"{name[:240]}.npy"
    np.save(rows, np.random.default_rng(0).normal(size=(100, 2)))
    dl.sketch(rows).save(tmp_path / f"{name[:240]}.sketch")
    assert dl.verify(tmp_path / f"{name[:240]}.sketch").clean


@pytest.mark.parametrize("out", ["/dev/null", "/dev/null/x", "/proc/x", "a" * 300, "file/x"])
def test_what_cannot_be_written_is_said(tmp_path, monkeypatch, out):
    from fuzz.outcomes import command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    np.save("rows.npy", np.random.default_rng(0).normal(size=(100, 2)))
    for words in (
        ["run", "gmm", *WORDS, "--out", out],
        ["sweep", "gmm", *WORDS, "--alphas", "0.5", "--seeds", "0", "--out", out],
        ["sketch", "rows.npy", "-o", out],
        ["audit", "rows.npy", "rows.npy", "--out", out],
        ["plan", "--innovation", "1", "--alignment", "0", "--budget", "9", "--horizon", "3", "--out", out],
        ["resume", out],
        ["report", out],
        ["verify", out],
    ):
        assert command(words) == "exit 2", words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "rows.npy"]


def test_cells_of_a_sweep_that_are_links_are_refused(tmp_path, run):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sweep/alpha-0.5").symlink_to(tmp_path / "elsewhere")
    study = dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=1, measures=SMALL)
    found = dl.sweep(study, tmp_path / "sweep", alphas=[0.5], seeds=[0])
    assert "symbolic link" in next(iter(found.failures.values()))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    shutil.copytree(run, tmp_path / "elsewhere/seed-0")
    index = {"format": 1, "cells": [{"alpha": 0.5, "seed": 0, "settings": []}]}
    (tmp_path / "sweep/sweep.json").write_text(json.dumps(index))
    from driftlaw.loop.sweep import find

    with pytest.raises(UnsafePathError):
        find(tmp_path / "sweep")


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    study = dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=1, measures=SMALL)
    (record,) = dl.run(study, tmp_path / "run")
    assert any("has no locks" in w for w in record.warnings)
