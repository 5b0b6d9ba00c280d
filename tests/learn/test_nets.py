"""Networks: shapes, sizes, explicit randomness."""

from functools import partial

import pytest
import torch

from driftlaw.learn import Denoiser
from driftlaw.learn.denoiser.network import MLP, Dropout, UNet, flatten, initialise


def bare(make):
    """Without the constructors' own draws from the global random state."""
    with torch.device("meta"):
        return make().to_empty(device="cpu")


def ready(make, out=0.1, seed=0):
    """Initialised, with a last layer that is not zero, so that everything below it has a gradient."""
    net = bare(make)
    g = torch.Generator().manual_seed(seed)
    initialise(net, g)
    with torch.no_grad():
        net.out.weight.uniform_(-out, out, generator=g)
    return net


SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 15, 9)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attention", [False, True])
def test_unet_keeps_the_shape_and_every_parameter_learns(shape, attention):
    net = ready(lambda: UNet(shape, 8, (1, 2, 3), 2, attention=attention))
    u = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    out = net(u, torch.tensor([-2.0, 1.0]))
    assert out.shape == u.shape
    out.square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_mlp_keeps_the_shape_and_every_parameter_learns():
    for shape in ((5,), (1, 8, 8)):
        net = ready(partial(MLP, shape, 32, 2))
        out = net(torch.ones(3, *shape), torch.zeros(3))
        assert out.shape == (3, *shape)
        out.square().sum().backward()
        assert all(float(p.grad.abs().max()) > 0 for p in net.parameters())


@pytest.mark.parametrize("make", [partial(MLP, (1, 8, 8), 16, 1), partial(UNet, (1, 8, 8), 8, (1, 2))])
@torch.no_grad()
def test_output_depends_on_the_noise_level_and_starts_at_zero(make):
    u, net = torch.ones(2, 1, 8, 8), bare(make)
    initialise(net, torch.Generator().manual_seed(0))
    assert float(net(u, torch.zeros(2)).abs().max()) == 0.0
    out = ready(make)(u, torch.tensor([-2.0, 1.0]))
    assert float((out[0] - out[1]).abs().max()) > 1e-4


def test_automatic_choice_and_laptop_size():
    kinds = {(5,): MLP, (1, 8, 8): MLP, (1, 28, 28): UNet, (3, 32, 32): UNet, (3, 8, 8): MLP}
    for shape, kind in kinds.items():
        assert isinstance(Denoiser().build_network(shape), kind)
    size = sum(p.numel() for p in Denoiser().build_network((1, 28, 28)).parameters())
    assert 150_000 < size < 200_000


def test_initialisation_is_a_function_of_the_generator():
    config = Denoiser(width=8)
    states = [config.build_network((1, 28, 28), torch.Generator().manual_seed(s)).state_dict() for s in (1, 1, 2)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])
    assert all(torch.isfinite(v).all() for v in states[0].values())


def test_dropout_uses_its_generator_and_keeps_the_mean():
    layer, x = Dropout(0.25), torch.ones(100_000)
    assert torch.equal(layer(x), x)  # no generator: the identity
    layer.generator = torch.Generator().manual_seed(0)
    out = layer(x)
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert abs(float(out.mean()) - 1) < 4.5 * (0.25 / 0.75 / 100_000) ** 0.5  # false-failure rate 7e-6
    layer.generator.manual_seed(0)
    assert torch.equal(layer(x), out)
    assert torch.equal(layer.eval()(x), x)


def test_flat_parameters_are_views_and_step_like_separate_ones():
    nets = [ready(lambda: UNet((1, 8, 8), 8, (1, 2))).to(memory_format=torch.channels_last) for _ in range(2)]
    before = {k: v.clone() for k, v in nets[0].state_dict().items()}
    flat = flatten(nets[0])
    assert all(torch.equal(before[k], v) for k, v in nets[0].state_dict().items())
    assert nets[0].inp.weight.is_contiguous(memory_format=torch.channels_last)
    separate = list(nets[1].parameters())
    optimisers = [torch.optim.AdamW(p, lr=0.01, fused=True) for p in ([flat], separate)]
    u = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        for net, optimiser in zip(nets, optimisers, strict=True):
            optimiser.zero_grad(set_to_none=False)
            net(u, torch.zeros(4)).square().sum().backward()
            optimiser.step()
    moved = 0.0
    for (name, a), b in zip(nets[0].named_parameters(), separate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        moved = max(moved, float((a.detach() - before[name]).abs().max()))
    assert moved > 0.01
