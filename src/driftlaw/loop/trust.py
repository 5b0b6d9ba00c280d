"""What a stored configuration names outside itself, and whether that may be run or read.

A run directory, a YAML file, a sweep or an audit may come from anybody. Most of what they hold is numbers. Some
settings name code (a function, a module, a program, a network file) or data elsewhere on this machine. Such a
configuration is used only when the caller says so (``--trust``, ``trust=True``), or when it carries the signature that
this user's own :func:`sign` gave it: HMAC-SHA256 of its canonical JSON under a secret that only this user can read.
Objects that a caller hands over in Python are the caller's own and are not asked about.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from driftlaw.config import shown
from driftlaw.errors import DriftlawError, TrustError
from driftlaw.kinds import SOURCES
from driftlaw.system.places import NoPlaceError, check_private, config_folder

#: Key of the manifest, and the comment in config.yaml, that hold the signature.
SIGNATURE, COMMENT = "signature", "# signature: "
#: Settings whose text or words are code, wherever they stand.
_CODE = {
    "function": "import and call the function",
    "callable": "import and call the function",
    "selector": "import and call the function",
    "module": "import and call the module",
    "command": "run the program",
    "pipeline": "load the pipeline",
}
#: Settings that name files.
_DATA = ("path", "root", "folder", "files", "weights")
#: Feature spaces that come with driftlaw or with an installed package.
_KNOWN_FEATURES = ("pca", "identity", "classifier", "efficientnet-lite0", "timm", "dinov2", "inception")


def code(config: Any) -> list[str]:
    """What a configuration would run, in words.

    Example:
        >>> code({"estimator": {"kind": "callable", "function": "evil:fit"}, "measures": {"features": "x.py:build"}})
        ["import and call the function 'evil:fit'", "load the network 'x.py:build'"]
    """
    found = []
    for key, value in _settings(config):
        if key in _CODE and value and not (key == "selector" and isinstance(value, Mapping)):
            found.append(f"{_CODE[key]} {_shown(value)}")
        elif key == "features" and isinstance(value, str) and value not in _KNOWN_FEATURES:
            found.append(f"load the network {_shown(value)}")
        elif key == "features" and isinstance(value, Mapping) and value.get("kind") not in _KNOWN_FEATURES:
            named = value.get("path") or value.get("module") or value.get("kind")
            found.append(f"load the network {_shown(named)}")
        elif key == "weights" and isinstance(value, str):
            found.append(f"load the weights {_shown(value)}")
    return list(dict.fromkeys(found))


def data(config: Any) -> list[str]:
    """What a configuration would read besides code, in words.

    Example:
        >>> data({"source": {"kind": "array", "path": "elsewhere/rows.npy"}})
        ["read 'elsewhere/rows.npy'"]
    """
    source = config.get("source") if isinstance(config, Mapping) else None
    if isinstance(source, str):
        return [] if source in SOURCES else [f"read {_shown(source)}"]
    named = [value for key, value in _settings(source) if key in _DATA and _is_text(value)]
    return list(dict.fromkeys(f"read {_shown(value)}" for value in named))


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every mapping inside, each mapping once, however often YAML refers to it."""
    todo, seen = [config], set()
    while todo:
        node = todo.pop()
        if not isinstance(node, Mapping | list | tuple) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping):
            yield from ((str(key), value) for key, value in node.items())
        todo += reversed(node.values() if isinstance(node, Mapping) else node)  # type: ignore[arg-type]


def _is_text(value: Any) -> bool:
    """Whether it is a name or a list of names; the weights of a mixture are numbers."""
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(v, str) for v in value))


def _shown(value: Any) -> str:
    words = isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return shown(" ".join(value) if words else value)


def check(
    config: Any, where: str | os.PathLike[str], *, trust: bool, signature: Any = None, reads: bool = True
) -> None:
    """Refuse a configuration that names what its reader has not vouched for.

    Args:
        config: plain data, before anything is built from it.
        where: the file, for the message.
        trust: whether the caller vouches for it.
        signature: that it carries.
        reads: whether data elsewhere count as well as code; a study file that was named on purpose may name its data.

    Raises:
        TrustError: says exactly what would run or be read.
    """
    found = code(config) + (data(config) if reads else [])
    if not found or trust or is_signed(config, signature):
        return
    raise TrustError(
        f"{where} was not made by you on this machine, and using it would {', '.join(found)}",
        "if you trust it, add --trust (Python: trust=True)",
    )


def sign(config: Mapping[str, Any]) -> str | None:
    """This user's signature of a configuration; None where it names nothing outside, or there is no place for a secret.

    Args:
        config: plain data.
    """
    if not code(config) and not data(config):
        return None
    secret = _secret(make=True)
    return None if secret is None else _mac(secret, config)


def signature_in(text: str) -> str | None:
    """The signature in the first line of a config.yaml."""
    first = text.partition("\n")[0]
    return first.removeprefix(COMMENT) if first.startswith(COMMENT) else None


def is_signed(config: Any, signature: Any) -> bool:
    """Whether this user signed this configuration."""
    secret = _secret(make=False) if isinstance(signature, str) else None
    return secret is not None and hmac.compare_digest(_mac(secret, config).encode(), signature.encode())


def _mac(secret: bytes, config: Any) -> str:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    return hmac.digest(secret, b"driftlaw config\0" + text.encode(), "sha256").hex()


def _secret(make: bool) -> bytes | None:
    """32 bytes in a file that only this user can read, created once and exclusively."""
    try:
        folder = config_folder()
        path = folder / "secret"
        if make and not os.path.lexists(path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            own = folder / f".{secrets.token_hex(8)}"
            descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if os.write(descriptor, secrets.token_bytes(32)) < 32:
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(descriptor)
                with contextlib.suppress(FileExistsError):
                    os.link(own, path)  # whole, and only if nobody was faster
            finally:
                os.close(descriptor)
                own.unlink()
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as f:
            if os.fstat(descriptor).st_mode & 0o077 or os.fstat(descriptor).st_uid != os.geteuid():
                return None
            found = f.read(33)
        check_private(path)
    except (OSError, NoPlaceError, DriftlawError):
        return None
    return found if len(found) == 32 else None
