"""Path energies and initialisation KL against closed forms of Gaussians and stationary fields."""

import math

import numpy as np
import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.laws.divergence import kl, log_densities
from driftlaw.measure.paths.path import (
    MAX_GROWTH,
    PARTS,
    STAGES,
    Horizon,
    StandardNormal,
    initial_kl,
    learned_path_energy,
    path_energy,
    refined,
    score_error,
    time_density,
)
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Perturbed
from oracles import gaussian as oracle
from oracles.gaussian import Gaussian

T0, T = 0.02, 4.0
L = T - T0


def normal(d, mean=0.0, variance=1.0):
    return GaussianMixture([1.0], torch.full((1, d), mean), variance)


def kl_difference(p, q):
    """2 (KL(p||q)_{t0} - KL(p||q)_T) = hat eps^2 for scores of diffused laws (theory 3.1)."""
    return 2 * (oracle.kl(p.diffuse(T0), q.diffuse(T0)) - oracle.kl(p.diffuse(T), q.diffuse(T)))


@pytest.mark.parametrize("d", [1, 3, 10])
def test_energy_is_twice_the_fall_of_kl_between_gaussians(d):
    """de Bruijn equality: within 1 % and 4.5 standard errors, in both directions."""
    rng = np.random.default_rng(d)
    laws = []
    for _ in range(2):
        a = rng.normal(size=(d, 2 * d))
        laws.append(Gaussian(torch.as_tensor(rng.normal(size=d)), torch.as_tensor(a @ a.T / (2 * d) + 0.3 * np.eye(d))))
    for p, q in (laws, laws[::-1]):
        got = path_energy(p, q, p, T0, T, n=4096, seed=1, target_se=0.004)
        want = kl_difference(p, q)
        assert abs(got.value - want) < 4.5 * got.stderr
        assert got.value == pytest.approx(want, rel=0.02)


def test_equality_on_the_papers_mixture():
    """Generation 0 of the paper's study: Prop 3.1 is an equality (1 %); the table of theory section 6 (2 %)."""
    p = GaussianMixture.paper()
    learned = GaussianMixture(p.weights, p.means, 0.72)
    ideal, hat = (path_energy(learned, p, law, T0, T, n=4096, seed=0, target_se=0.003) for law in (p, learned))
    at = [kl(log_densities(learned.diffuse(t), p.diffuse(t), n=60_000, seed=0)) for t in (T0, T)]
    gap = hat.value / 2 + at[1].value - at[0].value
    assert abs(gap) < 4.5 * math.hypot(hat.stderr / 2, at[0].stderr, at[1].stderr)
    assert abs(gap) < 0.01 * at[0].value
    for got, want in ((ideal, 1.81), (hat, 2.82), (at[0], 1.40)):
        assert got.value == pytest.approx(want, rel=0.02)


def test_the_two_energies_bound_the_two_kls():
    """Prop 3.1, ideal side: KL(q||p)_{t0} <= KL(q||p)_T + eps*^2/2, here an equality with p and q exchanged."""
    p, q = Gaussian.isotropic([0.5], 1.4), Gaussian.isotropic([0.0], 0.7)
    ideal = path_energy(p, q, q, T0, T, n=20_000, seed=0)
    assert abs(ideal.value - kl_difference(q, p)) < 4.5 * ideal.stderr


