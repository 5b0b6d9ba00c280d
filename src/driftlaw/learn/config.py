r"""Estimators are frozen configurations: validated once, written to YAML, read back to the same object.

An estimator is a frozen dataclass whose annotations carry the admissible values (``Annotated[float, Field(ge=0)]``).
:func:`validate` is its ``__post_init__``; :func:`describe` and :func:`rebuild` are its round trip, so that
``rebuild(cls, describe(kind, e)) == e``. Every failure is a :class:`~driftlaw.errors.ConfigError` that names the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from driftlaw.errors import ConfigError, nearest

T = TypeVar("T")


@cache
def _adapters(cls: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: TypeAdapter(hints[f.name]) for f in dataclasses.fields(cls)}


def validate(config: Any) -> None:
    """Check and coerce every field of a frozen dataclass against its annotation, in place.

    Raises:
        ConfigError: the first field that does not fit, its value, and what is admissible.
    """
    for name, adapter in _adapters(type(config)).items():  # type: ignore[arg-type]
        value = getattr(config, name)
        try:
            object.__setattr__(config, name, adapter.validate_python(value))
        except ValidationError as error:
            reasons = dict.fromkeys(e["msg"] for e in error.errors())
            raise ConfigError(
                f"{type(config).__name__}: {name} = {value!r} cannot be used: {' or '.join(reasons)}",
                f"set {name} to an admissible value",
            ) from None


def describe(kind: str, config: Any) -> dict[str, Any]:
    """YAML-ready mapping of all fields with their ``kind`` (tuples become lists)."""
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {"kind": kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}}


def rebuild(cls: type[T], config: Mapping[str, Any]) -> T:
    """Inverse of :func:`describe` for a known class.

    Raises:
        ConfigError: an unknown key (with the nearest valid one), a missing key, or a value out of range.
    """
    given = {k: v for k, v in config.items() if k != "kind"}
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise ConfigError(f"{cls.__name__} has no setting {key!r}", nearest(str(key), fields))
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise ConfigError(f"{cls.__name__} needs the setting {name!r}", f"add {name}")
    return cls(**given)
