"""From a name, a path, an array, a law or a configuration to a source, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from driftlaw.data.arrays import ArraySource
from driftlaw.data.builtin import NAMES, cifar10, digits, fashion_mnist, gmm
from driftlaw.data.density import DensitySource
from driftlaw.data.images import ImageFolder
from driftlaw.data.source import DataSource
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest
from driftlaw.process.score import Law

_NAMED: dict[str, Callable[..., DataSource]] = {
    "gmm": gmm,
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}
_KINDS: dict[str, Callable[..., DataSource]] = _NAMED | {"array": ArraySource.from_file, "images": ImageFolder}


def as_source(obj: object) -> DataSource:
    """Turn what a user has into a :class:`~driftlaw.data.source.DataSource`.

    Args:
        obj: a DataSource (returned as it is), a Tensor or ndarray, a Gaussian mixture or other law, a configuration
            mapping, the name of a data set, or the path of a file or image folder.

    Raises:
        ConfigError: a name that is neither a data set nor a path.
        InputError: an object that is none of these.

    Example:
        >>> as_source("digits").shape
        (1, 8, 8)
    """
    if isinstance(obj, DataSource):
        return obj
    if isinstance(obj, Tensor | np.ndarray):
        return ArraySource(obj)
    if isinstance(obj, Mapping):
        return build(obj)
    if isinstance(obj, str) and obj in _NAMED:
        return _NAMED[obj]()
    if isinstance(obj, str | Path):
        path = Path(obj).expanduser()
        if path.is_dir():
            return ImageFolder(path)
        if path.exists() or path.suffix.lower() in (".npy", ".npz", ".parquet", ".csv"):
            return ArraySource.from_file(path)
        if isinstance(obj, Path) or "/" in obj:
            raise DataNotFoundError(f"there is no file or folder {path}", "check the path")
        raise ConfigError(f"{obj!r} is neither a data set nor a file or folder here", nearest(obj, NAMES))
    if isinstance(obj, Law):
        from driftlaw.process.laws.mixture import GaussianMixture

        return DensitySource(obj, "gmm" if isinstance(obj, GaussianMixture) else type(obj).__name__)
    raise InputError(
        f"a {type(obj).__name__} is not a source of data",
        "give a GaussianMixture, an array, a path, or one of " + ", ".join(NAMES),
    )


def build(config: Mapping[str, Any]) -> DataSource:
    """Inverse of ``source.config()``.

    Args:
        config: ``kind`` (gmm, digits, fashion-mnist, cifar10, array, images) and the settings of that kind; a gmm
            without settings is the mixture of [KTV].

    Raises:
        ConfigError: an unknown kind or key (with the nearest valid one), a missing key, or a value that does not fit.
    """
    settings = {str(k): v for k, v in config.items()}
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"the source has no usable kind: {kind!r}", nearest(str(kind), _KINDS))
    if kind == "gmm" and settings:
        from driftlaw.process.laws.mixture import GaussianMixture

        return DensitySource(GaussianMixture.from_config(config), "gmm")
    factory = _KINDS[kind]
    adapters = _settings(factory)
    for key in settings:
        if key not in adapters:
            raise ConfigError(f"a source of kind {kind!r} has no setting {key!r}", nearest(key, adapters))
    required = inspect.signature(factory).parameters.values()
    if missing := [p.name for p in required if p.default is p.empty and p.name not in settings]:
        raise ConfigError(f"a source of kind {kind!r} needs {', '.join(missing)}", f"add {missing[0]}")
    for key, value in settings.items():
        try:
            settings[key] = adapters[key].validate_python(value)
        except ValidationError as error:
            reasons = " or ".join(dict.fromkeys(e["msg"] for e in error.errors()))
            raise ConfigError(
                f"{key} = {value!r} cannot be used for a source of kind {kind!r}: {reasons}", ""
            ) from None
    return factory(**settings)


@cache
def _settings(factory: Callable[..., DataSource]) -> dict[str, TypeAdapter[Any]]:
    function = factory.__init__ if inspect.isclass(factory) else factory
    hints = get_type_hints(function)
    return {name: TypeAdapter(hints[name]) for name in inspect.signature(factory).parameters}
