import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.errors import InputError
from driftlaw.process import schedule as sch

CLOCKS = [sch.OU(4.0), sch.OU(0.3), sch.LinearVP(), sch.LinearVP(2.0, 2.0), sch.CosineVP()]
GRIDS = [
    sch.uniform_grid,
    sch.log_grid,
    sch.karras_grid,
    lambda T, t0, n: sch.schedule_grid(sch.LinearVP(), T, t0, n),
    lambda T, t0, n: sch.schedule_grid(sch.CosineVP(), T, t0, n),
]


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


@pytest.mark.parametrize("clock", CLOCKS, ids=repr)
def test_clocks_start_at_zero_increase_and_invert(clock):
    u = torch.linspace(0, 0.999, 400, dtype=torch.float64)
    t = clock.clock(u)
    assert float(t[0]) == pytest.approx(0, abs=1e-15)
    assert (t.diff() > 0).all()
    torch.testing.assert_close(clock.inverse(t), u, rtol=0, atol=1e-10)


@pytest.mark.parametrize("clock", [sch.LinearVP(), sch.CosineVP()], ids=repr)
def test_clocks_against_their_defining_formula(clock):
    u = 0.37
    t = float(clock.clock(u))
    if isinstance(clock, sch.LinearVP):
        fine = torch.linspace(0, u, 100_001, dtype=torch.float64)
        assert t == pytest.approx(float(torch.trapezoid(0.1 + 19.9 * fine, fine)), rel=1e-12)
    else:

        def f(u):
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        assert math.exp(-t) == pytest.approx(f(u) / f(0), rel=1e-12)


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
    even(sch.CosineVP().inverse(sch.schedule_grid(sch.CosineVP(), 4, 0.02, 9)))


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
        lambda: sch.schedule_grid(sch.OU(1.0), 2, 0.1, 3),
        lambda: sch.OU(0.0),
        lambda: sch.LinearVP(0.0, 1.0),
        lambda: sch.LinearVP(2.0, 1.0),
        lambda: sch.CosineVP(0.0),
        lambda: sch.OU().clock(1.5),
        lambda: sch.sample_times(-1.0, 3),
        lambda: sch.sample_times(math.nan, 3),
        lambda: sch.sample_times(torch.ones(2), 3),
        lambda: sch.sample_times(torch.ones(3, 1), 3),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(InputError):
        call()
