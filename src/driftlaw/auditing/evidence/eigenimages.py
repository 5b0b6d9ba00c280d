r"""Where images changed: the shift of the mean, and the features that moved most, mapped back to pixels.

Features that are affine in the pixels, phi(x) = x M + b (principal coordinates, or pixels themselves), have the
pseudo-inverse M^+: a difference delta of feature means is the picture delta M^+, the smallest change of the mean image
that explains it. Other features have none.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from driftlaw.auditing.changes import Feature
from driftlaw.measure.features.encoder import ArrayEncoder
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.features.steps import Affine, Standardise
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.records import Record

#: Features drawn beside the mean shift, pixels of a side (larger images are averaged), and numbers of the largest map.
MOST, SIDE, LARGEST = 3, 64, 1 << 24


@dataclass(frozen=True)
class Eigenimages(Record):
    """Signed pictures of what moved, ``[m, h, w, c]``.

    Args:
        names: of the pictures: the mean shift first, then the features that moved most.
        shape: m, h, w, c.
        pixels: base64 of bytes; 128 is no change, 1 and 255 are the largest change of that picture, down and up.
        largest: the largest change of each picture, in units of the encoded pixels (images span -1 to 1).
    """

    names: tuple[str, ...]
    shape: tuple[int, int, int, int]
    pixels: str
    largest: tuple[float, ...]

    def images(self) -> NDArray[np.float64]:
        """Changes ``[m, h, w, c]`` in [-1, 1], each picture relative to its largest."""
        found = np.frombuffer(base64.b64decode(self.pixels), np.uint8).reshape(self.shape)
        return (found.astype(np.float64) - 128.0) / 127.0


class Unmapping:
    """From features back to pixels, where features are affine in the pixels of images.

    Args:
        real: sketch of the real data.
    """

    def __init__(self, real: Sketch) -> None:
        features = real.features
        encoder, phi = features.encoder, features.phi
        self.real, self.inverse = real, None
        self.shape: tuple[int, ...] = getattr(encoder, "shape", ())
        image = isinstance(encoder, ArrayEncoder) and len(self.shape) == 3 and self.shape[0] in (1, 3)
        size = int(np.prod(self.shape)) * features.dimension
        if not image or not isinstance(phi, FeatureMap) or phi.network is not None or size > LARGEST:
            return
        if not all(isinstance(step, Affine | Standardise) for step in phi.steps):
            return
        matrix = _matrix(phi, int(np.prod(self.shape)))
        self.inverse = None if matrix is None else np.linalg.pinv(matrix)

    def picture(self, generation: Sketch, moved: Sequence[Feature]) -> Eigenimages | None:
        """The mean shift of a generation and the features of it that moved most; None where there are no pixels.

        Args:
            generation: its sketch.
            moved: its features, the clearest shift first.
        """
        if self.inverse is None:
            return None
        labels = self.real.features.labels
        clear = [f for f in moved if f.shift.low > 0 or f.shift.high < 0][:MOST]
        rows = [(generation.mean - self.real.mean) @ self.inverse]
        scale = np.sqrt(np.maximum(np.diag(self.real.covariance), 0.0))
        for f in clear:
            j = labels.index(f.name)
            rows.append(f.shift.value * scale[j] * self.inverse[j])
        names = ("mean shift", *(f"{f.name} by {f.shift.value:+.2g}σ" for f in clear))
        return _encoded(names, np.stack([_small(row.reshape(self.shape)) for row in rows]))


def _matrix(phi: FeatureMap, d: int) -> NDArray[np.float64] | None:
    """M ``[d, k]`` of x -> x M + b; None where it would not fit."""
    if len(phi.steps) == 1 and isinstance(phi.steps[0], Affine):
        return np.asarray(phi.steps[0].matrix)
    if d * d > LARGEST:
        return None
    origin = phi.apply(torch.zeros(1, d, dtype=torch.float64))
    return np.asarray(phi.apply(torch.eye(d, dtype=torch.float64)) - origin)


def _small(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[c, h, w]`` to ``[h, w, c]``, means of blocks where a side is longer than :data:`SIDE`."""
    c, h, w = image.shape
    step = -(-max(h, w) // SIDE)
    cut = image[:, : h // step * step, : w // step * step]
    blocks = cut.reshape(c, h // step, step, w // step, step).mean(axis=(2, 4))
    return np.asarray(blocks.transpose(1, 2, 0))


def _encoded(names: tuple[str, ...], images: NDArray[np.float64]) -> Eigenimages:
    top = np.abs(images).max(axis=(1, 2, 3))
    scaled = np.rint(128.0 + 127.0 * images / np.maximum(top, 1e-300)[:, None, None, None]).astype(np.uint8)
    m, h, w, c = images.shape
    text = base64.b64encode(np.ascontiguousarray(scaled).tobytes()).decode()
    return Eigenimages(names, (m, h, w, c), text, tuple(map(float, top)))
