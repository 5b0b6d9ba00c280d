r"""A neural potential: what polynomials and waves leave, learned by gradient steps.

:math:`\phi(x, t)` is a small network of the principal coordinates and of log t. It is trained on the objective J of
:mod:`driftlaw.measure.critic` in the denoising form (C = I), which asks for no second derivative: over an antithetic
pair, :math:`\tfrac1{2\sigma} z\cdot(\nabla\phi(x_+) - \nabla\phi(x_-))` is Hutchinson's Laplacian with the step
:math:`\sigma`, so that its variance stays bounded at small times. A part of the fitting rows chooses the step at
which to stop and how far to shrink; a network that finds nothing there is shrunk to zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from driftlaw.measure.critic import Draws, Frame
from driftlaw.process.schedule import alpha, sigma, variance

#: Hidden layers and how many validations a fit makes.
LAYERS, CHECKS = 2, 10


@dataclass(frozen=True)
class Network:
    """Potential sd phi_theta(y / sd, log t) / sigma, of the principal coordinates y and their mean deviation sd.

    Args:
        frame: where y comes from.
        weights: matrices ``[out, in]`` and biases ``[out]``, in turn; float32.
        scale: factor of the potential.
    """

    frame: Frame
    weights: tuple[Tensor, ...]
    scale: float = 1.0

    @classmethod
    def initial(cls, frame: Frame, width: int, g: torch.Generator) -> Network:
        """A network whose potential is zero, because the last layer is."""
        sizes = [frame.size + 3, *[width] * LAYERS, 1]
        weights: list[Tensor] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            size = 0.0 if i == LAYERS else 1 / math.sqrt(inputs)
            weights += [size * torch.randn(outputs, inputs, generator=g), torch.zeros(outputs)]
        return cls(frame, tuple(weights))

    def gradient(self, draws: Draws, training: bool = False) -> Tensor:
        """Gradient in principal coordinates, ``[2m, k]`` float64, with a graph to the weights when `training`."""
        a2, s2 = alpha(draws.t).square(), variance(draws.t)
        sd = (a2 * self.frame.variances.mean() + s2).sqrt()[:, None].float()
        with torch.enable_grad():
            y = (self.frame.coordinates(draws).float() / sd).requires_grad_()
            clock = draws.t.log()[:, None].float() / 3
            h = torch.cat([y, clock, clock.sin(), clock.cos()], 1)
            for i in range(0, len(self.weights), 2):
                h = functional.linear(h, self.weights[i], self.weights[i + 1])
                if i < 2 * LAYERS:
                    h = functional.silu(h)
            (slope,) = torch.autograd.grad(h.sum(), y, create_graph=training)
            return slope.double() * (self.scale / sigma(draws.t))[:, None]

    def __call__(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Gradient ``[2m, d]`` and Xi in the denoising form."""
        gradient = self.gradient(draws) @ self.frame.basis.mT
        return gradient, (draws.z * gradient).sum(1) / sigma(draws.t)


def fit_network(
    frame: Frame, train: Draws, test: Draws, width: int, steps: int, batch: int, g: torch.Generator
) -> Network:
    """Adam with a cosine rate on `train`; the best state and its best factor in [0, 1] on `test`.

    Args:
        frame: mean and directions of the data.
        train: draws whose ``score`` is what the critics before left.
        test: the same of other rows.
        width: hidden width.
        steps: optimisation steps.
        batch: antithetic pairs of a step.
        g: source of weights and batches.
    """
    start = Network.initial(frame, width, g)
    weights = [w.requires_grad_() for w in start.weights]
    optimiser = torch.optim.Adam(weights, lr=3e-3)
    targets = _targets(frame, train)
    pairs = len(train.t) // 2
    best, best_gain = Network(frame, tuple(w.detach() for w in weights), 0.0), 0.0
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        index = torch.randint(pairs, (min(batch, pairs),), generator=g)
        index = torch.cat([index, index + pairs])
        part = rows_of(train, index)
        with torch.enable_grad():
            gradient = Network(frame, tuple(weights)).gradient(part, training=True)
            loss = part.weight @ (gradient.square() - 2 * gradient * targets[index]).sum(1) / part.weight.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % max(1, steps // CHECKS) == 0:
            now = Network(frame, tuple(w.detach().clone() for w in weights))
            linear, square = _on(now, test)
            factor = min(max(linear / square, 0.0), 1.0) if square > 0 else 0.0
            gain = 2 * factor * linear - factor**2 * square
            if gain > best_gain:
                best, best_gain = Network(frame, now.weights, factor), gain
    return best


def rows_of(draws: Draws, index: Tensor) -> Draws:
    """Some of the draws."""
    return Draws(*(v[index] for v in (draws.x, draws.z, draws.t, draws.weight, draws.score)))


def _targets(frame: Frame, draws: Draws) -> Tensor:
    """What the gradient is regressed on: (score + z/sigma) in principal coordinates, ``[2m, k]``."""
    return (draws.score + draws.z / sigma(draws.t)[:, None]) @ frame.basis


def _on(network: Network, draws: Draws, block: int = 8192) -> tuple[float, float]:
    """Weighted sums of target.gradient and |gradient|^2."""
    linear = square = 0.0
    for index in torch.split(torch.arange(len(draws.t)), block):
        part = rows_of(draws, index)
        gradient = network.gradient(part)
        linear += float(part.weight @ (_targets(network.frame, part) * gradient).sum(1))
        square += float(part.weight @ gradient.square().sum(1))
    return linear, square


def join(parts: Sequence[Draws]) -> Draws:
    """Draws one after the other, all +z before all -z."""

    def merge(*tensors: Tensor) -> Tensor:
        halves = [v.chunk(2) for v in tensors]
        return torch.cat([h[0] for h in halves] + [h[1] for h in halves])

    columns = zip(*((p.x, p.z, p.t, p.weight, p.score) for p in parts), strict=True)
    return Draws(*(merge(*column) for column in columns))
