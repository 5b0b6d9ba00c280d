"""The section "Bounds and certificates": there after `driftlaw bounds`, with formulas, assumptions and figures."""

import re
from xml.etree import ElementTree

import pytest
import report_runs
from report_runs import analysed, normal

from driftlaw import report
from driftlaw.loop.history import load
from driftlaw.report.bounds import readable
from driftlaw.report.mathml import mathml
from driftlaw.theory import FixedFraction, bounds


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    history = report_runs.gmm(tmp_path_factory.mktemp("bounds") / "run", 4)
    assert "Bounds and certificates" not in report.build(history)
    analysed().save(history.directory.path)
    return report.build(load(history.directory.path))


def card(page, name):
    return next(part for part in re.findall(r"<article.*?</article>", page, re.S) if f"<h4>{name}</h4>" in part)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("Minkowski", "within the bound"), ("Proposition 3.1", "equal within noise"),
        ("Theorem 3.4", "within the bound"),
        ("Sharp first order", "outside the bound"), ("Improved floor", "within the bound"),
        ("Theorem 4.2, as displayed", "not valid as printed"), ("TV certificate, steady state", "within the bound"),
    ],
)  # fmt: skip
def test_verdicts(page, name, tag):
    assert f">{tag}</span>" in card(page, name)
    assert "<math>" in card(page, name)


def test_assumptions_are_words(page):
    found = card(page, "Theorem 3.4")
    assert re.search(r'badge violated"><b>ε\*²</b> violated at generation 1: the score error is small', found)
    assert 'badge not"><b>A3</b> not checkable from data' in found
    assert "Needs no assumption" in card(page, "Minkowski")
    assert "Slack, upper bound / measured: " in found


def test_infinite_values_are_said_not_drawn(page):
    found = card(page, "Improved floor")
    assert "The measured value is infinite at every generation." in found
    assert "Slack" not in found


def test_sentences_figures_and_notes(page):
    assert "Regime in L² of the mixture of p and all generations: " in page
    assert "Alignment κ = 0.3" in page
    assert "χ² against p is infinite." in page
    for title in ("Innovations: do errors add up?", "What the policy remembers", "Which step caused today"):
        assert title in page
    assert "−0.05" in page, "the Gram matrix is written out"
    assert "came from the last step" in page


def test_old_bounds_say_that_they_are_old(tmp_path):
    history = report_runs.gmm(tmp_path / "run", 6)
    analysed(4).save(history.directory.path)
    page = report.build(load(history.directory.path))
    assert "made after 4 of 6 generations" in page


def test_formulas_become_mathml():
    root = ElementTree.fromstring(mathml(r"\tfrac12 \hat\varepsilon^2 \le G_{n,\mathrm{init}}\sqrt{D_0} < 1"))
    assert [e.tag for e in root] == ["mfrac", "msup", "mo", "msub", "msqrt", "mo", "mn"]
    assert "".join(root.itertext()) == "12ε^2≤Gn,init" + "D0<1"
    assert ElementTree.fromstring(mathml(r"KL'_T")).find("msubsup") is not None
    assert [e.text for e in ElementTree.fromstring(mathml(r"\tfrac18\eta")).iter("mn")] == ["1", "8"]


@pytest.mark.parametrize("latex", [r"\unknown x", "{x", "x}", r"\sqrt"])
def test_half_translated_formulas_do_not_exist(latex):
    with pytest.raises(ValueError, match=r"."):
        mathml(latex)


def test_every_formula_of_the_theory_is_known():
    e, q = normal(0.1, 0.01), 0.5
    found = [s.bound for s in analysed().statements]
    found += [bounds.proposition_3_1_reverse(e, e), bounds.consistent_field_identity(e, e), bounds.two_step_floor(q, e)]
    found += [bounds.proposition_3_3(q, e), bounds.proposition_3_3_clean(q, e)]
    found += [*bounds.innovation_bracket(q, e), *bounds.drift_bracket(e, e), bounds.mixing_contraction(q, "kl", e)]
    found += [bounds.gradient_kl(e, e), bounds.gradient_kl_reverse(e, e), bounds.gradient_observability(e, e)]
    found += [bounds.steady_state(q, e, kind) for kind in ("aligned", "independent")]
    found += [bounds.proposition_4_1_sum(q, [e], [e]), bounds.proposition_4_1_floor(q, e, e)]
    found += [bounds.improved_limsup_floor(q, e, e), bounds.theorem_4_2_additive(q, [e], 0.0)]
    found += [*bounds.tv_certificate(FixedFraction(q), [e], [e]), *bounds.tv_certificate(FixedFraction(q), [e], blur=e)]
    for b in found:
        ElementTree.fromstring(mathml(b.formula))
        assert "\\" not in mathml(b.formula)


def test_readable():
    assert readable("max(D_i, D_{i+1}) of p_hat^n, beta, eps_hat^2 <= 1") == "max(Dᵢ, Dᵢ₊₁) of p̂ⁿ, beta, ε̂² ≤ 1"
