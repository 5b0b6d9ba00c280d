"""Rows that are not finite are refused."""

from __future__ import annotations

import torch
from torch import Tensor

from driftlaw.errors import InputError


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
