"""Path measures of score fields: linear errors on N(0, I) and N(0, Sigma), where all of them have closed forms."""

import math

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError
from driftlaw.measure.paths.generation import PathMeasures
from driftlaw.measure.paths.path import initial_kl
from driftlaw.measure.paths.score_path import initial_kl_limit, score_path_measures
from oracles import linear_field

T0, T = 0.02, 4.0
L = T - T0
NORMAL = dl.GaussianMixture([1.0], torch.zeros(1, 2), 1.0)


def rows(law, n=4000, seed=0):
    return law.sample(n, torch.Generator().manual_seed(seed))


def test_all_of_a_linear_error_on_a_known_law():
    """e = w x on N(0, I): eps*^2 = G^2 = w^2 d L, eta = 2 (1 - e^-L)^2 / L (theory 7); 4 stderr fail at 6e-5."""
    w = 0.15
    found = score_path_measures(dl.Perturbed(NORMAL, lambda x, t: w * x), rows(NORMAL), NORMAL, n=8000)
    energy = w**2 * 2 * L
    eta = 2 * (1 - math.exp(-L)) ** 2 / L
    for got, want in ((found.energy_ideal, energy), (found.observability, eta)):
        assert abs(got.value - want) < 4 * got.stderr
        assert got.stderr < 0.1 * want
    assert found.gradient_energy.low < energy
    assert found.gradient_energy.value == pytest.approx(energy, rel=0.1)
    assert math.isinf(found.gradient_energy.high)
    # the learned path from N(0, I): v' = -(1 - 2w) v + 1 backwards in time, so its energy is w^2 d int v
    v_inf = 1 / (1 - 2 * w)
    learned = w**2 * 2 * (v_inf * L + (1 - v_inf) * (1 - math.exp(-(1 - 2 * w) * L)) / (1 - 2 * w))
    assert abs(found.energy_learned.value - learned) < 4 * found.energy_learned.stderr + 0.02 * learned
    assert abs(found.kl_standard.value) < 1e-6
    assert abs(found.kl_standard_reverse.value) < 1e-6


def test_a_rotation_has_energy_but_no_gradient_part():
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    found = score_path_measures(dl.Perturbed(NORMAL, lambda x, t: 0.3 * x @ turn.to(x)), rows(NORMAL), NORMAL)
    assert found.energy_ideal.low > 0.5
    assert found.gradient_energy.value < 0.02
    assert abs(found.observability.value) < 4 * found.observability.stderr


def test_rows_alone_give_the_gradient_part():
    """A symmetric and a skew error together on N(0, Sigma), against adaptive quadrature."""
    Sigma, E = np.diag([2.0, 0.5]), np.array([[0.2, 0.25], [-0.05, -0.1]])
    law = dl.GaussianMixture([1.0], torch.zeros(1, 2), torch.tensor(Sigma)[None].float())
    field = dl.Perturbed(law, lambda x, t: x @ torch.tensor(E.T).to(x))
    found = score_path_measures(field, rows(law, 8000))
    gradient, whole = linear_field.energies(Sigma, E, np.zeros(2), T0, T)
    assert gradient < 0.9 * whole
    assert abs(found.gradient_energy.value - gradient) < 4 * found.gradient_energy.stderr + 0.02 * gradient
    assert not found.known
    assert sorted(name for name, _ in found.items()) == ["gradient_energy", "kl_standard_reverse"]
    assert PathMeasures.from_json(found.to_json()) == found


def test_the_start_is_bounded_by_the_second_moment():
    """Equality for a point mass; an upper bound that is not far off for the paper's mixture."""
    point = torch.full((50, 3), 2.0)
    a2 = math.exp(-T)
    exact = 0.5 * (a2 * 12 + 3 * (1 - a2) - 3 - 3 * math.log(1 - a2))
    assert initial_kl_limit(point, T).value == pytest.approx(exact, rel=1e-12)
    p = dl.GaussianMixture.paper()
    limit, true = initial_kl_limit(rows(p), T), initial_kl(p, T, n=4000, reverse=True)
    assert true.high < limit.low
    assert limit.value < 2 * a2 * p.second_moment()


def test_too_few_rows_refuse_the_gradient_part_alone():
    found = score_path_measures(NORMAL, rows(NORMAL, 40))
    assert found.gradient_energy.is_refused
    assert "40 unseen rows" in found.gradient_energy.warnings[0]
    assert not found.kl_standard_reverse.is_refused


def test_a_score_that_returns_nan_is_named():
    with pytest.raises(InputError, match="NaN"):
        score_path_measures(lambda x, t: x * float("nan"), rows(NORMAL, 200))
