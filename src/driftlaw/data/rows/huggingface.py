"""Image sets as Hugging Face's datasets keeps them: parquet files of the hub, or an arrow folder of ``save_to_disk``.

Both are tables with one column of encoded images (a struct of ``bytes`` and ``path``) and one of integer labels. They
are read with pyarrow; the package datasets is not needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from driftlaw.data.finite import Array
from driftlaw.data.rows.formats import damaged
from driftlaw.errors import InputError

#: How the files of one part are called, below the folder of the set.
PARQUET, ARROW = "**/{part}-*.parquet", "{part}/*.arrow"
LABELS = ("label", "labels", "fine_label")


def patterns(form: str) -> tuple[str, str]:
    """What must be there for a training and a test part in this form."""
    return form.format(part="train"), form.format(part="test")


def read_part(folder: Path, pattern: str, mode: str) -> tuple[Array, Array]:
    """Images and labels of the files that match, in the order of their names.

    Args:
        folder: of the set.
        pattern: glob of one part's files.
        mode: "L" or "RGB".

    Returns:
        ``[n, c, h, w]`` uint8 and ``[n]`` int64.

    Raises:
        InputError: no such file, no image or label column, an image that cannot be decoded or has another mode or size.
    """
    files = sorted(p for p in folder.glob(pattern) if p.is_file())
    images: list[Array] = []
    labels: list[Array] = []
    for path in files:
        for batch in _batches(path):
            image, label = _columns(path, batch.schema)
            labels.append(np.asarray(batch.column(label).to_numpy(zero_copy_only=False)))
            images += [
                _decode(path, len(images) + i, cell, mode) for i, cell in enumerate(batch.column(image).to_pylist())
            ]
    if not images:
        raise InputError(f"{folder} holds no rows in {pattern}", "copy the data set again")
    odd = next((i for i, x in enumerate(images) if x.shape != images[0].shape), None)
    if odd is not None:
        raise InputError(
            f"image {odd} of {pattern} in {folder} has shape {images[odd].shape}, the first {images[0].shape}",
            "all images must have one size",
        )
    number = np.concatenate(labels)
    if number.dtype.kind not in "iu":
        raise damaged(files[0], f"its labels are {number.dtype}, with missing ones or of another kind")
    return np.stack(images), number.astype(np.int64)


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(1024)
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                yield from stream
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from None


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """Names of the image and the label column."""
    import pyarrow as pa

    def holds_images(kind: Any) -> bool:
        return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    image = [str(f.name) for f in schema if holds_images(f.type)]
    label = [name for name in LABELS if name in schema.names]
    if len(image) != 1 or not label:
        raise InputError(
            f"{path} has the columns {', '.join(schema.names)}",
            f"expected one of encoded images and one called {' or '.join(LABELS)}",
        )
    return image[0], label[0]


def _decode(path: Path, row: int, cell: Any, mode: str) -> Array:
    content = cell.get("bytes") if cell is not None else None
    if content is None:
        raise InputError(f"image {row} of {path} is not in the file", "store the images themselves, not their paths")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.mode != mode:
                raise InputError(f"image {row} of {path} is {image.mode}, not {mode}", "convert the data set")
            pixels: Array = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, f"image {row}: {error}") from None
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
