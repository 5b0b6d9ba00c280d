"""Delimited text: encoding, separator and header are sniffed and said; values stream through pyarrow.csv."""

from __future__ import annotations

import csv as text_csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
from pyarrow import csv

from driftlaw.data.rows.kinds import kind_of
from driftlaw.data.rows.opened import Options, Skipped
from driftlaw.data.rows.places import Place, damaged
from driftlaw.data.rows.tables import HEAD, Batches, check_names
from driftlaw.errors import ConfigError, InputError

#: Bytes that are looked at to recognise the form, and that are parsed at once.
SNIFFED, BLOCK = 1 << 20, 1 << 22
SEPARATORS = (",", ";", "\t", "|", " ")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "a space"}


@dataclass(frozen=True)
class Form:
    """How a file is written.

    Args:
        encoding: of its text.
        separator: of its fields.
        header: its names, or None.
        fields: in the first line.
        notes: what was guessed.
    """

    encoding: str
    separator: str
    header: tuple[str, ...] | None
    fields: int
    notes: tuple[str, ...] = ()


def open_text(name: str, files: list[Place], options: Options, skipped: tuple[Skipped, ...]) -> Batches:
    """Files with the same columns as one data set, in their order.

    Raises:
        InputError: empty, equal names, other columns in another file, text that is not of the encoding.
        ConfigError: an unknown encoding.
    """
    forms = [sniff(place, options.encoding, options.separator) for place in files]
    first, form = files[0], forms[0]
    try:
        with _reader(first, form, None, min(BLOCK, SNIFFED)) as reader:
            schema, head = reader.schema, _first_batch(reader)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _failed(first, form, {}, error) from None
    check_names(schema.names, str(first))
    if any(pa.types.is_binary(f.type) for f in schema):
        raise _not_text(first, form, "some bytes have no meaning in it")
    for place, other in zip(files, forms, strict=True):
        if (other.header is None) != (form.header is None) or sorted(other.header or ()) != sorted(form.header or ()):
            raise InputError(
                f"{place} has the columns {_some(other.header)}, {first} has {_some(form.header)}",
                "give files of one table",
            )
    # whole numbers in the first block may be followed by fractions, empty cells by anything
    wide = {f.name: pa.float64() for f in schema if pa.types.is_integer(f.type)}
    wide |= {f.name: pa.string() for f in schema if pa.types.is_null(f.type)}

    def read(columns: Sequence[str], types: Mapping[str, pa.DataType], most: int) -> Iterator[pa.RecordBatch]:
        fixed = {f.name: f.type for f in schema} | wide | dict(types)
        fixed = {n: fixed[n] for n in columns}
        for place, how in zip(files, forms, strict=True):
            convert = csv.ConvertOptions(column_types=fixed, include_columns=list(columns), strings_can_be_null=True)
            try:
                with _reader(place, how, convert) as reader:
                    for batch in reader:
                        for start in range(0, batch.num_rows, most):
                            yield batch.slice(start, most)
            except (pa.ArrowException, OSError, UnicodeError) as error:
                raise _failed(place, how, fixed, error) from None

    notes = tuple(dict.fromkeys(note for f in forms for note in f.notes))
    return Batches(
        name,
        schema,
        read,
        head,
        None,
        notes=notes,
        encoding=form.encoding,
        separator=form.separator,
        skipped=skipped,
        used=frozenset({"encoding", "separator"}),
    )


def sniff(place: Place, encoding: str | None = None, separator: str | None = None) -> Form:
    """Encoding, separator and header of a text file.

    Raises:
        InputError: empty.
        ConfigError: an unknown encoding.
    """
    try:
        with opened(place) as file:
            raw = file.read(SNIFFED)
    except (OSError, EOFError) as error:
        raise damaged(place, error) from None
    notes = []
    found = encoding or _encoding(raw)
    try:
        text = raw.decode(found, errors="ignore").lstrip("﻿")
    except LookupError:
        raise ConfigError(f"the encoding {encoding!r} is not known", "such as utf-8, latin-1, utf-16") from None
    if encoding is None and found != "utf-8":
        notes.append(f"{place.name} is not UTF-8 and is read as {found}; say otherwise with --encoding")
    lines = [line for line in text.splitlines()[:64] if line.strip()]
    if len(raw) == SNIFFED and len(lines) > 1:
        lines = lines[:-1] if len(text.splitlines()) <= 64 else lines
    if not lines:
        raise InputError(f"{place} is empty", "check that it was written completely")
    mark = separator or _separator(lines)
    if separator is None and mark != ("\t" if place.suffix == ".tsv" else ","):
        notes.append(f"the fields of {place.name} are separated by {_NAMES[mark]}; say otherwise with --sep")
    table = [row for row in text_csv.reader(io.StringIO("\n".join(lines)), delimiter=mark) if row]
    names = _header(table)
    if names is not None and all(_is_number(n) for n in names):
        notes.append(f"the first line of {place.name}, {', '.join(names[:4])}, ..., is read as names of columns")
    return Form(found, mark, names, len(table[0]), tuple(notes))


