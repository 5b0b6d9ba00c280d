r"""Rewards: one number per row, by which rows are selected.

A function ``rows [n, ...] -> [n]`` of one's own (booleans count as 0 and 1), or one of two that have a closed form on
Gaussian mixtures: :class:`Linear`, :math:`r(x) = c \cdot x`, and :class:`Distance`, :math:`r(x) = -|x - m|^2/(2 s^2)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from driftlaw.config import Described, Kinds, validate
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.function import imported

Finite = Annotated[float, Field(allow_inf_nan=False)]
#: Judges rows.
Judge = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Linear(Described):
    """r(x) = c . x on flattened rows.

    Args:
        direction: c, one number per coordinate.
    """

    kind: ClassVar[str] = "linear"
    direction: tuple[Finite, ...]

    def __post_init__(self) -> None:
        validate(self)

    def __call__(self, x: Tensor) -> Tensor:
        """``[n, ...]`` to ``[n]`` float64."""
        return x.flatten(1).double() @ _vector(self.direction, x)


@dataclass(frozen=True)
class Distance(Described):
    """r(x) = -|x - m|^2 / (2 s^2) on flattened rows.

    Args:
        centre: m, one number per coordinate.
        scale: s > 0.
    """

    kind: ClassVar[str] = "distance"
    centre: tuple[Finite, ...]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def __post_init__(self) -> None:
        validate(self)

    def __call__(self, x: Tensor) -> Tensor:
        """``[n, ...]`` to ``[n]`` float64."""
        return -(x.flatten(1).double() - _vector(self.centre, x)).square().sum(1) / (2 * self.scale**2)


@dataclass(frozen=True)
class Function:
    """A function of one's own.

    Args:
        function: ``rows [n, ...] -> [n]``, or ``"module:name"`` of one (needed in YAML and for `driftlaw resume`).
    """

    kind: ClassVar[str] = "function"
    function: Judge | str

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            object.__setattr__(self, "function", imported(self.function))
        if not callable(self.function):
            raise ConfigError(f"a reward is a {type(self.function).__name__}", "give a function of rows")

    def __call__(self, x: Tensor) -> Tensor:
        """What the function says."""
        value: Tensor = self.function(x)  # type: ignore[operator]
        return value

    def config(self) -> dict[str, Any]:
        """The kind and the function's name."""
        module = getattr(self.function, "__module__", type(self.function).__module__)
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"kind": self.kind, "function": f"{module}:{name}"}


REWARDS = Kinds("reward", {"linear": Linear, "distance": Distance, "function": Function}, methods=("config",))


def as_reward(value: Any) -> Linear | Distance | Function:
    """A reward from a function, ``"module:name"``, a configuration, or a reward."""
    if isinstance(value, Linear | Distance | Function):
        return value
    if isinstance(value, str) and ":" in value:
        return Function(value)
    if callable(value) and not inspect.isclass(value):
        return Function(value)
    found: Linear | Distance | Function = REWARDS.build(value)
    return found


def judged(reward: Judge, rows: Tensor) -> Tensor:
    """Rewards of rows, float64 ``[n]`` on the CPU.

    Raises:
        InputError: not one finite number per row (says which row), or a reward for rows of another size.
    """
    value = torch.as_tensor(reward(rows)).detach().cpu().double()
    if value.shape != (len(rows),):
        raise InputError(
            f"the reward maps {len(rows)} rows to a tensor of shape {list(value.shape)}", "return one number per row"
        )
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        raise InputError(
            f"the reward is NaN or infinite for {int(bad.sum())} of {len(rows)} rows; the first is row "
            f"{int(bad.nonzero()[0])}",
            "a reward is a finite number: clamp it, or refuse such rows with a low one",
        )
    return value


def _vector(values: tuple[float, ...], x: Tensor) -> Tensor:
    size = x[0].numel()
    if len(values) != size:
        raise InputError(f"the reward has {len(values)} numbers and a row has {size}", "give one per coordinate")
    return torch.tensor(values, dtype=torch.float64, device=x.device)
