"""One codec: every record comes back, and no damaged document ends in anything but a named error."""

import importlib
import json
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import driftlaw
from driftlaw.auditing.record import Audit
from driftlaw.errors import CorruptFileError, DriftlawError, RunDirectoryError
from driftlaw.estimate import Estimate
from driftlaw.loop.record import Generation, Lineage
from driftlaw.records import Record, _hints, decode, encode, read_json


@dataclass(frozen=True)
class Part(Record):
    name: str
    size: float = 0.0


@dataclass(frozen=True, eq=False)
class Whole(Record):
    json_extra = ("twice",)

    count: int
    sure: bool
    mode: Literal["a", "b"]
    parts: tuple[Part, ...]
    pair: tuple[float, str]
    counts: Mapping[int, int]
    array: NDArray[np.float64]
    best: Part | None = None
    lines: Sequence[str] = ()
    more: dict[str, float] = field(default_factory=dict)

    @property
    def twice(self):
        return 2 * self.count


WHOLE = Whole(
    3, True, "b", (Part("x", math.inf), Part("y")), (-math.inf, "z"), {1: 2, 10: 3},
    np.array([[1.0, math.nan], [math.inf, 2.0]]), None, ("l",), {"k": math.nan},
)  # fmt: skip
DOCUMENT = {
    "count": 3, "sure": True, "mode": "b", "parts": [{"name": "x", "size": "inf"}, {"name": "y", "size": 0.0}],
    "pair": ["-inf", "z"], "counts": {"1": 2, "10": 3}, "array": [[1.0, "nan"], ["inf", 2.0]], "best": None,
    "lines": ["l"], "more": {"k": "nan"}, "twice": 6,
}  # fmt: skip


def test_a_document_and_back():
    assert WHOLE.to_json() == DOCUMENT
    assert list(WHOLE.to_json()) == list(DOCUMENT)
    json.dumps(DOCUMENT, allow_nan=False)
    again = Whole.from_json(json.loads(json.dumps(DOCUMENT)))
    assert again.parts == WHOLE.parts
    assert (again.pair, again.counts, again.lines, again.best) == (WHOLE.pair, WHOLE.counts, WHOLE.lines, None)
    np.testing.assert_array_equal(again.array, WHOLE.array)
    assert Part.from_json({"name": "x", "newer": 1}) == Part("x")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("count", math.inf, "count is inf, not a whole number"),
        ("count", 2**63, "count is too large a whole number"),
        ("count", 1.5, "count is 1.5"),
        ("count", True, "count is True"),
        ("count", "3", "count is '3'"),
        ("sure", 1, "sure is 1, not true or false"),
        ("mode", "c", "mode is 'c', not one of a, b"),
        ("mode", [1], "mode is a list"),
        ("parts", {}, "parts is a mapping, not a list"),
        ("parts", [{"name": "x"}, 3], r"parts\[1\] is 3, not a mapping"),
        ("parts", [{"size": 1}], r"parts\[0\] lacks the key 'name'"),
        ("parts", [{"name": "x", "size": "many"}], r"parts\[0\].size is 'many', not a number"),
        ("parts", [{"name": "x", "size": 10**400}], r"parts\[0\].size is too large"),
        ("pair", [1], "pair has 1 entries, not 2"),
        ("counts", {"a": 1}, "counts has the key 'a'"),
        ("counts", {"1": None}, "counts.1 is None"),
        ("array", [[1], [1, 2]], "array is not an array of numbers"),
        ("array", "x", "array is 'x', not a list"),
        ("best", "x" * 100, "best is 'x+...*, not a mapping"),
        ("more", {"k": {}}, "more.k is a mapping, not a number"),
    ],
)
def test_what_does_not_fit_is_named(key, value, words):
    with pytest.raises(CorruptFileError, match=f"^the file is damaged: {words}"):
        decode(Whole, DOCUMENT | {key: value}, "the file")


@pytest.mark.parametrize("document", [None, [], "x", 3, math.nan])
def test_a_document_is_a_mapping(document):
    with pytest.raises(CorruptFileError, match="not a mapping"):
        Whole.from_json(document)
    with pytest.raises(DriftlawError):
        Audit.from_json(document)


def test_a_missing_key_is_named():
    with pytest.raises(CorruptFileError, match=r"the stored Whole is damaged: lacks the key 'count'. Restore it"):
        Whole.from_json({k: v for k, v in DOCUMENT.items() if k != "count"})


def test_what_is_not_stored():
    with pytest.raises(TypeError, match="a object is not stored"):
        encode(object())


def records():
    for module in pkgutil.walk_packages(driftlaw.__path__, "driftlaw."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    todo, found = [Record], []
    while todo:
        todo += (subs := todo.pop().__subclasses__())
        found += [c for c in subs if c.__module__.startswith("driftlaw.")]
    return found


def test_the_annotations_of_every_record_can_be_read():
    classes = records()
    assert len(classes) > 20
    for cls in classes:
        assert _hints(cls)
        with pytest.raises(DriftlawError):
            cls.from_json({}) if cls.__name__ != "PathMeasures" else cls.from_json(None)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=6,
)
ONE = Estimate.exact(1.0, "given")
GENERATION = Generation(1, 0.5, 0.5, (0.5,), Lineage(5, {1: 5}, 5), 10, {"kl": ONE}).to_json()


def places(document, place=()):
    yield place
    inside = dict(enumerate(document)) if isinstance(document, list) else document
    for key, value in inside.items() if isinstance(inside, dict) else ():
        yield from places(value, (*place, key))


@given(st.sampled_from([p for p in places(GENERATION) if p]), JUNK)
def test_damage_anywhere_is_an_error_or_a_record(place, junk):
    document = json.loads(json.dumps(GENERATION))
    node = document
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = junk
    try:
        json.dumps(Generation.from_json(document).to_json(), allow_nan=False)
    except CorruptFileError as error:
        assert str(place[0]) in str(error)  # noqa: PT017


def test_every_estimate_comes_back():
    for e in (
        ONE,
        Estimate.infinite("given", "why"),
        Estimate.refused("given", "why", 3),
        Estimate(1, 0.5, 0, 2, 3, "m", ("w",)),
    ):
        assert str(Estimate.from_json(json.loads(json.dumps(e.to_json(), allow_nan=False)))) == str(e)


@pytest.mark.parametrize("version", ["Infinity", "NaN", "null", "true", '"1"', "1.0", "-1", "[1]"])
def test_odd_formats(tmp_path, version):
    path = tmp_path / "x.json"
    path.write_text(f'{{"format": {version}}}')
    with pytest.raises(CorruptFileError, match=r"x.json is damaged: format is .*\. Make it again"):
        read_json(path, 3, "make it again")


def test_files(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": 3, "a": 1}')
    assert read_json(path, 3, "") == {"format": 3, "a": 1}
    with pytest.raises(RunDirectoryError, match=r"x.json has format 3; this driftlaw reads up to 2"):
        read_json(path, 2, "")
    for text in ("", "[1]", "[" * 100_000, "{", '{"format": ' + "1" * 5000 + "}"):
        path.write_text(text)
        with pytest.raises(CorruptFileError, match=r"x.json is damaged"):
            read_json(path, 3, "")
