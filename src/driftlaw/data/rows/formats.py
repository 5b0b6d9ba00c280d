r"""The binary formats of the classic image sets: IDX (MNIST family) and the three forms of CIFAR-10.

IDX: bytes ``0 0 type rank``, then `rank` big-endian uint32 sizes, then the data. CIFAR-10's binary version: records of
one label byte and 3072 pixel bytes. CIFAR-10's python version is a pickle; it is *parsed* with
:func:`pickletools.genops`, which lists the opcodes of a pickle and runs none, so a hostile file can do nothing.
"""

from __future__ import annotations

import gzip
import math
import pickletools
import struct
import zlib
from pathlib import Path

import numpy as np

from driftlaw.data.finite import Array
from driftlaw.errors import InputError

PIXELS = 3 * 32 * 32
_STRINGS = {"SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "STRING", "BINUNICODE", "SHORT_BINUNICODE"}
_INTEGERS = {"BININT1", "BININT2", "BININT", "INT", "LONG1"}


def damaged(path: Path, reason: object) -> InputError:
    """The error of a file that does not hold what its format promises."""
    return InputError(f"{path} is damaged or truncated ({reason})", "copy or download the file again")


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


def read_cifar_python(path: Path) -> tuple[Array, Array]:
    """The same from a file of CIFAR-10's python version, by reading its opcodes without executing them.

    The pixels are the only long string, a row-major uint8 buffer; the labels are the integers after the key "labels".

    Raises:
        InputError: anything that does not look like the published files.
    """
    pixels: bytes | None = None
    labels: list[int] = []
    in_labels, previous = False, ""
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if opcode.name in _STRINGS and isinstance(argument, str | bytes):
                in_labels = argument in ("labels", b"labels")
                if len(argument) >= PIXELS:
                    if pixels is not None or previous != "row-major":
                        raise damaged(path, "it is not one row-major array of bytes")
                    pixels = argument if isinstance(argument, bytes) else argument.encode("latin-1")
            elif in_labels and opcode.name in _INTEGERS and isinstance(argument, int):
                labels.append(argument)
            row_major = opcode.name == "NEWFALSE" or (opcode.name == "INT" and argument is False)
            previous = "row-major" if row_major else opcode.name
    except (ValueError, IndexError, UnicodeError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, error) from None
    if pixels is None or len(pixels) != PIXELS * len(labels) or not all(0 <= label <= 9 for label in labels):
        raise damaged(path, f"{len(labels)} labels and {len(pixels or b'')} bytes of pixels are not a CIFAR-10 batch")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32), np.array(labels, dtype=np.uint8)
