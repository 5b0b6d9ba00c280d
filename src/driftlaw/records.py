"""Frozen dataclasses to strict JSON and back: one codec for everything that is stored.

A :class:`Record` is a frozen dataclass whose document has one key per field, in their order. Infinities and NaN become
the strings ``"inf"``, ``"-inf"``, ``"nan"``; tuples and arrays become lists; mappings have text keys. Reading goes by
the annotations: a key that is missing takes the field's default, keys that no field has are ignored (a newer version
wrote them), and whatever does not fit raises :class:`~driftlaw.errors.CorruptFileError` with the place,
``generations[2].drift.n``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from driftlaw.errors import CorruptFileError, DriftlawError, RunDirectoryError

T = TypeVar("T")
_SPECIAL = {"inf", "-inf", "nan"}
_DIGEST = re.compile("[0-9a-f]{64}")


class _MisfitError(Exception):
    """Something in a document that does not fit, with the keys that lead to it, innermost first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.place: list[str] = []

    def __str__(self) -> str:
        place = "".join(reversed(self.place)).lstrip(".")
        return f"{place + ' ' if place else ''}{self.args[0]}"


class Record:
    """A frozen dataclass that is stored as JSON."""

    #: Properties that are written for readers, too, and not read.
    json_extra: ClassVar[tuple[str, ...]] = ()
    #: Fields that are not written: such a document is not read back.
    json_hidden: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        own = (f.name for f in fields(self) if f.name not in self.json_hidden)  # type: ignore[arg-type]
        names = (*own, *self.json_extra)
        return {name: encode(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`; what follows from other numbers is computed again.

        Raises:
            CorruptFileError: a key that is missing or holds something else.
        """
        return decode(cls, document)


def encode(value: Any) -> Any:
    """A value as strict JSON.

    Raises:
        TypeError: it is nothing that a document holds.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, int | np.integer | np.bool_):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray):
        return encode(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): encode(inside) for key, inside in value.items()}
    if isinstance(value, Sequence):
        return [encode(inside) for inside in value]
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"a {type(value).__name__} is not stored as JSON")


def decode(cls: type[T], document: Any, where: str = "", again: str = "restore it") -> T:
    """A dataclass from its document.

    Args:
        cls: the dataclass.
        document: what :func:`encode` made of it.
        where: the file, for messages.
        again: what can be done about a damaged one.

    Raises:
        CorruptFileError: a key that is missing or holds something else.
    """
    try:
        found: T = _dataclass(cls, document)
        return found
    except _MisfitError as error:
        raise CorruptFileError(f"{where or f'the stored {cls.__name__}'} is damaged: {error}", again) from None


def read_json(path: Path, newest: int, again: str) -> dict[str, Any]:
    """The JSON object in a file that has a ``format``.

    Args:
        path: of the file.
        newest: largest format that can be read.
        again: how to make the file again.

    Raises:
        CorruptFileError: it is damaged.
        RunDirectoryError: its format is newer.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict):
            document = unsigned(document)
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is damaged ({error})", again) from error
    version = document.get("format") if isinstance(document, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CorruptFileError(f"{path} is damaged: format is {_shown(version)}", again)
    if version > newest:
        raise RunDirectoryError(f"{path} has format {version}; this driftlaw reads up to {newest}", again)
    found: dict[str, Any] = document
    return found


def canonical_json(document: Any) -> str:
    """Strict JSON on one line with sorted keys: equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, allow_nan=False, separators=(",", ":"))


def signed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with the ``sha256`` of the rest of it."""
    return {**document, "sha256": hashlib.sha256(canonical_json(dict(document)).encode()).hexdigest()}


def unsigned(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without its ``sha256``, which is checked; older files have none.

    Raises:
        ValueError: it was changed.
    """
    rest = {key: value for key, value in document.items() if key != "sha256"}
    if "sha256" not in document and any("." not in k and _DIGEST.fullmatch(str(v)) for k, v in rest.items()):
        raise ValueError("the name of its hash was changed")
    if "sha256" in document and document["sha256"] != signed(rest)["sha256"]:
        raise ValueError("it does not have the recorded hash")
    return rest


def _shown(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _hints(cls: Any) -> dict[str, tuple[Any, Field[Any]]]:
    hints = get_type_hints(cls)
    return {f.name: (hints[f.name], f) for f in fields(cls) if f.init}


def _inside(hint: Any, value: Any, key: str) -> Any:
    try:
        return _value(hint, value)
    except _MisfitError as error:
        error.place.append(key)
        raise


def _dataclass(cls: Any, document: Any) -> Any:
    if not isinstance(document, Mapping):
        raise _MisfitError(f"is {_shown(document)}, not a mapping")
    values = {}
    for name, (hint, field) in _hints(cls).items():
        if name in document:
            values[name] = _inside(hint, document[name], f".{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _MisfitError(f"lacks the key {name!r}")
    try:
        return cls(**values)
    except (DriftlawError, ValueError) as error:
        raise _MisfitError(f"cannot be used ({error})") from None


def _value(hint: Any, value: Any) -> Any:
    if hint is Any or hint is object:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _value(arguments[0], value)
    if hint in _SCALARS:
        return _SCALARS[hint](value)
    if origin is Literal:
        if value not in arguments:
            raise _MisfitError(f"is {_shown(value)}, not one of {', '.join(map(str, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        return _union(arguments, value)
    if origin is np.ndarray:
        return _array(arguments, value)
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return _sequence(origin, arguments, value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments, value)
    if isinstance(hint, type) and issubclass(hint, Record) and "from_json" in vars(hint):
        return _own(hint, value)
    if is_dataclass(hint):
        return _dataclass(hint, value)
    raise TypeError(f"{hint} is not stored as JSON")


def _own(hint: type[Record], value: Any) -> Any:
    """A record that reads itself."""
    if not isinstance(value, Mapping):
        raise _MisfitError(f"is {_shown(value)}, not a mapping")
    try:
        return hint.from_json(value)
    except CorruptFileError as error:
        raise _MisfitError(f"cannot be used ({error.what})") from None


def _float(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and value in _SPECIAL):
        raise _MisfitError(f"is {_shown(value)}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise _MisfitError("is too large a number") from None


def _int(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise _MisfitError(f"is {_shown(value)}, not a whole number")
    if abs(value) >= 2**63:
        raise _MisfitError("is too large a whole number")
    return int(value)


def _exactly(kind: type[T], word: str) -> Any:
    def check(value: Any) -> T:
        if not isinstance(value, kind):
            raise _MisfitError(f"is {_shown(value)}, not {word}")
        return value

    return check


_SCALARS: dict[Any, Any] = {
    float: _float,
    int: _int,
    bool: _exactly(bool, "true or false"),
    str: _exactly(str, "text"),
    types.NoneType: _exactly(types.NoneType, "null"),
}


def _union(choices: tuple[Any, ...], value: Any) -> Any:
    if value is None and types.NoneType in choices:
        return None
    misfits = []
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _value(choice, value)
            except _MisfitError as error:
                misfits.append(error)
    raise misfits[0]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _MisfitError(f"is {_shown(value)}, not a list")
    return list(value)


def _sequence(origin: Any, hints: tuple[Any, ...], value: Any) -> Any:
    items = _list(value)
    if origin is tuple and not (len(hints) == 2 and hints[1] is Ellipsis):
        if len(items) != len(hints):
            raise _MisfitError(f"has {len(items)} entries, not {len(hints)}")
        return tuple(_inside(hint, item, f"[{i}]") for i, (hint, item) in enumerate(zip(hints, items, strict=True)))
    found = (_inside(hints[0], item, f"[{i}]") for i, item in enumerate(items))
    return list(found) if origin is list else tuple(found)


def _mapping(hints: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _MisfitError(f"is {_shown(value)}, not a mapping")
    key_hint, hint = hints
    found = {}
    for key, item in value.items():
        try:
            known = int(key) if key_hint is int else key
        except ValueError:
            raise _MisfitError(f"has the key {_shown(key)}, not a whole number") from None
        found[known] = _inside(hint, item, f".{key}")
    return found


def _array(hints: tuple[Any, ...], value: Any) -> np.ndarray[Any, Any]:
    wanted = (get_args(hints[1]) or (np.float64,))[0]
    try:
        return np.array(_list(value), dtype=np.float64 if wanted is Any else wanted)
    except (ValueError, TypeError, OverflowError):
        raise _MisfitError("is not an array of numbers") from None
