"""From a name, a path, an array, a law or a configuration to a source, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from driftlaw.data.arrays import ArraySource
from driftlaw.data.builtin import NAMES
from driftlaw.data.density import DensitySource
from driftlaw.data.images import ImageFolder
from driftlaw.data.rows.arrow import saved_to_disk
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import Options
from driftlaw.data.rows.places import Place
from driftlaw.data.source import DataSource
from driftlaw.data.stored import whole
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest
from driftlaw.kinds import SOURCES
from driftlaw.process.score import Law


def as_source(obj: object) -> DataSource:
    """Turn what a user has into a :class:`~driftlaw.data.source.DataSource`.

    Args:
        obj: a DataSource (returned as it is), a Tensor or ndarray, a Gaussian mixture or other law, a configuration
            mapping, the name of a data set, the path of a file or folder, an address, or any frame, data set or list
            of rows that :func:`driftlaw.open_rows` reads (numbers only; held in memory, so a run of it cannot be
            resumed from its files alone).

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
    if isinstance(obj, Mapping) and not _is_columns(obj):
        return build(obj)
    if isinstance(obj, str) and obj in SOURCES and not any(SOURCES.settings(obj).values()):
        return build({"kind": obj})
    if isinstance(obj, str | Path):
        path = Path(obj).expanduser()
        if path.is_dir():
            return ImageFolder(path) if _holds_images(path) else ArraySource.from_file(path)
        if path.exists() or "://" in str(obj) or Place(str(path)).format is not None:
            return ArraySource.from_file(obj)
        if isinstance(obj, Path) or "/" in obj:
            raise DataNotFoundError(f"there is no file or folder {path}", "check the path")
        raise ConfigError(f"{obj!r} is neither a data set nor a file or folder here", nearest(obj, NAMES))
    if isinstance(obj, Law):
        from driftlaw.process.laws.mixture import GaussianMixture

        return DensitySource(obj, "gmm" if isinstance(obj, GaussianMixture) else type(obj).__name__)
    if isinstance(obj, Iterable) or any(hasattr(obj, name) for name in ("shape", "__len__", "__arrow_c_stream__")):
        rows = open_any(obj, Options())
        table = whole(rows)
        source = ArraySource(table.values, name=rows.name)
        source.warnings = (*source.warnings, *rows.notes)
        return source
    raise InputError(
        f"a {type(obj).__name__} is not a source of data",
        "give a GaussianMixture, an array, a table, a data set, a path, or one of " + ", ".join(NAMES),
    )


def _is_columns(obj: Mapping[Any, Any]) -> bool:
    """Whether a mapping holds columns of rows, not the settings of a source."""
    return (
        "kind" not in obj and bool(obj) and all(hasattr(v, "__len__") and not isinstance(v, str) for v in obj.values())
    )


def _holds_images(path: Path) -> bool:
    """Whether a folder is one of images, or nothing that another reader knows."""
    place = Place(str(path))
    if saved_to_disk(place) is not None or any(place.has(n) for n in (".zarray", "zarr.json", ".zgroup")):
        return False
    forms = {p.format for p in place.files()} - {None}
    return not forms or "image" in forms


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
