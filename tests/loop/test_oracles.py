"""Whole recursions against closed forms (theory sections 4 and 6)."""

import math

import pytest
import torch

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.estimator import FitContext
from driftlaw.loop.step.setting import Past, Setting, training_set

PAPER = dl.GaussianMixture.paper()


def recursion(estimator, policy, samples, generations, seed=0, source=PAPER):
    """Samples of p_hat^0..p_hat^N by the loop's own steps, in memory and without measures."""
    study = dl.Study(
        source=source, estimator=estimator, policy=policy, samples=samples, generations=generations, seed=seed
    )
    setting = Setting(study)
    kept = [setting.supply.take(samples, 0).batch.x]
    past = Past(lambda j: kept[j], lambda j: None)
    for n in range(1, generations + 1):
        rows, _ = training_set(setting, n, past)
        kept.append(estimator.fit(rows, FitContext()).sample(samples, setting.stream("generation", n, "sample")))
    return kept


@pytest.mark.parametrize(
    ("alpha", "t0", "drift"),
    [
        (0.1, 0.02, 84.06),
        pytest.param(0.5, 0.02, 21.15, marks=pytest.mark.heavy),
        pytest.param(0.9, 0.02, 11.95, marks=pytest.mark.heavy),
        pytest.param(0.1, 0.0, 108.30, marks=pytest.mark.heavy),
        (0.5, 0.0, 24.66),
        pytest.param(0.9, 0.0, 13.70, marks=pytest.mark.heavy),
    ],
)
def test_second_moment_of_the_papers_study(alpha, t0, drift):
    """KDE h = .6, N = 100,000, 20 generations: drift of E|x|^2 as in theory section 6, within 4 standard errors.

    Each generation adds the sampling noise of its training rows and of its samples, about Var|x|^2 / N each, discounted
    by (1 - alpha)^2 per generation. False-failure rate 6e-5 per case.
    """
    N = 100_000
    last = recursion(dl.KDE(0.6, t0=t0), dl.FixedFraction(alpha), N, 20)[-1].double().square().sum(1)
    stderr = math.sqrt(2 * float(last.var()) / N / (1 - (1 - alpha) ** 2)) / 29.2
    assert abs(float(last.mean()) / 29.2 - 1 - drift / 100) < 4 * stderr
    assert stderr < 0.02, "the test could not see an error"


def test_no_drift_without_error():
    """alpha = 1 and bandwidth 0: every generation is p itself. 4 standard errors of E|x|^2."""
    samples = recursion(dl.KDE(0.0), dl.FixedFraction(1.0), 20_000, 5)
    for x in samples[1:]:
        square = x.double().square().sum(1)
        assert abs(float(square.mean()) - 29.2) < 4 * math.sqrt(2 * float(square.var()) / len(x))


def test_all_fresh_data_stops_accumulation():
    """alpha = 1: generation 5 is as far as generation 1 (the one-step blur); with alpha = 0.1 it is farther."""
    kl = {}
    for alpha in (1.0, 0.1):
        study = dl.Study(
            source=PAPER, estimator=dl.KDE(0.6), policy=alpha, samples=3000, generations=5, seed=1,
            measures={"samples": 0, "density_samples": 4000},
        )  # fmt: skip
        kl[alpha] = [g.divergence["kl"] for g in dl.run(study)]
    first, last = kl[1.0][0], kl[1.0][-1]
    noise = math.hypot(first.stderr, last.stderr) + 0.05 * first.value  # 5 %: two KDEs of independent rows differ
    assert abs(first.value - last.value) < 4 * noise
    assert kl[0.1][-1].low > 2 * kl[0.1][0].high


def test_infinite_chi2_is_said_and_finite_chi2_is_not_denied():
    """Theory section 6: D_i is infinite from i = 1, I_0 likewise, I_1 = chi2(p_hat^2 || q_1) is finite."""
    study = dl.Study(
        source=PAPER, estimator=dl.KDE(0.6, t0=0.02), policy=0.5, samples=2000, generations=3,
        measures={"samples": 0, "density_samples": 1000},
    )  # fmt: skip
    records = list(dl.run(study))
    assert all(g.divergence["chi2"].is_infinite for g in records)
    assert records[0].one_step["chi2"].is_infinite
    assert not any(g.one_step["chi2"].is_infinite for g in records[1:])
    assert all("infinite" in " ".join(g.warnings) for g in records)
    for g in records:
        assert g.divergence["chi2_mix"].value < 1
        assert math.isfinite(g.divergence["kl"].value)


def test_gaussian_collapse_of_replace():
    """Gaussian MLE without fresh data: E v_n = v_0 (1 - 1/m)^n (theory section 7), 600 chains, 4 standard errors."""
    m, n, chains = 10, 8, 600
    law = dl.GaussianMixture([1.0], [[0.0]], 1.0)
    finals = torch.tensor(
        [
            float(recursion_variance(law, m, n, seed))
            for seed in range(chains)
        ],
        dtype=torch.float64,
    )  # fmt: skip
    expected = (1 - 1 / m) ** n
    assert abs(float(finals.mean()) - expected) < 4 * float(finals.std()) / math.sqrt(chains)
    assert float(finals.std()) / math.sqrt(chains) < 0.1 * expected


def recursion_variance(law, m, n, seed):
    study = dl.Study(source=law, estimator=dl.GaussianMLE(), policy="replace", samples=m, generations=n, seed=seed)
    setting = Setting(study)
    kept = [setting.supply.take(m, 0).batch.x]
    past = Past(lambda j: kept[j], lambda j: None)
    for k in range(1, n + 1):
        model = study.estimator.fit(training_set(setting, k, past)[0], FitContext())
        kept.append(model.sample(m, setting.stream("generation", k, "sample")))
    return model.law.covariance()


def test_a_model_that_returns_nan_stops_the_run_with_nothing_half_written(tmp_path):
    class Broken:
        grows = False

        def fit(self, data, context):
            return self

        def load(self, state, shape):
            return self

        def config(self):
            return {"kind": "kde"}

        def state(self):
            return {"x": torch.zeros(1)}

        def score(self, x, t):
            return x

        def sample(self, n, generator):
            x = torch.zeros(n, 10)
            x[7, 3] = float("nan")
            return x

    study = dl.Study(source=PAPER, estimator=Broken(), policy=0.5, samples=30, generations=2, measures={"samples": 0})
    with pytest.raises(InputError, match=r"1 of 30 samples of generation 1.*the first is row 7"):
        list(dl.run(study, tmp_path / "run"))
    assert len(dl.load(tmp_path / "run")) == 0
    assert not (tmp_path / "run/generations/001/samples.npy").exists()
    study.estimator.sample = lambda n, generator: torch.zeros(n, 10)  # repaired by its author
    assert len(list(dl.resume(tmp_path / "run", study=study))) == 2
    with pytest.raises(ConfigError, match="not the one"):
        dl.resume(tmp_path / "run", study=study.model_copy(update={"samples": 31}))
