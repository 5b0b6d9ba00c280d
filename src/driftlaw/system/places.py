"""Where this user's own files lie: a cache that may vanish and a secret that stays. Either may be missing.

``$XDG_CACHE_HOME`` and ``$XDG_CONFIG_HOME`` count where they are absolute, as their specification asks; without them
``~/.cache`` and ``~/.config``. No home, an unknown user, or a folder that others may write to: there is no such place.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NoPlaceError(Exception):
    """Why there is no such folder."""


def cache_folder() -> Path:
    """Folder of downloads and compiled code; it may not exist yet.

    Raises:
        NoPlaceError: no home, or others may write to it.
    """
    return _own("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """Folder of this user's secret; it may not exist yet.

    Raises:
        NoPlaceError: no home, or others may write to it.
    """
    return _own("XDG_CONFIG_HOME", ".config")


def _own(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    if not named.is_absolute():
        try:
            named = Path.home() / default
        except RuntimeError as error:
            raise NoPlaceError(f"there is no home folder; set {variable}") from error
        if not named.is_absolute():
            raise NoPlaceError(f"HOME is not an absolute path; set {variable}")
    folder = named / "driftlaw"
    check_private(folder)
    return folder


def check_private(path: Path) -> None:
    """Refuse a file or folder that somebody else owns or may write to; one that is missing passes.

    Raises:
        NoPlaceError: it says which.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise NoPlaceError(f"{path} cannot be used ({error.strerror}); set XDG_CACHE_HOME") from error
    if found.st_mode & stat.S_IWOTH:
        raise NoPlaceError(f"{path} can be written by everybody; run chmod o-w on it, or set XDG_CACHE_HOME")
    if found.st_uid not in {os.geteuid(), 0}:
        raise NoPlaceError(f"{path} belongs to another user")
