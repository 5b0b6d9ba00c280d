"""The sweep verb: cells, failures, what it refuses before anything is written."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def driftlaw(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "driftlaw", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


TINY = ("gmm", "--preset", "smoke", "--samples", "60", "--generations", "1", "--set", "measures.path_samples=0")


def test_a_dry_run_lists_cells_and_writes_nothing(driftlaw, tmp_path):
    grid = ("--grid", "estimator.bandwidth=.3,.6", "--alphas", "0.1,0.5", "--seeds", "0")
    code, out, _ = driftlaw("sweep", *TINY, *grid, "--dry-run", "--json")
    assert code == 0
    assert len(json.loads(out)["cells"]) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_one_bad_cell_does_not_stop_the_others(driftlaw, tmp_path):
    grid = ("--grid", "samples=60,1000000000", "--alphas", "0.5", "--seeds", "0")
    code, out, err = driftlaw("sweep", *TINY, *grid, "--out", "s", "--json")
    assert code == 2, err  # refused before anything runs: no study has so many rows
    assert not (tmp_path / "s").exists()
    many = ("--set", "estimator={kind: mixture-em, components: 2}", "--grid", "estimator.components=2,90")
    code, out, err = driftlaw("sweep", *TINY, *many, "--alphas", "0.5", "--seeds", "0", "--out", "s", "--json")
    document = json.loads(out)
    assert code == 2
    assert len(document["runs"]) == 1
    assert len(document["failures"]) == 1
    assert (tmp_path / "s" / "report.html").is_file()
    assert "1 of 2 runs failed" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--grid", "estimator.bandwith=.3"), "bandwidth"),
        (("--grid", "estimator.bandwidth"), "key=value"),
        (("--grid", "policy=1"), "alphas"),
        (("--grid", "estimator.bandwidth=.3,.3"), "twice"),
        (("--alphas", "1.5"), "outside"),
        (("--engine", "spark"), "ray"),
        (("--device", "tpu"), "device"),
    ],
)
def test_bad_input_writes_nothing(driftlaw, tmp_path, arguments, message):
    code, out, err = driftlaw("sweep", *TINY, *arguments, "--out", "s")
    assert code == 2
    assert message in err
    assert out == ""
    assert not (tmp_path / "s").exists()
