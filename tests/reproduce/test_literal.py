"""The literal chain against exact transitions. Statistical tests: 5 standard errors, false failure below 6e-7 each."""

import dataclasses

import pytest
import torch

from driftlaw import reproduce as loop
from driftlaw.estimate import Estimate
from driftlaw.measure.laws.divergence import kl, log_densities
from driftlaw.measure.paths.path import path_energy
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.law import Diffused
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.mixture import literal as module
from driftlaw.reproduce.mixture.literal import agrees, fitted_law, literal_chains, literal_figure
from driftlaw.reproduce.records import estimate_of


def numbers(table):
    return {(r["start"], r["quantity"], r["route"]): estimate_of(r) for r in table.to_dict("records")}


def near(a, b):
    return abs(a.value - b.value) <= 5 * (a.stderr**2 + b.stderr**2) ** 0.5


@pytest.fixture(scope="module")
def kde():
    return literal_chains(seed=3, n=300, samples=500, steps=80)


def test_exact_transitions_are_the_exact_route_of_a_study(kde):
    """From p_hat_T: the energy of exact marginals, the closed second moment, and KL by draws of the law itself."""
    found, fitted, p = numbers(kde), fitted_law(500, seed=3), GaussianMixture.paper()
    assert isinstance(fitted, KernelMixture)
    assert len(fitted) == 500
    law = Diffused(fitted, 0.02)
    energy = path_energy(fitted, p, fitted, 0.02, 4.0, n=8000, seed=0)
    divergence = kl(log_densities(law, Diffused(p, 0.02), n=8000, seed=0))
    assert near(found["p̂_T", "path energy", "exact"], energy)
    assert near(found["p̂_T", "log p̂/q at t₀", "exact"], divergence)
    assert near(found["p̂_T", "second moment", "exact"], Estimate.exact(law.second_moment(), "closed form"))


def test_chains_agree_without_the_bias_of_the_step(kde):
    figure, (claim,) = literal_figure(kde)
    assert claim.verdict == "confirmed"
    assert len(figure.notes) == 6
    for start in ("p̂_T", "N(0, I)"):
        bias = numbers(kde)[start, "path energy", "bias of the step"]
        assert bias.value > 5 * bias.stderr, "at 80 steps the bias is seen"


def test_bias_is_of_first_order():
    """Twice the steps, half the bias: its slope in the step is 1."""
    coarse, fine = (numbers(literal_chains(seed=1, n=4000, steps=k)) for k in (40, 80))
    for start in ("p̂_T", "N(0, I)"):
        key = (start, "path energy", "bias of the step")
        assert coarse[key].value / fine[key].value == pytest.approx(2, abs=0.35)


def test_a_wrong_chain_is_caught(monkeypatch):
    """A drift that forgets half of the linear part: other end points, so the claim is not reproduced."""
    chains = module.coupled_chains

    def wrong(score_hat, score, start, times, g):
        return chains(lambda x, t: score_hat.score(x, t) + 0.25 * x, score, start, times, g)

    monkeypatch.setattr(module, "coupled_chains", wrong)
    _, (claim,) = literal_figure(literal_chains(seed=0, n=300, steps=80))
    assert claim.verdict == "not reproduced"


def test_what_agrees():
    gap = Estimate.normal(0.4, 0.1, 100, "gap")
    assert agrees(gap, Estimate.normal(0.0, 0.0, 100, "bias"))
    far = dataclasses.replace(gap, value=0.5)
    assert not agrees(far, Estimate.normal(0.0, 0.0, 100, "bias"))
    assert agrees(far, Estimate.normal(-1.0, 0.0, 100, "bias"))


def test_population_law_and_target():
    fitted = fitted_law(None)
    assert isinstance(fitted, GaussianMixture)
    assert torch.equal(fitted.covariances, torch.full((5,), 0.72, dtype=torch.float64))
    found = loop.reproduce(["literal"], target_se=0.1, samples=None)
    assert [f.name for f in found.figures] == ["literal"]
    (claim,) = (c for c in found.claims if c.verdict != "not measured in this run")
    assert claim.key == "literal"
    assert claim.command.startswith("driftlaw reproduce literal")
