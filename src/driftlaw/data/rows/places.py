"""Where data lie: local paths and fsspec addresses (``s3://``, ``gs://``, ``memory://``), and what is in a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from driftlaw.data.rows.opened import Skipped
from driftlaw.errors import DataNotFoundError, InputError

IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = {
    ".npy": "npy",
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".tar": "tar",
    ".tgz": "tar",
    ".safetensors": "safetensors",
}
#: Endings that may be anything: text with columns where such a file is given itself.
TEXT = (".txt", ".dat", ".data")
_PACKED = (".gz", ".bz2", ".zst", ".xz")
#: Names of tables that describe the images beside them.
METADATA = ("metadata", "labels", "annotations", "captions", "index")


@dataclass(frozen=True)
class Place:
    """A file or folder.

    Args:
        path: local, or within `system`.
        system: an fsspec file system, None for local files.
    """

    path: str
    system: Any = None

    def __str__(self) -> str:
        return self.path if self.system is None else str(self.system.unstrip_protocol(self.path))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Ending in lower case; of a packed file the one before, such as .csv of x.csv.gz."""
        endings = [s.lower() for s in Path(self.name).suffixes]
        if len(endings) > 1 and endings[-1] in _PACKED:
            return endings[-2]
        return endings[-1] if endings else ""

    @property
    def format(self) -> str | None:
        """Format of rows by the ending, "image", or None."""
        return "image" if self.suffix in IMAGES else FORMATS.get(self.suffix)

    def open(self) -> IO[bytes]:
        """The file, opened for reading bytes."""
        return Path(self.path).open("rb") if self.system is None else self.system.open(self.path, "rb")

    def bytes(self) -> bytes:
        """The whole content of the file."""
        with self.open() as file:
            return file.read()

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return Path(self.path).is_dir() if self.system is None else bool(self.system.isdir(self.path))

    def is_file(self) -> bool:
        """Whether it is a file."""
        return Path(self.path).is_file() if self.system is None else bool(self.system.isfile(self.path))

    def has(self, name: str) -> bool:
        """Whether a folder holds a file of this name."""
        return self / name in self and (self / name).is_file()

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.path.rstrip('/')}/{name}", self.system)

    def __contains__(self, place: Place) -> bool:
        return place.path.startswith(self.path.rstrip("/") + "/")

    def files(self) -> list[Place]:
        """Files below a folder in a fixed order, hidden ones too."""
        if self.system is not None:
            return [Place(str(p), self.system) for p in sorted(self.system.find(self.path))]
        found = []
        for root, folders, names in os.walk(self.path):
            folders.sort()
            found += [Place(os.path.join(root, name)) for name in sorted(names)]  # noqa: PTH118 (60,000 of them)
        return found

    def under(self, folder: Place) -> tuple[str, ...]:
        """Parts of the path below a folder."""
        return tuple(self.path[len(folder.path.rstrip("/")) + 1 :].split("/"))


def place_of(path: Any) -> Place:
    """Of a path or address.

    Raises:
        DataNotFoundError: an address that cannot be reached, or nothing there.
    """
    text = os.fspath(path)
    text = text.decode() if isinstance(text, bytes) else text
    place = _remote(text) if "://" in text else Place(str(Path(text).expanduser()))
    try:
        there = place.is_dir() or place.is_file()
    except PermissionError as error:
        raise DataNotFoundError(f"{text} cannot be read ({error})", "check your permission to read it") from None
    except Exception as error:
        if place.system is None:
            raise
        raise DataNotFoundError(
            f"{text} cannot be reached ({error})", "check the address and your permission"
        ) from None
    if not there:
        kind = "file or folder" if place.format is None else "file"
        raise DataNotFoundError(f"there is no {kind} {text}", "check the path, it is relative to the working folder")
    return place


def _remote(text: str) -> Place:
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{text} is an address and fsspec is not installed", "pip install fsspec") from None
    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{text} cannot be opened ({error})", "install the package that it names, or copy it"
        ) from None
    return Place(str(path), system)


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Args:
        format: of the files that are rows.
        files: these.
        skipped: all others.
    """

    format: str
    files: tuple[Place, ...]
    skipped: tuple[Skipped, ...]


def listing(folder: Place) -> Listing:
    """The files of one format below a folder; what else is there is counted by suffix and reason.

    Raises:
        InputError: nothing that can be read, or a mixture that leaves a choice.
    """
    files, others = [], []
    for place in folder.files():
        hidden = any(part.startswith((".", "_")) for part in place.under(folder))
        if hidden:
            others.append((place, "hidden"))
        elif place.format is None:
            others.append((place, "not a format that is read"))
        else:
            files.append(place)
    counts = Counter(str(place.format) for place in files)
    if not files:
        raise InputError(
            f"{folder} holds no images and no files of rows{_listed(others)}",
            f"add files that end in {', '.join((*FORMATS, *IMAGES))}",
        )
    chosen = next(iter(counts))
    if len(counts) > 1:
        chosen = _choose(folder, files, counts)
        others += [
            (p, "describes the images" if chosen == "image" else "not rows") for p in files if p.format != chosen
        ]
        files = [p for p in files if p.format == chosen]
    return Listing(chosen, tuple(files), tuple(tally(others)))


def _choose(folder: Place, files: list[Place], counts: Counter[str]) -> str:
    """Images with a table or two that describe them are images; any other mixture is a question."""
    tables = [p for p in files if p.format != "image"]
    describes = [p for p in tables if p.format in {"csv", "json", "parquet"}]
    named = all(p.name.lower().split(".")[0] in METADATA for p in tables)
    if counts["image"] and len(describes) == len(tables) and (named or (len(tables) <= 2 and counts["image"] >= 8)):
        return "image"
    suffixes = Counter("images" if p.format == "image" else p.suffix for p in files)
    raise InputError(
        f"{folder} mixes {', '.join(f'{s} ({n})' for s, n in sorted(suffixes.items()))}",
        "give one kind: a folder or a list of the files that hold the rows",
    )


def tally(places: Iterable[tuple[Place, str]]) -> list[Skipped]:
    """Counts by suffix and reason."""
    found: dict[tuple[str, str], list[Place]] = {}
    for place, reason in places:
        found.setdefault((place.suffix, reason), []).append(place)
    return [Skipped(suffix, reason, len(p), p[0].name) for (suffix, reason), p in sorted(found.items())]


def _listed(others: list[tuple[Place, str]]) -> str:
    counted = tally(others)
    return "" if not counted else " (" + "; ".join(str(s) for s in counted[:5]) + ")"


def damaged(where: object, reason: object) -> InputError:
    """The error of a file that does not hold what its format promises."""
    text = str(reason).replace("\n", " ")
    return InputError(f"{where} cannot be read, it is damaged or incomplete ({text})", "write or copy the file again")
