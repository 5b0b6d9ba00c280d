"""Flow matching: the Denoiser's training with another loss; exact velocities, samplers, storage, resume, refusals."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import FitContext, Model, build
from driftlaw.learn.denoiser.preconditioning import NoiseLaw, noised
from driftlaw.learn.flow.learner import VelocityNetwork
from driftlaw.process.flow import flow_time, velocity
from driftlaw.process.schedule import alpha, expand, noise_ratio, sigma
from driftlaw.process.score import Score
from driftlaw.seeding import generator
from driftlaw.testing import check_estimator

LAW = dl.GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [0.1, 0.3])
CONFIG = dl.FlowMatching(width=64, steps=800, lr=3e-3)
PREDICTIONS = ("edm", "velocity")


@pytest.fixture(scope="module", params=PREDICTIONS)
def model(request):
    rows = LAW.sample(4096, generator(0))
    return replace(CONFIG, prediction=request.param).fit(
        rows, FitContext(seed=1, held_out=LAW.sample(500, generator(9)))
    )


def test_score_and_velocity_against_the_exact_ones(model):
    """Relative squared error of the score; measured .016, .005, .0002 (edm) and .008, .004, .001 (velocity)."""
    for t, bound in ((0.1, 0.04), (0.5, 0.012), (2.0, 0.004)):
        x = LAW.diffuse(t).sample(2000, generator(2))
        exact = LAW.score(x, t)
        assert float((model.score(x, t) - exact).square().sum() / exact.square().sum()) < bound
    s = 0.6
    x = (1 - s) * torch.randn(2000, 2, generator=generator(3)) + s * LAW.sample(2000, generator(4))
    assert float((model.velocity(x, s) - velocity(LAW, x, s)).square().mean()) < 0.02


def test_held_out_loss_is_that_of_the_velocity(model):
    """E|v_hat - (x_0 - z)|^2 by plain Monte Carlo over uniform s, against the recorded number."""
    n, g = 200_000, generator(5)
    x0, z = LAW.sample(n, g), torch.randn(n, 2, generator=g)
    low, high = (float(flow_time(t)) for t in (CONFIG.T, CONFIG.t0))
    s = low + (high - low) * torch.rand(n, generator=g)
    x = (1 - s)[:, None] * z + s[:, None] * x0
    loss = (model.velocity(x, s.double()) - (x0 - z)).square().mean(1)
    recorded = model.training["held_out_loss"]  # on 512 draws
    assert abs(float(loss.mean()) - recorded) < 5 * float(loss.std()) / math.sqrt(512)


@pytest.mark.parametrize(("solver", "steps"), [("euler", 100), ("heun", 20), ("multistep", 20), ("sde", 200)])
def test_every_sampler_gives_the_law(model, solver, steps):
    other = replace(model.config, solver=solver, solver_steps=steps).load(model.state(), (2,))
    drawn = other.sample(4000, generator(6)).double()
    law = LAW.diffuse(CONFIG.t0)
    # measured: mean off by 0.03, covariance by 0.07
    assert float((drawn.mean(0) - law.mean()).abs().max()) < 0.12
    assert float((torch.cov(drawn.T) - law.covariance()).abs().max()) < 0.16
    again = other.sample(4000, generator(6)).double()
    assert torch.equal(drawn, again)


def test_the_sde_draws_new_noise_in_every_chunk():
    config = dl.FlowMatching(width=8, steps=2, batch=8, solver="sde", solver_steps=3, sample_batch=4)
    drawn = config.fit(LAW.sample(16, generator(0))).sample(8, generator(1))
    assert len(drawn.unique(dim=0)) == 8
    plain = replace(config, solver="heun")
    start = plain.fit(LAW.sample(16, generator(0))).sample(8, generator(1))
    assert not torch.allclose(drawn, start)


def test_path_measures_take_a_flow(model):
    """Its score error is seen: eps*^2 by the exact law is above the critic's lower bound and small."""
    energy = dl.path_energy(model, LAW, LAW, 0.02, 4.0, n=1000, seed=0)
    gradient = dl.gradient_energy(model, LAW, n=1000, seed=0)
    assert gradient.low < energy.high
    assert 0 < energy.value < 0.1  # measured 0.03
    assert isinstance(model, Score)
    assert isinstance(model, Model)


