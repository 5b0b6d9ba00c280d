"""Optimisers of torch.optim by name, with arguments; what cannot train here is refused before training."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from driftlaw.errors import ConfigError, nearest

#: The one that fits are known by when no other is named.
DEFAULT = "AdamW"


def names() -> tuple[str, ...]:
    """Optimisers of the installed PyTorch."""
    found = inspect.getmembers(torch.optim, inspect.isclass)
    return tuple(n for n, c in found if issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer)


def build(
    name: str, weights: Tensor, lr: float, weight_decay: float, arguments: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """An optimiser of one vector of weights.

    Args:
        name: of a class of torch.optim.
        weights: ``[n]``.
        lr: learning rate, given where the class takes one.
        weight_decay: given where the class takes one.
        arguments: further ones, which win.

    Raises:
        ConfigError: no such optimiser, or arguments that it refuses.
    """
    if name not in names():
        raise ConfigError(f"torch.optim has no optimiser {name!r}", nearest(name, names()))
    cls = getattr(torch.optim, name)
    takes = inspect.signature(cls).parameters
    common = {k: v for k, v in (("lr", lr), ("weight_decay", weight_decay)) if k in takes}
    try:
        made: torch.optim.Optimizer = cls([weights], **common | dict(arguments))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the optimiser {name} refuses its arguments ({error})", "correct arguments") from None
    return made


def check(name: str, lr: float, weight_decay: float, arguments: Mapping[str, Any]) -> None:
    """Take a step on a vector of zeros.

    Raises:
        ConfigError: the optimiser is not there, refuses its arguments, or does not learn from gradients alone (LBFGS,
            SparseAdam, Muon).
    """
    weights = torch.zeros(4, requires_grad=True)
    weights.grad = torch.ones(4)
    made = build(name, weights, lr, weight_decay, arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.step()  # type: ignore[call-arg, unused-ignore]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"the optimiser {name} cannot train a network here ({error})",
            "take one that needs gradients alone, such as AdamW, SGD or RMSprop",
        ) from None
