"""Rows that come one by one or in pieces: lists, iterators, datasets and loaders of PyTorch, WebDataset.

The first items decide what they are. A vector is a row, a mapping of scalars (or of one vector) is a row of a table, a
pair is data with a label, which is left out; matrices, frames and record batches are chunks of rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from driftlaw.data.rows.arrays import check_form, check_mask, form_of, is_array, is_tensor, native, to_numpy
from driftlaw.data.rows.frames import as_arrow
from driftlaw.data.rows.opened import Array, Chunk, Keep, Options, Rows, chunk_rows, filtered
from driftlaw.data.rows.pictures import Pictures
from driftlaw.data.rows.tables import HEAD, Batches, check_names, open_batches
from driftlaw.errors import InputError

#: Ends of the keys of WebDataset samples that hold images, and arrays.
_IMAGE_KEYS, _ARRAY_KEYS = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "jfif"), ("npy",)

Again = Callable[[], Iterator[Any]]


def open_items(again: Again, name: str, options: Options, *, rows: int | None, repeatable: bool, single: bool) -> Rows:
    """Items of one kind.

    Args:
        again: starts the items (from the first one where `repeatable`).
        name: for messages.
        options: how to read.
        rows: items, if known.
        repeatable: whether `again` can be called again.
        single: every item is one row (a dataset); otherwise matrices and tables are chunks of rows.

    Raises:
        InputError: no items, items of another kind, something that is not rows.
    """
    start = again()
    head = list(itertools.islice(start, 2))
    if not head:
        raise InputError(f"{name} holds no rows", "give at least one")
    if not repeatable:  # what was looked at comes first
        held = [itertools.chain(head, start)]
        again = lambda: held.pop() if held else iter(())  # noqa: E731
    notes: list[str] = []
    first = _unwrap(head[0], notes, name)
    if first is not head[0]:
        raw = again
        again = lambda: (_unwrap(item, [], name) for item in raw())  # noqa: E731
        head = [_unwrap(item, [], name) for item in head]
    set_up = _Setup(again, name, options, rows, repeatable, tuple(notes))
    if isinstance(first, Image.Image | bytes | bytearray):
        return _pictures(set_up)
    if isinstance(first, Mapping):
        return _mappings(set_up, head, single)
    if _is_frame(first):
        return _frames(set_up)
    return _numbers(set_up, first, head, single)


class _Setup:
    def __init__(
        self, again: Again, name: str, options: Options, rows: int | None, repeatable: bool, notes: tuple[str, ...]
    ) -> None:
        self.again, self.name, self.options = again, name, options
        self.rows, self.repeatable, self.notes = rows, repeatable, notes


def _unwrap(item: Any, notes: list[str], name: str) -> Any:
    """The data of a pair (data, label); a sample of WebDataset without its key."""
    if hasattr(item, "_asdict"):
        return item._asdict()
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    if isinstance(item, tuple) and any(isinstance(v, str) for v in item):
        return {f"f{j}": v for j, v in enumerate(item)}
    if isinstance(item, tuple | list) and item and not isinstance(item[0], Number | str | type(None)):
        data = is_array(item[0]) or is_tensor(item[0]) or isinstance(item[0], Image.Image | Mapping | bytes)
        if data and (isinstance(item, tuple) or (len(item) <= 3 and not _stackable(item))):
            if len(item) > 1:
                notes.append(f"each item of {name} is {len(item)} things: the first is read, labels are left out")
            return item[0]
    if isinstance(item, Mapping) and any(str(k).startswith("__") for k in item):
        sample = {str(k): v for k, v in item.items() if not str(k).startswith("__")}
        return sample_data(sample, notes, name)
    return item


def _stackable(item: Sequence[Any]) -> bool:
    shapes = {tuple(getattr(x, "shape", ())) for x in item}
    return len(shapes) == 1 and len(next(iter(shapes))) == 1


def sample_data(sample: Mapping[str, Any], notes: list[str], name: str) -> Any:
    """Image, array or record of a WebDataset sample, whose keys are file endings."""
    import io

    for endings, what in ((_IMAGE_KEYS, "images"), (_ARRAY_KEYS, "arrays")):
        found = next((k for k in sample if k.lower().split(".")[-1] in endings), None)
        if found is None:
            continue
        if others := [k for k in sample if k != found]:
            notes.append(f"the {what} .{found} of {name} are read; left out: {', '.join('.' + o for o in others[:5])}")
        value = sample[found]
        if what == "arrays" and isinstance(value, bytes):
            try:
                value = np.load(io.BytesIO(value), allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise InputError(f"a .{found} file of {name} cannot be read ({error})", "write it again") from None
        return value
    if "json" in sample:
        value = sample["json"]
        try:
            return json.loads(value) if isinstance(value, bytes | str) else value
        except ValueError as error:
            raise InputError(f"a .json file of {name} cannot be read ({error})", "write it again") from None
    values = {k: v.decode() if isinstance(v, bytes) and len(v) < 256 else v for k, v in sample.items()}
    return {k: (float(v) if isinstance(v, str) and _is_number(v) else v) for k, v in values.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_frame(item: Any) -> bool:
    return isinstance(item, pa.Table | pa.RecordBatch) or (hasattr(item, "columns") and hasattr(item, "shape"))


def _pictures(s: _Setup) -> Rows:
    def read(keep: Keep | None) -> Iterator[Chunk]:
        decoder = Pictures(s.name, s.options.size, s.options.mode)
        batcher = decoder.batcher()
        for i, item in enumerate(s.again()):
            if keep is None or keep(i, 1)[0]:
                if not isinstance(item, Image.Image | bytes | bytearray):
                    raise InputError(f"item {i} of {s.name} is a {type(item).__name__}, the first an image")
                yield from batcher.add(decoder.decode(item, f"{i} of {s.name}"))
        yield from batcher.rest()

    shape: tuple[int, ...] = ()
    if s.repeatable:
        item = next(s.again())
        shape = Pictures(s.name, s.options.size, s.options.mode).decode(item, f"0 of {s.name}").shape
    used = frozenset({"size", "mode", "skip_bad"})
    return Rows(s.name, "images", read, s.rows, shape, "uint8", repeatable=s.repeatable, notes=s.notes, used=used)


def _numbers(s: _Setup, first: Any, head: list[Any], single: bool) -> Rows:
    """Vectors, chunks of rows, or scalars."""
    x = _number_array(first, 0, s.name)
    listed = isinstance(first, list | tuple)
    rows_of_items = (
        single or listed or x.ndim < 2 or (x.ndim == 3 and (x.shape[0] in (1, 3, 4) or x.shape[2] in (1, 3, 4)))
    )
    if not rows_of_items and x.ndim == 2 and x.dtype == np.uint8:
        raise InputError(
            f"the items of {s.name} are byte arrays of shape {x.shape}: images, or pieces of a table of bytes?",
            "join them first: numpy.stack for images, numpy.concatenate for pieces",
        )
    shape = x.shape if rows_of_items else x.shape[1:]
    check_form(x.dtype, (1, *shape), f"an item of {s.name}")
    kind, bring, row, note = form_of((1, *shape), x.dtype)
    notes = (*s.notes, note) if note else s.notes
    step = chunk_rows(int(np.prod(shape, dtype=np.int64)))

    def chunks() -> Iterator[Chunk]:
        held: list[Array] = []
        for i, item in enumerate(s.again()):
            part = _number_array(item, i, s.name)
            got = part.shape if rows_of_items else part.shape[1:]
            if got != shape:
                what = "shape" if rows_of_items else "rows of shape"
                raise InputError(
                    f"item {i} of {s.name} has {what} {got}, the first {shape}",
                    "bring all rows to one shape",
                )
            if rows_of_items:
                held.append(part)
                if len(held) == step:
                    yield bring(native(np.stack(held)))
                    held = []
            else:
                for start in range(0, len(part), step):
                    yield bring(native(part[start : start + step]))
        if held:
            yield bring(native(np.stack(held)))

    return Rows(
        s.name,
        kind,
        lambda keep: filtered(chunks(), keep),
        s.rows if rows_of_items else None,
        row,
        str(x.dtype),
        repeatable=s.repeatable,
        notes=notes,
    )


def _number_array(item: Any, i: int, name: str) -> Array:
    if isinstance(item, str | bytes | set | Mapping) or item is None or _is_frame(item):
        raise InputError(
            f"chunk {i} of {name} is a {type(item).__name__}", "give vectors, arrays, tables or records, all alike"
        )
    try:
        x = to_numpy(item)
    except (ValueError, TypeError) as error:
        raise InputError(f"item {i} of {name} is no array of numbers ({error})", "bring rows to one shape") from None
    if x.dtype.kind == "O" or x.dtype.kind not in "fiubmM":
        raise InputError(
            f"chunk {i} of {name} is a {type(item).__name__} of {x.dtype}", "give vectors, arrays, tables or records"
        )
    if isinstance(x, np.ma.MaskedArray):
        check_mask(np.atleast_2d(x), f"item {i} of {name}")
        x = x.data
    return np.asarray(x)


def _frames(s: _Setup) -> Rows:
    """Data frames as chunks of columns."""

    def tables() -> Iterator[pa.Table]:
        for i, item in enumerate(s.again()):
            if not (_is_frame(item) or isinstance(item, Mapping)):
                raise InputError(f"chunk {i} of {s.name} is a {type(item).__name__}, the first a table")
            yield as_arrow(item, f"chunk {i} of {s.name}")

    return open_batches(batches_of(tables, s.name, s.repeatable), s.options).noted(*s.notes)


def _mappings(s: _Setup, head: list[Any], single: bool) -> Rows:
    """Records, or chunks of columns."""
    first = head[0]
    if not first:
        raise InputError(f"the first record of {s.name} is empty", "give columns by name")
    columns = [v for v in first.values() if (is_array(v) or is_tensor(v)) and len(np.shape(v)) >= 1]
    lengths = {len(v) for v in columns}
    chunks = len(columns) == len(first) and len(lengths) == 1 and not single
    if chunks and len(first) == 1 and np.ndim(columns[0]) == 1 and len(head) > 1:
        other = next(iter(head[1].values()), ()) if isinstance(head[1], Mapping) else ()
        chunks = np.ndim(other) == 1 and len(other) != len(columns[0])
    if chunks:
        return _frames(s)
    images = [k for k, v in first.items() if isinstance(v, Image.Image)]
    if len(images) == 1:
        left = [str(k) for k in first if k not in images]
        note = (f"the images {images[0]!r} of {s.name} are read; left out: {', '.join(left)}",) if left else ()
        raw = s.again
        inner = _Setup(lambda: (r[images[0]] for r in raw()), s.name, s.options, s.rows, s.repeatable, s.notes + note)
        return _pictures(inner)

    def tables() -> Iterator[pa.Table]:
        done, schema = 0, None
        items = s.again()
        while records := list(itertools.islice(items, HEAD)):
            table = records_table(records, done, s.name, schema)
            schema = table.schema
            done += len(records)
            yield table

    source = batches_of(tables, s.name, s.repeatable, s.rows)
    return open_batches(source, s.options).noted(*s.notes)


def records_table(records: list[Any], first: int, name: str, schema: pa.Schema | None) -> pa.Table:
    """Records as a table; whole numbers become float64, since fractions may follow.

    Raises:
        InputError: something else than a record, values that change their type; which row and column.
    """
    for i, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InputError(f"item {first + i} of {name} is a {type(record).__name__}, the first a record")
    names = list(dict.fromkeys(str(k) for r in records for k in r)) if schema is None else list(schema.names)
    arrays = []
    for column in names:
        values = [_plain(r.get(column)) for r in records]
        wanted = None if schema is None else schema.field(column).type
        if wanted is not None and pa.types.is_null(wanted):
            wanted = None
        try:
            array = pa.array(values, wanted)
        except (pa.ArrowException, OverflowError, TypeError):
            kinds = [type(v).__name__ for v in values if v is not None]
            odd = next((i for i, v in enumerate(values) if v is not None and type(v).__name__ != kinds[0]), 0)
            raise InputError(
                f"row {first + odd}, column {column!r} of {name} is {values[odd]!r}, a {type(values[odd]).__name__}; "
                f"the column holds {wanted or kinds[0]}",
                "give one type in every column",
            ) from None
        arrays.append(array.cast(pa.float64(), safe=False) if pa.types.is_integer(array.type) else array)
    check_names(names, name)
    return pa.table(arrays, names=names)


def _plain(value: Any) -> Any:
    """A value that pyarrow knows: tensors and arrays as lists, NumPy's scalars as Python's."""
    if value is np.ma.masked:
        return None
    if is_tensor(value) or isinstance(value, np.ndarray):
        value = native(to_numpy(value))
        return value.item() if value.ndim == 0 else value.tolist()
    if isinstance(value, np.generic):
        return value.item() if not isinstance(value, np.longdouble) else float(value)
    return None if isinstance(value, float) and value != value else value


def batches_of(
    tables: Callable[[], Iterable[pa.Table]], name: str, repeatable: bool, rows: int | None = None
) -> Batches:
    """Tables that come one after another; where they come once, the first is kept."""
    items = iter(tables())
    first = next((t for t in items if t.num_rows), None)
    if first is None:
        raise InputError(f"{name} holds no rows", "give at least one")
    held = None if repeatable else [itertools.chain([first], items)]

    def read(columns: Sequence[str], types: Mapping[str, Any], most: int) -> Iterator[pa.RecordBatch]:
        source = tables() if held is None else held.pop() if held else ()
        done = 0
        for table in source:
            for column in columns:
                if column not in table.schema.names:
                    raise InputError(
                        f"column {column!r} of {name} is missing from row {done} on", "give all pieces the same columns"
                    )
            yield from table.select(list(columns)).combine_chunks().to_batches(max_chunksize=most)
            done += table.num_rows

    check_names(first.schema.names, name)
    head = first.slice(0, HEAD).combine_chunks().to_batches()[0]
    return Batches(name, first.schema, read, head, rows, repeatable)