ERRORS = {
    "constant": (lambda x, t: 0.3 + 0 * x, lambda d: 0.09 * d * L),
    "linear": (lambda x, t: 0.2 * x, lambda d: 0.04 * d * L),
    "rotation": (lambda x, t: 0.3 * torch.stack([x[:, 1], -x[:, 0]], 1), lambda d: 0.09 * d * L),
    "singular": (lambda x, t: x / t.sqrt()[:, None], lambda d: d * math.log(T / T0)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_intervals_cover(name):
    """400 repetitions of 200 draws: 95 +- 4 %."""
    field, truth = ERRORS[name]
    law = normal(2)
    learned = Perturbed(law, field)
    got = [path_energy(learned, law, law, T0, T, n=200, seed=s) for s in range(400)]
    assert 0.91 <= np.mean([e.low <= truth(2) <= e.high for e in got]) <= 0.99
    assert np.std([e.value for e in got]) == pytest.approx(np.mean([e.stderr for e in got]), rel=0.15)


def test_stratified_times_beat_independent_ones():
    """|e|^2 known given t: only the time is random, and its variance falls as n^-3 instead of n^-1."""
    law = normal(1)
    learned = Perturbed(law, lambda x, t: torch.ones_like(x) / t.sqrt()[:, None])
    errors = [path_energy(learned, law, law, T0, T, n=n, seed=0).stderr for n in (100, 400)]
    assert math.log(errors[0] / errors[1]) / math.log(4) == pytest.approx(1.5, abs=0.3)


def test_target_standard_error():
    p = normal(2)
    learned = Perturbed(p, lambda x, t: 0.3 * x)
    assert path_energy(learned, p, p, T0, T, n=128, seed=0).stderr > 0.04 * 0.18 * L
    sharp = path_energy(learned, p, p, T0, T, n=128, seed=0, target_se=0.02)
    assert sharp.stderr <= 0.022 * sharp.value
    assert sharp.n > 128
    assert sharp.value != path_energy(learned, p, p, T0, T, n=sharp.n, seed=0).value, "a fresh set of draws"
    hopeless = path_energy(p, Perturbed(p, lambda x, t: x**3), p, T0, T, n=4, seed=0, target_se=1e-4)
    assert hopeless.n <= 64 * 4
    assert "raise n" in hopeless.warnings[0]


def test_draws_that_missed_a_target_stay_in_the_estimate():
    """A rare large value must not be lost with the set that met it: the mean is that of all rows, stage by stage."""
    sets = {
        "": torch.ones(10),
        "stage 1": torch.cat([torch.ones(9), torch.tensor([101.0])]),
        "stage 2": torch.ones(999),
    }
    sets[""][0] = 2.0
    asked = []

    def draw(size, stage):
        asked.append((stage, size))
        return sets[stage][:size] if stage != "stage 2" else torch.ones(size)

    got = refined(draw, lambda rows: Estimate.mean(rows, "mean"), 10, 0.08)
    (first, second, third), rest = asked[:3], asked[3:]
    # the pilot (mean 1.1, standard error 0.1) suggests 15 draws in all, but a stage has never fewer than n
    assert (first, second) == (("", 10), ("stage 1", 10))
    assert third == ("stage 2", MAX_GROWTH * 10 - 20)  # one outlier among 20: more than the limit would be needed
    assert not rest
    assert got.n == MAX_GROWTH * 10
    assert got.value == pytest.approx((11 + 110 + 620) / 640)
    assert "raise n" in got.warnings[0]

    stages = []
    refined(
        lambda n, s: (stages.append(s), torch.tensor([-1.0, 1.02] * n))[1], lambda r: Estimate.mean(r, "m"), 2, 1e-9
    )
    assert 1 < len(stages) <= 1 + STAGES


EARLY = (lambda x, t: x * (t < 0.3)[:, None], lambda d: d * (0.3 - T0))


def test_times_with_a_density_are_its_distribution():
    """dt/dv integrates to T - t0, and the share of v in each part of u is that of the density."""
    density = (1.0, 3.0, 0.5, 0.5)
    v = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    t, weight = Horizon(T0, T, density).time(v)
    assert float(weight.mean()) == pytest.approx(L, rel=1e-6)
    edges, _ = Horizon(T0, T).time(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64))
    for k, share in enumerate(density):
        assert float(((t >= edges[k]) & (t < edges[k + 1])).double().mean()) == pytest.approx(share / 5, abs=1e-3)
    for ours, plain in zip(Horizon(T0, T, (2.0, 2.0)).time(v), Horizon(T0, T).time(v), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    ends = Horizon(T0, T, density).time(torch.tensor([0.0, 1.0], dtype=torch.float64))[0]
    assert ends.tolist() == pytest.approx([T0, T], rel=1e-12)
    for bad in ((1.0, 0.0), (1.0, -1.0), (math.nan,), (math.inf,)):
        with pytest.raises(InputError, match="density"):
            Horizon(T0, T, bad)


def test_draws_go_where_the_error_varies():
    law = normal(2)
    learned = Perturbed(law, EARLY[0])
    density = time_density(learned, law, law, T0, T, n=1600, seed=0)
    assert len(density) == PARTS
    assert np.mean(density) == pytest.approx(1)
    edge = [float(Horizon(T0, T).time(torch.tensor(k / PARTS, dtype=torch.float64))[0]) for k in range(PARTS + 1)]
    assert all(share == pytest.approx(0.2) for share, start in zip(density, edge, strict=False) if start > 0.3)
    assert all(share > 1 for share, end in zip(density, edge[1:], strict=True) if 0.1 < end < 0.3)
    assert time_density(law, law, law, T0, T) == ()


def test_intervals_cover_with_a_density():
    """400 repetitions of 200 draws, each with a pilot of its own: 95 +- 4 %, and a smaller error than without."""
    law, truth = normal(2), EARLY[1](2)
    learned = Perturbed(law, EARLY[0])
    got = []
    for s in range(400):
        density = time_density(learned, law, law, T0, T, n=160, seed=s)
        got.append(path_energy(learned, law, law, T0, T, n=200, seed=s, density=density))
    assert 0.91 <= np.mean([e.low <= truth <= e.high for e in got]) <= 0.99
    assert np.mean([e.value for e in got]) == pytest.approx(truth, abs=4.5 * np.std([e.value for e in got]) / 20)
    plain = [path_energy(learned, law, law, T0, T, n=200, seed=s).stderr for s in range(20)]
    assert np.mean([e.stderr for e in got]) < 0.8 * np.mean(plain)


def test_images_and_plain_callables():
    law = StandardNormal((1, 4, 4))
    got = path_energy(lambda x, t: 1.1 - x, lambda x, t: -x, law, T0, T, n=64)
    assert got.value == pytest.approx(16 * 1.21 * L, rel=1e-2)


def test_zero_error_is_exactly_zero():
    p = GaussianMixture.paper()
    got = path_energy(p, p, p, n=100, target_se=0.01)
    assert got.value == got.high == 0.0


def test_perturbed_scores_do_not_cancel():
    law = normal(1)
    tiny = Perturbed(law, lambda x, t: torch.full_like(x, 1e-9))
    assert path_energy(tiny, law, law, n=100).value == pytest.approx(1e-18 * L, rel=1e-2, abs=0)

    def base(x, t):
        return -x

    assert score_error(Perturbed(base, lambda x, t: x), base) is not None
    assert path_energy(Perturbed(base, lambda x, t: 1e-9 + 0 * x), base, law, n=100).value == pytest.approx(
        1e-18 * L, rel=1e-2, abs=0
    )


def test_initial_kl():
    law = Gaussian.isotropic([1.5, -2.0], 0.4)
    end, start = law.diffuse(1.0), Gaussian.isotropic(0.0, 1.0, 2)
    for reverse, want in ((False, oracle.kl(start, end)), (True, oracle.kl(end, start))):
        got = initial_kl(GaussianMixture([1.0], law.mean[None], 0.4), 1.0, n=20_000, seed=0, reverse=reverse)
        assert abs(got.value - want) < 4.5 * got.stderr
        assert got.stderr < 0.03 * want


def test_initial_kl_of_the_papers_mixture():
    """0.020 nats at T = 4 (theory 3.1)."""
    assert initial_kl(GaussianMixture.paper(), 4.0, n=20_000, seed=0).value == pytest.approx(0.020, abs=0.001)


def test_learned_path_of_a_gaussian_law():
    """Score field of a diffused law, started from that law at T: the chain's energy tends to 2 (KL_{t0} - KL_T)."""
    p, q = Gaussian.isotropic([0.8], 1.5), Gaussian.isotropic([0.0], 1.0)
    got = learned_path_energy(p, q, p.diffuse(T), T0, T, n=4000, seed=0, steps=400)
    want = kl_difference(p, q)
    bias = float(got.method.split("change it by ")[1])
    assert abs(got.value - want) < 4.5 * got.stderr + 2 * abs(bias)
    assert got.value == pytest.approx(want, rel=0.04)


def test_a_coarse_learned_path_says_so():
    """The stated bias is right to 30 % with its sign, halves when the steps double, and is flagged."""
    p, q = Gaussian.isotropic([0.0], 0.02), Gaussian.isotropic([0.0], 1.0)
    truth, biases = kl_difference(p, q), []
    for steps in (20, 40, 80):
        got = learned_path_energy(p, q, p.diffuse(T), T0, T, n=4000, seed=0, steps=steps)
        biases.append(float(got.method.split("change it by ")[1]))
        assert abs(got.value - biases[-1] - truth) < 4.5 * got.stderr + 0.3 * abs(biases[-1])
        assert "time step matters" in got.warnings[0]
    assert np.polyfit(np.log([20, 40, 80]), np.log(biases), 1)[0] == pytest.approx(-1, abs=0.3)


def test_learned_path_exact_for_a_constant_error():
    q = normal(2)
    learned = Perturbed(q, lambda x, t: 0.1 + 0 * x)
    got = learned_path_energy(learned, q, StandardNormal((2,)), T0, T, n=10, steps=20, grid=torch.linspace(T, T0, 21))
    assert got.value == pytest.approx(0.02 * L, rel=1e-5)


def test_horizon_map():
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    t, weight = Horizon(T0, T).time(u)
    assert float(t[0]) == pytest.approx(T0)
    assert float(t[-1]) == pytest.approx(T)
    assert float(torch.trapezoid(weight * t**2, u)) == pytest.approx((T**3 - T0**3) / 3, rel=1e-6)


def test_bad_input():
    law = normal(1)
    for t0, end in ((0.0, 4.0), (4.0, 1.0), (0.1, math.inf)):
        with pytest.raises(InputError, match="0 < t0 < T"):
            path_energy(law, law, law, t0, end)
    with pytest.raises(InputError, match="n >= 4"):
        path_energy(law, law, law, n=2)
    with pytest.raises(InputError, match="target_se"):
        path_energy(law, law, law, target_se=0.0)
    with pytest.raises(InputError, match="NaN"):
        path_energy(lambda x, t: x * math.nan, law, law, n=10)
    with pytest.raises(InputError, match="even number"):
        learned_path_energy(law, law, StandardNormal((1,)), n=10, steps=3)
