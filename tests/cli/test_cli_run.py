"""The command line as people use it: a real process, its two streams and its exit code."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ENV = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
SMALL = [
    "--generations",
    "2",
    "--samples",
    "60",
    "--set",
    "measures.samples=40",
    "--set",
    "measures.density_samples=100",
]
SMALL += ["--set", "measures.path_samples=0"]


def driftlaw(*args, cwd, **more):
    return subprocess.run(
        [sys.executable, "-m", "driftlaw", *map(str, args)], cwd=cwd, env=ENV, capture_output=True, text=True, **more
    )


@pytest.fixture(scope="module")
def gmm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    done = driftlaw("run", "gmm", "--alpha", "0.5", *SMALL, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_run_prints_results_and_says_where_the_report_is(gmm):
    folder, done = gmm
    assert "report run/report.html" in done.stdout
    assert "peak memory" in done.stdout
    assert (folder / "run/report.html").stat().st_size < 5e6
    assert "\x1b" not in done.stdout + done.stderr, "no colours and no progress when this is not a terminal"
    assert "generation 1/2" not in done.stderr


def test_config_in_the_run_directory_runs_again_to_the_same_numbers(gmm):
    folder, _ = gmm
    done = driftlaw("run", "run/config.yaml", "--out", "again", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "again/journal.jsonl").read_bytes() == (folder / "run/journal.jsonl").read_bytes()


def test_manifest_remembers_how(gmm):
    folder, _ = gmm
    manifest = json.loads((folder / "run/manifest.json").read_text())
    assert manifest["command"].startswith("driftlaw run gmm --alpha 0.5")
    assert {"torch", "threads", "device", "seed", "driftlaw", "config_sha256"} <= set(manifest)
    summary = json.loads((folder / "run/summary.json").read_text())
    assert summary["generations"] == 2


def test_json_is_one_document_and_nothing_else(gmm):
    folder, _ = gmm
    done = driftlaw("resume", "run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [g["index"] for g in document["generations"]] == [1, 2]
    assert document["generations"][0]["divergence"]["chi2"]["value"] == "inf"


def test_report_is_written_again(gmm):
    folder, _ = gmm
    before = (folder / "run/report.html").read_bytes()
    (folder / "run/report.html").unlink()
    assert driftlaw("report", "run", cwd=folder).returncode == 0
    assert (folder / "run/report.html").read_bytes() == before


def test_dry_run_writes_nothing(tmp_path):
    done = driftlaw("run", "gmm", "--alpha", "0.25", *SMALL, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "generation 2: 60 rows = 15 fresh + 45 of model 1" in done.stdout
    assert "on this machine" in done.stdout
    assert list(tmp_path.iterdir()) == []
    document = json.loads(driftlaw("run", "gmm", *SMALL, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert document["fresh_rows"] == 66


@pytest.mark.heavy
def test_sweep_runs_resumes_and_reports(tmp_path):
    args = ["sweep", "gmm", "--alphas", "0.1,0.9", "--seeds", "0-1", *SMALL, "--workers", "2", "--out", "s"]
    done = driftlaw(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 runs in s" in done.stdout
    page = (tmp_path / "s/report.html").read_text()
    assert "alpha-0.1/seed-0/report.html" in page
    journal = tmp_path / "s/alpha-0.9/seed-1/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.index(b"\n") + 1])  # as if killed after the first generation
    done = driftlaw(*args, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert journal.read_bytes() == whole
    assert len(json.loads(done.stdout)["runs"]) == 4
    assert driftlaw("report", "s", cwd=tmp_path).returncode == 0
    other = driftlaw(*args[:-2], "--out", "s", "--samples", "50", cwd=tmp_path)
    assert other.returncode == 2
    assert "another study" in other.stderr.replace("\n", " ")


BAD = [
    (["run", "digit"], "did you mean 'digits'"),
    (["run", "none.yaml"], "cannot read the study"),
    (["run", "gmm", "--alpha", "1.5"], "alpha = 1.5 is outside"),
    (["run", "gmm", "--alpha", "nan"], "alpha"),
    (["run", "gmm", "--alpha", "0.1", "--policy", "replace"], "both --alpha and --policy"),
    (["run", "gmm", "--policy", "windw:3"], "window"),
    (["run", "gmm", "--samples", "0"], "samples = 0"),
    (["run", "gmm", "--samples", "1"], "samples = 1"),
    (["run", "gmm", "--generations", "0"], "generations = 0"),
    (["run", "gmm", "--seed", "-3"], "seed = -3"),
    (["run", "gmm", "--preset", "big"], "preset 'big'"),
    (["run", "gmm", "--set", "estimator.bandwith=1"], "did you mean 'bandwidth'"),
    (["run", "gmm", "--set", "novalue"], "not key=value"),
    (["run", "gmm", "--set", "samples=[1,"], "not YAML"),
    (["run", "gmm", "--device", "tpu"], "device"),
    (["run", "gmm", "--frobnicate"], "frobnicate"),
    (["run"], "STUDY"),
    (["run", "gmm", *SMALL, "--out", "full"], "not empty and not a driftlaw run"),
    (["run", "gmm", *SMALL, "--out", "file.txt"], "is a file"),
    (["run", "bad.yaml"], "did you mean 'estimator'"),
    (["run", "nan.yaml"], "3 of 60 rows"),
    (["resume", "full"], "not a driftlaw run"),
    (["resume", "nowhere"], "not a driftlaw run"),
    (["report", "full"], "not a driftlaw run"),
    (["sweep", "gmm", "--alphas", "0.1,x"], "'x' is not a number"),
    (["sweep", "gmm", "--alphas", "0.1,1.2"], "outside"),
    (["sweep", "gmm", "--engine", "dask"], "neither process nor ray"),
    (["frobnicate"], "frobnicate"),
]


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messy")
    (folder / "full").mkdir()
    (folder / "full/thesis.txt").write_text("mine")
    (folder / "file.txt").write_text("mine")
    (folder / "bad.yaml").write_text(
        yaml.safe_dump({"source": {"kind": "gmm"}, "estimtor": {"kind": "kde"}, "policy": 0.1})
    )
    rows = ["a,b"] + [f"{k},{'nan' if k in (7, 9, 11) else k * k % 17}" for k in range(60)]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    source = {"kind": "array", "path": "data.csv"}
    (folder / "nan.yaml").write_text(
        yaml.safe_dump({"source": source, "estimator": {"kind": "kde"}, "policy": 0.1, "samples": 20})
    )
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("args", "words"), BAD, ids=[" ".join(a)[:60] for a, _ in BAD])
def test_bad_input_is_exit_2_with_a_remedy_and_nothing_written(messy, args, words):
    before = listing(messy)
    done = driftlaw(*args, cwd=messy)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2, done.stderr
    assert words.lower() in said.lower()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert listing(messy) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_place(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    done = driftlaw("run", "gmm", *SMALL, "--out", "locked/run", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot write" in done.stderr


def test_progress_on_a_terminal_shows_generations_and_time_left(tmp_path):
    """A real pseudo-terminal on stderr; stdout stays clean."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "driftlaw", "run", "gmm", *SMALL, "--out", "run"],
        cwd=tmp_path, env=ENV | {"TERM": "xterm-256color"}, stdout=subprocess.PIPE, stderr=slave, text=True,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    out = process.communicate()[0]
    assert process.returncode == 0
    assert b"generation 2/2" in seen
    assert "report run/report.html" in out
    assert "generation 2/2" not in out
