"""Tables of every verb fit narrow terminals: one line for each row, no cell cut or folded."""

import re
import sys

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.cli import app, console


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("widths")
    g = np.random.default_rng(0)
    for k in range(3):
        np.save(where / f"set{k}.npy", g.normal(0.2 * k, 1, size=(400, 3)))
    small = {"samples": 60, "density_samples": 200, "path_samples": 0}
    study = dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=80, generations=2, measures=small
    )
    list(dl.run(study, out=where / "gmm"))
    return where


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    ("args", "head"),
    [
        (["plan", "--innovation", "0.01234", "--alignment", "0.4321", "--budget", "0.1", "--horizon", "5"],
         "generation"),
        (["plan", "--innovation", "0.01", "--alignment", "1", "--total-fresh", "9e5", "--samples", "123456",
          "--horizon", "9", "--objective", "terminal"], "generation"),
        (["audit", "set0.npy", "set1.npy", "set2.npy", "--alpha", "0.3"], "gen."),
        (["resume", "gmm"], "n "),
    ],
)  # fmt: skip
def test_tables_fit(folder, monkeypatch, capsys, args, head, width):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(console.out, "_width", width)
    monkeypatch.setattr(sys, "argv", ["driftlaw", *args])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    out, err = capsys.readouterr()
    assert stopped.value.code == 0, err
    lines = out.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith(head))
    table = [line.rstrip() for line in lines[first:] if re.match(r"\s*\d|gen|n ", line) and not line.startswith("97")]
    assert len(table) >= 3
    assert max(map(len, table)) <= width
    assert not any("…" in line for line in table)
    assert all(re.match(r"\s*(\d|gen|n )", line) for line in table)
