"""Learners are told where each row came from and of which class it is; their samples can carry classes."""

import json
import math
import sys

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import InputError
from driftlaw.loop.step.setting import Past, Setting, provenance

OFF = {"samples": 0, "path_samples": 0, "critic_rows": 0, "density_samples": 100}
LAW = dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
SEEN = []


class Notes(dl.GaussianMLE):
    """Keeps what it is told."""

    kind = "test-notes"
    order_free = False

    def fit(self, data, context=None):
        SEEN.append((data.clone(), context.origin, context.labels))
        return super().fit(data)


def table(path, n=400, classes=3):
    """Three far apart classes in a CSV with a label column."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, 2)) * 0.3 + 4 * np.eye(classes, 2)[y]
    lines = [f"{a:.4f},{b:.4f},{'abc'[k]}" for (a, b), k in zip(x, y, strict=True)]
    path.write_text("u,v,kind\n" + "\n".join(lines) + "\n")
    return {"kind": "array", "path": str(path), "label": "kind"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (dl.FixedFraction(0.25), {0: 10, 2: 30}),
        (dl.Accumulate(), {-1: 40, 1: 40, 2: 40}),
        (dl.Window(2, fresh=0.5), {0: 20, 1: 10, 2: 10}),
    ],
)
def test_origin_says_where_each_row_came_from(policy, expected):
    SEEN.clear()
    study = dl.Study(source=LAW, estimator=Notes(), policy=policy, samples=40, generations=3, measures=OFF)
    records = list(dl.run(study))
    _data, origin, labels = SEEN[-1]
    assert {int(k): int(c) for k, c in zip(*origin.unique(return_counts=True), strict=True)} == expected
    assert labels is None
    assert records[-1].lineage.real == sum(c for k, c in expected.items() if k < 1)
    assert not bool((origin.diff() >= 0).all())
    assert not bool((origin.diff() <= 0).all())
    assert int((SEEN[0][1] == 0).sum()) == 40  # generation 1 is fresh


def test_shuffling_keeps_rows_with_their_origin_and_is_the_same_again():
    study = dl.Study(source=LAW, estimator=Notes(), policy=0.5, samples=40, generations=2, measures=OFF)
    setting = Setting(study)
    marked = Past(lambda j: torch.full((40, 2), 100.0 + j), lambda j: None, lambda j: torch.arange(40) % 2)
    plain = provenance(setting, 2, marked)
    mixed = plain.shuffled(setting.stream("generation", 2, "shuffle"))
    assert torch.equal(mixed.rows[:, 0] > 50, mixed.origin == 1)
    assert torch.equal(mixed.labels >= 0, mixed.origin == 1)  # the source has no classes
    assert not torch.equal(mixed.rows, plain.rows)
    assert torch.equal(mixed.rows, plain.shuffled(setting.stream("generation", 2, "shuffle")).rows)


def test_learners_that_need_no_order_get_the_rows_as_before():
    """Old runs keep their numbers: only learners of one's own see shuffled rows."""
    SEEN.clear()
    study = dl.Study(source=LAW, estimator=Notes(), policy=0.5, samples=40, generations=1, measures=OFF)
    list(dl.run(study))
    block = provenance(Setting(study), 1, Past(lambda j: None, lambda j: None)).rows
    assert not torch.equal(SEEN[0][0], block)
    assert torch.equal(SEEN[0][0].sort(dim=0).values, block.sort(dim=0).values)
    for estimator in (dl.KDE(), dl.GaussianMLE(), dl.MixtureEM(2), dl.Denoiser(steps=1), dl.FlowMatching(steps=1)):
        assert estimator.order_free


PROGRAM = """
import json, sys
import numpy as np

job = json.load(open(sys.argv[1]))
x, origin, labels = (np.load(job[k]) for k in ("training", "origin", "labels"))
assert len(x) == len(origin) == len(labels), "one each"
assert set(origin) <= {0, job["generation"] - 1} and labels.min() >= 0
pick = np.random.default_rng(job["seed"]).integers(0, len(x), job["samples"])
np.save(job["samples_file"], x[pick])
np.save(job["labels_file"], labels[pick])
print(json.dumps([job["generation"], sorted(set(origin.tolist())), job["classes"]]))
"""


