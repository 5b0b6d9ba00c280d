"""What is missing on a machine is said, with the command that installs it, and that command installs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import pytest

@pytest.mark.parametrize("x", [1, 2])
def test_browser(x):
    pytest.skip("needs the system package chromium")

@pytest.mark.skipif(True, reason="absent: no C++ compiler")
def test_compiled(): ...

@pytest.mark.skipif(True, reason="no CUDA device")
def test_gpu(): ...
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_skipped_tests_are_counted_and_the_command_is_named(tmp_path, workers):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *workers, "."]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "3 tests need chromium, g++, missing here. To install: make test-deps" in printed.splitlines()


def machine(folder, **commands):
    """A machine with these commands only: name and body of a shell script."""
    folder.mkdir()
    for name, body in ({"env": 'shift; "$@"'} | commands).items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return {"PATH": str(folder)}


def install(environment):
    return subprocess.run(["/bin/bash", ROOT / ".ci/test-deps"], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash")
def test_the_command_installs_what_is_missing(tmp_path):
    log = f'echo "$@" >> {tmp_path}/log'
    sudo = f'echo sudo >> {tmp_path}/log; "$@"'
    done = install(machine(tmp_path / "user", apt_get=log, id="echo 1000", sudo=sudo, chromium=""))
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["sudo", "update -qq"]
    assert "chromium" not in lines[-1], "what is here is not installed again"
    assert "g++" in lines[-1].split()
    (tmp_path / "log").unlink()
    assert install(machine(tmp_path / "root", apt_get=log, id="echo 0")).returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert "sudo" not in lines
    assert {"install", "chromium", "g++"} <= set(lines[-1].split())


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash")
def test_what_cannot_be_installed_is_named(tmp_path):
    bare = install(machine(tmp_path / "bare"))
    assert bare.returncode == 1
    assert "no apt-get: install chromium" in bare.stderr
    powerless = install(machine(tmp_path / "powerless", apt_get="", id="echo 1000"))
    assert powerless.returncode == 1
    assert "installing needs root: apt-get install chromium" in powerless.stderr
