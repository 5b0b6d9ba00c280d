"""A file exists whole or not at all, and nothing below a run directory is reached through a link.

A file is written to a random name that is created exclusively, fsynced and renamed; then its folder is fsynced. A
writer holds a lock on its temporary file, so that the next one tells those of killed writers and removes them. The
folder is opened component by component from the outermost directory that was named by :func:`enter` (a run directory),
relative to a descriptor and without following links, so that a link planted inside cannot lead a write or a read
outside. Only ordinary files are opened: a pipe or a device is refused, not waited for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from driftlaw.errors import CorruptFileError, StorageError, UnsafePathError

FULL = "free some space and try again: nothing was left behind"
DENIED = "choose another place or change its permissions"
#: End of the name of a file that is being written.
TEMPORARY = ".driftlaw-tmp"
_ROOTS: set[Path] = set()
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def sha256(data: bytes) -> str:
    """SHA-256 of bytes as a hex digest."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, streamed."""
    with open_file(path) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path, full: str = FULL, denied: str = DENIED) -> Iterator[None]:
    """Turn what a file system refuses into a :class:`StorageError`.

    Args:
        path: what is being written, for the message.
        full: remedy when there is no space left.
        denied: remedy when the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} or (  # numpy's own writer loses the number
            error.errno is None and "requested and" in str(error)
        ):
            raise StorageError(f"no space left while writing {path}", full) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"cannot write {path} ({reason})", denied) from error


# -- where links are not followed -------------------------------------------------------------------------------------


def enter(root: str | os.PathLike[str]) -> None:
    """From now on no link is followed below this directory; the directory itself may be reached through one."""
    _ROOTS.add(_absolute(root))


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _below(path: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """The outermost entered directory above `path` and the components below it."""
    whole = _absolute(path)
    root = next((p for p in reversed(whole.parents) if p in _ROOTS), whole.parent)
    return root, whole.relative_to(root).parts or ("",)


@contextlib.contextmanager
def _parent(path: Path, make: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Descriptor of the folder of `path`, the last component, and whether it lies below an entered directory."""
    root, parts = _below(path)
    if make:
        _make_plain(root)
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            if make:
                _make(part, folder)
            try:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            except OSError:
                _refuse_link(part, folder, path)
                raise
            os.close(folder)
            folder = inner
        yield folder, parts[-1], root in _ROOTS
    finally:
        os.close(folder)


def _refuse_link(name: str, folder: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise UnsafePathError(
                f"{path}: {name!r} is a symbolic link, and links inside a run directory are not followed",
                "replace the link by what it stands for, if you trust it",
            )


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)


def _make_plain(path: Path) -> None:
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; below an entered directory no link is followed and each entry is synced.

    Raises:
        StorageError: it cannot be made.
        UnsafePathError: a link is in the way.
    """
    with storage_errors(path):
        if _below(path)[0] not in _ROOTS:
            _make_plain(Path(path))
            return
        with _parent(path, make=True) as (folder, name, _):
            _make(name, folder)
            _refuse_link(name, folder, path)
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


# -- reading ----------------------------------------------------------------------------------------------------------


def open_file(path: Path) -> io.BufferedReader:
    """An ordinary file, opened for reading.

    Raises:
        UnsafePathError: a link inside a run directory, a pipe, a device.
        OSError: as ``open``.
    """
    with _parent(Path(path)) as (folder, name, inside):
        _refuse_special(name, folder, path, inside)
        return os.fdopen(os.open(name, _READ | (os.O_NOFOLLOW if inside else 0), dir_fd=folder), "rb")


def _refuse_special(name: str, folder: int, path: Path, inside: bool) -> None:
    if inside:
        _refuse_link(name, folder, path)
    mode = os.stat(name, dir_fd=folder, follow_symlinks=not inside).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UnsafePathError(f"{path} is not an ordinary file", "name a file")


def read_bytes(path: Path) -> bytes:
    """All of an ordinary file, see :func:`open_file`."""
    with open_file(path) as f:
        return f.read()


def read_text(path: Path) -> str:
    """UTF-8 text of an ordinary file.

    Raises:
        CorruptFileError: it is not text.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is damaged ({error})", "restore it from a copy") from error


