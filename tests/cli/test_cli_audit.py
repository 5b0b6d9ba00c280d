"""``driftlaw audit``: streams, files, gate and exit codes."""

import json
import sys

import numpy as np
import pytest

from driftlaw.auditing.record import Audit
from driftlaw.cli import app, console


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("audit"), np.random.default_rng(0)
    np.save(folder / "real.npy", rng.standard_normal((3000, 3)))
    for i in range(1, 6):
        mean = 0.2 * sum(0.6**j for j in range(i))
        np.save(folder / f"gen{i}.npy", rng.standard_normal((1000, 3)) + mean)
    return folder


@pytest.fixture
def driftlaw(folder, monkeypatch, capsys):
    """Run the command line in this process; returns exit code, stdout and stderr."""

    def run(*args):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(console.out, "_width", 100)
        monkeypatch.setattr(sys, "argv", ["driftlaw", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return stopped.value.code, *capsys.readouterr()

    return run


GENERATIONS = [f"gen{i}.npy" for i in range(1, 6)]


def test_table_and_files(driftlaw, folder):
    code, out, err = driftlaw("audit", "real.npy", *GENERATIONS, "--features", "identity", "--out", "audited")
    assert code == 0, err
    whole = out.splitlines()
    assert whole[0].split() == ["drifted", "generation", "5"]
    assert any(line.startswith("What to do: ") for line in whole)
    lines = whole[whole.index("") + 1 :]
    assert lines[0].split() == ["gen.", "rows", "drift", "floor", "p", "innovation"]
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "4", "5"]
    assert all(len(line) <= 100 for line in lines[:6])
    for text in ("means moved: drift", "since generation 1", "Effective alpha", "Forecast", "the law of growth"):
        assert text in out
    assert sorted(p.name for p in (folder / "audited").iterdir()) == ["audit.json", "report.html"]
    assert len(Audit.load(folder / "audited").generations) == 5
    page = folder / "audited" / "report.html"
    before = page.read_text()
    page.unlink()
    assert driftlaw("report", "audited")[0] == 0
    assert page.read_text() == before


def test_json_is_one_document(driftlaw):
    code, out, err = driftlaw("audit", "real.npy", "gen1.npy", "gen2.npy", "--json", "--alpha", "0.4")
    assert code == 0, err
    document = json.loads(out)
    assert document["gate"] is None
    assert [g["index"] for g in document["generations"]] == [1, 2]
    assert document["effective_alpha"]["value"] == 0.4
    assert Audit.from_json(document).to_json() == {k: v for k, v in document.items() if k != "gate"}


@pytest.mark.parametrize(("limit", "code"), [("0.1", 1), ("100", 0)])
def test_the_gate(driftlaw, limit, code):
    found, out, err = driftlaw("audit", "real.npy", "gen4.npy", "--fail-above", limit, "--json")
    assert found == code
    gate = json.loads(out)["gate"]
    assert (gate["fail_above"], gate["failed"]) == (float(limit), bool(code))
    assert ("gate: fail" in err) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real.npy", "missing.npy"], "missing.npy"),
        (["real.npy", "gen1.npy", "--features", "pcb"], "pca"),
        (["real.npy", "gen1.npy", "--alpha", "2"], "alpha = 2.0 is outside"),
        (["real.npy", "gen1.npy", "--fail-above", "-1"], "--fail-above -1"),
        (["real.npy", "gen1.npy", "--horizon", "0"], "--horizon 0"),
        (["real.npy", "gen1.npy", "--mode", "CMYK"], "--mode CMYK"),
    ],
)
def test_bad_input_writes_nothing(driftlaw, folder, arguments, message):
    code, out, err = driftlaw("audit", *arguments, "--out", "bad")
    assert code == 2
    assert message in err
    assert out == ""
    assert not (folder / "bad").exists()


def test_a_generation_is_needed(driftlaw):
    code, _, err = driftlaw("audit", "real.npy")
    assert code == 2
    assert "generations" in err.lower()
