r"""C++ beside the package: built on first use when this machine has a compiler, silently absent otherwise.

Nothing is compiled at import or at installation. The first work that is large enough looks for a compiler (``$CXX``,
c++, g++, clang++), builds the one source it needs in seconds and keeps the library in ``$XDG_CACHE_HOME/driftlaw``
(default ``~/.cache/driftlaw``), under a hash of the source, the flags, the compiler's version and the architecture. A
library holds code for several instruction sets, between which the processor decides at load time, and portable code to
check them by. Before it is trusted, it is tried against the plain formula. Whatever fails, PyTorch or NumPy does the
same work and :meth:`Source.describe` says why.

``DRIFTLAW_NATIVE`` in the environment decides what may be used: ``0`` nothing, ``avx2`` or ``avx512`` no better
instruction set than that one, ``1`` (the default) the best one. A set that the processor lacks is refused by name.
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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from driftlaw.system.places import NoPlaceError, cache_folder, check_private

#: -ffast-math would break the exponential; multiply-adds may be fused, sums may not be reordered.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-w")
COMPILERS = ("c++", "g++", "clang++")
INSTRUCTION_SETS = ("portable", "AVX2", "AVX-512")
#: Values of DRIFTLAW_NATIVE: the best index into :data:`INSTRUCTION_SETS` that may be used, None for the processor's.
SWITCH: dict[str, int | None] = {"1": None, "on": None, "yes": None, "true": None, "": None, "avx2": 1, "avx512": 2}
OFF = ("0", "off", "no", "false")


class Library(NamedTuple):
    """A loaded library and the index of the instruction set in use, or None and the reason."""

    handle: ctypes.CDLL | None
    story: str
    isa: int = 0


class UnusableError(Exception):
    """Why there is no compiled path."""


class Source:
    """One C++ source and its library. It exports ``int driftlaw_isa()``: what the processor has, an index into
    :data:`INSTRUCTION_SETS`.

    Args:
        files: what is compiled, and the headers that it includes.
        use: what makes it worth building, such as "large sum".
        least: smallest index into :data:`INSTRUCTION_SETS` with which it is worth using.
        most: largest index for which it has code.
        declare: states the types of its functions.
        right: whether the loaded library agrees with the formula by a given instruction set.
    """

    def __init__(
        self,
        files: tuple[Path, ...],
        use: str,
        least: int,
        most: int,
        declare: Callable[[ctypes.CDLL], None],
        right: Callable[[ctypes.CDLL, int], bool],
    ) -> None:
        self.files, self.use, self.least, self.most = files, use, least, most
        self.declare, self.right = declare, right
        self._loaded: dict[int | None, Library] = {}

    def library(self) -> Library:
        """The library, compiled at the first call; without one, the reason."""
        try:
            allowed = _allowed()
        except UnusableError as reason:
            return Library(None, f"absent: {reason}")
        if allowed not in self._loaded:
            self._loaded[allowed] = self._load(allowed)
        return self._loaded[allowed]

    def available(self) -> bool:
        """Whether the compiled path can be used; compiles it at the first call."""
        return self.library().handle is not None

    def describe(self, build: bool = False, trial: bool = True) -> str:
        """One line for people: "AVX2, compiled by g++ 12.2.0", or "absent: " and the reason.

        Args:
            build: compile now if it was not compiled before; else only say that it will be.
            trial: compare the library with the formula; without it nothing but the library is loaded.
        """
        try:
            allowed = _allowed()
            compiler = find_compiler()
            if not build and allowed not in self._loaded and not self.path(compiler).exists():
                return f"not compiled yet: {compiler.name} will do it at the first {self.use}"
            if not trial and allowed not in self._loaded:
                _, _, isa = self._opened(allowed)
                return _story(compiler, isa)
        except (UnusableError, OSError, AttributeError) as reason:
            return f"absent: {reason}"
        return self.library().story

    def path(self, compiler: Compiler) -> Path:
        """Where the library of this source, compiler and architecture lives."""
        try:
            cache = cache_folder()
        except NoPlaceError as error:
            raise UnusableError(str(error)) from error
        key = hashlib.sha256(b"".join(file.read_bytes() for file in self.files))
        for part in (*FLAGS, *compiler.command, compiler.version, platform.system(), platform.machine()):
            key.update(b"\0" + part.encode())
        return cache / f"{self.files[0].stem}-{key.hexdigest()[:24]}.so"

    def _load(self, allowed: int | None) -> Library:
        try:
            compiler, handle, isa = self._opened(allowed)
            if not self.right(handle, isa):
                raise UnusableError(f"{compiler.name} built a library that is wrong")
        except (UnusableError, OSError, AttributeError, subprocess.SubprocessError) as reason:
            return Library(None, f"absent: {reason}")
        return Library(handle, _story(compiler, isa), isa)

    def _opened(self, allowed: int | None) -> tuple[Compiler, ctypes.CDLL, int]:
        """The library, compiled if need be, and the instruction set that it will use; not yet tried on numbers."""
        compiler = find_compiler()
        path = self.path(compiler)
        if not _whole(path):  # loading a library that was cut short would end the process
            self.build(compiler, path)
        try:
            handle = self._open(path)
        except OSError:  # a damaged file: once more
            self.build(compiler, path)
            handle = self._open(path)
        processor = handle.driftlaw_isa()
        if allowed is not None and processor < allowed:
            raise UnusableError(f"DRIFTLAW_NATIVE asks for {INSTRUCTION_SETS[allowed]}, which this processor lacks")
        isa = min(processor, self.most, self.most if allowed is None else allowed)
        if isa < self.least:
            raise UnusableError("this processor has neither AVX2 nor AVX-512, and without them PyTorch is faster")
        return compiler, handle, isa

    def build(self, compiler: Compiler, path: Path) -> None:
        """Compile into a temporary file beside `path`, then rename: other processes see the whole file or none.

        Raises:
            UnusableError: the compiler failed, or the cache cannot be written.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
                target = Path(folder) / path.name
                subprocess.run(
                    [*compiler.command, *FLAGS, str(self.files[0]), "-o", str(target)],
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=True,
                )
                mark = Path(folder) / "sha256"
                mark.write_text(hashlib.sha256(target.read_bytes()).hexdigest())
                target.replace(path)
                mark.replace(path.with_suffix(".sha256"))
        except subprocess.CalledProcessError as failure:
            first = (failure.stderr or "").strip().splitlines() or [f"exit code {failure.returncode}"]
            raise UnusableError(f"{compiler.name} failed: {first[0]}") from failure
        except OSError as failure:
            raise UnusableError(f"{path.parent} cannot be used ({failure.strerror}); set XDG_CACHE_HOME") from failure

    def _open(self, path: Path) -> ctypes.CDLL:
        handle = ctypes.CDLL(str(path))
        handle.driftlaw_isa.argtypes, handle.driftlaw_isa.restype = [], ctypes.c_int
        self.declare(handle)
        return handle