# -- writing ----------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, write: Callable[[BinaryIO], Any], full: str = FULL, denied: str = DENIED) -> str:
    """Write a file whole or not at all; returns its SHA-256. Of several writers the last one wins.

    Args:
        path: final name; the temporary file lies beside it.
        write: called with a binary file object.
        full: remedy when there is no space left.
        denied: remedy when the place cannot be written.

    Raises:
        StorageError: the disk is full or not writable, or the place holds no ordinary file; nothing is left behind.
        UnsafePathError: a link is in the way.
    """
    path = Path(path)
    with storage_errors(path, full, denied), _parent(path) as (folder, name, inside):
        _check_target(name, folder, inside, path, denied)
        if not inside:
            _remove_dead(folder)
        temporary, descriptor = _new_temporary(folder)
        try:
            with os.fdopen(descriptor, "w+b") as f:
                write(f)
                f.flush()
                os.fsync(f.fileno())
                f.seek(0)
                digest = hashlib.file_digest(f, "sha256").hexdigest()
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    return digest


def _check_target(name: str, folder: int, inside: bool, path: Path, denied: str) -> None:
    """Refuse to replace a device, a pipe or a folder; a link outside of runs is replaced, not followed."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if inside:
        _refuse_link(name, folder, path)
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise StorageError(f"cannot write {path} (it is not an ordinary file)", denied)


def write_array(path: Path, array: np.ndarray, full: str = FULL, denied: str = DENIED) -> str:
    """Atomic .npy; returns its SHA-256."""

    def write(f: BinaryIO) -> None:  # not numpy's own writer: it loses the reason when the disk is full
        whole = np.ascontiguousarray(array)
        np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(whole))
        f.write(whole.reshape(-1).view(np.uint8).data)

    return write_atomic(path, write, full, denied)


def open_new(path: Path) -> BinaryIO:
    """A new file in place of an old one, for streaming; no link is followed."""
    with storage_errors(path), _parent(path) as (folder, name, _):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        return os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "w+b")


def open_existing(path: Path, flags: int) -> int:
    """Descriptor of an ordinary file with one name, made if it is missing; for locks and journals.

    Raises:
        UnsafePathError: a link, symbolic or hard, or no ordinary file.
    """
    with _parent(path) as (folder, name, _):
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=folder)
        except OSError:
            _refuse_link(name, folder, path)
            raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise UnsafePathError(f"{path} is a link or no ordinary file", "remove it, if you trust this directory")
        os.fsync(folder)
        return descriptor


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; nothing is there afterwards, and no link is followed.

    Raises:
        OSError: as ``unlink``.
    """
    with contextlib.suppress(FileNotFoundError), _parent(path) as (folder, name, _):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def remove_temporaries(root: Path) -> None:
    """Remove what writers that were killed left behind below `root`."""
    for folder, _, names in os.walk(root):
        if any(name.endswith(TEMPORARY) for name in names):
            with contextlib.suppress(OSError), _parent(Path(folder, "any")) as (descriptor, _, _):
                _remove_dead(descriptor)


def _new_temporary(folder: int) -> tuple[str, int]:
    """A new file under a random name, and its descriptor, locked as long as its writer lives."""
    while True:
        name = f".{secrets.token_hex(8)}{TEMPORARY}"
        descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes it then
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)  # somebody took it for a dead one before it was locked


def _remove_dead(folder: int) -> None:
    """Remove the temporary files of a folder that no living writer holds."""
    for name in os.listdir(folder):
        if name.endswith(TEMPORARY):
            with contextlib.suppress(OSError):
                descriptor = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=folder)
                finally:
                    os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
