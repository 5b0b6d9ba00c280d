"""Every hash of a run, a sweep, an audit or a sketch, checked; each damaged file is named. Nothing is built or run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from driftlaw import files
from driftlaw.auditing.record import FILE, Audit
from driftlaw.errors import DataNotFoundError, DriftlawError
from driftlaw.loop.branches import shared
from driftlaw.loop.store import BOUNDS, JOURNAL, MANIFEST, SUMMARY, RunDirectory, read_json, read_tensors
from driftlaw.measure.sketch.file import is_sketch
from driftlaw.measure.sketch.file import read as read_sketch
from driftlaw.records import Record


@dataclass
class Verification(Record):
    """What was checked.

    Args:
        path: of the run, sweep, audit or sketch.
        checked: files whose hash is right.
        damaged: file to what is wrong with it.
        unverifiable: files that carry no hash, such as pages, a program's own output, and some files of 0.1.
    """

    path: str
    checked: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    unverifiable: list[str] = field(default_factory=list)
    json_extra: ClassVar[tuple[str, ...]] = ("clean",)

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged

    def check(self, path: Path, reading: Callable[[], object]) -> bool:
        """Note whether a file can be read with its hash."""
        try:
            reading()
        except (DriftlawError, OSError) as error:
            self.damaged[str(path)] = error.what if isinstance(error, DriftlawError) else str(error)
            return False
        self.checked.append(str(path))
        return True


def verify(path: str | os.PathLike[str]) -> Verification:
    """Check all files of a run, a sweep, an audit or a sketch against their hashes; public as ``driftlaw.verify``.

    Args:
        path: a run directory, a folder that holds some, the folder of an audit, or a sketch.

    Raises:
        DataNotFoundError: there is none of these.
    """
    place, found = Path(path), Verification(str(path))
    if place.is_file():
        found.check(place, lambda: read_sketch(place) if is_sketch(place) else Audit.load(place))
        return found
    if not place.is_dir():
        raise DataNotFoundError(f"there is no file or folder {place}", "name a run, a sweep, an audit or a sketch")
    runs = [place] if _is_run(place) else sorted({p.parent for p in place.rglob(MANIFEST)})
    for run in runs:
        _run(run, found)
    if (place / FILE).is_file():
        found.check(place / FILE, lambda: Audit.load(place))
    for sketch in (p for p in sorted(place.iterdir()) if p.is_file() and is_sketch(p)) if not runs else ():
        found.check(sketch, partial(read_sketch, sketch))
    if not found.checked and not found.damaged:
        raise DataNotFoundError(f"{place} holds no run, sweep, audit or sketch", "name one")
    return found


def _is_run(place: Path) -> bool:
    return any((place / name).exists() for name in (MANIFEST, JOURNAL)) or not RunDirectory(place).begun


def _run(place: Path, found: Verification) -> None:
    directory = RunDirectory(place)
    found.check(place / MANIFEST, directory.manifest)
    records = []
    if os.path.lexists(place / JOURNAL):
        found.check(place / JOURNAL, lambda: records.extend(directory.records()))
    if os.path.lexists(place / shared.FORK):
        found.check(place / shared.FORK, lambda: shared.check(directory))
    hashes: dict[str, str] = {}
    if os.path.lexists(directory.folder(0) / "hashes.json"):
        path = directory.folder(0) / "hashes.json"
        found.check(path, lambda: hashes.update(read_json(path)))
    for index, known in [(0, hashes), *((r.index, dict(r.files)) for r in records)]:
        for name, digest in known.items():
            one = {name: digest}
            found.check(directory.folder(index) / name, partial(directory.verify, index, one))
    seen = {*found.checked, *found.damaged}
    for folder, _, names in os.walk(place):
        for name in sorted(names):
            path = Path(folder, name)
            if str(path) not in seen and name not in {".lock", "config.yaml"} and not name.endswith(files.TEMPORARY):
                _other(path, found)


def _other(path: Path, found: Verification) -> None:
    """A file that carries its own hash, or none."""
    if path.suffix == ".safetensors":
        found.check(path, lambda: read_tensors(path))
    elif path.name in {SUMMARY, BOUNDS, "record.json", "timing.json", "classifier.json"}:
        if found.check(path, lambda: read_json(path)) and "sha256" not in json.loads(files.read_bytes(path)):
            found.checked.remove(str(path))
            found.unverifiable.append(str(path))
    else:
        found.unverifiable.append(str(path))
