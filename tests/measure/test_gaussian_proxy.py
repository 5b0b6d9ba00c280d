import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from driftlaw.errors import InputError
from driftlaw.measure.sets.gaussian_proxy import (
    chi2_of_gaussians,
    gaussian_chi2,
    gaussian_kl,
    kl_of_gaussians,
    largest_ratio,
    proxy_dimension,
)
from driftlaw.seeding import generator

EYE = torch.eye(2).double()
ZERO = torch.zeros(2).double()


def draw(n, k, *name):
    return torch.randn(n, k, generator=generator(0, "proxy", *name)).double()


def test_closed_forms_by_quadrature():
    """One dimension, N(0.4, 1.3) against N(-0.1, 0.9): both integrals by adaptive quadrature."""
    p, q = stats.norm(0.4, math.sqrt(1.3)), stats.norm(-0.1, math.sqrt(0.9))
    chi2 = integrate.quad(lambda x: math.exp(2 * p.logpdf(x) - q.logpdf(x)), -40, 40)[0] - 1
    kl = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -20, 20)[0]
    fits = [
        (torch.tensor([m], dtype=torch.float64), torch.tensor([[v]], dtype=torch.float64))
        for m, v in ((0.4, 1.3), (-0.1, 0.9))
    ]
    assert chi2_of_gaussians(*fits) == pytest.approx(chi2, rel=1e-8)
    assert kl_of_gaussians(*fits) == pytest.approx(kl, rel=1e-8)


def test_closed_forms_do_not_depend_on_coordinates():
    mix = draw(3, 3, "mix")
    shift, cov = torch.tensor([0.3, 0.0, -0.2]).double(), torch.diag(torch.tensor([1.2, 0.7, 1.0]).double())
    p, q = (shift, cov), (torch.zeros(3).double(), torch.eye(3).double())
    moved = [(mix @ m, mix @ s @ mix.T) for m, s in (p, q)]
    for f in (chi2_of_gaussians, kl_of_gaussians, largest_ratio):
        assert f(*moved) == pytest.approx(f(p, q), rel=1e-9)
    assert largest_ratio(p, q) == pytest.approx(1.2)


def test_finiteness_condition():
    for factor, finite in ((1.99, True), (2.0, False), (2.5, False)):
        wide = torch.diag(torch.tensor([factor, 0.5]).double())
        assert math.isfinite(chi2_of_gaussians((ZERO, wide), (ZERO, EYE))) == finite
    assert math.isfinite(chi2_of_gaussians((ZERO, 0.01 * EYE), (ZERO, EYE)))


def test_the_regulariser_is_added():
    x = draw(400, 2, "x")
    constant = torch.cat([x, torch.ones(400, 1)], dim=1)
    assert "eps = 0.01" in gaussian_kl(x, x, eps=0.01).method
    # shift 1 along a direction of no variance: delta^2 / (2 eps) is all of KL
    moved = constant + torch.tensor([0.0, 0.0, 1.0])
    assert gaussian_kl(moved, constant, eps=0.01).value == pytest.approx(50.0, rel=0.01)


def naive(x, y, statistic, groups=20):
    """Value and standard error by the jackknife written out, with covariances of numpy."""

    def fit(z):
        return torch.from_numpy(z.mean(0)), torch.from_numpy(np.cov(z.T).reshape(z.shape[1], -1))

    x, y = x.numpy(), y.numpy()
    whole = statistic(fit(x), fit(y))
    kept = [np.arange(len(x)) % groups != g for g in range(groups)]
    parts = [[statistic(fit(x[k]), fit(y)) for k in kept], [statistic(fit(x), fit(y[k])) for k in kept]]
    value = whole + sum((groups - 1) * (whole - np.mean(p)) for p in parts)
    return value, math.sqrt(sum((groups - 1) ** 2 * np.var(p, ddof=1) / groups for p in parts))


@pytest.mark.parametrize("k", [1, 3])
def test_naive_twin(k):
    x, y = 0.9 * draw(60, k, "nx") + 0.3, draw(60, k, "ny")
    found = gaussian_kl(x, y, eps=0.0)
    assert (found.value, found.stderr) == pytest.approx(naive(x, y, kl_of_gaussians))
    value, stderr = naive(x, y, lambda p, q: math.log1p(chi2_of_gaussians(p, q)))
    found = gaussian_chi2(x, y, eps=0.0)
    assert (found.value, found.stderr) == pytest.approx((math.expm1(value), math.exp(value) * stderr))


