"""From a name, a path, an array, a law or a configuration to a source, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from driftlaw.data.arrays import ArraySource
from driftlaw.data.builtin import NAMES
from driftlaw.data.density import DensitySource
from driftlaw.data.images import ImageFolder
from driftlaw.data.source import DataSource
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest
from driftlaw.kinds import SOURCES
from driftlaw.process.score import Law


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
    if isinstance(obj, str) and obj in SOURCES and not any(SOURCES.settings(obj).values()):
        return build({"kind": obj})
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
    source: DataSource = SOURCES.build(config)
    return source
