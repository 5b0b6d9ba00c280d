"""The DDPM protocol: chain and loss, epochs, validation rows, sampling in chunks, accelerate, diffusers' networks."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.learn import Denoiser, FitContext, build, from_diffusers, pipeline_generator
from driftlaw.learn.denoiser.epsilon import EpsilonNetwork, Timestepped
from driftlaw.learn.denoiser.generator import DenoiserModel
from driftlaw.learn.denoiser.preconditioning import NoiseLaw, learned_score, noised
from driftlaw.process.ddpm import betas, chain_times
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.schedule import noise_ratio

CHAIN = {"prediction": "epsilon", "noise": "ddpm", "solver": "ddpm", "diffusion_steps": 40, "beta_end": 0.3}
SMALL = Denoiser(width=16, steps=12, warm_steps=8, batch=8, warmup=0, solver_steps=40, **CHAIN)
UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
    "dropout": 0.2,
}


def rows(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class ExactNoise(torch.nn.Module):
    """E[z | x_t = x] for data N(m, v I), at diffusers' own numbering of the levels."""

    def __init__(self, alpha_bar, m, v, prediction="epsilon"):
        super().__init__()
        self.alpha_bar, self.m, self.v, self.prediction = alpha_bar, m, v, prediction
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, x, k):
        self.seen += k.tolist()
        a2 = self.alpha_bar[k.round().long()].to(x).reshape(-1, *[1] * (x.ndim - 1))
        a, sigma = a2.sqrt(), (1 - a2).sqrt()
        eps = sigma * (x - a * self.m) / (a2 * self.v + sigma**2)
        x0 = (x - sigma * eps) / a
        return {"epsilon": eps, "sample": x0, "v_prediction": a * eps - sigma * x0}[self.prediction]


# ------------------------------------------------------------------------------------------------------ the chain


def test_the_loss_is_the_error_of_the_noise_prediction():
    """Weighted error of F at the levels of the chain against |eps_hat - z|^2, for a network that is wrong."""
    times = chain_times(betas(steps=30, end=0.3))
    for sd in (1.0, 0.4):
        law = NoiseLaw("ddpm", float(times[0]), float(times[-1]), sd, levels=times)
        lam = law.quantile(torch.linspace(0.01, 0.99, 30))
        assert torch.equal(lam, noise_ratio(times).log().float()[(torch.linspace(0.01, 0.99, 30).double() * 30).long()])
        x0, z = rows(30, 3), rows(30, 3, seed=1)
        _, target = noised(x0, z, lam, sd)
        wrong = target + rows(30, 3, seed=2)
        s, a = lam.exp()[:, None], (1 + lam.exp().square()).rsqrt()[:, None]
        v = a**2 * sd**2 + (a * s) ** 2
        x = a * x0 + a * s * z
        score = -x / v + a * sd / (a * s * v.sqrt()) * wrong
        eps = -(a * s) * score
        weight = law.weight(lam)[:, None]
        torch.testing.assert_close(weight * (wrong - target).square(), (eps - z).square(), rtol=2e-3, atol=2e-5)


def test_every_level_is_drawn_equally_often():
    times = chain_times(betas(steps=10, end=0.5))
    law = NoiseLaw("ddpm", float(times[0]), float(times[-1]), 1.0, levels=times)
    lam = law.quantile((torch.arange(1000) + 0.5) / 1000)
    assert lam.unique(return_counts=True)[1].tolist() == [100] * 10


