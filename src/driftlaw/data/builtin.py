"""Data sets with a name: the paper's mixture, digits, Fashion-MNIST and CIFAR-10."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from driftlaw.data.density import DensitySource
from driftlaw.data.finite import FiniteSource, split_rows
from driftlaw.data.sets.public import CIFAR10, FASHION_MNIST, PUBLIC, load, locate, obtain
from driftlaw.errors import ConfigError, nearest
from driftlaw.progress import Progress, silent

#: Names that ``driftlaw run`` and :func:`driftlaw.data.as_source` know.
NAMES = ("gmm", "digits", "fashion-mnist", "cifar10")
_DIGITS_ROWS, _DIGITS_HELD_OUT = 1797, 597


def gmm(weights: Any = None, means: Any = None, covariances: Any = None) -> DensitySource:
    """A Gaussian mixture; without parts five equal Gaussians in ten dimensions, the mixture of [KTV]'s study.

    Args:
        weights: ``[k]``.
        means: ``[k, d]``.
        covariances: as for :class:`~driftlaw.process.laws.mixture.GaussianMixture`.

    Raises:
        ConfigError: some parts without the others.
    """
    from driftlaw.process.laws.mixture import GaussianMixture

    parts = {"weights": weights, "means": means, "covariances": covariances}
    given = {name: part for name, part in parts.items() if part is not None}
    return DensitySource(GaussianMixture.from_config(given) if given else GaussianMixture.paper(), "gmm")


def digits(held_out: float | int = _DIGITS_HELD_OUT, seed: int = 0) -> FiniteSource:
    """The 1797 real 8x8 handwritten digits that scikit-learn carries, in [-1, 1]; no download.

    Args:
        held_out: fraction or number of rows kept apart; the default leaves 1200 to draw.
        seed: of the split.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    train, held = split_rows(len(images), held_out, seed, "digits")
    return FiniteSource(
        "digits",
        images,
        train,
        held,
        location=8.0,
        scale=8.0,
        labels=torch.from_numpy(bunch.target.astype(np.int64)),
        classes=tuple(str(k) for k in range(10)),
        recipe={"kind": "digits", "held_out": held_out, "seed": seed},
    )


def fashion_mnist() -> FiniteSource:
    """60,000 real 28x28 grey images of clothing; the official 10,000 test images are held out.

    Raises:
        DataNotFoundError: it is not on this machine and there is no network.
    """
    return load(FASHION_MNIST)


def cifar10() -> FiniteSource:
    """50,000 real 32x32 colour photographs; the official 10,000 test images are held out.

    Raises:
        DataNotFoundError: it is not on this machine and there is no network.
    """
    return load(CIFAR10)


def fetch_named(name: str, progress: Progress = silent) -> str:
    """Make a named data set available and say where it is.

    Raises:
        ConfigError: no data set has this name.
        DataNotFoundError: it is not on this machine and there is no network.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no data set {name!r}", nearest(name, NAMES))
    return str(obtain(PUBLIC[name], progress)[0]) if name in PUBLIC else _INCLUDED[name]


_INCLUDED = {"gmm": "computed, nothing to download", "digits": "part of scikit-learn, nothing to download"}


def catalogue() -> list[dict[str, Any]]:
    """What ``driftlaw data list`` shows: one row per named data set.

    Returns:
        Mappings with ``name``, ``rows`` (None: endless), ``held_out``, ``shape``, ``available`` and ``where`` (where it
        was found, or how to get it).
    """
    rows: list[dict[str, Any]] = [
        {"name": "gmm", "rows": None, "held_out": None, "shape": [10], "available": True, "where": _INCLUDED["gmm"]},
        {
            "name": "digits",
            "rows": _DIGITS_ROWS - _DIGITS_HELD_OUT,
            "held_out": _DIGITS_HELD_OUT,
            "shape": [1, 8, 8],
            "available": True,
            "where": _INCLUDED["digits"],
        },
    ]
    for b in PUBLIC.values():
        found = locate(b)
        package = f", or install Debian's package {b.package}" if b.package else ""
        rows.append(
            {
                "name": b.name,
                "rows": b.sizes[0],
                "held_out": b.sizes[1],
                "shape": list(b.shape),
                "available": found is not None,
                "where": str(found[0]) if found else f"driftlaw data fetch {b.name}{package}, or set DRIFTLAW_DATA",
            }
        )
    return rows
