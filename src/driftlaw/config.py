"""Parts of a study as plain data: one parser of ``kind:`` mappings, with the nearest valid name on a typo.

A part (source, estimator, policy, classifier) is written as a mapping, ``{"kind": "kde", "bandwidth": 0.6}``, or as its
kind alone, ``"kde"``. :class:`Kinds` holds the kinds of one family and turns either into the object that it names;
:mod:`driftlaw.kinds` lists the families. A frozen dataclass becomes a part by :class:`Described` and :func:`validate`:
its annotations carry the admissible values (``Annotated[float, Field(ge=0)]``), and ``build(part.config()) == part``.

Every failure is a :class:`~driftlaw.errors.ConfigError` that names the part, the key and what is admissible.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from driftlaw.errors import ConfigError, nearest

#: Levels of lists and mappings inside a configuration; YAML with references to itself has no end.
DEEPEST = 32
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 3, 120, 120


def shown(value: object) -> str:
    """`repr` that stays short, whatever the value is."""
    return _REPR.repr(value)


def check_depth(config: object) -> None:
    """Refuse plain data that is nested beyond use, or that contains itself.

    Raises:
        ConfigError: more than `DEEPEST` levels.
    """
    level: list[Any] = [config]
    for _ in range(DEEPEST):
        nested = {id(v): v for v in level if isinstance(v, Mapping | list | tuple)}
        if not nested:
            return
        level = [v for node in nested.values() for v in (node.values() if isinstance(node, Mapping) else node)]
    raise ConfigError(f"the configuration is nested more than {DEEPEST} levels deep", "write it flat")


def known(what: str, name: object, names: Iterable[str], more: str = "") -> str:
    """`name` if it is one of `names`.

    Args:
        what: what it names, such as "estimator kind".
        name: anything, as a file may hold.
        names: the valid ones.
        more: what else the reader could do.

    Raises:
        ConfigError: it is not, with the nearest valid name.
    """
    names = list(names)
    if isinstance(name, str) and name in names:
        return name
    raise ConfigError(
        f"unknown {what} {shown(name)}", nearest(name if isinstance(name, str) else shown(name), names) + more
    )


def named(function: Any) -> str:
    """``module:name`` of a function, or of an object's class."""
    what = function if hasattr(function, "__qualname__") else type(function)
    return f"{what.__module__}:{what.__qualname__}"


def imported(name: object, what: str) -> Any:
    """The object that ``module:name`` stands for.

    Raises:
        ConfigError: it cannot be imported; says what it is for.
    """
    module, _, attribute = str(name).partition(":")
    try:
        return attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the function {shown(name)} of {what} cannot be imported ({error})",
            "write module:name of an importable function, or give the study that holds it (study=...)",
        ) from None


def importable(function: Any, what: str) -> bool:
    """Whether the name of a function gives back this very object, in another process too."""
    try:
        return not named(function).startswith("__main__:") and imported(named(function), what) is function
    except ConfigError:
        return False


def check_keys(what: str, given: Iterable[str], valid: Collection[str], required: Iterable[str] = ()) -> None:
    """Check the keys of a mapping.

    Raises:
        ConfigError: an unknown key, with the nearest valid one, or a missing one.
    """
    given = list(given)
    for key in given:
        if key not in valid:
            raise ConfigError(f"{what} has no setting {key!r}", nearest(key, valid) if valid else "it takes none")
    if missing := [key for key in required if key not in given]:
        raise ConfigError(f"{what} needs the setting {missing[0]!r}", f"add {missing[0]}")


def validate(part: Any) -> None:
    """Check and coerce every field of a frozen dataclass against its annotation, in place (its ``__post_init__``).

    Raises:
        ConfigError: the first field that does not fit, its value, and what is admissible.
    """
    name = type(part).__name__
    for field in fields(part):
        object.__setattr__(part, field.name, _fitted(type(part), name, field.name, getattr(part, field.name)))


def describe(kind: str, part: Any) -> dict[str, Any]:
    """YAML-ready mapping of all fields of a dataclass with their ``kind`` (tuples become lists)."""
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {"kind": kind, **{name: _plain(value) for name, value in values.items()}}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value


class Described:
    """A frozen dataclass with a ``kind`` that describes itself by its fields."""

    kind: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """YAML-ready mapping of the ``kind`` and all settings."""
        return describe(self.kind, self)


