"""Arrays in memory, in .npy and .npz files, and of other libraries: anything with shape, dtype and slices.

A .npy file is read, not mapped: pages of a mapped file would count as this process's memory. Masked cells are missing.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from driftlaw.data.rows.opened import Array, Chunk, Kind, Options, Rows, chunk_rows, filtered
from driftlaw.data.rows.places import Place, damaged
from driftlaw.errors import ConfigError, InputError, nearest
from driftlaw.system import memory

#: What numpy and zipfile raise, beside errors of their own, for archives that were damaged.
BAD_ARCHIVE = (NotImplementedError, RuntimeError, SyntaxError, TypeError, struct.error, tokenize.TokenError)

MAGIC = b"\x93NUMPY"


def is_array(data: Any) -> bool:
    """Whether it has a shape, a type and slices, as arrays of every library have."""
    return all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")) and not hasattr(data, "columns")


def is_tensor(data: Any) -> bool:
    """A tensor of PyTorch; it is not imported to find out."""
    return type(data).__module__.partition(".")[0] == "torch" and hasattr(data, "detach")


def to_numpy(data: Any) -> Array:
    """A tensor, or what NumPy can turn into an array."""
    if is_tensor(data):
        data = data.detach().cpu()
        data = (data.float() if str(data.dtype) == "torch.bfloat16" else data).numpy()
    return np.asanyarray(data)


def native(values: Array) -> Array:
    """In this machine's byte order and in a type that every library knows, C or Fortran order kept.

    Long doubles become float64, times days since 1970-01-01.
    """
    dtype = values.dtype
    if dtype.kind == "M":
        micro = values.astype("datetime64[us]")
        return np.where(np.isnat(micro), np.nan, micro.astype(np.int64) / 86_400e6)
    if dtype.kind == "m":
        micro = values.astype("timedelta64[us]")
        return np.where(np.isnat(micro), np.nan, micro.astype(np.int64) / 1e6)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return values.astype(np.float64)
    return values.astype(dtype.newbyteorder("=")) if not dtype.isnative else values


def check_form(dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> None:
    """Refuse what holds no rows of real numbers.

    Raises:
        InputError: a single number, rows without numbers, text, objects, complex numbers.
    """
    if dtype.kind == "O":
        raise InputError(f"{name} holds Python objects", "convert the array to numbers of one dtype")
    if dtype.kind not in "fiubmM":
        raise InputError(f"{name} has dtype {dtype}", "use real numbers (float or integer)")
    if not shape:
        raise InputError(f"{name} is a single number", "rows are [n, d] or [n, c, h, w]")
    if 0 in shape[1:]:
        raise InputError(f"{name} has shape {shape}: its rows hold no numbers", "check how it was written")


def form_of(shape: tuple[int, ...], dtype: Any) -> tuple[Kind, Callable[[Array], Array], tuple[int, ...], str]:
    """Kind of an array's rows, how a chunk of them is brought to ``[m, ...]``, their shape, and a note."""
    row = tuple(int(s) for s in shape[1:])
    byte = np.dtype(dtype) == np.uint8
    if len(row) == 3 and row[2] in (1, 3, 4) and row[0] not in (1, 3, 4):
        if row[2] == 4:
            return (
                "images",
                lambda x: np.ascontiguousarray(x[..., :3].transpose(0, 3, 1, 2)),
                (3, *row[:2]),
                ("rows of shape [h, w, 4] are read as images, transposed to [c, h, w], without the alpha channel"),
            )
        return (
            "images",
            lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)),
            (row[2], *row[:2]),
            ("rows of shape [h, w, c] are read as images and transposed to [c, h, w]"),
        )
    if len(row) == 2 and byte:
        return "images", lambda x: x[:, None], (1, *row), "rows of bytes [h, w] are read as grey images"
    return ("images" if len(row) == 3 else "vectors"), lambda x: x, row, ""


