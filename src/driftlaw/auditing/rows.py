r"""What only raw rows can tell: coverage of the real modes, near-duplicates of real rows, and examples to look at.

Seeded samples of bounded size are taken from each set in one more reading, and compared in the whitened features:

- **recall** and **coverage** (:mod:`driftlaw.measure.sets.prdc`) of real rows by the generation, beside those of other
  real rows at the same n;
- **near_duplicates** (:mod:`driftlaw.measure.sets.memorisation`): share of generated rows that are nearer to a real
  training row, relative to held-out rows, than 99 % of held-out rows are. It needs a holdout: rows that no model saw.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftlaw.auditing.coordinates import Whitening
from driftlaw.data.rows.opened import Chunk, Rows, length, masked
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.features.encoder import ArrayEncoder
from driftlaw.measure.sets.memorisation import copied_p, memorisation
from driftlaw.measure.sets.prdc import prdc
from driftlaw.measure.sketch.blocks import hash64
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.numerics.memory import fitting
from driftlaw.records import Record
from driftlaw.seeding import stream_seed

#: Rows compared by nearest neighbours, real rows among which duplicates are looked for, images shown.
COMPARED, SEARCHED, SHOWN = 600, 10_000, 16


@dataclass(frozen=True)
class Exemplars:
    """Images that show what moved, ``[n, h, w, c]`` uint8.

    Args:
        shape: n, h, w, c.
        pixels: base64 of the bytes.
        drifted: those farthest along the generation's drift direction, first half; the first rows of the sample after.
    """

    shape: tuple[int, int, int, int]
    pixels: str
    drifted: int

    @classmethod
    def of(cls, images: NDArray[np.uint8], drifted: int) -> Exemplars:
        """Encode ``[n, h, w, c]``."""
        n, h, w, c = images.shape
        return cls((n, h, w, c), base64.b64encode(np.ascontiguousarray(images).tobytes()).decode(), drifted)

    def images(self) -> NDArray[np.uint8]:
        """``[n, h, w, c]``."""
        return np.frombuffer(base64.b64decode(self.pixels), np.uint8).reshape(self.shape)


_UNKNOWN = Estimate.refused("nearest neighbours", "not measured by the version that made this record")


@dataclass(frozen=True)
class RowMeasures(Record):
    """Nearest-neighbour measures of one generation, and images.

    Args:
        recall, coverage: of the real rows by the generation.
        recall_floor, coverage_floor: the same for other real rows.
        near_duplicates: share of generated rows that sit on real training rows; refused without a holdout.
        exemplars: None where rows are not images.
        precision, precision_floor: of the generation, and of other real rows, within the real set.
        copied_p: p-value of the near-duplicates against held-out rows; None without a holdout.
    """

    recall: Estimate
    coverage: Estimate
    recall_floor: Estimate
    coverage_floor: Estimate
    near_duplicates: Estimate
    exemplars: Exemplars | None
    precision: Estimate = _UNKNOWN
    precision_floor: Estimate = _UNKNOWN
    copied_p: float | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows taken from a set.

    Args:
        z: ``[n, r]`` whitened features.
        images: ``[n, h, w, c]`` uint8, or None.
        rows: in the whole set.
    """

    z: Tensor
    images: NDArray[np.uint8] | None
    rows: int


def take(stream: Rows, like: Sketch, whitening: Whitening, most: int, seed: int, name: str) -> Sample | None:
    """A seeded random sample of at most `most` rows, or None of what can be read only once."""
    if not stream.repeatable:
        return None
    salt, done = stream_seed(seed, "audit", name), 0
    chunks: list[Chunk] = []
    hashes: list[NDArray[np.float64]] = []
    most = max(COMPARED, min(most, fitting(8 * len(like.features.encoder.names))))
    threshold = 1.0 if stream.rows is None else min(1.0, 1.1 * most / max(1, stream.rows) + 20.0 / max(1, stream.rows))

    def uniform(first: int, n: int) -> NDArray[np.float64]:
        return np.asarray(hash64(np.arange(first, first + n, dtype=np.uint64), salt) / 2.0**64)

    if stream.rows is not None:  # rows that are not wanted are passed over before they are decoded
        starts = range(0, stream.rows, 1 << 20)
        drawn = (uniform(first, min(1 << 20, stream.rows - first)) for first in starts)
        hashes = [np.concatenate([u[u < threshold] for u in drawn])]
        chunks = [_joined(list(stream.read(lambda first, n: uniform(first, n) < threshold)))]
        done = stream.rows
    else:
        for chunk in stream.read(None):
            u = uniform(done, length(chunk))
            done += length(chunk)
            chunks.append(masked(chunk, u < threshold))
            hashes.append(u[u < threshold])
            if sum(map(len, hashes)) > 4 * most:
                threshold = float(np.partition(np.concatenate(hashes), most)[most])
                chunks = [masked(c, h < threshold) for c, h in zip(chunks, hashes, strict=True)]
                hashes = [h[h < threshold] for h in hashes]
    u = np.concatenate(hashes)
    cut = float(np.partition(u, most)[most]) if len(u) > most else 2.0
    z, images = [], []
    for chunk, h in zip(chunks, hashes, strict=True):
        kept = masked(chunk, h < cut)
        if length(kept):
            features = like.features(kept)
            z.append((features - whitening.mean) @ whitening.matrix)
            images.append(_pixels(like, kept))
    order = np.argsort(u[u < cut], kind="stable")  # in random order: any first rows are a random sample too
    seen = [x for x in images if x is not None]
    pictures = np.concatenate(seen)[order] if seen else None
    return Sample(torch.from_numpy(np.concatenate(z)[order]), pictures, done)


