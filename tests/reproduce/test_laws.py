"""Every published closed form within 4.5 standard errors of its simulation (fixed seed; 7e-6 each under the law)."""

import pytest

from driftlaw.reproduce.laws import laws

FOUND = {law.name: law for law in laws(0)}


@pytest.mark.parametrize("name", FOUND)
def test_the_simulation_agrees_with_the_formula(name):
    law = FOUND[name]
    assert law.agrees, f"z = {law.z:.1f}"
    assert law.measured.stderr < 0.03 * law.expected


def test_laws_are_eight_and_serialise():
    assert len(FOUND) == 8
    assert {"z", "agrees", "expected"} <= set(next(iter(FOUND.values())).to_json())
