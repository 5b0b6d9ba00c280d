"""Innovations and their Gram matrix: exact where they must be, unbiased where they are estimates."""

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.sets.innovations import density_innovations, feature_innovations
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.theory import Accumulate, FixedFraction, Replace, accumulated_drift, alignment, propagator

P = GaussianMixture([1.0], [[0.0]], [1.0])


def shifted(*means):
    """Unit Gaussians at these means."""
    return [GaussianMixture([1.0], [np.atleast_1d(m).tolist()], [1.0]) for m in means]


def random_rows(N, seed):
    """Rows of a policy that mixes p and every earlier generation with random weights."""
    rng = np.random.default_rng(seed)
    fresh, mixing = np.zeros(N), np.zeros((N, N + 1))
    for i in range(N):
        row = rng.dirichlet(np.ones(i + 2))
        fresh[i], mixing[i, : i + 1] = row[0], row[1:]
    return fresh, mixing


def gram_of_shifts(m, mixing):
    """Closed form in L2(p): <f_i, f_j> = exp(m_i m_j) - 1, and delta is linear in f."""
    F = np.exp(np.outer(m, m)) - 1
    A = np.eye(len(m)) - mixing[:, 1:]
    return A @ F @ A.T, np.diag(F)


def gram_by_quadrature(m, mixing):
    """The same in L2 of the mixture, on a grid."""
    x = np.linspace(-12, 12, 40_001)
    density = np.exp(-((x - np.array([0.0, *m])[:, None]) ** 2) / 2) / np.sqrt(2 * np.pi)
    mu = density.mean(0)
    f = (density[1:] - density[0]) / mu
    delta = f - mixing[:, 1:] @ f
    weight = mu * (x[1] - x[0])
    return (delta * weight) @ delta.T, (f**2 * weight).sum(1)


@pytest.mark.parametrize("reference", ["p", "mixture"])
@pytest.mark.parametrize("seed", range(5))
def test_identity_holds_to_rounding_for_random_policies(reference, seed):
    N = 5
    rows = random_rows(N, seed)
    models = [
        GaussianMixture([0.4, 0.6], [[0.1 * i, 0.3], [1.0, -0.2 * i]], [1 + 0.1 * i, 0.8]) for i in range(1, N + 1)
    ]
    target = GaussianMixture([0.5, 0.5], [[0.0, 0.3], [1.0, 0.0]], [1.0, 1.0])
    found = density_innovations(target, models, *rows, n=600, seed=seed, reference=reference)
    drift = np.array([e.value for e in found.drift])
    assert accumulated_drift(propagator(rows), found.gram) == pytest.approx(drift, rel=1e-12)


# |t| < 7 with 19 degrees of freedom on 12 numbers: false-failure rate 12 x 1.2e-6 each
@pytest.mark.parametrize(("reference", "truth"), [("p", gram_of_shifts), ("mixture", gram_by_quadrature)])
@pytest.mark.parametrize("policy", [Replace(), FixedFraction(0.4), Accumulate()])
def test_gram_matrix_and_drift_in_closed_form(reference, truth, policy):
    m = np.array([0.3, 0.5, -0.4])
    rows = policy.rows(3)
    gram, drift = truth(m, np.asarray(rows[1]))
    found = density_innovations(P, shifted(*m), *rows, n=40_000, seed=1, reference=reference)
    assert (abs(found.gram - gram) < 7 * found.gram_stderr).all()
    assert found.gram_stderr.max() < 0.03 * gram.max(), "precise enough to see an error of a few per cent"
    for estimate, value in zip(found.drift, drift, strict=True):
        assert abs(estimate.value - value) < 7 * estimate.stderr
    for estimate, value in zip(found.sizes, np.diag(gram), strict=True):
        assert abs(estimate.value - value) < 7 * estimate.stderr


def test_density_intervals_cover():
    rows = FixedFraction(0.4).rows(2)
    gram, drift = gram_of_shifts(np.array([0.4, 0.6]), np.asarray(rows[1]))
    hits = []
    for seed in range(400):
        found = density_innovations(P, shifted(0.4, 0.6), *rows, n=600, seed=seed, reference="p")
        hits.append([found.drift[1].low <= drift[1] <= found.drift[1].high,
                     found.sizes[0].low <= gram[0, 0] <= found.sizes[0].high])  # fmt: skip
    # 400 draws at 0.95: outside [0.90, 0.99] with probability < 1e-4
    assert (abs(np.mean(hits, axis=0) - 0.945) < 0.045).all(), np.mean(hits, axis=0)


def test_heavier_models_than_p_keep_a_finite_error_in_the_mixture():
    wide = [GaussianMixture([1.0], [[0.0]], [3.0])]
    found = density_innovations(P, wide, *Replace().rows(1), n=4000, seed=0)
    assert found.drift[0].value <= 2
    assert found.drift[0].stderr < 0.02


# -- feature coordinates --------------------------------------------------------------------------------------------


