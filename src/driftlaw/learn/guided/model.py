"""A model whose score is extrapolated from two: see :mod:`driftlaw.learn.guided.learner`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.errors import InputError
from driftlaw.learn.estimator import Model
from driftlaw.process.draws import own_generator
from driftlaw.process.sampler import sample
from driftlaw.process.schedule import karras_grid
from driftlaw.process.score import Time

#: Rows carried at once.
BATCH = 2048


class GuidedModel:
    """The score (1 + w) s_base - w s_self and the law that its sampler draws from.

    Args:
        base: fitted to the rows.
        other: fitted to the base's samples.
        weight: w >= 0.
        shape: of one row.
        t0: OU time of the sampled law, > 0.
        T: where sampling starts, at N(0, I).
        solver: "heun", "multistep" or "sde".
        steps: of the solver.
        training: numbers of both fits.
    """

    def __init__(
        self,
        base: Model,
        other: Model,
        weight: float,
        shape: tuple[int, ...],
        t0: float,
        T: float,
        solver: str = "heun",
        steps: int = 40,
        training: Mapping[str, float] | None = None,
    ) -> None:
        self.base, self.other, self.weight, self.shape = base, other, weight, shape
        self.t0, self.T, self.solver, self.steps = t0, T, solver, steps
        self.training = dict(training or {})

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The extrapolated score at OU time t, shape of `x`."""
        return (1 + self.weight) * self.base.score(x, t) - self.weight * self.other.score(x, t)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws, ``[n, ...]`` float32: from N(0, I) at T down to t0. Bias: the solver's, and that of the start.

        Raises:
            InputError: n < 1, or a weight so large that samples are not finite.
        """
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        generator = own_generator(generator)
        start = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        method = "exponential_integrator" if self.solver == "sde" else self.solver
        grid = karras_grid(self.T, self.t0, self.steps)
        try:
            parts = [
                sample(self, x, grid, method, seeding.generator(seed, "chunk", c)).cpu()
                for c, x in enumerate(torch.split(start, BATCH))
            ]
        except InputError as error:
            raise InputError(f"sampling with guidance {self.weight} failed: {error.what}", "lower weight") from error
        return torch.cat(parts).float()

    def state(self) -> dict[str, Tensor]:
        """Tensors of both models."""
        parts = {"base": self.base.state(), "self": self.other.state()}
        return {f"{name}.{k}": v for name, state in parts.items() for k, v in state.items()}
