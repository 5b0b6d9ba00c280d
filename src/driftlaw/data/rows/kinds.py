"""What a column of a table holds, and how it becomes float64 or categories.

Types of Arrow decide first. Text is looked at: numbers with thousands separators or decimals and ISO dates become
numbers, and that is said; text of whole numbers stays text, because zip codes are no quantities. Where a rule is given
(the kinds of the real data), the rule decides and the difference is said or, if nothing can be done, refused.

Units: dates and instants are days since 1970-01-01 (UTC), times of day seconds since midnight, durations seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftlaw.data.rows.opened import Array, ColumnInfo, ColumnKind
from driftlaw.errors import InputError

UNITS = {"date": "days since 1970-01-01", "time": "seconds since midnight", "duration": "seconds"}
DAY = 86_400e6  # microseconds
_PLAIN = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_GROUPED = r"[-+]?\d{1,3}([,'_   ]\d{3})+(\.\d+)?"
_COMMA = r"[-+]?(\d+|\d{1,3}([.   ]\d{3})+),\d+"
_MONEY = r"[$€£¥]?\s?"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_LOCAL_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
#: Text that means a missing number.
_NONE = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "None", "-")

Convert = Callable[[Any, int], Array]


@dataclass(frozen=True)
class Recognised:
    """A column, how it is converted, and what to say about it."""

    info: ColumnInfo
    convert: Convert
    note: str = ""


def kind_of(stored: pa.DataType) -> str | None:
    """Kind of an Arrow type; "missing" for one without values, None for what is neither number nor text."""
    t = pa.types
    if t.is_dictionary(stored):
        return kind_of(stored.value_type)
    if t.is_boolean(stored):
        return "boolean"
    if t.is_integer(stored) or t.is_floating(stored) or t.is_decimal(stored):
        return "number"
    if t.is_date(stored) or t.is_timestamp(stored):
        return "date"
    if t.is_time(stored):
        return "time"
    if t.is_duration(stored):
        return "duration"
    if t.is_null(stored):
        return "missing"
    text = t.is_string(stored) or t.is_large_string(stored) or str(stored) == "string_view"
    return "text" if text else None


def recognise(name: str, stored: pa.DataType, head: Any, where: str, wanted: ColumnKind | None = None) -> Recognised:
    """What a column is and how it is read.

    Args:
        name: of the column.
        stored: its type, one that :func:`kind_of` knows.
        head: its first values.
        where: the data, for messages.
        wanted: what it must become.

    Raises:
        InputError: it cannot become what is wanted.
    """
    found = kind_of(stored)
    style = ""
    if found == "text":
        style = _style([str(v) for v in head.to_pylist() if v is not None])
    looks = {"": "text", "date": "date", "local date": "text"}.get(style, "number") if found == "text" else found
    kind = wanted.kind if wanted else ("text" if looks == "missing" else str(looks))
    shown = stored.value_type if pa.types.is_dictionary(stored) else stored
    info = ColumnInfo(name, kind, str(shown), UNITS.get(kind, ""))
    context = f"column {name!r} of {where}"
    if kind == "text":
        digits = wanted.digits if wanted else 0
        note = ""
        if wanted and found in {"number", "boolean", "date", "time", "duration"}:
            padded = f", filled up to {digits} digits" if digits else ""
            note = f"column {name!r} holds {_words(found)} here and text in the real data: read as text{padded}"
        elif style == "local date":
            note = f"column {name!r} looks like dates and is read as text: write them as year-month-day"
        return Recognised(info, lambda column, first: _text(column, digits), note)
    if found == "missing":
        return Recognised(info, lambda column, first: _missing(column, kind, context, first))
    if found == "text":
        if wanted and looks == "text" and kind in {"number", "boolean"}:
            style = style or "plain"
        if kind in {"number", "boolean"}:
            rule = ", as in the real data" if wanted else ""
            how = "" if style in {"plain", "decimal"} else f" ({_example(head, style)})"
            note = f"column {name!r} holds numbers written as text{how}: read as numbers{rule}"
            return Recognised(info, lambda column, first: _parsed(column, style == "comma", context, first), note)
        if kind == "date":
            note = f"column {name!r} holds dates written as text: read as {UNITS['date']}"
            return Recognised(info, lambda column, first: _dates(column, context, first), note)
        raise _clash(context, "text", kind)
    same = found == kind or {found, kind} <= {"number", "boolean"}
    if not same:
        raise _clash(context, _words(str(found)), kind)
    note = f"column {name!r} is read as {UNITS[kind]}" if kind in UNITS and not wanted else ""
    return Recognised(info, lambda column, first: _number(column), note)


def text_kind(values: Any) -> ColumnKind:
    """The rule that categories of the real data make: text, and of how many digits if all are such codes."""
    texts = [str(v) for v in values]
    widths = {len(t) for t in texts}
    codes = bool(texts) and all(t.isascii() and t.isdigit() for t in texts) and any(t[0] == "0" for t in texts)
    return ColumnKind("text", widths.pop() if codes and len(widths) == 1 and widths != {1} else 0)


def _style(values: list[str]) -> str:
    """How text writes numbers or dates: plain, grouped, comma, decimal, date, local date, or nothing."""
    texts = [v.strip() for v in values if v.strip() not in _NONE]
    if not texts:
        return ""

    def every(pattern: str) -> bool:
        found = re.compile(f"{_MONEY}({pattern})\\s?%?")
        return all(found.fullmatch(t) for t in texts)

    whole = all(re.fullmatch(r"[-+]?\d+", t) for t in texts)
    if whole:
        return ""
    if every(_PLAIN):
        return "decimal"
    if every(f"{_PLAIN}|{_GROUPED}"):
        return "grouped"
    if every(f"[-+]?\\d+|{_COMMA}"):
        return "comma"
    if all(_DATE.fullmatch(t) for t in texts):
        return "date"
    return "local date" if all(_LOCAL_DATE.match(t) for t in texts) else ""


def _example(head: Any, style: str) -> str:
    marks = {"comma": ","}.get(style, ",'_   ")
    values = [str(v) for v in head.to_pylist() if v is not None]
    return next((repr(v) for v in values if any(m in v for m in marks)), repr(values[0]) if values else "")


def _words(kind: str) -> str:
    return {"number": "numbers", "boolean": "booleans", "date": "dates", "time": "times", "duration": "durations"}.get(
        kind, kind
    )


def _clash(context: str, found: str, wanted: str) -> InputError:
    return InputError(
        f"{context} holds {found}, the real data {_words(wanted)} there", "write both sets with one type of that column"
    )


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _number(column: Any) -> Array:
    """Float64 of numbers, booleans, dates and times; NaN where missing."""
    column = _decoded(column)
    t = pa.types
    stored, scale = column.type, 1.0
    if t.is_boolean(stored):
        column = column.cast(pa.uint8())
    elif t.is_date32(stored):
        column = column.cast(pa.int32())
    elif t.is_date(stored) or t.is_timestamp(stored):
        column, scale = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()), DAY
    elif t.is_time(stored):
        column, scale = column.cast(pa.time64("us"), safe=False).cast(pa.int64()), 1e6
    elif t.is_duration(stored):
        column, scale = column.cast(pa.duration("us"), safe=False).cast(pa.int64()), 1e6
    if column.type != pa.float64() and not t.is_float16(stored):  # which not every pyarrow casts
        column = column.cast(pa.float64(), safe=False)
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    return values if scale == 1.0 else values / scale


def _text(column: Any, digits: int = 0) -> Array:
    """Objects, None where missing; equal texts are one object."""
    if digits or not (pa.types.is_dictionary(column.type) and kind_of(column.type) == "text"):
        column = _strings(column, digits).dictionary_encode()
    names = np.empty(len(column.dictionary) + 1, dtype=object)  # the last is None: missing
    names[:-1] = column.dictionary.to_numpy(zero_copy_only=False)
    index = column.indices.fill_null(len(names) - 1) if column.indices.null_count else column.indices
    return np.asarray(names[index.to_numpy(zero_copy_only=False)])


def _strings(column: Any, digits: int) -> Any:
    column = _decoded(column)
    if pa.types.is_floating(column.type):  # 3.0 and 3 are one category
        whole = pc.equal(column, pc.round(column))
        if pc.all(whole).as_py() in (True, None):
            column = column.cast(pa.int64(), safe=False)
    if column.type != pa.string():
        column = column.cast(pa.string())
    return pc.utf8_lpad(column, digits, "0") if digits else column


def _parsed(column: Any, comma: bool, context: str, first: int) -> Array:
    """Numbers written as text."""
    column = _decoded(column).cast(pa.string())
    plain = pc.utf8_trim_whitespace(column)
    plain = pc.if_else(pc.is_in(plain, value_set=pa.array(_NONE)), pa.scalar(None, pa.string()), plain)
    lowered = pc.utf8_lower(plain)
    for word, number in (("true", "1"), ("false", "0")):
        plain = pc.if_else(pc.equal(lowered, word), number, plain)
    plain = pc.replace_substring_regex(plain, r"[$€£¥%\s'_\x{00A0}\x{202F}]", "")
    if comma:
        plain = pc.replace_substring(pc.replace_substring(plain, ".", ""), ",", ".")
    else:
        plain = pc.replace_substring(plain, ",", "")
    try:
        return _number(plain.cast(pa.float64()))
    except pa.ArrowInvalid:
        row, value = _first_bad(plain, column, lambda text: float(text))
        raise InputError(
            f"row {first + row} of {context} is {value!r}, no number", "repair it, or name the column with categorical"
        ) from None


def _missing(column: Any, kind: str, context: str, first: int) -> Array:
    """A column that starts without values."""
    if pa.types.is_null(column.type) or column.null_count == len(column):
        return np.full(len(column), np.nan)
    return _dates(column, context, first) if kind == "date" else _parsed(column, False, context, first)


def _dates(column: Any, context: str, first: int) -> Array:
    """ISO dates written as text."""
    import pandas as pd

    texts = _text(column)
    try:
        seen = pd.to_datetime(pd.Series(texts), utc=True, format="ISO8601")
    except (ValueError, TypeError):
        row, value = _first_bad(column, column, lambda text: pd.to_datetime(text, utc=True, format="ISO8601"))
        raise InputError(
            f"row {first + row} of {context} is {value!r}, no date (year-month-day)",
            "repair it, or name the column with categorical",
        ) from None
    micro = seen.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(micro), np.nan, micro.astype(np.int64) / DAY)


def _first_bad(clean: Any, original: Any, parse: Callable[[str], Any]) -> tuple[int, str]:
    for row, text in enumerate(clean.to_pylist()):
        if text is not None:
            try:
                parse(text)
            except ValueError:
                return row, str(original[row].as_py())
    return 0, ""
