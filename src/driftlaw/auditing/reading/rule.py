"""How sets are read so that they can be compared: the rule of the real data, ranges, the order of generations."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from driftlaw.data.rows.kinds import text_kind
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import ColumnKind, Options, Rows
from driftlaw.measure.features.encoder import ArrayEncoder, Encoder, TableEncoder


def rule(encoder: Encoder) -> dict[str, ColumnKind] | None:
    """What each column of the real data is; None for arrays."""
    if not isinstance(encoder, TableEncoder):
        return None
    found = {}
    for column in encoder.columns:
        if column.categories is None:
            found[column.name] = ColumnKind(column.kind or "number")
        elif column.kind in {"", "text"}:
            found[column.name] = text_kind(column.categories)
        else:
            found[column.name] = ColumnKind(column.kind)
    return found


def open_like(data: Any, options: Options, encoder: Encoder, name: str | None = None) -> Rows:
    """Data read by the rule of the real data; what had to be done is noted.

    Raises:
        InputError: a table for arrays or the other way round, columns that are missing or cannot be converted.
    """
    kinds = rule(encoder)
    if isinstance(encoder, ArrayEncoder):
        return reshaped(open_any(data, options, name), encoder.shape)
    if isinstance(data, Rows):
        rows = data if data.reopen is None or kinds is None else data.reopen(kinds)
    else:
        rows = open_any(data, dataclasses.replace(options, kinds=kinds), name)
    expected = [column.name for column in encoder.columns]
    width = rows.shape[0] if len(rows.shape) == 1 else 0
    if rows.kind == "vectors" and expected == [f"x{j}" for j in range(width)]:
        return _named(rows)
    return rows


def _named(rows: Rows) -> Rows:
    """Vectors as columns x0, x1, ..., where the real data have masked cells."""

    def read(keep: Any) -> Any:
        for chunk in rows.read(keep):
            x = np.asarray(chunk)
            yield {f"x{j}": x[:, j] for j in range(rows.shape[0])}

    return dataclasses.replace(rows, kind="table", read=read)


def reshaped(rows: Rows, shape: tuple[int, ...]) -> Rows:
    """Rows of the real shape, where only the channel of grey images is missing or too many."""
    if rows.kind == "table" or rows.shape == shape or not rows.shape:
        return rows
    if (1, *rows.shape) != shape and rows.shape != (1, *shape):
        return rows

    def read(keep: Any) -> Any:
        for chunk in rows.read(keep):
            yield np.asarray(chunk).reshape(len(chunk), *shape)

    note = f"rows of {rows.name} have shape {rows.shape}, the real ones {shape}: read as such"
    return dataclasses.replace(rows, read=read, shape=shape).noted(note)


_SCALES = {"bytes in [0, 255]": (0.0, 255.0), "[0, 1]": (0.0, 1.0), "[-1, 1]": (-1.0, 1.0)}


def _scale(extent: tuple[float, float]) -> str | None:
    """The usual scale of pixels that numbers fill, or None."""
    low, high = extent
    if low < -1.0001 or low == high:
        return None
    if low < -0.5:
        return "[-1, 1]" if high <= 1.0001 else None
    if low < -1e-6:
        return None
    if high <= 1.0001:
        return "[0, 1]"
    return "bytes in [0, 255]" if 32 < high <= 255 else None


def range_note(real: tuple[float, float] | None, other: tuple[float, float] | None) -> str | None:
    """What to say when numbers fill another usual scale than the real ones, or one far wider."""
    if real is None or other is None:
        return None
    ours, theirs = _scale(real), _scale(other)
    shown = f"they lie in [{other[0]:.4g}, {other[1]:.4g}], the real ones in [{real[0]:.4g}, {real[1]:.4g}]"
    if ours is not None and theirs is not None and ours != theirs:
        (a, b), (c, d) = _SCALES[theirs], _SCALES[ours]
        factor, offset = (d - c) / (b - a), c - a * (d - c) / (b - a)
        return (
            f"the numbers look scaled differently: {shown}. To bring {theirs} to {ours}: "
            f"x -> {factor:.6g} x {'-' if offset < 0 else '+'} {abs(offset):.6g}"
        )
    width, mine = other[1] - other[0], real[1] - real[0]
    if mine > 0 and (width > 50 * mine or (ours is not None and width > 10 * mine)):
        return f"the numbers look scaled differently: {shown}"
    return None


def order_question(names: Sequence[str]) -> str | None:
    """A question where generations come in the order of letters, not of their numbers (gen1, gen10, gen2)."""
    if len(names) < 2 or len(set(names)) < len(names):
        return None
    parts = [[int(p) if p.isdigit() else p for p in re.split(r"(\d+)", n)] for n in map(os.fspath, names)]
    if len({tuple("#" if isinstance(p, int) else p for p in part) for part in parts}) != 1:
        return None
    numbers = [tuple(p for p in part if isinstance(p, int)) for part in parts]
    if list(names) == sorted(names) and numbers != sorted(numbers):
        right = [n for _, n in sorted(zip(numbers, names, strict=True))]
        return (
            f"the generations come in the order of letters ({_short(names)}); by their numbers it would be "
            f"{_short(right)}: is the oldest first?"
        )
    return None


def _short(names: Sequence[str]) -> str:
    return ", ".join(n.rstrip("/").rpartition("/")[2] for n in names[:4]) + (" ..." if names[4:] else "")


def kinds_of(rows: Rows) -> dict[str, str]:
    """Recognised kind of each column."""
    return {c.name: c.kind for c in rows.columns}
