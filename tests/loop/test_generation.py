"""One generation: rows drawn to the policy's row, with their lineage, replayable alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import driftlaw as dl
from driftlaw.loop.step.setting import Past, Setting, training_set, unseen_rows
from driftlaw.loop.step.training import largest_remainder

N = 60


def setting(policy, generations=6, **more) -> Setting:
    study = dl.Study(
        source=dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0),
        estimator=dl.KDE(0.1),
        policy=policy,
        samples=N,
        generations=generations,
        **more,
    )
    return Setting(study)


def marked(s: Setting) -> Past:
    """Samples of generation j are the constant 100 + j, so that a training row tells where it came from."""
    real = s.supply.take(N, 0).batch.x
    return Past(lambda j: real if j == 0 else torch.full((N, 2), 100.0 + j), lambda j: None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda w: sum(w) > 0.01), st.integers(1, 500))
@settings(max_examples=2 * settings().max_examples)
def test_counts_round_to_within_one_and_sum_exactly(weights, total):
    w = np.array(weights)
    counts = largest_remainder(w, total)
    assert counts.sum() == total
    assert (np.abs(counts - w / w.sum() * total) <= 1 + 1e-6).all()
    assert (counts >= 0).all()


@pytest.mark.parametrize(
    ("policy", "index", "expected"),
    [
        (dl.FixedFraction(0.25), 1, {"real": 60}),
        (dl.FixedFraction(0.25), 4, {"real": 15, 3: 45}),
        (dl.Replace(), 4, {"real": 0, 3: 60}),
        (dl.FixedFraction(1.0), 4, {"real": 60}),
        (dl.Accumulate(), 4, {"real": 60, 1: 60, 2: 60, 3: 60}),
        (dl.AccumulateSubsample(), 4, {"real": 15, 1: 15, 2: 15, 3: 15}),
        (dl.Window(2, fresh=0.5), 5, {"real": 30, 3: 15, 4: 15}),
        (dl.Schedule([0.0, 0.5, 0.0, 1.0]), 4, {"real": 60}),
    ],
)
def test_training_set_follows_the_policys_row(policy, index, expected):
    s = setting(policy, generations=4 if isinstance(policy, dl.Schedule) else 6)
    rows, lineage = training_set(s, index, marked(s))
    origin = {j: int((rows[:, 0] == 100.0 + j).sum()) for j in range(1, index)}
    assert {k: v for k, v in origin.items() if v} == {k: v for k, v in expected.items() if k != "real"}
    assert lineage.real == expected["real"] == int((rows[:, 0] < 50).sum())
    assert dict(lineage.models) == {k: v for k, v in expected.items() if k != "real"}
    assert len(rows) == lineage.total


def test_fresh_rows_are_new_in_every_generation():
    s = setting(dl.FixedFraction(0.5))
    seen = torch.cat([training_set(s, i, marked(s))[0] for i in range(1, 7)])
    real = seen[seen[:, 0] < 50]
    assert len(real) == N + 5 * N // 2
    assert len(torch.unique(real, dim=0)) == len(real)


def test_accumulate_keeps_the_same_real_rows():
    s = setting(dl.Accumulate())
    real = [rows[rows[:, 0] < 50] for rows, _ in (training_set(s, i, marked(s)) for i in (1, 3))]
    assert torch.equal(real[0].sort(0).values, real[1].sort(0).values)


def test_any_generation_replays_alone():
    a, b = setting(dl.FixedFraction(0.3)), setting(dl.FixedFraction(0.3))
    for i in (1, 2, 3):
        training_set(a, i, marked(a))
    assert torch.equal(training_set(a, 5, marked(a))[0], training_set(b, 5, marked(b))[0])


def test_multinomial_counts_are_independent_draws_of_the_row():
    """Mean of the real count over 4000 generations-by-seed: binomial, false-failure rate 6e-5 (4 standard errors)."""
    counts = [setting(dl.FixedFraction(0.3), mixing="multinomial", seed=k).counts(3)[0] for k in range(4000)]
    assert abs(np.mean(counts) - 0.3 * N) < 4 * np.sqrt(N * 0.3 * 0.7 / 4000)
    assert abs(np.var(counts) / (N * 0.3 * 0.7) - 1) < 4 * np.sqrt(2 / 4000)


def test_reuse_is_counted():
    x = np.random.default_rng(0).normal(size=(100, 2)).astype("float32")
    study = dl.Study(
        source=x, estimator=dl.KDE(0.1), policy=0.5, samples=50, generations=5, reuse=True, measures={"samples": 0}
    )
    s = Setting(study)
    real = s.supply.take(50, 0).batch.x
    past = Past(lambda j: real if j == 0 else torch.full((50, 2), 100.0), lambda j: None)
    lineages = [training_set(s, i, past)[1] for i in range(1, 6)]
    assert [line.reused for line in lineages] == [0, 0, 25, 25, 25]
    assert [line.fresh for line in lineages] == [50, 25, 0, 0, 0]


def test_population_tails_are_those_of_the_papers_mixture():
    """Theory section 6: v_{i+1} = e^{-t0}(v_i + h^2) + 1 - e^{-t0} from v_0 = 0.36."""
    study = dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6, t0=0.02), policy=0.5, samples=10, generations=3
    )
    v = [0.36]
    for _ in range(3):
        v.append(np.exp(-0.02) * (v[-1] + 0.36) + 1 - np.exp(-0.02))
    assert Setting(study).population_tails == pytest.approx(v, rel=1e-12)


@pytest.mark.parametrize(
    ("policy", "index", "expected"),
    [
        (dl.FixedFraction(0.25), 1, {0: 60}),
        (dl.FixedFraction(0.25), 4, {0: 25, 3: 75}),
        (dl.FixedFraction(0.75), 4, {0: 60, 3: 20}),  # the held-out rows limit it
        (dl.Replace(), 4, {3: 100}),
        (dl.Window(2, fresh=0.5), 5, {0: 50, 3: 25, 4: 25}),
    ],
)
def test_unseen_rows_have_the_policys_proportions_and_trained_nobody(policy, index, expected):
    s = setting(policy, measures={"critic_rows": 100})
    drawn = []

    class Model:
        def __init__(self, j):
            self.j = j

        def sample(self, n, generator):
            drawn.append((self.j, n))
            return torch.full((n, 2), 1000.0 + self.j)

    real = s.supply.take(N, 0).batch.x
    stored = {j: 100.0 + j + torch.arange(N * 2).reshape(N, 2) / 1000 for j in range(1, index)}
    past = Past(lambda j: stored[j] if j else real, Model)
    found = unseen_rows(s, index, past)
    origin = {j: int(((found[:, 0] % 900).floor() == 100 + j).sum()) for j in range(1, index)}
    origin[0] = int((found[:, 0] < 50).sum())
    assert {k: v for k, v in origin.items() if v} == expected
    trained = {tuple(row) for i in range(1, index + 1) for row in training_set(s, i, past)[0].tolist()}
    assert not trained & {tuple(row) for row in found.tolist()}
    latest = expected.get(index - 1, 0) if index > 1 else 0
    used = s.counts(index)[1][index - 1] if index > 1 else 0
    assert dict(drawn).get(index - 1, 0) == max(0, latest - (N - used))


def test_no_critic_when_it_is_switched_off(tmp_path):
    study = dl.Study(
        source="digits", estimator=dl.KDE(0.5), policy=0.5, samples=80, generations=1, measures={"critic_rows": 0}
    )
    (g,) = dl.run(study, out=tmp_path / "run")
    assert not list(g.path.items())
