"""``driftlaw sketch``: its two streams, its exit codes, and nothing written when it fails."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

import driftlaw as dl
from driftlaw.cli import app


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with real.npy and table.csv; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("real.npy", rng.normal(size=(1000, 5)))
    table = pd.DataFrame({"age": rng.normal(50, 10, 800), "city": rng.choice(["a", "b"], 800), "id": range(800)})
    table.loc[::40, "age"] = np.nan
    table.to_csv("table.csv", index=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["driftlaw", "sketch", *arguments])
        code = 0
        try:
            app.main()
        except SystemExit as done:
            code = done.code or 0
        return (code, *capsys.readouterr())

    return run


def test_a_sketch_and_one_like_it(call):
    code, out, _ = call("real.npy", "-o", "real.sketch", "--features", "quadratic", "--blocks", "16")
    assert code == 0
    assert "20 quadratic of 5 columns" in out
    assert "in 16 blocks" in out
    code, out, err = call("real.npy", "-o", "again.sketch", "--like", "real.sketch", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    real, again = dl.Sketch.load("real.sketch"), dl.Sketch.load("again.sketch")
    assert document["n"] == again.n == 1000
    assert document["fingerprint"] == real.features.fingerprint == again.features.fingerprint
    assert document["bytes"] < 40_000


def test_a_table(call):
    code, out, _ = call("table.csv", "-o", "t", "--columns", "age,city", "--features", "identity", "--seed", "3")
    assert code == 0
    assert "missing      age" in out
    sketch = dl.Sketch.load("t")
    assert sketch.features.seed == 3
    assert sketch.features.labels[0] == "age"
    code, out, _ = call("table.csv", "-o", "u", "--categorical", "id", "--features", "identity", "--json")
    assert len(dl.Sketch.load("u").features.categories["id"]) == 32
    assert json.loads(out)["unknown"]["id"] > 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npy", "-o", "out"], "no file none.npy"),
        (["real.npy", "-o", "out", "--features", "pac"], "Did you mean 'pca'"),
        (["table.csv", "-o", "out", "--like", "real.npy"], "real.npy is not a sketch"),
        (["table.csv", "-o", "out", "--columns", "agee"], "Did you mean 'age'"),
        (["real.npy", "-o", "missing/out"], "no folder"),
        (["real.npy", "-o", "."], "is a folder"),
        (["real.npy", "-o", "out", "--blocks", "1"], "1 blocks"),
    ],
)
def test_failures_exit_with_2_and_write_nothing(call, tmp_path, arguments, words):
    before = sorted(tmp_path.iterdir())
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
    assert sorted(tmp_path.iterdir()) == before


def test_nan_leaves_the_old_sketch(call):
    call("real.npy", "-o", "real.sketch")
    old = dl.Sketch.load("real.sketch").n
    bad = np.load("real.npy")
    bad[7, 3] = np.nan
    np.save("bad.npy", bad)
    code, _, err = call("bad.npy", "-o", "real.sketch", "--like", "real.sketch")
    assert code == 2
    assert "row 7, column x3" in " ".join(err.split())
    assert dl.Sketch.load("real.sketch").n == old


def test_a_full_disk(call, small_disk):
    folder = small_disk("8k")
    (folder / "fill").write_bytes(bytes(4096))
    code, out, err = call("real.npy", "-o", str(folder / "s"), "--features", "quadratic")
    assert (code, out) == (2, "")
    assert "no space left" in " ".join(err.split())
    assert [p.name for p in folder.iterdir()] == ["fill"]
