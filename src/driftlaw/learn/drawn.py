"""Generators that are known by their samples alone: what an own program or function drew is what is stored.

Such a model has no score and no density, so nothing that needs one can be measured; distances between samples can. Its
samples are its state, so that a resumed run has the rows that an uninterrupted one has.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.numerics.rows import check_finite
from driftlaw.process.draws import own_generator
from driftlaw.process.score import Time


class DrawnSamples:
    """A model that is known by `rows` it drew.

    Args:
        rows: ``[n, ...]`` float32.
        what: who drew them, for messages.
        labels: ``[n]`` int64, their classes, or None.

    Attributes:
        training: numbers of the fit; empty, they are not known.
    """

    def __init__(self, rows: Tensor, what: str, labels: Tensor | None = None) -> None:
        self.rows, self.what, self.labels = rows, what, labels
        self.shape = tuple(rows.shape[1:])
        self.training: dict[str, float] = {}

    def draw_labels(self, n: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Classes of the stored rows in their order, if all are asked for and they have any."""
        return self.labels if n == len(self.rows) else None

    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """The stored rows in their order if all are asked for, else `n` distinct ones in random order.

        Args:
            n: rows.
            generator: of the order.
            labels: of all rows, as :meth:`draw_labels` gives them.

        Raises:
            InputError: more rows than there are.
        """
        if n == len(self.rows):
            return self.rows.clone()
        if not 1 <= n < len(self.rows):
            raise InputError(
                f"{n} samples were asked of {self.what}, which drew {len(self.rows)}", "ask for at most as many"
            )
        return self.rows[torch.randperm(len(self.rows), generator=own_generator(generator))[:n]]

    def score(self, x: Tensor, t: Time) -> Tensor:
        """No such thing.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.what} is known by its samples only: it has no score",
            "use measures between samples, or a learner with a score (dl.Denoiser, dl.from_diffusers)",
        )

    def state(self) -> dict[str, Tensor]:
        """The rows as tensors that rebuild this model."""
        return {"rows": self.rows} | ({} if self.labels is None else {"labels": self.labels})


def load_rows(state: Mapping[str, Tensor], shape: tuple[int, ...], what: str) -> DrawnSamples:
    """Inverse of :meth:`DrawnSamples.state` for rows of `shape`.

    Raises:
        InputError: the state is of another kind or of rows of another shape.
    """
    if set(state) - {"labels"} != {"rows"} or tuple(state["rows"].shape[1:]) != tuple(shape):
        raise InputError(
            f"the state holds {', '.join(f'{k} {list(v.shape)}' for k, v in sorted(state.items()))}",
            f"expected rows of shape {list(shape)}",
        )
    return DrawnSamples(state["rows"], what, state.get("labels"))


def check_drawn(rows: object, n: int, shape: tuple[int, ...], what: str) -> Tensor:
    """What an own program or function returned, as float32 ``[n, *shape]``.

    Raises:
        InputError: not floating-point numbers, another number or shape of rows, or NaN or infinite ones.
    """
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        got = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise InputError(f"{what} gave {got}", "give floating-point numbers in the units of the training rows")
    if tuple(rows.shape[1:]) != tuple(shape):
        raise InputError(f"{what} gave rows of shape {list(rows.shape[1:])}", f"expected rows of shape {list(shape)}")
    if len(rows) != n:
        raise InputError(f"{what} gave {len(rows)} rows", f"expected {n}")
    check_finite(rows, f"rows of {what}", "look at its training; nothing is recorded of this generation")
    return rows.detach().to("cpu", torch.float32).contiguous()


def check_drawn_labels(labels: object, n: int, classes: int, what: str) -> Tensor:
    """Classes that an own program or function gave its rows, as int64 ``[n]``.

    Raises:
        InputError: another number of them, no integers, or none of the classes.
    """
    given = torch.as_tensor(labels)
    if tuple(given.shape) != (n,) or given.is_floating_point():
        raise InputError(f"{what} gave labels {given.dtype} {list(given.shape)} for {n} rows", "give one integer a row")
    if int(given.min()) < 0 or int(given.max()) >= classes:
        raise InputError(
            f"{what} gave labels from {int(given.min())} to {int(given.max())} for {classes} classes",
            f"use 0..{classes - 1}",
        )
    return given.detach().to("cpu", torch.int64).contiguous()
