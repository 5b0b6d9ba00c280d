"""``driftlaw plan``: its answer, its two streams, its files and its exit codes."""

import json
import sys

import pytest

from driftlaw.cli import app, console

GIVEN = ["--innovation", "1", "--alignment", "1", "--budget", "100", "--horizon", "20"]


@pytest.fixture
def driftlaw(tmp_path, monkeypatch, capsys):
    """Run the command line in this process; returns exit code, stdout and stderr."""

    def run(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(console.out, "_width", 100)
        monkeypatch.setattr(sys, "argv", ["driftlaw", "plan", *map(str, args)])
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code or 0
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def test_json_is_one_document(driftlaw):
    code, out, err = driftlaw(*GIVEN, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["alpha"] == pytest.approx(0.1, abs=1e-12)
    assert len(document["schedule"]) == len(document["drift"]) == 20
    assert document["feasible"] is True


def test_words_and_files(driftlaw, tmp_path):
    code, out, _ = driftlaw(*GIVEN[:-2], "--horizon", "40", "--objective", "mean", "--out", "plan")
    assert code == 0
    assert "A constant 0.1 of fresh data keeps the mean drift within 100 for ever" in out
    assert max(map(len, out.splitlines()[2:-1])) <= 100
    page = (tmp_path / "plan/plan.html").read_text()
    assert page.count("<svg") == 3
    assert "for 40 generations" in page
    assert json.loads((tmp_path / "plan/plan.json").read_text())["objective"] == "mean"


def test_an_infeasible_budget_is_an_answer(driftlaw):
    code, out, _ = driftlaw("--innovation", "2", "--alignment", "0.3", "--budget", "1", "--horizon", "5")
    assert code == 0
    assert "cannot be kept" in out
    assert "lead to 2" in out


def test_a_total_of_fresh_samples(driftlaw):
    arguments = ["--innovation", "1", "--alignment", "0.5", "--horizon", "6", "--objective", "terminal"]
    code, out, _ = driftlaw(*arguments, "--total-fresh", "150", "--samples", "100")
    assert code == 0
    assert "With 150 samples of fresh data over 6 generations" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--budget", "-1"], "budget must be"),
        (["--budget", "0"], "budget must be"),
        (["--budget", "nan"], "budget must be"),
        (["--horizon", "0"], "generations"),
        (["--alignment", "2"], "alignment"),
        (["--innovation", "-1"], "innovation"),
        (["--objective", "medain"], "did you mean|Valid names"),
        (["--start", "somewhere"], "start"),
        (["--confidence", "2"], "confidence"),
        (["--from", "nowhere"], "one of the two"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(driftlaw, tmp_path, change, words):
    import re

    code, out, err = driftlaw(*GIVEN, *change, "--out", "plan")
    assert (code, out) == (2, "")
    assert re.search(words, err)
    assert not (tmp_path / "plan").exists()


def test_a_directory_without_innovations(driftlaw):
    code, out, err = driftlaw("--from", ".", "--budget", "1", "--horizon", "3")
    assert (code, out) == (2, "")
    assert "neither a run" in err
