"""``driftlaw data check``: what was recognised, how generations differ, and whether they can be compared."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from driftlaw.cli.verbs.data import app
from driftlaw.errors import DriftlawError

runner = CliRunner()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {"code": rng.choice(["0101", "0202"], 90), "paid": rng.uniform(1, 9, 90), "who": rng.choice(["a", "b"], 90)}
    )
    table.to_parquet("real.parquet")
    changed = table.assign(code=table["code"].astype(int), who=["new", *table["who"][1:]])
    changed.to_csv("gen1.csv", sep=";")
    table.assign(paid=np.nan).to_csv("gen2.csv", index=False)
    table.drop(columns="paid").to_csv("gen10.csv", index=False)
    np.save("x.npy", rng.normal(size=(50, 4)))
    (tmp_path / "png").mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(f"png/{i}.png")
    np.save("unit.npy", rng.random((30, 1, 6, 6)))
    return tmp_path


def test_one_set(folder):
    result = runner.invoke(app, ["check", "gen1.csv"])
    assert result.exit_code == 0
    text = result.stdout
    assert "gen1.csv: 90 rows x 3 columns" in text
    assert "utf-8, separated by ';'" in text
    assert "the column without a name only counts the rows" in text
    assert "  who        text (string); 3 categories" in text
    document = json.loads(runner.invoke(app, ["check", "png", "--json"]).stdout)["sets"][0]
    assert (document["kind"], document["rows"], document["shape"]) == ("images", 9, [1, 6, 6])
    assert document["range"][0] >= 0


def test_generations_are_compared_with_the_real_set(folder):
    result = runner.invoke(app, ["check", "real.parquet", "gen1.csv", "gen2.csv"])
    assert result.exit_code == 0
    assert "'code' holds numbers here and text in the real data: read as text, filled up to 4 digits" in result.stdout
    assert "'who' has 1 categories that the real data lack: 'new'" in result.stdout
    assert "column 'paid' is empty" in result.stdout
    same = runner.invoke(app, ["check", "real.parquet", "real.parquet"])
    assert "No difference" in same.stdout


def test_scales_are_named(folder):
    result = runner.invoke(app, ["check", "png", "unit.npy"])
    assert result.exit_code == 0
    assert "To bring [0, 1] to [-1, 1]: x -> 2 x - 1" in result.stdout


def test_what_cannot_be_compared_exits_with_2(folder):
    result = runner.invoke(app, ["check", "real.parquet", "gen1.csv", "gen10.csv", "gen2.csv", "--json"])
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert [bool(s["refused"]) for s in document["sets"]] == [False, False, True, False]
    assert "'paid' of the real data is not in gen10.csv" in document["sets"][2]["refused"][0]
    assert "by their numbers it would be gen1.csv, gen2.csv, gen10.csv" in document["question"]
    assert runner.invoke(app, ["check", "real.parquet", "x.npy"]).exit_code == 2
    assert runner.invoke(app, ["check", "x.npy", "unit.npy"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.csv"], "there is no file"),
        (["x.npy", "--size", "4"], "it is for images"),
        (["real.parquet", "--mode", "HSV"], "use L"),
        (["bad.npy"], "row 7, number 2 of bad.npy is NaN or infinite"),
        (["bad.csv"], "row 3 of column 'a' of bad.csv is infinite"),
    ],
)
def test_bad_input(folder, arguments, words):
    x = np.zeros((9, 4))
    x[7, 2] = np.inf
    np.save("bad.npy", x)
    pd.DataFrame({"a": [1.5, 2, 3, np.inf]}).to_csv("bad.csv", index=False)
    error = runner.invoke(app, ["check", *arguments]).exception
    assert isinstance(error, DriftlawError)
    assert words.lower() in str(error).lower()
    assert error.exit_code == 2
