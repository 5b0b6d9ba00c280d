r"""Classes in a network: an embedding beside that of the noise level, with one more row for "no class".

Of a batch, labels reach the network through :func:`labelled` and not as an argument, so that a conditional network is a
network ``(u, lambda)`` like any other. While it trains, each label is left out with a fixed probability; one network
then knows :math:`s_t(x|y)` and :math:`s_t(x)`, and classifier-free guidance of weight w samples by

.. math:: s_t(x|y) + w\,(s_t(x|y) - s_t(x)),

which for w > 0 is the score of no diffused law: it sharpens classes and loses variety within them.

Reference: Ho and Salimans, arXiv 2207.12598, eq. (6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from driftlaw.errors import InputError

#: Label of a row whose class is not known.
UNKNOWN = -1


class ClassEmbedding(nn.Module):
    """The embedding of the noise level plus that of the class.

    Args:
        inner: embedding of the noise level, ``[n] -> [n, width]``.
        classes: C, how many there are.
        width: of the embedding.
    """

    def __init__(self, inner: nn.Module, classes: int, width: int) -> None:
        super().__init__()
        self.inner, self.classes = inner, classes
        self.table = nn.Embedding(classes + 1, width)
        self.labels: Tensor | None = None

    def forward(self, lam: Tensor) -> Tensor:
        """``[n]`` (or ``[1]``, shared) log noise levels to ``[n, width]``, for the labels of the batch."""
        none = torch.full((1,), self.classes, device=lam.device)
        out: Tensor = self.inner(lam) + self.table(none if self.labels is None else self.labels)
        return out


@contextmanager
def labelled(net: object, labels: Tensor | None) -> Iterator[None]:
    """Inside, a network sees these labels ``[n]`` (0..C-1, C or -1 for none); all rows have none with None."""
    places = [m for m in net.modules() if hasattr(m, "labels")] if isinstance(net, nn.Module) else []
    for place in places:
        classes = int(place.classes)  # type: ignore[arg-type]
        place.labels = None if labels is None else torch.where(labels < 0, classes, labels)  # type: ignore[assignment]
    try:
        yield
    finally:
        for place in places:
            place.labels = None  # type: ignore[assignment]


def check_labels(labels: Tensor | None, n: int, classes: int) -> Tensor:
    """Labels ``[n]`` of training rows: 0..C-1, or -1 where the class is not known.

    Raises:
        InputError: none, another number, other values, or no row whose class is known.
    """
    if labels is None or not classes:
        raise InputError(
            "a conditional learner was given rows without labels", "use a labelled source, or set conditional: false"
        )
    if tuple(labels.shape) != (n,) or labels.is_floating_point():
        raise InputError(f"{n} rows with labels {labels.dtype} {list(labels.shape)}", "give one integer a row")
    if int(labels.min()) < UNKNOWN or int(labels.max()) >= classes:
        raise InputError(
            f"labels from {int(labels.min())} to {int(labels.max())} for {classes} classes",
            f"use 0..{classes - 1}, or -1",
        )
    if int(labels.max()) < 0:
        raise InputError("no training row has a known class", "use a labelled source, or set conditional: false")
    return labels.long()
