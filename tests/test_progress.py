"""Progress is told one way, and shown as plain lines where there is no terminal."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

import driftlaw as dl
from driftlaw.cli import console
from driftlaw.progress import part, silent


def test_parts_of_a_whole():
    assert part(1, 4) == 0.25
    assert part(5, 4) == 1.0
    assert math.isnan(part(3, None))
    assert math.isnan(part(0, 0))
    assert silent(0.5, "x") is None


def test_a_sketch_and_an_audit_tell_fractions_and_words():
    told = []
    rows = np.random.default_rng(0).normal(size=(500, 3))
    dl.audit(rows, [rows[:200]], progress=lambda fraction, text: told.append((fraction, text)))
    assert told
    assert all(math.isnan(f) or 0 <= f <= 1 for f, _ in told)
    assert {text.partition(":")[0] for _, text in told} >= {"the real data", "generation 1", "nearest neighbours"}


@pytest.mark.parametrize(("fraction", "shown"), [(0.5, "reading (50%)"), (math.nan, "reading")])
def test_without_a_terminal_lines_come_now_and_then(monkeypatch, fraction, shown):
    stream = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=stream, width=80))
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progressing("x") as progress:
        progress(fraction, "reading")
        progress(fraction, "reading")
        progress(fraction, "reading")
    assert stream.getvalue().splitlines() == [shown]
