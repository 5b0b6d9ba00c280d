"""The contract of a source: fresh rows from a generator, held-out rows apart from them, labels that have names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.data.source import Batch
from driftlaw.errors import DriftlawError
from driftlaw.kinds import SOURCES
from driftlaw.numerics.rows import check_finite
from driftlaw.testing.checking import check_config, report, require, untouched


def check_source(source: Any, *, n: int = 40, seed: int = 0) -> None:
    """Check a source of data.

    Checked: ``name``, ``shape``, ``size`` and ``classes`` are there; ``draw`` gives finite float32 rows, which the
    generator alone decides, distinct ones of a finite source; ``rows(index)`` gives rows by number; ``held_out`` gives
    rows that training never sees; labels are numbers of ``classes``; ``config()`` is plain data, or is refused.

    Args:
        source: the source.
        n: rows that are drawn (fewer of a smaller source).
        seed: of the draws.

    Raises:
        ConformanceError: everything that failed.

    Example:
        >>> from driftlaw.data.builtin import digits
        >>> check_source(digits())
    """
    run = _Run(source, n, seed)
    report(source, [run.attributes])
    report(source, [run.draws, run.numbered, run.apart, run.settings])


class _Run:
    def __init__(self, source: Any, n: int, seed: int) -> None:
        self.source, self.n, self.seed = source, n, seed

    def _stream(self, *names: str | int) -> torch.Generator:
        return seeding.generator(self.seed, "testing", *names)

    def attributes(self) -> None:
        s = self.source
        missing = [k for k in ("name", "shape", "size", "classes") if not hasattr(s, k)]
        missing += [k for k in ("draw", "rows", "held_out", "config") if not callable(getattr(s, k, None))]
        require(not missing, f"it has no {', '.join(missing)}")
        require(isinstance(s.name, str), "name is no text")
        fits = isinstance(s.shape, tuple) and len(s.shape) in (1, 3) and all(isinstance(k, int) for k in s.shape)
        require(fits, f"shape is {s.shape!r}: (d,) or (c, h, w) was expected")
        require(s.size is None or (isinstance(s.size, int) and s.size >= 1), f"size is {s.size!r}: a number or None")
        require(s.classes is None or all(isinstance(c, str) for c in s.classes), "classes are names, or None")
        if s.size is not None:
            held = getattr(s, "held_out_size", None)
            require(isinstance(held, int), "a finite source says how many rows it holds out: held_out_size")
            self.n = min(self.n, s.size)

    def draws(self) -> None:
        with untouched("draw"):
            a = self._good(self.source.draw(self.n, self._stream("draw")), self.n, "draw")
        b = self.source.draw(self.n, self._stream("draw"))
        require(torch.equal(a.x, b.x), "two draws from equal generators differ: draw from the generator alone")
        same = b.y is None if a.y is None else b.y is not None and torch.equal(a.y, b.y)
        require(same, "labels of equal draws differ")
        if self.n > 8:
            c = self.source.draw(self.n, self._stream("draw", 1))
            require(not torch.equal(a.x, c.x), "draws from different generators are the same")

    def numbered(self) -> None:
        if self.source.size is None:
            return
        index = torch.arange(self.n)
        a = self._good(self.source.rows(index), self.n, "rows")
        b = self._good(self.source.rows(index.flip(0)), self.n, "rows")
        same = torch.equal(a.x, b.x.flip(0)) and (a.y is None or torch.equal(a.y, b.y.flip(0)))  # type: ignore[union-attr]
        require(same, "rows(index) does not follow the order of its index")

    def apart(self) -> None:
        size = self.source.size
        count = self.n if size is None else min(self.n, self.source.held_out_size)
        held = self._good(self.source.held_out(count, self._stream("held out")), count, "held_out")
        if size is None or not count:
            return
        train = self.source.rows(torch.arange(min(size, 5_000))).x
        seen = {_key(row) for row in train}
        repeated = 1 - len(seen) / len(train)  # rows of discrete data repeat
        if repeated > 0.5:
            return
        found = sum(_key(row) in seen for row in held.x) / count
        limit = repeated + 5 * math.sqrt(max(repeated, 1 / count) / count)
        require(found <= min(limit, 0.99), f"{found:.0%} of the held-out rows are among those that are trained on")

    def settings(self) -> None:
        check_config(self.source, SOURCES, in_memory=True)

    def _good(self, given: Any, n: int, what: str) -> Batch:
        require(isinstance(given, Batch), f"{what} gives a {type(given).__name__}, not a Batch")
        batch: Batch = given
        x = batch.x
        require(isinstance(x, Tensor) and x.dtype == torch.float32, f"{what} gives rows that are no float32 tensor")
        expected = (n, *self.source.shape)
        require(tuple(x.shape) == expected, f"{what} gives {list(x.shape)}, {list(expected)} was expected")
        try:
            check_finite(x, f"rows of {what}", "")
        except DriftlawError as error:
            raise AssertionError(str(error)) from None
        if self.source.classes is not None and batch.y is not None:
            fits = batch.y.dtype == torch.int64 and tuple(batch.y.shape) == (n,)
            require(fits, f"{what} gives labels {batch.y.dtype} {list(batch.y.shape)}: int64, one a row, was expected")
            inside = n == 0 or (int(batch.y.min()) >= 0 and int(batch.y.max()) < len(self.source.classes))
            require(inside, f"{what} gives labels outside 0..{len(self.source.classes) - 1}")
        require(batch.y is None or self.source.classes is not None, f"{what} gives labels, and classes has no names")
        return batch


def _key(row: Tensor) -> bytes:
    return bytes(row.contiguous().numpy().tobytes())
