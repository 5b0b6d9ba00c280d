"""From Arrow record batches to chunks: which columns, what each is, images and vectors in a column.

A table with one column of encoded images is images; one whose only column is lists of numbers is vectors; lists beside
other columns become columns ``name[0]``, ``name[1]``, ... A column that only counts rows is left out, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftlaw.data.rows.kinds import Recognised, kind_of, recognise
from driftlaw.data.rows.opened import (
    Array,
    Chunk,
    ColumnInfo,
    ColumnKind,
    Keep,
    Options,
    Rows,
    Skipped,
    chunk_rows,
    filtered,
)
from driftlaw.data.rows.pictures import Pictures
from driftlaw.errors import ConfigError, InputError, nearest

#: Rows that are looked at to recognise columns.
HEAD = 4096
#: Most columns that lists beside other columns become.
WIDEST = 4096
#: Names of columns that count rows.
INDEX = {"", "index", "level_0", "unnamed: 0", "__index_level_0__", "rownames", "row", "row_id", "rowid", "row_number"}

#: Of column names, types that they are to be read as, and most rows: the batches.
ReadBatches = Callable[[Sequence[str], Mapping[str, pa.DataType], int], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Batches:
    """Record batches of one schema.

    Args:
        name: for messages.
        schema: of all columns.
        read: batches of chosen columns, every time from the start unless not `repeatable`.
        rows: how many there are, if known.
        head: the first rows.
        repeatable: whether `read` can be called again.
        index: columns that the file itself calls an index.
        notes: what was noticed on opening.
        encoding: of text files.
        separator: of text files.
        skipped: files that were left out.
        used: options that apply.
    """

    name: str
    schema: pa.Schema
    read: ReadBatches
    head: pa.RecordBatch
    rows: int | None = None
    repeatable: bool = True
    index: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    encoding: str | None = None
    separator: str | None = None
    skipped: tuple[Skipped, ...] = ()
    used: frozenset[str] = frozenset()


def of_table(table: pa.Table, name: str) -> Batches:
    """Of a table in memory."""

    def read(columns: Sequence[str], types: Mapping[str, pa.DataType], most: int) -> Iterator[pa.RecordBatch]:
        yield from table.select(list(columns)).to_batches(max_chunksize=most)

    check_names(table.schema.names, name)
    return Batches(name, table.schema, read, head_of(table.slice(0, HEAD)), table.num_rows)


def head_of(table: pa.Table) -> pa.RecordBatch:
    """A small table as one batch."""
    whole = table.combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)


def check_names(names: Sequence[Any], where: str) -> None:
    """Refuse equal names.

    Raises:
        InputError: which.
    """
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{where} has {'columns' if twice[1:] else 'a column'} more than once: {', '.join(map(repr, twice[:5]))}",
            "give every column a name of its own",
        )


def chosen(names: list[str], columns: Sequence[str] | None, where: str) -> list[str]:
    """The chosen columns, in the order of the data.

    Raises:
        ConfigError: one that is not there.
        InputError: none.
    """
    for name in columns or ():
        if name not in names:
            raise ConfigError(f"{where} has no column {name!r}", nearest(name, names))
    kept = [name for name in names if columns is None or name in columns]
    if not kept:
        raise InputError(f"{where} has no columns", "choose at least one")
    return kept


def open_batches(source: Batches, options: Options) -> Rows:
    """Rows of record batches.

    Raises:
        ConfigError: a column that is not there.
        InputError: columns that are neither numbers nor text, lists of different lengths, a clash with the rule.
    """
    columns, notes, index = options.columns, list(source.notes), None
    schema, where = source.schema, source.name
    if columns is None:
        index = _index(source, options)
        if index is not None:
            shown = "the column without a name" if index in {"", "__index_level_0__"} else f"column {index!r}"
            notes.append(f"{shown} only counts the rows of {where}: an index, left out (name it in columns to keep it)")
    names = chosen([n for n in schema.names if n != index], columns, where)
    used = source.used | {"columns"}
    if columns is None and options.kinds is not None:
        for name in options.kinds:
            if name not in names:
                raise InputError(f"the column {name!r} of the real data is not in {where}", nearest(name, names))
        if more := [n for n in names if n not in options.kinds]:
            notes.append(f"{len(more)} columns of {where} are not in the real data and are left out: {_some(more)}")
        names = [n for n in names if n in options.kinds]
    pictures = [n for n in names if holds_images(schema.field(n).type, source.head.column(n))]
    if len(pictures) == 1:
        others = [n for n in names if n not in pictures]
        if others:
            notes.append(f"the images of column {pictures[0]!r} are read; left out: {_some(others)}")
        return _images(source, pictures[0], options, notes, used)
    lists = [n for n in names if _numbers_in(schema.field(n).type) is not None]
    if lists and len(names) == 1:
        return _vectors(source, lists[0], notes, used)
    return _table(source, names, lists, options, notes, used | {"categorical"}, index)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:5]))}{' ...' if names[5:] else ''}"


def _index(source: Batches, options: Options) -> str | None:
    """The column that counts rows: by its name, or by what the file says, and by its values."""
    kept = set(options.categorical) | set(options.kinds or ())
    for name in source.schema.names:
        called = name.lower().strip() in INDEX or name in source.index
        kind = source.schema.field(name).type
        if not called or name in kept or len(source.schema.names) == 1 or kind_of(kind) != "number":
            continue
        values = source.head.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if len(values) > 1 and (np.diff(values) == 1).all():
            return str(name)
    return None


def holds_images(kind: pa.DataType, head: Any) -> bool:
    """Whether a column holds encoded images: bytes, or Hugging Face's struct of bytes and path."""
    t = pa.types
    if t.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    if not (t.is_binary(kind) or t.is_large_binary(kind)):
        return False
    first = next((v for v in head.to_pylist() if v), b"")
    return first.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or first[8:12] == b"WEBP"


