"""Masked diffusion of letters: exact against its own chain, the loss, resume, studies, refusals."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import FitContext, LetterModel, Model, build
from driftlaw.learn.denoiser import Optimiser
from driftlaw.learn.discrete.training import masked_loss
from driftlaw.measure.paths.jumps import jump_measures
from driftlaw.seeding import generator

JOINT = np.array([[0.4, 0.1], [0.1, 0.4]])
SMALL = dl.DiscreteDiffusion(
    letters=3, width=8, blocks=1, heads=2, checkpoint_every=4, optimiser=Optimiser(steps=12, warm_steps=9, batch=16)
)


def pairs(n, seed=0):
    code = torch.multinomial(torch.from_numpy(JOINT).ravel(), n, True, generator=generator(seed))
    return torch.stack([code // 2, code % 2], 1).float()


def words(n, length=4, letters=3, seed=0):
    return torch.randint(0, letters, (n, length), generator=generator(seed)).float()


@pytest.fixture(scope="module")
def model():
    config = dl.DiscreteDiffusion(letters=2, width=16, blocks=1, heads=2, optimiser=Optimiser(steps=300, lr=5e-3))
    return config.fit(pairs(4000), FitContext(seed=1, held_out=pairs(2000, 1)))


def test_a_network_on_a_known_law(model):
    """Its own rates, exact: the KL of its chain is small, is bounded by its path, and is what its samples show."""
    chain, rates = model.reverse_rates()
    p = np.zeros((3, 3))
    p[:2, :2] = JOINT
    m = jump_measures(chain, p.ravel(), rates, start=chain.law(p.ravel(), 8.0), t0=0.01, T=8.0)
    assert 0 < m.kl.value < 0.003  # measured 0.0002
    assert m.kl.value <= m.kl_initial.value + m.energy_learned.value / 2
    independent = float((0.25 * np.log(0.25 / JOINT)).sum())
    assert m.kl.value < independent / 50
    drawn = model.sample(20_000, generator(2)).long()
    shares = torch.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=4).double() / 20_000
    assert float((shares - torch.from_numpy(JOINT).ravel()).abs().max()) < 0.03
    entropy = -float((JOINT * np.log(JOINT)).sum()) / 2
    assert abs(model.training["held_out_loss"] - entropy) < 0.12  # 512 draws of rows and masks


def odd_model():
    """A network that was hardly trained: letters depend on what is seen, and its rates are those of no law."""
    rows = words(200, length=3, letters=2, seed=3)
    config = dl.DiscreteDiffusion(
        letters=2, width=8, blocks=1, heads=2, optimiser=Optimiser(steps=100, lr=0.02, warmup=5)
    )
    rows[:, 2] = rows[:, 0]
    return config.fit(rows, FitContext(seed=4))


def test_one_position_at_a_time_is_the_learned_chain():
    model = odd_model()
    chain, rates = model.reverse_rates()
    start = np.zeros(chain.states)
    start[-1] = 1.0  # all masked
    expected = chain.carried(rates, start, 12.0, [1e-4])[0]
    n = 40_000
    drawn = model.sample(n, generator(5)).long()
    code = drawn @ torch.tensor([9, 3, 1])
    shares = torch.bincount(code, minlength=27).double().numpy() / n
    used = expected > 1e-3
    assert used.sum() == 8
    error = abs(shares - expected)[used] / np.sqrt(expected[used] / n)
    assert error.max() < 5.5  # masked with probability 4e-4 still


def test_all_at_once_makes_letters_independent():
    model = odd_model()
    fast = dl.DiscreteDiffusion(**{**vars(model.config), "solver_steps": 1}).load(model.state(), (3,))
    drawn = fast.sample(40_000, generator(6)).double()
    assert abs(float(torch.corrcoef(drawn.T)[0, 2])) < 0.03
    slow = model.sample(40_000, generator(6)).double()
    assert float(torch.corrcoef(slow.T)[0, 2]) > 0.3


def test_the_loss_is_a_bound_of_the_likelihood():
    """A network that says 1/K for every letter costs ln K whatever the masks; a sure one costs nothing."""
    x = words(3000).long()
    g = generator(7)
    share, u = torch.rand(3000, generator=g).clamp(0.05), torch.rand(3000, 4, generator=g)

    def even(codes):
        return torch.zeros(*codes.shape, 3)

    loss = masked_loss(even, x, share, u, 3)
    assert abs(float(loss.mean()) - math.log(3)) < 5 * float(loss.std()) / math.sqrt(3000)

    def sure(codes):
        return 1e4 * torch.nn.functional.one_hot(x, 3).float()

    assert float(masked_loss(sure, x, share, u, 3).max()) == 0

    seen = []

    def spy(codes):
        seen.append(codes)
        return torch.zeros(*codes.shape, 3)

    masked_loss(spy, x, share, u, 3)
    assert torch.equal(seen[0] == 3, u < share[:, None])
    assert torch.equal(seen[0][seen[0] < 3], x[seen[0] < 3])


class Disk:
    def __init__(self, stop=None):
        self.content, self.saves, self.stop = None, 0, stop

    def load(self):
        return None if self.content is None else (load(self.content[0]), json.loads(self.content[1]))

    def save(self, tensors, meta):
        self.content, self.saves = (save(dict(tensors)), json.dumps(meta)), self.saves + 1
        if self.saves == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(stop):
    rows = words(50)
    whole = SMALL.fit(rows, FitContext(seed=1, held_out=words(20, seed=1), checkpoint=Disk()))
    disk = Disk(stop)
    context = FitContext(seed=1, held_out=words(20, seed=1), checkpoint=disk)
    with pytest.raises(KeyboardInterrupt):
        SMALL.fit(rows, context)
    disk.stop = None
    resumed = SMALL.fit(rows, context)
    assert all(torch.equal(v, resumed.state()[k]) for k, v in whole.state().items())
    assert resumed.training == whole.training
    with pytest.raises(InputError, match="belongs to another fit"):
        SMALL.fit(words(50, seed=9), context)


def test_load_and_warm_start():
    model = SMALL.fit(words(50), FitContext(seed=1))
    assert isinstance(model, Model)
    again = SMALL.load(load(save(model.state())), (4,))
    assert torch.equal(again.sample(30, generator(2)), model.sample(30, generator(2)))
    warm = SMALL.fit(words(50, seed=2), FitContext(seed=2, warm_start=model))
    assert warm.training["steps"] == 9
    free = dl.DiscreteDiffusion(width=8, blocks=1, heads=2, optimiser=Optimiser(steps=3, warm_steps=2))
    table = words(40)
    table[:, 0] *= 2  # 0, 2, 4: five letters
    first = free.fit(table)
    assert first.letters.tolist() == [5, 3, 3, 3]
    assert bool((first.sample(500, generator(3))[:, 1:] < 3).all())
    second = free.fit(torch.zeros(40, 4), FitContext(warm_start=first))  # all but one letter lost
    assert second.letters.tolist() == [5, 3, 3, 3]
    with pytest.raises(InputError, match="do not fit"):
        SMALL.load({**model.state(), "net.letters": torch.tensor([3, 3])}, (2,))
    with pytest.raises(InputError, match="not those of a model of such rows"):
        SMALL.load(model.state(), (7,))  # a sequence longer than the model
    with pytest.raises(InputError, match="the warm start do not fit"):
        SMALL.fit(words(20, length=5), FitContext(warm_start=model))


def test_a_study_of_letters(tmp_path):
    np.save(tmp_path / "codes.npy", words(300, seed=5).numpy())
    study = dl.Study(
        source={"kind": "array", "path": str(tmp_path / "codes.npy"), "standardize": False}, estimator=SMALL,
        policy=0.5, samples=60, generations=3, reuse=True, threads=1, measures={"samples": 50, "critic_rows": 0},
    )  # fmt: skip
    whole = list(dl.run(study, tmp_path / "whole"))
    list(itertools.islice(dl.run(study, tmp_path / "part"), 1))
    rest = list(dl.resume(tmp_path / "part"))
    assert [g.to_json() for g in rest] == [g.to_json() for g in whole[1:]]
    assert "frechet" in whole[2].divergence
    assert "held_out_loss" in whole[2].training
    assert isinstance(dl.load(tmp_path / "whole").model(3), LetterModel)
    codes = dl.load(tmp_path / "whole").samples(3)
    assert set(np.unique(codes)) <= {0.0, 1.0, 2.0}


def test_configuration():
    assert build(json.loads(json.dumps(SMALL.config()))) == SMALL
    for settings, words_ in (
        ({"letters": 1}, "letters = 1"),
        ({"width": 10, "heads": 4}, "4 heads do not divide"),
        ({"optimiser": {"patience": 3}}, "patience and validation"),
        ({"optimiser": {"stepz": 3}}, "stepz"),
        ({"solver_steps": 0}, "solver_steps = 0"),
        ({"letterz": 3}, "letters"),
    ):
        with pytest.raises(ConfigError, match=words_):
            build({"kind": "discrete", **settings})


def test_rows_that_are_no_letters():
    good = words(20)
    half, negative, large = good.clone(), good.clone(), good.clone()
    half[3, 1], negative[4, 0], large[5, 2] = 0.5, -1.0, 7.0
    for bad, message in (
        (half, r"1 of 20 rows of the training set hold numbers that are no codes; the first is row 3"),
        (negative, r"the first is row 4"),
        (large, r"row 5 of the training set has letter 7 in column 2, whose alphabet has 3"),
        (torch.zeros(5, 1, 2, 2), "no rows of letters"),
        (good[:0], "training set"),
        (good * torch.nan, "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            SMALL.fit(bad)
    free = dl.DiscreteDiffusion(width=8, heads=2, blocks=1, optimiser=Optimiser(steps=1))
    with pytest.raises(InputError, match="the alphabet of the training set has one letter"):
        free.fit(torch.zeros(20, 4))
    with pytest.raises(InputError, match="no codes"):
        SMALL.fit(good, FitContext(held_out=good + 0.5))
    unseen = free.fit(good.clamp(max=1), FitContext(held_out=good))  # held-out letters that training never saw
    assert np.isfinite(unseen.training["held_out_loss"])
    model = SMALL.fit(good)
    with pytest.raises(InputError, match="letters have no score, but rates"):
        model.score(good, 0.1)
    with pytest.raises(InputError, match="0 samples"):
        model.sample(0)
    with pytest.raises(InputError, match="words of"):
        SMALL.fit(words(20, length=6)).reverse_rates()
