"""Image folders as finite sources: bytes in memory, float32 in [-1, 1] when they are drawn.

A folder holds images directly, or one subfolder per class. All images must have one size and one colour mode, unless
the caller says how to make them so; nothing is resized or recoloured silently.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from driftlaw.data.finite import Array, FiniteSource, label_classes, split_rows
from driftlaw.data.rows.pictures import BAD, Header, check_sizes, header, pixels, unreadable
from driftlaw.data.rows.places import IMAGES, Place
from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.system import memory


@dataclass(frozen=True)
class ImageSet:
    """Decoded images.

    Args:
        values: ``[n, c, h, w]`` uint8.
        labels: ``[n]`` class names, or None without class folders.
        skipped: unreadable files that were left out.
        warnings: what a reader must know.
    """

    values: Array
    labels: Array | None
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


class ImageFolder(FiniteSource):
    """A finite source from a folder of png, jpg, webp, bmp, tif or gif images.

    Args:
        path: the folder; files in subfolders get the subfolder's name as their class.
        size: crop every image to its centre square and resize it to ``size x size`` (Lanczos); None changes nothing.
        mode: "L" (grey) or "RGB"; None takes the images as they are.
        skip_bad: leave unreadable files out and count them in `skipped` (True), or stop at the first (False).
        held_out: fraction in (0, 1), or number of images, kept apart from training.
        seed: of the split.

    Raises:
        DataNotFoundError: there is no such folder.
        InputError: no images, mixed sizes, grey mixed with colour, an unreadable image.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | None = None,
        mode: Literal["L", "RGB"] | None = None,
        skip_bad: bool = False,
        held_out: float | int = 0.25,
        seed: int = 0,
    ) -> None:
        folder = Path(path).expanduser().absolute()
        images = read_images(folder, size, mode, skip_bad)
        train, held = split_rows(len(images.values), held_out, seed, str(folder))
        labels = None if images.labels is None else label_classes(images.labels, len(images.values), str(folder))
        self.skipped = images.skipped
        super().__init__(
            folder.name,
            images.values,
            train,
            held,
            location=127.5,
            scale=127.5,
            labels=None if labels is None else labels[0],
            classes=None if labels is None else labels[1],
            recipe={
                "kind": "images",
                "path": str(folder),
                "size": size,
                "mode": mode,
                "skip_bad": skip_bad,
                "held_out": held_out,
                "seed": seed,
            },
            warnings=images.warnings,
        )


def read_images(
    folder: Path, size: int | None = None, mode: Literal["L", "RGB"] | None = None, skip_bad: bool = False
) -> ImageSet:
    """Decode a folder of images in the order of their paths; arguments as for :class:`ImageFolder`."""
    files = image_files(folder, size, mode)
    skipped: list[str] = []
    found = [h for path in files if (h := _header(path, skip_bad, skipped)) is not None]
    headers = [h for _, h in found]
    if headers:
        _check_one_kind(folder, headers, size, mode)
    mode = mode or ("L" if headers and headers[0].grey else "RGB")
    width, height = (size, size) if size else headers[0].size if headers else (0, 0)
    needed = len(headers) * (1 if mode == "L" else 3) * height * width
    memory.check(
        needed, f"the set of {len(headers)} images of {width} x {height} pixels in {folder}", "crop them with size: N"
    )
    values = np.empty((len(headers), 1 if mode == "L" else 3, height, width), dtype=np.uint8)
    kept: list[Path] = []
    clear = 0
    for path, head in found:
        decoded = _decode(path, size, mode, skip_bad, skipped)
        if decoded is not None:
            values[len(kept)] = decoded
            kept.append(path)
            clear += head.alpha
    if not kept:
        raise InputError(f"none of the {len(files)} images of {folder} can be read", "copy the files again")
    warnings = []
    if skipped:
        warnings.append(
            f"{len(skipped)} of {len(files)} images of {folder} cannot be read and were skipped: {_some(skipped)}"
        )
    if clear:
        warnings.append(f"{clear} of {len(kept)} images of {folder} have an alpha channel, which is dropped")
    labels = _labels(folder, kept)
    return ImageSet(values[: len(kept)], labels, tuple(skipped), tuple(warnings))


def image_files(folder: Path, size: int | None = None, mode: str | None = None) -> list[Path]:
    """The images of a folder in a fixed order; arguments as for :class:`ImageFolder`.

    Raises:
        DataNotFoundError: there is no such folder.
        InputError: no images in it.
        ConfigError: a size or mode that cannot be used.
    """
    if size is not None and size < 1:
        raise ConfigError(f"size = {size!r} for the images of {folder}", "give a positive number of pixels")
    if mode not in (None, "L", "RGB"):
        raise ConfigError(f"mode = {mode!r} for the images of {folder}", "use L (grey) or RGB")
    if not folder.is_dir():
        raise DataNotFoundError(f"there is no folder {folder}", "check the path, it is relative to the working folder")
    place = Place(str(folder))
    shown = [f for f in place.files() if not any(part.startswith(".") for part in f.under(place))]
    files = [Path(f.path) for f in shown if f.format == "image"]
    if not files:
        raise InputError(f"{folder} holds no images", f"add files that end in {', '.join(IMAGES)}")
    return files


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' ...' if names[5:] else ''}"


def _labels(folder: Path, paths: list[Path]) -> Array | None:
    parents = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
    loose = [path.name for path, parent in zip(paths, parents, strict=True) if parent is None]
    if loose and len(loose) < len(paths):
        raise InputError(
            f"{folder} has {len(paths) - len(loose)} images in class folders, {len(loose)} beside them: {_some(loose)}",
            "move these into a class folder, or all images into one folder",
        )
    return None if loose or len(set(parents)) == 1 else np.array(parents, dtype=str)


def _header(path: Path, skip_bad: bool, skipped: list[str]) -> tuple[Path, Header] | None:
    try:
        with Image.open(path) as image:
            return path, header(image, path.name)
    except InputError:
        raise
    except BAD as error:
        if not skip_bad:
            raise unreadable(str(path), error) from None
        skipped.append(path.name)
        return None


def _check_one_kind(folder: Path, headers: list[Header], size: int | None, mode: str | None) -> None:
    if size is None:
        for other in headers:
            check_sizes(str(folder), headers[0], other)
    counts = Counter("grey" if h.grey else "colour" for h in headers)
    if mode is None and len(counts) > 1:
        raise InputError(
            f"{folder} mixes {counts['grey']} grey and {counts['colour']} RGB images",
            "choose one on reading with mode: L or mode: RGB",
        )


def _decode(path: Path, size: int | None, mode: str, skip_bad: bool, skipped: list[str]) -> Array | None:
    try:
        with Image.open(path) as image:
            return pixels(image, size, mode)
    except BAD as error:
        if not skip_bad:
            raise unreadable(str(path), error) from None
        skipped.append(path.name)
        return None
