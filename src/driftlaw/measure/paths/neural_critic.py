r"""A neural potential: what polynomials and waves leave, learned by gradient steps.

:math:`\phi(x, t)` is a small network of the principal coordinates and of log t. It is trained on the objective J of
:mod:`driftlaw.measure.paths.critic` in the denoising form (C = I), which asks for no second derivative: over an
antithetic pair, :math:`\tfrac1{2\sigma} z\cdot(\nabla\phi(x_+) - \nabla\phi(x_-))` is Hutchinson's Laplacian with the
step :math:`\sigma`, so that its variance stays bounded at small times. A part of the fitting rows chooses the step at
which to stop and how far to shrink; a network that finds nothing there is shrunk to zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from driftlaw.measure.paths.critic import Critic, Draws, Frame
from driftlaw.process.schedule import alpha, sigma, variance

#: Hidden layers, learning rate, and how many validations a fit makes.
LAYERS, RATE, CHECKS = 2, 3e-3, 10


@dataclass(frozen=True)
class Examples:
    """What a network learns from: antithetic pairs in principal coordinates.

    Args:
        y: ``[m, 2, k]`` float32 coordinates.
        target: ``[m, 2, k]`` float32, (learned score minus earlier critics + z/sigma) in the same coordinates.
        t: ``[m]``.
        weight: ``[m]``, weights of time.
    """

    y: Tensor
    target: Tensor
    t: Tensor
    weight: Tensor

    @classmethod
    def of(cls, frame: Frame, draws: Draws, before: Sequence[Critic] = ()) -> Examples:
        """The examples of `draws`, whose first half pairs with the second."""
        m = len(draws.t) // 2
        target = (draws.residual(before) + draws.z / sigma(draws.t)[:, None]) @ frame.basis
        y, target = (v.float().reshape(2, m, -1).transpose(0, 1) for v in (frame.coordinates(draws), target))
        return cls(y, target, draws.t[:m], draws.weight[:m])

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        """The networks of all folds as one potential."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: Tensor) -> Examples:
        return Examples(self.y[index], self.target[index], self.t[index], self.weight[index])


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

    def gradient(self, y: Tensor, t: Tensor, training: bool = False) -> Tensor:
        """Gradient in principal coordinates, shape of ``y [..., k]``, with a graph to the weights when `training`."""
        time = t.reshape(t.shape + (1,) * (y.ndim - t.ndim)).expand(*y.shape[:-1], 1)
        sd = (alpha(time).square() * self.frame.variances.mean() + variance(time)).sqrt().float()
        clock = time.log().float() / 3
        with torch.enable_grad():
            unit = (y.float() / sd).requires_grad_()
            h = torch.cat([unit, clock, clock.sin(), clock.cos()], -1)
            for i in range(0, len(self.weights), 2):
                h = functional.linear(h, self.weights[i], self.weights[i + 1])
                if i < 2 * LAYERS:
                    h = functional.silu(h)
            (slope,) = torch.autograd.grad(h.sum(), unit, create_graph=training)
            return slope * (self.scale / sigma(time)).float()

    def __call__(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Gradient ``[2m, d]`` and Xi in the denoising form."""
        gradient = self.gradient(self.frame.coordinates(draws), draws.t).double() @ self.frame.basis.mT
        return gradient, (draws.z * gradient).sum(1) / sigma(draws.t)


def fit_network(
    frame: Frame, train: Examples, test: Examples, width: int, steps: int, batch: int, g: torch.Generator
) -> Network:
    """Adam with a cosine rate on `train`; the best state and its best factor in [0, 1] on `test`.

    Args:
        frame: mean and directions of the data.
        train: examples to learn from.
        test: examples of other rows.
        width: hidden width.
        steps: optimisation steps.
        batch: antithetic pairs of a step.
        g: source of weights and batches.
    """
    weights = [w.requires_grad_() for w in Network.initial(frame, width, g).weights]
    optimiser = torch.optim.Adam(weights, lr=RATE)
    best, best_gain = Network(frame, tuple(w.detach().clone() for w in weights), 0.0), 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        part = train[torch.randint(len(train), (min(batch, len(train)),), generator=g)]
        with torch.enable_grad():
            linear, square = _moments(Network(frame, tuple(weights)), part, training=True)
            loss = (square - 2 * linear) / part.weight.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps:
            now = Network(frame, tuple(w.detach().clone() for w in weights))
            blocks = [_moments(now, test[index]) for index in torch.split(torch.arange(len(test)), 4096)]
            linear, square = (torch.stack(list(sums)).sum() for sums in zip(*blocks, strict=True))
            factor = min(max(float(linear / square), 0.0), 1.0) if square > 0 else 0.0
            gain = float(2 * factor * linear - factor**2 * square)
            if gain > best_gain:
                best, best_gain = Network(frame, now.weights, factor), gain
    return best


def _moments(network: Network, part: Examples, training: bool = False) -> tuple[Tensor, Tensor]:
    """Weighted sums of target.gradient and |gradient|^2."""
    gradient = network.gradient(part.y, part.t, training)
    per_pair = ((part.target * gradient).sum((1, 2)), gradient.square().sum((1, 2)))
    return part.weight @ per_pair[0].double(), part.weight @ per_pair[1].double()