def test_the_default_horizon_is_the_chains():
    times = chain_times(betas())
    config = Denoiser(solver="ddpm")
    assert (config.t0, config.T) == (float(times[0]), float(times[-1]))
    assert build(config.config()) == config
    assert (Denoiser().t0, Denoiser().T) == (1e-3, 6.0)
    wide = Denoiser(solver="ddpm", t0=5e-5, T=12.0)
    assert (wide.t0, wide.T) == (5e-5, 12.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"solver": "ddpm", "t0": 0.01}, "leaves the trained times"),
        ({"solver": "ddpm", "T": 4.0}, "leaves the trained times"),
        ({"prediction": "epsilon", "T": 12.0}, "leave the noise chain"),
        ({"solver": "ddpm", "diffusion_steps": 50}, "signal left, alpha_bar = 0.6"),
        ({"solver": "ddpm", "solver_steps": 1001}, "1001 ancestral steps"),
        ({"beta_schedule": "square"}, "beta_schedule = 'square'"),
        ({"precision": "bfloat16"}, "Set engine: accelerate"),
        ({"engine": "accelerate", "processes": 3}, "batch = 128 cannot be shared by 3"),
        ({"unet": {}}, "Set net: diffusers-unet"),
        ({"epochs": 0}, "epochs = 0"),
        ({"validation": 1.0}, "validation = 1.0"),
    ],
)
def test_settings_that_contradict_each_other(settings, words):
    with pytest.raises(ConfigError, match=words):
        Denoiser(**settings)


def test_epochs_are_steps():
    config = Denoiser(width=8, batch=10, epochs=3, warm_epochs=1, steps=999, warm_steps=999)
    data = rows(25, 2)
    model = config.fit(data, FitContext())
    assert model.training["steps"] == 8 == math.ceil(3 * 25 / 10)
    assert config.fit(data, FitContext(warm_start=model)).training["steps"] == 3
    same_steps = replace(config, epochs=None, steps=8)
    assert same(model.state(), same_steps.fit(data, FitContext()).state())
    assert Denoiser(batch=128, epochs=200, warm_epochs=100).fit_steps(50_000, False) == 78_125


def test_validation_rows_are_of_the_training_set_and_never_trained_on():
    data, real = rows(40, 3), rows(30, 3, seed=9) + 50  # held-out rows from elsewhere: selecting by them would show
    config = Denoiser(width=16, steps=30, batch=8, holdout_every=2, patience=3, lr=0.05, warmup=0, validation=0.25)
    a = config.fit(data, FitContext(seed=1, held_out=real))
    b = config.fit(data, FitContext(seed=1, held_out=-real))
    assert same(a.state(), b.state())
    assert a.training["validation_loss"] != a.training["held_out_loss"]
    assert a.training["steps"] < 30
    train, apart = config._split(data, 1)
    assert (len(train), len(apart)) == (30, 10)
    assert {r.numpy().tobytes() for r in torch.cat([train, apart])} == {r.numpy().tobytes() for r in data}
    assert not torch.equal(config._split(data, 2)[1], apart)
    with pytest.raises(InputError, match="sets 1 of 2 rows apart"):
        replace(config, validation=0.5).fit(data[:2], FitContext())


def test_a_ddpm_learns_a_gaussian():
    """Mean and deviation after 600 steps; measured 0.02 and 0.02 off."""
    data = 0.5 + 0.4 * rows(2000, 2)
    config = replace(SMALL, width=64, steps=600, batch=128, lr=3e-3, warmup=20)
    model = config.fit(data, FitContext(seed=2))
    assert model.sigma_data == 1.0
    drawn = model.sample(2000, torch.Generator().manual_seed(0))
    assert float((drawn.mean(0) - 0.5).abs().max()) < 0.1
    assert float((drawn.std(0) - 0.4).abs().max()) < 0.1
    law = GaussianMixture([1.0], [[0.5, 0.5]], 0.16)
    for t in (0.05, 0.5, 2.0):
        x = law.diffuse(t).sample(500, torch.Generator().manual_seed(1))
        exact = law.score(x, t)
        assert float((model.score(x, t) - exact).square().sum() / exact.square().sum()) < 0.05
    warm = config.fit(data, FitContext(seed=3, warm_start=model))
    assert warm.sigma_data == 1.0


# ------------------------------------------------------------------------------------------------ sampling in chunks


