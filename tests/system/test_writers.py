"""Several writers of one file: the last one wins, whole; what killed ones leave is removed. Real processes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from driftlaw import files

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
WRITER = """
import sys
from pathlib import Path
from driftlaw.files import write_atomic
letter = sys.argv[2].encode()
for _ in range(60):
    write_atomic(Path(sys.argv[1]), lambda f: [f.write(letter * 5000) for _ in range(20)])
"""
#: Writes half a file, says so, and waits for a line before it writes the rest.
SLOW = """
import sys
from pathlib import Path
from driftlaw.files import write_atomic
def write(f):
    f.write(b"half"); f.flush(); print("written", flush=True); sys.stdin.readline(); f.write(b" and half")
write_atomic(Path(sys.argv[1]), write)
"""


def start(code, *words, **more):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=ENV, text=True, **more)


def temporaries(folder):
    return [p.name for p in folder.iterdir() if p.name.endswith(files.TEMPORARY)]


def test_one_of_many_writers_wins_whole(tmp_path):
    path = tmp_path / "file"
    writers = [start(WRITER, path, letter) for letter in "abc"]
    seen = set()
    while any(w.poll() is None for w in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 100_000
            assert len(set(data)) == 1
            seen.add(data[:1])
        time.sleep(0.001)
    assert [w.returncode for w in writers] == [0, 0, 0]
    assert seen
    assert temporaries(tmp_path) == []


def write_another(path):
    files.write_atomic(path, lambda f: f.write(b"new"))


def hold_the_lock(path):
    files.remove_temporaries(path.parent)


@pytest.mark.parametrize("clean", [write_another, hold_the_lock])
def test_what_a_killed_writer_leaves_is_removed_and_what_a_living_one_writes_is_not(tmp_path, clean):
    path = tmp_path / "file"
    slow = [start(SLOW, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for writer in slow:
        assert writer.stdout.readline() == "written\n"
    assert len(temporaries(tmp_path)) == 2
    slow[0].send_signal(signal.SIGKILL)
    slow[0].wait()
    clean(path)
    assert len(temporaries(tmp_path)) == 1
    slow[1].communicate("go on\n", timeout=60)
    assert slow[1].returncode == 0
    assert path.read_bytes() == b"half and half"
    assert temporaries(tmp_path) == []


def cli(folder, *words):
    return [
        subprocess.Popen([sys.executable, "-m", "driftlaw", *words], cwd=folder, env=ENV, stderr=subprocess.PIPE)
        for _ in range(2)
    ]


def test_two_sketches_and_two_reports_of_one_name_at_once(tmp_path):
    import driftlaw as dl

    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(500, 3)))
    for process in cli(tmp_path, "sketch", "rows.npy", "-o", "rows.sketch"):
        assert process.wait(120) == 0, process.stderr.read()
    dl.Sketch.load(tmp_path / "rows.sketch")
    study = dl.Study(
        source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=1,
        measures={"samples": 0, "density_samples": 200, "path_samples": 0},
    )  # fmt: skip
    list(dl.run(study, tmp_path / "run"))
    for process in cli(tmp_path, "report", "run"):
        assert process.wait(120) == 0, process.stderr.read()
    assert (tmp_path / "run/report.html").read_text().rstrip().endswith("</html>")
    assert temporaries(tmp_path) + temporaries(tmp_path / "run") == []
