"""What every learner asks of its training rows: finite, at least two, of a known shape."""

from __future__ import annotations

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.numerics.rows import check_finite


def check_rows(data: Tensor, what: str = "training set", minimum: int = 2) -> Tensor:
    """The rows as float32, after refusing what cannot be learned from.

    Args:
        data: ``[n, d]`` vectors or ``[n, c, h, w]`` images.
        what: name of the rows in messages.
        minimum: smallest usable n.

    Raises:
        InputError: not a floating tensor ``[n, ...]``, fewer than `minimum` rows, or NaN or infinite rows (their
            number and the first index).
    """
    if not isinstance(data, Tensor) or data.ndim not in (2, 4) or not data.is_floating_point():
        got = f"{data.dtype} {list(data.shape)}" if isinstance(data, Tensor) else type(data).__name__
        raise InputError(f"the {what} is {got}", "pass a floating-point tensor [n, d] or [n, c, h, w]")
    if data.shape[0] < minimum or data[0].numel() == 0:
        raise InputError(f"the {what} has shape {list(data.shape)}", f"pass at least {minimum} non-empty rows")
    check_finite(data, f"rows of the {what}", "remove or repair these rows")
    return data.to(torch.float32)


def check_shape(x: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Refuse rows that are not of the shape that was learned."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise InputError(f"{what} has rows of shape {list(x.shape[1:])}", f"expected rows of shape {list(shape)}")
