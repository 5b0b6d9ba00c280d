"""``driftlaw bounds``: its two streams and its exit codes."""

import json
import sys

import pytest

import driftlaw as dl
from driftlaw.cli import app, console

MEASURES = {"samples": 60, "density_samples": 200, "path_samples": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    small = {"policy": 0.5, "generations": 2, "samples": 80, "measures": MEASURES}
    for name, source in (("gmm", dl.GaussianMixture.paper()), ("digits", "digits")):
        list(dl.run(dl.Study(source=source, estimator=dl.KDE(0.6), **small), out=folder / name))
    return folder


@pytest.fixture
def driftlaw(folder, monkeypatch, capsys):
    """Run the command line in this process; returns exit code, stdout and stderr."""

    def run(*args, width=160):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(console.out, "_width", width)
        monkeypatch.setattr(sys, "argv", ["driftlaw", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return stopped.value.code, *capsys.readouterr()

    return run


def test_table_regime_and_notes(driftlaw, folder):
    code, out, err = driftlaw("bounds", "gmm", "--samples", 400)
    assert code == 0, err
    lines = out.splitlines()
    assert [line for line in lines if line.startswith(("Generation", "Whole"))] == [
        "Generation 1", "Generation 2", "Whole run",
    ]  # fmt: skip
    row = next(line for line in lines if line.startswith("Thm 3.4"))
    assert "≤" in row
    assert "not checkable from data:" in out
    assert "remainder: " in out
    assert any(line.startswith("Equality, consistent") for line in lines)
    assert "regime (L² of the mixture of p and all generations): " in out
    assert "alignment κ = " in out
    assert "accumulation identity: D_n = G Γ Gᵀ to a relative error of" in out
    assert "note chi2 against p is infinite at generation 2" in err
    assert "note" not in out
    assert (folder / "gmm/bounds.json").is_file()
    assert "Bounds and certificates" in (folder / "gmm/report.html").read_text()


@pytest.mark.parametrize("width", [60, 80])
def test_tables_fit_the_terminal(driftlaw, width):
    code, out, err = driftlaw("bounds", "gmm", "--samples", 400, width=width)
    assert code == 0, err
    table = out[: out.index("within: ")].splitlines()
    assert max(len(line.rstrip()) for line in table) <= width
    assert sum("undetermined" in line or "within" in line or "equal" in line for line in table) > 5
    assert any(line.split()[-1:] == ["outcome"] for line in table)


def test_json_is_one_document_and_is_what_was_stored(driftlaw, folder):
    code, out, err = driftlaw("bounds", "digits", "--json")
    assert code == 0, err
    document = json.loads(out)
    stored = json.loads((folder / "digits/bounds.json").read_text())
    assert stored.pop("sha256")
    assert document == stored
    assert document["accumulations"][0]["reference"] == "pca"
    assert {s["name"] for s in document["statements"]} >= {"Minkowski", "Bracket"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["digits", "--reference", "p"], "no densities of target and models. Available: features"),
        (["gmm", "--reference", "p"], "chi2 against p is infinite"),
        (["gmm", "--reference", "mix"], "Did you mean 'mixture'"),
        (["gmm", "--samples", "3"], "3 samples were asked for"),
        (["nowhere"], "is not a driftlaw run"),
    ],
)
def test_bad_input_exits_with_2_and_prints_nothing_else(driftlaw, args, words):
    code, out, err = driftlaw("bounds", *args)
    assert code == 2
    assert out == ""
    assert words in err