def _joined(chunks: list[Chunk]) -> Chunk:
    if isinstance(chunks[0], dict):
        return {name: np.concatenate([np.asarray(c[name]) for c in chunks]) for name in chunks[0]}
    return np.concatenate([np.asarray(c) for c in chunks])


def _pixels(like: Sketch, rows: Any) -> NDArray[np.uint8] | None:
    """Rows as images ``[n, h, w, c]``, where they are."""
    encoder = like.features.encoder
    if not isinstance(encoder, ArrayEncoder) or len(encoder.shape) != 3 or encoder.shape[0] not in (1, 3):
        return None
    x = np.asarray(rows)
    if x.dtype != np.uint8:
        x = np.rint((np.clip(np.asarray(x, np.float32), -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return np.asarray(x.transpose(0, 2, 3, 1))


def measure_rows(
    real: Sample, generation: Sample, holdout: Sample | None, direction: NDArray[np.float64]
) -> RowMeasures:
    """Compare one generation's rows with real ones.

    Args:
        real: up to :data:`SEARCHED` rows.
        generation: up to :data:`COMPARED` rows.
        holdout: real rows that no model saw.
        direction: ``[r]`` the generation's drift c_i.
    """
    other = holdout or Sample(real.z[len(real.z) // 2 :], None, 0)
    reference = real.z if holdout is not None else real.z[: len(real.z) // 2]
    n = min(len(reference), len(generation.z), len(other.z), COMPARED)
    try:
        found, floor = prdc(reference[:n], generation.z[:n]), prdc(reference[:n], other.z[:n])
    except InputError as error:
        no = Estimate.refused("nearest neighbours", error.what, n)
        found = floor = {"recall": no, "coverage": no, "precision": no}
    method = "d(training)/d(held out) against held-out rows, Wilson interval"
    p = None
    if holdout is None:
        duplicates = Estimate.refused(method, "it needs a holdout: real rows that no model was trained on", n)
    else:
        try:
            mine, held = generation.z[:COMPARED], holdout.z[:COMPARED]
            duplicates = memorisation(mine, real.z, held)["memorised"]
            p = None if duplicates.is_refused else copied_p(mine, real.z, held)
        except InputError as error:
            duplicates = Estimate.refused(method, error.what, n)
        if real.rows > len(real.z) and not duplicates.is_refused:
            duplicates = duplicates.warn(
                f"looked for among {len(real.z)} of {real.rows} real rows: copies of the others are not seen"
            )
    return RowMeasures(
        found["recall"],
        found["coverage"],
        floor["recall"],
        floor["coverage"],
        duplicates,
        _exemplars(generation, direction),
        found["precision"],
        floor["precision"],
        p,
    )


def _exemplars(generation: Sample, direction: NDArray[np.float64]) -> Exemplars | None:
    if generation.images is None:
        return None
    half = SHOWN // 2
    along = generation.z.numpy() @ direction
    farthest = np.argsort(-along, kind="stable")[:half]
    return Exemplars.of(np.concatenate([generation.images[farthest], generation.images[:half]]), len(farthest))


def names_of(data: Sequence[Any]) -> list[str]:
    """How each set is called: its path, or its number."""
    return [
        str(d) if isinstance(d, str) or hasattr(d, "__fspath__") else f"generation {i}" for i, d in enumerate(data, 1)
    ]
