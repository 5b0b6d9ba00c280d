"""Selection in the loop: what is trained on, what is recorded, which drift it made, resume and trust."""

import itertools

import numpy as np
import pytest
import torch
import yaml

import driftlaw as dl
from driftlaw.analysis.selection import split
from driftlaw.errors import ConfigError, InputError, TrustError
from driftlaw.learn.select.reward import Linear
from driftlaw.loop.step.selection import degree_two
from driftlaw.loop.study import read_yaml
from driftlaw.seeding import generator

LAW = dl.GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [0.1, 0.3])
UP = dl.Select(Linear((1.0, 0.0)), "best", of=2)
TRUE = dl.Select(LAW.log_prob, "top", share=0.5)
MEASURES = {"samples": 800, "path_samples": 0, "density_samples": 500, "critic_rows": 0}


def study(**settings):
    values = {"source": LAW, "estimator": dl.KDE(0.5), "policy": 0.1, "samples": 1000, "generations": 3}
    return dl.Study(**(values | {"measures": MEASURES, "threads": 1} | settings))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    found = {"none": study(), "up": study(select=UP), "true": study(select=TRUE)}
    for name, one in found.items():
        list(dl.run(one, folder / name))
    return {name: (dl.load(folder / name), one) for name, one in found.items()}


def test_a_verifier_that_knows_the_target_undoes_drift_and_a_taste_adds_to_it(runs):
    kl = {name: [g.divergence["kl"] for g in history] for name, (history, _) in runs.items()}
    assert kl["none"][0].value == kl["up"][0].value == kl["true"][0].value  # nothing is selected before generation 2
    assert kl["true"][2].high < kl["none"][2].low
    true, up = (runs[name][0][3].selection for name in ("true", "up"))
    assert true["alignment"].low > 0.5
    assert up["alignment"].high < 0
    assert up["reward_after"].low > up["reward_before"].high
    assert true["kept"].value == 0.5
    assert runs["none"][0][3].selection == runs["true"][0][1].selection == {}
    assert runs["up"][0].frame()["selection.kept"].tolist()[1:] == [0.5, 0.5]


def test_the_identity_is_split_into_training_and_selection(runs):
    for name, sign in (("true", 1), ("up", -1)):
        history, own = runs[name]
        found = split(history, rows=3000, study=own)
        total = found.training.value + found.selection.value + found.cross.value
        assert found.drift.value == pytest.approx(total, rel=1e-9)
        assert found.selection.low > 0
        assert sign * found.alignment.value > 0.2
    assert split(runs["true"][0], study=runs["true"][1]).cross.high < 0
    with pytest.raises(InputError, match="selected nothing"):
        split(runs["none"][0])


def test_keeping_all_is_no_selection(tmp_path):
    """The same numbers as without, a selection innovation of zero, and all drift from training."""
    everything = study(select=dl.Select(lambda x: torch.ones(len(x))), generations=2)
    plain, kept = (list(dl.run(s, tmp_path / str(k))) for k, s in enumerate((study(generations=2), everything)))
    assert plain[1].moments == kept[1].moments
    assert kept[1].selection["selection"].value == 0
    assert kept[1].selection["alignment"].is_refused
    found = split(dl.load(tmp_path / "1"), study=everything)
    assert found.selection.value == found.cross.value == 0
    assert found.training.value == found.drift.value


def test_what_is_trained_on_was_selected(tmp_path):
    seen = {}

    class Spy(dl.GaussianMLE):
        def fit(self, data, context):
            seen[context.generation] = data.clone()
            return super().fit(data, context)

    one = study(estimator=Spy(), select=dl.Select(lambda x: x[:, 0] > 1.2), samples=200, generations=3)
    records = list(dl.run(one, tmp_path / "run"))
    for g in (2, 3):
        assert len(seen[g]) == 200
        fresh = records[g - 1].lineage.fresh
        assert fresh == 20
        assert bool((seen[g][fresh:, 0] > 1.2).all())
        assert len(seen[g].unique(dim=0)) == 200  # new draws where the stored ones do not suffice
    stored = torch.from_numpy(dl.load(tmp_path / "run").samples(1))
    used = stored[(stored[:, 0] > 1.2)]
    rows = {tuple(r) for r in seen[2][20:].tolist()}
    assert {tuple(r) for r in used.tolist()} <= rows  # stored ones first
    assert records[1].selection["kept"].value == pytest.approx(len(used) / 200)


