r"""The binary formats of the classic image sets: IDX (MNIST family) and CIFAR-10's binary version.

IDX: bytes ``0 0 type rank``, then `rank` big-endian uint32 sizes, then the data. CIFAR-10: records of one label byte
and 3072 pixel bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.data.rows.places import damaged

PIXELS = 3 * 32 * 32


def read_idx(path: Path) -> Array:
    """Bytes of an IDX file, gzipped or not.

    Returns:
        uint8 array with the shape that the header gives.

    Raises:
        InputError: a wrong header, a size that does not match it, a truncated gzip stream.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, OSError) as error:
        raise damaged(path, error) from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise damaged(path, f"an IDX file of bytes starts with 00 00 08, this one with {content[:3].hex(' ')}")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise damaged(path, "its header is incomplete")
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise damaged(path, f"its header says {' x '.join(map(str, shape))}, {expected} bytes; it has {len(content)}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar_binary(path: Path) -> tuple[Array, Array]:
    """Images ``[n, 3, 32, 32]`` uint8 and labels ``[n]`` of a file of CIFAR-10's binary version.

    Raises:
        InputError: not a whole number of records, or a label above 9.
    """
    content = np.fromfile(path, dtype=np.uint8)
    if content.size == 0 or content.size % (1 + PIXELS):
        raise damaged(path, f"{content.size} bytes are not a whole number of records of {1 + PIXELS}")
    records = content.reshape(-1, 1 + PIXELS)
    if records[:, 0].max() > 9:
        raise damaged(path, f"record {int((records[:, 0] > 9).argmax())} has label {int(records[:, 0].max())}, above 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
