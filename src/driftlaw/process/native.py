r"""The compiled twin of the hot sum: kernel_sum.cpp, built on first use when this machine has a C++ compiler.

Nothing is compiled at import or at installation. The first large float32 sum looks for a compiler (``$CXX``, c++, g++,
clang++), builds ``kernel_sum.cpp`` in seconds and keeps the library in ``$XDG_CACHE_HOME/driftlaw`` (default
``~/.cache/driftlaw``), under a hash of the source, the flags, the compiler's version and the architecture. It holds
AVX2 and AVX-512 code, between which the processor decides at load time, and portable code to check them by. Before it
is trusted, it is tried against the formula in float64. Whatever fails, the sums are done by PyTorch and
:func:`describe` says why.

``DRIFTLAW_NATIVE=0`` in the environment switches it off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SOURCE, HEADER = (Path(__file__).with_name(name) for name in ("kernel_sum.cpp", "kernel_lanes.hpp"))
#: -ffast-math would break the exponential; multiply-adds may be fused, sums may not be reordered.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-w")
COMPILERS = ("c++", "g++", "clang++")
INSTRUCTION_SETS = ("portable", "AVX2", "AVX-512")
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


class Library(NamedTuple):
    """A loaded library, or None and the reason."""

    handle: ctypes.CDLL | None
    story: str


class _UnusableError(Exception):
    """Why there is no compiled path."""


class Packed:
    """Centres in the order and layout of the compiled path.

    Args:
        centres: ``[N, d]``; precision is best when they are given relative to their mean.
        weights: ``[N]``, >= 0 with sum 1; None for 1/N each.

    Raises:
        RuntimeError: there is no compiled path; ask :func:`available` first.
    """

    def __init__(self, centres: Tensor, weights: Tensor | None = None) -> None:
        handle, story = _library()
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
            instruction_set: best index into :data:`INSTRUCTION_SETS` that may be used.
        """
        m = len(x)
        x, a, v = (z.detach().double().contiguous() for z in (x, a.expand(m), v.expand(m)))
        log_sum, square, lost = (torch.empty(m, dtype=torch.float64) for _ in range(3))
        mean = torch.empty(m, self.d, dtype=torch.float64)
        threads = max(1, min(torch.get_num_threads(), m * self.n * (self.d + 4) // _WORK_PER_THREAD))
        inputs, outputs = (x, a, v), (log_sum, mean, square, lost)
        failed = self._handle.driftlaw_sums(
            self._pack, *map(_pointer, inputs), m, threads, instruction_set, *map(_pointer, outputs)
        )
        if failed:
            raise MemoryError(f"no memory for the kernel sums of {m} points")
        return NativeSums(*outputs)


def available() -> bool:
    """Whether the compiled path can be used; compiles it at the first call."""
    return _library().handle is not None


def describe(build: bool = False) -> str:
    """One line for people: "AVX2, compiled by g++ 12.2.0", or "absent: " and the reason.

    Args:
        build: compile now if it was not compiled before; else only say that it will be.
    """
    try:
        _check_switch()
        compiler = _compiler()
        if not build and not _load.cache_info().currsize and not _path(compiler).exists():
            return f"not compiled yet: {_name(compiler)} will do it at the first large sum"
    except (_UnusableError, OSError) as reason:
        return f"absent: {reason}"
    return _library().story


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _check_switch() -> None:
    if os.environ.get("DRIFTLAW_NATIVE", "1").strip().lower() in ("0", "off", "no", "false"):
        raise _UnusableError("switched off by DRIFTLAW_NATIVE")


def _library() -> Library:
    try:
        _check_switch()
    except _UnusableError as reason:
        return Library(None, f"absent: {reason}")
    return _load()


@functools.cache
def _load() -> Library:
    try:
        compiler = _compiler()
        path = _path(compiler)
        if not path.exists():
            _build(compiler, path)
        try:
            handle = _open(path)
        except OSError:  # a damaged file: once more
            _build(compiler, path)
            handle = _open(path)
        if handle.driftlaw_isa() == 0:
            raise _UnusableError("this processor has neither AVX2 nor AVX-512, and without them PyTorch is faster")
        library = Library(handle, f"{INSTRUCTION_SETS[handle.driftlaw_isa()]}, compiled by {_name(compiler)}")
    except (_UnusableError, OSError, AttributeError, subprocess.SubprocessError) as reason:
        return Library(None, f"absent: {reason}")
    return library if _right(handle) else Library(None, f"absent: {_name(compiler)} built a library that is wrong")


class _Compiler(NamedTuple):
    command: tuple[str, ...]
    version: str


@functools.cache
def _compiler() -> _Compiler:
    """The first compiler that answers ``--version``.

    Raises:
        _UnusableError: none does.
    """
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        command = tuple(shlex.split(name))
        if not command or shutil.which(command[0]) is None:
            continue
        try:
            answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return _Compiler(command, answer.stdout.splitlines()[0] if answer.stdout else "")
    raise _UnusableError("no C++ compiler")


def _name(compiler: _Compiler) -> str:
    """Name and version number, such as "g++ 12.2.0"."""
    number = re.search(r"\d+(\.\d+)+", compiler.version)
    return " ".join([Path(compiler.command[0]).name, *([number[0]] if number else [])])


def _path(compiler: _Compiler) -> Path:
    """Where the library of this source, compiler and architecture lives."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftlaw"
    key = hashlib.sha256(SOURCE.read_bytes() + HEADER.read_bytes())
    for part in (*FLAGS, *compiler.command, compiler.version, platform.system(), platform.machine()):
        key.update(b"\0" + part.encode())
    return cache / f"kernel_sum-{key.hexdigest()[:24]}.so"


def _build(compiler: _Compiler, path: Path) -> None:
    """Compile into a temporary file beside `path`, then rename: other processes see the whole file or none.

    Raises:
        _UnusableError: the compiler failed, or the cache cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
            target = Path(folder) / path.name
            subprocess.run(
                [*compiler.command, *FLAGS, str(SOURCE), "-o", str(target)],
                capture_output=True,
                text=True,
                timeout=600,
                check=True,
            )
            target.replace(path)
    except subprocess.CalledProcessError as failure:
        first = (failure.stderr or "").strip().splitlines() or [f"exit code {failure.returncode}"]
        raise _UnusableError(f"{_name(compiler)} failed: {first[0]}") from failure
    except OSError as failure:
        raise _UnusableError(f"{path.parent} cannot be used ({failure.strerror}); set XDG_CACHE_HOME") from failure


def _open(path: Path) -> ctypes.CDLL:
    handle = ctypes.CDLL(str(path))
    pointer, integer, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    handle.driftlaw_isa.argtypes, handle.driftlaw_isa.restype = [], number
    handle.driftlaw_pack.argtypes, handle.driftlaw_pack.restype = [pointer, pointer, integer, integer], pointer
    handle.driftlaw_free.argtypes, handle.driftlaw_free.restype = [pointer], None
    handle.driftlaw_sums.argtypes = [*[pointer] * 4, integer, number, number, *[pointer] * 4]
    handle.driftlaw_sums.restype = number
    return handle


def _right(handle: ctypes.CDLL) -> bool:
    """Whether the library agrees with the formula in float64 on 5 points and 70 centres."""
    c, x = (torch.linspace(-2, 2, 3 * n, dtype=torch.float64).mul(7).sin().reshape(n, 3) for n in (70, 5))
    a, v = torch.linspace(0.9, 0.3, 5, dtype=torch.float64), torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    log_sum, square, lost = (torch.empty(5, dtype=torch.float64) for _ in range(3))
    mean = torch.empty(5, 3, dtype=torch.float64)
    pack = ctypes.c_void_p(handle.driftlaw_pack(_pointer(c), None, 70, 3))
    outputs = (log_sum, mean, square, lost)
    failed = handle.driftlaw_sums(pack, _pointer(x), _pointer(a), _pointer(v), 5, 1, 2, *map(_pointer, outputs))
    handle.driftlaw_free(pack)
    logits = -(x.unsqueeze(1) - a.reshape(-1, 1, 1) * c).square().sum(2) / (2 * v.unsqueeze(1))
    r = logits.softmax(1)
    pairs = ((log_sum, (logits.exp().mean(1)).log()), (mean, r @ c), (square, r @ c.square().sum(1)))
    return not failed and all(torch.allclose(got, wanted, rtol=1e-5, atol=1e-5) for got, wanted in pairs)
