import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.sets import twosample
from driftlaw.measure.sets.frechet import frechet
from driftlaw.measure.sets.twosample import chi2_lower, energy_distance, kid, mmd2, mmd_permutation
from driftlaw.seeding import generator
from oracles import twosample_twin as twin

ALL = [chi2_lower, mmd2, kid, energy_distance, frechet]


def normal(*shape, name, shift=0.0, scale=1.0):
    name = name if isinstance(name, tuple) else (name,)
    x = torch.randn(*shape, generator=generator(0, *name), dtype=torch.float64) * scale
    x[:, 0] += shift
    return x


@pytest.mark.parametrize(
    ("measure", "kernel"),
    [
        (chi2_lower, twin.dot_kernel),
        (lambda x, y, **k: mmd2(x, y, 1.3, **k), twin.gaussian_kernel(1.3)),
        (kid, twin.cubic_kernel),
        (energy_distance, twin.negative_distance),
    ],
)
@pytest.mark.parametrize("block", [1, 13, 14, 13 * 5, 1 << 20])
def test_equals_the_double_loop_whatever_the_block(measure, kernel, block):
    x, y = normal(13, 3, name="x", shift=0.7), normal(13, 3, name="y", scale=1.5)
    whole = measure(x, y)
    assert whole.value == pytest.approx(twin.mmd2_naive(x, y, kernel), rel=1e-11)
    blocked = measure(x, y, block=block)
    assert blocked.value == pytest.approx(whole.value, rel=1e-11)
    # |x - x| rounds to about 1e-8 in the energy distance's expanded squares
    assert (blocked.low, blocked.high) == pytest.approx((whole.low, whole.high), rel=1e-6)


def test_second_order_terms_are_the_double_centred_means():
    """U-centring against its definition: 1/(n(n-3)) sum of squares of the U-centred matrix."""
    a = normal(9, 9, name="a")
    a = a + a.T
    a.fill_diagonal_(0)
    n, r = 9, a.sum(1)
    centred = a - r[:, None] / (n - 2) - r / (n - 2) + r.sum() / ((n - 1) * (n - 2))
    centred.fill_diagonal_(0)
    assert twosample.u_centred(r, float((a**2).sum())) == pytest.approx(float((centred**2).sum()) / (n * (n - 3)))


# Coverage over 400 repetitions: 95 +- 4 %. A procedure that covers 95 % falls outside with probability < 1e-3 per case
# over random seeds; seeds are fixed, so tests do not flicker. Small n makes the null and weak shifts the hard cases.
SHIFTS = [0.0, 0.2, 0.4, 1.0]


def coverage(measure, truth, n, d, shift, scale=1.0, repetitions=400):
    hits = 0
    for r in range(repetitions):
        x = normal(n, d, name=("cover x", r, n), shift=shift, scale=scale)
        e = measure(x, normal(n, d, name=("cover y", r, n)))
        hits += e.low <= truth <= e.high
    return hits / repetitions


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("d", [1, 8])
def test_chi2_lower_covers_the_mahalanobis_distance(shift, d):
    assert 0.91 <= coverage(chi2_lower, shift**2, 50, d, shift) <= 0.99


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("d", "scale"), [(2, 1.0), (5, 1.4)])
def test_mmd2_covers_the_closed_form(shift, d, scale):
    h = math.sqrt(d)
    truth = twin.mmd2_gaussians(shift, scale**2, 1, d, h)
    assert 0.91 <= coverage(lambda x, y: mmd2(x, y, h), truth, 50, d, shift, scale) <= 0.99


@pytest.mark.parametrize("shift", SHIFTS)
def test_energy_distance_covers_the_closed_form_on_the_line(shift):
    assert 0.91 <= coverage(energy_distance, twin.energy_gaussians_1d(shift, 1.44, 1), 60, 1, shift, 1.2) <= 0.99


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kid_covers_the_closed_form_on_the_line(shift):
    assert 0.91 <= coverage(kid, twin.kid_gaussians_1d(shift, 1.0), 150, 1, shift) <= 0.99


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.0, 1.3), (1.0, 0.7)])
def test_frechet_covers_the_closed_form(shift, scale):
    eye = torch.eye(4, dtype=torch.float64)
    mean = torch.tensor([shift, 0, 0, 0], dtype=torch.float64)
    truth = twin.frechet_gaussians(mean, scale**2 * eye, 0 * mean, eye)
    assert truth == pytest.approx(shift**2 + 4 * (scale - 1) ** 2)
    assert 0.91 <= coverage(frechet, truth, 80, 4, shift, scale) <= 0.99


def test_frechet_bias_is_removed():
    """Plug-in minus truth is about 0.6 here; 60 repetitions, tolerance 4 standard errors (false failure 6e-5)."""
    n, d = 200, 16
    values, plug_in = [], []
    for r in range(60):
        x, y = normal(n, d, name=("bias x", r)), normal(n, d, name=("bias y", r))
        values.append(frechet(x, y).value)
        plug_in.append(twin.frechet_gaussians(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()))
    values = torch.tensor(values)
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(60)
    assert sum(plug_in) / 60 > 0.4


def test_frechet_of_correlated_laws_and_of_a_collapsed_set():
    """n = 20,000: value within 5 standard errors (false failure 6e-7) of the closed form of the true laws."""
    a = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
    x, y = normal(20_000, 2, name="cx", shift=1.0) @ a.T, normal(20_000, 2, name="cy") * torch.tensor([1.0, 3.0])
    truth = twin.frechet_gaussians(a[:, 0], a @ a.T, torch.zeros(2), torch.diag(torch.tensor([1.0, 9.0])).double())
    e = frechet(x, y)
    assert abs(e.value - truth) < 5 * e.stderr < 0.5
    point = torch.zeros(200, 2, dtype=torch.float64)
    e = frechet(point, y[:200])
    assert e.low < 10.0 < e.high


