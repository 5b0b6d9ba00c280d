"""The shared page through which trials tell the interposed library what to do, and the library answers."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("interpose.c")
OFF, COUNT, KILL, REFUSE, FULL = range(5)
#: Modes that a trial may have, in words.
MODES = {"kill": KILL, "no space once": REFUSE, "disk full": FULL}
_LAYOUT = struct.Struct("@iill32s4000s")


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def build(folder: Path) -> Path:
    """Compile the library."""
    target, tool = folder / "interpose.so", compiler()
    if tool is None:
        sys.exit("absent: no C compiler")
    subprocess.run([tool, "-shared", "-fPIC", "-O1", "-o", str(target), str(SOURCE), "-ldl"], check=True)
    return target


class Control:
    """The page.

    Args:
        path: file of it; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_LAYOUT.size))
        descriptor = os.open(path, os.O_RDWR)
        self._page = mmap.mmap(descriptor, _LAYOUT.size)
        os.close(descriptor)

    def arm(self, mode: int, root: Path, at: int = 0) -> None:
        """From now on calls below `root` count, and number `at` fails."""
        self._page[:] = bytes(_LAYOUT.size)
        self._page[:] = _LAYOUT.pack(mode, 0, at, 0, b"", os.fsencode(root))

    def disarm(self) -> None:
        """Calls are as they always are."""
        self._page[:4] = struct.pack("@i", OFF)

    @property
    def seen(self) -> tuple[int, str]:
        """How many calls there were, and the name of the one that failed, empty if none did."""
        _, fired, _, count, what, _ = _LAYOUT.unpack(self._page[:])
        return count, what.rstrip(b"\0").decode() if fired else ""
