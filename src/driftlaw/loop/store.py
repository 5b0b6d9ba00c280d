"""The run directory: every file atomic and hashed, one writer, nothing pickled.

Layout::

    config.yaml            the resolved study, reloadable
    manifest.json          format, versions, seed, device, threads, command, hash of config.yaml
    journal.jsonl          one line per finished generation, append-only, fsynced; each line carries its own SHA-256
    generations/003/       weights.safetensors  samples.npy  record.json  timing.json
                           (checkpoint.safetensors while it trains, chunks/ while it samples)
    summary.json  report.html  bounds.json

A file is written to a temporary name, fsynced and renamed, so that it exists whole or not at all. A generation counts
as finished when its journal line is complete; a torn last line (power cut, kill -9) is dropped on resume. The writer
holds an ``flock`` on ``.lock``, which the kernel releases however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_save

from driftlaw import files
from driftlaw.errors import CorruptFileError, RunDirectoryError, RunLockedError
from driftlaw.files import file_sha256, sha256
from driftlaw.loop.record import Generation

#: Version of the layout; a directory of a newer one is refused.
FORMAT = 1
CONFIG, MANIFEST, JOURNAL, SUMMARY = "config.yaml", "manifest.json", "journal.jsonl", "summary.json"
BOUNDS = "bounds.json"
_FULL = "free some space and go on with `driftlaw resume`: every finished generation is kept"
_DENIED = "choose another --out or change its permissions"


def canonical_json(document: Any) -> str:
    """Strict JSON on one line with sorted keys: equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, allow_nan=False, separators=(",", ":"))


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """:func:`driftlaw.files.storage_errors` with the remedies of a run."""
    with files.storage_errors(path, full=_FULL, denied=_DENIED):
        yield


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> str:
    """:func:`driftlaw.files.write_atomic` with the remedies of a run; returns the file's SHA-256."""
    return files.write_atomic(path, write, full=_FULL, denied=_DENIED)


def write_text(path: Path, text: str) -> str:
    """Atomic UTF-8 text; returns its SHA-256."""
    return write_atomic(path, lambda f: f.write(text.encode()))


def write_array(path: Path, array: np.ndarray) -> str:
    """Atomic .npy; returns its SHA-256."""

    def write(f: IO[bytes]) -> None:  # not numpy's own writer: it loses the reason when the disk is full
        whole = np.ascontiguousarray(array)
        np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(whole))
        f.write(whole.reshape(-1).view(np.uint8).data)

    return write_atomic(path, write)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any] | None = None) -> str:
    """Atomic safetensors with JSON metadata; returns its SHA-256."""
    blob = safetensors_save(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"json": canonical_json(dict(meta or {}))}
    )
    return write_atomic(path, lambda f: f.write(blob))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        CorruptFileError: the file is truncated or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, json.loads((f.metadata() or {}).get("json", "{}"))  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is not a whole safetensors file ({error})", "delete it and resume") from error


def read_array(path: Path) -> np.ndarray:
    """A .npy file, never unpickled.

    Raises:
        CorruptFileError: truncated or not .npy.
    """
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CorruptFileError(f"{path} is not a whole .npy file ({error})", "delete it and resume") from error
    return array


