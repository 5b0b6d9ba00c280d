"""The denoiser as a generator: score error against the exact score, sampling, storage, refusals."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from driftlaw.errors import InputError
from driftlaw.learn import KDE, Denoiser, FitContext, Model
from driftlaw.process.laws.mixture import GaussianMixture

LAW = GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [0.1, 0.3])
CONFIG = Denoiser(width=64, steps=800, batch=128, lr=3e-3, noise="energy", t0=0.01, T=5.0)


@pytest.fixture(scope="module")
def model():
    return CONFIG.fit(LAW.sample(4096, torch.Generator().manual_seed(0)), FitContext(seed=1))


@pytest.mark.parametrize(("t", "bound"), [(0.02, 0.04), (0.1, 0.03), (0.5, 0.012), (2.0, 0.002)])
def test_score_error_against_the_exact_score(model, t, bound):
    """E|s_hat - s|^2 / E|s|^2 under q_t; measured 0.0144, 0.0093, 0.0044, 0.0006."""
    x = LAW.diffuse(t).sample(2000, torch.Generator().manual_seed(2))
    exact = LAW.score(x, t)
    assert float((model.score(x, t) - exact).square().sum() / exact.square().sum()) < bound


def test_samples_follow_the_law_at_t0(model):
    drawn = model.sample(4000, torch.Generator().manual_seed(3)).double()
    law = LAW.diffuse(CONFIG.t0)
    # measured: mean off by 0.03, covariance by 0.04
    assert float((drawn.mean(0) - law.mean()).abs().max()) < 0.1
    assert float((torch.cov(drawn.T) - law.covariance()).abs().max()) < 0.12
    assert abs(float((drawn[:, 0] > -0.4).double().mean()) - 0.6) < 0.06


def test_sampling_in_chunks_gives_each_row_its_noise(model):
    few = replace(CONFIG, sample_batch=3)
    small = few.load(model.state(), (2,))
    a, b = (m.sample(10, torch.Generator().manual_seed(4)) for m in (model, small))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert a.shape == (10, 2)
    assert a.dtype == torch.float32


def test_load_gives_the_same_bits(model):
    again = CONFIG.load(load(save(model.state())), (2,))
    assert isinstance(again, Model)
    a, b = (m.sample(20, torch.Generator().manual_seed(5)) for m in (model, again))
    assert torch.equal(a, b)
    with pytest.raises(InputError, match="do not fit"):
        CONFIG.load(model.state(), (3,))
    with pytest.raises(InputError, match="do not fit"):
        Denoiser(width=32).load(model.state(), (2,))
    with pytest.raises(InputError, match="do not fit"):
        CONFIG.load({}, (2,))


def test_score_is_differentiable_and_keeps_the_dtype(model):
    x = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    out = model.score(x, torch.tensor([0.1, 0.2, 0.3]))
    assert out.dtype == torch.float64
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert float(gradient.abs().min()) > 0
    assert all(p.grad is None and not p.requires_grad for p in model.net.parameters())


def test_one_time_or_one_per_row(model):
    x = LAW.sample(5, torch.Generator().manual_seed(8))
    torch.testing.assert_close(model.score(x, 0.2), model.score(x, torch.full((5,), 0.2)), rtol=1e-5, atol=1e-5)


def test_warm_start_begins_where_the_last_generation_ended(model):
    config = replace(CONFIG, warm_steps=1, lr=1e-12)
    data = 5 * LAW.sample(64, torch.Generator().manual_seed(6))
    warm = config.fit(data, FitContext(seed=2, warm_start=model))
    x = LAW.sample(50, torch.Generator().manual_seed(7))
    torch.testing.assert_close(warm.score(x, 0.3), model.score(x, 0.3), rtol=1e-4, atol=1e-4)
    assert warm.training["steps"] == 1
    for other in (KDE().fit(data, FitContext()), Denoiser(width=8, steps=1).fit(data, FitContext())):
        with pytest.raises(InputError, match="warm start"):
            config.fit(data, FitContext(warm_start=other))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 28, 28)])
def test_images(shape):
    config = Denoiser(net="unet", width=8, multipliers=(1, 2), steps=2, batch=4, solver_steps=2, solver="multistep")
    data = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = config.fit(data, FitContext(held_out=data))
    drawn = model.sample(3, torch.Generator().manual_seed(1))
    assert drawn.shape == (3, *shape)
    again = config.load(load(save(model.state())), shape)
    assert torch.equal(again.sample(3, torch.Generator().manual_seed(1)), drawn)
    assert model.denoised(drawn, 0.5).shape == drawn.shape


def test_refusals(model):
    data = torch.zeros(4, 2)
    with pytest.raises(InputError, match="every training row is zero"):
        CONFIG.fit(data, FitContext())
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        CONFIG.fit(data + 1, FitContext(device="tpu"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU"):
            CONFIG.fit(data + 1, FitContext(device="cuda"))
    with pytest.raises(InputError, match="U-Net cannot learn rows of shape"):
        Denoiser(net="unet").fit(data + 1, FitContext())
    with pytest.raises(InputError, match="held-out set has rows of shape"):
        CONFIG.fit(data + 1, FitContext(held_out=torch.zeros(3, 5)))
    with pytest.raises(InputError, match="held-out set are NaN"):
        CONFIG.fit(data + 1, FitContext(held_out=torch.full((3, 2), torch.nan)))
    with pytest.raises(InputError, match="0 samples"):
        model.sample(0, torch.Generator())
    with pytest.raises(InputError, match="rows of shape"):
        model.score(torch.zeros(3, 5), 0.1)
    broken = CONFIG.load({k: v * torch.nan if k == "net.out.bias" else v for k, v in model.state().items()}, (2,))
    with pytest.raises(InputError, match="sampling from the denoiser failed"):
        broken.sample(3, torch.Generator())
