"""Features of a set of rows are computed once: a folder of files named by content, never by where rows came from.

The key is a BLAKE2b hash of the network's fingerprint and of the rows' bytes, shape and dtype, so that two folders with
the same images share an entry and a folder whose images changed does not find its old one. An entry is a safetensors
file that carries the hash of its features; it is written whole or not at all, and one that is truncated, damaged or of
another shape is computed again. Nothing outside the folder is read or written; with `limit_bytes` the entries that were
used longest ago are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from driftlaw.files import make_folder, read_bytes, write_atomic
from driftlaw.measure.features.network import FeatureSpace, hash_rows


@dataclass(frozen=True)
class FeatureCache:
    """A folder of computed features.

    Args:
        folder: made when the first entry is written.
        limit_bytes: size of all entries that is kept; None keeps all.

    Example:
        >>> import tempfile
        >>> from driftlaw.measure.features.network import FeatureNetwork
        >>> phi = FeatureNetwork.from_module(torch.nn.Flatten(), (1, 2, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(Path(folder))
        ...     same = torch.equal(cache(phi, torch.ones(3, 1, 2, 2)), cache(phi, torch.ones(3, 1, 2, 2)))
        ...     same, len(list(Path(folder).iterdir()))
        (True, 1)
    """

    folder: Path
    limit_bytes: int | None = None

    def __call__(self, network: FeatureSpace, rows: Tensor) -> Tensor:
        """``network(rows)``, ``[n, k]`` float64, from the folder where it is known.

        Raises:
            InputError: what the network refuses.
            StorageError: the folder cannot be written.
        """
        path = self.folder / f"{self.key(network, rows)}.safetensors"
        known = _read(path, (len(rows), network.dimension))
        if known is not None:
            with contextlib.suppress(OSError):  # a folder that is only read is fine
                path.touch()
            return known
        features = network(rows)
        short = features.float()
        stored = short if torch.equal(short.double(), features) else features
        stored = stored.contiguous()
        document = save({"features": stored}, {"sha256": _digest(stored), "network": network.name})
        make_folder(self.folder)
        write_atomic(path, lambda f: f.write(document))
        self._trim(path)
        return features

    @staticmethod
    def key(network: FeatureSpace, rows: Tensor) -> str:
        """Name of the entry: content of network and rows, nothing else."""
        return hashlib.blake2b(f"{network.fingerprint}:{hash_rows(rows)}".encode(), digest_size=20).hexdigest()

    def _trim(self, newest: Path) -> None:
        if self.limit_bytes is None:
            return
        entries = sorted((p.stat().st_mtime_ns, p.stat().st_size, p) for p in self.folder.glob("*.safetensors"))
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.limit_bytes:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


@dataclass(frozen=True)
class CachedNetwork:
    """A feature network that looks into a cache first; otherwise the network itself."""

    network: FeatureSpace
    cache: FeatureCache

    @property
    def name(self) -> str:
        """Name of the wrapped network."""
        return self.network.name

    @property
    def dimension(self) -> int:
        """Number of features of the wrapped network."""
        return self.network.dimension

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the wrapped network."""
        return self.network.fingerprint

    def __call__(self, rows: Tensor) -> Tensor:
        """``[n, c, h, w] -> [n, k]`` float64."""
        return self.cache(self.network, rows)


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The entry if it is whole and of this shape."""
    if not path.is_file():
        return None
    try:
        blob = read_bytes(path)
        features = load(blob)["features"]
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        digest = header.get("__metadata__", {}).get("sha256")
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError):
        return None
    if tuple(features.shape) != shape or _digest(features) != digest:
        return None
    return features.double()
