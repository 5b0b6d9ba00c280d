"""Observability on the closed forms of the stationary case: values, coverage, agreement of the three estimators."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.paths.observability import (
    first_order,
    observability,
    observability_of_laws,
)
from driftlaw.measure.paths.path import path_energy, time_density
from driftlaw.measure.paths.regression import observability_regression
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Perturbed
from oracles import gaussian as oracle
from oracles.gaussian import Gaussian

T0, T = 0.02, 4.0
L = T - T0


def normal(d, mean=0.0, variance=1.0):
    return GaussianMixture([1.0], torch.full((1, d), mean), variance)


def wave(x, t):
    return torch.cos(3 * t)[:, None] * torch.tensor([0.2, 0.1]) + 0 * x


def wave_eta():
    s = np.linspace(T0, T, 200_001)
    e = np.cos(3 * s)
    return trapezoid(e * np.exp(-(s - T0) / 2), s) ** 2 / trapezoid(e**2, s)


#: Error field and eta under q = N(0, I) (theory section 7).
FIELDS = {
    "constant": (lambda x, t: 0.3 + 0 * x, 4 * (1 - math.exp(-L / 2)) ** 2 / L),
    "linear": (lambda x, t: 0.2 * x, 2 * (1 - math.exp(-L)) ** 2 / L),
    "rotation": (lambda x, t: 0.3 * torch.stack([x[:, 1], -x[:, 0]], 1), 0.0),
    "time only": (wave, wave_eta()),
}


@pytest.mark.parametrize("name", FIELDS)
def test_closed_forms(name):
    field, eta = FIELDS[name]
    q = normal(2)
    got = observability(Perturbed(q, field), q, q, T0, T, n=30_000, seed=0)
    assert abs(got.value - eta) < 4.5 * got.stderr + 1e-6
    assert got.stderr < 0.03


@pytest.mark.parametrize("name", ["constant", "linear", "time only"])
def test_intervals_cover(name):
    """400 repetitions of 500 starting points: 95 +- 4 %."""
    field, eta = FIELDS[name]
    q = normal(2)
    learned = Perturbed(q, field)
    got = [observability(learned, q, q, T0, T, n=500, seed=s, points=1) for s in range(400)]
    assert 0.91 <= np.mean([e.low <= eta <= e.high for e in got]) <= 0.99


def test_intervals_cover_skewed_products():
    """A blur, 300 starting points, 400 repetitions at 95 %: below 90.5 % with probability < 1e-4 (Student's: 86 %)."""
    q, p = (GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], v) for v in (0.25, 0.36))
    eta = observability_of_laws(p, q, T0, T, n=100_000, seed=5).value
    got = [observability(p, q, q, T0, T, n=300, seed=s) for s in range(400)]
    assert np.mean([e.low <= eta <= e.high for e in got]) >= 0.905


def test_rotation_has_no_noise_at_all_under_the_stationary_law():
    """div e = 0 and e.s = 0 pointwise: L vanishes for every draw, eta = 0 though the error is not."""
    q = normal(2)
    got = observability(Perturbed(q, FIELDS["rotation"][0]), q, q, T0, T, n=500, seed=0)
    assert got.value == pytest.approx(0.0, abs=1e-6)
    mixed = Perturbed(q, lambda x, t: FIELDS["rotation"][0](x, t) + FIELDS["constant"][0](x, t))
    half = observability(mixed, q, q, T0, T, n=20_000, seed=0)  # equal energies: half of the constant field's eta
    assert abs(half.value - FIELDS["constant"][1] / 2) < 4.5 * half.stderr


@pytest.mark.parametrize("probes", [0, 2])
def test_divergence_by_difference_and_by_probes(probes):
    """The same field given as a plain learned score, with exact or Hutchinson divergence."""
    q = normal(2)
    matrix = torch.tensor([[0.2, 0.15], [0.05, 0.2]])
    symmetric = (matrix + matrix.mT) / 2  # L = (1 - e^-L) (tr S - x'Sx), of variance 2 tr S^2; |e|^2 = tr E'E
    eta = 2 * float((symmetric**2).sum()) * (1 - math.exp(-L)) ** 2 / (float((matrix**2).sum()) * L)
    got = observability(lambda x, t: -x + x @ matrix.mT, q, q, T0, T, n=20_000, seed=1, probes=probes)
    assert abs(got.value - eta) < 4.5 * got.stderr
    assert got.stderr < 0.05


def test_the_forward_process_starts_at_t0():
    q, t0 = normal(2), 1.5
    got = observability(Perturbed(q, FIELDS["linear"][0]), q, q, t0, 4.0, n=60_000, seed=0)
    assert abs(got.value - 2 * (1 - math.exp(t0 - 4)) ** 2 / (4 - t0)) < 4.5 * got.stderr
    assert got.stderr < 0.03