class Folder:
    """Chunks through bytes, as on disk."""

    def __init__(self):
        self.content, self.loads = {}, 0

    def load(self, index, identity):
        if (index, identity) not in self.content:
            return None
        self.loads += 1
        return load(self.content[index, identity])["rows"]

    def save(self, index, rows, identity):
        self.content[index, identity] = save({"rows": rows})


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("solver", ["ddpm", "heun"])
def test_killed_sampling_goes_on_after_its_last_chunk(solver):
    config = replace(SMALL, sample_batch=4, solver=solver, solver_steps=10)
    model, disk = config.fit(rows(20, 3), FitContext()), Folder()
    whole = model.sample(11, torch.Generator().manual_seed(5))

    def until(limit):
        def progress(fraction, text):
            if fraction > limit:
                raise Stop

        return progress

    for limit, kept in ((0.3, 0), (0.4, 1), (0.9, 2)):
        with pytest.raises(Stop):
            model.sample_in_chunks(11, torch.Generator().manual_seed(5), disk, until(limit))
        assert len(disk.content) == kept
    disk.loads = 0
    again = config.load(load(save(model.state())), (3,))
    assert torch.equal(again.sample_in_chunks(11, torch.Generator().manual_seed(5), disk), whole)
    assert (disk.loads, len(disk.content)) == (2, 3)
    # another seed or another model takes nothing from what is there
    other = config.fit(rows(20, 3), FitContext(seed=7))
    for m, seed in ((model, 6), (other, 5)):
        disk.loads = 0
        assert torch.equal(
            m.sample_in_chunks(11, torch.Generator().manual_seed(seed), disk),
            m.sample(11, torch.Generator().manual_seed(seed)),
        )
        assert disk.loads == 0


def test_the_noise_of_each_chunk_is_its_own():
    """Two chunks from one starting point differ, and so do two calls."""
    config = replace(SMALL, sample_batch=5)
    model = config.fit(rows(20, 3), FitContext())
    x = rows(5, 3)
    first, second = (model._carry(x, 0, chunk, lambda fraction, text: None) for chunk in (0, 1))
    assert not torch.equal(first, second)
    drawn = model.sample(10, torch.Generator().manual_seed(0))
    assert not torch.equal(drawn, model.sample(10, torch.Generator().manual_seed(1)))


def test_clipping_bounds_the_samples():
    config = replace(SMALL, clip=0.3)
    drawn = config.fit(rows(20, 3), FitContext()).sample(50, torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) <= 0.3 + 1e-6
    assert float(SMALL.fit(rows(20, 3), FitContext()).sample(50, torch.Generator().manual_seed(0)).abs().max()) > 0.5


# -------------------------------------------------------------------------------------------------------- accelerate


def test_accelerate_gives_the_same_numbers_as_pytorch_alone():
    pytest.importorskip("accelerate")
    unet = Denoiser(net="unet", width=8, multipliers=(1, 2), steps=3, batch=4)
    for config, shape in ((replace(SMALL, dropout=0.2), (3,)), (unet, (1, 8, 8))):
        data = rows(20, *shape)
        plain = config.fit(data, FitContext(seed=1, held_out=data)).state()
        through = replace(config, engine="accelerate").fit(data, FitContext(seed=1, held_out=data)).state()
        assert same(plain, through)


def test_bfloat16_changes_the_forward_pass_only():
    pytest.importorskip("accelerate")
    config = replace(SMALL, engine="accelerate", steps=200, batch=64)
    data = 0.5 + 0.4 * rows(500, 2)
    exact, rough = (replace(config, precision=p).fit(data, FitContext(seed=1)) for p in ("float32", "bfloat16"))
    assert all(v.dtype == torch.float32 for k, v in rough.state().items() if k.startswith("net."))
    assert not same(exact.state(), rough.state())
    assert rough.training["train_loss"] == pytest.approx(exact.training["train_loss"], rel=0.05)
    assert same(exact.state(), config.fit(data, FitContext(seed=1)).state())  # and back to float32 in one process


