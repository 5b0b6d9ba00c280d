"""Numbers in words: one text for a kind of number, whichever page, terminal or record it stands in."""

import math
import re
from pathlib import Path

import pytest

from driftlaw.estimate import Estimate
from driftlaw.numerics import words

SRC = Path(words.__file__).parents[1]
#: An interval, a p-value, a grouped count or a duration that is formatted where it stands.
OWN_FORMAT = re.compile(
    r"\[\{[^{}]*low[^{}]*:[^{}]*\}, \{|\bp = \{p|replace\(\",\"|def (?:_?duration|p_text|percent|_interval)\b"
)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"),
        (1e-5, "1e-05"),
        (18170.4, "18200"),
        (2.5e7, "2.5e+07"),
        (math.inf, "infinite"),
        (math.nan, "unknown"),
    ],
)
def test_plain_numbers(x, text):
    assert words.plain(x) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "below 1e-6"), (3e-239, "below 1e-6"), (2e-6, "2e-06"), (0.2, "0.2"), (math.nan, "unknown")]
)
def test_p_values_are_never_zero(p, text):
    assert words.p_value(p) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0%"), (3e-6, "under 0.01%"), (0.0042, "0.42%"), (0.26, "26%"), (0.9979, "99.79%"),
     (0.999999, "over 99.99%"), (1.0, "100%")],
)  # fmt: skip
def test_shares_do_not_round_to_nothing_or_everything(x, text):
    assert words.share(x) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.04 s"), (119.2, "119 s"), (900, "15 min"), (7200, "2 h"), (4e7, "11\u202f111 h")]
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_names_beyond_the_first_are_counted():
    assert words.some(["a", "b", "c"]) == "a, b, c"
    assert words.some("abcdef", 2) == "a, b and 4 more"


@pytest.mark.parametrize(
    ("e", "text"),
    [
        (Estimate.normal(1.0, 0.1, 9, "m"), "1 [0.804, 1.2]"),
        (Estimate.exact(2.5, "m"), "2.5"),
        (Estimate.infinite("m", "why"), "infinite"),
        (Estimate(0.2, math.nan, 0.1, math.inf, 9, "m"), "0.2 [0.1, infinite]"),
        (Estimate.refused("m", "it needs rows"), "unknown"),
    ],
)
def test_estimates(e, text):
    assert e.text() == text
    assert e.why == ("it needs rows" if e.is_refused else "")


def test_no_floor_writes_numbers_of_its_own():
    """Thousands, p-values, durations and intervals are written by numerics.words and by nothing else."""
    wrong = []
    for path in SRC.rglob("*.py"):
        if path == Path(words.__file__) or "data" in path.parts:  # ranges of a file's values are no intervals
            continue
        source = path.read_text()
        wrong += [f"{path.name}: a string 'not given'" for _ in range('not given"' in source)]
        wrong += [f"{path.name}: {found}" for found in OWN_FORMAT.findall(source)]
    assert wrong == []