def open_array(data: Any, name: str, used: frozenset[str] = frozenset()) -> Rows:
    """An array of any library, read slice by slice."""
    if is_tensor(data):
        data = to_numpy(data)
    if isinstance(data, np.ndarray) and data.dtype == object:
        raise InputError(f"{name} holds Python objects", "convert the array to numbers of one dtype")
    shape = tuple(data.shape)
    if hasattr(data, "chunks") and hasattr(data, "rechunk") and hasattr(data, "numblocks"):
        return _dask(data, name)
    dtype = np.dtype(data.dtype) if not isinstance(data.dtype, np.dtype) else data.dtype
    check_form(dtype, shape, name)
    kind, bring, row, note = form_of(shape, dtype)
    stored = getattr(data, "chunks", None)
    step = chunk_rows(int(np.prod(shape[1:], dtype=np.int64)))
    if isinstance(stored, tuple) and stored and isinstance(stored[0], int):  # whole blocks of zarr and hdf5
        step = max(stored[0], step - step % stored[0])

    def chunks() -> Iterator[Chunk]:
        for start in range(0, shape[0], step):
            piece = data[start : start + step]
            part = np.asanyarray(piece.toarray() if hasattr(piece, "toarray") else piece)  # sparse rows
            if isinstance(part, np.ma.MaskedArray):
                check_mask(part, name, start)
                part = part.data
            yield bring(native(np.asarray(part)))

    return Rows(
        name,
        kind,
        lambda keep: filtered(chunks(), keep),
        shape[0],
        row,
        str(dtype),
        notes=(note,) if note else (),
        used=used,
    )


def check_mask(part: Any, name: str, first: int = 0) -> None:
    """Refuse masked cells of arrays, which cannot be missing.

    Raises:
        InputError: how many, where the first is.
    """
    mask = np.ma.getmaskarray(part).reshape(len(part), -1)
    if mask.any():
        row, column = (int(i) for i in np.argwhere(mask)[0])
        raise InputError(
            f"{int(mask.sum())} cells of {name} are masked, the first is row {first + row}, column {column}",
            "fill them, or give a table of named columns, where missing cells are counted",
        )


def _dask(data: Any, name: str) -> Rows:
    """Block by block, so that each is computed once."""
    data = data.rechunk(dict.fromkeys(range(1, data.ndim), -1)) if data.ndim > 1 else data
    known = all(isinstance(n, int) for n in data.chunks[0])
    check_form(data.dtype, tuple(data.shape) if known else (1, *data.shape[1:]), name)
    kind, bring, row, note = form_of(tuple(data.shape), data.dtype)
    step = chunk_rows(int(np.prod(row, dtype=np.int64)))

    def chunks() -> Iterator[Chunk]:
        for i in range(data.numblocks[0]):
            block = np.asarray(data.blocks[i])
            for start in range(0, len(block), step):
                yield bring(native(block[start : start + step]))

    rows = int(data.shape[0]) if known else None
    return Rows(
        name, kind, lambda keep: filtered(chunks(), keep), rows, row, str(data.dtype), notes=(note,) if note else ()
    )