@contextmanager
def opened(place: Place) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked."""
    name = place.name.lower()
    if not name.endswith((".gz", ".bz2", ".zst", ".xz")):
        with place.open() as file:
            yield file
    elif name.endswith(".xz"):
        import lzma

        with place.open() as file, lzma.open(file) as unpacked:
            yield unpacked
    else:
        kind = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}[name.rpartition(".")[2]]
        with place.open() as file, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), kind) as unpacked:
            yield unpacked


@contextmanager
def _reader(place: Place, form: Form, convert: Any, block: int | None = None) -> Iterator[Any]:
    names = None if form.header is None else list(form.header)
    how = csv.ReadOptions(
        column_names=names,
        skip_rows=0 if names is None else 1,
        autogenerate_column_names=names is None,
        block_size=block or BLOCK,
        encoding=form.encoding,
    )
    parse = csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
    convert = convert or csv.ConvertOptions(strings_can_be_null=True)
    with opened(place) as file, csv.open_csv(file, how, parse, convert) as reader:
        yield reader


def _first_batch(reader: Any) -> pa.RecordBatch:
    for batch in reader:
        if batch.num_rows:
            return batch.slice(0, HEAD)
    return pa.RecordBatch.from_pylist([], schema=reader.schema)


def _encoding(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(raw) or error.reason != "unexpected end of data":
            return "cp1252" if _decodes(raw, "cp1252") else "latin-1"
    return "utf-8"


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _separator(lines: list[str]) -> str:
    """The mark that splits every line into the same number of fields; of several, the one with most."""
    best, most = ",", 1
    for mark in SEPARATORS:
        counts = {len(row) for row in text_csv.reader(io.StringIO("\n".join(lines)), delimiter=mark) if row}
        if len(counts) == 1 and (fields := counts.pop()) > most:
            best, most = mark, fields
    return best


def _header(table: list[list[str]]) -> tuple[str, ...] | None:
    """Names in the first line: anything but numbers, or the numbers 0, 1, 2, ... that a table without names gets."""
    first = [cell.strip() for cell in table[0]]
    if not all(_is_number(cell) for cell in first):
        return tuple(table[0])
    start = first[0]
    counts = start in {"0", "1"} and first == [str(i + int(start)) for i in range(len(first))]
    rest = [cell.strip() for row in table[1:] for cell in row]
    whole = all(cell.lstrip("+-").isdigit() for cell in rest)
    # 1, 2, 3 or a single 0 may as well be a row where all rows are whole numbers
    certain = rest and not (whole and (start == "1" or len(first) == 1))
    return tuple(first) if counts and certain else None


def _is_number(text: str) -> bool:
    try:
        float(text.strip())
    except ValueError:
        return False
    return True


def _some(names: tuple[str, ...] | None) -> str:
    return "no names" if names is None else f"{', '.join(map(repr, names[:6]))}{' ...' if names[6:] else ''}"


def _failed(place: Place, form: Form, types: Mapping[str, pa.DataType], error: Exception) -> InputError:
    """What was wrong, where: the file is read once more, line by line."""
    try:
        return _diagnosed(place, form, types) or damaged(place, error)
    except (UnicodeError, OSError, EOFError, text_csv.Error):
        return _not_text(place, form, error)


def _not_text(place: Place, form: Form, reason: object) -> InputError:
    return InputError(
        f"{place} is not {form.encoding} text ({reason})", "say what it is with --encoding, such as latin-1"
    )


def _diagnosed(place: Place, form: Form, types: Mapping[str, pa.DataType]) -> InputError | None:
    names = form.header
    with opened(place) as raw:
        lines = text_csv.reader(
            io.TextIOWrapper(io.BufferedReader(_Raw(raw)), form.encoding, newline=""), delimiter=form.separator
        )
        if names is not None:
            next(lines, None)
        columns = names or tuple(f"f{i}" for i in range(form.fields))
        numeric = [i for i, n in enumerate(columns) if n in types and kind_of(types[n]) in {"number", "boolean"}]
        for row, cells in enumerate(line for line in lines if line):
            if len(cells) != len(columns):
                return InputError(
                    f"row {row} of {place} has {len(cells)} fields, the table {len(columns)} columns",
                    "repair that line, or say how fields are separated with --sep",
                )
            for i in numeric:
                cell = cells[i].strip()
                if cell and not _is_number(cell) and cell not in _MISSING:
                    return InputError(
                        f"row {row}, column {columns[i]!r} of {place} is {cell!r}, the rows before are numbers",
                        "repair it, leave it empty, or name the column with categorical",
                    )
    return None


_MISSING = {
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-NaN",
    "-nan",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "n/a",
    "nan",
    "null",
    "true",
    "false",
}


class _Raw(io.RawIOBase):
    """A readable stream over what pyarrow unpacks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
