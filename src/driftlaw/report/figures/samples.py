"""Samples of every generation, side by side: pixelated contact sheets of images, principal components of vectors.

The components are those of the real rows, X - mean = U S V^T; every generation is shown in the same two columns of V
and the same limits, so that what moves is the model and not the axes.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from driftlaw.loop.history import History
from driftlaw.numerics.directions import oriented
from driftlaw.numerics.words import number
from driftlaw.report.figures import run as figures

#: Colours of a change, which do for light and dark surfaces.
BRIGHTER, DARKER = (216, 112, 24), (32, 128, 204)
#: Tiles of a contact sheet, points of a scatter panel, and bytes of all pixels on one page.
COLUMNS, TILES, POINTS, PIXEL_BUDGET = 10, 40, 300, 2_500_000


@dataclass(frozen=True)
class Panel:
    """The picture of one generation and its caption."""

    title: str
    picture: Markup
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """All of them, and how to read them."""

    kind: str
    panels: tuple[Panel, ...]
    note: str


def gallery(history: History) -> Gallery | None:
    """Pictures of the stored rows, or None when none were kept.

    Raises:
        CorruptFileError: a stored file is damaged.
    """
    folder = history.directory.folder
    indices = [0, *figures.thin(len(history), figures.MOST_PANELS)]
    indices = [i for i in indices if (folder(i) / "samples.npy").is_file()]
    if not indices:
        return None
    skipped = len(history) + 1 - len(indices)
    thinned = f" Of {len(history)} generations, {len(indices) - (0 in indices)} are shown." if skipped else ""
    rows = {i: history.samples(i) for i in indices}
    first = next(iter(rows.values()))
    if first.ndim == 4:
        return _images(rows, thinned)
    return _vectors({i: x.reshape(len(x), -1) for i, x in rows.items()}, thinned)


def _title(index: int) -> str:
    return "Real data" if index == 0 else f"Generation {index}"


def _name(index: int) -> str:
    return f"samples-{index}"


# -- images ---------------------------------------------------------------------------------------------------------


def _images(rows: dict[int, np.ndarray], thinned: str) -> Gallery:
    _, c, h, w = next(iter(rows.values())).shape
    channels = min(c, 3) if c != 2 else 1
    tiles = TILES
    while tiles > COLUMNS and tiles * h * w * (channels + 1) * len(rows) > PIXEL_BUDGET:
        tiles -= COLUMNS
    stride = 1
    while tiles * -(-h // stride) * -(-w // stride) * (channels + 1) * len(rows) > PIXEL_BUDGET:
        stride += 1
    panels = []
    for i, x in rows.items():
        sheet = contact_sheet(x[:tiles, :channels], stride)
        alt = f"{min(tiles, len(x))} samples: {_title(i).lower()}"
        picture = Markup(
            f'<img class="sheet" width="{sheet.width}" height="{sheet.height}" alt="{escape(alt)}" src="{png(sheet)}">'
        )
        panels.append(Panel(_title(i), picture))
    shrunk = f" Images are shown at 1/{stride} of their size." if stride > 1 else ""
    return Gallery("images", tuple(panels), f"The first {tiles} rows of each set, not chosen.{shrunk}{thinned}")


def contact_sheet(x: np.ndarray, stride: int = 1) -> Image.Image:
    """Tiles with a transparent gap of one pixel.

    Args:
        x: ``[n, c, h, w]`` in [-1, 1], c = 1 (grey) or 3 (RGB); NaN is drawn as -1.
        stride: keep every stride-th pixel after averaging blocks of that size.
    """
    x = np.clip(np.nan_to_num(x, nan=-1.0), -1, 1)
    if stride > 1:
        h, w = x.shape[2] // stride * stride, x.shape[3] // stride * stride
        x = x[:, :, :h, :w].reshape(*x.shape[:2], h // stride, stride, w // stride, stride).mean((3, 5))
    n, c, h, w = x.shape
    columns, lines = min(COLUMNS, n), -(-n // COLUMNS)
    pixels = np.zeros((lines * (h + 1) - 1, columns * (w + 1) - 1, c + 1), np.uint8)
    for k, tile in enumerate(np.rint((x + 1) * 127.5).astype(np.uint8)):
        top, left = k // columns * (h + 1), k % columns * (w + 1)
        pixels[top : top + h, left : left + w, :c] = tile.transpose(1, 2, 0)
        pixels[top : top + h, left : left + w, c] = 255
    return Image.fromarray(pixels, "LA" if c == 1 else "RGBA")


def png(image: Image.Image) -> str:
    """An image as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def signed(name: str, change: np.ndarray, alt: str, largest: float) -> Markup:
    """A picture of signed changes over the page's surface: orange is brighter, blue darker, clear is no change.

    Args:
        name: id of the picture.
        change: ``[h, w]`` in [-1, 1].
        alt: what it shows, in words.
        largest: the change that full colour stands for, in pixels from -1 to 1.
    """
    pixels = np.zeros((*change.shape, 4), np.uint8)
    pixels[..., :3] = np.where(change[..., None] > 0, BRIGHTER, DARKER)
    pixels[..., 3] = np.rint(255 * np.clip(np.abs(change), 0, 1))
    image = Image.fromarray(pixels, "RGBA")
    scale = f"Full colour: {number(50 * largest, 2)} % of the range from black to white."
    return Markup(
        f'<img id="{name}" class="sheet" width="{image.width}" height="{image.height}" alt="{escape(alt)}" '
        f'src="{png(image)}"><p class="words">{scale}</p>'
    )