# --------------------------------------------------------------------------------------------------------- diffusers


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_score_of_a_pipeline_that_knows_a_gaussian(prediction, schedule):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(beta_schedule=schedule, prediction_type=prediction, clip_sample=False)
    m, v = 0.7, 0.3

    class Pipeline:
        unet = ExactNoise(scheduler.alphas_cumprod.double(), m, v, prediction)

    Pipeline.scheduler = scheduler
    model = pipeline_generator(Pipeline(), (2,))
    law = GaussianMixture([1.0], [[m, m]], v)
    for k in (0, 1, 37, 500, 900):  # exactly the chain's own times, and never another level
        t = -math.log(float(scheduler.alphas_cumprod[k]))
        x = law.diffuse(t).sample(50, torch.Generator().manual_seed(k))
        Pipeline.unet.seen.clear()
        # float32 inputs: sigma = 0.01 at level 0 and a -> 0 at the end amplify rounding
        torch.testing.assert_close(model.score(x, t), law.score(x, t), rtol=5e-3, atol=5e-3)
        assert set(Pipeline.unet.seen) == {float(k)}
    x = law.sample(50, torch.Generator().manual_seed(1))
    times = torch.linspace(0.2, 3.0, 50)
    error = model.score(x, times) - law.score(x, times)  # the exact module rounds levels; times between are close
    assert float(error.abs().max()) < 0.05
    for t in (1e-6, 30.0):
        with pytest.raises(InputError, match="outside the noise chain"):
            model.score(x, t)


def test_samples_of_a_pipeline_that_knows_a_gaussian():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=200, beta_end=0.08, clip_sample=False)

    class Pipeline:
        unet = ExactNoise(scheduler.alphas_cumprod.double(), 0.7, 0.3)

    Pipeline.scheduler = scheduler
    model = pipeline_generator(Pipeline(), (1,))
    assert model.config.solver_steps == 200
    drawn = model.sample(4000, torch.Generator().manual_seed(0)).double()
    # 4.5 standard errors (false-failure rate 7e-6), and 2 % for the 200 steps of the chain
    assert abs(float(drawn.mean()) - 0.7) < 4.5 * math.sqrt(0.3 / 4000) + 0.01
    assert abs(float(drawn.var()) / 0.3 - 1) < 4.5 * math.sqrt(2 / 4000) + 0.02


def tiny_pipeline(**scheduler):
    diffusers = pytest.importorskip("diffusers")
    settings = {"num_train_timesteps": 20, "beta_end": 0.5, "clip_sample": True} | scheduler
    with torch.device("meta"):
        unet = diffusers.UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **UNET)
    unet = unet.to_empty(device="cpu")
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in unet.parameters():
            p.normal_(0, 0.05, generator=g)
    return diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**settings))


def diffusers_pipeline(unet, scheduler):
    return pytest.importorskip("diffusers").DDPMPipeline(unet, scheduler)


