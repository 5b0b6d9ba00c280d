"""What a reader returns: rows in chunks, and everything that was recognised before the first one is used.

A chunk is an array ``[m, ...]``, or for a table a dict of arrays ``[m]`` by column name. Numbers of tables are float64
with NaN where a cell is missing, text is objects with None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from numpy.typing import NDArray

from driftlaw.errors import ConfigError
from driftlaw.numerics.memory import CHUNK_BYTES, fitting

Array = NDArray[Any]
Chunk = Array | dict[str, Array]
#: Of a first row number and a count: a mask ``[count]`` of the rows that are wanted.
Keep = Callable[[int, int], Array]
Kind = Literal["vectors", "images", "table"]

#: Most rows of one chunk.
MOST_ROWS = 65_536


@dataclass(frozen=True)
class ColumnKind:
    """What a column holds.

    Args:
        kind: "number", "boolean", "date", "time", "duration" or "text".
        digits: of text that consists of so many digits each, such as zip codes; 0 otherwise.
    """

    kind: str
    digits: int = 0


@dataclass(frozen=True)
class ColumnInfo:
    """One recognised column.

    Args:
        name: of the column.
        kind: "number", "boolean", "date", "time", "duration" or "text".
        stored: type in the file or object.
        unit: of dates and times.
    """

    name: str
    kind: str
    stored: str
    unit: str = ""


@dataclass(frozen=True)
class Skipped:
    """Files that were left out.

    Args:
        suffix: that they share.
        reason: why.
        count: how many.
        example: name of the first.
    """

    suffix: str
    reason: str
    count: int
    example: str

    def __str__(self) -> str:
        what = self.example if self.count == 1 else f"{self.count} {self.suffix or 'other'} files ({self.example} ...)"
        return f"{what}: {self.reason}"


@dataclass(frozen=True)
class Options:
    """How to read; each option applies to the data that it fits.

    Args:
        columns: of tables, which ones.
        key: of .npz files and groups of arrays, which array.
        size: of images, crop to the centre square and resize to this many pixels.
        mode: of images, "L" or "RGB".
        categorical: of tables, columns that are categories.
        encoding: of text files.
        separator: of text files.
        skip_bad: leave unreadable images out and count them.
        kinds: of tables, what the columns must be: the rule of the real data.
    """

    columns: tuple[str, ...] | None = None
    key: str | None = None
    size: int | None = None
    mode: Literal["L", "RGB"] | None = None
    categorical: tuple[str, ...] = ()
    encoding: str | None = None
    separator: str | None = None
    skip_bad: bool = False
    kinds: Mapping[str, ColumnKind] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and (isinstance(self.size, bool) or not 1 <= self.size <= 65_536):
            raise ConfigError(f"size = {self.size!r} for images", "give a positive number of pixels")
        if self.mode not in (None, "L", "RGB"):
            raise ConfigError(f"mode = {self.mode!r} for images", "use L (grey) or RGB")
        if self.separator is not None and len(self.separator) != 1:
            raise ConfigError(f"the separator {self.separator!r} is not one character", "use , ; | or a tab")

    @property
    def given(self) -> dict[str, Any]:
        """Options that were given, by name."""
        return {n: v for n in FOR if (v := getattr(self, n)) not in (None, (), False)}


#: What each option is for.
FOR = {
    "columns": "tables",
    "key": ".npz files",
    "size": "images",
    "mode": "images",
    "categorical": "tables",
    "encoding": "text files",
    "separator": "text files",
    "skip_bad": "images",
}


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of any data set, in chunks of bounded size, and what was recognised.

    Args:
        name: for messages.
        kind: vectors ``[n, ...]``, images ``[n, c, h, w]``, or a table of named columns.
        read: chunks of all rows (None), or of the wanted ones.
        rows: how many there are, or None when only reading tells.
        shape: of one row; of a table the number of columns.
        dtype: of arrays.
        columns: of tables.
        repeatable: whether they can be read more than once, in the same order.
        skipped: files that were left out.
        notes: what a reader must know.
        encoding: of text files.
        separator: of text files.
        index: column that counts rows and was left out.
        used: names of the options that apply here.
        reopen: reads the same data again by a rule for its columns, where that is possible.
    """

    name: str
    kind: Kind
    read: Callable[[Keep | None], Iterator[Chunk]]
    rows: int | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    columns: tuple[ColumnInfo, ...] = ()
    repeatable: bool = True
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    encoding: str | None = None
    separator: str | None = None
    index: str | None = None
    used: frozenset[str] = frozenset()
    reopen: Callable[[Mapping[str, ColumnKind]], Rows] | None = None

    def __iter__(self) -> Iterator[Chunk]:
        return self.read(None)

    def __repr__(self) -> str:
        count = "unknown number of" if self.rows is None else f"{self.rows:,}"
        return f"Rows({self.name!r}, {self.kind}, {count} rows, shape={self.shape})"

    def noted(self, *notes: str, **changes: Any) -> Rows:
        """The same with more notes and other changes."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))), **changes)

    @cached_property
    def head(self) -> Chunk | None:
        """The first chunk of what can be read again."""
        return next(iter(self.read(None)), None) if self.repeatable else None

    def to_json(self) -> dict[str, Any]:
        """What was recognised, JSON-ready."""
        return {
            "name": self.name,
            "kind": self.kind,
            "rows": self.rows,
            "shape": list(self.shape),
            "dtype": self.dtype or None,
            "columns": [
                {"name": c.name, "kind": c.kind, "stored": c.stored, "unit": c.unit or None} for c in self.columns
            ],
            "index": self.index,
            "encoding": self.encoding,
            "separator": self.separator,
            "skipped": [
                {"suffix": s.suffix, "reason": s.reason, "count": s.count, "example": s.example} for s in self.skipped
            ],
            "notes": list(self.notes),
        }


def refuse_unused(options: Options, opened: Iterable[Rows]) -> None:
    """Refuse an option that fits none of the data.

    Raises:
        ConfigError: which, and what it is for.
    """
    sets = list(opened)
    used = frozenset[str]().union(*(rows.used for rows in sets))
    for name, value in options.given.items():
        if name not in used:
            where = sets[0].name if len(sets) == 1 else "any of these data"
            if name == "columns" and sets[0].kind != "table":
                raise ConfigError(f"columns were named for an array without names ({where})", "leave columns out")
            raise ConfigError(
                f"{name} = {value!r} has no meaning for {where}: it is for {FOR[name]}", f"leave {name} out"
            )


def masked(chunk: Chunk, mask: Array) -> Chunk:
    """The wanted rows of a chunk."""
    return {k: v[mask] for k, v in chunk.items()} if isinstance(chunk, dict) else chunk[mask]


def length(chunk: Chunk) -> int:
    """Rows in a chunk."""
    return len(next(iter(chunk.values()))) if isinstance(chunk, dict) else len(chunk)


def chunk_rows(numbers: int) -> int:
    """Rows in a chunk when a row has so many numbers."""
    return min(MOST_ROWS, fitting(8 * numbers, CHUNK_BYTES))


def filtered(chunks: Iterable[Chunk], keep: Keep | None) -> Iterator[Chunk]:
    """The wanted rows of chunks that come in order."""
    first = 0
    for chunk in chunks:
        n = length(chunk)
        if keep is None:
            yield chunk
        elif (mask := keep(first, n)).any():
            yield masked(chunk, mask)
        first += n


def joined(parts: Sequence[Rows], name: str) -> Rows:
    """One data set in several parts; row numbers run on."""

    def read(keep: Keep | None) -> Iterator[Chunk]:
        done = 0
        for part in parts:
            if keep is None:
                yield from part.read(None)
                continue
            seen, start = 0, done

            def inner(first: int, n: int, start: int = start) -> Array:
                nonlocal seen
                seen = max(seen, first + n)
                return keep(start + first, n)

            yield from part.read(inner)
            done += seen

    first = parts[0]
    if len(parts) == 1:
        return replace(first, name=name)
    known = [part.rows for part in parts if part.rows is not None]
    return replace(
        first,
        name=name,
        read=read,
        rows=sum(known) if len(known) == len(parts) else None,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        used=first.used.union(*(part.used for part in parts)),
    )
