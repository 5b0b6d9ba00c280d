r"""``sketch``: one pass over a data set of any size and kind (this project, theory section 5, drift coordinates).

What fits the features is not counted. From real data, a seeded fifth of the rows (at most about :data:`FIT_ROWS`, fewer
when rows are wide) fits encoder, map and edges in a first, partial reading; the other rows are the reference. Row i
belongs to the fitting part when a hash of (seed, i) is small, so the part is spread over the whole file and is known
again on the second reading. Everything else is sketched *like* the real data, with the same features and no fit.

An iterator can be read only once: a fifth of its first :data:`FIT_ROWS` rows fits, and that is said.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from driftlaw.auditing.reading.rule import kinds_of, open_like, range_note
from driftlaw.data.finite import Array
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import Chunk, Keep, Options, Rows, length, masked, refuse_unused
from driftlaw.errors import ConfigError, InputError, nearest
from driftlaw.measure.features import columns as feature_maps
from driftlaw.measure.features.encoder import LARGEST
from driftlaw.measure.sketch.blocks import hash64
from driftlaw.measure.sketch.features import AUTO, SketchFeatures
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.numerics.memory import fitting
from driftlaw.progress import Progress, silent
from driftlaw.progress import part as fraction_of
from driftlaw.seeding import stream_seed

#: Share of the real rows that fits the features, and the most of them.
SHARE, FIT_ROWS = 0.2, 50_000
BLOCKS = 32


def sketch(
    data: Any,
    features: str | Any = AUTO,
    *,
    like: Sketch | str | os.PathLike[str] | None = None,
    fit_on: Any = None,
    dimension: int | None = None,
    blocks: int | None = None,
    seed: int = 0,
    columns: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    key: str | None = None,
    size: int | None = None,
    mode: Literal["L", "RGB"] | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad: bool = False,
    first_row: int = 0,
    block: int | None = None,
    progress: Progress | None = None,
) -> Sketch:
    """Sketch a data set in constant memory.

    Args:
        data: anything that :func:`driftlaw.open_rows` reads: files, folders, addresses, arrays, frames, datasets,
            lists and iterators; or what it returned.
        features: "auto" (the columns of tables and of rows of at most 1,024 numbers, else "pca"), "pca", "identity",
        "quadratic", "random_fourier"; fitted :class:`SketchFeatures`; or a map of the
            user for arrays and images (a module, or an object with name, dimension, fingerprint and
            ``__call__(rows) -> [n, k]``; it gets float32 rows, images in [-1, 1]).
        like: a sketch of the real data, or its file: the same features and blocks, nothing is fitted.
        fit_on: other real data, of any kind that `data` may have, to fit the features on; then every row of `data`
            is counted.
        dimension: largest number of features; 32 for "pca" and "random_fourier", 256 for "quadratic".
        blocks: B, 32 if not given, or those of `like`.
        seed: of the fitting part, the map and the blocks.
        columns: of a table, which ones (default: all, or those of `like`); one parquet column of lists is an array.
        categorical: numeric columns of a table that are categories; text columns always are.
        key: of a .npz file, which array.
        size: of images, crop to the centre square and resize to this many pixels.
        mode: of images, "L" or "RGB".
        encoding: of text files; found out if not given.
        separator: of text files; found out if not given.
        skip_bad: leave unreadable images out and count them.
        first_row: number of rows before this part when a data set is sketched in shards, which then get the blocks
            they would have had in one piece.
        block: N, where neighbouring rows depend on each other and runs of N consecutive ones hardly do (default: that
            of `like`, or 1).
        progress: told the fraction of rows done, and what is being done.

    Returns:
        The sketch. With a fifth taken to fit, its n is about four fifths of the rows.

    Raises:
        DataNotFoundError: no such file or folder.
        InputError: no rows, too few to fit on, rows of another shape or encoding than `like`, NaN or infinite cells
            (how many, where the first is), a damaged file, mixed image sizes, text where numbers were.
        ConfigError: options that do not fit each other or the data.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> real = sketch(rng.normal(size=(5000, 8)), "identity")
        >>> generated = sketch(rng.normal(size=(1000, 8)), like=real)
        >>> real.n + real.features.fitted_on, generated.n
        (5000, 1000)
    """
    options = Options(
        None if columns is None else tuple(columns), key, size, mode, tuple(categorical), encoding, separator, skip_bad
    )
    report = progress or silent

    def checked(rows: Rows) -> Rows:
        if not isinstance(data, Rows):  # who opened it has checked
            refuse_unused(options, [rows])
        return rows

    model: Sketch | None = None
    if like is not None:
        model = like if isinstance(like, Sketch) else Sketch.load(like)
        phi, blocks = _features_of(model, features, fit_on, dimension, blocks, categorical)
        rows = checked(open_like(data, options, phi.encoder))
        chunks = rows.read(None)
    else:
        if isinstance(features, str) and features not in (AUTO, *feature_maps.KINDS):
            raise ConfigError(f"unknown features {features!r}", nearest(features, feature_maps.KINDS))
        if isinstance(features, SketchFeatures):
            phi, rows = features, checked(open_like(data, options, features.encoder))
            chunks = rows.read(None)
        else:
            rows = checked(open_any(data, options))
            settings = {"dimension": dimension, "seed": seed, "categorical": tuple(categorical)}
            if fit_on is not None:
                other = open_any(fit_on, options)
                fitting, _ = _fitting_part(other, 1.0, seed, report)
                phi = _fit(fitting, other, features, settings)
                rows = open_like(data, options, phi.encoder)
                chunks = rows.read(None)
            elif rows.repeatable:
                fitting, keep = _fitting_part(rows, SHARE, seed, report)
                phi = _fit(fitting, rows, features, settings)
                chunks = rows.read(lambda first, n: ~keep(first, n))
            else:
                fitting, chunks, more = _head(rows, seed, report)
                phi = _fit(fitting, rows, features, settings, more)
    length = (1 if model is None else model.block) if block is None else block
    result = Sketch(phi, BLOCKS if blocks is None else blocks, first_row, length)
    for chunk in chunks:
        try:
            result.add(chunk)
        except InputError as error:
            raise _located(rows, error, exact=model is not None) from None
        report(fraction_of(result.n, rows.rows), f"sketching, {result.n:,} rows")
    if not result.n:
        raise InputError(f"{rows.name} holds no rows", "check that it is complete")
    difference = None if model is None else range_note(model.extent, result.extent)
    result.notes = (*rows.notes, *map(str, rows.skipped), *([] if difference is None else [difference]))
    return result


def _features_of(
    model: Sketch,
    features: str | Any,
    fit_on: Any,
    dimension: int | None,
    blocks: int | None,
    categorical: Sequence[str],
) -> tuple[SketchFeatures, int]:
    """Features and blocks of the sketch to be like; everything that would contradict them is refused."""
    phi = model.features
    for name, value in (("fit_on", fit_on), ("dimension", dimension), ("categorical", categorical or None)):
        if value is not None:
            raise ConfigError(f"{name} was given with like, whose features are fitted", f"leave {name} out")
    if blocks not in (None, model.blocks):
        raise ConfigError(f"blocks = {blocks}, the sketch to be like has {model.blocks}", "leave blocks out")
    if isinstance(features, str):
        if features not in (AUTO, phi.name):
            raise ConfigError(f"features = {features!r}, the sketch to be like has {phi.name!r}", "leave features out")
    elif isinstance(features, SketchFeatures):
        raise ConfigError("fitted features were given with like", "give one of the two")
    else:
        phi = phi.with_map(features)
    return phi, model.blocks


def _fitting_part(stream: Rows, share: float, seed: int, report: Progress) -> tuple[list[Chunk], Keep]:
    """The rows that fit, and the rule that knows them again.

    The threshold is set beforehand where the number of rows is known, and then unwanted rows are not even decoded;
    otherwise it is halved while reading whenever the part becomes too large.
    """
    salt = stream_seed(seed, "sketch", "fit")
    threshold = share

    def keep(first: int, n: int) -> Array:
        return np.asarray(_uniform(first, n, salt) < threshold)

    if stream.rows is not None:
        start = next(iter(stream.read(None)), None)
        if start is None:
            return [], keep
        threshold = min(share, _most_rows(start) / max(1, stream.rows))
        held: list[Chunk] = []
        for chunk in stream.read(keep):
            held.append(chunk)
            report(fraction_of(int(sum(map(length, held)) / threshold), stream.rows), "fitting the features")
        return held, keep
    parts: list[tuple[Chunk, Array]] = []
    done = 0
    for chunk in stream.read(None):
        u = _uniform(done, length(chunk), salt)
        parts.append((masked(chunk, u < threshold), u[u < threshold]))
        done += length(chunk)
        while sum(len(v) for _, v in parts) > _most_rows(chunk):
            threshold /= 2
            parts = [(masked(c, v < threshold), v[v < threshold]) for c, v in parts]
        report(math.nan, f"fitting the features, {done:,} rows")
    return [c for c, _ in parts], keep


def _head(stream: Rows, seed: int, report: Progress) -> tuple[list[Chunk], Iterator[Chunk], tuple[str, ...]]:
    """Of what can be read only once: the rows that fit, all others, a warning when the head had to stand for all."""
    chunks = stream.read(None)
    head: list[Chunk] = []
    most, done = FIT_ROWS, 0
    for chunk in chunks:
        head.append(chunk)
        most, done = min(most, _most_rows(chunk)), done + length(chunk)
        if done >= most:
            break
    report(math.nan, f"fitting the features, {done:,} rows")
    masks, first = [], 0
    for chunk in head:
        masks.append(_uniform(first, length(chunk), stream_seed(seed, "sketch", "fit")) < SHARE)
        first += length(chunk)
    warning = f"the features were fitted on rows among the first {done} of an iterator: its order must be random"

    def others() -> Iterator[Chunk]:
        while head:
            yield masked(head.pop(0), ~masks.pop(0))
        yield from chunks

    fitting = [masked(c, m) for c, m in zip(head, masks, strict=True)]
    return fitting, others(), (warning,) if done >= most else ()


def _fit(
    chunks: list[Chunk],
    stream: Rows,
    features: Any,
    settings: dict[str, Any],
    warnings: tuple[str, ...] = (),
) -> SketchFeatures:
    n = sum(map(length, chunks))
    if n < 2:
        raise InputError(
            f"{n} rows of {stream.name} are there to fit the features on",
            "give more rows (a fifth of them fits), other real data with fit_on, or a sketch to be like",
        )
    rows: Any = (
        {name: np.concatenate([np.asarray(c[name]) for c in chunks]) for name in chunks[0]}
        if isinstance(chunks[0], dict)
        else np.concatenate(chunks)  # type: ignore[arg-type]
    )
    chunks.clear()  # one copy in memory, not two
    try:
        phi = SketchFeatures.fit(rows, features, kinds=kinds_of(stream), **settings)
    except InputError as error:
        raise _located(stream, error) from None
    return dataclasses.replace(phi, warnings=(*phi.warnings, *warnings))


def _located(rows: Rows, error: InputError, exact: bool = False) -> InputError:
    """The error with the data's name and, where only a part of the rows was looked at, the bad cell's own row."""
    first = 0
    for chunk in rows if rows.repeatable and not exact else ():
        table = chunk if isinstance(chunk, dict) else {"": np.reshape(chunk, (len(chunk), -1))}
        for name, values in table.items():
            if values.dtype.kind != "f":
                continue
            size = np.abs(values)
            bad = size > LARGEST if name else ~(size <= LARGEST)  # an empty cell of a table is missing
            if bad.any():
                row, *column = (int(i) for i in np.argwhere(bad)[0])
                where = f"column {name!r}" if name else f"column x{column[0]}"
                return InputError(
                    f"row {first + row}, {where} of {rows.name} is {values[(row, *column)]:g}: {error.what}", error.fix
                )
        first += length(chunk)
    return error if rows.name in error.what else type(error)(f"{rows.name}: {error.what}", error.fix)


def _uniform(first: int, n: int, salt: int) -> Array:
    """A number in [0, 1) for each row, from its position."""
    return hash64(np.arange(first, first + n, dtype=np.uint64), salt) / 2.0**64


def _most_rows(chunk: Chunk) -> int:
    """Most rows of the fitting part when a row has the numbers that those of `chunk` have."""
    width = len(chunk) if isinstance(chunk, dict) else chunk[:1].size
    return min(FIT_ROWS, fitting(2 * 8 * width, least=2))  # as read and as numbers