class Kinds:
    """The kinds of one family of parts.

    Args:
        family: what messages call a member: "estimator".
        kinds: makers by kind; a maker is a class or function, or ``"module:name"`` of one that is imported when it is
            first used, so that listing kinds imports nothing.
        methods: what an object must have to be taken as a member as it is.
        group: entry-point group in which installed packages name kinds of their own; read when a kind is not known.

    Example:
        >>> from driftlaw.kinds import ESTIMATORS
        >>> ESTIMATORS.build({"kind": "kde", "bandwidth": 0.5})
        KDE(bandwidth=0.5, t0=0.0)
        >>> ESTIMATORS.build("gaussian")
        GaussianMLE(unbiased=False, ridge=0.0, t0=0.0)
    """

    def __init__(
        self,
        family: str,
        kinds: Mapping[str, Callable[..., Any] | str],
        methods: Iterable[str] = (),
        group: str | None = None,
    ) -> None:
        self.family = family
        self.methods = tuple(methods)
        self._makers = dict(kinds)
        self._group = group

    def __contains__(self, kind: object) -> bool:
        if not isinstance(kind, str):
            return False
        if kind not in self._makers:
            self._discover()
        return kind in self._makers

    def names(self) -> tuple[str, ...]:
        """Names of all kinds."""
        self._discover()
        return tuple(self._makers)

    def _discover(self) -> None:
        """Add the kinds of installed packages, once; a kind that is known already stays."""
        group, self._group = self._group, None
        for point in importlib.metadata.entry_points(group=group) if group else ():
            if ":" in point.value:
                self._makers.setdefault(point.name, point.value)

    def accepts(self, obj: object) -> bool:
        """Whether an object (or a class, for its instances) has the family's methods."""
        return bool(self.methods) and all(callable(getattr(obj, name, None)) for name in self.methods)

    def register(self, kind: str, maker: Callable[..., Any] | str) -> None:
        """Add a kind: its settings are the maker's parameters, checked against their annotations.

        Args:
            kind: the name in YAML.
            maker: a class or function, or ``"module:name"`` of one, imported on first use.

        Raises:
            ConfigError: a name that is taken by another maker or is no name, or a maker that cannot be called.
        """
        if not isinstance(kind, str) or not kind or set(kind) & set(":/\\., \t\n"):
            raise ConfigError(f"{shown(kind)} cannot name a kind of {self.family}", "take letters, digits and hyphens")
        if self._makers.get(kind, maker) != maker:
            raise ConfigError(f"there is another {self.family} of kind {kind!r}", "choose another name")
        if not callable(maker) and not (isinstance(maker, str) and ":" in maker):
            raise ConfigError(f"{shown(maker)} makes no {self.family}", "give a class, a function or module:name")
        self._makers[kind] = maker

    def maker(self, kind: object, more: str = "") -> Callable[..., Any]:
        """The class or function behind a kind.

        Raises:
            ConfigError: unknown, with the nearest valid name and `more` to do, or one that cannot be imported.
        """
        _ = kind in self  # kinds of installed packages
        name = known(f"{self.family} kind", kind, self._makers, more)
        maker = self._makers[name]
        if isinstance(maker, str):
            module, _, attribute = maker.partition(":")
            try:
                maker = attrgetter(attribute)(importlib.import_module(module))
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"the {self.family} {name!r} ({module}:{attribute}) cannot be imported ({error})", "install it"
                ) from error
            self._makers[name] = maker
        found: Callable[..., Any] = maker
        return found

    def settings(self, kind: object) -> dict[str, bool]:
        """Settings of a kind in order, and whether each is required."""
        return _parameters(self.maker(kind))

    def build(self, config: object) -> Any:
        """The member that a configuration describes; inverse of ``member.config()``.

        Args:
            config: a mapping with a ``kind`` and settings, a kind alone, or a member, which is returned as it is.

        Raises:
            ConfigError: no or an unknown kind, an unknown or missing key, a value that cannot be used, or an object
                that is not a member.
        """
        if isinstance(config, str):
            config = {"kind": config}
        if not isinstance(config, Mapping):
            if self.accepts(config) and not inspect.isclass(config):
                return config
            lacks = f" without {', '.join(self.methods)}" if self.methods else ""
            raise ConfigError(
                f"{self.family} is a {type(config).__name__}{lacks}",
                f"give a mapping with a kind, a kind ({', '.join(self.names())}), or such an object",
            )
        check_depth(config)
        given = {str(key): value for key, value in config.items()}
        if "kind" not in given:
            raise ConfigError(
                f"{self.family} needs a kind, got {shown(config)}", f"Valid names: {', '.join(sorted(self.names()))}"
            )
        kind = given.pop("kind")
        return make(self.maker(kind), given, f"{self.family} {kind!r}")

    def describe(self, member: Any) -> dict[str, Any]:
        """Plain data that :meth:`build` inverts.

        Raises:
            ConfigError: an object that has none.
        """
        config = getattr(member, "config", None)
        if config is None:
            raise ConfigError(f"the {self.family} has no config(), so it cannot be written to YAML", "give it one")
        found: dict[str, Any] = config()
        return found


def make(maker: Callable[..., Any], given: Mapping[str, Any], what: str) -> Any:
    """Call a class or function with settings, after a check of their names and values.

    A class with a ``__post_init__`` checks its values itself; others are checked against their annotations.

    Raises:
        ConfigError: an unknown or missing setting, or a value that does not fit.
    """
    parameters = _parameters(maker)
    check_keys(what, given, parameters, (name for name, required in parameters.items() if required))
    if not hasattr(maker, "__post_init__"):
        given = {key: _fitted(maker, what, key, value) for key, value in given.items()}
    return maker(**given)


def _parameters(maker: Callable[..., Any]) -> dict[str, bool]:
    positional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(maker).parameters.values()
    return {p.name: p.default is p.empty for p in found if p.kind not in positional}


def _fitted(maker: Any, what: str, key: str, value: Any) -> Any:
    adapter = _adapters(maker).get(key)
    try:
        return value if adapter is None else adapter.validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"] for e in error.errors(include_input=False, include_url=False))
        raise ConfigError(
            f"{what}: {key} = {shown(value)} cannot be used: {' or '.join(reasons)}",
            f"set {key} to an admissible value",
        ) from None


@cache
def _adapters(maker: Any) -> dict[str, TypeAdapter[Any]]:
    """Validators of annotated parameters; one whose annotation means nothing to pydantic is not checked."""
    function = maker.__init__ if inspect.isclass(maker) and not is_dataclass(maker) else maker
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}
    found = {}
    for name in _parameters(maker).keys() & hints.keys():
        try:
            found[name] = TypeAdapter(hints[name])
        except (PydanticSchemaGenerationError, PydanticUserError):
            try:
                found[name] = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
            except (PydanticSchemaGenerationError, PydanticUserError):
                continue
    return found
