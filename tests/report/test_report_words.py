import math

import pytest
import report_runs

from driftlaw.estimate import Estimate
from driftlaw.numerics.words import number, ranges
from driftlaw.report import words
from driftlaw.report.vocabulary import HEADLINE, MEASURES, measure


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"), (29.2, "29.2"), (100.0, "100"), (1234567.0, "1.23 × 10⁶"), (-1.2345e-5, "−1.23 × 10⁻⁵"),
        (0.05, "0.05"), (1e-7, "1 × 10⁻⁷"), (math.inf, "infinite"), (-math.inf, "minus infinite"),
        (math.nan, "–"), (0.9999, "1"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_a_reader_writes_them(x, text):
    assert number(x) == text


@pytest.mark.parametrize(("found", "text"), [([], ""), ([3], "3"), ([5, 1, 2, 3, 3], "1–3, 5"), ([1, 3, 5], "1, 3, 5")])
def test_ranges(found, text):
    assert ranges(found) == text


@pytest.mark.parametrize(
    ("key", "value", "floor", "state"),
    [
        ("frechet", (3, 0.1), (1, 0.1), "worse"),
        ("frechet", (1.1, 0.1), (1, 0.1), "within"),
        ("frechet", (0.2, 0.1), (1, 0.1), "beyond"),
        ("recall", (0.2, 0.01), (0.8, 0.01), "worse"),
        ("recall", (0.9, 0.01), (0.8, 0.01), "beyond"),
        ("kl", (0.4, 0.01), None, "worse"),
        ("kl", (0.01, 0.01), None, "within"),
        ("recall", (0.4, 0.01), None, "unknown"),
        ("second_moment", (4, 0.01), (1, 0.1), "unknown"),
    ],
)
def test_verdict_compares_intervals_in_the_direction_of_the_measure(key, value, floor, state):
    floor = report_runs.normal(*floor) if floor else None
    assert words.verdict(measure(key), report_runs.normal(*value), floor) == state


def test_verdict_of_special_values():
    assert words.verdict(measure("chi2"), Estimate.infinite("m", "heavy tails"), None) == "worse"
    assert words.verdict(measure("kl"), Estimate.refused("m", "no data"), None) == "unknown"
    assert words.verdict(measure("kid"), report_runs.normal(1, 0.1), Estimate.refused("m", "no data")) == "unknown"


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"kind": "fixed", "alpha": 0.1}, "at α = 0.1"),
        ({"kind": "accumulate"}, "with the policy “accumulate”"),
        ({"kind": "window", "k": 3, "fresh": 0.25}, "with the policy “window” (k = 3, fresh = 0.25)"),
        ({"kind": "schedule", "alphas": [0.5] * 9}, "with the policy “schedule” (alphas = " + "0.5, " * 8 + "…)"),
        (None, "with the policy None"),
    ],
)
def test_policies_in_words(policy, text):
    assert words.policy({"policy": policy}) == text


def test_headline_of_a_collapse(tmp_path):
    found = words.headline(report_runs.digits(tmp_path / "run"))
    assert found.key == "frechet"
    assert found.lead.startswith(
        "After 5 generations at α = 0.1 the measured drift (Fréchet distance) is 13.5 [13.3, 13.7], 13 times"
    )
    assert "real-vs-real floor of 1 [0.804, 1.2]" in found.lead
    assert "from the first generation on" in found.lead
    assert any(s.startswith("7 of 7 measures with a floor are worse") for s in found.details)
    assert any("shrunk by 20.0 %" in s for s in found.details)
    assert any("entropy of the class weights is below that of real data" in s for s in found.details)


def test_headline_is_honest_when_nothing_drifts(tmp_path):
    found = words.headline(report_runs.digits(tmp_path / "run", drift=0.0))
    assert "no drift is visible" in found.lead
    assert "cannot be told from the real-vs-real floor" in found.lead
    assert "times the" not in found.lead
    assert any(s.startswith("None of the 7 measures") for s in found.details)
    assert any("cannot be told from that of real data" in s for s in found.details)


def test_headline_says_since_when(tmp_path):
    late = report_runs.digits(tmp_path / "run", drift=0.1, generations=5)
    assert "it has been above since generation 2" in words.headline(late).lead


def test_a_floor_of_zero_gives_no_factor(tmp_path):
    change = {"divergence": {"mmd2": report_runs.normal(0.1, 0.001)}, "floor": {"mmd2": report_runs.normal(0.0, 0.001)}}
    lead = words.headline(report_runs.digits(tmp_path / "run", generations=1, record=change)).lead
    assert "which cannot be told from 0" in lead
    assert "times" not in lead


def test_headline_without_any_finite_measure(tmp_path):
    change = {"divergence": {"chi2": Estimate.infinite("m", "heavy tails")}, "floor": {}}
    found = words.headline(report_runs.digits(tmp_path / "run", generations=1, record=change))
    assert found.key is None
    assert "no finite measure of drift was recorded" in found.lead


def test_headline_of_densities_names_what_is_infinite(tmp_path):
    found = words.headline(report_runs.gmm(tmp_path / "run", generations=3))
    assert found.key == "kl"
    assert "χ²(p̂ⁿ ‖ p) is infinite at every generation." in found.details


def test_warnings_once_each_with_where(tmp_path):
    found = words.warnings(report_runs.digits(tmp_path / "run"))
    assert [(w.text, w.where, w.about) for w in found] == [
        ("biased at n = 800", "generations 1–5", ("Fréchet distance",)),
        ("held-out rows are few", "generations 3–5", ()),
    ]


def test_a_record_warning_that_repeats_an_estimate_is_dropped(tmp_path):
    found = [w.text for w in words.warnings(report_runs.gmm(tmp_path / "run", generations=2))]
    assert found == ["the tails of p_hat are too heavy for p", "the error energy is zero"]


def test_vocabulary_is_complete():
    recorded = (
        "kl kl_reverse tv hellinger2 chi2 chi2_mix chi2_lower mmd2 kid frechet precision recall density coverage "
    )
    recorded += "energy p_value"
    assert set(recorded.split()) | {"second_moment", "second_moment_drift", "entropy"} <= set(MEASURES)
    assert set(HEADLINE) <= set(MEASURES)
    assert all(m.meaning and m.name for m in MEASURES.values())
    assert measure("kl").axis == "KL(p̂ⁿ ‖ p), nats"
    assert measure("kl", "qₙ₋₁").symbol == "KL(p̂ⁿ ‖ qₙ₋₁)"
    assert measure("own_number").name == "Own number"
    assert measure("kl_gauss").inline == "KL of Gaussian fits"