def test_not_stationary_and_images():
    """Error m a_t of p = N(m, I) against q = N(0, I): eta = 1 - e^-L by the time-only formula, on [n, 1, 2, 2] rows."""

    class Images:
        def sample(self, n, generator=None):
            return torch.randn(n, 1, 2, 2, generator=generator)

    def error(x, t):
        return 0.5 * torch.exp(-t / 2)[:, None, None, None] + 0 * x

    base = lambda x, t: -x  # noqa: E731
    got = observability(Perturbed(base, error), base, Images(), T0, T, n=20_000, seed=0)
    assert abs(got.value - (1 - math.exp(-L))) < 4.5 * got.stderr


@pytest.mark.parametrize("mean", [0.1, 2.0])
def test_of_laws_closed_form(mean):
    """Shifted Gaussians: eta = 1 - e^-L exactly, at any size of the error."""
    got = observability_of_laws(normal(2, mean), normal(2), T0, T, n=4096, seed=0)
    assert abs(got.value - (1 - math.exp(-L))) < 4.5 * got.stderr
    assert got.stderr < 0.003


@pytest.mark.parametrize("variance", [0.3, 4.0])
def test_wide_and_narrow_gaussians(variance):
    """N(0, v) against N(0, 1): e = w(t) x, w = 1 - 1/v_t, so eta = 2 (int w e^{-(t - t0)})^2 / int w^2; t0 = .5."""
    t = np.linspace(0.5, T, 200_001)
    w = 1 - 1 / (1 + (variance - 1) * np.exp(-t))
    eta = 2 * trapezoid(w * np.exp(0.5 - t), t) ** 2 / trapezoid(w**2, t)
    p, q = normal(2, 0.0, variance), normal(2)
    laws = observability_of_laws(p, q, 0.5, T, n=40_000, seed=0)
    stein = observability(p, q, q, 0.5, T, n=60_000, seed=0)
    for got, sharp in ((laws, 0.004), (stein, 0.03)):
        assert abs(got.value - eta) < 4.5 * got.stderr
        assert got.stderr < sharp


def test_of_laws_covers():
    """400 repetitions of 500 starting points: 95 +- 4 %."""
    p, q = normal(1, 1.0), normal(1)
    got = [observability_of_laws(p, q, T0, T, n=500, seed=s, points=1) for s in range(400)]
    assert 0.91 <= np.mean([e.low <= 1 - math.exp(-L) <= e.high for e in got]) <= 0.99


def test_the_two_estimators_agree_on_mixtures():
    p = GaussianMixture.paper()
    learned = GaussianMixture(p.weights, p.means, 0.72)
    stein = observability(learned, p, p, T0, T, n=20_000, seed=0)
    laws = observability_of_laws(learned, p, T0, T, n=2048, seed=0)
    assert abs(stein.value - laws.value) < 4.5 * math.hypot(stein.stderr, laws.stderr)
    assert laws.stderr < stein.stderr / 5
    assert laws.value < 1


def test_regression_is_a_lower_bound_that_is_sharp_for_simple_fields():
    q = normal(2)
    for name, slack in (("constant", 0.03), ("linear", 0.05)):
        field, eta = FIELDS[name]
        got = observability_regression(Perturbed(q, field), q, q, T0, T, n=8000, seed=0, steps=100)
        assert got.low <= eta + 0.01
        assert got.value > eta - slack - 3 * got.stderr
        assert "lower bound" in got.method
    nothing = observability_regression(Perturbed(q, FIELDS["rotation"][0]), q, q, T0, T, n=4000, seed=0, steps=50)
    assert nothing.value < 0.01


def test_regression_is_held_out():
    """More features than rows in reach would fit noise: the rotation's bound stays near 0 also then."""
    q = normal(2)
    got = observability_regression(
        Perturbed(q, FIELDS["rotation"][0]), q, q, T0, T, n=400, seed=0, steps=20, frequencies=300
    )
    assert got.low <= 0.01
    assert got.value < 0.05


@pytest.mark.parametrize("mean", [0.0, 0.5])
@pytest.mark.parametrize("name", ["constant", "linear"])
def test_forward_copies_are_the_regressor_in_many_dimensions(name, mean):
    """c copies alone find eta^2 / (eta + (1 - eta)/c); a score of another mean moves every copy by the same number."""
    d, copies = 200, 2
    field, eta = FIELDS[name]
    q, score = normal(d), normal(d, mean)
    weak = Perturbed(score, lambda x, t: field(x, t) / 100)
    plain, got = (
        observability_regression(weak, score, q, T0, T, n=300, steps=60, seed=1, copies=c) for c in (0, copies)
    )
    # 5 standard errors (false failure below 6e-7), and 0.03 for 60 steps
    assert abs(got.value - eta**2 / (eta + (1 - eta) / copies)) < 5 * got.stderr + 0.03
    assert plain.high < got.low
    assert got.stderr < 0.06