def npy_header(place: Place) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Type, shape, Fortran order and offset of the numbers of a .npy file.

    Raises:
        InputError: no such header, objects, fewer bytes than it promises.
    """
    try:
        with place.open() as file:
            if file.read(6) != MAGIC:
                raise damaged(place, "no .npy header")
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
            size = file.seek(0, 2)
    except InputError:
        raise
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, RecursionError, tokenize.TokenError) as error:
        raise damaged(place, error) from None
    if dtype.hasobject:
        raise objects(place)
    check_form(dtype, tuple(shape), str(place))
    expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < expected:
        raise damaged(
            place, f"its header says {' x '.join(map(str, shape))} of {dtype}, {expected} bytes; it has {size}"
        )
    return dtype, tuple(int(s) for s in shape), bool(fortran), offset


def objects(place: Place) -> InputError:
    """The error of a file with pickled objects."""
    return InputError(
        f"{place} holds Python objects, which are refused without unpickling them",
        "convert the array to numbers of one dtype and save it again",
    )


def open_npy(place: Place) -> Rows:
    """A .npy file, read in chunks."""
    dtype, shape, fortran, offset = npy_header(place)
    if fortran and len(shape) > 1 and shape[1:] != (1,) * (len(shape) - 1):
        if place.system is None:
            mapped = np.memmap(place.path, dtype, "r", offset, shape, "F")
            return open_array(mapped, str(place))
        with place.open() as file:
            file.seek(offset)
            flat = np.frombuffer(file.read(), dtype, int(np.prod(shape, dtype=np.int64)))
        return open_array(flat.reshape(shape, order="F"), str(place))
    kind, bring, row, note = form_of(shape, dtype)
    step = chunk_rows(int(np.prod(shape[1:], dtype=np.int64)))

    def chunks() -> Iterator[Chunk]:
        with place.open() as file:
            file.seek(offset)
            for start in range(0, shape[0], step):
                values = np.empty((min(step, shape[0] - start), *shape[1:]), dtype)
                view, got = values.reshape(-1).view(np.uint8).data, 0
                while got < len(view):
                    if not (more := file.readinto(view[got:])):  # type: ignore[attr-defined]
                        raise InputError(f"{place} became shorter while it was read", "write it again, then sketch it")
                    got += more
                yield bring(native(values))

    return Rows(
        str(place),
        kind,
        lambda keep: filtered(chunks(), keep),
        shape[0],
        row,
        str(dtype),
        notes=(note,) if note else (),
    )


def open_npz(place: Place, options: Options) -> Rows:
    """One array of a .npz file, in memory while it is read."""
    try:
        with place.open() as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise damaged(place, "not a zip archive")
            names = list(archive.files)
            rest = [n for n in names if n != "y"] if options.key != "y" and len(names) > 1 else names
            values = read_member(archive, group_member(rest if options.key is None else names, options.key, str(place)))
    except InputError:
        raise
    except ValueError as error:
        raise objects(place) if "Object arrays" in str(error) else damaged(place, error) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, *BAD_ARCHIVE) as error:
        raise damaged(place, error) from None
    return open_array(values, str(place), frozenset({"key"}))


def read_member(archive: Any, name: str) -> Array:
    """An array of an opened .npz archive, after its declared sizes were held against each other and against memory.

    Raises:
        ValueError: no array, objects, or a header that promises more than the archive holds.
        LimitError: it does not fit in memory.
    """
    stored = f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name
    with archive.zip.open(stored) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    held = archive.zip.getinfo(stored).file_size
    if needed > held and not dtype.hasobject:
        raise ValueError(f"the header of {name} promises {needed} bytes, the archive has {held}")
    memory.check(needed, f"the array {name!r}, {' x '.join(map(str, shape))} of {dtype},", "store it as .npy")
    return np.asarray(archive[name])


def open_safetensors(place: Place, options: Options) -> Rows:
    """One tensor of a .safetensors file, read slice by slice."""
    from safetensors import SafetensorError, safe_open

    if place.system is not None:
        raise InputError(f"{place} is an address, and .safetensors files are read from disk", "copy it here")
    try:
        file: Any = safe_open(place.path, framework="numpy")
        names = sorted(file.keys())
        part = file.get_slice(group_member(names, options.key, str(place)))
        kept = part[:1]
    except (SafetensorError, OSError, TypeError) as error:
        raise damaged(place, error) from None
    return open_array(_Slices(part, tuple(part.get_shape()), kept.dtype), str(place), frozenset({"key"}))


class _Slices:
    """A tensor in a file as something with shape, dtype and slices."""

    def __init__(self, part: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._part, self.shape, self.dtype = part, shape, dtype

    def __getitem__(self, index: Any) -> Any:
        return self._part[index.start : min(index.stop, self.shape[0])]


def open_zarr(place: Place, options: Options) -> Rows:
    """A folder that zarr wrote: an array, or a group of which `key` chooses one."""
    try:
        import zarr
    except ImportError:
        raise InputError(f"{place} is a zarr store and zarr is not installed", "pip install zarr") from None
    try:
        store: Any = zarr.open(str(place), mode="r")
    except Exception as error:
        raise damaged(place, error) from None
    if not is_array(store):
        names = sorted(store.array_keys())
        store = store[group_member(names, options.key, str(place))]
    return open_array(store, str(place), frozenset({"key"}))


def group_member(names: Sequence[str], key: str | None, where: str) -> str:
    """Which of several named arrays holds the rows.

    Raises:
        InputError: it has to be chosen, or is not there.
    """
    if key is not None:
        if key not in names:
            raise ConfigError(f"{where} has no array {key!r}", nearest(key, names))
        return key
    if "x" in names:
        return "x"
    if len(names) == 1:
        return names[0]
    raise ConfigError(f"{where} holds {len(names)} arrays: {', '.join(names)}", "say which one with key: NAME")
