"""Image sets as Hugging Face's datasets keeps them: parquet files of the hub, or the folder of ``save_to_disk``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.data.rows.arrow import open_arrow
from driftlaw.data.rows.opened import Options
from driftlaw.data.rows.places import place_of
from driftlaw.data.rows.tables import holds_images, open_batches
from driftlaw.errors import InputError

#: How the files of one part are called, below the folder of the set.
PARQUET, ARROW = "**/{part}-*.parquet", "{part}/*.arrow"
LABELS = ("label", "labels", "fine_label")


def patterns(form: str) -> tuple[str, str]:
    """What must be there for a training and a test part in this form."""
    return form.format(part="train"), form.format(part="test")


def read_part(folder: Path, pattern: str) -> tuple[Array, Array]:
    """Images and labels of the files that match, in the order of their names.

    Args:
        folder: of the set.
        pattern: glob of one part's files.

    Returns:
        ``[n, c, h, w]`` uint8 and ``[n]`` int64.

    Raises:
        InputError: no rows, no image or label column, missing labels, an image that cannot be decoded or has another
            mode or size.
    """
    files = [place_of(p) for p in sorted(folder.glob(pattern)) if p.is_file()]
    name = f"{pattern} in {folder}"
    source = open_arrow(name, files, "parquet" if pattern.endswith("parquet") else "arrow", (), None)
    schema = source.schema
    image = [f.name for f in schema if holds_images(f.type, source.head.column(f.name))]
    label = [column for column in LABELS if column in schema.names]
    if len(image) != 1 or not label:
        raise InputError(
            f"{name} has the columns {', '.join(schema.names)}",
            f"expected one of encoded images and one called {' or '.join(LABELS)}",
        )
    images = [np.asarray(chunk) for chunk in open_batches(source, Options(columns=(image[0],)))]
    if not images:
        raise InputError(f"{name} holds no rows", "copy the data set again")
    chunks = open_batches(source, Options(columns=(label[0],)))
    labels = np.concatenate([chunk[label[0]] for chunk in chunks if isinstance(chunk, dict)])
    if labels.dtype.kind != "f" or np.isnan(labels).any() or (labels != np.round(labels)).any():
        raise InputError(f"the labels of {name} are missing or no whole numbers", "copy the data set again")
    return np.concatenate(images), labels.astype(np.int64)
