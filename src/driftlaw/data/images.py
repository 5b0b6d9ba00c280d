"""Image folders as finite sources: bytes in memory, float32 in [-1, 1] when they are drawn.

A folder holds images directly, or one subfolder per class. All images must have one size and one colour mode, unless
the caller says how to make them so; nothing is resized or recoloured silently.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from driftlaw.data.finite import Array, FiniteSource, label_classes, split_rows
from driftlaw.errors import ConfigError, DataNotFoundError, InputError

#: Decoded bytes that are handed on at once when a folder is streamed.
STREAM_BYTES = 1 << 22
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
#: Pillow's modes that hold 8-bit grey values and 8-bit colours; anything deeper would lose bits in a conversion.
GREY, COLOUR = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


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


@dataclass(frozen=True)
class _Header:
    path: Path
    size: tuple[int, int]
    grey: bool
    alpha: bool


class ImageFolder(FiniteSource):
    """A finite source from a folder of png, jpg, webp or bmp images.

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
    headers = [h for path in files if (h := _header(path, skip_bad, skipped)) is not None]
    if headers:
        _check_one_kind(folder, headers, size, mode)
    mode = mode or ("L" if headers and headers[0].grey else "RGB")
    width, height = (size, size) if size else headers[0].size if headers else (0, 0)
    values = np.empty((len(headers), 1 if mode == "L" else 3, height, width), dtype=np.uint8)
    kept: list[_Header] = []
    for header in headers:
        pixels = _decode(header.path, size, mode, skip_bad, skipped)
        if pixels is not None:
            values[len(kept)] = pixels
            kept.append(header)
    if not kept:
        raise InputError(f"none of the {len(files)} images of {folder} can be read", "copy the files again")
    warnings = []
    if skipped:
        warnings.append(
            f"{len(skipped)} of {len(files)} images of {folder} cannot be read and were skipped: {_some(skipped)}"
        )
    if clear := sum(h.alpha for h in kept):
        warnings.append(f"{clear} of {len(kept)} images of {folder} have an alpha channel, which is dropped")
    labels = _labels(folder, [h.path for h in kept])
    return ImageSet(values[: len(kept)], labels, tuple(skipped), tuple(warnings))


def stream_images(
    folder: Path,
    size: int | None = None,
    mode: Literal["L", "RGB"] | None = None,
    keep: Callable[[int, int], Array] | None = None,
) -> Iterator[Array]:
    """Decode a folder a few images at a time, in the order of their paths; other arguments as for :class:`ImageFolder`.

    Args:
        folder: of images.
        size: as for the class.
        mode: as for the class.
        keep: of a first number and a count, which of these files are wanted; others are not even opened.

    Yields:
        ``[m, c, h, w]`` uint8 of about :data:`STREAM_BYTES`.
    """
    files = image_files(folder, size, mode)
    wanted = files if keep is None else [path for path, k in zip(files, keep(0, len(files)), strict=True) if k]
    first: _Header | None = None
    held: list[Array] = []
    for path in wanted:
        header = _header(path, False, [])
        assert header is not None  # an unreadable one has raised
        first = first or header
        _check_one_kind(folder, [first, header], size, mode)
        pixels = _decode(path, size, mode or ("L" if first.grey else "RGB"), False, [])
        assert pixels is not None
        held.append(pixels)
        if len(held) * pixels.size >= STREAM_BYTES:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


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
    files = list(_files(folder))
    if not files:
        raise InputError(f"{folder} holds no images", f"add files that end in {', '.join(SUFFIXES)}")
    return files


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' ...' if names[5:] else ''}"


def _files(folder: Path) -> Iterator[Path]:
    """Image files below `folder` in a fixed order; hidden files and folders are passed over."""
    if not folder.is_dir():
        raise DataNotFoundError(
            f"there is no folder {folder}", "check the path, it is relative to the working directory"
        )
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root) / name


def _labels(folder: Path, paths: list[Path]) -> Array | None:
    parents = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
    loose = [path.name for path, parent in zip(paths, parents, strict=True) if parent is None]
    if loose and len(loose) < len(paths):
        raise InputError(
            f"{folder} has {len(paths) - len(loose)} images in class folders, {len(loose)} beside them: {_some(loose)}",
            "move these into a class folder, or all images into one folder",
        )
    return None if loose or len(set(parents)) == 1 else np.array(parents, dtype=str)


def _unreadable(path: Path, reason: object) -> InputError:
    return InputError(
        f"the image {path} cannot be read ({reason})",
        "replace it, or go on without it: skip_bad: true (driftlaw run --skip-bad)",
    )


def _header(path: Path, skip_bad: bool, skipped: list[str]) -> _Header | None:
    try:
        with Image.open(path) as image:
            deep, name = image.mode not in GREY + COLOUR, image.mode
            turned = "exif" in image.info and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            size = (image.height, image.width) if turned else image.size
            alpha = "A" in image.mode or "a" in image.mode or "transparency" in image.info
            header = _Header(path, size, image.mode in GREY, alpha)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if not skip_bad:
            raise _unreadable(path, error) from None
        skipped.append(path.name)
        return None
    if deep:
        raise InputError(f"the image {path} has mode {name}, more than 8 bits a channel", "convert it to 8 bits")
    return header


def _check_one_kind(folder: Path, headers: list[_Header], size: int | None, mode: str | None) -> None:
    first = headers[0]
    other = next((h for h in headers if h.size != first.size), None)
    if size is None and other is not None:
        raise InputError(
            f"the images of {folder} have different sizes: {first.path.name} is {first.size[0]}x{first.size[1]}, "
            f"{other.path.name} is {other.size[0]}x{other.size[1]}",
            "make them equal, or crop and resize them on reading with size: N",
        )
    counts = Counter("grey" if h.grey else "colour" for h in headers)
    if mode is None and len(counts) > 1:
        raise InputError(
            f"{folder} mixes {counts['grey']} grey and {counts['colour']} RGB images",
            "choose one on reading with mode: L or mode: RGB",
        )


def _decode(path: Path, size: int | None, mode: str, skip_bad: bool, skipped: list[str]) -> Array | None:
    try:
        with Image.open(path) as image:
            picture = (ImageOps.exif_transpose(image) if "exif" in image.info else image).convert(mode)
            if size is not None and picture.size != (size, size):
                picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
            pixels = np.asarray(picture, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if not skip_bad:
            raise _unreadable(path, error) from None
        skipped.append(path.name)
        return None
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
