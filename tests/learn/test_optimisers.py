"""Optimisers of torch.optim, chains by their betas, diffusers' pipelines: each works or is refused by name."""

from dataclasses import replace

import pytest
import torch

from driftlaw.errors import ConfigError
from driftlaw.learn import Denoiser, FitContext, build, from_diffusers
from driftlaw.learn.optimisers import names
from driftlaw.process.ddpm import betas, chain_grid, chain_times
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.sampler import sample

ROWS = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
SMALL = {"width": 16, "steps": 30, "batch": 16, "checkpoint_every": 10}


class Kept:
    def __init__(self):
        self.saved, self.count = None, 0

    def load(self):
        return self.saved

    def save(self, tensors, meta):
        self.count += 1
        if self.count == 2:
            self.saved = {k: v.clone() for k, v in tensors.items()}, dict(meta)


@pytest.mark.parametrize("name", names())
def test_every_optimiser_of_torch_trains_and_resumes_or_is_refused_by_name(name):
    if name in {"LBFGS", "SparseAdam", "Muon"}:
        with pytest.raises(ConfigError, match=f"the optimiser {name} "):
            Denoiser(**SMALL, algorithm=name)
        return
    config = Denoiser(**SMALL, algorithm=name)
    kept = Kept()
    whole = config.fit(ROWS, FitContext(seed=1, checkpoint=kept))
    assert kept.saved[1]["state"]["step"] == 20
    again = config.fit(ROWS, FitContext(seed=1, checkpoint=kept))
    assert all(torch.equal(v, again.state()[k]) for k, v in whole.state().items())
    plain = Denoiser(**SMALL).fit(ROWS, FitContext(seed=1))
    same = all(torch.equal(v, plain.state()[k]) for k, v in whole.state().items())
    assert same == (name == "AdamW")


def test_arguments_reach_the_optimiser():
    a, b = (
        Denoiser(**SMALL, algorithm="SGD", arguments=x).fit(ROWS, FitContext(seed=1)) for x in ({}, {"momentum": 0.9})
    )
    assert not torch.equal(a.state()["net.out.weight"], b.state()["net.out.weight"])
    config = Denoiser(**SMALL, algorithm="SGD", arguments={"momentum": 0.9})
    assert build(config.config()) == config
    for settings, words in (
        ({"algorithm": "SDG"}, "Did you mean 'SGD'"),
        ({"algorithm": "SGD", "arguments": {"momentun": 0.9}}, "SGD refuses its arguments"),
        ({"arguments": {"betas": [2, 3]}}, "AdamW refuses its arguments"),
    ):
        with pytest.raises(ConfigError, match=words):
            Denoiser(**SMALL, **settings)


def test_betas_of_ones_own_and_of_a_sigmoid():
    chain = {"prediction": "epsilon", "noise": "ddpm", "solver": "ddpm"}
    own = tuple(betas("linear", 60, 1e-4, 0.25).tolist())
    a = Denoiser(**SMALL, **chain, diffusion_steps=60, solver_steps=60, trained_betas=own)
    b = Denoiser(**SMALL, **chain, diffusion_steps=60, solver_steps=60, beta_end=0.25)
    assert torch.equal(a.levels(), b.levels())
    x, y = (c.fit(ROWS, FitContext(seed=1)).sample(5, torch.Generator().manual_seed(0)) for c in (a, b))
    assert torch.equal(x, y)
    with pytest.raises(ConfigError, match="60 betas for 50 levels"):
        Denoiser(**SMALL, **chain, diffusion_steps=50, solver_steps=50, trained_betas=own)
    assert betas("sigmoid", 3, 0.1, 0.3).tolist() == pytest.approx(
        [0.1 + 0.2 / (1 + 403.4288), 0.2, 0.3 - 0.2 / 404.4288]
    )


