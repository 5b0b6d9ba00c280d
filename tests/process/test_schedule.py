import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.errors import InputError
from driftlaw.process import schedule as sch

GRIDS = [sch.uniform_grid, sch.log_grid, sch.karras_grid]


@given(st.floats(1e-15, 60))
def test_signal_and_noise_powers_sum_to_one(t):
    assert float(sch.alpha(t) ** 2 + sch.variance(t)) == pytest.approx(1, abs=1e-15)
    assert float(sch.sigma(t)) == pytest.approx(math.sqrt(-math.expm1(-t)), rel=1e-15)
    assert float(sch.noise_ratio(t)) == pytest.approx(float(sch.sigma(t) / sch.alpha(t)), rel=1e-12)
    assert float(sch.time_of_noise_ratio(sch.noise_ratio(t))) == pytest.approx(t, rel=1e-12)


def test_variance_keeps_its_digits_near_zero_in_float32():
    t = torch.tensor([1e-10, 1e-7], dtype=torch.float32)
    assert sch.variance(t).dtype == torch.float32
    torch.testing.assert_close(sch.variance(t), t)  # 1 - exp(-t) would give 0


def test_dtypes():
    assert sch.alpha(1.0).dtype == sch.sigma(1).dtype == sch.alpha(torch.tensor(1)).dtype == torch.float64
    assert sch.alpha(torch.ones(3)).dtype == torch.float32


@pytest.mark.parametrize("grid", GRIDS)
@given(t0=st.floats(1e-4, 0.9), span=st.floats(0.01, 8), n=st.integers(1, 60))
def test_grids_descend_from_T_to_t0(grid, t0, span, n):
    times = grid(t0 + span, t0, n)
    assert times.shape == (n + 1,)
    assert times.dtype == torch.float64
    assert float(times[0]) == t0 + span
    assert float(times[-1]) == t0
    assert (times.diff() < 0).all()


def test_what_each_grid_is_uniform_in():
    def even(values):
        torch.testing.assert_close(values.diff(), values.diff().mean().expand(len(values) - 1), rtol=1e-9, atol=1e-12)

    even(sch.uniform_grid(4, 0, 9))
    even(sch.log_grid(4, 0.02, 9).log())
    even(sch.noise_ratio(sch.karras_grid(4, 0.02, 9)) ** (1 / 7))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sch.uniform_grid(1, 0, 0),
        lambda: sch.uniform_grid(1, 1, 3),
        lambda: sch.uniform_grid(1, -0.1, 3),
        lambda: sch.uniform_grid(math.inf, 0, 3),
        lambda: sch.log_grid(1, 0, 3),
        lambda: sch.karras_grid(1, 0, 3),
        lambda: sch.karras_grid(1, 0.1, 3, rho=0),
        lambda: sch.sample_times(-1.0, 3),
        lambda: sch.sample_times(math.nan, 3),
        lambda: sch.sample_times(torch.ones(2), 3),
        lambda: sch.sample_times(torch.ones(3, 1), 3),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(InputError):
        call()