def test_the_two_ways_to_a_score_agree():
    """From the noise directly, and through the preconditioned F that training fits; and the scale of a time."""
    levels = chain_times(betas(steps=50, end=0.3))
    seen = []

    class Net(torch.nn.Module):
        def forward(self, x, k):
            seen.append(k)
            return torch.sin(3 * x) + 0.1 * k.reshape(-1, 1)

    x, t = rows(6, 3), torch.tensor([0.01, 0.1, 0.5, 1.0, 3.0, 5.0])
    for wrapped in (Net(), Timestepped(Net())):
        for prediction in ("epsilon", "sample", "v_prediction"):
            net = EpsilonNetwork(wrapped, levels, prediction)
            torch.testing.assert_close(net.score(x, t), learned_score(net, x, t, 1.0), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(net.score(x, 0.5), learned_score(net, x, 0.5, 1.0), rtol=1e-4, atol=1e-4)
    Timestepped(Net(), 100.0)(x, t)
    assert torch.equal(seen[-1], 100 * t)


def test_a_pipeline_becomes_a_learner_and_back(tmp_path):
    pipeline = tiny_pipeline(beta_schedule="scaled_linear", variance_type="fixed_large", clip_sample_range=0.9)
    config = from_diffusers(pipeline, steps=3, warm_steps=2, batch=4, warmup=0)
    assert (config.diffusion_steps, config.beta_schedule, config.spread, config.clip) == (
        20,
        "scaled-linear",
        "large",
        0.9,
    )
    assert "sample_size" not in config.unet, "it is the rows that have a size"
    assert build(json.loads(json.dumps(config.config()))) == config
    data = rows(6, 1, 8, 8).clamp(-1, 1)
    model = config.fit(data, FitContext(seed=1))
    warm = config.fit(data, FitContext(seed=2, warm_start=model))
    assert warm.training["steps"] == 2
    again = config.load(load(save(model.state())), (1, 8, 8))
    a, b = (m.sample(3, torch.Generator().manual_seed(0)) for m in (model, again))
    assert torch.equal(a, b)
    assert float(a.abs().max()) <= 0.9 + 1e-6
    model.pipeline().save_pretrained(tmp_path / "kept")
    stored = pipeline_generator(tmp_path / "kept")
    assert stored.shape == (1, 8, 8)
    torch.testing.assert_close(stored.sample(3, torch.Generator().manual_seed(0)), a)
    torch.testing.assert_close(stored.score(data, 0.5), model.score(data, 0.5))
    start = config.fit(data, FitContext(warm_start=stored))  # a stored pipeline can be what the first fit starts from
    assert start.training["steps"] == 2
    for name in ("sample", "v_prediction"):
        back = replace(config, prediction=name).fit(data, FitContext()).pipeline().scheduler
        assert from_diffusers(diffusers_pipeline(pipeline.unet, back)).prediction == name
    with pytest.raises(ConfigError, match="only a diffusers-unet"):
        SMALL.fit(rows(5, 2), FitContext()).pipeline()


def test_the_same_samples_as_the_pipelines_own_scheduler():
    """Chain, prediction, clipping and variance of diffusers' loop, with the same noise."""
    pipeline = tiny_pipeline()
    model = pipeline_generator(pipeline)
    x = start = rows(2, 1, 8, 8, seed=4)
    from driftlaw.process import ddpm as module

    noises, g = [], torch.Generator().manual_seed(1)
    with torch.no_grad():
        for k in pipeline.scheduler.timesteps.tolist():
            state = g.get_state()
            x = pipeline.scheduler.step(pipeline.unet(x, k).sample, k, x, generator=g).prev_sample
            g.set_state(state)
            noises.append(torch.randn(x.shape, generator=g) if k else None)
        found = module.ancestral(
            lambda x, t: model._sampled(x, t, None),
            start,
            module.chain_grid(model.config.levels(), 20),
            noise=lambda i: noises[i],
        )
    torch.testing.assert_close(found, x, rtol=2e-3, atol=2e-3)  # alpha_bar is float32 there


def test_an_interrupted_fit_of_a_unet_of_diffusers_resumes_to_the_same_bits():
    pytest.importorskip("diffusers")

    class Disk:
        content = None

        def load(self):
            return self.content and (load(self.content[0]), json.loads(self.content[1]))

        def save(self, tensors, meta):
            self.content = save(dict(tensors)), json.dumps(meta)

    def progress(fraction, text):
        if fraction > 0.7:
            raise Stop

    for settings in ({"unet": UNET}, {"width": 8, "multipliers": (1, 2), "attention": True, "dropout": 0.1}):
        config = Denoiser(net="diffusers-unet", steps=4, batch=3, checkpoint_every=2, solver_steps=2, **settings)
        data, disk = rows(7, 3, 8, 8), Disk()
        whole = config.fit(data, FitContext(seed=3))
        with pytest.raises(Stop):
            config.fit(data, FitContext(seed=3, checkpoint=disk, progress=progress))
        assert same(config.fit(data, FitContext(seed=3, checkpoint=disk)).state(), whole.state())
        assert whole.sample(2, torch.Generator()).shape == (2, 3, 8, 8)


def test_networks_and_schedulers_that_do_not_fit(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    pipeline = tiny_pipeline()
    config = from_diffusers(pipeline)
    with pytest.raises(InputError, match="in_channels = 1 and the rows have 3 channels"):
        config.check((3, 8, 8))
    with pytest.raises(InputError, match=r"7 x 8 cannot be halved"):
        config.check((1, 7, 8))
    with pytest.raises(InputError, match=r"U-Net cannot learn rows of shape \[5\]"):
        Denoiser(net="diffusers-unet").check((5,))
    with pytest.raises(ConfigError, match="refuses its settings"):
        Denoiser(net="diffusers-unet", unet=UNET | {"layers": 2}).check((1, 8, 8))
    with pytest.raises(ConfigError, match="conditional on 10 classes"):
        Denoiser(net="diffusers-unet", unet=UNET | {"num_class_embeds": 10}).check((1, 8, 8))
    pipeline.scheduler = diffusers.EulerDiscreteScheduler()
    with pytest.raises(ConfigError, match="unknown scheduler EulerDiscreteScheduler"):
        from_diffusers(pipeline)
    for settings, words in (
        ({"variance_type": "learned"}, "variance_type is 'learned'"),
        ({"thresholding": True}, "uses thresholding"),
        ({"rescale_betas_zero_snr": True}, "uses rescale_betas_zero_snr"),
    ):
        pipeline.scheduler = diffusers.DDPMScheduler(num_train_timesteps=20, **settings)
        with pytest.raises(ConfigError, match=words):
            from_diffusers(pipeline)
    with pytest.raises(DataNotFoundError, match="holds no pipeline"):
        from_diffusers(tmp_path)
    with pytest.raises(ConfigError, match="int has no unet"):
        from_diffusers(3)
    pipeline.unet = torch.nn.Identity()
    with pytest.raises(ConfigError, match="network is a Identity"):
        from_diffusers(pipeline)
    with pytest.raises(ConfigError, match="unknown prediction type 'flow'"):
        EpsilonNetwork(torch.nn.Identity(), torch.ones(1), "flow")


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda x, k: x * torch.nan, "NaN or infinite in 2 of 2 rows"),
        (lambda x, k: x[:, :1], r"maps rows of shape \[3\] to \[1\]"),
    ],
)
def test_a_model_that_returns_nan_or_another_shape(net, words):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, k):
            return net(x, k)

    wrapped = EpsilonNetwork(Timestepped(Net()), SMALL.levels())
    model = DenoiserModel(SMALL, wrapped, 1.0, (3,), {})
    with pytest.raises(InputError, match=f"sampling from the denoiser failed in the 1. batch: .*{words}"):
        model.sample(2, torch.Generator())


