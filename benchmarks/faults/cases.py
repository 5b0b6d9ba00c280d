"""What is interrupted: one command of each kind that writes, small, and the commands that go on from anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: A program for the Command learner: it leaves something of its own and writes its rows.
PROGRAM = """
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
rows = pathlib.Path(job["training"]).read_bytes()
(pathlib.Path(job["output"]) / "weights.bin").write_bytes(rows[128:256])
pathlib.Path(job["samples_file"]).write_bytes(rows)
"""
STUDY = """
source: gmm
estimator: {kind: command, command: [PYTHON, -S, ../../../inputs/program.py]}
policy: 0.5
samples: 60
generations: 2
measures: {samples: 0, density_samples: 200, path_samples: 0}
"""
SMALL = ("--set", "measures.samples=0", "--set", "measures.density_samples=200", "--set", "measures.path_samples=0")
DIGITS = (
    *("--generations", "2", "--samples", "60", "--seed", "5", "--set", "measures.samples=40"),
    *("--set", "estimator.steps=12", "--set", "estimator.warm_steps=12", "--set", "estimator.checkpoint_every=6"),
    *("--set", "estimator.width=16", "--set", "estimator.batch=16"),
)
#: Files that hold times, and may differ; pages show times.
TIMES = {"timing.json", "report.html", "manifest.json", ".lock"}


@dataclass(frozen=True)
class Case:
    """One command.

    Args:
        name: of the case.
        start: its words.
        go_on: what is documented to go on from an interruption, in the order in which it is tried.
        prepare: makes inputs.
    """

    name: str
    start: tuple[str, ...]
    go_on: tuple[tuple[str, ...], ...]
    prepare: Callable[[Path], None] = lambda folder: None


def _run(name: str, *words: str, prepare: Callable[[Path], None] = lambda folder: None) -> Case:
    start = ("run", *words, "--out", "out")
    return Case(name, start, (("resume", "out"), start, ("resume", "out", "--trust")), prepare)


def _again(name: str, *words: str, prepare: Callable[[Path], None] = lambda folder: None) -> Case:
    return Case(name, words, (words,), prepare)


def _command(inputs: Path) -> None:
    import sys

    (inputs / "program.py").write_text(PROGRAM)
    (inputs / "study.yaml").write_text(STUDY.replace("PYTHON", sys.executable))


def _rows(inputs: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(inputs / "real.npy", rng.normal(size=(600, 4)))
    for k in (1, 2):
        np.save(inputs / f"gen{k}.npy", rng.normal(0.2 * k, 1.0, size=(400, 4)))


DATA = tuple(f"../../../inputs/{name}.npy" for name in ("real", "gen1", "gen2"))
CASES = {
    case.name: case
    for case in (
        _run("gmm", "gmm", "--generations", "3", "--samples", "60", *SMALL),
        _run("digits", "digits", *DIGITS),
        _run("command", "../../../inputs/study.yaml", "--trust", prepare=_command),
        _again(
            *("sweep", "sweep", "gmm", "--alphas", "0.1,0.9", "--seeds", "0", "--generations", "2", "--samples", "60"),
            *(*SMALL, "--out", "out"),
        ),
        _again("reproduce", "reproduce", "controlled", "--target-se", "0.5", "--out", "out"),
        _again("sketch", "sketch", DATA[0], "-o", "out.sketch", prepare=_rows),
        _again("audit", "audit", *DATA, "--out", "out", prepare=_rows),
    )
}
