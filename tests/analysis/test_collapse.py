"""Definitions of collapse on runs whose fate is known, and on numbers made by hand."""

import html

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.analysis.collapse import _above, _against_real, _trend, _variance
from driftlaw.estimate import Estimate


def near(value, half=0.01):
    return Estimate.normal(value, half / 1.96, 100, "made")


def profile(folder, **settings):
    source = dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    measures = {"samples": 400, "density_samples": 2000, "path_samples": 0, "features": "identity"}
    study = dl.Study(source=source, estimator=dl.GaussianMLE(), measures=measures, seed=1, **settings)
    list(dl.run(study, out=folder))
    return {s.name: s for s in dl.collapse_profile(dl.load(folder))}


def test_a_recursion_without_fresh_data_on_few_rows_collapses(tmp_path):
    """E v_k = (1 - 1/n)^k: at n = 8 and k = 20 nine tenths of the variance are gone."""
    found = profile(tmp_path / "a", policy=dl.Replace(), samples=8, generations=20)
    assert found["variance collapses"].answer == "yes"
    assert found["risk rises"].answer == found["risk explodes"].answer == "yes"
    assert found["tails lost"].answer in {"yes", "not measured"}
    assert found["scaling changes"].answer == "not measured"


def test_fresh_data_alone_do_not_collapse(tmp_path):
    found = profile(tmp_path / "a", policy=1.0, samples=1000, generations=5)
    assert found["variance collapses"].answer == "no"
    assert found["risk rises"].answer in {"undetermined", "no"}
    assert found["risk explodes"].answer in {"undetermined", "no"}
    assert "yes" not in {s.answer for s in found.values()}
    assert len(found) == 8


def test_answers_need_intervals_that_lie_apart():
    assert _above(near(0.5), near(0.1), 1) == "yes"
    assert _above(near(0.11), near(0.1), 1) == "undetermined"
    assert _above(near(0.05), near(0.1), 1) == "no"
    assert _above(near(0.5), near(0.1), 10) == "no"
    assert _above(Estimate.infinite("x", "why"), near(0.1), 10) == "yes"
    assert _above(Estimate.refused("x", "why"), near(0.1), 1) == "undetermined"
    assert [_variance(near(v)).answer for v in (-0.9, -0.5, 0.1)] == ["yes", "undetermined", "no"]
    assert _variance(None).answer == "not measured"
    answers = [_against_real("a", "recall", "d", near(v), near(0.9)).answer for v in (0.5, 0.81, 0.9)]
    assert answers == ["yes", "undetermined", "no"]


def test_a_rise_needs_a_trend():
    """Fits of generations without any drift differ by chance: 2,000 null runs of 8 are called rising in about 1 %."""
    g = np.random.default_rng(0)
    calls = sum(_trend(list(g.chisquare(5, 8)), "")[0] == "yes" for _ in range(2000))
    assert calls < 20 + 4.5 * 20**0.5
    assert _trend([1.0, 2, 3, 4, 5], "")[0] == "yes"
    assert _trend([5.0, 4, 3, 2, 1], "")[0] == "no"
    assert _trend([1.0, 2, 3, 4], "")[0] == "undetermined"


def test_one_generation_has_nothing_to_compare(tmp_path):
    found = profile(tmp_path / "a", policy=1.0, samples=50, generations=1)
    assert found["risk rises"].answer == "not measured"


def test_a_run_without_generations_is_refused(tmp_path):
    study = dl.Study(source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=50, generations=1)
    run = iter(dl.run(study, out=tmp_path / "a"))
    next(run)
    (tmp_path / "a" / "journal.jsonl").write_text("")
    with pytest.raises((dl.InputError, dl.RunDirectoryError)):
        dl.collapse_profile(dl.load(tmp_path / "a"))


def test_bounds_and_reports_carry_the_profile(tmp_path):
    source = dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    study = dl.Study(source=source, estimator=dl.GaussianMLE(), policy=0.5, samples=100, generations=2)
    list(dl.run(study, out=tmp_path / "a"))
    history = dl.load(tmp_path / "a")
    found = dl.bounds(history, samples=200)
    assert found.collapse == dl.collapse_profile(history)
    found.save(tmp_path / "a")
    assert dl.BoundsReport.load(tmp_path / "a").collapse == found.collapse
    page = html.unescape(dl.write_report(dl.load(tmp_path / "a")).read_text())
    assert "Did it collapse? By definition" in page
    assert all(s.definition in page for s in found.collapse)
