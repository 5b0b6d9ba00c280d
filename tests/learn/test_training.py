"""Training: exact resume, moving average, held-out loss, early stopping, rows in order."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load, save

from driftlaw import seeding
from driftlaw.errors import InputError
from driftlaw.learn import Denoiser, FitContext
from driftlaw.learn.denoiser.preconditioning import NoiseLaw
from driftlaw.learn.denoiser.training import Training, ema_decay, learning_rate


class Disk:
    """A checkpoint that goes through bytes, as on disk."""

    def __init__(self):
        self.content, self.saves = None, 0

    def load(self):
        return None if self.content is None else (load(self.content[0]), json.loads(self.content[1]))

    def save(self, tensors, meta):
        self.content, self.saves = (save(dict(tensors)), json.dumps(meta, allow_nan=False)), self.saves + 1


class Stop(Exception):  # noqa: N818
    pass


def stop_at(step):
    calls = iter(range(1, 10_000))

    def progress(fraction, text):
        if next(calls) == step:
            raise Stop

    return progress


def rows(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


MLP = Denoiser(width=16, steps=12, warm_steps=13, batch=7, dropout=0.2, checkpoint_every=5, holdout_every=4, warmup=2)
UNET = Denoiser(
    net="unet", width=8, multipliers=(1, 2), steps=5, warm_steps=6, batch=4, dropout=0.2, checkpoint_every=2, warmup=2
)
SELECT = replace(MLP, warm_steps=12, dropout=0.0, checkpoint_every=3, holdout_every=1, patience=50, lr=0.05, warmup=0)


@pytest.mark.parametrize(
    ("config", "shape", "stops"),
    [(MLP, (3,), [1, 4, 5, 6, 11]), (UNET, (1, 8, 8), [1, 3]), (SELECT, (3,), [2, 7, 11])],
    ids=["mlp", "unet", "select"],
)
@pytest.mark.parametrize("warm", [False, True])
def test_an_interrupted_fit_resumes_to_the_same_bits(config, shape, stops, warm):
    data, held_out = rows(20, *shape), rows(9, *shape, seed=1)
    start = config.fit(data, FitContext(seed=8)) if warm else None
    common = {"seed": 3, "held_out": held_out, "warm_start": start}
    whole = config.fit(data, FitContext(**common))
    assert config is not SELECT or whole.training["best_step"] < 9  # so that the best weights come from a checkpoint
    for step in stops:
        disk = Disk()
        with pytest.raises(Stop):
            config.fit(data, FitContext(**common, checkpoint=disk, progress=stop_at(step)))
        assert disk.saves == step // config.checkpoint_every
        with pytest.raises(Stop):  # and once more, at the next step that runs
            config.fit(data, FitContext(**common, checkpoint=disk, progress=stop_at(1)))
        resumed = config.fit(data, FitContext(**common, checkpoint=disk))
        assert same(whole.state(), resumed.state())
        assert whole.training == resumed.training
        again = config.fit(data, FitContext(**common, checkpoint=disk, progress=stop_at(1)))  # finished: nothing to do
        assert same(whole.state(), again.state())
    assert not same(whole.state(), config.fit(data, FitContext(**{**common, "seed": 4})).state())


def test_a_checkpoint_of_another_fit_is_refused():
    data, disk = rows(20, 3), Disk()
    with pytest.raises(Stop):
        MLP.fit(data, FitContext(seed=1, checkpoint=disk, progress=stop_at(6)))
    other = replace(MLP, lr=0.1)
    cases = [
        (other, data, FitContext(seed=1, checkpoint=disk), "its lr is 0.002, here it is 0.1"),
        (MLP, data, FitContext(seed=2, checkpoint=disk), "its seed is 1"),
        (MLP, data + 1, FitContext(seed=1, checkpoint=disk), "its data is"),
        (MLP, data, FitContext(seed=1, checkpoint=disk, held_out=data), "its held-out rows is"),
        (MLP, data, FitContext(seed=1, checkpoint=disk, warm_start=MLP.fit(data, FitContext())), "its warm start is"),
    ]
    for config, x, context, words in cases:
        with pytest.raises(InputError, match=f"belongs to another fit: {words}"):
            config.fit(x, context)


def test_held_out_rows_only_watch():
    """Without patience the real held-out rows cannot leak into the model."""
    data = rows(20, 3)
    a, b = (MLP.fit(data, FitContext(held_out=h)) for h in (None, rows(5, 3, seed=9)))
    assert same(a.state(), b.state())
    assert "held_out_loss" not in a.training
    bins = [v for k, v in b.training.items() if k.startswith("held_out_loss[")]
    assert len(bins) == 4
    assert math.fsum(bins) / 4 == pytest.approx(b.training["held_out_loss"])


def test_patience_stops_and_keeps_the_best_weights():
    data, held_out = rows(6, 8), rows(200, 8, seed=1)  # six rows are soon known by heart
    base = {"width": 32, "batch": 16, "lr": 0.01, "schedule": "constant", "warmup": 0, "holdout_every": 10, "ema": 0.5}
    long = Denoiser(**base, steps=250).fit(data, FitContext(held_out=held_out)).training
    stopped = Denoiser(**base, steps=250, patience=3).fit(data, FitContext(held_out=held_out)).training
    assert stopped["steps"] == stopped["best_step"] + 30 < 250 == long["steps"]
    assert stopped["held_out_loss"] < 0.95 * long["held_out_loss"]
    assert long["train_loss"] < 0.5 * long["held_out_loss"]  # and the gap shows it
    exact = Denoiser(**base, steps=int(stopped["best_step"])).fit(data, FitContext(held_out=held_out)).training
    assert exact["held_out_loss"] == stopped["held_out_loss"]


def test_held_out_loss_decreases():
    g = torch.Generator().manual_seed(0)
    sign = torch.randint(0, 2, (600, 1), generator=g) * 2.0 - 1
    data = sign * torch.tensor([[2.0, 1.0]]) + 0.2 * torch.randn(600, 2, generator=g)
    losses = []
    for steps in (1, 50, 300):
        config = Denoiser(width=32, steps=steps, batch=64, lr=3e-3, warmup=0)
        losses.append(config.fit(data[:400], FitContext(held_out=data[400:])).training["held_out_loss"])
    assert losses[0] > 1.1 * losses[1] > 1.2 * losses[2]


def test_average_warms_up():
    decays = [ema_decay(0.999, k) for k in range(20_000)]
    assert decays[0] == 0.1
    assert all(a <= b for a, b in pairwise(decays))
    assert decays[-1] == 0.999
    assert ema_decay(0.0, 50) == 0.0
    # after one step the average has taken 0.9 of the way to the weights; with ema = 0 all of it
    data = rows(10, 3)
    nets = []
    for limit in (0.999, 0.0):
        config = replace(MLP, ema=limit, steps=1)
        model = config.fit(data, FitContext(seed=0))
        nets.append(torch.cat([p.flatten() for p in model.net.parameters()]))
    start = MLP.build_network((3,), seeding.generator(0, "initialise"))
    begin = torch.cat([p.detach().flatten() for p in start.parameters()])
    torch.testing.assert_close(nets[0], begin + 0.9 * (nets[1] - begin), rtol=1e-4, atol=1e-7)
    assert not torch.equal(nets[0], begin)


def test_learning_rate_schedule():
    config = Denoiser(lr=1.0, warmup=4)
    rates = [learning_rate(config, k, 100) for k in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4] > 0.99
    assert rates[50] == pytest.approx(0.5)
    assert rates[99] < 1e-3
    assert learning_rate(Denoiser(lr=1.0, warmup=0, schedule="constant"), 99, 100) == 1.0


def test_every_row_is_seen_once_per_epoch():
    data = torch.arange(10.0)[:, None] + 1
    config = Denoiser(width=8, batch=4)
    training = Training(
        config,
        config.build_network((1,), torch.Generator().manual_seed(0)),
        data,
        NoiseLaw("energy", 1e-3, 6.0, 1.0),
        10,
        FitContext(seed=5),
        {},
    )
    seen = torch.cat([training._batch(k) for k in range(5)]).flatten().long()
    assert all(torch.equal(part.sort().values, torch.arange(1, 11)) for part in (seen[:10], seen[10:]))
    assert not torch.equal(seen[:10], seen[10:])
    assert len(Denoiser(width=8, steps=1, batch=25).fit(data, FitContext()).sample(2, torch.Generator())) == 2


def test_divergence_is_reported():
    with pytest.raises(InputError, match=r"(?i)training diverged.*Lower lr"):
        Denoiser(width=8, steps=30, lr=1e30, warmup=0, holdout_every=5).fit(rows(10, 2), FitContext())


@pytest.mark.heavy
def test_a_compiled_fit_is_the_same_fit():
    """Dropout included: its masks come from the fit's generator, which a compiled graph does not take."""
    plain = MLP.fit(rows(20, 3), FitContext(seed=1)).state()
    found = replace(MLP, compile=True).fit(rows(20, 3), FitContext(seed=1)).state()
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    other = replace(MLP, dropout=0.0).fit(rows(20, 3), FitContext(seed=1)).state()
    assert (other["net.out.weight"] - plain["net.out.weight"]).abs().max() > 1e-5, "so the comparison sees the masks"
