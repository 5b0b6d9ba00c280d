"""Every published closed form within 4.5 standard errors of its simulation (fixed seed; 7e-6 each under the law)."""

import dataclasses
import json
from html import unescape

import pytest

from driftlaw.errors import RunDirectoryError
from driftlaw.reproduce.laws import laws
from driftlaw.reproduce.pages import laws as pages

FOUND = {law.name: law for law in laws(0)}


@pytest.mark.parametrize("name", FOUND)
def test_the_simulation_agrees_with_the_formula(name):
    law = FOUND[name]
    assert law.agrees, f"z = {law.z:.1f}"
    assert law.measured.stderr < 0.03 * abs(law.expected)


def test_laws_serialise():
    assert len(FOUND) == 15
    assert {"z", "agrees", "expected", "side"} <= set(next(iter(FOUND.values())).to_json())


def test_a_bound_agrees_on_one_side_only():
    ball = FOUND["W2 ball of early stopping"]
    assert ball.side == "upper"
    assert ball.z < -100
    assert not dataclasses.replace(ball, expected=0.9 * ball.measured.value).agrees
    assert not dataclasses.replace(ball, side="identity").agrees


def test_page_and_document(tmp_path):
    path = pages.write(list(FOUND.values()), 0, tmp_path / "laws")
    html = path.read_text()
    assert "15 of 15 simulations agree" in html
    assert all(law.formula in unescape(html) for law in FOUND.values())
    assert json.loads((tmp_path / "laws" / "laws.json").read_text())["laws"][0]["agrees"] is True
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(RunDirectoryError, match="not a reproduction"):
        pages.write(list(FOUND.values()), 0, tmp_path / "other")
