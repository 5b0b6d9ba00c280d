r"""Sketches: all that drift needs to know about a data set of any size (this project, theory section 5).

For a frozen feature map phi a sketch holds, over rows x_1, ..., x_n in B exchangeable blocks,

    n_b,   m_b = mean of phi(x) in block b,   C = sum_i (phi(x_i) - m)(phi(x_i) - m)^T / (n - 1),

and counts of raw columns in fixed cells. Drift coordinates c_i = E_{p_hat^i} phi - E_p phi and everything section 5
derives from them follow from these; the blocks give intervals. A sketch is made in one pass and constant memory,
merges exactly (any order and sharding, to float64 rounding), and holds no row.

A full covariance for each block would take B k^2 numbers; one pooled covariance and B means take k^2 / 2 + B k.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.errors import CorruptFileError, InputError, LimitError
from driftlaw.measure.features.encoder import Rows
from driftlaw.measure.sketch import content
from driftlaw.measure.sketch import file as sketch_file
from driftlaw.measure.sketch.blocks import BlockMoments, BlockSums, block_of
from driftlaw.measure.sketch.features import SketchFeatures
from driftlaw.measure.sketch.histograms import Cells, Histogram, between
from driftlaw.measure.sketch.named import NamedCounts
from driftlaw.measure.sketch.serial import SerialSums
from driftlaw.measure.sketch.spread import WIDE, BlockSpread
from driftlaw.numerics.memory import CACHE_BYTES, fitting
from driftlaw.system import memory

Array = NDArray[np.float64]


class Sketch:
    """Mergeable sums of a feature map over the rows of a data set.

    Args:
        features: the frozen map; equal fingerprints make sketches comparable.
        blocks: B, at least 2.
        first_row: number of the first row that will be added. Shards of one data set that are sketched apart get the
            blocks of the whole when each is given the number of rows before it; with 0 everywhere the merged sketch
            has the same total, mean and covariance and other, equally valid blocks.
        block: N, where neighbouring rows depend on each other: N consecutive rows fall into one block, and sums over
            such runs are kept as well (:mod:`driftlaw.measure.sketch.serial`); 1 for independent rows.

    Raises:
        InputError: fewer than 2 blocks, a negative `first_row`, `block` below 1.
        LimitError: features and blocks that do not fit in memory.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> phi = SketchFeatures.fit(rng.normal(size=(500, 3)), "identity")
        >>> a, b = (Sketch(phi).add(rng.normal(size=(1000, 3))) for _ in range(2))
        >>> whole = a.merge(b)
        >>> whole.n, whole.means.shape, whole.covariance.shape
        (2000, (32, 3), (3, 3))
    """

    def __init__(self, features: SketchFeatures, blocks: int = 32, first_row: int = 0, block: int = 1) -> None:
        if blocks < 2:
            raise InputError(f"a sketch of {blocks} blocks has no intervals", "choose 2 or more, 32 is usual")
        k = features.dimension
        needed = 8 * k * (2 * k + blocks * (3 + (k if k <= WIDE else 1)))
        memory.check(needed, f"a sketch of {k} features in {blocks} blocks", "lower dimension or blocks")
        if first_row < 0:
            raise InputError(f"first_row is {first_row}", "give the number of rows before this part, 0 or more")
        if block < 1:
            raise InputError(f"block is {block}", "give the length of runs of rows that are nearly independent, or 1")
        self.features, self.block = features, block
        self._serial = None if block == 1 else SerialSums(block, blocks, features.dimension, features.seed)
        self._moments = BlockMoments.empty(blocks, features.dimension)
        self._spread: BlockSpread | None = BlockSpread.empty(blocks, features.dimension)
        self._cells = np.zeros((len(features.counted), len(features.edges) + 1), np.int64)
        self._counter = Cells(features.edges)
        self._categories = {name: np.zeros(len(c) + 1, np.int64) for name, c in features.categories.items()}
        self._missing: Counter[str] = Counter()
        self._unseen = {name: NamedCounts() for name in features.categories}
        self._next = first_row
        #: Lowest and highest number of the rows of an array, None where it is not known.
        self.extent: tuple[float, float] | None = None
        #: What was noticed while the rows were read.
        self.notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows seen."""
        return self._moments.n

    @property
    def blocks(self) -> int:
        """Number of exchangeable blocks, B."""
        return len(self._moments.counts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """``[B]`` rows in each block."""
        return self._moments.counts.copy()

    @property
    def means(self) -> Array:
        """``[B, k]`` mean features of each block; NaN where a block has no rows."""
        return np.where(self._moments.counts[:, None] > 0, self._moments.means, np.nan)

    @property
    def mean(self) -> Array:
        """``[k]`` mean features; NaN without rows."""
        return self._moments.mean

    @property
    def covariance(self) -> Array:
        """``[k, k]`` unbiased covariance of the features of all rows; NaN with fewer than two."""
        return self._moments.covariance

    @property
    def spread(self) -> BlockSpread | None:
        """How the rows of each block spread; None of a file of a version that did not keep it."""
        return self._spread

    @property
    def serial(self) -> SerialSums | None:
        """Sums over runs of consecutive rows; None where rows count as independent."""
        return self._serial

    @property
    def missing(self) -> dict[str, int]:
        """Missing values in each column of a table; columns without any are left out."""
        return dict(sorted(self._missing.items()))

    @property
    def unknown(self) -> dict[str, int]:
        """Values outside the recorded categories in each categorical column."""
        return {name: int(counts[-1]) for name, counts in self._categories.items()}

    @property
    def unseen(self) -> dict[str, dict[str, int]]:
        """How often each value outside the recorded categories was seen, most frequent first, by categorical column."""
        return {name: counts.named() for name, counts in self._unseen.items() if counts.total}

    def new(self, real: Sketch) -> dict[str, dict[str, int]]:
        """Values that `real` surely does not have and how often they occur, by categorical column."""
        found = {}
        for name, counts in self.unseen.items():
            known = real._unseen.get(name, NamedCounts())
            if fresh := {value: count for value, count in counts.items() if known.lacks(value)}:
                found[name] = fresh
        return found

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Counts by column of a table or array of at most 256 columns; of wider rows and images by feature."""
        edges = self.features.edges
        numeric = {
            name: Histogram(name, self._cells[j].copy(), edges=edges[:, j])
            for j, name in enumerate(self.features.counted)
        }
        categorical = {
            name: Histogram(name, counts.copy(), categories=self.features.categories[name])
            for name, counts in self._categories.items()
        }
        return {**numeric, **categorical}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of numbers from this sketch must know."""
        return (*self.features.warnings, *self.notes)

    def add(self, rows: Rows) -> Sketch:
        """Add rows, in place.

        Args:
            rows: ``[n, ...]`` array of the sketch's row shape, or a table of its columns.

        Returns:
            This sketch.

        Raises:
            InputError: rows of another shape or other columns, NaN or infinite cells (how many, where the first is),
                features that are not finite. The sketch is then as it was before.
        """
        encoded = self.features.encoder(rows, self._next)
        columns, n = encoded.columns, len(encoded.columns)
        first, last = self._next // self.block, (self._next + n - 1) // self.block
        block = block_of(first, last - first + 1, self.blocks, self.features.seed)
        if self.block > 1:
            block = block[np.arange(self._next, self._next + n) // self.block - first]
        step = fitting(8 * max(self.features.dimension, columns.shape[1]), CACHE_BYTES, least=64)
        sums = BlockSums(self.blocks, self.features.dimension)
        beyond = np.zeros(self._cells.T.shape, np.int64)
        serial = None if self._serial is None else self._serial.copy()
        for part in (slice(start, start + step) for start in range(0, n, step)):
            z = self.features.apply(columns[part])
            beyond += self._counter.beyond(z if self.features.counts_features else encoded.raw[part])
            if serial is not None:
                serial.add(z)
            sums.add(z, block[part])
            del z  # the next chunk takes its place in the cache
        moments = sums.moments()
        spread = sums.spread()  # nothing has changed before, nothing can fail after
        self._moments.include(moments)
        self._serial = serial
        self._spread = None if self._spread is None else self._spread.merge(spread)
        self._cells += between(beyond)
        for name, codes in encoded.codes.items():
            self._categories[name] += np.bincount(codes[codes >= 0], minlength=len(self._categories[name]))
        self._missing.update(encoded.missing)
        for name, others in encoded.unseen.items():
            self._unseen[name].add(others)
        self.extent = _wider(self.extent, encoded.extent)
        self._next += n
        return self

    def merge(self, other: Sketch) -> Sketch:
        """A new sketch of the rows of both.

        Raises:
            InputError: other features or another number of blocks.
        """
        self.check_comparable(other)
        if self.blocks != other.blocks:
            raise InputError(
                f"sketches of {self.blocks} and {other.blocks} blocks cannot be merged",
                "make them with the same blocks, or one like the other",
            )
        if self.block != other.block:
            raise InputError(
                f"sketches of runs of {self.block} and {other.block} rows cannot be merged", "give both the same block"
            )
        merged = Sketch(self.features, self.blocks, max(self._next, other._next), self.block)
        if self._serial is not None and other._serial is not None:
            merged._serial = self._serial.merge(other._serial)
        merged._moments = self._moments.merge(other._moments)
        both = self._spread is not None and other._spread is not None
        merged._spread = self._spread.merge(other._spread) if both else None  # type: ignore[union-attr,arg-type]
        merged._cells = self._cells + other._cells
        merged._categories = {name: c + other._categories[name] for name, c in self._categories.items()}
        merged._missing = self._missing + other._missing
        merged._unseen = {name: c.merge(other._unseen[name]) for name, c in self._unseen.items()}
        merged.extent = _wider(self.extent, other.extent)
        merged.notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        return merged

    def check_comparable(self, other: Sketch) -> None:
        """Refuse a sketch with other features.

        Raises:
            InputError: the fingerprints differ; says in what.
        """
        a, b = self.features, other.features
        if a.fingerprint == b.fingerprint:
            return
        if a.encoder.config() != b.encoder.config():
            what = "encode rows differently"
        elif a.name != b.name or a.dimension != b.dimension:
            what = f"have the features {a.name!r} ({a.dimension}) and {b.name!r} ({b.dimension})"
        else:
            what = f"have features {a.name!r} that were fitted apart ({a.fingerprint[:12]}, {b.fingerprint[:12]})"
        raise InputError(f"the sketches {what}", "sketch the real data once and all others like it: like=FILE")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sketch, features and all, to one file; whole or not at all.

        Raises:
            StorageError: no space, or the place cannot be written.
        """
        m = self._moments
        arrays = {
            "counts": m.counts,
            "means": m.means,
            "scatter": m.scatter[np.triu_indices(self.features.dimension)],
            "cells": self._cells,
            **({} if self._spread is None else self._spread.arrays()),
            **({} if self._serial is None else self._serial.arrays()),
            **{f"categories.{i}": c for i, c in enumerate(self._categories.values())},
            **self.features.arrays(),
        }
        description = {
            "features": self.features.config(),
            "missing": self.missing,
            "next_row": self._next,
            "extent": self.extent,
            "notes": list(self.notes),
        }
        if unseen := {name: c.to_json() for name, c in self._unseen.items() if c.total}:
            description["unseen"] = unseen
        if self.block > 1:
            description["block"] = self.block
        sketch_file.write(path, arrays, description)

    @classmethod
    def load(cls, path: str | os.PathLike[str], features: Any = None) -> Sketch:
        """Read a sketch.

        Args:
            path: a file that :meth:`save` wrote.
            features: the user's own map, when rows are to be added; its weights are not in the file.

        Raises:
            DataNotFoundError: no such file.
            InputError: not a sketch, of another version, or `features` are not those it was made with.
            CorruptFileError: truncated or changed, or content that no rows give.
        """
        arrays, description = sketch_file.read(path)
        try:
            sketch = cls._built(arrays, description)
        except LimitError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
            what = f"the sketch {path} does not hold what a sketch holds ({type(error).__name__}: {error})"
            raise CorruptFileError(what, "make the sketch again") from error
        sketch.features = sketch.features if features is None else sketch.features.with_map(features)
        return sketch

    @classmethod
    def _built(cls, arrays: sketch_file.Arrays, description: Mapping[str, Any]) -> Sketch:
        phi = SketchFeatures.build(description["features"], arrays)
        content.check(arrays, phi)
        block = int(description.get("block", 1))
        sketch = cls(phi, len(arrays["counts"]), int(description["next_row"]), block)
        sketch._serial = None if block == 1 else SerialSums.build(block, phi.seed, arrays)
        k = phi.dimension
        scatter = np.zeros((k, k), order="F")
        scatter[np.triu_indices(k)] = arrays["scatter"]
        sketch._moments = BlockMoments(np.array(arrays["counts"]), np.array(arrays["means"]), scatter)
        sketch._spread = BlockSpread.build(arrays["counts"], arrays["means"], arrays)
        sketch._cells = np.array(arrays["cells"])
        sketch._categories = {name: np.array(arrays[f"categories.{i}"]) for i, name in enumerate(phi.categories)}
        extent = description.get("extent")
        sketch.extent = None if extent is None else (float(extent[0]), float(extent[1]))
        sketch.notes = tuple(map(str, description.get("notes", ())))
        sketch._missing = Counter({str(name): content.count(v) for name, v in description["missing"].items()})
        for name, counts in description.get("unseen", {}).items():
            sketch._unseen[name] = NamedCounts.from_json(counts)
        return sketch

    def __repr__(self) -> str:
        return f"Sketch(n={self.n}, features={self.features.name!r}, k={self.features.dimension}, blocks={self.blocks})"


def _wider(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[float, float] | None:
    """The extent of both."""
    return a if b is None else b if a is None else (min(a[0], b[0]), max(a[1], b[1]))