# -- vectors --------------------------------------------------------------------------------------------------------


def principal(real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ``[d]``, first two components ``[d, 2]`` and their shares of the variance ``[2]`` of rows ``[n, d]``."""
    mean = real.mean(0, dtype=np.float64)
    _, s, vt = np.linalg.svd(real - mean, full_matrices=False)
    return mean, oriented(vt[:2].T), s[:2] ** 2 / max(float((s**2).sum()), np.finfo(float).tiny)


def _vectors(rows: dict[int, np.ndarray], thinned: str) -> Gallery | None:
    finite = {i: x[np.isfinite(x).all(1)].astype(np.float64) for i, x in rows.items()}
    base = finite[0 if 0 in finite else next(iter(finite))][:5000]
    if len(base) < 3:
        return None
    dropped = {i: len(rows[i]) - len(x) for i, x in finite.items()}
    notes = {i: f"{k} rows are not finite and are left out" if k else "" for i, k in dropped.items()}
    if base.shape[1] == 1:
        limits = _limits(np.concatenate([x[:, 0] for x in finite.values()]))
        real = base[:, 0]
        pictures = {
            i: figures.histogram(
                f"samples-{i}", real, x[:, 0] if i else None, limits, f"Histogram, {_title(i).lower()}"
            )
            for i, x in finite.items()
        }
        note = "The real rows are in grey."
    else:
        mean, components, share = principal(base)
        points = {i: (x[:POINTS] - mean) @ components for i, x in finite.items()}
        together = np.concatenate([(x[:2000] - mean) @ components for x in finite.values()])
        both = (_limits(together[:, 0]), _limits(together[:, 1]))
        real = points.get(0, points[next(iter(points))])
        pictures = {
            i: figures.scatter(_name(i), real, xy if i else None, both, f"Scatter plot of {_title(i).lower()}")
            for i, xy in points.items()
        }
        note = (
            f"The two principal components of the real rows, which hold {share.sum():.0%} of their variance; the first "
            f"{POINTS} rows of each set, the real ones in grey, in the same axes everywhere."
        )
    return Gallery("vectors", tuple(Panel(_title(i), p, notes[i]) for i, p in pictures.items()), note + thinned)


def _limits(x: np.ndarray) -> tuple[float, float]:
    low, high = (float(v) for v in np.quantile(x, [0.003, 0.997]))
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin
