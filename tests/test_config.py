"""One parser of parts: bare kinds, own kinds, the nearest name on a typo, and junk refused in words."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml

import driftlaw as dl
from driftlaw.config import DEEPEST, Kinds, check_depth
from driftlaw.errors import ConfigError
from driftlaw.kinds import CLASSIFIERS, ESTIMATORS, FAMILIES, POLICIES, SOURCES
from driftlaw.loop.study import read_yaml


def deep(levels, of=list):
    inner = 0
    for _ in range(levels):
        inner = [inner] if of is list else {"a": inner}
    return inner


@dataclass(frozen=True)
class Own:
    width: int = 3

    def fit(self, data, context=None): ...

    def load(self, state, shape): ...

    def config(self):
        return {"kind": "own", "width": self.width}


def cycle():
    inner = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize("family", [*FAMILIES.values(), CLASSIFIERS], ids=lambda f: f.family)
@pytest.mark.parametrize("kind", [[1], {"a": 1}, None, 3, 1.5, True, "", deep(3000), deep(3000, dict), cycle(), b"kde"])
def test_odd_kinds_are_refused_in_words(family, kind):
    with pytest.raises(ConfigError, match=f"unknown {family.family} kind|nested more than"):
        family.build({"kind": kind})
    for config in ({}, {"kinds": kind}, {3: kind}):
        with pytest.raises(ConfigError, match=r"needs a kind|nested more than"):
            family.build(config)


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, deep(20), deep(20, dict), cycle(), b"x", object(), "1e"])
@pytest.mark.parametrize(
    ("family", "kind", "key"),
    [
        (ESTIMATORS, "kde", "bandwidth"),
        (ESTIMATORS, "mixture-em", "components"),
        (ESTIMATORS, "denoiser", "multipliers"),
        (POLICIES, "fixed", "alpha"),
        (POLICIES, "window", "k"),
        (POLICIES, "adaptive", "horizon"),
        (SOURCES, "digits", "held_out"),
        (CLASSIFIERS, "classifier", "width"),
    ],
)
def test_odd_values_are_refused_in_words(family, kind, key, value):
    needed = {name: 1 for name, required in family.settings(kind).items() if required}
    if (key, value) == ("multipliers", [1]):
        assert family.build({"kind": kind, key: value}).multipliers == (1,)
        return
    with pytest.raises(ConfigError) as error:
        family.build({"kind": kind, **needed, key: value})
    assert len(str(error.value)) < 700


def test_depth():
    check_depth(deep(DEEPEST - 1))
    check_depth([{"a": 1}] * 10_000)
    for config in (deep(DEEPEST), deep(100_000), cycle()):
        with pytest.raises(ConfigError, match="nested more than"):
            check_depth(config)
    many = [0]
    for _ in range(30):  # 2^30 leaves
        many = [many, many]
    check_depth(many)


def test_bare_kinds_work_for_every_part():
    study = dl.Study(source="digits", estimator="kde", policy="accumulate", samples=10)
    assert (study.estimator, study.policy) == (dl.KDE(), dl.Accumulate())
    assert dl.Study.from_config(yaml.safe_load(study.to_yaml())).config() == study.config()
    text = "source: gmm\nestimator: gaussian\npolicy: fixed:0.5\n"
    assert dl.Study.from_config(yaml.safe_load(text)).estimator == dl.GaussianMLE()
    for part, word, valid in (
        ("estimator", "kdee", "kde"),
        ("policy", "replce", "replace"),
        ("source", "digit", "digits"),
    ):
        with pytest.raises(ConfigError, match=f"'{word}'.*id you mean '{valid}'"):
            dl.Study(**{"source": "gmm", "estimator": "kde", "policy": 0.5, part: word})
    with pytest.raises(ConfigError, match="estimator 'mixture-em' needs the setting 'components'"):
        dl.Study(source="gmm", estimator="mixture-em", policy=0.5)


def test_objects_are_taken_and_classes_are_not():
    own = Own()
    assert ESTIMATORS.build(own) is own
    with pytest.raises(ConfigError, match="estimator is a type without fit, load, config"):
        dl.Study(source="gmm", estimator=dl.KDE, policy=0.5)


def test_own_kinds():
    kinds = Kinds("estimator", {"kde": "driftlaw.learn.kde:KDE"}, methods=("fit",))
    kinds.register("own", Own)
    kinds.register("own", Own)
    kinds.register("late", "nowhere.at_all:Own")
    assert kinds.names() == ("kde", "own", "late")
    assert kinds.build("own") == Own()
    assert kinds.build(Own(5).config()) == Own(5)
    assert kinds.describe(Own(5)) == {"kind": "own", "width": 5}
    with pytest.raises(ConfigError, match=r"estimator 'own': width = 'wide' cannot be used: .*valid integer"):
        kinds.build({"kind": "own", "width": "wide"})
    with pytest.raises(ConfigError, match=r"no setting 'witdh'. Did you mean 'width'"):
        kinds.build({"kind": "own", "witdh": 3})
    with pytest.raises(ConfigError, match=r"'late' .*cannot be imported"):
        kinds.build("late")
    with pytest.raises(ConfigError, match="another estimator of kind 'kde'"):
        kinds.register("kde", Own)
    for name in ("", "a b", "a:b", "a/b", "x.npy", None, 3):
        with pytest.raises(ConfigError, match="cannot name a kind"):
            kinds.register(name, Own)
    with pytest.raises(ConfigError, match="makes no estimator"):
        kinds.register("number", 3)
    with pytest.raises(ConfigError, match=r"no config\(\)"):
        kinds.describe(object())


def test_makers_that_pydantic_does_not_know_are_called_unchecked():
    class Odd:
        def __init__(self, a: "Nowhere" = None, *more, b: object = 2, **others):  # noqa: F821
            self.a, self.b = a, b

    kinds = Kinds("estimator", {"odd": Odd})
    assert kinds.build({"kind": "odd", "a": [1]}).a == [1]
    with pytest.raises(ConfigError, match="no setting 'c'"):
        kinds.build({"kind": "odd", "c": 1})


def test_every_listed_kind_can_be_imported():
    for family in (*FAMILIES.values(), CLASSIFIERS):
        for kind in family.names():
            assert callable(family.maker(kind))


def test_listing_kinds_imports_nothing_heavy():
    code = "import sys\nfrom driftlaw.kinds import ESTIMATORS\nprint(ESTIMATORS.names(), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("('kde', 'gaussian'")
    assert out.strip().endswith("False")


def test_a_yaml_file_too_deep_to_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("source: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="is not YAML"):
        read_yaml(path)
    path.write_text("source: &a\n  kind: gmm\n  weights: *a\nestimator: kde\npolicy: 0.5\n")
    with pytest.raises(ConfigError, match="nested more than"):
        dl.Study.from_config(read_yaml(path))
