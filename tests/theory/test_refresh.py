"""Policies: their rows, their words, and what they refuse."""

import numpy as np
import pytest

from driftlaw.errors import ConfigError, InputError
from driftlaw.theory import (
    Accumulate,
    AccumulateSubsample,
    FixedFraction,
    Policy,
    Replace,
    Schedule,
    Window,
    build,
    check_rows,
    parse,
)

POLICIES = [
    Replace(),
    FixedFraction(0.3),
    Schedule([1, 0, 0.25, 0.5, 0.0]),
    Accumulate(),
    AccumulateSubsample(),
    Window(2),
    Window(3, fresh=0.1),
]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("N", [1, 2, 5])
def test_rows_are_causal_and_stochastic(policy, N):
    assert isinstance(policy, Policy)
    fresh, mixing = policy.rows(N)
    assert fresh.shape == (N,)
    assert mixing.shape == (N, N + 1)
    assert (mixing >= 0).all()
    np.testing.assert_allclose(fresh + mixing.sum(axis=1), 1, atol=1e-15)
    assert (np.triu(mixing, 1) == 0).all()  # exactly zero for j > i
    check_rows(fresh, mixing)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_longer_horizon_only_appends_rows(policy):
    (short_a, short_w), (long_a, long_w) = policy.rows(3), policy.rows(5)
    assert (short_a == long_a[:3]).all()
    assert (short_w == long_w[:3, :4]).all()


def test_rows_in_numbers():
    fresh, mixing = FixedFraction(0.3).rows(2)
    assert fresh.tolist() == [0.3, 0.3]
    assert mixing.tolist() == [[0.7, 0, 0], [0, 0.7, 0]]
    fresh, mixing = Accumulate().rows(3)
    assert fresh.tolist() == [0, 0, 0]
    np.testing.assert_allclose(mixing, [[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]])
    fresh, mixing = Window(2, fresh=0.1).rows(3)
    assert fresh.tolist() == [0.1, 0.1, 0.1]
    np.testing.assert_allclose(mixing, [[0.9, 0, 0, 0], [0.45, 0.45, 0, 0], [0, 0.45, 0.45, 0]])
    assert Schedule([1, 0.25]).rows(2)[1].tolist() == [[0, 0, 0], [0, 0.75, 0]]


def test_what_is_the_same_policy():
    for one, other in [
        (Replace(), FixedFraction(0)),
        (FixedFraction(0.2), Window(1, fresh=0.2)),
        (FixedFraction(0.2), Schedule([0.2] * 4)),
        (Accumulate(), AccumulateSubsample()),
        (Accumulate(), Window(4)),
    ]:
        for a, b in zip(one.rows(4), other.rows(4), strict=True):
            assert (a == b).all()
    assert [p.grows for p in POLICIES] == [False, False, False, True, False, False, False]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_config_is_inverted_by_build(policy):
    assert build(policy.config()) == policy
    assert hash(build(policy.config())) == hash(policy)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("replace", Replace()),
        ("fixed:0.5", FixedFraction(0.5)),
        ("fixed:1", FixedFraction(1.0)),
        ("schedule:1,0,0.5", Schedule([1.0, 0.0, 0.5])),
        ("accumulate", Accumulate()),
        ("accumulate-subsample", AccumulateSubsample()),
        ("window:3", Window(3)),
        (" window:3, 0.1 ", Window(3, 0.1)),
    ],
)
def test_parse(text, policy):
    assert parse(text) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixd:0.5", "Did you mean 'fixed'"),
        ("fixed", "needs the setting 'alpha'"),
        ("fixed:half", "not a number"),
        ("fixed:0.5,0.1", "takes 1"),
        ("replace:1", "takes 0"),
        ("schedule", "at least one"),
        ("window:2.5", "whole number"),
        ("fixed:-0.1", r"\[0, 1\]"),
        ("fixed:1.01", r"\[0, 1\]"),
        ("fixed:nan", r"\[0, 1\]"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"alpha": 0.5}, "needs a kind"),
        ("fixed", "needs the setting 'alpha'"),
        (["fixed"], "policy is a list without rows"),
        ({"kind": "fixed", "alhpa": 0.5}, "Did you mean 'alpha'"),
        ({"kind": "replace", "alpha": 0.5}, "takes none"),
        ({"kind": "window", "fresh": 0.5}, "needs the setting 'k'"),
        ({"kind": "fixed", "alpha": "0.5"}, r"\[0, 1\]"),
        ({"kind": "fixed", "alpha": True}, r"\[0, 1\]"),
        ({"kind": "schedule", "alphas": 0.5}, "list of fractions"),
        ({"kind": "schedule", "alphas": [0.5, 2]}, r"alphas\[1\]"),
        ({"kind": "window", "k": 0}, "whole number"),
    ],
)
def test_build_refuses(config, message):
    with pytest.raises(ConfigError, match=message):
        build(config)


@pytest.mark.parametrize("N", [0, -1, 2.0, True])
def test_horizon_is_a_positive_whole_number(N):
    with pytest.raises(InputError, match="whole number >= 1"):
        Replace().rows(N)


def test_schedule_is_never_extended_silently():
    with pytest.raises(InputError, match=r"2 fractions but 3 generations.*repeat the last one, 0.5"):
        Schedule([1, 0.5]).rows(3)


@pytest.mark.parametrize(
    ("fresh", "mixing", "message"),
    [
        ([0.5, 0.5], [[0.5, 0, 0], [0.7, -0.2, 0]], "row 1 .* negative"),
        ([0.5, 0.4], [[0.5, 0, 0], [0, 0.5, 0]], "row 1 .* sum to 1"),
        ([0.5, 0.5], [[0.25, 0.25, 0], [0, 0.5, 0]], "row 0 .* not trained yet"),
        ([0.5, np.nan], [[0.5, 0, 0], [0, 0.5, 0]], "row 1 .* not finite"),
        ([1.5, 0.5], [[-0.5, 0, 0], [0, 0.5, 0]], "row 0 .* negative"),
        ([0.5], [[0.5]], "shapes"),
        ([], np.zeros((0, 1)), "shapes"),
    ],
)
def test_rows_of_a_user_are_checked(fresh, mixing, message):
    with pytest.raises(InputError, match=message):
        check_rows(fresh, mixing)


def test_a_horizon_beyond_memory_is_refused_with_its_size():
    with pytest.raises(InputError, match=r"100000 generations need 74.5 GiB"):
        FixedFraction(0.5).rows(100_000)
