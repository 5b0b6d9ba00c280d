"""Settings of a denoiser, in groups and without: one object, and files of 0.1.0 as before."""

import copy
import pickle
from dataclasses import fields, replace

import pytest
import yaml

import driftlaw as dl
from driftlaw.cli.options import study_from
from driftlaw.errors import ConfigError
from driftlaw.learn import build
from driftlaw.learn.denoiser import Chain, Network, Optimiser, Sampling
from driftlaw.learn.denoiser.config import GROUP_OF

GROUPED = dl.Denoiser(
    network=Network(net="unet", width=8, multipliers=(1, 2)),
    optimiser=Optimiser(steps=20, lr=0.01),
    chain=Chain(diffusion_steps=900),
    sampling=Sampling(solver_steps=5),
    noise="ddpm",
)
FLAT = {"net": "unet", "width": 8, "multipliers": [1, 2], "steps": 20, "lr": 0.01, "diffusion_steps": 900,
        "solver_steps": 5, "noise": "ddpm"}  # fmt: skip


def test_a_setting_with_its_group_and_without():
    assert dl.Denoiser(**FLAT) == GROUPED
    assert hash(dl.Denoiser(**FLAT)) == hash(GROUPED)
    assert build({"kind": "denoiser", **FLAT}) == GROUPED
    assert build(yaml.safe_load(yaml.safe_dump(GROUPED.config()))) == GROUPED
    mixed = {
        "kind": "denoiser",
        "network": {"net": "unet", "width": 8},
        "multipliers": [1, 2],
        "optimiser": {"lr": 0.01},
    }
    assert build(mixed | {k: FLAT[k] for k in ("steps", "diffusion_steps", "solver_steps", "noise")}) == GROUPED
    assert (GROUPED.steps, GROUPED.width, GROUPED.noise) == (20, 8, "ddpm")
    assert dl.Denoiser(optimiser=Optimiser(steps=3, lr=0.5), steps=4).optimiser == Optimiser(steps=4, lr=0.5)
    assert replace(GROUPED, steps=7).optimiser == replace(GROUPED.optimiser, steps=7)
    for twin in (copy.copy(GROUPED), copy.deepcopy(GROUPED), pickle.loads(pickle.dumps(GROUPED)), replace(GROUPED)):
        assert twin == GROUPED
    with pytest.raises(AttributeError, match="no attribute 'stepz'"):
        _ = GROUPED.stepz


def test_groups_share_no_name():
    names = [f.name for group in (Network, Optimiser, Chain, Sampling) for f in fields(group)]
    assert len(names) == len(set(names)) == len(GROUP_OF)
    assert not set(names) & {f.name for f in fields(dl.Denoiser)}


def test_the_flat_form_is_that_of_files_of_0_1_0():
    flat = GROUPED.flat()
    assert len(flat) == 1 + 41
    assert {k: flat[k] for k in FLAT} == FLAT
    assert build(flat) == GROUPED
    assert dl.Denoiser().flat()["t0"] == 1e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepz": 3}, r"no setting 'stepz'\. Did you mean 'steps'"),
        ({"optimizer": {}}, "Did you mean 'optimiser'"),
        ({"optimiser": {"stepz": 3}}, r"optimiser of a denoiser has no setting 'stepz'\. Did you mean 'steps'"),
        ({"optimiser": {"width": 3}}, "optimiser of a denoiser has no setting 'width'"),
        ({"optimiser": {"steps": 0}}, "Optimiser: steps = 0 cannot be used"),
        ({"optimiser": {3: 4}}, "no setting '3'"),
        ({"optimiser": [1]}, "optimiser is a list"),
        ({"optimiser": None}, "optimiser is a NoneType"),
        ({"network": Optimiser()}, "network is a Optimiser"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_mistakes_are_named(settings, words):
    for make in (lambda: dl.Denoiser(**settings), lambda: build({"kind": "denoiser", **settings})):
        with pytest.raises(ConfigError, match=words):
            make()


def test_command_line_settings_reach_both_forms(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text("source: gmm\nestimator: {kind: denoiser, steps: 20, width: 8}\npolicy: 0.5\n")
    for key in ("estimator.steps", "estimator.optimiser.steps"):
        for study in (study_from(str(path), settings=[f"{key}=99"]), study_from("digits", settings=[f"{key}=99"])):
            assert study.estimator.steps == 99
            assert study.estimator.warm_steps == 2000
    note = " ".join(capsys.readouterr().err.split())
    assert note.count("Note:") == 2
    assert "steps -> optimiser.steps, width -> network.width" in note
    path.write_text("source: gmm\nestimator: {kind: denoiser, optimiser: {steps: 20}}\npolicy: 0.5\n")
    assert study_from(str(path)).estimator.steps == 20
    with pytest.raises(ConfigError, match="Did you mean 'steps'"):
        study_from("digits", settings=["estimator.optimiser.stepz=99"])
    assert capsys.readouterr().err == ""
