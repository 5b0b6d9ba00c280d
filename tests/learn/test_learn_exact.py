"""Closed-form learners against closed forms."""

import math

import pytest
import torch
from safetensors.torch import load, save

from driftlaw import seeding
from driftlaw.errors import InputError
from driftlaw.learn import KDE, FitContext, GaussianMLE, MixtureEM
from driftlaw.process.laws.mixture import GaussianMixture


def rows(n, d, seed=0, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fit(estimator, data, seed=0):
    return estimator.fit(data, FitContext(seed=seed))


@pytest.mark.parametrize(("h", "t0"), [(0.6, 0.0), (0.6, 0.3), (0.0, 0.5)])
def test_kde_second_moment(h, t0):
    data = rows(200, 3, scale=2.0)
    model = fit(KDE(h, t0), data)
    m, d = float(data.double().square().sum(1).mean()), 3
    expected = math.exp(-t0) * (m + d * h**2) + d * (1 - math.exp(-t0))
    assert model.law.second_moment() == pytest.approx(expected, rel=1e-6)
    squares = model.sample(40_000, torch.Generator().manual_seed(1)).double().square().sum(1)
    # 4.5 standard errors: false-failure rate 7e-6
    assert abs(float(squares.mean()) - expected) < 4.5 * float(squares.std()) / 200


def test_kde_score_is_the_gradient_of_its_diffused_log_density():
    data, x = rows(30, 2), rows(7, 2, 1).double().requires_grad_()
    for t in (0.1, 1.0):
        log_density = fit(KDE(0.4, t0=t), data).log_prob(x)  # P_t Q ...
        (gradient,) = torch.autograd.grad(log_density.sum(), x)
        score = fit(KDE(0.4, t0=0.3), data).score(x.detach(), t)  # ... whatever t0 the generator samples at
        # diffused centres are rounded to the float32 of the data
        torch.testing.assert_close(score, gradient, rtol=1e-5, atol=1e-6)


def test_kde_naive_log_density():
    data, x, h, t0 = rows(40, 3), rows(5, 3, 1).double(), 0.5, 0.2
    a, v = math.exp(-t0 / 2), math.exp(-t0) * h**2 + 1 - math.exp(-t0)
    square = (x[:, None] - a * data.double()[None]).square().sum(2)
    naive = torch.logsumexp(-square / (2 * v), 1) - math.log(40) - 1.5 * math.log(2 * math.pi * v)
    torch.testing.assert_close(fit(KDE(h, t0), data).log_prob(x), naive, rtol=1e-6, atol=1e-6)


def test_zero_bandwidth_resamples_the_rows_and_has_no_density():
    data = rows(20, 2)
    model = fit(KDE(0.0), data)
    drawn = model.sample(500, torch.Generator().manual_seed(0))
    assert (drawn[:, None] == data[None]).all(2).any(1).all()
    with pytest.raises(InputError, match="no density"):
        model.log_prob(drawn)
    assert torch.isfinite(fit(KDE(0.0, t0=0.1), data).log_prob(drawn)).all()
    assert torch.isfinite(model.score(drawn, 0.1)).all()


def test_kde_does_not_depend_on_the_order_of_rows():
    data, x = rows(50, 2), rows(6, 2, 1).double()
    shuffled = data[torch.randperm(50, generator=torch.Generator().manual_seed(2))]
    torch.testing.assert_close(fit(KDE(), data).log_prob(x), fit(KDE(), shuffled).log_prob(x), rtol=1e-10, atol=1e-10)


def test_population_tail_is_the_variance_of_the_average_model():
    # q = N(0, v): averaged over training sets the model is N(0, tail), so its second moment is the tail
    v, h, t0, sets, n = 1.7, 0.6, 0.25, 2000, 5
    data = rows(sets * n, 1, 3, math.sqrt(v)).view(sets, n, 1)
    moments = torch.tensor([fit(KDE(h, t0), x).law.second_moment() for x in data])
    tail = KDE(h, t0).population_tail(v)
    assert abs(float(moments.mean()) - tail) < 4.5 * float(moments.std()) / math.sqrt(sets)  # 7e-6
    assert tail == pytest.approx(math.exp(-t0) * (v + h * h) + 1 - math.exp(-t0))


def test_bandwidth_rules():
    data = rows(400, 2, scale=3.0)
    sigma = math.sqrt(float(data.var(dim=0).mean()))
    assert fit(KDE("scott"), data).bandwidth == pytest.approx(sigma * 400 ** (-1 / 6), rel=1e-5)
    # in two dimensions both rules agree; in one, Silverman's factor is (4/3)^(1/5)
    assert fit(KDE("silverman"), data).bandwidth == pytest.approx(sigma * 400 ** (-1 / 6), rel=1e-5)
    ratio = fit(KDE("silverman"), data[:, :1]).bandwidth / fit(KDE("scott"), data[:, :1]).bandwidth
    assert ratio == pytest.approx((4 / 3) ** 0.2)


@pytest.mark.parametrize(("unbiased", "rate", "repetitions"), [(False, 1 - 1 / 10, 1000), (True, 1.0, 300)])
def test_gaussian_recursion_shrinks_as_predicted(unbiased, rate, repetitions):
    """Theory section 7: E v_k = v_0 (1 - 1/m)^k when a model is trained on m of its own samples."""
    m, generations, v0 = 10, 2, 2.0
    final = []
    for r in range(repetitions):
        g = seeding.generator(7, r)
        data = math.sqrt(v0) * torch.randn(m, 1, generator=g)
        for _ in range(generations):
            model = fit(GaussianMLE(unbiased), data)
            data = model.sample(m, g)
        final.append(float(model.law.covariances))
    v = torch.tensor(final, dtype=torch.float64)
    # 4.5 standard errors: false-failure rate 7e-6; one generation more or less is 4.4 or more away
    assert abs(float(v.mean()) - v0 * rate**generations) < 4.5 * float(v.std()) / math.sqrt(repetitions)


def test_gaussian_moments_ridge_and_early_stopping():
    data = rows(50, 3, scale=2.0)
    x = data.double()
    model = fit(GaussianMLE(ridge=0.1, t0=0.2), data)
    covariance = (x - x.mean(0)).T @ (x - x.mean(0)) / 50 + 0.1 * torch.eye(3, dtype=torch.float64)
    a2 = math.exp(-0.2)
    torch.testing.assert_close(model.law.covariances[0], a2 * covariance + (1 - a2) * torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(model.law.means[0], math.sqrt(a2) * x.mean(0))
    with pytest.raises(InputError, match=r"(?i)singular.*ridge"):
        fit(GaussianMLE(), rows(3, 3))
    with pytest.raises(InputError, match="singular"):
        fit(GaussianMLE(), torch.ones(5, 2))


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_em_recovers_a_mixture(covariance):
    truth = GaussianMixture([0.3, 0.7], [[-4.0, 0.0], [3.0, 1.0]], [0.5, 1.5])
    data = truth.sample(4000, torch.Generator().manual_seed(0))
    model = fit(MixtureEM(2, covariance), data)
    order = model.law.means[:, 0].argsort()
    # standard errors: weights 0.007, means at most 0.023, variances at most 0.04; the bounds are 5 of them or more
    torch.testing.assert_close(model.law.weights[order], truth.weights, atol=0.04, rtol=0)
    torch.testing.assert_close(model.law.means[order], truth.means, atol=0.13, rtol=0)
    variances = torch.diagonal(model.law.component_covariances, dim1=1, dim2=2).mean(1)[order]
    torch.testing.assert_close(variances, torch.tensor([0.5, 1.5], dtype=torch.float64), atol=0.2, rtol=0)
    assert model.training["converged"] == 1.0
    assert torch.equal(fit(MixtureEM(2, covariance), data).law.means, model.law.means)
    with pytest.raises(InputError, match="5 components"):
        fit(MixtureEM(5), data[:4])


@pytest.mark.parametrize("estimator", [KDE("scott", 0.1), GaussianMLE(ridge=0.1), MixtureEM(3, "diag", t0=0.05)])
@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_state_round_trip_gives_the_same_bits(estimator, shape):
    data = rows(60, 4).view(60, *shape)
    model = fit(estimator, data)
    again = estimator.load(load(save(model.state())), shape)
    x = data[:5]
    drawn = [m.sample(50, torch.Generator().manual_seed(3)) for m in (model, again)]
    assert drawn[0].shape == (50, *shape)
    assert drawn[0].dtype == torch.float32
    assert torch.equal(*drawn)
    assert torch.equal(model.log_prob(x), again.log_prob(x))
    assert model.score(x, 0.3).shape == x.shape
    assert torch.equal(model.score(x, torch.full((5,), 0.3)), again.score(x, torch.full((5,), 0.3)))
    assert model.divergence(x, 0.3).shape == (5,)
    with pytest.raises(InputError, match="Expected"):
        estimator.load(model.state(), (5,))
    with pytest.raises(InputError, match="Expected"):
        estimator.load({"net.out": torch.zeros(3)}, shape)
    with pytest.raises(InputError, match="rows of shape"):
        model.log_prob(torch.zeros(3, 7))