def test_missing_packages_are_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"(?i)needs the package diffusers.*Install driftlaw\[diffusers\]"):
        Denoiser(net="diffusers-unet").check((1, 8, 8))
    with pytest.raises(ConfigError, match=r"needs the package accelerate"):
        Denoiser(engine="accelerate").check((3,))
    with pytest.raises(ConfigError, match=r"needs the package diffusers"):
        from_diffusers("folder")


@pytest.mark.heavy
def test_two_processes_share_a_fit(tmp_path):
    """Real processes over gloo: the numbers of one process up to rounding, a kill within it included."""
    pytest.importorskip("accelerate")

    class Disk:
        content, states = None, ()

        def load(self):
            return self.content

        def save(self, tensors, meta):
            self.content, self.states = (dict(tensors), dict(meta)), (*self.states, meta["state"]["step"])

    config = replace(SMALL, engine="accelerate", batch=8, steps=30, checkpoint_every=10, holdout_every=10, lr=1e-3)
    data = rows(40, 3)
    one = config.fit(data, FitContext(seed=1, held_out=data))
    two = replace(config, processes=2)
    disk = Disk()
    whole = two.fit(data, FitContext(seed=1, held_out=data, checkpoint=disk))
    for k, v in one.state().items():
        torch.testing.assert_close(whole.state()[k], v, rtol=1e-3, atol=1e-5)
    assert whole.training["steps"] == 30
    assert not same(one.state(), config.fit(data, FitContext(seed=2, held_out=data)).state())

    def progress(fraction, text):
        if disk.content is not None:
            raise Stop

    disk = Disk()
    slow = replace(two, steps=3000, checkpoint_every=50)
    with pytest.raises(Stop):
        slow.fit(data, FitContext(seed=1, checkpoint=disk, progress=progress))
    step = disk.states[-1]
    assert 0 < step < 3000
    with pytest.raises(InputError, match=r"^the training checkpoint belongs to another fit: its seed is 1, here"):
        slow.fit(data, FitContext(seed=2, checkpoint=disk))
