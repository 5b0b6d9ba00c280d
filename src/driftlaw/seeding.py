"""One seed, named streams: any generation replays alone.

A stream is identified by ``(seed, *path)``, for example ``(0, "generation", 3, "sample")``. Its 63-bit state is the
BLAKE2b hash of that path, so streams are independent for all practical purposes, do not depend on the order in which
they are opened, and adding a new one never shifts another. The global random state is never read or written.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream_seed(seed: int, *path: int | str) -> int:
    """63-bit seed of the named stream ``(seed, *path)``."""
    text = "\x1f".join([str(int(seed)), *(f"{type(p).__name__}:{p}" for p in path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh ``torch.Generator`` at the start of the named stream."""
    g = torch.Generator(device=device)
    g.manual_seed(stream_seed(seed, *path))
    return g


def numpy_generator(seed: int, *path: int | str) -> np.random.Generator:
    """A fresh numpy generator at the start of the named stream (for SciPy and scikit-learn)."""
    return np.random.default_rng(stream_seed(seed, *path))
