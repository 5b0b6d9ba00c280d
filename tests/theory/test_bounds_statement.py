"""Slack, contradiction, intervals of bounds and the audit of assumptions."""

import json
import math

import numpy as np
import pytest

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory import bounds
from driftlaw.theory.bounds.statement import premise, propagate


def around(value, half=0.01):
    return Estimate(value, half / 1.96, value - half, value + half, 100, "given")


def statement(side, value, measured):
    return bounds.Bound("name", "reference", "quantity", "formula", side, value, measured)


def test_slack_and_contradiction():
    one = Estimate.exact(1.0, "x")
    assert statement("upper", around(2), one).slack == 2
    assert not statement("upper", around(2), one).contradicted
    assert statement("upper", around(0.9), one).contradicted
    assert not statement("upper", around(0.995), one).contradicted  # inside the interval
    assert statement("lower", around(1.1), one).contradicted
    assert not statement("lower", around(0.5), one).contradicted
    assert statement("identity", around(1.1), one).contradicted
    assert statement("identity", around(0.9), one).contradicted
    assert not statement("identity", around(1.005), one).contradicted
    assert math.isnan(statement("upper", around(1), None).slack)
    assert statement("upper", around(1), Estimate.exact(0, "x")).slack == math.inf
    assert statement("upper", around(1), Estimate.infinite("x", "heavy tail")).contradicted
    assert not statement("upper", around(1), Estimate.refused("x", "no")).contradicted


def test_box_interval_covers_whatever_the_dependence():
    """Perfectly dependent inputs are the worst case, where the box is exactly the interval of the sum."""
    x, y = Estimate.normal(1.0, 0.1, 50, "x"), Estimate.normal(2.0, 0.3, 80, "y")
    total = propagate(lambda a, b: a + b, "sum", a=x, b=y)
    assert total.value == 3
    assert total.stderr == pytest.approx(0.4)
    assert (total.low, total.high) == pytest.approx((x.low + y.low, x.high + y.high))
    assert total.n == 80
    falling = propagate(lambda a, b: b / a, "ratio", a=x, b=y)
    assert falling.low == pytest.approx(y.low / x.high)
    assert falling.high == pytest.approx(y.high / x.low)


def test_box_interval_cuts_energies_at_zero_and_keeps_warnings():
    noisy = Estimate.normal(0.01, 0.1, 50, "x", ("few",))
    root = propagate(lambda a: math.sqrt(a), "root", a=noisy)
    assert root.low == 0
    assert root.warnings == ("a: few",)
    vector = propagate(lambda a: sum(a), "sum", a=[1.0, noisy])
    assert vector.value == pytest.approx(1.01)
    assert vector.low == 1.0


def test_a_missing_input_gives_no_number():
    bound = bounds.proposition_3_1(Estimate.refused("x", "not measured"), 0.1)
    assert bound.value.is_refused
    assert not bound.certified
    assert bounds.proposition_3_3(Estimate.refused("x", "-"), 0.1).value.is_refused
    assert bounds.theorem_3_4(Estimate.infinite("x", "tail"), 1.0).value.is_infinite
    assert bounds.proposition_3_3(0.5, math.inf, 1.0).value.is_refused  # inf - inf


def test_premise_is_judged_by_the_interval():
    assert premise("x", "x <= 1", around(0.5), 1.0).status == "checked"
    assert premise("x", "x <= 1", around(1.0), 1.0).status == "not checkable from data"
    assert premise("x", "x <= 1", around(1.5), 1.0).status == "violated"
    assert premise("x", "finite", 3.0, math.inf).status == "checked"
    assert premise("x", "finite", math.inf, math.inf).status == "violated"
    assert premise("x", "finite", Estimate.refused("x", "-"), math.inf).status == "not checkable from data"


def statuses(evidence):
    return [a.status for a in evidence.assumptions("A1", "A2", "A3", "A4", "A5")]


def test_without_evidence_nothing_is_checked():
    assert statuses(bounds.Evidence()) == ["not checkable from data"] * 5


def test_benign_evidence_is_checked():
    evidence = bounds.Evidence(
        eps_hat2=around(0.3),
        density_mean=around(1.0),
        density_tail=around(0.2),  # delta = 4, gamma = 2: the quadratic variation needs 4 moments
        variation_tail=around(0.2),
        generation_tails=[around(0.1), around(0.3)],
    )
    assert statuses(evidence) == ["checked"] * 5


def test_data_can_refute_each_assumption():
    evidence = bounds.Evidence(
        eps_hat2=Estimate.infinite("x", "heavy tail"),
        density_mean=around(0.8),
        density_tail=around(0.6),
        generation_tails=[around(0.1), around(0.6)],
    )
    unknown = "not checkable from data"
    assert statuses(evidence) == ["violated", "violated", unknown, unknown, unknown]
    # a tail index read from draws is suspicious and refutes nothing: N(3, 1)/N(0, 1) has all moments
    for name in ("A3", "A5"):
        assert evidence.assumptions(name)[0].evidence.startswith("suspicious")
    heavy = bounds.Evidence(density_tail=around(0.2), variation_tail=around(0.27))
    assert statuses(heavy)[3] == unknown  # 1/0.27 < 4 moments
    # delta = 1/0.4 - 1 = 1.5, gamma = max(2, 4/0.5) = 8: ten moments are needed, 0.09 is enough and 0.12 is not
    for tail, status in ((0.08, "checked"), (0.12, unknown)):
        assert statuses(bounds.Evidence(density_tail=around(0.4), variation_tail=around(tail)))[3] == status
    assert statuses(bounds.Evidence(density_tail=around(0.5)))[2] == "not checkable from data"


def test_bounds_are_strict_json():
    bound = bounds.proposition_3_1(math.inf, 0.0, Estimate.refused("x", "-"))
    document = json.loads(json.dumps(bound.to_json(), allow_nan=False))
    assert document["slack"] == "nan"
    assert document["assumptions"][0] == {
        "name": "eps_hat^2",
        "text": "eps_hat^2 is finite",
        "status": "violated",
        "evidence": "eps_hat^2 = inf",
    }


def test_negative_inputs_are_refused():
    with pytest.raises(InputError, match="a must be a non-negative number"):
        propagate(lambda a: a, "x", a=-1.0)
    with pytest.raises(InputError, match="a must be a non-negative number"):
        propagate(lambda a: sum(a), "x", a=[0.5, float(np.nan)])
