"""Rows of data: refused where they are not finite, and taken in blocks that fit a budget of bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from driftlaw.errors import InputError

#: Bytes of what one pass holds for all its rows at once: densities and scores of exact laws, pools of noised rows.
PASS_BYTES = 1 << 28
#: Bytes of one block of distances between rows.
PAIR_BYTES = 1 << 25
#: Bytes of a block that is passed over several times and should stay in a core's cache.
CACHE_BYTES = 1 << 21


def fitting(row_bytes: int, budget: int = PASS_BYTES, least: int = 1) -> int:
    """How many rows fit a budget.

    Args:
        row_bytes: that one row needs.
        budget: bytes.
        least: rows that are taken in any case.

    Example:
        >>> fitting(8 * 1000, PAIR_BYTES)
        4194
    """
    return max(least, budget // max(1, row_bytes))


def check_finite(rows: Tensor, what: str, fix: str, first: int = 0) -> None:
    """Refuse rows with NaN or infinities.

    Args:
        rows: ``[n, ...]``.
        what: the rows in words, "rows of the training set".
        fix: what to do about them.
        first: index of the first row in the whole set.

    Raises:
        InputError: how many rows, and the first one.
    """
    bad = ~torch.isfinite(rows.unsqueeze(-1)).flatten(1).all(dim=1)
    if bool(bad.any()):
        at = first + int(bad.int().argmax())
        raise InputError(f"{int(bad.sum())} of {len(bad)} {what} are NaN or infinite, the first is row {at}", fix)