def test_a_program_gets_origin_and_labels_as_files_and_gives_labels_back(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    command = dl.Command((sys.executable, str(tmp_path / "train.py")))
    study = dl.Study(source=table(tmp_path / "t.csv"), estimator=command, policy=0.5, samples=90, generations=3,
                     measures={"samples": 60, "critic_rows": 0})  # fmt: skip
    records = list(dl.run(study, tmp_path / "run"))
    history = dl.load(tmp_path / "run")
    log = (tmp_path / "run/generations/003/command.log").read_text()
    assert json.loads(log) == [3, [0, 2], ["a", "b", "c"]]
    for g in records:
        y = history.labels(g.index)
        assert y.shape == (90,)
        assert "labels.npy" in g.files
        assert g.by_class["a"]["share"].value == pytest.approx(float((y == 0).mean()))
        x = history.samples(g.index)  # a row still is of the class that its program said
        assert len({tuple(np.sign(x[y == c].mean(0)).astype(int)) for c in range(3)}) == 3
    assert records[-1].by_class["b"]["recognised"].value == 1.0
    assert list(dl.resume(tmp_path / "run")) == []


def test_a_function_is_told_origin_and_labels_and_may_return_labels(tmp_path):
    def fit(rows, context):
        assert len(context.origin) == len(context.labels) == len(rows)
        return lambda n, g: (rows[:n], context.labels[:n])

    study = dl.Study(source=table(tmp_path / "t.csv"), estimator=dl.CallableEstimator(fit), policy=0.5, samples=90,
                     generations=2, measures={"samples": 60, "critic_rows": 0})  # fmt: skip
    last = list(dl.run(study, tmp_path / "run"))[-1]
    assert sum(e["share"].value for e in last.by_class.values()) == pytest.approx(1)

    def wrong(rows, context):
        return lambda n, g: (rows[:n], torch.full((n,), 3))

    with pytest.raises(InputError, match="labels from 3 to 3 for 3 classes"):
        list(dl.run(study.with_settings({"estimator": dl.CallableEstimator(wrong)})))


class Weighted:
    """Independent Gaussian coordinates; real rows have weight w in means and variances, whatever their number.

    mean_t = w mean(real) + (1 - w) mean(synthetic), var_t = w var(real) + (1 - w) var(synthetic), both unbiased.
    """

    def __init__(self, w):
        self.w = w

    def fit(self, data, context=None):
        x, real = data.double(), context.origin <= 0
        parts = [(1.0, x)] if bool(real.all()) else [(self.w, x[real]), (1 - self.w, x[~real])]
        return Normal(sum(w * p.mean(dim=0) for w, p in parts), sum(w * p.var(dim=0) for w, p in parts))

    def load(self, state, shape):
        return Normal(state["mean"], state["variance"])

    def config(self):
        return {"kind": "test-weighted", "w": self.w}


class Normal:
    def __init__(self, mean, variance):
        self.mean, self.variance = mean, variance

    def sample(self, n, generator=None):
        z = torch.randn(n, len(self.mean), generator=generator, dtype=torch.float64)
        return (self.mean + self.variance.sqrt() * z).float()

    def state(self):
        return {"mean": self.mean, "variance": self.variance}


def golden(k):
    """w* = (sqrt(k^2 + 4k) - k)/2 of arXiv 2502.18049, k real rows for each synthetic one."""
    return (math.sqrt(k * k + 4 * k) - k) / 2


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_golden_ratio_weighting_has_its_closed_form(k, tmp_path):
    r"""Errors of mean and variance of N(0, 1) after many generations, by one's own learner from origin alone.

    With n real and m = n/k synthetic rows, u = (1-w)^2: Var mean -> (w^2/n + u/m)/(1 - u), least at w = w*, and, with
    chi-square variances, Var var -> 2 (w^2/(n-1) + u/(m-1)) / (1 - u (1 + 2/(m-1))). 2000 independent coordinates, 10
    generations (u^10 < 1e-6); 4.5 standard errors of the mean square: fewer than 1e-5 each.
    """
    d, alpha, samples = 2000, k / (1 + k), 120
    n = round(alpha * samples)
    m = samples - n
    law = dl.GaussianMixture([1.0], [[0.0] * d], 1.0)
    found = {}
    for w in (golden(k), alpha):
        study = dl.Study(source=law, estimator=Weighted(w), policy=alpha, samples=samples, generations=10, measures=OFF)
        list(dl.run(study, tmp_path / f"{w:.3f}"))
        model = dl.load(tmp_path / f"{w:.3f}").model(10, study=study)
        u = (1 - w) ** 2
        exact = {
            "mean": (w**2 / n + u / m) / (1 - u),
            "variance": 2 * (w**2 / (n - 1) + u / (m - 1)) / (1 - u * (1 + 2 / (m - 1))),
        }
        for name, error in (("mean", model.mean), ("variance", model.variance - 1)):
            square = error.square()
            z = (float(square.mean()) - exact[name]) / (float(square.std()) / math.sqrt(d))
            assert abs(z) < 4.5, (name, w, z)
        found[w] = exact["mean"]
    assert found[golden(k)] < found[alpha]  # the pooled estimator is the worse one
    assert golden(1.0) == pytest.approx((math.sqrt(5) - 1) / 2)
