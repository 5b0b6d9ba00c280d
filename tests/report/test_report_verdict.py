"""The verdict of a study is judged against real data, and noise is called noise."""

import math

import pytest
import report_runs

from driftlaw.analysis.report import Statement
from driftlaw.estimate import Estimate
from driftlaw.report import verdict_of
from driftlaw.report.page import build, chart
from driftlaw.report.verdict import class_changes
from driftlaw.report.vocabulary import measure
from driftlaw.theory.bounds.statement import Assumption, Bound


def digits(folder, drift=0.0, generations=1, **record):
    return report_runs.digits(folder / "run", generations=generations, drift=drift, record=record)


def shares(real, found, n=800):
    names = [f"class {k}" for k in range(len(real))]
    pair = ({k: report_runs.normal(x, 0.01, n=n) for k, x in zip(names, xs, strict=True)} for xs in (found, real))
    return class_changes(*pair, n)


def test_a_class_that_is_gone_is_a_collapse_already_in_generation_1(tmp_path):
    sizes = [0.46, 0.0, *[0.0675] * 8]
    modes = {str(k): report_runs.normal(s, 0.01) for k, s in enumerate(sizes)} | {
        "entropy": report_runs.normal(1.9, 0.01)
    }
    found = verdict_of(digits(tmp_path, modes=modes))
    assert found.word == "collapsed"
    assert "classes lost: 1 is 0% (real 10%), 0 is 46% (real 10%)" in found.reasons[0]


def test_a_clean_study_says_what_would_have_shown(tmp_path):
    found = verdict_of(digits(tmp_path))
    assert found.word == "clean"
    assert "would have shown" in found.reasons[0]


def test_noise_is_undetermined(tmp_path):
    wide = {"chi2_lower": report_runs.normal(0.1, 1.0)}
    found = verdict_of(digits(tmp_path, divergence=wide, floor={"chi2_lower": report_runs.normal(0.0, 0.9)}))
    assert found.word == "undetermined"
    assert "too few" in found.reasons[0]


def test_drift_names_its_size_beside_real_rows_and_a_plan(tmp_path):
    found = verdict_of(digits(tmp_path, drift=0.3, generations=3))
    assert found.word == "drifted"
    assert any(text.startswith("Fréchet distance 3.2") and "real rows 1 [" in text for text in found.reasons)
    assert "driftlaw plan --from" in found.action
    assert "--budget" in found.action


def test_lost_recall_copies_and_a_shrunk_moment_have_their_words(tmp_path):
    low = {"recall": report_runs.normal(0.2, 0.02)}
    assert verdict_of(digits(tmp_path / "a", divergence=low)).word == "collapsed"
    copies = {"memorised": report_runs.normal(0.4, 0.02)}
    assert verdict_of(digits(tmp_path / "b", divergence=copies)).word == "copied"
    shrunk = {"second_moment_drift": report_runs.normal(-0.7, 0.05)}
    found = verdict_of(digits(tmp_path / "c", moments=shrunk))
    assert found.word == "collapsed"
    assert "second moment is 30% of the real one" in found.reasons[0]


def test_the_page_shows_the_verdict_first(tmp_path):
    page = build(digits(tmp_path, drift=1.0, generations=3))
    assert page.index('class="verdict') < page.index("the measured drift")


def test_small_differences_of_shares_are_sampling():
    assert shares([0.25] * 4, [0.27, 0.24, 0.24, 0.25]) == []
    assert shares([0.25] * 4, [0.4, 0.2, 0.2, 0.2])[0].name == "class 0"


@pytest.mark.parametrize(
    ("key", "value", "label", "note"),
    [
        ("density", 2.2, "outside the floor", "crowd"),
        ("density", 0.4, "outside the floor", ""),
        ("density", 1.1, "within the floor", ""),
        ("recall", 1.4, "past the floor", "spread wider"),
        ("kid", 0.2, "past the floor", "copies"),
        ("diversity", 3.0, "outside the floor", "spread wider"),
    ],
)
def test_no_side_is_called_better(key, value, label, note):
    found = chart("c", measure(key), {1: report_runs.normal(value, 0.02)}, {1: report_runs.normal(1.1, 0.02)}, 1)
    assert found.verdict == label
    assert note in " ".join(found.notes)
    assert "better" not in found.verdict


@pytest.mark.parametrize(
    ("side", "value", "measured", "outcome"),
    [
        ("upper", (2.0, 0.01), (1.0, 0.01), "within"),
        ("upper", (1.0, 0.01), (2.0, 0.01), "outside"),
        ("upper", (1.0, 0.01), (1.01, 0.01), "equal"),
        ("upper", (1.0, 0.01), (5.0, 3.0), "undetermined"),
        ("lower", (1.0, 0.01), (3.0, 0.1), "within"),
        ("lower", (1.0, 0.01), (math.inf, 0.0), "within"),
        ("identity", (1.8, 0.01), (18170.0, math.nan), "undetermined"),
        ("identity", (1.8, 0.01), (1.81, 0.01), "equal"),
        ("upper", (math.inf, 0.0), (3.0, 0.1), "says nothing"),
    ],
)
def test_bounds_are_compared_with_their_intervals(side, value, measured, outcome):
    def made(x, stderr):
        if math.isinf(x):
            return Estimate.infinite("m", "heavy tails")
        if math.isnan(stderr):
            return Estimate(x, stderr, 0.0, math.inf, 9, "m")
        return report_runs.normal(x, stderr)

    bound = Bound("b", "ours", "x", "x", side, made(*value), made(*measured))
    assert Statement(1, "", bound).outcome == outcome
    assert Statement(1, "", bound).to_json()["outcome"] == outcome


def test_a_violated_assumption_silences_a_bound():
    violated = Assumption("A3", "tails", "violated")
    bound = Bound("b", "ours", "x", "x", "upper", report_runs.normal(2, 0.1), report_runs.normal(1, 0.1), (violated,))
    assert Statement(1, "", bound).outcome == "says nothing"
