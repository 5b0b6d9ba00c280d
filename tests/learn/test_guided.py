"""Negative guidance: exact on Gaussians, predicted by the alignment of two errors, resumed, refused where undefined."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import FitContext, GuidedModel, Model, build
from driftlaw.process.score import Score
from driftlaw.seeding import generator, stream_seed
from driftlaw.testing import check_estimator
from driftlaw.theory.extrapolation import extrapolation

LAW = dl.GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [0.1, 0.3])
NET = dl.Denoiser(width=16, steps=12, warm_steps=10, batch=8, checkpoint_every=4, solver_steps=4)


class Disk:
    """A checkpoint that goes through bytes, as on disk, and stops a fit at its `stop`-th save."""

    def __init__(self, stop=None):
        self.content, self.saves, self.stop = None, 0, stop

    def load(self):
        return None if self.content is None else (load(self.content[0]), json.loads(self.content[1]))

    def save(self, tensors, meta):
        self.content, self.saves = (save(dict(tensors)), json.dumps(meta, allow_nan=False)), self.saves + 1
        if self.saves == self.stop:
            raise KeyboardInterrupt


def normal(mean, variance):
    """A fitted Gaussian in one dimension."""
    n = 20_000
    x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    x = (x - x.mean()) / x.std(correction=0)
    return dl.GaussianMLE().fit((mean + math.sqrt(variance) * x).float())


@pytest.mark.parametrize("solver", ["heun", "sde"])
def test_the_guided_law_of_two_gaussians(solver):
    """Its score is linear, -lambda (x - m): the sampler's mean and variance solve two linear equations."""
    base, other, w, t0, T = normal(0.5, 1.0), normal(0.3, 1.6), 0.8, 0.01, 8.0
    model = GuidedModel(base, other, w, (1,), t0, T, solver, 200 if solver == "sde" else 60)
    points = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    for t in (0.05, 1.0):
        exact = sum(c * law.law.score(points, t) for c, law in ((1 + w, base), (-w, other)))
        torch.testing.assert_close(model.score(points, t), exact)
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64).pow(3) * (T - t0) + t0
    a2 = (-t).exp()
    # precision and precision times mean of either law at t
    parts = [(1 / (a2 * v + 1 - a2), a2.sqrt() * m / (a2 * v + 1 - a2)) for m, v in ((0.5, 1.0), (0.3, 1.6))]
    slope, shift = ((1 + w) * parts[0][k] - w * parts[1][k] for k in (0, 1))
    # reverse time: dx = (x/2 + c (shift - slope x)) du (+ dB), c = 1 for the diffusion and 1/2 for the flow
    c = 1.0 if solver == "sde" else 0.5
    rate = 0.5 - c * slope
    whole = torch.cat([t.new_zeros(1), torch.cumulative_trapezoid(rate, t)])  # int_{t0}^t rate
    grow = whole.exp()
    mean = float(torch.trapezoid(grow * c * shift, t))
    variance = float(grow[-1].square()) + (float(torch.trapezoid(grow.square(), t)) if solver == "sde" else 0.0)
    n = 10_000
    x = model.sample(n, generator(1)).double()
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n) + 0.004
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / n) + 0.02


def test_weights_of_gaussians_are_extrapolated():
    rows = LAW.sample(500, generator(0))
    learner, context = dl.GaussianMLE(), FitContext(seed=3)
    guided = dl.Guided(learner, 0.5, mode="weights").fit(rows, context)
    base = learner.fit(rows)
    own = base.sample(500, generator(3, "guided", "samples"))
    other = learner.fit(own, FitContext(seed=stream_seed(3, "guided", "self")))
    torch.testing.assert_close(guided.law.means, 1.5 * base.law.means - 0.5 * other.law.means)
    torch.testing.assert_close(guided.law.covariances, 1.5 * base.law.covariances - 0.5 * other.law.covariances)


