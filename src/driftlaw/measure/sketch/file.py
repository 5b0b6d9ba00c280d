"""The file of a sketch: safetensors with one metadata entry, versioned, hashed, written whole or not at all.

The entry ``"driftlaw sketch"`` holds JSON: ``version``, ``sha256`` of everything else in the file, and the description.
Nothing is pickled, equal sketches give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftlaw.errors import CorruptFileError, DataNotFoundError, InputError
from driftlaw.files import write_atomic
from driftlaw.records import canonical_json

KEY = "driftlaw sketch"
VERSION = 1
_START = b'{"__metadata__":{"' + KEY.encode()

Arrays = Mapping[str, NDArray[Any]]


def is_sketch(path: str | os.PathLike[str]) -> bool:
    """Whether a file starts like a sketch; it may still be damaged or of another version."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as f:
        return f.read(8 + len(_START))[8:] == _START


def write(path: str | os.PathLike[str], arrays: Arrays, description: Mapping[str, Any]) -> None:
    """Write arrays and their description.

    Raises:
        StorageError: no space, or the place cannot be written; nothing is left behind.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    entry = {"version": VERSION, "sha256": _digest(whole, description), **description}
    blob = save(whole, {KEY: canonical_json(entry)})
    write_atomic(Path(path), lambda f: f.write(blob))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Inverse of :func:`write`.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: not a sketch, or of another version.
        CorruptFileError: truncated, or changed after it was written.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}", "check the path, or make it with driftlaw sketch")
    if not is_sketch(path):
        raise InputError(f"{path} is not a sketch", "make one with driftlaw sketch PATH -o FILE")
    remedy = "copy it again, or make the sketch again"
    try:
        with safe_open(path, framework="numpy") as f:
            arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
            description: dict[str, Any] = json.loads(f.metadata()[KEY])
        version, digest = description.pop("version"), description.pop("sha256")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"the sketch {path} is damaged or incomplete ({error})", remedy) from None
    if version != VERSION:
        advice = "upgrade driftlaw" if version > VERSION else "make the sketch again with this driftlaw"
        raise InputError(f"the sketch {path} has format {version}, this driftlaw reads {VERSION}", advice)
    if _digest(arrays, description) != digest:
        raise CorruptFileError(f"the sketch {path} does not have the recorded hash: it was changed", remedy)
    return arrays, description


def _digest(arrays: Arrays, description: Mapping[str, Any]) -> str:
    h = hashlib.sha256(canonical_json(description).encode())
    for name, a in sorted(arrays.items()):
        h.update(f"{name}:{a.dtype.str}:{a.shape}".encode())
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()
