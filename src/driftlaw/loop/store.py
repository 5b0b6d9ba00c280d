"""The run directory: every file atomic and hashed, one writer, nothing pickled.

Layout::

    config.yaml            the resolved study, reloadable
    manifest.json          format, versions, seed, device, threads, command, hash of config.yaml
    journal.jsonl          one line per finished generation, append-only, fsynced; each line carries its own SHA-256
    generations/003/       weights.safetensors  samples.npy  record.json  timing.json
                           (checkpoint.safetensors while it trains, chunks/ while it samples)
    summary.json  report.html  bounds.json

A file is written to a random name, fsynced and renamed, so that it exists whole or not at all; no link is followed
below the directory (:mod:`driftlaw.files`). Tensors and JSON documents carry a hash of their own content, everything of
a finished generation has its hash in the journal as well. A generation counts as finished when its journal line is
complete; a torn last line (power cut, kill -9) is dropped on resume. config.yaml is written before manifest.json: a run
that was killed in between starts when it is resumed. The writer holds an ``flock`` on ``.lock``, which the kernel
releases however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from driftlaw import files
from driftlaw.config import check_depth
from driftlaw.errors import CorruptFileError, RunDirectoryError, RunLockedError
from driftlaw.files import file_sha256 as file_sha256
from driftlaw.files import sha256 as sha256
from driftlaw.loop.record import Generation
from driftlaw.loop.study import Study
from driftlaw.loop.trust import check as check_trust
from driftlaw.loop.trust import code, data, signature_in
from driftlaw.records import signed, unsigned
from driftlaw.system.documents import FileCheckpoint as FileCheckpoint
from driftlaw.system.documents import FileChunks as FileChunks
from driftlaw.system.documents import canonical_json as canonical_json
from driftlaw.system.documents import read_array as read_array
from driftlaw.system.documents import read_json as read_json
from driftlaw.system.documents import read_tensors as read_tensors
from driftlaw.system.documents import storage_errors as storage_errors
from driftlaw.system.documents import write_array as write_array
from driftlaw.system.documents import write_atomic as write_atomic
from driftlaw.system.documents import write_json as write_json
from driftlaw.system.documents import write_tensors as write_tensors
from driftlaw.system.documents import write_text as write_text

#: Version of the layout; a directory of a newer one is refused.
FORMAT = 1
CONFIG, MANIFEST, JOURNAL, SUMMARY = "config.yaml", "manifest.json", "journal.jsonl", "summary.json"
BOUNDS = "bounds.json"


class RunDirectory:
    """One run directory, opened for reading or (inside :meth:`locked`) for writing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        #: What a reader of the records must know of this place, such as a file system without locks.
        self.notes: tuple[str, ...] = ()
        files.enter(self.path)

    # -- opening ------------------------------------------------------------------------------------------------

    def check_new(self) -> None:
        """Refuse a target that exists and holds anything but what a run leaves that was killed before it began.

        Raises:
            RunDirectoryError: it holds a run or other files.
        """
        with storage_errors(self.path):
            if os.path.lexists(self.path) and not self.path.is_dir():
                raise RunDirectoryError(f"{self.path} is a file", "choose another --out")
            names = sorted(p.name for p in self.path.iterdir()) if self.path.exists() else []
        resume = f"go on with `driftlaw resume {self.path}` or choose another --out"
        if MANIFEST in names:
            raise RunDirectoryError(f"{self.path} already holds a run", resume)
        if CONFIG in names and JOURNAL not in names:
            raise RunDirectoryError(f"{self.path} holds a run that was stopped before its first generation", resume)
        if any(n not in {".lock", "generations"} and not n.endswith(files.TEMPORARY) for n in names) or (
            "generations" in names and any((self.path / "generations").iterdir())
        ):
            raise RunDirectoryError(
                f"{self.path} is not empty and not a driftlaw run", "choose an empty or new directory for --out"
            )

    def create(self, config: str, manifest: Mapping[str, Any]) -> None:
        """Write config and manifest of a new run; the manifest comes last, so its presence means both are there."""
        files.make_folder(self.path / "generations")
        digest = write_text(self.path / CONFIG, config)
        self.begin({**manifest, "config_sha256": digest})

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, after which this is a run."""
        text = json.dumps(signed({"format": FORMAT, **manifest}), indent=2, sort_keys=True)
        write_text(self.path / MANIFEST, text + "\n")

    @property
    def begun(self) -> bool:
        """Whether the manifest is there; without it, a configuration alone is a run that was killed as it began."""
        if (self.path / MANIFEST).exists() or not (self.path / CONFIG).exists():
            return True
        return (self.path / JOURNAL).exists()

    def manifest(self) -> dict[str, Any]:
        """The manifest, after checking that this is a run we can read and that its config is untouched.

        Raises:
            RunDirectoryError: not a run, or of a newer format.
            CorruptFileError: the manifest or the config is damaged or was edited.
        """
        path = self.path / MANIFEST
        if not path.is_file():
            unborn = os.path.lexists(self.path / ".lock") or not self.begun
            raise RunDirectoryError(
                f"{self.path} holds a run that was stopped before it began (it has no {MANIFEST})"
                if unborn
                else f"{self.path} is not a driftlaw run (it has no {MANIFEST})",
                f"`driftlaw resume {self.path}` starts it"
                if not self.begun
                else "start it with `driftlaw run` and this --out"
                if unborn
                else "name a directory that `driftlaw run` made",
            )
        try:
            document: dict[str, Any] = json.loads(files.read_bytes(path), parse_constant=_refuse_constant)
            version = document["format"]
            if not isinstance(version, int):
                raise ValueError(f"format is {version!r}")
            if "sha256" in document and version <= FORMAT:  # 0.1 wrote none
                document = unsigned(document)
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise CorruptFileError(
                f"{path} is damaged ({error})", "restore it from a copy or start a new run"
            ) from error
        if version > FORMAT:
            raise RunDirectoryError(
                f"{self.path} has run format {version}; this driftlaw reads up to {FORMAT}", "upgrade driftlaw"
            )
        known = (document.get("config_sha256"), document.get("config_sha256_next"))  # the next one while it is replaced
        if not (self.path / CONFIG).is_file() or file_sha256(self.path / CONFIG) not in known:
            raise CorruptFileError(
                f"{self.path / CONFIG} is missing or is not the one this run was started with",
                "restore it, or start a new run with the changed config",
            )
        return document

    def config(self) -> dict[str, Any]:
        """The study as plain data; call :meth:`manifest` first, which checks that it is untouched.

        Raises:
            CorruptFileError: not a mapping in YAML.
        """
        path = self.path / CONFIG
        try:
            config = yaml.safe_load(files.read_bytes(path).decode())
            check_depth(config)
        except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
            raise CorruptFileError(f"{path} is not YAML ({' '.join(str(error).split())})", "restore it") from error
        if not isinstance(config, dict):
            raise CorruptFileError(f"{path} holds a {type(config).__name__}, not a mapping of study keys", "restore it")
        return config

    def study(self, trust: bool = False, reading: bool = False) -> Study:
        """The study that the directory describes; call :meth:`manifest` first.

        Args:
            trust: whether code and data that it names may be used although this user did not start the run.
            reading: leave measures of one's own out: what they found is in the records.

        Raises:
            TrustError: it names some, and is neither trusted nor signed by this user.
        """
        config, text = self.config(), files.read_text(self.path / CONFIG)
        used = dict(config)
        if reading and isinstance(config.get("measures"), Mapping):
            used["measures"] = {k: v for k, v in config["measures"].items() if k != "own"}
        if code(used) or data(used):
            check_trust(config, self.path, trust=trust, signature=signature_in(text))
        return Study.from_config(used)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the only right to write.

        Raises:
            RunLockedError: another process holds it.
            UnsafePathError: the lock is a link.
        """
        files.make_folder(self.path)
        with storage_errors(self.path):
            descriptor = files.open_existing(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise RunLockedError(
                        f"another process is writing to {self.path}", "wait for it, stop it, or choose another --out"
                    ) from error
                self.notes += (  # NFS without lockd, some FUSE and object stores
                    f"the file system of {self.path} has no locks ({os.strerror(error.errno or 0)}): "
                    "see to it that only one process writes here",
                )
            files.remove_temporaries(self.path)
            yield
        finally:
            os.close(descriptor)

    # -- journal ------------------------------------------------------------------------------------------------

    def records(self, repair: bool = False) -> list[Generation]:
        """Finished generations in order.

        Args:
            repair: cut a torn last line off the file (only the lock holder may).

        Raises:
            CorruptFileError: a line that is not the last is damaged.
        """
        path = self.path / JOURNAL
        if not os.path.lexists(path):
            return []
        try:
            data = files.read_bytes(path)
        except OSError as error:
            raise CorruptFileError(f"{path} cannot be read ({error})", "see to its permissions") from error
        records: list[Generation] = []
        start = 0
        for number, line in enumerate(io.BytesIO(data), start=1):
            record = _parse_line(line)
            if record is None:
                if start + len(line) < len(data) or line.endswith(b"\n"):
                    raise CorruptFileError(f"{path} line {number} is damaged", "restore it from a copy")
                if repair:
                    self._cut(start)
                break
            if record.index != len(records) + 1:
                raise CorruptFileError(
                    f"{path} line {number} is generation {record.index}, expected {len(records) + 1}"
                )
            records.append(record)
            start += len(line)
        return records

    def sound_records(self) -> list[Generation]:
        """Finished generations up to the first damaged line of the journal."""
        try:
            return self.records()
        except CorruptFileError:
            return []

    def append(self, record: Generation) -> None:
        """Add a finished generation to the journal; all of its line reaches the disk or none of it stays."""
        path = self.path / JOURNAL
        body = canonical_json(record.to_json())
        line = body[:-1] + f',"sha256":"{sha256(body.encode())}"}}\n'
        with storage_errors(path):
            descriptor = files.open_existing(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    if os.write(descriptor, line.encode()) != len(line.encode()):
                        raise OSError(errno.ENOSPC, "short write")
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)

    def _cut(self, size: int) -> None:
        """Cut the journal to its first `size` bytes."""
        with storage_errors(self.path / JOURNAL):
            descriptor = files.open_existing(self.path / JOURNAL, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def good_records(self) -> tuple[list[Generation], str]:
        """Finished generations up to the first damage, and that damage in words; only the lock holder may call it.

        Where something is damaged, the journal is set aside as ``journal-N.damaged`` and cut before it, so that what
        comes later is made again.
        """
        path, damage = self.path / JOURNAL, ""
        lines = [] if not os.path.lexists(path) else io.BytesIO(files.read_bytes(path)).readlines()
        records: list[Generation] = []
        for number, line in enumerate(lines, start=1):
            record = _parse_line(line)
            if record is None or record.index != number:
                if number == len(lines) and not line.endswith(b"\n"):
                    self._cut(sum(map(len, lines[:-1])))  # torn by a kill: nothing was lost that was ever finished
                    return records, ""
                damage = f"{path} line {number} is damaged"
                break
            try:
                self.verify(number, record.files)
            except CorruptFileError as error:
                damage = error.what
                break
            records.append(record)
        if damage:
            number = len(records) + 1
            aside = next(p for i in range(number, 10**6) if not os.path.lexists(p := self._aside(i)))
            write_atomic(aside, lambda f: f.writelines(lines))
            write_atomic(path, lambda f: f.writelines(lines[: len(records)]))
            damage += f": generations from {number} on were made again; the old journal is {aside.name}"
        return records, damage

    def _aside(self, number: int) -> Path:
        return self.path / f"journal-{number}.damaged"

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
            if "/" in name or not path.is_file() or file_sha256(path) != digest:
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, CorruptFileError):
        return None


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")