def test_without_weight_it_is_the_learner():
    rows = LAW.sample(300, generator(0))
    plain, x = dl.KDE(0.4, t0=0.02).fit(rows), torch.randn(20, 2, generator=generator(1))
    guided = dl.Guided(dl.KDE(0.4, t0=0.02), 0.0).fit(rows)
    torch.testing.assert_close(guided.score(x, 0.3), plain.score(x, 0.3))
    drawn = guided.sample(3000, generator(2)).double()
    assert float((torch.cov(drawn.T) - torch.cov(plain.sample(20_000, generator(3)).double().T)).abs().max()) < 0.2
    assert guided.t0 == 0.02


def energies(base, other):
    """Gram matrix of the error of the base and of what one more round adds, along the path of the true law."""

    def energy(first, second):
        return dl.path_energy(first, second, LAW, 0.02, 4.0, n=1500, seed=0).value

    a, b, both = energy(base, LAW), energy(other, base), energy(other, LAW)
    cross = (both - a - b) / 2
    return np.array([[a, cross], [cross, b]])


@pytest.mark.heavy
def test_the_alignment_predicts_whether_it_helps():
    """Blur is one bias (kappa near 1, helps); sampling noise of a right model is not (kappa near 0, hurts). 6 seeds."""
    right = dl.MixtureEM(2, "spherical")
    for learner, rows, weight in ((dl.KDE(0.6), 400, 1.0), (right, 400, 1.0)):
        kappas, ratios = [], []
        for seed in range(6):
            data = LAW.sample(rows, generator(seed))
            model = dl.Guided(learner, weight).fit(data, FitContext(seed=seed))
            effect = extrapolation(energies(model.base, model.other))
            measured = dl.path_energy(model, LAW, LAW, 0.02, 4.0, n=1500, seed=0).value
            plain = dl.path_energy(model.base, LAW, LAW, 0.02, 4.0, n=1500, seed=0).value
            assert measured / plain == pytest.approx(effect.error(weight), rel=0.02)  # the same draws
            kappas.append(effect.alignment)
            ratios.append(measured / plain)
        if learner is right:
            assert abs(np.mean(kappas)) < 0.6
            assert np.mean(ratios) > 1.2
        else:
            assert min(kappas) > 0.75
            assert max(ratios) < 0.65


