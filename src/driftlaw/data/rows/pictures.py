"""Images as bytes ``[c, h, w]``: files, encoded bytes and PIL images; one size and one colour mode for all of a set.

Nothing is resized or recoloured silently: sizes that differ and grey among colour are refused until `size` or `mode`
says what to do. Of several frames the first is taken.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from driftlaw.data.rows.opened import Array, Chunk, Keep, Options, Rows
from driftlaw.data.rows.places import Place, tally
from driftlaw.errors import InputError
from driftlaw.numerics.memory import CHUNK_BYTES
from driftlaw.system import memory

#: Pillow's modes that hold 8-bit grey values and 8-bit colours; anything deeper would lose bits in a conversion.
GREY, COLOUR = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
#: What Pillow raises for a file that it cannot decode.
BAD = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError)


@dataclass(frozen=True)
class Header:
    """What an image is before it is changed.

    Args:
        name: for messages.
        size: width and height, upright.
        grey: no colours.
        alpha: transparent.
    """

    name: str
    size: tuple[int, int]
    grey: bool
    alpha: bool


def header(image: Image.Image, name: str) -> Header:
    """Of an opened image.

    Raises:
        InputError: more than 8 bits a channel.
        LimitError: it does not fit in memory when it is decoded.
    """
    if image.mode not in GREY + COLOUR:
        raise InputError(f"the image {name} has mode {image.mode}, more than 8 bits a channel", "convert it to 8 bits")
    width, height = image.size
    what = f"decoding the image {name} of {width} x {height} pixels"
    memory.check(8 * width * height, what, "scale it down with another program")
    turned = "exif" in image.info and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    size = (image.height, image.width) if turned else image.size
    alpha = "A" in image.mode or "a" in image.mode or "transparency" in image.info
    grey = image.mode in GREY or (image.mode == "P" and _grey_palette(image))
    return Header(name, size, grey, alpha)


def _grey_palette(image: Image.Image) -> bool:
    """Whether a palette has greys only, as that of a grey GIF."""
    colours = image.getpalette()
    if image.format != "GIF" or colours is None:
        return False
    table = np.array(colours[: len(colours) // 3 * 3], dtype=np.uint8).reshape(-1, 3)
    return bool((table == table[:, :1]).all())


def pixels(image: Image.Image, size: int | None, mode: str) -> Array:
    """``[c, h, w]`` uint8, upright, cropped to a square and resized where a size is given."""
    picture: Image.Image = ImageOps.exif_transpose(image) if "exif" in image.info else image
    picture = picture if picture.mode == mode else picture.convert(mode)
    if size is not None and picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    values = np.asarray(picture, dtype=np.uint8)
    return values[None] if mode == "L" else values.transpose(2, 0, 1)


def check_sizes(name: str, first: Header, other: Header) -> None:
    """Refuse two sizes.

    Raises:
        InputError: both, and what to do.
    """
    if first.size != other.size:
        raise InputError(
            f"the images of {name} have different sizes: {first.name} is {first.size[0]}x{first.size[1]}, "
            f"{other.name} is {other.size[0]}x{other.size[1]}",
            "make them equal, or crop and resize them on reading with size: N",
        )


def unreadable(name: str, reason: object) -> InputError:
    """The error of a file that is no image."""
    return InputError(
        f"the image {name} cannot be read ({reason})", "replace it, or go on without it: skip_bad: true (--skip-bad)"
    )


def _short(name: str) -> str:
    """Of a path the last part, of "3 of a/b.parquet" the number."""
    number, of, _ = name.partition(" of ")
    return f"image {number}" if of else name.rpartition("/")[2]


class Pictures:
    """Decoder of the images of one set; the first one decides about colour and size.

    Args:
        name: of the set.
        size: crop to the centre square and resize to this many pixels.
        mode: "L" or "RGB", None as the first image is.
    """

    def __init__(self, name: str, size: int | None = None, mode: Literal["L", "RGB"] | None = None) -> None:
        self.name, self.size, self.mode = name, size, mode
        self._first: Header | None = None

    def decode(self, content: Any, name: str) -> Array:
        """``[c, h, w]`` of a PIL image, encoded bytes, a :class:`Place` or a path.

        Raises:
            InputError: unreadable, deeper than 8 bits, another size or colour mode than the first.
        """
        try:
            if isinstance(content, Image.Image):
                return self._pixels(content, name)
            if isinstance(content, Place):
                content = content.path if content.system is None else content.bytes()
            stream = io.BytesIO(content) if isinstance(content, bytes | bytearray | memoryview) else content
            with Image.open(stream) as image:
                return self._pixels(image, name)
        except InputError:
            raise
        except BAD as error:
            raise unreadable(name, error) from None

    def _pixels(self, image: Image.Image, name: str) -> Array:
        found = header(image, _short(name))
        self._first = first = self._first or found
        if self.size is None:
            check_sizes(self.name, first, found)
        if self.mode is None and first.grey != found.grey:
            words = ("grey", "colour") if first.grey else ("colour", "grey")
            raise InputError(
                f"{self.name} mixes grey and RGB images: {first.name} is {words[0]}, {found.name} is {words[1]}",
                "choose one on reading with mode: L or mode: RGB",
            )
        return pixels(image, self.size, self.mode or ("L" if first.grey else "RGB"))

    def notes(self) -> list[str]:
        """What the first image tells about the set."""
        clear = self._first is not None and self._first.alpha
        return [f"images of {self.name} have an alpha channel, which is dropped"] if clear else []

    def batcher(self) -> Batcher:
        """Gathers images into chunks."""
        return Batcher()


class Batcher:
    """Gathers equal images into chunks of half a reader's budget, for bytes become wider numbers."""

    def __init__(self) -> None:
        self._held: list[Array] = []

    def add(self, image: Array) -> Iterator[Chunk]:
        """One image; a chunk when enough have come."""
        self._held.append(image)
        if len(self._held) * image.size >= CHUNK_BYTES // 2:
            yield from self.rest()

    def rest(self) -> Iterator[Chunk]:
        """Images that are still held, as one chunk."""
        if self._held:
            yield np.stack(self._held)
            self._held = []


