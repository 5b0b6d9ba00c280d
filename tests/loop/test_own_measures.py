"""Measures of one's own: in records, floor, report, frame, in sweeps, and never run for a stranger's file."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import yaml

import driftlaw as dl
from driftlaw.config import Described
from driftlaw.errors import ConfigError, InputError, TrustError
from driftlaw.loop.own import own_parts
from driftlaw.loop.study import Measures, read_yaml

SMALL = {"samples": 60, "density_samples": 100, "path_samples": 0}


def mean_gap(samples, real, context):
    """Distance of the means, by name importable."""
    return float((samples.mean(0) - real.mean(0)).norm())


def study(measures, **changes):
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    settings = {"estimator": dl.GaussianMLE(), "policy": 0.5, "samples": 80, "generations": 2} | changes
    return dl.Study(source=law, measures=measures, **settings)


def test_an_own_measure_is_in_records_floor_frame_report_and_bounds(tmp_path):
    seen = []

    def mine(samples, real, context):
        seen.append((context.generation, len(samples), len(real), context.model is None))
        draw = torch.rand(1, generator=context.generator)
        return dl.Estimate.normal(float(draw), 0.1, len(samples), "a draw of its stream")

    made = study(SMALL | {"mine": mine, "gap": mean_gap})
    first, second = dl.run(made, tmp_path / "a")
    assert set(seen) == {(0, 60, 60, True), (1, 60, 60, False), (2, 60, 60, False)}
    assert first.divergence["mine"].stderr == 0.1
    gap = first.divergence["gap"]
    assert (gap.n, math.isnan(gap.low)) == (60, True)
    assert "no interval" in gap.warnings[0]
    assert {"mine", "gap"} <= set(first.floor)
    assert first.floor["gap"] == second.floor["gap"]
    history = dl.load(tmp_path / "a")
    frame = history.frame()
    assert frame["gap"].tolist() == [first.divergence["gap"].value, second.divergence["gap"].value]
    assert {"mine", "mine_low", "mine_high"} <= set(frame)
    page = dl.write_report(history).read_text()
    assert "Mine" in page
    assert "Gap" in page
    assert "nan to" not in page
    assert "[nan" not in page
    assert dl.bounds(history, samples=200).statements  # the numbers are in the records: nothing of one's own is called
    assert history.model(1).sample(3, torch.Generator()).shape == (3, 2)
    with pytest.raises(ConfigError, match=r"measures\.mine is a .*mine of your own"):
        dl.resume(tmp_path / "a")
    again = list(dl.run(made, tmp_path / "b"))
    assert again[1].divergence["mine"] == second.divergence["mine"]


def test_a_killed_run_goes_on_with_its_measures(tmp_path):
    made = study(SMALL | {"gap": mean_gap})
    iterator = dl.run(made, tmp_path / "a")
    next(iterator)
    iterator.close()
    assert not own_parts(made)  # importable by name, and this user signed the run
    assert next(dl.resume(tmp_path / "a")).divergence["gap"].n == 60


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (math.nan, "'mine' returned nan"),
        (math.inf, "returned inf"),
        ("0.5", "returned a str"),
        (True, "returned a bool"),
        (None, "returned a NoneType"),
        (torch.zeros(2), "returned a Tensor"),
        (ZeroDivisionError("no rows"), "'mine' failed: ZeroDivisionError: no rows"),
    ],
)
def test_what_is_no_number_is_refused_by_name_before_anything_is_written(tmp_path, answer, words):
    def mine(samples, real, context):
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(InputError, match=words):
        dl.run(study(SMALL | {"mine": mine}), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("answer", [0.5, 1, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5])])
def test_any_number_is_an_estimate(answer):
    (record,) = dl.run(study(SMALL | {"mine": lambda *_: answer}, generations=1))
    assert record.divergence["mine"].value == float(answer)


def test_an_error_in_a_later_generation_says_which(tmp_path):
    def mine(samples, real, context):
        return 1 / (2 - context.generation)

    run = dl.run(study(SMALL | {"mine": mine}), tmp_path / "a")
    next(run)
    with pytest.raises(InputError, match=r"'mine' \(generation 2\) failed: ZeroDivisionError"):
        next(run)


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        ({"kl": mean_gap}, "'kl' cannot name a measure of your own; kl is a number"),
        ({"own": {"a b": mean_gap}}, "'a b' cannot name"),
        ({"sample": 5}, "unknown key 'measures.sample'.*Did you mean 'samples'|unknown key 'sample'"),
        ({"own": {"mine": 5}}, "'mine' is a int"),
        ({"own": {"mine": {"function": "nowhere:fn"}}}, "'nowhere:fn' of the measure 'mine' cannot be imported"),
        ({"own": {"mine": {"kind": "test-none"}}}, "unknown measure kind 'test-none'"),
        ({"own": 3}, "measures.own is a int"),
    ],
)
def test_bad_measures_are_refused_by_name(measures, words):
    with pytest.raises(ConfigError, match=words):
        study(measures)


def test_no_real_rows_no_measure():
    with pytest.raises(ConfigError, match="'mine' has no real rows"):
        dl.run(study({"samples": 0, "mine": mean_gap}))


def test_a_changed_setting_keeps_own_measures_and_plain_studies_stay_as_they_were():
    made = study(SMALL | {"mine": lambda *_: 0.0})
    assert made.with_settings({"seed": 4, "measures.samples": 40}).measures.own == made.measures.own
    assert "own" not in study(SMALL).config()["measures"]
    assert Measures(own={"mine": mean_gap}).own == {"mine": mean_gap}


def test_a_file_names_a_function_only_with_trust(tmp_path):
    made = study(SMALL | {"gap": mean_gap})
    config = made.config()
    assert config["measures"]["own"] == {"gap": {"function": "test_own_measures:mean_gap"}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(TrustError, match="test_own_measures:mean_gap"):
        read_yaml(path)
    assert dl.Study.from_config(read_yaml(path, trusted=True)).measures.own == {"gap": mean_gap}


@dataclass(frozen=True)
class Quantile(Described):
    """A registered measure with a setting."""

    level: float = 0.5
    kind = "test-quantile"

    def measure(self, samples, real, context):
        return float(samples.quantile(self.level) - real.quantile(self.level))


def test_a_registered_measure_needs_no_trust(tmp_path):
    dl.register("test-quantile", Quantile)
    made = study(SMALL | {"spread": Quantile(0.9)})
    assert not own_parts(made)
    (tmp_path / "study.yaml").write_text(made.to_yaml())
    read = dl.Study.from_config(read_yaml(tmp_path / "study.yaml"))
    assert read.measures.own == {"spread": Quantile(0.9)}
    assert read.with_settings({"measures.own.spread": Quantile(0.1)}).measures.own["spread"].level == 0.1


SCRIPT = """
import sys
import driftlaw as dl

def span(samples, real, context):
    return float(samples.max() - samples.min())

if __name__ == "__main__":
    study = dl.Study(source=dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0]), estimator=dl.GaussianMLE(),
                     samples=60, generations=1, policy=0.5,
                     measures={"samples": 40, "density_samples": 100, "path_samples": 0, "span": span})
    found = dl.sweep(study, sys.argv[1], alphas=[0.5], seeds=[0, 1], workers=2)
    print(len(found.failures), (found.frame()["span"] > 2).sum())
"""


def test_functions_of_the_running_script_reach_the_workers(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "2"], done.stderr