def test_the_effect_of_a_gram_matrix():
    g = generator(4)
    e, more = torch.randn(2, 50, generator=g, dtype=torch.float64).numpy()
    gram = np.array([[e @ e, e @ more], [e @ more, more @ more]])
    effect = extrapolation(gram)
    for w in (0.0, 0.3, 1.7):
        assert effect.error(w) == pytest.approx(float(((e - w * more) ** 2).sum() / (e @ e)))
    assert effect.weight == pytest.approx(max(0.0, (e @ more) / (more @ more)))
    opposed = extrapolation([[1.0, -0.5], [-0.5, 1.0]])
    assert opposed.weight == opposed.limit == 0.0
    assert opposed.error(0.5) > 1
    aligned = extrapolation([[1.0, 0.6], [0.6, 4.0]])
    assert aligned.error(aligned.limit) == pytest.approx(1.0)
    assert aligned.error(aligned.weight) == pytest.approx(1 - aligned.alignment**2)
    for bad in ([[1.0]], [[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[1, math.nan], [math.nan, 1]]):
        with pytest.raises(InputError, match="Gram matrix"):
            extrapolation(bad)


@pytest.mark.parametrize("mode", ["score", "weights"])
def test_networks(mode):
    rows = LAW.sample(64, generator(0))
    learner = dl.Guided(NET, 0.5, mode=mode)
    model = learner.fit(rows, FitContext(seed=1, held_out=LAW.sample(20, generator(1))))
    assert isinstance(model, Model)
    assert isinstance(model, Score)
    assert {"held_out_loss", "self.held_out_loss"} <= set(model.training)
    again = learner.load(load(save(model.state())), (2,))
    x = model.sample(5, generator(2))
    assert torch.equal(again.sample(5, generator(2)), x)
    warm = learner.fit(rows, FitContext(seed=2, warm_start=model))
    assert warm.training["steps"] == NET.warm_steps
    if mode == "weights":
        base = NET.fit(rows, FitContext(seed=1, held_out=LAW.sample(20, generator(1))))
        own = base.sample(64, generator(1, "guided", "samples"))
        second = FitContext(seed=stream_seed(1, "guided", "self"), warm_start=base)
        other = NET.fit(own, second).state()
        name = "net.out.weight"
        torch.testing.assert_close(model.state()[name], 1.5 * base.state()[name] - 0.5 * other[name])


@pytest.mark.parametrize("mode", ["score", "weights"])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(mode, stop):
    """Saves 1 to 3 are of the base, the others of the self model."""
    rows, learner = LAW.sample(64, generator(0)), dl.Guided(NET, 0.5, mode=mode)
    whole = learner.fit(rows, FitContext(seed=1, checkpoint=Disk()))
    disk = Disk(stop)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(rows, FitContext(seed=1, checkpoint=disk))
    disk.stop = None
    saves = disk.saves
    resumed = learner.fit(rows, FitContext(seed=1, checkpoint=disk))
    assert all(torch.equal(v, resumed.state()[k]) for k, v in whole.state().items())
    assert resumed.training == whole.training
    assert disk.saves - saves < 6


def test_a_study(tmp_path):
    """One recursion with a guided learner, read back and resumed; a dry run does not train it."""
    study = dl.Study(
        source=LAW, estimator=dl.Guided(dl.KDE(0.5, t0=0.05), 0.5, solver_steps=8), policy=0.5, samples=100,
        generations=2, measures={"samples": 60, "path_samples": 100, "density_samples": 200, "critic_rows": 100},
    )  # fmt: skip
    records = list(dl.run(study, tmp_path / "run"))
    assert records[0].path.known
    history = dl.load(tmp_path / "run")
    assert isinstance(history.model(2), GuidedModel)
    assert history.study().estimator == study.estimator
    assert not dl.Guided(NET).probes
    assert dl.Guided(dl.KDE()).probes


@pytest.mark.parametrize("learner", [dl.Guided(dl.KDE(0.5, t0=0.05), 0.5, solver_steps=6), dl.Guided(NET, 0.5)])
def test_it_keeps_the_contract(learner):
    check_estimator(learner)


def test_configuration():
    for learner in (dl.Guided(dl.KDE(0.3), 0.7), dl.Guided(NET, mode="weights", rows=10), dl.Guided("gaussian")):
        assert build(json.loads(json.dumps(learner.config()))) == learner
    assert build({"kind": "guided", "estimator": {"kind": "kde", "bandwidth": 0.3}}).estimator == dl.KDE(0.3)
    assert dl.Guided(dl.FlowMatching()).horizon == (1e-3, 8.0)
    assert replace(dl.Guided(dl.KDE()), weight=2).weight == 2.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": -1}, "weight = -1"),
        ({"weight": float("nan")}, "weight = nan"),
        ({"mode": "scores"}, "mode = 'scores'"),
        ({"t0": 9.0}, "t0 = 9.0 is not below T"),
        ({"rows": 1}, "rows = 1"),
        ({"estimator": {"kind": "kdee"}}, "kde"),
        ({"estimator": {"kind": "guided", "estimator": "kde"}}, "guided already"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ConfigError, match=words):
        build({"kind": "guided", "estimator": "kde"} | settings)


def test_what_cannot_be_extrapolated():
    rows = LAW.sample(40, generator(0))
    with pytest.raises(InputError, match="weights of KDE are rows of data"):
        dl.Guided(dl.KDE(0.3), mode="weights").fit(rows)
    with pytest.raises(InputError, match="components, whose order means nothing"):
        dl.Guided(dl.MixtureEM(2), mode="weights").fit(rows)

    def bootstrap(data, context):
        return lambda n, g: data[torch.randint(len(data), (n,), generator=g)]

    with pytest.raises(InputError, match="it has no score"):
        dl.Guided(dl.CallableEstimator(bootstrap)).fit(rows)
    with pytest.raises(InputError, match="are no model"):
        dl.Guided(dl.GaussianMLE(), 100.0, mode="weights").fit(LAW.sample(5, generator(2)))
    with pytest.raises(InputError, match="0 samples"):
        dl.Guided(dl.KDE(0.3)).fit(rows).sample(0)
    with pytest.raises(InputError, match="does not hold a base"):
        dl.Guided(dl.KDE(0.3)).load(dl.KDE(0.3).fit(rows).state(), (2,))
