"""Parts of a study that its plain data do not rebuild: own classes, which must never be swapped for built-in ones.

A run directory holds a study as plain data. A class of one's own that inherits ``config()`` from a built-in one
describes itself as that one, and what is rebuilt from the description is something else. Whoever rebuilds a study asks
here first.
"""

from __future__ import annotations

import inspect
from typing import Any

from driftlaw.config import Kinds
from driftlaw.errors import ConfigError
from driftlaw.kinds import FAMILIES, SELECTS
from driftlaw.loop.step import own_measures
from driftlaw.theory.blocks import sizes


def own_parts(study: object) -> dict[str, str]:
    """Parts that ``build(part.config())`` would not give back, with the name of their class.

    Args:
        study: a :class:`driftlaw.loop.study.Study`, or anything with its parts.

    Returns:
        ``{"estimator": "__main__.Triple"}``; empty where all parts are rebuilt as they are.
    """
    parts = {
        name: f"{type(part).__module__}.{type(part).__qualname__}"
        for name, kinds in (FAMILIES | {"select": SELECTS}).items()
        if getattr(study, name, None) is not None and not _rebuilt_alike(kinds, part := getattr(study, name))
    }
    measures = getattr(study, "measures", None)
    parts |= sizes.not_rebuilt(getattr(study, "samples", 0))
    return parts if measures is None else parts | own_measures.not_rebuilt(measures.own)


def to_read(parts: dict[str, str]) -> dict[str, str]:
    """The own parts without which a run cannot be read; its measures are in its records."""
    return {name: cls for name, cls in parts.items() if not name.startswith("measures.")}


def refuse(parts: dict[str, str], verb: str) -> None:
    """Refuse to go on without the object itself.

    Args:
        parts: as of :func:`own_parts`.
        verb: what was asked for, such as "resume".

    Raises:
        ConfigError: there is an own part; names it and what to do.
    """
    for name, cls in parts.items():
        raise ConfigError(
            f"the {name} is a {cls} of your own; its configuration does not rebuild it, so {verb} would use another",
            "give the study that holds it (study=...), or make it a kind of its own: "
            f"dl.register(kind, {cls.rpartition('.')[2]})",
        )


def _rebuilt_alike(kinds: Kinds, part: Any) -> bool:
    """Whether a part's configuration gives the same class with the same configuration."""
    try:
        config = kinds.describe(part)
        maker = kinds.maker(config.get("kind"))
    except (ConfigError, AttributeError):
        return False
    if not inspect.isclass(maker):  # a function that makes a source: of the package, or not
        return type(part).__module__.split(".")[0] == "driftlaw"
    if type(part) is not maker:
        return False
    if kinds.family == "source":  # may read a folder of images: the class decides
        return True
    try:
        return bool(kinds.describe(kinds.build(config)) == config)
    except ConfigError:
        return False