def _whole(path: Path) -> bool:
    """Whether a library has the hash that lies beside it, and nobody else could have written it."""
    try:
        check_private(path)
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, NoPlaceError):
        return False


class Compiler(NamedTuple):
    """A command and what it answers to ``--version``."""

    command: tuple[str, ...]
    version: str

    @property
    def name(self) -> str:
        """Name and version number, such as "g++ 12.2.0"."""
        number = re.search(r"\d+(\.\d+)+", self.version)
        return " ".join([Path(self.command[0]).name, *([number[0]] if number else [])])


@functools.cache
def find_compiler() -> Compiler:
    """The first compiler that answers ``--version``.

    Raises:
        UnusableError: none does.
    """
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        command = tuple(shlex.split(name))
        if not command or shutil.which(command[0]) is None:
            continue
        try:
            answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler(command, answer.stdout.splitlines()[0] if answer.stdout else "")
    raise UnusableError("no C++ compiler")


def _allowed() -> int | None:
    """Best index into :data:`INSTRUCTION_SETS` that DRIFTLAW_NATIVE allows, None for the processor's best."""
    value = os.environ.get("DRIFTLAW_NATIVE", "").strip().lower()
    if value in OFF:
        raise UnusableError("switched off by DRIFTLAW_NATIVE")
    if value not in SWITCH:
        raise UnusableError(f"DRIFTLAW_NATIVE is {value!r}; it can be 0, 1, avx2 or avx512")
    return SWITCH[value]


def _story(compiler: Compiler, isa: int) -> str:
    return f"{INSTRUCTION_SETS[isa]}, compiled by {compiler.name}"
