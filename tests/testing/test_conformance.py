"""The conformance suite passes what keeps its contract, built in or own, and names what does not."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import integrate

import driftlaw as dl
from driftlaw.data.builtin import digits, gmm
from driftlaw.data.source import Batch
from driftlaw.kinds import ESTIMATORS, POLICIES
from driftlaw.learn.drawn import DrawnSamples
from driftlaw.testing import ConformanceError, check_estimator, check_policy, check_source

QUICK = {"width": 8, "steps": 3, "warm_steps": 2, "batch": 16, "solver_steps": 2}


class LaplaceModel:
    """Independent Laplace coordinates: draws and a log density, and no score."""

    def __init__(self, centre, scale):
        self.centre, self.scale = centre, scale

    def sample(self, n, generator=None):
        u = torch.rand(n, len(self.centre), generator=generator, dtype=torch.float64) - 0.5
        return (self.centre - self.scale * u.sign() * torch.log1p(-2 * u.abs() * (1 - 1e-12))).float()

    def log_prob(self, x):
        return (-(x.double() - self.centre).abs() / self.scale - torch.log(2 * self.scale)).sum(dim=1)

    def score(self, x, t):
        raise NotImplementedError

    def state(self):
        return {"centre": self.centre, "scale": self.scale}


class Laplace:
    """An own learner that is known by its density alone."""

    def fit(self, data, context=None):
        x = data.double()
        centre = x.median(dim=0).values
        return LaplaceModel(centre, (x - centre).abs().mean(dim=0))

    def load(self, state, shape):
        return LaplaceModel(state["centre"], state["scale"])

    def config(self):
        return {"kind": "test-laplace"}


class Bootstrap:
    """An own learner that resamples its rows, only fresh ones where their origin is told."""

    def fit(self, data, context=None):
        rows = data if context is None or context.origin is None else data[context.origin == 0]
        g = torch.Generator().manual_seed(context.seed if context else 0)
        count = (context.samples if context else 0) or len(data)
        return DrawnSamples(rows[torch.randint(len(rows), (count,), generator=g)], "a bootstrap")

    def load(self, state, shape):
        return DrawnSamples(state["rows"], "a bootstrap")

    def config(self):
        return {"kind": "test-bootstrap"}


class Halving:
    """A growing policy of blocks that halve with age."""

    grows = True

    def rows(self, N):
        fresh, mixing = np.zeros(N), np.zeros((N, N + 1))
        for i in range(N):
            fresh[i] = 0.5
            age = 0.5 ** np.arange(i + 1)[::-1]
            mixing[i, : i + 1] = 0.5 * age / age.sum() if i < 2 else 0.5 / (i + 1)
        return fresh, mixing

    def config(self):
        return {"kind": "test-halving"}


class Rings:
    """An endless own source with classes."""

    name, shape, size, classes = "rings", (2,), None, ("inner", "outer")

    def draw(self, n, generator):
        y = torch.randint(2, (n,), generator=generator)
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        return Batch((1 + y)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), y)

    def rows(self, index):
        raise dl.InputError("rings are endless", "use draw")

    def held_out(self, n, generator):
        return self.draw(n, generator)

    def config(self):
        return {"kind": "test-rings"}


@pytest.mark.parametrize("kind", [k for k in ESTIMATORS.names() if not k.startswith("test-")])
def test_every_built_in_learner_conforms(kind):
    if kind in {"denoiser", "flow"}:
        made = ESTIMATORS.build({"kind": kind, **QUICK})
        check_estimator(made, n=40)
        check_estimator(ESTIMATORS.build({"kind": kind, **QUICK, "conditional": True, "guidance": 1.0}), n=40)
    elif kind in {"command", "callable"}:
        pytest.skip("a program or function of the user; below")
    elif kind == "discrete":
        codes = torch.randint(3, (60, 4), generator=torch.Generator().manual_seed(0)).float()
        few = {"width": 8, "blocks": 1, "heads": 2, "optimiser": {"steps": 3, "warm_steps": 2, "batch": 16}}
        check_estimator(ESTIMATORS.build({"kind": kind, **few}), rows=codes)
    elif kind == "guided":
        check_estimator(ESTIMATORS.build({"kind": kind, "estimator": {"kind": "denoiser", **QUICK}}), n=40)
    else:
        made = ESTIMATORS.build({"kind": kind, **({"components": 2} if kind == "mixture-em" else {})})
        check_estimator(made)
        check_estimator(made, shape=(1, 2, 2))


def fair(rows, context):
    return lambda n, g: rows[torch.randint(len(rows), (n,), generator=g)]


def test_functions_and_own_learners_conform():
    check_estimator(dl.CallableEstimator(fair))
    check_estimator(Laplace())
    check_estimator(Bootstrap())


@pytest.mark.parametrize("kind", [k for k in POLICIES.names() if not k.startswith("test-")])
def test_every_built_in_policy_conforms(kind):
    settings = {
        "fixed": {"alpha": 0.3},
        "schedule": {"alphas": [1, 0.5, 0, 0.25]},
        "window": {"k": 2, "fresh": 0.1},
        "adaptive": {"budget": 0.1, "horizon": 4},
    }
    check_policy(POLICIES.build({"kind": kind, **settings.get(kind, {})}), generations=4)


def test_own_policies_and_sources_conform():
    check_policy(Halving())
    check_source(Rings())
    check_source(digits())
    check_source(gmm())
    table = np.random.default_rng(0).integers(0, 3, size=(60, 1)).astype(float)
    check_source(dl.Study(source=table, estimator="kde", policy=0.5).source)  # rows that repeat by nature


@dataclass(frozen=True)
class Twin(dl.GaussianMLE):
    """Describes itself as the built-in one."""


class Global(dl.GaussianMLE):
    kind = "test-global"

    def fit(self, data, context=None):
        return super().fit(data + 0.1 * torch.randn(data.shape))


class Spoils(dl.GaussianMLE):
    kind = "test-spoils"

    def fit(self, data, context=None):
        data.mul_(2)
        return super().fit(data)


class Batchwise(Laplace):
    def fit(self, data, context=None):
        model = super().fit(data)
        model.log_prob = lambda x: torch.zeros(len(x)) + x.mean()
        return model


class Forgetful(Laplace):
    def load(self, state, shape):
        return LaplaceModel(state["centre"], 2 * state["scale"])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Twin(), "builds a GaussianMLE, not a Twin"),
        (Global(), "global random state of torch"),
        (Spoils(), "fit changes the rows"),
        (Batchwise(), "log_prob of a row depends on the other rows"),
        (Forgetful(), r"load\(state\(\)\) gives has other samples"),
        (object(), "has no fit, load, config"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_learner_that_breaks_its_contract_is_named(bad, words):
    with torch.random.fork_rng(), pytest.raises(ConformanceError, match=words) as caught:
        check_estimator(bad)
    assert isinstance(caught.value, AssertionError)


class NoGrowth(Halving):
    grows = None


class Greedy(Halving):
    def rows(self, N):
        mixing = np.zeros((N, N + 1))
        mixing[np.arange(N), np.arange(N)] = 1.0
        return np.zeros(N), mixing


class Short(Halving):
    def rows(self, N):
        fresh, mixing = super().rows(N)
        return fresh * 0.9, mixing


@pytest.mark.parametrize(
    ("bad", "words"), [(NoGrowth(), "grows is not there"), (Greedy(), "60 are stored"), (Short(), "does not sum to 1")]
)
def test_a_policy_that_breaks_its_contract_is_named(bad, words):
    with pytest.raises(ConformanceError, match=words):
        check_policy(bad)


class Unnamed(Rings):
    classes = None


class Stuck(Rings):
    def draw(self, n, generator):
        return super().draw(n, torch.Generator().manual_seed(0))


class Leaks(type(digits())):
    def held_out(self, n, generator):
        return self.draw(n, generator)


def test_a_source_that_breaks_its_contract_is_named():
    for bad, words in ((Unnamed(), "classes has no names"), (Stuck(), "different generators are the same")):
        with pytest.raises(ConformanceError, match=words):
            check_source(bad)
    leaks = digits()
    leaks.__class__ = Leaks
    with pytest.raises(ConformanceError, match="held-out rows are among those"):
        check_source(leaks)


def test_a_density_alone_gives_divergences():
    """KL(Laplace(m, b) || N(0, 1)) = -log(2b) - 1 + log(2 pi)/2 + (m^2 + 2 b^2)/2 a coordinate, and by quadrature."""
    law = dl.GaussianMixture([1.0], [[0.0]], 1.0)
    study = dl.Study(source=law, estimator=Laplace(), policy=0.5, samples=2000, generations=2, measures={"samples": 0})
    records = list(dl.run(study))
    m, b = (float(v) for v in Laplace().fit(_rows(study)).state().values())
    exact = -math.log(2 * b) - 1 + math.log(2 * math.pi) / 2 + (m**2 + 2 * b**2) / 2

    def integrand(x):
        p = math.exp(-abs(x - m) / b) / (2 * b)
        return abs(p - math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)) / 2

    tv = integrate.quad(integrand, -30, 30, points=[m], limit=400)[0]
    found = records[0].divergence
    assert abs(found["kl"].value - exact) < 4.5 * found["kl"].stderr
    assert abs(found["tv"].value - tv) < 4.5 * found["tv"].stderr
    assert set(records[1].one_step) == set(found)  # also against the mixture that generation 2 trained on
    assert not any("score" in w or "density" in w for r in records for w in r.warnings)
    assert not list(records[0].path.items())


def _rows(study):
    from driftlaw.loop.step.setting import Past, Setting, training_set

    return training_set(Setting(study), 1, Past(lambda j: None, lambda j: None))[0]


def test_bounds_of_a_density_alone(tmp_path):
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    study = dl.Study(source=law, estimator=Laplace(), policy=0.5, samples=200, generations=2,
                     measures={"samples": 0, "density_samples": 300})  # fmt: skip
    list(dl.run(study, tmp_path / "run"))
    assert dl.bounds(dl.load(tmp_path / "run"), samples=300, study=study).statements
