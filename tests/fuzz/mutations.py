"""Seeded damage: bytes flipped, cut, spliced, inserted; JSON with a place changed or removed and its hashes right."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from typing import Any

#: What a leaf of a document may become.
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**400, -(10**30), 1e308, -1e-300, 0.5),
    *("", "x", "inf", "nan", "-inf", "../x", "\0", "\ud800", "é" * 300, [], {}, [1], {"kind": [1]}, [[[[]]]], {"": {}}),
)


def damaged(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """One to three changes of bytes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, much = rng.randrange(len(data) + 1), rng.choice((1, 2, 8, 64, 1000))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + much :]
        elif kind == 2:
            data = data[:at] + rng.randbytes(much) + data[at:]
        elif kind == 3:
            data = data[:at] + rng.choice((b"\xff", b"\0", b"9", b'"', b"[")) * much + data[at + much :]
        elif kind == 4 and other:
            data = data[:at] + other[rng.randrange(len(other)) :]
        elif data:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    return data


def forged(document: Any, rng: random.Random) -> Any:
    """A copy of a document in which one place holds something else, or is gone."""
    whole = copy.deepcopy(document)
    node: Any = whole
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return whole
        key = rng.choice(keys)
        inner = node[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            node = inner
            continue
        if rng.random() < 0.15:
            del node[key]
        else:
            node[key] = copy.deepcopy(rng.choice(ODD))
        return whole


def dumped(document: Any) -> str:
    """JSON, with numbers too large for others and with what is no JSON."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def signed(document: dict[str, Any]) -> dict[str, Any]:
    """A document with the ``sha256`` of the rest of it."""
    rest = {k: v for k, v in document.items() if k != "sha256"}
    return rest | {"sha256": hashlib.sha256(dumped(rest).encode("utf-8", "surrogatepass")).hexdigest()}
