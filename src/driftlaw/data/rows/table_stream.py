"""Parquet and csv files as chunks of named columns, in the memory of one batch.

Numbers and booleans become float64 (an empty cell is NaN), text becomes objects (an empty cell is None). A column of
lists of numbers, as embeddings are often stored, is read as an array when it is the only one chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.data.rows.tables import has_header, unreadable
from driftlaw.errors import ConfigError, InputError, nearest

#: Numbers in one batch.
BATCH = 1 << 20

Chunk = Array | dict[str, Array]


def open_table(path: Path, columns: Sequence[str] | None) -> tuple[int | None, Callable[[], Iterator[Chunk]]]:
    """Number of rows (None for csv) and a function that starts reading chunks.

    Args:
        path: of a .parquet or .csv file that exists.
        columns: which ones, in the order of the file; None for all.

    Raises:
        ConfigError: a column that is not there.
        InputError: a damaged or empty file, columns that are neither numbers nor text.
    """
    return _parquet(path, columns) if path.suffix.lower() == ".parquet" else _csv(path, columns)


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


def _parquet(path: Path, columns: Sequence[str] | None) -> tuple[int, Callable[[], Iterator[Chunk]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    names = chosen([str(name) for name in schema.names], columns, str(path))
    convert, width = _conversion(path, schema, names)

    def read() -> Iterator[Chunk]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(max(1, min(65_536, BATCH // width)), columns=names):
                    if batch.num_rows:
                        yield convert(batch)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from None

    return rows, read


def _csv(path: Path, columns: Sequence[str] | None) -> tuple[None, Callable[[], Iterator[Chunk]]]:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ReadOptions(autogenerate_column_names=not has_header(path), block_size=BATCH * 8)
    try:
        with csv.open_csv(path, read_options=options) as reader:
            schema = reader.schema
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    names = chosen([str(name) for name in schema.names], columns, str(path))
    # whole numbers in the first block may be followed by fractions
    types = {n: pa.float64() for n in names if pa.types.is_integer(schema.field(n).type)}
    types |= {n: pa.string() for n in names if pa.types.is_null(schema.field(n).type)}
    how = csv.ConvertOptions(column_types=types, include_columns=names, strings_can_be_null=True)
    convert, _ = _conversion(path, schema, names)

    def read() -> Iterator[Chunk]:
        try:
            with csv.open_csv(path, read_options=options, convert_options=how) as reader:
                for batch in reader:
                    if batch.num_rows:
                        yield convert(batch)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from None

    return None, read


def _conversion(path: Path, schema: Any, names: list[str]) -> tuple[Callable[[Any], Chunk], int]:
    """How a batch becomes a chunk, and the numbers in a row."""
    import pyarrow as pa

    t = pa.types
    kinds = {name: schema.field(name).type for name in names}
    lists = [n for n, kind in kinds.items() if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)]
    if lists and len(names) == 1 and _is_number(kinds[names[0]].value_type):
        width = kinds[names[0]].list_size if t.is_fixed_size_list(kinds[names[0]]) else 1024
        return lambda batch: _vectors(path, names[0], batch.column(0)), width
    text = (t.is_string, t.is_large_string, t.is_dictionary, t.is_null)
    bad = [n for n, kind in kinds.items() if not (_is_number(kind) or any(test(kind) for test in text))]
    if bad:
        shown = ", ".join(f"{n!r} ({kinds[n]})" for n in bad[:5]) + (" ..." if bad[5:] else "")
        good = [n for n in names if n not in bad]
        remedy = f"choose others with columns, such as {','.join(good[:5])}" if good else "convert them"
        if lists:
            remedy = f"choose only {lists[0]!r} to read its lists as rows, or leave it out"
        raise InputError(f"{path}: {len(bad)} of {len(names)} columns are neither numbers nor text: {shown}", remedy)
    return lambda batch: {name: _column(batch.column(name)) for name in names}, len(names)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return any(test(kind) for test in (t.is_integer, t.is_floating, t.is_boolean, t.is_decimal))


def _column(column: Any) -> Array:
    import pyarrow as pa

    if _is_number(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        column = column.cast(pa.float64(), safe=False)
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)


def _vectors(path: Path, name: str, column: Any) -> Array:
    import pyarrow.compute as pc

    n = len(column)
    if column.null_count:
        raise InputError(f"{column.null_count} rows of column {name!r} of {path} are empty", "drop these rows")
    flat = column.flatten()
    sizes = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if (sizes != sizes[0]).any() or not sizes[0]:
        raise InputError(
            f"the lists in column {name!r} of {path} have {sizes.min()} to {sizes.max()} numbers",
            "bring them to one length",
        )
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(n, int(sizes[0]))
