"""One word for each kind of harm, its reasons, gates with three outcomes, and honest rows left alone."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import driftlaw as dl
from driftlaw.auditing.verdict.columns import fisher, homogeneity
from driftlaw.auditing.verdict.gates import Gate, limit, on_verdict, overall, read
from driftlaw.auditing.verdict.since import since
from driftlaw.auditing.verdict.verdict import VERDICTS
from driftlaw.errors import ConfigError
from driftlaw.estimate import Estimate
from driftlaw.numerics.words import p_value


def rng(*path):
    return np.random.default_rng([7, *path])


def people(n, seed, **changes):
    """A table of honest rows, with columns replaced."""
    g = rng(seed)
    table = {
        "wage": np.exp(g.normal(size=n)),
        "years": g.integers(20, 70, n).astype(float),
        "region": g.choice(["north", "south", "west"], n, p=[0.5, 0.38, 0.12]),
    }
    return pd.DataFrame(table | {name: make(g, n) for name, make in changes.items()})


@pytest.fixture(scope="module")
def real():
    return people(4000, 0)


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "clean", "would usually have shown"),
        ({"wage": lambda g, n: np.full(n, np.nan)}, "broken", "wage: 100% missing"),
        ({"years": lambda g, n: np.full(n, 44.0)}, "broken", "years"),
        ({"region": lambda g, n: g.choice(["north", "south"], n)}, "collapsed", "lost categories 'west' (1"),
        ({"region": lambda g, n: g.choice(["north", "east"], n, p=[0.3, 0.7])}, "broken", "new categories 'east' 7"),
        ({"region": lambda g, n: g.choice(["north", "south", "west", "east"], n)}, "drifted", "'east'"),
        ({"wage": lambda g, n: 3 * np.exp(g.normal(size=n))}, "drifted", "wage"),
        ({"wage": lambda g, n: np.where(g.random(n) < 0.2, np.nan, np.exp(g.normal(size=n)))}, "drifted", "missing"),
    ],
    ids=["honest", "missing", "constant", "lost", "replaced", "new", "scaled", "some missing"],
)
def test_each_harm_has_its_word_and_names_its_column(real, changes, word, said):
    found = dl.audit(real, [people(2000, 1), people(2000, 2, **changes)], features="identity").verdict
    assert found.word == word, found.sentence
    assert said in " ".join(found.reasons)
    assert found.generation == 2
    assert len(found.reasons) <= 3
    assert found.action


def test_a_shrunken_law_is_collapsed_though_its_mean_stays():
    a = dl.audit(rng(3).normal(size=(3000, 6)), [0.2 * rng(4).normal(size=(3000, 6))])
    assert a.verdict.word == "collapsed"
    assert any("variance" in r or "recall" in r for r in a.verdict.reasons)
    assert a.gate([Gate("verdict", fail_on=("collapsed",))])[0].outcome == "fail"


def test_copies_are_found():
    g = rng(5)
    rows, held = g.normal(size=(3000, 4)), g.normal(size=(1000, 4))
    copied = rows[:1500] + 1e-3 * g.normal(size=(1500, 4))
    assert dl.audit(rows, [copied], holdout=held).verdict.word == "copied"
    assert dl.audit(rows, [g.normal(size=(1500, 4))], holdout=held).verdict.word == "clean"


def test_few_rows_are_undetermined_and_say_how_many_would_do():
    a = dl.audit(rng(6).normal(size=(70, 9)), [rng(7).normal(size=(70, 9))])
    assert a.verdict.word == "undetermined"
    assert "rows are too few" in a.verdict.reasons[0]
    assert "Audit about" in a.verdict.action


def test_a_new_category_is_dated_from_the_generation_it_came_in(real):
    def late(g, n):
        return g.choice(["north", "south", "west", "east"], n, p=[0.4, 0.3, 0.1, 0.2])

    line = [people(2000, 1), people(2000, 2, region=late), people(2000, 3, region=late)]
    reasons = dl.audit(real, line, features="identity").verdict.reasons
    assert any("'east'" in r and "since generation 2" in r for r in reasons), reasons


def test_an_earlier_bad_generation_is_not_forgotten(real):
    bad = people(2000, 8, wage=lambda g, n: np.full(n, np.nan))
    found = dl.audit(real, [bad, people(2000, 9)], features="identity").verdict
    assert (found.word, found.generation) == ("broken", 1)


def test_the_document_round_trips_and_names_the_verdict(real, tmp_path):
    a = dl.audit(real, [people(1000, 1, region=lambda g, n: np.full(n, "mars"))], features="identity")
    again = dl.Audit.from_json(json.loads(json.dumps(a.to_json())))
    assert again.to_json() == a.to_json()
    assert again.verdict == a.verdict
    assert a.to_json()["verdict"]["word"] in VERDICTS


@pytest.mark.heavy
@pytest.mark.parametrize(("n0", "n"), [(1500, 250), (300, 1500)])
@pytest.mark.parametrize("kind", ["rare", "zipf", "lognormal", "rounded"])
def test_columns_of_honest_rows_keep_the_level(kind, n0, n):
    """400 audits of one column look: at most 5 % + 4.2 standard errors alarm (false failure below 1e-4)."""
    weights = 1 / np.arange(1, 31)
    draw = {
        "rare": lambda g, m: (g.random(m) < 0.01).astype(float),
        "zipf": lambda g, m: g.choice([f"c{i}" for i in range(30)], m, p=weights / weights.sum()),
        "lognormal": lambda g, m: np.exp(1.5 * g.normal(size=m)),
        "rounded": lambda g, m: np.round(g.normal(size=m)),
    }[kind]
    alarms = 0
    for seed in range(400):
        g = rng(11, seed)
        sets = [pd.DataFrame({"x": draw(g, m), "y": g.normal(size=m)}) for m in (n0, n)]
        base = dl.sketch(sets[0], "identity")
        from driftlaw.auditing.verdict.columns import columns

        found = columns(base, dl.sketch(sets[1], like=base))
        alarms += min(c.p.value for c in found) * len(found) < 0.05
    assert alarms <= 400 * (0.05 + 4.2 * np.sqrt(0.05 * 0.95 / 400))


def test_homogeneity_is_the_chi_squared_test_where_cells_are_full():
    a, b = np.array([400, 300, 200]), np.array([90, 110, 70])
    assert homogeneity(a, b) == pytest.approx(stats.chi2_contingency([a, b], correction=False).pvalue, rel=1e-12)
    assert homogeneity(np.array([500, 1]), np.array([100, 0])) == 1.0
    assert homogeneity(np.array([0, 0]), np.array([3, 4])) == 1.0


def test_fisher_is_twice_the_smaller_tail():
    for real, generated, n0, n in ((3, 9, 500, 400), (40, 0, 800, 300), (0, 7, 900, 80)):
        got = fisher(np.array([real]), np.array([generated]), n0, n)[0]
        table = [[generated, n - generated], [real, n0 - real]]
        tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        assert got == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)


def measured(low, value, high):
    return Estimate(value, 1.0, low, high, 10, "m")


@pytest.mark.parametrize(
    ("gate", "interval", "outcome"),
    [
        (Gate("drift", fail_above=1.0), (1.1, 2, 3), "fail"),
        (Gate("drift", fail_above=1.0), (0.9, 2, 3), "pass"),
        (Gate("drift", fail_above=1.0, pass_below=0.5), (0.1, 0.2, 0.4), "pass"),
        (Gate("drift", fail_above=1.0, pass_below=0.5), (0.1, 0.2, 0.6), "cannot decide"),
        (Gate("drift", pass_below=0.5), (0.6, 0.7, 0.8), "fail"),
        (Gate("recall", fail_below=0.5), (0.1, 0.2, 0.4), "fail"),
        (Gate("recall", fail_below=0.5, pass_above=0.6), (0.55, 0.6, 0.7), "cannot decide"),
    ],
)
def test_gates_have_three_outcomes(gate, interval, outcome):
    assert limit(gate, measured(*interval)).outcome == outcome


def test_a_shift_is_held_against_its_size_and_the_unknown_cannot_be_decided():
    gate = Gate("shift", "wage", fail_above=0.2)
    assert limit(gate, measured(-0.5, -0.4, -0.3), size=True).outcome == "fail"
    assert limit(gate, measured(-0.3, -0.1, 0.1), size=True).outcome == "pass"
    assert limit(gate, Estimate.refused("m", "why")).outcome == "cannot decide"
    assert on_verdict(Gate("verdict", fail_on=("copied",)), "undetermined").outcome == "cannot decide"
    decisions = [limit(gate, measured(-0.5, -0.4, -0.3), size=True), limit(gate, Estimate.refused("m", "why"))]
    assert overall(decisions) == "fail"
    assert overall([]) == "pass"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drfit: {fail_above: 1}", "drift"),
        ("drift: {fail_abve: 1}", "fail_above"),
        ("drift: {fail_above: high}", "number"),
        ("drift: {fail_above: .nan}", "number"),
        ("drift: {fail_above: 0.1, pass_below: 0.2}", "at most"),
        ("verdict: {fail_on: [colapsed]}", "collapsed"),
        ("columns: {wage: {shfit: {fail_above: 1}}}", "shift"),
        ("columns: [wage]", "mapping"),
        ("- a", "holds no gates"),
        ("", "holds no gates"),
        ("drift: [", "not YAML"),
        ("drift:", "no limits"),
    ],
)
def test_a_bad_file_of_gates_is_named(tmp_path, text, message):
    (tmp_path / "gates.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "gates.yaml")


def test_a_gate_on_a_column_that_is_not_there(real):
    a = dl.audit(real, [people(500, 3)], features="identity")
    with pytest.raises(ConfigError, match="wage"):
        a.gate([Gate("shift", "wages", fail_above=1.0)])


def test_what_changed_since_the_last_audit(real):
    line = [people(2000, 1)]
    old = dl.audit(real, line, features="identity")
    gone = people(2000, 1, region=lambda g, n: g.choice(["north", "south"], n))
    new = dl.audit(real, [gone], features="identity")
    text = " ".join(since(old, new))
    assert "was clean and is collapsed" in text
    assert "lost categories" in text
    assert since(old, dl.audit(real, line, features="identity")) == ("Nothing changed since the last audit",)


def test_no_p_value_of_zero_is_printed():
    assert p_value(0.0) == p_value(1e-238) == "below 1e-6"
    assert p_value(0.0123) == "0.012"


def test_many_columns_that_say_the_same_are_told_once():
    g = np.random.default_rng(21)
    found = dl.audit(g.normal(size=(2000, 9)), [6 * g.normal(size=(600, 9))])
    assert "times the real variance (and 8 more columns)" in found.verdict.reasons[0]
    assert sum("times the real variance" in text for text in found.verdict.reasons) == 1


def test_a_column_in_another_unit_is_asked_about():
    g = np.random.default_rng(22)
    real = pd.DataFrame({"gram": g.normal(700, 40, 2000), "size": g.normal(size=2000)})
    found = dl.audit(real, [real.sample(500, random_state=1).assign(gram=lambda d: d.gram * 2.2)])
    assert any("gram" in text and "check its unit" in text for text in found.verdict.reasons)
    assert all("e+" not in text for text in found.verdict.reasons)


def test_an_empty_column_is_not_called_constant_as_well():
    g = np.random.default_rng(23)
    real = pd.DataFrame({"a": g.normal(size=1500), "b": g.normal(size=1500)})
    found = dl.audit(real, [real.sample(400, random_state=2).assign(b=np.nan)])
    assert found.verdict.word == "broken"
    assert not any("constant" in text for text in found.verdict.reasons)


def test_the_same_rows_given_twice_are_named():
    g = np.random.default_rng(24)
    rows = g.normal(size=(300, 3))
    found = dl.audit(g.normal(size=(900, 3)), [rows, rows.copy(), g.normal(size=(300, 3))])
    assert [w for w in found.warnings if "same rows" in w] == [
        "generations 1 and 2 hold the same rows: the later one tells nothing new"
    ]


def test_the_advised_budget_can_be_kept(tmp_path):
    g = np.random.default_rng(25)
    line = [g.normal(0.06 * k, 1, size=(1500, 2)) for k in range(1, 6)]
    found = dl.audit(g.normal(size=(3000, 2)), line, alpha=0.1)
    budget = re.search(r"--budget (\S+) --horizon (\d+)", found.verdict.action)
    assert budget is not None, found.verdict.action
    assert dl.plan(history=found, budget=float(budget[1]), horizon=int(budget[2])).feasible
