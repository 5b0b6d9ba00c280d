r"""A small convolutional classifier of real labelled images; its penultimate layer is a feature space.

Three convolutions of width w, 2w, 4w with batch normalisation and SiLU, a 2x2 maximum after the first two, an average
over at most 4x4 places, and a linear layer to the k features; one more linear layer gives the class scores:

.. math:: \psi(x) = W_1\, \mathrm{pool}(\mathrm{conv}_3 \circ \mathrm{conv}_2 \circ \mathrm{conv}_1(x)) + b_1, \qquad
          \log P(c \mid x) \propto (W_2\, \mathrm{silu}(\psi(x)) + b_2)_c .

The features are :math:`\psi`, before the last nonlinearity: they are closer to Gaussian than after it. Training is
AdamW on cross entropy with label smoothing .05, a rate that rises linearly over the first tenth of the steps and then
falls on a half cosine to 0. Rows follow seeded permutations, so that a fit is a pure function of (rows, labels, seed)
on one machine and thread count. This is the kind of feature space in which [KTV] (arXiv 2602.16601, experiments)
measure drift of images; they do not publish their network, so every setting here is this project's choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from driftlaw.config import Described, validate
from driftlaw.errors import InputError
from driftlaw.learn.denoiser.network import initialise
from driftlaw.learn.rows import check_rows, check_shape
from driftlaw.progress import Progress, silent
from driftlaw.seeding import generator

#: Rows of one forward pass without gradients.
BATCH = 512


class ConvNet(nn.Module):
    """The network of the module's formula, ``[n, c, h, w] -> [n, classes]``.

    Args:
        shape: ``(c, h, w)``, h and w at least 4.
        classes: number of classes.
        width: channels after the first convolution.
        features: k.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 16, features: int = 96) -> None:
        super().__init__()
        channels = (shape[0], width, 2 * width, 4 * width)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in channels[1:])
        places = [min(4, s // 4) for s in shape[1:]]
        self.pool = nn.AdaptiveAvgPool2d((places[0], places[1]))
        self.hidden = nn.Linear(4 * width * math.prod(places), features)
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """psi(x), ``[n, c, h, w] -> [n, k]``."""
        for level, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = F.silu(norm(convolution(x)))
            x = F.max_pool2d(x, 2) if level < 2 else x
        out: Tensor = self.hidden(self.pool(x).flatten(1))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Class scores ``[n, classes]``."""
        out: Tensor = self.head(F.silu(self.features(x)))
        return out


@dataclass(frozen=True)
class ConvClassifier(Described):
    """Settings of a fit; :meth:`fit` trains it.

    Args:
        width: channels after the first convolution; the next two have twice and four times as many.
        features: k, the size of the penultimate layer.
        epochs: passes over the rows.
        least_steps: a smaller set is passed over more often, until this many steps are made.
        batch: rows of a step.
        lr: highest learning rate.
        weight_decay: of AdamW.

    Raises:
        ConfigError: a value out of range.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.arange(200) % 2
        >>> x = 0.3 * torch.randn(200, 1, 8, 8, generator=g) + (2.0 * y - 1.0)[:, None, None, None] / 2
        >>> model = ConvClassifier(width=4, features=8, least_steps=20).fit(x, y, classes=2, seed=0)
        >>> model.features(x).shape, bool((model.predict(x) == y).float().mean() > 0.9)
        (torch.Size([200, 8]), True)
    """

    kind: ClassVar[str] = "classifier"
    width: Annotated[int, Field(ge=1, le=1024)] = 16
    features: Annotated[int, Field(ge=1, le=4096)] = 96
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    least_steps: Annotated[int, Field(ge=1)] = 300
    batch: Annotated[int, Field(ge=2)] = 128
    lr: Annotated[float, Field(gt=0, lt=1)] = 0.004
    weight_decay: Annotated[float, Field(ge=0)] = 0.01

    def __post_init__(self) -> None:
        validate(self)

    def network(self, shape: tuple[int, ...], classes: int, g: torch.Generator | None = None) -> ConvNet:
        """The network, initialised from `g` (or left as allocated, to be loaded, without one)."""
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws from the global stream
            net = ConvNet(shape, classes, self.width, self.features)
        if g is not None:
            initialise(net, g)
        return net

    def fit(
        self,
        x: Tensor,
        y: Tensor,
        *,
        classes: int,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> Classifier:
        """Train on labelled rows.

        Args:
            x: ``[n, c, h, w]`` images, at least `batch` rows or all of them in one step; h and w at least 4.
            y: ``[n]`` integer labels 0..classes-1.
            classes: how many there are.
            seed: of the initial weights and of the order of rows.
            device: "cpu" or "cuda".
            progress: told ``(fraction, text)`` now and then.

        Raises:
            InputError: rows that are not finite images, or labels of another number or range.
        """
        x = check_rows(x, "labelled set")
        y = _check_labels(y, len(x), classes)
        if x.ndim != 4 or min(x.shape[2:]) < 4:
            raise InputError(
                f"the classifier was given rows of shape {list(x.shape[1:])}", "give images [c, h, w] of 4x4 or more"
            )
        net = self.network(tuple(x.shape[1:]), classes, generator(seed, "classifier", "weights")).to(device).train()
        size = min(self.batch, len(x))
        per_epoch = len(x) // size
        steps = max(self.epochs * per_epoch, self.least_steps)
        optimiser = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        warm = max(1, steps // 10)
        order = torch.empty(0, dtype=torch.int64)
        for step in range(steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0:
                order = torch.randperm(len(x), generator=generator(seed, "classifier", "order", epoch))
            rows = order[place * size : (place + 1) * size]
            rate = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
            optimiser.param_groups[0]["lr"] = self.lr * rate
            loss = F.cross_entropy(net(x[rows].to(device)), y[rows].to(device), label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % 50 == 49 or step == steps - 1:
                progress((step + 1) / steps, f"classifier, loss {float(loss.detach()):.3f}")
        return Classifier(net.eval().requires_grad_(False).cpu(), tuple(x.shape[1:]), len(x))

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...], trained_on: int = 0) -> Classifier:
        """Rebuild a trained classifier from :meth:`Classifier.state`.

        Raises:
            InputError: tensors of another network.
        """
        try:
            net = self.network(shape, int(state["head.bias"].shape[0]))
            net.load_state_dict(dict(state))
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"these weights are not of a classifier of rows {list(shape)} ({reason})", "use its own settings"
            ) from None
        return Classifier(net.eval().requires_grad_(False), shape, trained_on)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier, on the CPU.

    Args:
        net: the network in evaluation mode.
        shape: ``(c, h, w)`` of its rows.
        trained_on: number of labelled rows.
    """

    net: ConvNet
    shape: tuple[int, ...]
    trained_on: int

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """psi(x), ``[n, c, h, w] -> [n, k]`` float32.

        Raises:
            InputError: rows of another shape.
        """
        check_shape(x, self.shape, "the classifier's input")
        return torch.cat([self.net.features(part.float()) for part in torch.split(x, BATCH)])

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Most likely classes ``[n]`` int64.

        Raises:
            InputError: rows of another shape.
        """
        check_shape(x, self.shape, "the classifier's input")
        return torch.cat([self.net(part.float()).argmax(dim=1) for part in torch.split(x, BATCH)])

    def state(self) -> dict[str, Tensor]:
        """Tensors that :meth:`ConvClassifier.load` takes (stored as safetensors)."""
        return {name: value.contiguous() for name, value in self.net.state_dict().items()}


def _check_labels(y: Tensor, n: int, classes: int) -> Tensor:
    if y.shape != (n,) or y.is_floating_point():
        raise InputError(f"labels are {y.dtype} {list(y.shape)} for {n} rows", "give one integer label per row")
    outside = (y < 0) | (y >= classes)
    if bool(outside.any()):
        first = int(outside.int().argmax())
        raise InputError(
            f"{int(outside.sum())} of {n} labels are outside 0..{classes - 1}, the first is row {first}: "
            f"{int(y[first])}",
            "number the classes from 0",
        )
    if bool((y == y[0]).all()):
        raise InputError(f"all {n} labels name one class", "give rows of at least two classes")
    return y.long()
