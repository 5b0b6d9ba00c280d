"""``driftlaw data check``: what data are recognised as, and whether generations can be compared with real data.

Every row is read once and nothing is computed from it but ranges, missing cells and categories. The first set is the
real one; each other set is read again by its rule, and what had to be done is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driftlaw.auditing.reading.rule import order_question, range_note, reshaped
from driftlaw.data.rows.kinds import text_kind
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import Chunk, ColumnKind, Options, Rows, length, refuse_unused
from driftlaw.errors import InputError

#: Most categories that are kept by name.
MOST = 10_000


@dataclass
class ColumnSeen:
    """What one column holds.

    Args:
        missing: empty cells.
        low, high: of numbers.
        categories: of text, at most :data:`MOST`.
    """

    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    categories: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, values: Any, first: int, where: str) -> None:
        """More values; infinite ones are refused."""
        import pandas as pd

        absent = pd.isna(values)
        self.missing += int(absent.sum())
        if values.dtype == object:
            for value, count in pd.Series(values[~absent]).value_counts().items():
                if str(value) in self.categories or len(self.categories) < MOST:
                    self.categories[str(value)] = self.categories.get(str(value), 0) + int(count)
        elif not absent.all():
            if np.isinf(values).any():
                row = first + int(np.isinf(values).argmax())
                raise InputError(f"row {row} of column {name!r} of {where} is infinite", "leave the cell empty")
            self.low, self.high = min(self.low, float(np.nanmin(values))), max(self.high, float(np.nanmax(values)))


@dataclass(frozen=True)
class Checked:
    """One set after it was read.

    Args:
        rows: what was recognised.
        count: rows.
        extent: lowest and highest number of arrays and images.
        columns: of tables.
        differences: from the real set, and how they are reconciled.
        refused: why it cannot be compared.
    """

    rows: Rows
    count: int
    extent: tuple[float, float] | None
    columns: dict[str, ColumnSeen]
    differences: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        document = self.rows.to_json() | {"rows": self.count, "range": self.extent and list(self.extent)}
        for column in document["columns"]:
            seen = self.columns[column["name"]]
            column["missing"] = seen.missing
            column["range"] = [seen.low, seen.high] if seen.low <= seen.high else None
            if column["kind"] == "text":
                column["categories"] = len(seen.categories)
        return document | {"differences": list(self.differences), "refused": list(self.refused)}


def check(data: Sequence[Any], options: Options) -> tuple[list[Checked], str | None]:
    """Read sets, the real one first.

    Args:
        data: paths or objects that :func:`driftlaw.open_rows` reads.
        options: how to read them.

    Returns:
        Each set, and a question about the order of the generations or None.

    Raises:
        InputError: something that cannot be read at all; a bad cell with its file, column and row.
        ConfigError: an option that fits none of the sets.
    """
    opened = [open_any(x, options) for x in data]
    refuse_unused(options, opened)
    sets = [_read(rows) for rows in opened]
    real = sets[0]
    sets = [real, *(_compared(real, s, x, options) for s, x in zip(sets[1:], data[1:], strict=True))]
    return sets, order_question([s.rows.name for s in sets[1:]])


def _read(rows: Rows) -> Checked:
    count, columns = 0, {c.name: ColumnSeen() for c in rows.columns}
    extent: tuple[float, float] | None = None
    for chunk in rows:
        if isinstance(chunk, dict):
            for name, values in chunk.items():
                columns[name].add(name, values, count, rows.name)
        else:
            extent = _extent(chunk, extent, count, rows.name)
        count += length(chunk)
    if not count:
        raise InputError(f"{rows.name} holds no rows", "check that it is complete")
    return Checked(rows, count, extent, columns)


def _extent(chunk: Chunk, before: tuple[float, float] | None, first: int, where: str) -> tuple[float, float]:
    x = np.asarray(chunk)
    low, high = float(x.min()), float(x.max())
    if not np.isfinite([low, high]).all():
        bad = np.argwhere(~np.isfinite(x.reshape(len(x), -1)))[0]
        raise InputError(
            f"row {first + int(bad[0])}, number {int(bad[1])} of {where} is NaN or infinite",
            "drop these rows or find what made them",
        )
    return (low, high) if before is None else (min(low, before[0]), max(high, before[1]))


def _compared(real: Checked, other: Checked, data: Any, options: Options) -> Checked:
    """How a set differs from the real one, and whether that can be mended."""
    ours, theirs = real.rows, other.rows
    if ours.kind == "table" or theirs.kind == "table":
        if ours.kind != theirs.kind:
            return dataclasses.replace(other, refused=(f"holds {_what(theirs)}, the real data {_what(ours)}",))
        return _compared_tables(real, other, data, options)
    differences: list[str] = []
    brought = reshaped(theirs, ours.shape)
    if brought.shape != ours.shape:
        remedy = "; --size brings images to one size" if ours.kind == theirs.kind == "images" else ""
        text = f"has rows of shape {theirs.shape}, the real data {ours.shape}{remedy}"
        return dataclasses.replace(other, refused=(text,))
    differences += brought.notes[len(theirs.notes) :]
    note = range_note(pixel_extent(real), pixel_extent(other))
    return dataclasses.replace(other, differences=(*differences, *([note] if note else [])))


def pixel_extent(checked: Checked) -> tuple[float, float] | None:
    """The range as it is compared: bytes of images count from -1 to 1."""
    if checked.extent is None or checked.rows.kind != "images" or checked.rows.dtype != "uint8":
        return checked.extent
    low, high = checked.extent
    return (low - 127.5) / 127.5, (high - 127.5) / 127.5


def _compared_tables(real: Checked, other: Checked, data: Any, options: Options) -> Checked:
    kinds = {
        c.name: text_kind(real.columns[c.name].categories) if c.kind == "text" else ColumnKind(c.kind)
        for c in real.rows.columns
    }
    try:
        again = open_any(data, dataclasses.replace(options, kinds=kinds)) if not isinstance(data, Rows) else data
        seen = _read(again)
    except InputError as error:
        return dataclasses.replace(other, refused=(str(error),))
    differences = [note for note in again.notes if note not in other.rows.notes]
    for name, column in seen.columns.items():
        ours = real.columns[name]
        if column.missing == seen.count:
            differences.append(f"column {name!r} is empty")
        new = [c for c in column.categories if c not in ours.categories]
        if new and len(ours.categories) < MOST:
            shown = ", ".join(map(repr, new[:5])) + (" ..." if new[5:] else "")
            differences.append(f"column {name!r} has {len(new)} categories that the real data lack: {shown}")
        if kinds[name].kind in {"number", "date"} and ours.low < ours.high and column.low <= column.high:
            note = range_note((ours.low, ours.high), (column.low, column.high))
            if note:
                differences.append(f"column {name!r}: {note}")
    return dataclasses.replace(seen, differences=tuple(differences))


def _what(rows: Rows) -> str:
    return f"a table of {rows.shape[0]} columns" if rows.kind == "table" else f"{rows.kind} of shape {rows.shape}"
