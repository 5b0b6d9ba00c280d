"""The frozen rule from raw rows to features: encoder, feature map and histogram edges (this project, theory section 5).

It is fitted once on real rows that are then *not* counted as a reference. A map fitted on the rows it is compared with
is biased: leading principal directions of a sample are those along which this very sample happens to vary most, so the
sample looks too spread along them and a fresh sample of the same law seems to have shrunk. Edges at quantiles of the
reference have the same fault. Scaling and products of columns have none, but one rule serves all kinds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.measure.features import columns as feature_maps
from driftlaw.measure.features import encoder as encoders
from driftlaw.measure.features import steps as feature_steps
from driftlaw.measure.features.columns import External
from driftlaw.measure.features.encoder import ArrayEncoder, Encoder, Rows, TableEncoder, as_table
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.sketch.histograms import WIDEST, real_edges

#: The default: the columns themselves where there are at most :data:`OWN` of them, principal coordinates else. What
#: moves a little in every column is not seen by a few principal coordinates, and columns have names.
AUTO, OWN = "auto", 1024


@dataclass(frozen=True, eq=False)
class SketchFeatures:
    """A named, seeded, frozen map from raw rows to R^k.

    Args:
        encoder: raw rows to numeric columns.
        phi: columns (a built-in map) or rows (a map of the user) to features.
        edges: ``[J, c]`` of the counted columns.
        seed: of the map and of the assignment of rows to blocks.
        fitted_on: number of real rows behind it.
        warnings: what a reader of any number computed from it must know.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> phi = SketchFeatures.fit(x, "quadratic")
        >>> phi.labels
        ['x0', 'x1', 'x2', 'x0^2', 'x1^2', 'x2^2', 'x0*x1', 'x0*x2', 'x1*x2']
    """

    encoder: Encoder
    phi: FeatureMap | External
    edges: NDArray[np.float64]
    seed: int
    fitted_on: int
    warnings: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        rows: Rows,
        features: str | Any = AUTO,
        *,
        dimension: int | None = None,
        seed: int = 0,
        categorical: tuple[str, ...] = (),
        kinds: Mapping[str, str] | None = None,
    ) -> SketchFeatures:
        """Fit on real rows that are not to be counted afterwards.

        Args:
            rows: ``[n, ...]`` array, or a table (arrays by column name, DataFrame).
            features: "auto" ("identity" for tables and rows of at most :data:`OWN` numbers, else "pca"), "pca",
                "identity", "quadratic", "random_fourier", "hermite", or a map of the user (of arrays only).
            dimension: largest number of features; 32 for "pca" and "random_fourier", 256 for "quadratic".
            seed: of the map and of the blocks.
            categorical: numeric columns of a table that are categories.
            kinds: what the reader recognised in each column of a table.

        Raises:
            InputError: fewer than 2 rows, unknown features, NaN or infinite cells of arrays, no column that varies.
        """
        if isinstance(features, str) and features not in (AUTO, *feature_maps.KINDS):
            raise InputError(f"unknown features {features!r}", nearest(features, feature_maps.KINDS))
        is_table = isinstance(rows, Mapping) or hasattr(rows, "columns")
        if is_table:
            encoder: Encoder = TableEncoder.fit(as_table(rows), categorical, kinds)
        else:
            if categorical:
                raise InputError("categorical columns were named for an array without names", "give a table")
            shape = torch.as_tensor(rows).shape
            encoder = ArrayEncoder(tuple(shape[1:]) if len(shape) else ())
        if isinstance(features, str) and features == AUTO:
            small = isinstance(encoder, TableEncoder) or (len(encoder.shape) < 2 and len(encoder.names) <= OWN)
            features = "identity" if small and dimension is None else "pca"
        encoded = encoder(rows)
        n = len(encoded.columns)
        if n < 2:
            raise InputError(f"{n} rows were given to fit the features on", "at least 2 are needed, better 1,000")
        phi: FeatureMap | External
        if isinstance(features, str):
            phi = feature_maps.fit(features, encoded.columns.double(), encoder.names, dimension=dimension, seed=seed)
            warnings = phi.warnings
        elif is_table:
            raise InputError("maps of the user are for arrays and images", "choose pca, identity or quadratic")
        else:
            phi, warnings = External.of(features, encoded.columns.reshape(-1, *_shape(encoder))), ()
        counted = encoded.raw if _counts_columns(encoder) else _apply(phi, encoder, encoded.columns)
        return cls(encoder, phi, real_edges(np.asarray(counted, dtype=np.float64)), seed, n, warnings)

    @property
    def name(self) -> str:
        """Name of the feature map."""
        return self.phi.name

    @property
    def dimension(self) -> int:
        """Number of features, k."""
        return self.phi.dimension

    @cached_property
    def labels(self) -> list[str]:
        """One name per feature."""
        return feature_maps.labels(self.phi, self.encoder.names)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides a sketch: encoder, map, edges and seed."""
        text = json.dumps([self.encoder.config(), self.phi.fingerprint, self.seed], sort_keys=True)
        h = hashlib.blake2b(text.encode(), digest_size=16)
        h.update(np.ascontiguousarray(self.edges).tobytes())
        return h.hexdigest()

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Names of what the numeric histograms count: columns, or features where rows are wide."""
        if isinstance(self.encoder, TableEncoder):
            return tuple(c.name for c in self.encoder.columns if c.categories is None)
        return self.encoder.names if _counts_columns(self.encoder) else tuple(self.labels)

    @cached_property
    def counts_features(self) -> bool:
        """Whether the numeric histograms count features, not columns."""
        return not _counts_columns(self.encoder)

    @cached_property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Recorded categories of each categorical column."""
        columns = self.encoder.columns if isinstance(self.encoder, TableEncoder) else ()
        return {c.name: c.categories for c in columns if c.categories is not None}

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        """Features ``[n, k]`` float64 of raw rows."""
        return self.apply(self.encoder(rows).columns)

    def apply(self, columns: Tensor) -> NDArray[np.float64]:
        """Features of encoded columns ``[n, d]``; a new array in C order."""
        return _apply(self.phi, self.encoder, columns)

    def with_map(self, features: Any) -> SketchFeatures:
        """Give a map of the user back to features that were read from a file.

        Raises:
            InputError: it is not the one the sketch was made with.
        """
        if not isinstance(self.phi, External):
            raise InputError(f"the features {self.name!r} are stored in the sketch", "leave features out")
        known = External.of(features, torch.zeros(2, *_shape(self.encoder)))
        if known.fingerprint != self.phi.fingerprint or known.dimension != self.phi.dimension:
            raise InputError(
                f"the given features {known.name!r} ({known.fingerprint[:12]}) are not those of the sketch, "
                f"{self.name!r} ({self.phi.fingerprint[:12]})",
                "load the weights that the sketch was made with",
            )
        return SketchFeatures(self.encoder, known, self.edges, self.seed, self.fitted_on, self.warnings)

    def config(self) -> dict[str, Any]:
        """JSON-ready description; with :meth:`arrays` it is inverted by :meth:`build`."""
        stored = {"fingerprint": self.phi.fingerprint} if isinstance(self.phi, External) else {}
        return {
            "kind": self.name,
            "dimension": self.dimension,
            "seed": self.seed,
            "fitted_on": self.fitted_on,
            "encoder": self.encoder.config(),
            "warnings": list(self.warnings),
            **stored,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers of the map and the edges."""
        steps = feature_steps.to_tensors(feature_maps.steps_of(self.phi))
        return {"edges": self.edges, **{f"map.{k}": v.numpy() for k, v in steps.items()}}

    @classmethod
    def build(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> SketchFeatures:
        """Inverse of :meth:`config` and :meth:`arrays`."""
        encoder = encoders.build(config["encoder"])
        steps = {k.removeprefix("map."): torch.from_numpy(a.copy()) for k, a in arrays.items() if k.startswith("map.")}
        warnings, fitted_on = tuple(config["warnings"]), int(config["fitted_on"])
        if steps:
            shape = (len(encoder.names),)
            phi: FeatureMap | External = FeatureMap(
                config["kind"], shape, feature_steps.from_tensors(steps), fitted_on, warnings
            )
        else:
            phi = External(config["kind"], int(config["dimension"]), config["fingerprint"])
        return cls(encoder, phi, np.array(arrays["edges"]), int(config["seed"]), fitted_on, warnings)


def _counts_columns(encoder: Encoder) -> bool:
    return isinstance(encoder, TableEncoder) or len(encoder.names) <= WIDEST


def _shape(encoder: Encoder) -> tuple[int, ...]:
    return encoder.shape if isinstance(encoder, ArrayEncoder) else (len(encoder.names),)


def _apply(phi: FeatureMap | External, encoder: Encoder, columns: Tensor) -> NDArray[np.float64]:
    rows = columns.reshape(-1, *_shape(encoder)) if isinstance(phi, External) else columns
    return np.ascontiguousarray(phi.apply(rows).numpy())
