"""How often each of many names occurs, in bounded memory and without an order: the names of smallest hash are kept.

Of the names seen, the :data:`MOST` with the smallest hashes are counted exactly; of the others only the total is known.
A name among the smallest of a whole is among the smallest of each part, so merging parts in any order gives the same
counts as one pass (a bottom-k sketch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

#: Names that are counted one by one.
MOST = 1000


class NamedCounts:
    """Counts by name.

    Example:
        >>> counts = NamedCounts()
        >>> counts.add({"violet": 3, "teal": 1})
        >>> counts.named(), counts.total
        ({'violet': 3, 'teal': 1}, 4)
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.total = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts of names, in place."""
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + int(count)
            self.total += int(count)
        if len(self._counts) > MOST:
            kept = sorted(self._counts, key=_hash)[:MOST]
            self._counts = {name: self._counts[name] for name in kept}

    def merge(self, other: NamedCounts) -> NamedCounts:
        """A new object with the counts of both."""
        merged = NamedCounts()
        merged.add(self._counts)
        merged.add(other._counts)
        merged.total = self.total + other.total
        return merged

    def named(self) -> dict[str, int]:
        """Counts of the names that are kept, most frequent first; their sum is below ``total`` if some are not."""
        return dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0])))

    def lacks(self, name: str) -> bool:
        """Whether a name was surely never seen: one of larger hash than those kept may have been."""
        if name in self._counts:
            return False
        return len(self._counts) < MOST or _hash(name) < max(map(_hash, self._counts))

    def to_json(self) -> dict[str, Any]:
        """The document as strict JSON."""
        return {"total": self.total, "counts": dict(sorted(self._counts.items()))}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NamedCounts:
        """Read the document that :meth:`to_json` writes."""
        found = cls()
        found._counts = {str(name): int(count) for name, count in document["counts"].items()}
        found.total = int(document["total"])
        return found


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
