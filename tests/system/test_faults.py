"""Every storage call fails once; what is left can be gone on from. The whole table: ``python -m benchmarks.faults``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
heavy = pytest.mark.heavy


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs the system package gcc")
@pytest.mark.parametrize(
    ("case", "every"),
    [
        ("sketch", 1),
        pytest.param("audit", 1, marks=heavy),
        pytest.param("gmm", 7, marks=heavy),
        pytest.param("command", 13, marks=heavy),
        pytest.param("sweep", 23, marks=heavy),
        pytest.param("digits", 37, marks=heavy),
        pytest.param("reproduce", 11, marks=heavy),
    ],
)
def test_every_storage_call_may_fail(tmp_path, case, every):
    out = tmp_path / "found.json"
    words = [sys.executable, "-m", "benchmarks.faults", "--only", case, "--every", str(every), "--out", str(out)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(out.read_text())
    assert found["faults"] == []
    assert all(set(count) <= {"stopped, same", "carried on, same"} for count in found["outcomes"].values())
    assert sum(map(sum, (count.values() for count in found["outcomes"].values()))) == 3 * len(
        range(0, found["calls"], every)
    )
