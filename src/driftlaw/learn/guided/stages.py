"""Two fits behind one checkpoint: whichever is under way, and the finished first one beside the second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from driftlaw.learn.estimator import Checkpoint

#: A finished base: its state and the numbers of its fit.
Base = tuple[dict[str, Tensor], dict[str, float]]


class Stage:
    """The checkpoint of one of the two fits.

    Args:
        inner: where it is kept.
        name: "base" or "self".
        carried: the finished base, saved beside every checkpoint of the second fit.
    """

    def __init__(self, inner: Checkpoint, name: str, carried: Base | None = None) -> None:
        self.inner, self.name, self.carried = inner, name, carried

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint of this fit."""
        found = self.inner.load()
        if found is None or found[1].get("stage") != self.name:
            return None
        return {k.removeprefix("fit."): v for k, v in found[0].items() if k.startswith("fit.")}, found[1]["inner"]

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint of both."""
        all_tensors, about = {f"fit.{k}": v for k, v in tensors.items()}, {"stage": self.name, "inner": dict(meta)}
        if self.carried is not None:
            all_tensors |= {f"base.{k}": v for k, v in self.carried[0].items()}
            about["training"] = {k: repr(v) for k, v in self.carried[1].items()}
        self.inner.save(all_tensors, about)


def finished_base(checkpoint: Checkpoint | None) -> Base | None:
    """The base that a checkpoint of the second fit holds."""
    found = None if checkpoint is None else checkpoint.load()
    if found is None or found[1].get("stage") != "self":
        return None
    state = {k.removeprefix("base."): v for k, v in found[0].items() if k.startswith("base.")}
    return state, {k: float(v) for k, v in found[1]["training"].items()}