def test_degree_two_is_orthonormal_for_a_standard_normal():
    x = torch.randn(200_000, 3, generator=generator(1), dtype=torch.float64)
    psi = degree_two(lambda x: x)(x)
    assert psi.shape[1] == 9
    assert float(psi.mean(0).abs().max()) < 0.02
    assert float((psi.T @ psi / len(x) - torch.eye(9)).abs().max()) < 0.05
    assert degree_two(lambda x: x)(torch.zeros(2, 20)).shape == (2, 40)


def test_a_run_that_stopped_goes_on_to_the_same_numbers(tmp_path):
    one = study(select=UP, samples=300)
    whole = list(dl.run(one, tmp_path / "whole"))
    list(itertools.islice(dl.run(one, tmp_path / "part"), 1))
    rest = list(dl.resume(tmp_path / "part"))
    assert [g.to_json() for g in rest] == [g.to_json() for g in whole[1:]]
    assert dl.load(tmp_path / "whole").study().select == UP


def test_yaml_and_settings(tmp_path):
    one = study(select=UP)
    config = yaml.safe_load(one.to_yaml())
    assert dl.Study.from_config(config | {"source": LAW}).select == UP
    assert "select" not in study().config()
    assert one.config()["select"]["selector"] == {"kind": "linear", "direction": [1.0, 0.0]}
    assert one.with_settings({"select.of": 5}).select.of == 5
    assert one.with_settings({"select": None}).select is None
    with pytest.raises(ConfigError, match=r"unknown key 'select\.of'"):
        study().with_settings({"select.of": 5})
    with pytest.raises(ConfigError, match="kind"):
        study(select={"rule": "top"})


def test_an_own_selector_is_never_swapped_and_never_run_unasked(tmp_path):
    one = study(select=dl.Select(lambda x: x[:, 0]), samples=60, generations=2)
    list(itertools.islice(dl.run(one, tmp_path / "run"), 1))
    with pytest.raises(ConfigError, match="the select is a"):
        list(dl.resume(tmp_path / "run"))
    assert len(list(dl.resume(tmp_path / "run", study=one))) == 1
    path = tmp_path / "study.yaml"
    config = {"source": {"kind": "gmm"}, "estimator": "kde", "policy": 0.5}
    for selector, asks in (("torch:numel", True), ({"kind": "function", "function": "torch:numel"}, True),
                           ({"kind": "linear", "direction": [1.0] * 10}, False)):  # fmt: skip
        path.write_text(yaml.safe_dump(config | {"select": {"kind": "select", "selector": selector}}))
        if asks:
            with pytest.raises(TrustError, match="import and call the function"):
                read_yaml(path)
        else:
            assert read_yaml(path)["select"]["selector"] == selector


def test_bad_selectors_stop_the_run_with_a_reason(tmp_path):
    for name, select, words in (
        ("empty", dl.Select(lambda x: x[:, 0] > 99), "keeps 0 of"),
        ("nan", dl.Select(lambda x: x[:, 0] * torch.nan), "NaN or infinite for 60 of 60"),
        ("constant", dl.Select(lambda x: torch.ones(len(x)), "best"), "nothing to rank by"),
    ):
        with pytest.raises(InputError, match=words):
            list(dl.run(study(select=select, samples=60), tmp_path / name))
        assert len(dl.load(tmp_path / name)) == 1  # what was made before is kept

    def bootstrap(rows, context):
        return lambda n, g: rows[torch.randint(len(rows), (n,), generator=g)]

    few = study(estimator=dl.CallableEstimator(bootstrap), select=TRUE, samples=60)
    with pytest.raises(InputError, match="its stored samples are all there are"):
        list(dl.run(few, tmp_path / "program"))
    half = few.with_settings({"policy": 0.6})
    assert len(list(dl.run(half))) == 3


def test_a_network_is_measured_on_selected_rows(tmp_path):
    net = dl.Denoiser(width=16, steps=20, warm_steps=10, batch=16, solver_steps=4)
    measures = {"samples": 150, "path_samples": 100, "density_samples": 200, "critic_rows": 100}
    one = study(estimator=net, select=dl.Select(lambda x: x[:, 0] > 0), samples=150, generations=2, measures=measures)
    records = list(dl.run(one, tmp_path / "run"))
    assert records[0].path.known
    assert not records[1].path.known  # the selected law has no density here
    assert not records[1].path.gradient_energy.is_refused
    found = dl.bounds(dl.load(tmp_path / "run"), study=one)
    assert any("training and selection together" in note for note in found.notes)
    assert np.isfinite(records[1].selection["reward_after"].value)
