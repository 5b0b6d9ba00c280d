"""What a generation asks of its laws: each is evaluated once at each shared set of draws."""

import math

import pytest

import driftlaw as dl
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.reproduce.mixture.study import target_of_a_run

N = 200


@pytest.mark.parametrize(("path_samples", "sets"), [(0, 5), (100, 8)])
def test_kernel_sums_of_a_generation(monkeypatch, path_samples, sets):
    """p_hat at draws of p, q, itself (and of q at t0); the model in q at draws of q and p_hat (and both at t0)."""
    points = {}
    evaluate = KernelMixture.log_prob

    def counted(law, x, t=0.0):
        points.setdefault(float(t), []).append(len(x))
        return evaluate(law, x, t)

    study = dl.Study(
        source=dl.GaussianMixture.paper(),
        estimator=dl.KDE(0.6, t0=0.02),
        policy=0.5,
        samples=300,
        generations=2,
        measures={"samples": 0, "density_samples": N, "path_samples": path_samples, "T": 3.0},
    )
    steps = dl.run(study)
    next(steps)
    monkeypatch.setattr(KernelMixture, "log_prob", counted)
    second = next(steps)
    early = [n for t, numbers in points.items() if t < 1 for n in numbers]
    assert early == [N] * sets
    assert second.path.known == bool(path_samples)
    assert second.divergence["kl"].value > second.one_step["kl"].value > 0


def test_divergence_at_t0_is_of_laws_at_t0():
    """One step of [KTV] Prop 3.1 as an equality: KL at t0 is KL at T plus half the energy (theory 3.1)."""
    study = dl.Study(
        source=dl.GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], 0.5),
        estimator=dl.KDE(0.8),
        policy=0.5,
        samples=400,
        generations=2,
        measures={"samples": 0, "density_samples": 20_000, "path_samples": 20_000, "t0": 0.3},
    )
    for g in dl.run(study):
        path = g.path
        gap = path.kl.value - path.kl_initial.value - path.energy_learned.value / 2
        spread = math.hypot(path.kl.stderr, path.kl_initial.stderr, path.energy_learned.stderr / 2)
        assert abs(gap) < 5 * spread  # false failure below 6e-7
        assert abs(g.one_step["kl"].value - path.kl.value) > 5 * spread, "the model is sampled at time 0, not at t0"


def test_target_of_a_run():
    assert target_of_a_run(0.02, 1) == target_of_a_run(0.02, 3) == 0.02
    assert target_of_a_run(0.02, 10) == pytest.approx(0.0348, abs=1e-4)
    assert target_of_a_run(0.02, 10) / math.sqrt(10) < 0.02
