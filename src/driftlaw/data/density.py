r"""A target whose density is known: an endless source of independent draws.

Wraps any law :math:`p` with ``sample(n, generator)`` and ``log_prob(x)``. Every draw is fresh, so `size` is None and
the held-out rows are just more draws, from the generator that the caller gives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from driftlaw.data.source import Batch
from driftlaw.errors import ConfigError, InputError
from driftlaw.process.score import Law
from driftlaw.seeding import generator as stream


class DensitySource:
    """A law as a :class:`~driftlaw.data.source.DataSource`.

    Args:
        law: anything with ``sample(n, generator) -> [n, ...]`` and ``log_prob(x) -> [n]`` (nats).
        name: what messages and reports call it.

    Raises:
        InputError: the law's draws are not rows of numbers, or not finite.

    Example:
        >>> from driftlaw.process.laws.mixture import GaussianMixture
        >>> source = DensitySource(GaussianMixture.paper(), "gmm")
        >>> source.shape, source.size
        ((10,), None)
    """

    def __init__(self, law: Law, name: str) -> None:
        probe = law.sample(1, stream(0, "data", "probe"))
        if probe.ndim not in (2, 4) or probe.shape[0] != 1:
            raise InputError(
                f"one draw of the law {name!r} has shape {tuple(probe.shape)}",
                "sample(n, generator) must return [n, d] vectors or [n, c, h, w] images",
            )
        if not bool(torch.isfinite(probe).all()):
            raise InputError(f"the law {name!r} draws values that are not finite", "check its parameters")
        self.law = law
        self.name = name
        self.shape: tuple[int, ...] = tuple(probe.shape[1:])
        self.size: int | None = None
        self.classes: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"DensitySource({self.name!r}, shape={self.shape})"

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """Draw `n` independent rows of the law."""
        if n < 0:
            raise InputError(f"{n} rows of {self.name} were asked for", "ask for 0 or more")
        if n == 0:
            return Batch(torch.empty((0, *self.shape)))
        return Batch(self.law.sample(n, generator).to(torch.float32))

    def rows(self, index: Tensor) -> Batch:
        """A density has no rows.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.name} is a density and has no numbered rows", "use draw(n, generator)")

    def held_out(self, n: int, generator: torch.Generator) -> Batch:
        """`n` independent draws: with a density nothing can overlap."""
        return self.draw(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of the target, ``[n]``, nats."""
        return self.law.log_prob(x)

    def config(self) -> dict[str, Any]:
        """Description that :func:`driftlaw.data.build` inverts; only Gaussian mixtures have one.

        Raises:
            ConfigError: another law.
        """
        from driftlaw.process.laws.mixture import GaussianMixture

        if not isinstance(self.law, GaussianMixture):
            raise ConfigError(
                f"the law {self.name!r} ({type(self.law).__name__}) cannot be written to a study file",
                "use a GaussianMixture, or save draws with numpy.save and give their path: kind: array, path: FILE.npy",
            )
        return {**self.law.config(), "kind": "gmm"}