def draws(means, n, seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, len(m), generator=g, dtype=torch.float64) + torch.tensor(m) for m in means]


def test_feature_innovations_are_unbiased_and_their_intervals_cover():
    c = np.array([[0.25, 0.0, 0.0], [0.2, 0.25, -0.1]])
    rows = FixedFraction(0.5).rows(2)
    delta = c - np.asarray(rows[1])[:, 1:] @ c
    gram, drift = delta @ delta.T, (c**2).sum(1)
    found, hits = [], []
    for seed in range(400):
        real, *sets = draws([np.zeros(3), *c], 120, seed)
        one = feature_innovations(lambda x: x, real, sets, *rows, seed=seed)
        found.append(np.concatenate([one.gram.ravel(), [e.value for e in one.drift]]))
        estimates = [*one.sizes, *one.drift]
        values = [*np.diag(gram), *drift]
        hits.append([e.low <= v <= e.high for e, v in zip(estimates, values, strict=True)])
    found, truth = np.array(found), np.concatenate([gram.ravel(), drift])
    z = (found.mean(0) - truth) / (found.std(0, ddof=1) / 20)
    assert (abs(z) < 5).all(), z  # 6 means: false-failure rate 4e-6
    naive = 2 * 3 / 120  # what squared distances of means would add to each drift
    assert (abs(found.mean(0) - truth)[-2:] < naive / 3).all(), "the test can see that bias"
    cover = np.mean(hits, axis=0)
    # nominal 0.95; a product of two noisy means makes the interval wide rather than narrow
    assert (cover > 0.90).all(), cover


def test_feature_identity_holds_to_rounding():
    rows = random_rows(4, 3)
    real, *sets = draws(np.random.default_rng(0).normal(size=(5, 6)), 60, 0)
    found = feature_innovations(lambda x: x, real, sets, *rows, seed=1, name="identity")
    drift = np.array([e.value for e in found.drift])
    assert accumulated_drift(propagator(rows), found.gram) == pytest.approx(drift, rel=1e-10)
    assert found.reference == "identity"


def test_alignment_extremes():
    step, N = 0.4, 4
    aligned = [np.eye(4)[0] * step * i for i in range(N + 1)]
    apart = [np.zeros(4), *(np.cumsum(np.eye(4) * step, axis=0))]  # a new direction in every step
    for means, kappa in ((aligned, 1.0), (apart, 0.0)):
        real, *sets = draws(means, 20_000, 5)
        found = feature_innovations(lambda x: x, real, sets, *Replace().rows(N), seed=2)
        estimate = found.statistic(alignment, "alignment")
        assert estimate.value == pytest.approx(kappa, abs=0.06)
        assert estimate.low <= kappa + 0.03
        assert estimate.high >= kappa - 0.03
        assert estimate.stderr < 0.03


def test_alignment_of_laws():
    apart = shifted([0.2, 0.0], [0.0, 0.2])
    found = density_innovations(
        GaussianMixture([1.0], [[0.0, 0.0]], [1.0]), apart, *FixedFraction(1.0).rows(2), n=40_000, reference="p"
    )
    assert found.statistic(alignment, "alignment").value == pytest.approx(0.0, abs=0.05)
    small = density_innovations(P, shifted(0.02, 0.04), *Replace().rows(2), n=40_000, reference="p")
    assert small.statistic(alignment, "alignment").value > 0.99


def test_jackknife_of_a_mean_is_its_standard_error():
    found = density_innovations(P, shifted(0.3, 0.5), *Replace().rows(2), n=2000)
    linear = found.statistic(lambda gamma: gamma[1, 1], "J_1")
    for part in ("value", "stderr", "low", "high"):
        assert getattr(linear, part) == pytest.approx(getattr(found.sizes[1], part), rel=1e-9)


def test_statistic_without_a_value_is_refused():
    real, same = draws([np.zeros(2)] * 2, 60, 0)
    found = feature_innovations(lambda x: x, real, [same], *Replace().rows(1))
    assert found.statistic(alignment, "alignment").is_refused, "one innovation has no alignment"


def test_json_is_plain():
    import json

    found = density_innovations(P, shifted(0.1), *Replace().rows(1), n=100)
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["gram"] == found.gram.tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: density_innovations(P, shifted(0.1), *Replace().rows(1), reference="q"), "reference 'q'"),
        (lambda: density_innovations(P, [], np.zeros(0), np.zeros((0, 1))), "no models"),
        (lambda: density_innovations(P, shifted(0.1, 0.2), *Replace().rows(3)), r"policy rows of shapes \[2\]"),
        (lambda: feature_innovations(lambda x: x, torch.zeros(39, 1), [torch.zeros(60, 1)], *Replace().rows(1)), "39"),
        (
            lambda: feature_innovations(lambda x: x, torch.zeros(60, 1), [torch.zeros(60, 1)], *Replace().rows(2)),
            r"policy rows of shapes \[1\]",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
