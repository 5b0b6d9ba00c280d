"""The study's configuration: what goes in comes back, and what cannot be used is said to be so."""

import pytest
import torch
import yaml

import driftlaw as dl
from driftlaw.errors import ConfigError, DataExhaustedError, InputError
from driftlaw.loop import presets
from driftlaw.loop.step.setting import Setting
from driftlaw.loop.study import Study, apply_setting, read_yaml


def small(**changes) -> Study:
    values = {"source": dl.GaussianMixture.paper(), "estimator": dl.KDE(0.6), "policy": dl.FixedFraction(0.5)}
    return dl.Study(**(values | {"samples": 100, "generations": 3} | changes))


@pytest.mark.parametrize("name", ["gmm", "digits"])
@pytest.mark.parametrize("size", presets.PRESETS)
def test_yaml_round_trip_of_every_preset(name, size):
    study = Study.from_config(presets.preset(name, size))
    again = Study.from_config(yaml.safe_load(study.to_yaml()))
    assert again.config() == study.config()
    assert again.to_yaml() == study.to_yaml()


def test_python_objects_and_plain_data_describe_the_same_study():
    study = small()
    assert Study.from_config(study.config()).config() == study.config()
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Study.from_config(study.config()).source.log_prob(x), study.source.log_prob(x))


def test_a_description_that_lacks_newer_keys_is_the_same_study():
    study = dl.Study(source="digits", estimator=dl.KDE(0.5), policy=0.5, samples=100)
    older = study.config()
    del older["measures"]["critic"], older["threads"]
    assert study.is_described_by(older)
    assert not study.is_described_by(older | {"samples": 101})
    assert not study.is_described_by(older | {"estimator": {"kind": "mine"}})


def test_a_number_or_a_text_is_a_policy():
    assert small(policy=0.25).policy == dl.FixedFraction(0.25)
    assert small(policy="window:2,0.1").policy == dl.Window(2, fresh=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smaples": 10}, "unknown key 'smaples'.*Did you mean 'samples'"),
        ({"policy": 1.5}, r"1\.5"),
        ({"policy": "fxed:0.1"}, "fixed"),
        ({"samples": 0}, "samples = 0"),
        ({"samples": 1}, "samples = 1"),
        ({"generations": 0}, "generations = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"samples": float("nan")}, "samples"),
        ({"device": "gpu"}, "device"),
        ({"measures": {"sample": 3}}, "Did you mean 'samples'"),
        ({"estimator": {"kind": "kde", "bandwith": 1}}, "bandwidth"),
        ({"estimator": {"kind": "kd"}}, "kde"),
        ({"estimator": 3}, "without fit"),
        ({"source": {"kind": "gm"}}, "gmm"),
        ({"policy": dl.Schedule([0.5])}, "."),
    ],
)
def test_bad_values_name_the_key_and_the_remedy(changes, words):
    if isinstance(changes.get("policy"), dl.Schedule) and len(changes["policy"].rows(1)[0]) == 1:
        try:
            changes["policy"].rows(3)
        except InputError:
            pass
        else:
            pytest.skip("schedules repeat their last value")
    with pytest.raises((ConfigError, InputError), match=words):
        small(**changes)


def test_settings_replace_dotted_keys():
    study = small().with_settings({"estimator.bandwidth": 0.4, "measures.samples": 50, "samples": 77})
    assert (study.estimator.bandwidth, study.measures.samples, study.samples) == (0.4, 50, 77)
    assert isinstance(small().with_settings({"estimator.kind": "gaussian"}).estimator, dl.GaussianMLE)
    with pytest.raises(ConfigError, match=r"Did you mean 'bandwidth'"):
        small().with_settings({"estimator.bandwdth": 0.4})
    with pytest.raises(ConfigError, match=r"Did you mean 'estimator'"):
        small().with_settings({"estmator.bandwidth": 0.4})
    with pytest.raises(ConfigError, match=r"Did you mean 'samples'"):
        small().with_settings({"sampels": 4})


def test_apply_setting_changes_nothing_on_error():
    config = small().config()
    before = yaml.safe_dump(config)
    with pytest.raises(ConfigError):
        apply_setting(config, "estimator.deep.key", 1)
    assert yaml.safe_dump(config) == before


def test_unreadable_yaml_is_named(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    with pytest.raises(ConfigError, match=r"bad.yaml is not YAML"):
        read_yaml(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="not a mapping"):
        read_yaml(tmp_path / "list.yaml")
    (tmp_path / "tag.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / "tag.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")


def test_too_little_data_is_found_before_the_first_generation():
    study = Study.from_config(presets.preset("digits") | {"policy": 0.9, "reuse": False})
    with pytest.raises(DataExhaustedError, match=r"need 3680 fresh rows; digits has \d+.*reuse: true"):
        Setting(study).prepare()


def test_unknown_study_and_preset_name_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'digits'"):
        presets.preset("digit")
    with pytest.raises(ConfigError, match="Did you mean 'laptop'"):
        presets.preset("gmm", "labtop")
