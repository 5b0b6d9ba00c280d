"""Block sizes enter the propagator exactly: against a twin that carries every row, and in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from driftlaw.errors import ConfigError, InputError
from driftlaw.theory import Accumulate, AccumulateSubsample, FixedFraction, FixedReal, propagator
from driftlaw.theory.blocks.pooled import pooled_propagator
from driftlaw.theory.blocks.sizes import Growing, rule, size
from driftlaw.theory.propagator import effective_memory, propagator_initial
from oracles import blocks_twin

SIZES = [5, 3, 8, 1, 12, 7]
INNOVATIONS = np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize(
    ("policy", "sets"),
    [
        (Accumulate(), blocks_twin.kept(SIZES)),
        (Accumulate(cap=4), blocks_twin.kept(SIZES)),
        (AccumulateSubsample(), blocks_twin.subsampled(SIZES, [2, 1, 3, 1, 2, 1])),
        (FixedReal(), blocks_twin.beside_a_real_set(SIZES)),
    ],
    ids=["accumulate", "capped", "subsample", "fixed-real"],
)
def test_the_propagator_carries_every_row(policy, sets):
    found = propagator(policy, sizes=SIZES) @ INNOVATIONS
    np.testing.assert_allclose(found, blocks_twin.errors(sets, INNOVATIONS), rtol=1e-12, atol=1e-13)


def test_closed_forms():
    np.testing.assert_allclose(propagator(Accumulate(), sizes=SIZES), pooled_propagator(SIZES), rtol=1e-12)
    n = np.array(SIZES)
    for N in range(1, 7):
        for i in range(N):
            product = np.prod([n[j] / (n[0] + n[j]) for j in range(i + 1, N)])
            np.testing.assert_allclose(propagator(FixedReal(), sizes=SIZES)[N - 1, i], product, rtol=1e-12)


def test_equal_blocks_are_the_policies_without_sizes():
    for policy in (Accumulate(), AccumulateSubsample(), FixedReal()):
        assert (propagator(policy, 7) == propagator(policy, sizes=[30] * 7)).all()
        assert (propagator_initial(policy, 7) == propagator_initial(policy, 7, [30] * 7)).all()
    np.testing.assert_allclose(
        propagator(FixedReal(), 7), propagator(FixedFraction(0.5), 7), rtol=1e-12
    )  # half real at every step


def test_blocks_that_grow_by_a_factor_never_forget():
    """Each innovation keeps the share (r - 1)/r, so memory is linear; equal blocks leave a harmonic sum."""
    sizes = [4**k for k in range(12)]
    G = propagator(Accumulate(), sizes=sizes)
    np.testing.assert_allclose(G[-1, 4:-1], 3 / 4, rtol=2e-3)
    slope = np.diff(effective_memory(Accumulate(), sizes=sizes))[-4:]
    np.testing.assert_allclose(slope, 3 / 4, rtol=1e-3)


def test_sizes_are_checked():
    for sizes, words in (([0, 1], "whole numbers >= 1"), ([1.5], "whole numbers"), ([1, 2], "2 block sizes for 3")):
        with pytest.raises(InputError, match=words):
            propagator(Accumulate(), 3, sizes)
    with pytest.raises(InputError, match="FixedFraction do not follow from block sizes"):
        propagator(FixedFraction(0.5), 2, [1, 2])
    with pytest.raises(ConfigError, match="cap must be"):
        Accumulate(cap=1)


def test_rules():
    assert [size(rule({"kind": "growing", "start": 10, "factor": 3}), k) for k in (1, 2, 3)] == [10, 30, 90]
    assert [size(rule([5, 7]), k) for k in (1, 2, 3)] == [5, 7, 7]
    assert size(rule(lambda k: 10 * k), 4) == 40
    assert rule(Growing(10).config()) == Growing(10)
    for bad, words in (
        (1, "samples = 1 is not valid"), (True, "not valid"), ("many", "not valid"), ([], "empty list"),
        ([5, 1], r"samples\[1\] = 1"), ({"kind": "shrinking"}, "kind 'shrinking'"),
        ({"kind": "growing", "start": 10, "factor": 0}, "factor = 0"), ({"kind": "growing"}, "start"),
        ({"function": "nowhere:rule"}, "cannot be imported"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            rule(bad)
    with pytest.raises(ConfigError, match=r"samples of generation 3 = 0.5"):
        size(rule(lambda k: 0.5), 3)
