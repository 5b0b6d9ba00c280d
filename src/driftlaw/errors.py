"""Every failure names what was wrong, where, and what to do next.

All errors raised on purpose derive from :class:`DriftlawError`. The command line prints the message and exits with
:attr:`DriftlawError.exit_code` (2: bad usage or input; 1 is kept for a gate that failed). Anything else that escapes
is a defect: the command line writes its traceback to a log, prints where, and exits with 70.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class DriftlawError(Exception):
    """Base of all deliberate errors.

    Args:
        what: what was wrong and where, one sentence without a final full stop.
        fix: what the reader can do about it, one sentence without a final full stop.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what.rstrip(".")
        self.fix = fix.rstrip(".")
        remedy = f" {self.fix[:1].upper()}{self.fix[1:]}." if self.fix else ""
        super().__init__(f"{self.what}.{remedy}")


class InputError(DriftlawError, ValueError):
    """Data or an argument that cannot be used: NaN rows, wrong shapes, empty sets, alpha outside [0, 1]."""


class ConfigError(InputError):
    """A study configuration that cannot be used: an unknown key, an absurd value, a file that is not YAML."""


class DataNotFoundError(DriftlawError):
    """A named data set is not on this machine; the message lists every way to provide it."""


class DataExhaustedError(DriftlawError):
    """A finite source has no unused fresh rows left and reuse was not asked for."""


class RunDirectoryError(DriftlawError):
    """A run directory that is missing, foreign, locked, corrupt or of a newer format."""


class CorruptFileError(RunDirectoryError):
    """A stored file is truncated or does not have the recorded hash; the message names it."""


class UnsafePathError(RunDirectoryError):
    """A path that leads out of where it should stay: a link inside a run directory, a pipe, a device."""


class TrustError(DriftlawError):
    """A stored file names code or data of somebody else; the message says what would run or be read."""


class LimitError(InputError):
    """What was asked does not fit this machine's memory, or is beyond what is supported; the message has the size."""


class RunLockedError(RunDirectoryError):
    """Another process is writing to this run directory."""


class SanityError(DriftlawError):
    """A strict run met a finding of its checks and stopped: a gate that failed. What was trained stays resumable."""

    exit_code: ClassVar[int] = 1


class StorageError(DriftlawError):
    """The disk is full or not writable; what was finished before stays resumable."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a remedy that names the closest valid name, then all of them.

    Example:
        >>> nearest("alhpa", ["alpha", "seed"])
        "did you mean 'alpha'? Valid names: alpha, seed"
    """
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listing = f"Valid names: {', '.join(options)}"
    return f"did you mean {close[0]!r}? {listing}" if close else listing
