"""How much memory may be taken: what does not fit is refused with its size before anything is allocated.

The limit is ``DRIFTLAW_MAX_MEMORY`` (bytes, or such as ``2GiB``) where it is set. Else it is what the system says is
available now, and what the control groups of this process (versions 1 and 2) and its address space leave, whichever is
least.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from driftlaw.errors import ConfigError, LimitError

VARIABLE = "DRIFTLAW_MAX_MEMORY"
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_GROUPS = Path("/sys/fs/cgroup")
#: A limit of a control group above this means none.
_NONE = 1 << 60


def check(needed: float, what: str, fix: str) -> None:
    """Refuse what does not fit.

    Args:
        needed: bytes.
        what: needs them, with its sizes: "30 generations of 1000 rows".
        fix: what to make smaller.

    Raises:
        LimitError: with the size and the limit.

    Example:
        >>> check(1e30, "an array of 10^29 numbers", "use fewer")
        Traceback (most recent call last):
        ...
        driftlaw.errors.LimitError: an array of 10^29 numbers needs 9.31e+20 GiB of memory, more than ...
    """
    if needed < 1 << 20:
        return
    limit, source = available()
    if needed > limit:
        raise LimitError(f"{what} needs {size(needed)} of memory, more than the {size(limit)} {source}", fix)


def size(count: float) -> str:
    """Bytes in words.

    Example:
        >>> size(3 * 2**29), size(1000)
        ('1.5 GiB', '0.000954 MiB')
    """
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"


def available() -> tuple[int, str]:
    """Bytes that may be taken, and where the number comes from.

    Raises:
        ConfigError: the environment variable is not a size.
    """
    if text := os.environ.get(VARIABLE, "").strip():
        return parse(text), f"that {VARIABLE} allows"
    return min(_limits(), default=_NONE), "that are available"


def parse(text: str) -> int:
    """A size in words as bytes.

    Raises:
        ConfigError: not a size.

    Example:
        >>> parse("1000"), parse("2GiB"), parse("1.5g")
        (1000, 2147483648, 1610612736)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip(), re.IGNORECASE)
    if found is None or not (count := int(float(found[1]) * _UNITS[found[2].lower()])):
        raise ConfigError(f"{VARIABLE} = {text!r} is not a size", "give bytes, or for example 2GiB")
    return count


def _limits() -> Iterator[int]:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    with contextlib.suppress(ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        taken = sum(int(line.split()[1]) * 1024 for line in _lines(Path("/proc/self/status")) if "VmSize:" in line)
        yield max(0, most - taken)
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _group(_GROUPS, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _group(_GROUPS / "memory", path, *names)


def _group(root: Path, path: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """What a control group and those above it leave; pages of files that can be dropped count as free."""
    folder = root if ".." in path else root / path.strip().lstrip("/")  # a group outside of our namespace
    for place in (folder, *folder.parents):
        if root != place and root not in place.parents:
            return
        most, used = (next(iter(_lines(place / name)), "") for name in (limit, usage))
        if most.isdecimal() and used.isdecimal() and int(most) < _NONE:
            free = [int(line.split()[1]) for line in _lines(place / "memory.stat") if line.split()[0] == cache]
            yield max(0, int(most) - int(used) + sum(free))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []
