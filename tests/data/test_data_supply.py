"""The supply: a pure function of (seed, start, n) that hands out every row once before any row twice."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.data import ArraySource, DensitySource, FreshSupply
from driftlaw.errors import DataExhaustedError, InputError


def numbered(size: int) -> ArraySource:
    """A source whose training rows are all different."""
    return ArraySource(np.arange(size + 2, dtype=np.float64)[:, None], held_out=2, standardize=False, name="numbers")


class Uniform:
    def sample(self, n, generator=None):
        assert n > 0
        return torch.rand((n, 3), generator=generator, dtype=torch.float64)

    def log_prob(self, x):
        return torch.zeros(len(x))


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_a_take_in_two_parts_is_the_take(size, start, a, b, seed):
    supply = FreshSupply(numbered(size), seed, reuse=True)
    whole, first, second = supply.take(a + b, start), supply.take(a, start), supply.take(b, start + a)
    assert torch.equal(whole.batch.x, torch.cat([first.batch.x, second.batch.x]))
    assert whole.reused == first.reused + second.reused
    assert whole.reused == sum(position >= size for position in range(start, start + a + b))  # naive twin


@given(st.integers(1, 15), st.integers(0, 5), st.integers(0, 5))
def test_every_epoch_is_a_permutation_of_the_training_part(size, epoch, seed):
    source = numbered(size)
    taken = FreshSupply(source, seed, reuse=True).take(size, epoch * size)
    assert torch.equal(taken.batch.x.sort(0).values, source.rows(torch.arange(size)).x)
    assert taken.reused == (size if epoch else 0)


def test_epochs_and_seeds_have_different_orders():
    source = numbered(50)
    orders = [FreshSupply(source, s, reuse=True).take(50, e * 50).batch.x for s in (0, 1) for e in (0, 1)]
    assert len({tuple(x.flatten().tolist()) for x in orders}) == 4
    assert not any(torch.equal(x, source.rows(torch.arange(50)).x) for x in orders)


def test_the_order_is_uniform():
    """Each of 3! orders about 1/6 of the time: chi2 with 5 dof, false failure < 1e-4 at 25.7 (seeds are fixed)."""
    source = numbered(3)
    orders = [tuple(FreshSupply(source, seed).take(3, 0).batch.x.flatten().tolist()) for seed in range(600)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert counts.size == 6
    assert ((counts - 100) ** 2 / 100).sum() < 25.7


def test_exhausted_says_what_is_left_and_what_to_do():
    supply = FreshSupply(numbered(10), 0)
    assert len(supply.take(4, 6)) == 4
    with pytest.raises(DataExhaustedError, match=r"numbers has 3 of its 10 fresh rows left and 4 were asked for") as e:
        supply.take(4, 7)
    for remedy in ("fewer samples", "smaller alpha", "larger source", "reuse: true"):
        assert remedy in str(e.value)
    with pytest.raises(DataExhaustedError, match="has 0 of its 10"):
        supply.take(1, 25)
    assert len(supply.take(0, 25)) == 0


def test_a_density_is_pure_and_never_reused():
    supply = FreshSupply(DensitySource(Uniform(), "uniform"), 7)
    a, b = supply.take(5, 10), supply.take(5, 10)
    assert torch.equal(a.batch.x, b.batch.x)
    assert a.batch.x.dtype == torch.float32
    assert a.reused == supply.take(5, 10**9).reused == 0
    assert not torch.isin(a.batch.x, supply.take(5, 15).batch.x).any()
    assert not torch.isin(a.batch.x, FreshSupply(supply.source, 8).take(5, 10).batch.x).any()
    assert supply.take(0, 3).batch.x.shape == (0, 3)


def test_negative_numbers_are_refused():
    for n, start in ((-1, 0), (1, -1)):
        with pytest.raises(InputError, match="must be 0 or more"):
            FreshSupply(numbered(3), 0, reuse=True).take(n, start)


def test_labels_travel_with_their_rows():
    x = np.arange(20.0)[:, None]
    taken = FreshSupply(ArraySource(x, y=np.arange(20) * 10, standardize=False), 0).take(15, 0).batch
    assert torch.equal(taken.y, taken.x[:, 0].long())
