"""Random draws that never touch the global random state, and the few checks that all exact laws share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from driftlaw.errors import InputError


class LawValues(NamedTuple):
    """What a diffused law says at some points.

    Args:
        log_density: ``[n]``, nats.
        score: ``[n, d]``.
        divergence: ``[n]``, the divergence of the score.
    """

    log_density: Tensor
    score: Tensor
    divergence: Tensor


def own_generator(generator: torch.Generator | None, device: torch.device | str = "cpu") -> torch.Generator:
    """`generator`, or a fresh one seeded from the operating system's entropy."""
    if generator is not None:
        return generator
    fresh = torch.Generator(device=device)
    fresh.seed()
    return fresh


def normal(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normals, drawn on the generator's device and moved to `device`."""
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def categorical(cumulative: Tensor, generator: torch.Generator) -> Tensor:
    """One index per row by inverse distribution function, int64 ``[n]``.

    Args:
        cumulative: ``[n, k]`` non-decreasing partial sums of non-negative weights (the last column need not be 1).
        generator: source of the ``n`` uniforms.
    """
    n, k = cumulative.shape
    uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64, device=generator.device)
    # (1 - u) total lies in (0, total]: the first partial sum that reaches it never belongs to a weight of zero
    target = (1 - uniform.to(cumulative.device)) * cumulative[:, -1:].double()
    return torch.searchsorted(cumulative.double(), target).squeeze(1).clamp_(max=k - 1)


def draw_labels(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` independent indices with probabilities `weights` (``[k]``), int64 ``[n]``."""
    uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device).to(weights.device)
    cumulative = weights.double().cumsum(0)
    return torch.searchsorted(cumulative, (1 - uniform) * cumulative[-1]).clamp_(max=len(weights) - 1)


def check_points(x: Tensor, d: int) -> Tensor:
    """`x` if it is a float32 or float64 ``[n, d]`` tensor.

    Raises:
        InputError: another dtype or shape.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"points of dtype {x.dtype}", "convert them to float32 or float64")
    if x.ndim != 2 or x.shape[1] != d:
        raise InputError(f"points of shape {list(x.shape)} for a law in {d} dimensions", f"give a tensor [n, {d}]")
    return x


def check_weights(weights: Tensor, k: int, what: str) -> Tensor:
    """Float64 weights ``[k]`` that sum to 1 exactly up to rounding.

    Raises:
        InputError: another shape, a weight that is not positive, or a sum that differs from 1 by more than 1e-6.
    """
    weights = weights.double()
    if weights.shape != (k,):
        raise InputError(f"{what}: weights of shape {list(weights.shape)} for {k} components", f"give {k} weights")
    if not bool((torch.isfinite(weights) & (weights > 0)).all()):
        first = int((~(torch.isfinite(weights) & (weights > 0))).nonzero()[0])
        raise InputError(f"{what}: weight {first} is {float(weights[first])}", "weights are finite and > 0")
    total = float(weights.sum())
    if abs(total - 1) > 1e-6:
        raise InputError(f"{what}: weights sum to {total}", "divide them by their sum")
    return weights / total


def by_rows(f: Callable[[Tensor, Tensor], tuple[Tensor, ...]], x: Tensor, t: Tensor, size: int) -> tuple[Tensor, ...]:
    """Apply `f` to blocks of rows, so that its temporaries stay small.

    Args:
        f: maps ``(x [m, d], t [] or [m])`` to tensors ``[m, ...]``.
        x: ``[n, d]``.
        t: ``[]`` or ``[n]``.
        size: rows in a block, >= 1.
    """
    if x.shape[0] <= size:
        return f(x, t)
    blocks = [f(x[i : i + size], t[i : i + size] if t.ndim else t) for i in range(0, x.shape[0], size)]
    return tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))