def test_far_away():
    """Finite and beyond any number: said, not raised."""
    x, y = draw(300, 2, "fx"), draw(300, 2, "fy")
    near, far = gaussian_chi2(0.5 * x + 20, y), gaussian_chi2(0.5 * x + 40, y)
    assert 1e150 < near.value < 1e250
    assert far.is_refused
    assert "log(1 + chi2) is 1" in far.warnings[0]
    assert math.isinf(chi2_of_gaussians((ZERO + 40, EYE), (ZERO, EYE)))
    assert gaussian_kl(0.5 * x + 40, y).value == pytest.approx(1600, rel=0.3)


def test_coverage():
    """60 pairs of n = 400, k = 4, at the null and away from it: nominal 95 %.

    P(fewer than 49 of 60 | 95 %) = 5e-5; the interval is conservative, 97 to 99 % were measured with 120 pairs.
    """
    for shift, scale in ((0.0, 1.0), (0.3, 0.9)):
        m = torch.zeros(4).double()
        truth = (m + shift * (torch.arange(4) == 0), scale**2 * torch.eye(4).double()), (m, torch.eye(4).double())
        kl, chi2 = kl_of_gaussians(*truth), chi2_of_gaussians(*truth)
        covered = [0, 0]
        for i in range(60):
            x, y = scale * draw(400, 4, shift, "x", i), draw(400, 4, shift, "y", i)
            x[:, 0] += shift
            found = gaussian_kl(x, y, eps=0.0), gaussian_chi2(x, y, eps=0.0)
            for j, value in enumerate((kl, chi2)):
                covered[j] += found[j].low <= value <= found[j].high
        assert min(covered) >= 49, covered


def test_bias_is_removed():
    """The plug-in's bias at n = 500, k = 5 is 0.04; the mean of 60 corrected values is within 4 standard errors of 0.

    The standard deviation is 0.009 (false failure 6e-5 plus the rest of the bias, 0.001).
    """
    values = [gaussian_kl(draw(500, 5, "bx", i), draw(500, 5, "by", i), eps=0.0).value for i in range(60)]
    assert abs(sum(values) / 60) < 4 * 0.009 / math.sqrt(60) + 0.001


def test_infinite_refused_and_open():
    y = draw(1000, 2, "y")
    wide = draw(1000, 2, "w") * torch.tensor([1.8, 1.0])
    found = gaussian_chi2(wide, y)
    assert found.is_infinite
    assert "2 S_q > S_p fails: the largest eigenvalue" in found.warnings[0]
    assert math.isfinite(gaussian_kl(wide, y).value)
    one, other = (x / x.std() for x in (draw(200, 1, "n"), draw(200, 1, "m")))
    for factor, refused in ((1.8, False), (2.1, True)):
        near = gaussian_chi2(one * math.sqrt(factor), other)
        assert near.is_refused == refused
        assert refused or (near.high == math.inf and math.isnan(near.stderr))
        assert any("2 is the limit" in w for w in near.warnings)


def test_dimension_and_few_rows():
    assert [proxy_dimension(n, 32) for n in (24, 250, 1000, 10_000)] == [1, 2, 10, 32]
    assert any("40 rows for 3 features" in w for w in gaussian_kl(draw(40, 3, "a"), draw(40, 3, "b")).warnings)


def test_bad_input():
    with pytest.raises(InputError, match="x has 20 rows and y has 21"):
        gaussian_kl(draw(20, 2, "a"), draw(21, 2, "b"))
    with pytest.raises(InputError, match="4 rows of 2 features cannot be fitted and jackknifed with eps = 0"):
        gaussian_kl(draw(4, 2, "a"), draw(4, 2, "b"), eps=0)
    assert math.isfinite(gaussian_kl(draw(4, 2, "a"), draw(4, 2, "b")).value)
    with pytest.raises(InputError, match="eps is -1"):
        gaussian_chi2(draw(20, 2, "a"), draw(20, 2, "b"), eps=-1)
    with pytest.raises(InputError, match="NaN"):
        gaussian_kl(draw(20, 2, "a") * math.nan, draw(20, 2, "b"))
