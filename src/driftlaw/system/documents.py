"""Documents, arrays and tensors of a run: each carries or is given the hash that it is read against.

A JSON object has a ``sha256`` of the rest of it, a safetensors file one of its tensors and metadata, an array the one
that the journal recorded. Files of 0.1 lack the first two; they are read unchecked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save

from driftlaw import files
from driftlaw.errors import CorruptFileError, LimitError
from driftlaw.files import sha256
from driftlaw.records import canonical_json as canonical_json
from driftlaw.records import signed, unsigned
from driftlaw.system import memory

#: The one entry in the header of a safetensors file; 0.1 had ``json``, without a hash.
_ENTRY = "driftlaw"
_FULL = "free some space and go on with `driftlaw resume`: every finished generation is kept"
_DENIED = "choose another --out or change its permissions"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """:func:`driftlaw.files.storage_errors` with the remedies of a run."""
    with files.storage_errors(path, full=_FULL, denied=_DENIED):
        yield


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> str:
    """:func:`driftlaw.files.write_atomic` with the remedies of a run; returns the file's SHA-256."""
    return files.write_atomic(path, write, full=_FULL, denied=_DENIED)


def write_text(path: Path, text: str) -> str:
    """Atomic UTF-8 text; returns its SHA-256."""
    return write_atomic(path, lambda f: f.write(text.encode()))


def write_array(path: Path, array: np.ndarray) -> str:
    """Atomic .npy; returns its SHA-256."""
    return files.write_array(path, array, full=_FULL, denied=_DENIED)


def write_json(path: Path, document: Mapping[str, Any]) -> str:
    """Atomic JSON with a ``sha256`` of the rest of it; returns the file's SHA-256."""
    return write_text(path, json.dumps(signed(document), indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; its ``sha256``, where it has one (files of 0.1 have none), is checked and left out.

    Raises:
        CorruptFileError: not a JSON object, or changed after it was written.
    """
    try:
        document = json.loads(files.read_bytes(path))
        if not isinstance(document, dict):
            raise ValueError("it is not an object")
        return unsigned(document)
    except (ValueError, OSError, RecursionError) as error:
        raise CorruptFileError(f"{path} is damaged ({error})", "restore it from a copy") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any] | None = None) -> str:
    """Atomic safetensors with JSON metadata and a hash of both; returns the file's SHA-256."""
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    text = canonical_json(dict(meta or {}))
    entry = canonical_json({"meta": text, "sha256": _content_hash(whole, text)})
    blob = safetensors_save(whole, {_ENTRY: entry})  # one entry: safetensors writes several in any order
    return write_atomic(path, lambda f: f.write(blob))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file; their hash, where there is one (files of 0.1 have none), is checked.

    Raises:
        CorruptFileError: the file is truncated, not safetensors, or was changed.
    """
    try:
        blob = _whole(path)
        tensors = safetensors_load(blob)
        known = metadata_of(blob)
        if _ENTRY in known:
            entry = json.loads(known[_ENTRY])
            text = str(entry["meta"])
            if entry["sha256"] != _content_hash(tensors, text):
                raise ValueError("it does not have the recorded hash")
        else:
            text = known.get("json", "{}")
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise ValueError("its metadata are not an object")
    except LimitError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{path} is not a whole safetensors file ({error})", "delete it and resume") from error
    return tensors, meta


def metadata_of(blob: bytes) -> dict[str, str]:
    """The text entries in the header of a safetensors file."""
    found = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")]).get("__metadata__", {})
    return {str(k): str(v) for k, v in found.items()}


def _content_hash(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    h = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        h.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        flat = flat if flat.stride() == (1,) else flat.clone()  # one number that was expanded from a scalar
        h.update(flat.view(torch.uint8).numpy().data)
    return h.hexdigest()


def read_array(path: Path, digest: str | None = None) -> np.ndarray:
    """A .npy file, never unpickled.

    Args:
        path: of the file.
        digest: its recorded SHA-256, if there is one.

    Raises:
        CorruptFileError: truncated, not .npy, or not the recorded file.
        LimitError: it does not fit in memory.
    """
    try:
        blob = _whole(path)
        if digest is not None and sha256(blob) != digest:
            raise ValueError("its hash differs from the recorded one: it is truncated or was changed")
        array: np.ndarray = np.lib.format.read_array(io.BytesIO(blob), allow_pickle=False, max_header_size=10_000)
        if array.nbytes > len(blob) or 0 in array.shape[1:]:
            raise ValueError("it is shorter than its header says")
    except LimitError:
        raise
    except (ValueError, OSError, EOFError, MemoryError, OverflowError, TypeError, SyntaxError, TokenError) as error:
        raise CorruptFileError(f"{path} is not a whole .npy file ({error})", "delete it and resume") from error
    return array


def _whole(path: Path) -> bytes:
    with files.open_file(path) as f:
        memory.check(2 * os.fstat(f.fileno()).st_size, f"reading {path}", "free some memory, or restore the file")
        return f.read()


class FileCheckpoint:
    """:class:`driftlaw.learn.estimator.Checkpoint` in one safetensors file; a damaged one counts as none, and says so.

    Attributes:
        damage: what was found damaged, in words.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damage = path, ""

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The last complete checkpoint or None."""
        if not os.path.lexists(self.path):
            return None
        try:
            return read_tensors(self.path)
        except CorruptFileError as error:
            self.damage = f"{error.what}: the fit started over"
            return None

    def save(self, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        write_tensors(self.path, tensors, meta)


class FileChunks:
    """:class:`driftlaw.learn.estimator.Chunks` in a folder of safetensors files; an unreadable one counts as none."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.damage = folder, ""

    def load(self, index: int, identity: str) -> torch.Tensor | None:
        """Part `index` of what `identity` names, or None."""
        path = self.folder / f"{index:06d}.safetensors"
        if not os.path.lexists(path):
            return None
        try:
            tensors, meta = read_tensors(path)
            return tensors["rows"] if meta.get("identity") == identity else None
        except (CorruptFileError, KeyError) as error:
            self.damage = f"{path} is damaged ({error}): its rows were drawn again"
            return None

    def save(self, index: int, rows: torch.Tensor, identity: str) -> None:
        """Keep part `index` of the document."""
        files.make_folder(self.folder)
        write_tensors(self.folder / f"{index:06d}.safetensors", {"rows": rows}, {"identity": identity})

    def clear(self) -> None:
        """Remove all parts that were kept."""
        files.remove(self.folder)
