"""Training sets of sizes that change: counts, lineage and the recorded alpha are those of the rows used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import ConfigError
from driftlaw.loop.cost import cost
from driftlaw.loop.own import own_parts

SMALL = {"samples": 24, "density_samples": 100, "path_samples": 0, "critic_rows": 0}
LAW = dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])


def study(samples, policy, generations=4, **changes):
    settings = {"estimator": dl.GaussianMLE(), "measures": SMALL, "seed": 2} | changes
    return dl.Study(source=LAW, policy=policy, samples=samples, generations=generations, **settings)


def lineages(made, out=None):
    return [(g.lineage.real, dict(g.lineage.models)) for g in dl.run(made, out)]


CASES = {
    "list": ([40, 60, 30, 50], dl.FixedFraction(0.5), [(40, {}), (30, {1: 30}), (15, {2: 15}), (25, {3: 25})]),
    "growing": (
        {"kind": "growing", "start": 40, "factor": 1.5}, dl.Replace(),
        [(40, {}), (0, {1: 60}), (0, {2: 90}), (0, {3: 135})],
    ),
    "accumulate": (
        [40, 60, 30, 50], dl.Accumulate(),
        [(40, {}), (40, {1: 60}), (40, {1: 60, 2: 30}), (40, {1: 60, 2: 30, 3: 50})],
    ),
    "capped": (
        [40, 80, 40, 40], dl.Accumulate(cap=100),
        [(40, {}), (33, {1: 67}), (25, {1: 50, 2: 25}), (20, {1: 40, 2: 20, 3: 20})],
    ),
    "subsample": (
        [40, 80, 40, 40], dl.AccumulateSubsample(),
        [(40, {}), (27, {1: 53}), (10, {1: 20, 2: 10}), (8, {1: 16, 2: 8, 3: 8})],
    ),
    "fixed-real": ([30, 270, 270, 270], dl.FixedReal(), [(30, {}), (30, {1: 270}), (30, {2: 270}), (30, {3: 270})]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_the_blocks(tmp_path, name):
    samples, policy, expected = CASES[name]
    made = study(samples, policy)
    assert lineages(made, tmp_path / "a") == expected
    history = dl.load(tmp_path / "a")
    for g, (real, models) in zip(history, expected, strict=True):
        total = real + sum(models.values())
        assert g.alpha == real / total
        weights = [*g.mixing]
        if name not in ("capped", "subsample"):  # rounded to whole rows there
            shares = [g.lineage.real / total - g.fresh, *(models.get(j, 0) / total for j in range(1, g.index))]
            np.testing.assert_allclose(weights, shares if g.index > 1 or g.fresh else [1 - g.fresh], atol=1e-12)
    assert [p.total for p in cost(made).generations] == [r + sum(m.values()) for r, m in expected]
    assert history.study().is_described_by(history.config)


def test_a_fixed_real_set_is_drawn_once():
    seen = []

    def remember(data, context):
        seen.append(data)
        return lambda n, g: 50 + torch.rand(n, 2, generator=g)

    made = study([30, 60, 60], dl.FixedReal(), 3, estimator=dl.CallableEstimator(remember))
    list(dl.run(made))
    real = [rows[rows[:, 0] < 40] for rows in seen]
    first = {tuple(row.tolist()) for row in real[0]}
    assert len(first) == 30
    assert all({tuple(row.tolist()) for row in rows} == first for rows in real[1:])


def test_bounds_take_the_sizes_into_the_propagator(tmp_path):
    list(dl.run(study([40, 60, 30, 50], dl.Accumulate()), tmp_path / "a"))
    rows = [g.mixing for g in dl.load(tmp_path / "a")]
    np.testing.assert_allclose(rows[3], np.array([40, 60, 30, 50]) / 180, rtol=1e-12)
    assert dl.bounds(dl.load(tmp_path / "a"), samples=200).statements


def doubling(k):
    """A rule by name."""
    return 30 * 2 ** (k - 1)


def test_rules_of_ones_own_are_used_described_and_extended(tmp_path):
    made = study(doubling, dl.Replace(), 2)
    assert made.config()["samples"] == {"function": "test_block_sizes:doubling"}
    assert not own_parts(made)
    list(dl.run(made, tmp_path / "a"))
    assert [dict(g.lineage.models) for g in dl.extend(tmp_path / "a", generations=4)] == [{2: 120}, {3: 240}]
    list(dl.run(study(doubling, dl.Replace(), 4), tmp_path / "b"))
    names = ("journal.jsonl", "config.yaml")
    assert [(tmp_path / "a" / n).read_bytes() for n in names] == [(tmp_path / "b" / n).read_bytes() for n in names]
    hidden = study(lambda k: 30 + k, dl.Replace(), 2)
    assert "samples" in own_parts(hidden)
    list(dl.run(hidden, tmp_path / "c"))
    with pytest.raises(ConfigError, match=r"samples is a .* of your own"):
        dl.resume(tmp_path / "c")


def test_a_list_is_never_continued_silently(tmp_path):
    with pytest.raises(ConfigError, match="samples lists 2 sizes for 3 generations"):
        study([40, 50], dl.Replace(), 3)
    list(dl.run(study([40, 50], dl.Replace(), 2), tmp_path / "a"))
    with pytest.raises(ConfigError, match="samples lists 2 sizes for 3"):
        dl.extend(tmp_path / "a", generations=3)
    list(dl.run(study([40, 50, 60], dl.Replace(), 2), tmp_path / "b"))
    assert len(list(dl.extend(tmp_path / "b", generations=3))) == 1


def test_whole_blocks_are_not_drawn_by_chance():
    with pytest.raises(ConfigError, match="multinomial needs a policy of fixed size"):
        dl.run(study([30, 60], dl.FixedReal(), 2, mixing="multinomial"))
    list(dl.run(study([30, 60], dl.FixedFraction(0.5), 2, mixing="multinomial")))


class Tail:
    """A policy of one's own with blocks: the last two models whole, and the real set."""

    def rows(self, N):
        return self.rows_of_blocks(np.ones(N))[:2]

    def rows_of_blocks(self, sizes):
        mixing = np.zeros((len(sizes), len(sizes) + 1))
        for i in range(len(sizes)):
            for j in {0, i, max(i - 1, 0)}:
                mixing[i, j] = sizes[j]
        totals = mixing.sum(axis=1)
        return np.zeros(len(sizes)), mixing / totals[:, None], totals

    def config(self):
        return {"kind": "test-tail"}


def test_a_policy_of_ones_own_may_have_blocks():
    found = lineages(study([30, 50, 40, 60], Tail()))
    assert found == [(30, {}), (30, {1: 50}), (30, {1: 50, 2: 40}), (30, {2: 40, 3: 60})]