def open_files(name: str, files: list[Place], options: Options) -> Rows:
    """Image files in their order.

    Raises:
        InputError: the first is unreadable, or with `skip_bad` all are.
    """
    skipped, notes = [], []
    if options.skip_bad:  # known beforehand, so that row numbers do not depend on what is read
        good, bad = [], []
        probe = Pictures(name, 1, "L")
        for place in files:
            try:
                probe.decode(place, place.name)
                good.append(place)
            except InputError as error:
                if "cannot be read" not in error.what:
                    raise
                bad.append((place, "cannot be read"))
        if not good:
            raise InputError(f"none of the {len(files)} images of {name} can be read", "copy the files again")
        files, skipped = good, tally(bad)
        if bad:
            notes.append(f"{len(bad)} of {len(good) + len(bad)} images of {name} cannot be read and were skipped")
    probe = Pictures(name, options.size, options.mode)
    first = probe.decode(files[0], str(files[0]))
    notes += probe.notes()

    def read(keep: Keep | None) -> Iterator[Chunk]:
        decoder = Pictures(name, options.size, options.mode)
        batcher = decoder.batcher()
        wanted = files if keep is None else [files[int(i)] for i in np.flatnonzero(keep(0, len(files)))]
        for place in wanted:
            yield from batcher.add(decoder.decode(place, str(place)))
        yield from batcher.rest()

    return Rows(
        name,
        "images",
        read,
        len(files),
        first.shape,
        "uint8",
        skipped=tuple(skipped),
        notes=tuple(notes),
        used=frozenset({"size", "mode", "skip_bad"}),
    )


def open_images(name: str, images: list[Any], options: Options) -> Rows:
    """PIL images, or encoded images, in a list."""

    def read(keep: Keep | None) -> Iterator[Chunk]:
        decoder = Pictures(name, options.size, options.mode)
        batcher = decoder.batcher()
        wanted = range(len(images)) if keep is None else np.flatnonzero(keep(0, len(images)))
        for i in wanted:
            yield from batcher.add(decoder.decode(images[int(i)], f"{int(i)} of {name}"))
        yield from batcher.rest()

    probe = Pictures(name, options.size, options.mode)
    first = probe.decode(images[0], f"0 of {name}")
    used = frozenset({"size", "mode", "skip_bad"})
    return Rows(name, "images", read, len(images), first.shape, "uint8", notes=tuple(probe.notes()), used=used)
