"""Parquet, Arrow, feather and JSON lines through pyarrow.dataset: files, folders with hive partitions, projections."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from driftlaw.data.rows.kinds import kind_of
from driftlaw.data.rows.opened import Skipped
from driftlaw.data.rows.places import Place, damaged
from driftlaw.data.rows.tables import HEAD, Batches, check_names, head_of, of_table
from driftlaw.errors import InputError

#: Batches that are read ahead: memory stays flat.
AHEAD = {"batch_readahead": 2, "fragment_readahead": 1}


def open_arrow(name: str, files: list[Place], form: str, skipped: tuple[Skipped, ...], root: Place | None) -> Batches:
    """Files of one format as one data set, in their order.

    Args:
        name: of the data set.
        files: one or more.
        form: "parquet", "arrow" or "json".
        skipped: files beside them.
        root: folder below which ``key=value`` folders are columns.

    Raises:
        InputError: a damaged file, files with different columns.
    """
    if form == "json" and _starts_with_bracket(files[0]):
        return _documents(name, files)
    if form == "arrow" and not _is_ipc_file(files[0]):
        return _streams(name, files, skipped)
    system = files[0].system
    arrow_system = None if system is None else pa.fs.PyFileSystem(pa.fs.FSSpecHandler(system))
    fragment_of = {"parquet": "parquet", "arrow": "ipc", "json": "json"}[form]
    settings = {
        "format": fragment_of,
        "filesystem": arrow_system,
        "partitioning": "hive" if root is not None and _is_hive(files, root) else None,
        "partition_base_dir": None if root is None else root.path,
    }
    paths = [f.path for f in files]
    try:
        data = ds.dataset(paths, **settings)
        check_names(data.schema.names, name)
        stored = next(data.get_fragments()).physical_schema
        text = [f.name for f in stored if kind_of(f.type) == "text" and not pa.types.is_dictionary(f.type)]
        if form == "parquet" and text:  # each text once, with numbers in its place
            settings["format"] = ds.ParquetFileFormat(dictionary_columns=text)
            data = ds.dataset(paths, **settings)
        if (schema := _one_schema(name, data)) is not None:
            data = ds.dataset(paths, schema=schema, **settings)
        rows = None if form == "json" else int(data.count_rows())
        head = _first_rows(data, files[0], text) if form == "parquet" else None
        head = head or head_of(data.head(HEAD, batch_size=HEAD, use_threads=False, **AHEAD))
        _check(head, data)
    except (pa.ArrowException, OSError) as error:
        raise damaged(_culprit(files, fragment_of, arrow_system, name), error) from None
    return dataclasses.replace(of_dataset(data, name, rows, head), skipped=skipped)


def _first_rows(data: Any, place: Place, text: list[str]) -> pa.RecordBatch | None:
    """The first rows without decoding a whole group, where the file has all columns as they are."""
    from pyarrow import parquet

    source = place.path if place.system is None else place.open()
    with parquet.ParquetFile(source, read_dictionary=text) as file:
        batch = next(file.iter_batches(HEAD), None)
    return batch if batch is not None and batch.schema.equals(data.schema) else None


def _check(batch: pa.RecordBatch, data: Any) -> None:
    """Refuse what a damaged Arrow file holds, whose offsets pyarrow otherwise believes."""
    if isinstance(getattr(data, "format", None), ds.IpcFileFormat):
        batch.validate(full=True)


def of_dataset(data: Any, name: str, rows: int | None = None, head: pa.RecordBatch | None = None) -> Batches:
    """A dataset of pyarrow."""
    metadata = data.schema.metadata or {}

    def read(columns: Sequence[str], types: Mapping[str, pa.DataType], most: int) -> Iterator[pa.RecordBatch]:
        try:
            for batch in data.scanner(columns=list(columns), batch_size=most, **AHEAD).to_batches():
                _check(batch, data)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise damaged(name, error) from None

    check_names(data.schema.names, name)
    if head is None:
        head = head_of(data.head(HEAD, batch_size=HEAD, use_threads=False, **AHEAD))
        rows = int(data.count_rows())
    return Batches(name, data.schema, read, head, rows, index=_pandas_index(metadata))


def _starts_with_bracket(place: Place) -> bool:
    if place.name.lower().endswith((".gz", ".bz2", ".zst", ".xz")):
        return False
    with place.open() as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _documents(name: str, files: list[Place]) -> Batches:
    """JSON files that hold one list of objects."""
    records: list[Any] = []
    for place in files:
        try:
            content = json.loads(place.bytes())
        except (ValueError, RecursionError) as error:
            raise damaged(place, error) from None
        if not isinstance(content, list) or not all(isinstance(r, dict) for r in content):
            raise InputError(f"{place} is no list of objects", "write one object a line, or a list of objects")
        records += content
    try:
        return of_table(pa.Table.from_pylist(records), name)
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"{name} has a column of mixed types ({error})", "write one type in every column") from None


def _is_ipc_file(place: Place) -> bool:
    with place.open() as file:
        return file.read(6) == b"ARROW1"


def _is_hive(files: list[Place], root: Place) -> bool:
    return any("=" in part for part in files[0].under(root)[:-1])


def _one_schema(name: str, data: Any) -> pa.Schema | None:
    """One schema for files whose types differ: numbers become float64. None where they are equal.

    Raises:
        InputError: a file lacks a column or has another one.
    """
    fragments = list(data.get_fragments())
    if len(fragments) < 2:
        return None
    first = fragments[0].physical_schema
    schemas = [first]
    for fragment in fragments[1:]:
        other = fragment.physical_schema
        if set(other.names) != set(first.names):
            gone, more = sorted(set(first.names) - set(other.names)), sorted(set(other.names) - set(first.names))
            what = f"lacks {', '.join(map(repr, gone[:5]))}" if gone else f"has also {', '.join(map(repr, more[:5]))}"
            raise InputError(
                f"the files of {name} have different columns: {fragment.path} {what}",
                "give files of one table, or choose the common columns file by file",
            )
        if not other.equals(first):
            schemas.append(other)
    if len(schemas) == 1:
        return None
    fields = []
    for field in data.schema:
        types = {s.field(field.name).type for s in schemas if field.name in s.names}
        if len(types) > 1:
            words = ", ".join(sorted(map(str, types)))
            if {kind_of(t) for t in types} <= {"number", "boolean"}:
                field = field.with_type(pa.float64())
            elif {kind_of(t) for t in types} <= {"text", "missing"}:
                field = field.with_type(pa.string())
            else:
                raise InputError(
                    f"the files of {name} hold different types in column {field.name!r}: {words}",
                    "write one type in a column",
                )
        fields.append(field)
    return pa.schema(fields, data.schema.metadata)


def _culprit(files: list[Place], form: str, system: Any, name: str) -> object:
    """The first file that cannot be opened."""
    for place in files if len(files) > 1 else ():
        try:
            ds.dataset([place.path], format=form, filesystem=system).count_rows()
        except (pa.ArrowException, OSError):
            return place
    return name


def _pandas_index(metadata: Mapping[bytes, bytes]) -> tuple[str, ...]:
    try:
        columns = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except ValueError:
        return ()
    return tuple(c for c in columns if isinstance(c, str))


def _streams(name: str, files: list[Place], skipped: tuple[Skipped, ...]) -> Batches:
    """Arrow streams, as ``save_to_disk`` of Hugging Face's datasets writes them."""

    def batches() -> Iterator[pa.RecordBatch]:
        for place in files:
            try:
                source = pa.memory_map(place.path) if place.system is None else place.open()
                with source, pa.ipc.open_stream(source) as stream:
                    yield from stream
            except (pa.ArrowException, OSError) as error:
                raise damaged(place, error) from None

    first = next(batches(), None)
    if first is None:
        raise InputError(f"{name} holds no rows", "check that it is complete")
    rows = sum(b.num_rows for b in batches())  # headers only: the values stay on disk

    def read(columns: Sequence[str], types: Mapping[str, pa.DataType], most: int) -> Iterator[pa.RecordBatch]:
        for batch in batches():
            if set(batch.schema.names) != set(first.schema.names):
                raise InputError(f"the files of {name} have different columns", "give files of one table")
            part = batch.select(list(columns))
            try:
                part.validate(full=True)
            except pa.ArrowException as error:
                raise damaged(name, error) from None
            for start in range(0, part.num_rows, most):
                yield part.slice(start, most)

    return Batches(name, first.schema, read, first.slice(0, HEAD), rows, skipped=skipped)


def saved_to_disk(folder: Place) -> list[Place] | None:
    """Arrow files of a folder that ``save_to_disk`` wrote, or None.

    Raises:
        InputError: several splits; which to choose from.
    """
    if folder.has("dataset_dict.json"):
        splits = json.loads((folder / "dataset_dict.json").bytes()).get("splits", [])
        if len(splits) == 1:
            return saved_to_disk(folder / str(splits[0]))
        raise InputError(f"{folder} holds the splits {', '.join(map(str, splits))}", f"give one: {folder}/{splits[0]}")
    if not (folder.has("state.json") and folder.has("dataset_info.json")):
        return None
    try:
        listed = json.loads((folder / "state.json").bytes())["_data_files"]
        return [folder / str(f["filename"]).replace("/", "") for f in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder / "state.json", error) from None
