r"""The compiled twin of the hot sum: kernel_sum.cpp, built at the first large float32 sum.

See :mod:`driftlaw.native.compiled` for building and verification. If that fails, PyTorch does the sums and
:func:`describe` says why.
"""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from driftlaw.native.compiled import INSTRUCTION_SETS, Source

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INSTRUCTION_SETS", "SOURCE", "NativeSums", "Packed", "available", "describe"]
#: Below this many multiply-adds per thread, starting a thread costs more than it saves.
_WORK_PER_THREAD = 2_000_000


class NativeSums(NamedTuple):
    r"""Results for ``m`` points, float64.

    Args:
        log_sum: :math:`\log \sum_k w_k e^{-|x - a c_k|^2/2v}`, ``[m]``.
        mean: responsibility-weighted mean of the centres, ``[m, d]``.
        square: responsibility-weighted mean of :math:`|c|^2`, ``[m]``.
        lost: the largest exponent, in nats, whose float32 rounding the result suffers from, ``[m]``.
    """

    log_sum: Tensor
    mean: Tensor
    square: Tensor
    lost: Tensor


class Packed:
    """Centres in the order and layout of the compiled path.

    Args:
        centres: ``[N, d]``; precision is best when they are given relative to their mean.
        weights: ``[N]``, >= 0 with sum 1; None for 1/N each.

    Raises:
        RuntimeError: there is no compiled path; ask :func:`available` first.
    """

    def __init__(self, centres: Tensor, weights: Tensor | None = None) -> None:
        handle, story, self._isa = SOURCE.library()
        if handle is None:
            raise RuntimeError(f"the compiled kernel sum is {story}")
        centres = centres.double().contiguous()
        weights = None if weights is None else weights.double().contiguous()
        self._handle, (self.n, self.d) = handle, centres.shape
        pack = handle.driftlaw_pack(_pointer(centres), _pointer(weights), self.n, self.d)
        if not pack:
            raise MemoryError(f"no memory for {self.n} packed centres")
        self._pack = ctypes.c_void_p(pack)
        weakref.finalize(self, handle.driftlaw_free, self._pack)

    def sums(self, x: Tensor, a: Tensor, v: Tensor, instruction_set: int = 2) -> NativeSums:
        """The sums of the module docstring of kernel_sum.py, by float32 arithmetic with float64 totals.

        Args:
            x: ``[m, d]``.
            a: factor of the centres, ``[]`` or ``[m]``.
            v: variance of the kernels, ``[]`` or ``[m]``.
            instruction_set: best index into :data:`INSTRUCTION_SETS` that may be used; DRIFTLAW_NATIVE may allow less.
        """
        import torch

        m = len(x)
        x, a, v = (z.detach().double().contiguous() for z in (x, a.expand(m), v.expand(m)))
        log_sum, square, lost = (torch.empty(m, dtype=torch.float64) for _ in range(3))
        mean = torch.empty(m, self.d, dtype=torch.float64)
        threads = max(1, min(torch.get_num_threads(), m * self.n * (self.d + 4) // _WORK_PER_THREAD))
        inputs, outputs = (x, a, v), (log_sum, mean, square, lost)
        failed = self._handle.driftlaw_sums(
            self._pack, *map(_pointer, inputs), m, threads, min(instruction_set, self._isa), *map(_pointer, outputs)
        )
        if failed:
            raise MemoryError(f"no memory for the kernel sums of {m} points")
        return NativeSums(*outputs)


def available() -> bool:
    """Whether the compiled path can be used; compiles it at the first call."""
    return SOURCE.available()


def describe(build: bool = False) -> str:
    """One line for people, as :meth:`driftlaw.native.compiled.Source.describe`."""
    return SOURCE.describe(build)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _declare(handle: ctypes.CDLL) -> None:
    pointer, integer, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    handle.driftlaw_pack.argtypes, handle.driftlaw_pack.restype = [pointer, pointer, integer, integer], pointer
    handle.driftlaw_free.argtypes, handle.driftlaw_free.restype = [pointer], None
    handle.driftlaw_sums.argtypes = [*[pointer] * 4, integer, number, number, *[pointer] * 4]
    handle.driftlaw_sums.restype = number


def _right(handle: ctypes.CDLL, isa: int) -> bool:
    """Whether the library agrees with the formula in float64 on 5 points and 70 centres."""
    import torch

    c, x = (torch.linspace(-2, 2, 3 * n, dtype=torch.float64).mul(7).sin().reshape(n, 3) for n in (70, 5))
    a, v = torch.linspace(0.9, 0.3, 5, dtype=torch.float64), torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    log_sum, square, lost = (torch.empty(5, dtype=torch.float64) for _ in range(3))
    mean = torch.empty(5, 3, dtype=torch.float64)
    pack = ctypes.c_void_p(handle.driftlaw_pack(_pointer(c), None, 70, 3))
    outputs = (log_sum, mean, square, lost)
    failed = handle.driftlaw_sums(pack, _pointer(x), _pointer(a), _pointer(v), 5, 1, isa, *map(_pointer, outputs))
    handle.driftlaw_free(pack)
    logits = -(x.unsqueeze(1) - a.reshape(-1, 1, 1) * c).square().sum(2) / (2 * v.unsqueeze(1))
    r = logits.softmax(1)
    pairs = ((log_sum, (logits.exp().mean(1)).log()), (mean, r @ c), (square, r @ c.square().sum(1)))
    return not failed and all(torch.allclose(got, wanted, rtol=1e-5, atol=1e-5) for got, wanted in pairs)


_HERE = Path(__file__).parent
#: The library. Without vector instructions PyTorch is faster.
SOURCE = Source((_HERE / "kernel_sum.cpp", _HERE / "kernel_lanes.hpp"), "large sum", 1, 2, _declare, _right)