def test_ddim_is_of_first_order_and_diffusers_own():
    """Exact score of N(0, .25): the deviation's error halves with the step; steps agree with diffusers' scheduler."""
    law = GaussianMixture([1.0], [[0.0]], 0.25)
    times = chain_times(betas("linear", 1000))
    x = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fine, *rough = (sample(law, x, chain_grid(times, n), "ddim") for n in (1000, 50, 100))
    errors = [float((r - fine).abs().max()) for r in rough]
    assert 1.6 < errors[0] / errors[1] < 2.6
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(1000)
    y = x.clone()
    for k in scheduler.timesteps:
        t = float(times[k])
        noise = -(1 - torch.exp(torch.tensor(-t, dtype=torch.float64))).sqrt() * law.score(y, t)
        y = scheduler.step(noise, k, y).prev_sample
    torch.testing.assert_close(y, fine, rtol=1e-3, atol=1e-4)


def pipeline(scheduler, **more):
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        unet = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=more.pop("out_channels", 1), block_out_channels=(4, 8),
            layers_per_block=1, norm_num_groups=2, down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2, **more,
        )  # fmt: skip
    return diffusers.DDPMPipeline(unet, scheduler)


@pytest.mark.parametrize(
    ("name", "options", "solver"),
    [
        ("DDPMScheduler", {"trained_betas": [0.05] * 100}, "ddpm"),
        ("DDPMScheduler", {"beta_schedule": "sigmoid", "beta_end": 0.2}, "ddpm"),
        ("DDIMScheduler", {"beta_end": 0.2}, "ddim"),
        ("DPMSolverMultistepScheduler", {"beta_end": 0.2}, "multistep"),
    ],
)
def test_schedulers_that_work(name, options, solver):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(num_train_timesteps=100, **options)
    learner = from_diffusers(pipeline(scheduler), steps=2, batch=4)
    assert learner.solver == solver
    torch.testing.assert_close(learner.levels(), chain_times(scheduler.betas.double()), rtol=1e-5, atol=1e-7)
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    few = replace(learner, solver_steps=5)
    assert few.fit(x, FitContext(seed=1)).sample(2, torch.Generator().manual_seed(0)).shape == (2, 1, 8, 8)


def test_class_conditional_pipelines_are_conditional_learners():
    diffusers = pytest.importorskip("diffusers")
    learner = from_diffusers(pipeline(diffusers.DDPMScheduler(100, beta_end=0.2), num_class_embeds=3), steps=2, batch=4)
    assert learner.conditional
    x, y = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    few = replace(learner, solver_steps=5, guidance=0.5)
    model = few.fit(x, FitContext(seed=1, labels=y, classes=("a", "b", "c")))
    assert model.sample(3, torch.Generator().manual_seed(0), labels=torch.arange(3)).shape == (3, 1, 8, 8)


class Latent:
    def __init__(self, inner):
        self.unet, self.scheduler, self.vae = inner.unet, inner.scheduler, object()


class DiT:
    def __init__(self, inner):
        self.transformer, self.scheduler = object(), inner.scheduler


def test_what_has_no_counterpart_is_refused_by_name_before_training():
    diffusers = pytest.importorskip("diffusers")
    plain = pipeline(diffusers.DDPMScheduler(100, beta_end=0.2))
    learned = pipeline(diffusers.DDPMScheduler(100, beta_end=0.2, variance_type="learned_range"), out_channels=2)
    for bad, words in (
        (Latent(plain), "Latent diffuses in the latent space of its vae"),
        (DiT(plain), r"DiT has a transformer \(DiT\)"),
        (learned, "variance_type is 'learned_range'"),
        (pipeline(diffusers.EulerDiscreteScheduler()), "unknown scheduler EulerDiscreteScheduler"),
        (pipeline(diffusers.DDIMScheduler(100, beta_end=0.2, set_alpha_to_one=False)), "set_alpha_to_one = False"),
        (pipeline(diffusers.DPMSolverMultistepScheduler(100, solver_order=3)), "solver_order = 3"),
    ):
        with pytest.raises(ConfigError, match=words):
            from_diffusers(bad)