def _images(source: Batches, name: str, options: Options, notes: list[str], used: frozenset[str]) -> Rows:
    pictures = Pictures(source.name, options.size, options.mode)

    def content(cell: Any, row: int) -> Any:
        if isinstance(cell, dict):
            path = cell.get("path")
            cell = cell.get("bytes") or (path if path and Path(path).is_file() else None)
        if not cell:
            raise InputError(
                f"image {row} of {source.name} is not in the file", "store the images themselves, not their paths"
            )
        return cell

    def read(keep: Keep | None) -> Iterator[Chunk]:
        row = 0
        batcher = pictures.batcher()
        for batch in source.read([name], {}, 256):
            cells = batch.column(0)
            mask = None if keep is None else keep(row, len(cells))
            for i in range(len(cells)) if mask is None else np.flatnonzero(mask):
                where = f"{row + int(i)} of {source.name}"
                yield from batcher.add(pictures.decode(content(cells[int(i)].as_py(), row + int(i)), where))
            row += len(cells)
        yield from batcher.rest()

    first = source.head.column(name)
    shape: tuple[int, ...] = ()
    if len(first):
        shape = pictures.decode(content(first[0].as_py(), 0), f"0 of {source.name}").shape
    return Rows(
        source.name,
        "images",
        read,
        source.rows,
        shape,
        "uint8",
        repeatable=source.repeatable,
        notes=tuple(notes),
        skipped=source.skipped,
        used=used | {"size", "mode", "skip_bad"},
    )


def _numbers_in(kind: pa.DataType) -> pa.DataType | None:
    """Type of the numbers in (nested) lists."""
    t = pa.types
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.value_type
    inner = None
    while t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        kind = inner = kind.value_type
    return inner if inner is not None and kind_of(inner) in {"number", "boolean"} else None


def stacked(column: Any, where: str, first: int = 0) -> Array:
    """Lists of one length, nested or not, as an array ``[n, ...]``.

    Raises:
        InputError: missing or uneven lists; the first such row.
    """
    if isinstance(column.type, pa.FixedShapeTensorType):
        return np.asarray(column.to_numpy_ndarray())
    shape = [len(column)]
    while _numbers_in(column.type) is not None:
        sizes = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        wrong = np.isnan(sizes.astype(np.float64)) | (sizes != sizes[0]) if len(sizes) else np.zeros(0, bool)
        if column.null_count or wrong.any() or (len(sizes) and not sizes[0]):
            row = int(wrong.argmax())
            per = len(column) // max(1, shape[0])
            got = "none" if np.isnan(float(sizes[row])) else f"{int(sizes[row])}"
            have = "none" if np.isnan(float(sizes[0])) else f"{int(sizes[0])}"
            raise InputError(
                f"row {first + row // max(1, per)} of {where} has a list of {got} numbers, the first row {have}",
                "bring all lists to one length, and drop rows without one",
            )
        column = column.flatten()
        shape.append(int(sizes[0]) if len(sizes) else 0)
    if column.null_count:
        row = int(np.asarray(column.is_null()).argmax()) // max(1, int(np.prod(shape[1:])))
        raise InputError(f"a number is missing in row {first + row} of {where}", "drop that row or fill it")
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64() if pa.types.is_decimal(column.type) else pa.uint8())
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _vectors(source: Batches, name: str, notes: list[str], used: frozenset[str]) -> Rows:
    where = f"column {name!r} of {source.name}"
    head = stacked(source.head.column(name).slice(0, 64), where)
    shape = head.shape[1:]
    step = chunk_rows(int(np.prod(shape, dtype=np.int64)))

    def chunks() -> Iterator[Chunk]:
        first = 0
        for batch in source.read([name], {}, step):
            if batch.num_rows:
                x = stacked(batch.column(0), where, first)
                if x.shape[1:] != shape:
                    raise InputError(
                        f"row {first} of {where} has shape {x.shape[1:]}, the first {shape}", "bring all to one length"
                    )
                yield x
                first += batch.num_rows

    return Rows(
        source.name,
        "vectors",
        lambda keep: filtered(chunks(), keep),
        source.rows,
        tuple(map(int, shape)),
        str(head.dtype),
        repeatable=source.repeatable,
        notes=tuple(notes),
        skipped=source.skipped,
        used=used,
    )