def test_unbiased_statistics_can_be_negative():
    values = [chi2_lower(normal(40, 3, name=("neg x", r)), normal(40, 3, name=("neg y", r))).value for r in range(40)]
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("measure", ALL)
def test_rows_may_be_reordered(measure):
    x, y = normal(60, 3, name="px", shift=0.5), normal(60, 3, name="py")
    order = torch.randperm(60, generator=generator(1))
    one, two = measure(x, y), measure(x[order], y[order.flip(0)])
    # frechet's jackknife groups move it a little, by the docstring
    slack = 0.3 * one.stderr if measure is frechet else 1e-10
    assert abs(one.value - two.value) <= slack
    assert abs(one.high - two.high) <= slack


@pytest.mark.parametrize("measure", ALL)
def test_swapping_the_sets_changes_nothing(measure):
    x, y = normal(60, 3, name="px", shift=0.5), normal(60, 3, name="py")
    bandwidth = {"bandwidth": 1.0} if measure is mmd2 else {}
    one, two = measure(x, y, **bandwidth), measure(y, x, **bandwidth)
    assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), rel=1e-9)


@pytest.mark.parametrize("measure", ALL)
def test_the_same_rows_twice(measure):
    """Shared rows break independence: the value is below zero, and where the interval is too it asks why."""
    x = normal(50, 3, name="same")
    e = measure(x, x.clone())
    assert e.low <= e.value < 1e-9
    assert e.high >= 0.0 or any("share rows" in w for w in e.warnings)


@pytest.mark.parametrize("measure", [chi2_lower, mmd2, energy_distance, frechet])
def test_a_far_common_origin_does_not_matter(measure):
    x, y = normal(50, 3, name="ox", shift=0.5), normal(50, 3, name="oy")
    assert measure(x + 1e4, y + 1e4).value == pytest.approx(measure(x, y).value, rel=1e-6)


def test_permutation_p_values_are_uniform_under_the_null():
    """600 repetitions, 39 permutations: P(p <= 0.05) = 0.05 exactly; 4 standard errors = 0.036 (false failure 6e-5)."""
    p = torch.tensor(
        [
            mmd_permutation(normal(12, 2, name=("u", r)), normal(12, 2, name=("v", r)), permutations=39, seed=r).value
            for r in range(600)
        ]
    )
    assert abs(float((p <= 0.05).double().mean()) - 0.05) < 0.036
    assert abs(float(p.mean()) - 0.5125) < 4 * 0.289 / math.sqrt(600)


def test_permutation_test_sees_a_shift():
    e = mmd_permutation(normal(60, 2, name="ps", shift=1.0), normal(60, 2, name="pt"), permutations=199)
    assert e.value == 1 / 200
    assert e.low == 0.0
    assert 0.01 < e.high < 0.03


def test_permutation_counts_are_blind_to_blocks_and_replay():
    x, y = normal(20, 2, name="bx", shift=0.3), normal(20, 2, name="by")
    one = mmd_permutation(x, y, permutations=99, seed=3)
    assert one == mmd_permutation(x, y, permutations=99, seed=3, block=7 * 40)
    assert one.low <= one.value <= one.high


def test_identical_rows_give_no_evidence():
    x = normal(20, 2, name="bx")
    assert mmd_permutation(x, x.clone(), permutations=99).value == 1.0


@pytest.mark.parametrize("measure", [*ALL, mmd_permutation])
class TestBadInput:
    def test_unequal_sizes(self, measure):
        with pytest.raises(InputError, match=r"20 rows and y has 21.*equal n.*first min"):
            measure(torch.rand(20, 2, generator=generator(0)), torch.rand(21, 2, generator=generator(1)))

    def test_unequal_features(self, measure):
        with pytest.raises(InputError, match="x has 2 features and y has 3"):
            measure(torch.zeros(20, 2), torch.zeros(20, 3))

    def test_one_row(self, measure):
        with pytest.raises(InputError, match="x has 1 row"):
            measure(torch.zeros(1, 2), torch.zeros(1, 2))

    def test_nan_rows_are_counted_and_found(self, measure):
        y = torch.zeros(20, 2)
        y[7, 1] = math.nan
        y[11, 0] = math.inf
        with pytest.raises(InputError, match="2 of 20 rows of y are NaN or infinite, the first is row 7"):
            measure(torch.zeros(20, 2), y)


def test_frechet_is_refused_without_full_rank():
    e = frechet(normal(8, 8, name="r"), normal(8, 8, name="s"))
    assert e.is_refused
    assert "8 rows" in e.warnings[0]
    assert "short" in frechet(normal(40, 8, name="r"), normal(40, 8, name="s")).warnings[0]


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, "mode"])
def test_bad_bandwidth(bandwidth):
    with pytest.raises(InputError, match="bandwidth"):
        mmd2(normal(8, 2, name="r"), normal(8, 2, name="s"), bandwidth)


def test_no_median_without_distances():
    with pytest.raises(InputError, match="all rows of the reference are equal"):
        mmd2(normal(8, 2, name="r"), torch.ones(8, 2))


def test_no_permutations():
    with pytest.raises(InputError, match="permutations is 0"):
        mmd_permutation(normal(8, 2, name="r"), normal(8, 2, name="s"), permutations=0)