class FileCheckpoint:
    """:class:`driftlaw.learn.estimator.Checkpoint` in one safetensors file; an unreadable one counts as none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The last complete checkpoint or None."""
        return read_tensors(self.path) if self.path.exists() else None

    def save(self, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        write_tensors(self.path, tensors, meta)


class FileChunks:
    """:class:`driftlaw.learn.estimator.Chunks` in a folder of safetensors files; an unreadable one counts as none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, index: int, identity: str) -> torch.Tensor | None:
        """Part `index` of what `identity` names, or None."""
        path = self.folder / f"{index:06d}.safetensors"
        try:
            tensors, meta = read_tensors(path)
        except CorruptFileError:
            return None
        return tensors["rows"] if meta.get("identity") == identity else None

    def save(self, index: int, rows: torch.Tensor, identity: str) -> None:
        """Keep part `index` of what `identity` names."""
        with storage_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        write_tensors(self.folder / f"{index:06d}.safetensors", {"rows": rows}, {"identity": identity})

    def clear(self) -> None:
        """Remove all parts that were kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


class RunDirectory:
    """One run directory, opened for reading or (inside :meth:`locked`) for writing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    # -- opening ------------------------------------------------------------------------------------------------

    def check_new(self) -> None:
        """Refuse a target that exists and holds anything.

        Raises:
            RunDirectoryError: it holds a run or other files.
        """
        if self.path.is_file():
            raise RunDirectoryError(f"{self.path} is a file", "choose another --out")
        if (self.path / MANIFEST).exists():
            raise RunDirectoryError(
                f"{self.path} already holds a run", f"go on with `driftlaw resume {self.path}` or choose another --out"
            )
        if self.path.exists() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise RunDirectoryError(
                f"{self.path} is not empty and not a driftlaw run", "choose an empty or new directory for --out"
            )

    def create(self, config: str, manifest: Mapping[str, Any]) -> None:
        """Write config and manifest of a new run; the manifest comes last, so its presence means both are there."""
        with storage_errors(self.path):
            (self.path / "generations").mkdir(parents=True, exist_ok=True)
        digest = write_text(self.path / CONFIG, config)
        document = {"format": FORMAT, **manifest, "config_sha256": digest}
        write_text(self.path / MANIFEST, json.dumps(document, indent=2, sort_keys=True) + "\n")

    def manifest(self) -> dict[str, Any]:
        """The manifest, after checking that this is a run we can read and that its config is untouched.

        Raises:
            RunDirectoryError: not a run, or of a newer format.
            CorruptFileError: the manifest or the config is damaged or was edited.
        """
        path = self.path / MANIFEST
        if not path.is_file():
            raise RunDirectoryError(
                f"{self.path} is not a driftlaw run (it has no {MANIFEST})", "name a directory that `driftlaw run` made"
            )
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            version = int(document["format"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CorruptFileError(
                f"{path} is damaged ({error})", "restore it from a copy or start a new run"
            ) from error
        if version > FORMAT:
            raise RunDirectoryError(
                f"{self.path} has run format {version}; this driftlaw reads up to {FORMAT}", "upgrade driftlaw"
            )
        if not (self.path / CONFIG).is_file() or file_sha256(self.path / CONFIG) != document.get("config_sha256"):
            raise CorruptFileError(
                f"{self.path / CONFIG} is missing or is not the one this run was started with",
                "restore it, or start a new run with the changed config",
            )
        return document

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the only right to write.

        Raises:
            RunLockedError: another process holds it.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+b")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunLockedError(
                    f"another process is writing to {self.path}", "wait for it, stop it, or choose another --out"
                ) from error
            yield

    # -- journal ------------------------------------------------------------------------------------------------

    def records(self, repair: bool = False) -> list[Generation]:
        """Finished generations in order.

        Args:
            repair: cut a torn last line off the file (only the lock holder may).

        Raises:
            CorruptFileError: a line that is not the last is damaged.
        """
        path = self.path / JOURNAL
        if not path.exists():
            return []
        data = path.read_bytes()
        records: list[Generation] = []
        start = 0
        for number, line in enumerate(io.BytesIO(data), start=1):
            record = _parse_line(line)
            if record is None:
                if start + len(line) < len(data) or line.endswith(b"\n"):
                    raise CorruptFileError(f"{path} line {number} is damaged", "restore it from a copy")
                if repair:
                    with path.open("r+b") as f:
                        f.truncate(start)
                        os.fsync(f.fileno())
                break
            if record.index != len(records) + 1:
                raise CorruptFileError(
                    f"{path} line {number} is generation {record.index}, expected {len(records) + 1}"
                )
            records.append(record)
            start += len(line)
        return records

    def append(self, record: Generation) -> None:
        """Add a finished generation to the journal; all of its line reaches the disk or none of it stays."""
        path = self.path / JOURNAL
        body = canonical_json(record.to_json())
        line = body[:-1] + f',"sha256":"{sha256(body.encode())}"}}\n'
        with storage_errors(path), path.open("ab", buffering=0) as f:
            size = f.tell()
            try:
                if f.write(line.encode()) != len(line.encode()):
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(f.fileno())
            except OSError:
                f.truncate(size)
                raise

    # -- generations --------------------------------------------------------------------------------------------

    def folder(self, index: int) -> Path:
        """Folder of a generation (0 is the target's own rows)."""
        return self.path / "generations" / f"{index:03d}"

    def verify(self, index: int, files: Mapping[str, str]) -> None:
        """Check the files of a generation against their recorded hashes.

        Raises:
            CorruptFileError: names the file that is missing or differs.
        """
        for name, digest in files.items():
            path = self.folder(index) / name
            if not path.is_file() or file_sha256(path) != digest:
                state = "is missing" if not path.is_file() else "is truncated or was changed (its hash differs)"
                raise CorruptFileError(f"{path} {state}", "restore it from a copy, or start the run again")


def _parse_line(line: bytes) -> Generation | None:
    if not line.endswith(b"\n"):
        return None
    try:
        document = json.loads(line)
        digest = document.pop("sha256")
        if sha256(canonical_json(document).encode()) != digest:
            return None
        return Generation.from_json(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, CorruptFileError):
        return None