def test_load_gives_the_same_bits(model):
    again = model.config.load(load(save(model.state())), (2,))
    a, b = (m.sample(20, generator(7)) for m in (model, again))
    assert torch.equal(a, b)
    with pytest.raises(InputError, match="do not fit FlowMatching"):
        model.config.load(model.state(), (3,))


def test_a_velocity_network_is_f():
    """F of the true velocity is the regression target, at any row of any level."""
    g = generator(8)
    x0, z = (torch.randn(6, 3, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([1e-3, 0.01, 0.1, 0.5, 2.0, 6.0], dtype=torch.float64)
    lam = noise_ratio(t).log()
    u, target = noised(x0, z, lam, 1.0)
    seen = []

    class Truth(torch.nn.Module):
        def forward(self, x, time):
            seen.append((x, time))
            return x0 - z

    net = VelocityNetwork(Truth())
    torch.testing.assert_close(net(u, lam), target, rtol=1e-10, atol=1e-10)
    s = flow_time(t)[:, None]
    torch.testing.assert_close(seen[0][0], s * x0 + (1 - s) * z, rtol=1e-10, atol=1e-10)
    a, sd = alpha(t)[:, None], sigma(t)[:, None]
    torch.testing.assert_close(net.score(a * x0 + sd * z, t), -z / sd, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sd", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["uniform", "logit-normal"])
def test_noise_laws(kind, sd):
    law = NoiseLaw(kind, 1e-3, 8.0, sd)
    u = torch.linspace(0, 1, 2001, dtype=torch.float64)
    lam = law.quantile(u)
    s = 1 / (1 + lam.exp())
    low, high = (float(flow_time(t)) for t in (8.0, 1e-3))
    assert float(s[0]) == pytest.approx(high)
    assert float(s[-1]) == pytest.approx(low)
    if kind == "uniform":
        torch.testing.assert_close(s, high + u * (low - high))
    else:
        p = torch.special.ndtr(lam)
        torch.testing.assert_close(p.diff(), torch.full((2000,), float(p[-1] - p[0]) / 2000, dtype=torch.float64))
    # the weight turns |F - F*|^2 into |v - v*|^2: dv/dF by the definition of both
    g = generator(10)
    x0, z = (torch.randn(50, 2, generator=g, dtype=torch.float64) for _ in range(2))
    at = lam[20:1980:40][:50]
    at = at.repeat(2)[:50]
    u1, f1 = noised(x0, z, at, sd)
    ratio = expand(at.exp(), 2)
    a = torch.rsqrt(1 + ratio.square())
    v = (a.square() * sd**2 + (ratio * a).square()).sqrt()
    moved = f1 + 1e-3
    clean = [a * sd**2 / v * u1 + ratio * a * sd / v * f for f in (f1, moved)]  # denoised rows of either F
    moves = [c - (u1 * v - a * c) / (ratio * a) for c in clean]
    torch.testing.assert_close(moves[0], x0 - z, rtol=1e-6, atol=1e-8)
    slope = ((moves[1] - moves[0]) / 1e-3).square()[:, 0]
    torch.testing.assert_close(law.weight(at), slope, rtol=1e-6, atol=0)


def test_it_keeps_the_contract():
    check_estimator(dl.FlowMatching(width=16, steps=20, warm_steps=10, batch=16, solver_steps=4))


def test_configuration():
    flow = dl.FlowMatching(width=16, solver="sde", solver_steps=200)
    assert build(flow.config()) == flow
    assert build({"kind": "flow", "width": 16, "sampling": {"solver": "sde", "solver_steps": 200}}) == flow
    assert replace(flow, steps=7).steps == 7
    assert "chain" not in flow.config()
    assert flow.flat()["kind"] == "flow"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chain": {}}, "no setting 'chain'"),
        ({"diffusion_steps": 10}, "no setting 'diffusion_steps'"),
        ({"spread": "small"}, "no setting 'spread'"),
        ({"noise": "ddpm"}, "noise = 'ddpm'"),
        ({"prediction": "epsilon"}, "prediction = 'epsilon'"),
        ({"solver": "ddpm"}, "solver = 'ddpm'"),
        ({"t0": 9.0}, "FlowMatching: t0 = 9.0 is not below T"),
        ({"sampling": {"solver_step": 3}}, "solver_steps"),
        ({"batch": 3, "processes": 2, "engine": "accelerate"}, "FlowMatching: batch = 3"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ConfigError, match=words):
        build({"kind": "flow", **settings})


def test_bad_rows_and_other_models():
    bad = torch.zeros(6, 3)
    bad[3, 1] = torch.nan
    with pytest.raises(InputError, match="the first is row 3"):
        CONFIG.fit(bad)
    with pytest.raises(InputError, match="every training row is zero"):
        CONFIG.fit(torch.zeros(4, 2))
    rows = LAW.sample(64, generator(0))
    with pytest.raises(InputError, match="warm start"):
        CONFIG.fit(rows, FitContext(warm_start=dl.KDE().fit(rows)))
    small = dl.FlowMatching(width=8, steps=2, batch=8).fit(rows)
    with pytest.raises(InputError, match="0 samples"):
        small.sample(0)
    with pytest.raises(InputError, match="rows of shape"):
        small.velocity(torch.zeros(3, 5), 0.5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_images(prediction):
    config = dl.FlowMatching(
        net="unet", width=8, multipliers=(1, 2), steps=2, batch=4, solver_steps=2, prediction=prediction
    )
    data = torch.rand(6, 1, 9, 8, generator=generator(0)) * 2 - 1
    model = config.fit(data, FitContext(held_out=data))
    assert model.sample(3, generator(1)).shape == (3, 1, 9, 8)
    assert model.velocity(data, 0.4).shape == data.shape


def test_a_study_of_a_known_law(tmp_path):
    """Its record has the energies where q is known; bounds say of which sampler they speak."""
    flow = dl.FlowMatching(width=16, steps=60, warm_steps=20, solver_steps=6)
    measures = {"samples": 200, "path_samples": 200, "density_samples": 500, "critic_rows": 200}
    study = dl.Study(source=LAW, estimator=flow, policy=0.5, samples=300, generations=2, measures=measures, threads=1)
    for solver, said in (("heun", True), ("sde", False)):
        here = study.with_settings({"estimator.sampling.solver": solver})
        records = list(dl.run(here, tmp_path / solver))
        assert records[0].path.known
        assert records[0].path.energy_ideal.low > 0
        found = dl.bounds(dl.load(tmp_path / solver))
        assert any("drawn by an ODE (heun)" in note for note in found.notes) == said
    assert dl.load(tmp_path / "sde").model(2).velocity(torch.zeros(1, 2), 0.5).shape == (1, 2)


@pytest.mark.heavy
def test_kill_and_resume(tmp_path):
    """kill -9 within training, then resume: the same journal as a run that nothing happened to."""
    settings = {"kind": "flow", "width": 32, "steps": 300, "warm_steps": 300, "checkpoint_every": 5, "batch": 32}
    settings |= {"solver": "sde", "solver_steps": 20}
    args = ["run", "digits", "--samples", "60", "--generations", "2", "--seed", "5", "--set", "measures.samples=40"]
    args += ["--set", f"estimator={json.dumps(settings)}"]
    command = [sys.executable, "-m", "driftlaw"]
    for name in ("whole", "killed"):
        process = subprocess.Popen([*command, *args, "--out", str(tmp_path / name)], stderr=subprocess.PIPE)
        if name == "whole":
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err.decode()
            continue
        end = time.monotonic() + 240
        while not any((tmp_path / name).glob("generations/*/checkpoint.safetensors")) and time.monotonic() < end:
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    subprocess.run([*command, "resume", str(tmp_path / "killed")], check=True, capture_output=True)
    for name in ("journal.jsonl", "generations/002/weights.safetensors", "generations/002/samples.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
