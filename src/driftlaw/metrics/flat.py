"""A generation as a flat mapping of floats, as loggers and dashboards take it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate


def flatten(generation: Any) -> dict[str, float]:
    """Every number of a generation by name; public as ``driftlaw.metrics``.

    Args:
        generation: a record of a run or a generation of an audit.

    Returns:
        ``"divergence/kl"`` and so on; an estimate also has ``.../low`` and ``.../high`` where it has an interval.
        Numbers that could not be given (refused) are left out, infinite ones are ``inf``.

    Raises:
        InputError: something else.

    Example:
        >>> from driftlaw.loop.record import Generation, Lineage
        >>> kl = Estimate(0.1, 0.01, 0.08, 0.12, 100, "made")
        >>> flatten(Generation(1, 1.0, 1.0, (0.0,), Lineage(5, {}, 5), 5, {"kl": kl}))["divergence/kl/high"]
        0.12
    """
    if not is_dataclass(generation) or isinstance(generation, type) or not hasattr(generation, "to_json"):
        raise InputError(f"{type(generation).__name__} is not a generation", "give a record of dl.run or of an audit")
    return dict(_numbers("", {f.name: getattr(generation, f.name) for f in fields(generation)}))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Estimate):
        if not value.is_refused:
            yield name, value.value
            if not math.isnan(value.low) and value.stderr != 0:
                yield f"{name}/low", value.low
                yield f"{name}/high", value.high
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _numbers(f"{name}/{key}" if name else str(key), inside)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _numbers(name, {f.name: getattr(value, f.name) for f in fields(value)})
    elif isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        yield name, float(value)