def _table(
    source: Batches,
    names: list[str],
    lists: list[str],
    options: Options,
    notes: list[str],
    used: frozenset[str],
    index: str | None,
) -> Rows:
    schema, where, rule = source.schema, source.name, options.kinds or {}
    bad = [n for n in names if n not in lists and kind_of(schema.field(n).type) is None]
    if bad:
        shown = ", ".join(f"{n!r} ({schema.field(n).type})" for n in bad[:5]) + (" ..." if bad[5:] else "")
        good = [n for n in names if n not in bad]
        remedy = f"choose others with columns, such as {','.join(good[:5])}" if good else "convert them"
        raise InputError(f"{where}: {len(bad)} of {len(names)} columns are neither numbers nor text: {shown}", remedy)
    for name in options.categorical:
        if name not in names and options.kinds is None:
            raise ConfigError(f"{where} has no column {name!r} to be a category", nearest(name, names))
    widths = {n: stacked(source.head.column(n), f"column {n!r} of {where}").shape[1:] for n in lists}
    total = sum(int(np.prod(w)) for w in widths.values())
    if total > WIDEST:
        raise InputError(
            f"{where} has lists of {total} numbers beside other columns: {_some(lists)}",
            f"choose only {lists[0]!r} with columns to read its lists as rows, or leave it out",
        )
    found: dict[str, Recognised] = {}
    infos = []
    for name in names:
        if name in lists:
            infos += [
                ColumnInfo(f"{name}[{','.join(map(str, i))}]", "number", str(schema.field(name).type))
                for i in np.ndindex(*widths[name])
            ]
            continue
        stored = schema.field(name).type
        wanted = rule.get(name)
        if wanted is None and name in options.categorical and kind_of(stored) == "text":
            wanted = ColumnKind("text")
        found[name] = recognise(name, stored, source.head.column(name), where, wanted)
        infos.append(found[name].info)
        if found[name].note:
            notes.append(found[name].note)
    forced = {n: pa.string() for n, r in found.items() if n in rule and r.info.kind == "text"}
    step = chunk_rows(len(infos))

    def chunks() -> Iterator[Chunk]:
        first = 0
        for batch in source.read(names, forced, step):
            if not batch.num_rows:
                continue
            chunk: dict[str, Array] = {}
            for i, name in enumerate(names):
                if name in lists:
                    x = stacked(batch.column(i), f"column {name!r} of {where}", first)
                    if x.shape[1:] != widths[name]:
                        raise InputError(f"lists of column {name!r} of {where} change their length at row {first}")
                    flat = x.reshape(len(x), -1).astype(np.float64)
                    chunk |= {c.name: flat[:, j] for j, c in enumerate(k for k in infos if _of(k.name, name))}
                else:
                    chunk[name] = found[name].convert(batch.column(i), first)
            yield chunk
            first += batch.num_rows

    return Rows(
        where,
        "table",
        lambda keep: filtered(chunks(), keep),
        source.rows,
        (len(infos),),
        "",
        tuple(infos),
        source.repeatable,
        source.skipped,
        tuple(notes),
        source.encoding,
        source.separator,
        index,
        used,
    )


def _of(column: str, name: str) -> bool:
    return column.startswith(f"{name}[") and column.endswith("]")