def test_forward_copies_see_nothing_where_nothing_is_seen():
    d = 100
    q = normal(d)
    turned = Perturbed(q, lambda x, t: 0.01 * torch.cat([x[:, d // 2 :], -x[:, : d // 2]], 1))
    got = observability_regression(turned, q, q, T0, T, n=300, steps=40, seed=1, copies=3)
    # a correlation of 0 from 300 paths has a standard error of 0.058: 0.29 is five of them
    assert got.value < 0.29**2
    with pytest.raises(InputError, match="copies"):
        observability_regression(turned, q, q, n=100, copies=-1)


def test_first_order():
    """Small constant error: chi2 = e^{m2} - 1 and m2 = eta eps*^2, so chi2/eps*^2 -> eta."""
    q = normal(2)
    learned = Perturbed(q, lambda x, t: 0.03 + 0 * x)
    energy = path_energy(learned, q, q, T0, T, n=1000, seed=0)
    shift = 2 * 0.03 * (1 - math.exp(-L / 2))  # mean of the learned law at t0
    p_hat = Gaussian.isotropic(shift, 1.0, 2)
    chi2 = Estimate.exact(oracle.chi2(p_hat, Gaussian.isotropic(0.0, 1.0, 2)), "closed form")
    got = first_order(chi2, energy)
    assert got.value == pytest.approx(FIELDS["constant"][1], rel=0.02)
    assert not got.warnings
    assert got.stderr == pytest.approx(got.value * energy.stderr / energy.value)
    assert first_order(Estimate.infinite("exact", "tails"), energy).is_refused
    assert first_order(chi2, Estimate.exact(0.0, "zero")).is_refused
    assert "not small" in first_order(chi2, Estimate.exact(2.0, "x")).warnings[-1]


def test_target_standard_error_and_density_of_laws():
    """Two estimates of one number: as it is, and with a density of times and as many starts as the target needs."""
    q = GaussianMixture.paper()
    p_hat = GaussianMixture(q.weights, q.means, 0.72)
    density = time_density(p_hat, q, q, T0, T, n=512, seed=1)
    plain = observability_of_laws(p_hat, q, T0, T, n=4000, seed=0)
    sharp = observability_of_laws(p_hat, q, T0, T, n=20, seed=0, target_se=0.003, density=density)
    assert observability_of_laws(p_hat, q, T0, T, n=20, seed=0, density=density).stderr > 0.0045
    assert sharp.n > 20
    assert sharp.stderr <= 0.0045 * sharp.value
    # 5 standard errors: false failure below 6e-7
    assert abs(sharp.value - plain.value) < 5 * math.hypot(sharp.stderr, plain.stderr)
    with pytest.raises(InputError, match="target_se"):
        observability_of_laws(p_hat, q, T0, T, n=50, target_se=0.0)
    with pytest.raises(InputError, match="density"):
        observability_of_laws(p_hat, q, T0, T, n=50, density=(1.0, 0.0))


def test_zero_error_is_zero_by_convention():
    q = GaussianMixture.paper()
    for got in (
        observability(q, q, q, n=100),
        observability_of_laws(q, q, n=100),
        observability_regression(q, q, q, n=100, steps=4),
    ):
        assert got.value == got.low == got.high == 0.0
        assert "by convention" in got.warnings[0]


def test_a_wrong_score_is_noticed():
    """E L = 0 only if the score belongs to the law."""
    q, other = normal(2), normal(2, 1.0)
    learned = Perturbed(q, FIELDS["constant"][0])
    assert any("mean of L" in w for w in observability(learned, q, other, T0, T, n=5000, seed=0).warnings)
    assert not observability(learned, q, q, T0, T, n=5000, seed=0).warnings


def test_values_outside_the_range_are_kept_and_said():
    q = normal(2)
    got = observability(Perturbed(q, FIELDS["linear"][0]), q, q, T0, T, n=50, seed=0)
    assert got.low < 0
    assert "leaves [0, 1]" in got.warnings[0]


def test_bad_input():
    q = normal(1)
    with pytest.raises(InputError, match="n >= 2"):
        observability(q, q, q, n=1)
    with pytest.raises(InputError, match="points"):
        observability_of_laws(q, q, n=10, points=0)
    with pytest.raises(InputError, match="0 < t0 < T"):
        observability(q, q, q, t0=0.0)
    with pytest.raises(InputError, match="NaN"):
        observability(lambda x, t: x * math.nan, q, q, n=10)
    with pytest.raises(InputError, match="folds"):
        observability_regression(q, q, q, n=30)
