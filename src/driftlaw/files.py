"""A file exists whole or not at all: written to a temporary name, fsynced, renamed; failures say what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from driftlaw.errors import StorageError

FULL = "free some space and try again: nothing was left behind"
DENIED = "choose another place or change its permissions"


def sha256(data: bytes) -> str:
    """SHA-256 of bytes as a hex digest."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, streamed."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path, full: str = FULL, denied: str = DENIED) -> Iterator[None]:
    """Turn a full or read-only disk into a :class:`StorageError`.

    Args:
        path: what is being written, for the message.
        full: remedy when there is no space left.
        denied: remedy when the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageError(f"no space left while writing {path}", full) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
            raise StorageError(f"cannot write {path} ({os.strerror(error.errno)})", denied) from error
        raise


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any], full: str = FULL, denied: str = DENIED) -> str:
    """Write a file whole or not at all; returns its SHA-256.

    Args:
        path: final name; the temporary file lies beside it.
        write: called with a binary file object.
        full: remedy when there is no space left.
        denied: remedy when the place cannot be written.

    Raises:
        StorageError: the disk is full or not writable; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path, full, denied):
        try:
            with temporary.open("wb") as f:
                write(f)
                f.flush()
                os.fsync(f.fileno())
            digest = file_sha256(temporary)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    return digest


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
