"""Where a fit runs: the device, and accelerate for mixed precision and several processes.

With W processes each takes every W-th row of the same batch, with the same noise, and the gradients are averaged: the
fit is that of one process up to rounding (dropout masks differ). See :mod:`driftlaw.learn.denoiser.processes` for how a
fit starts them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from driftlaw.errors import ConfigError, InputError


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: an unknown name, or CUDA without a usable GPU.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(f"unknown device {device!r}", "use 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device 'cuda' was asked but PyTorch finds no GPU", "use device='cpu' or a CUDA build of PyTorch"
        )


class Engine(Protocol):
    """What a training step needs to know about where it runs."""

    device: torch.device
    rank: int
    processes: int

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the network's forward pass."""
        ...

    def mean(self, gradient: Tensor) -> None:
        """Average a vector over the processes, in place."""
        ...


class Plain:
    """PyTorch alone: one process, float32."""

    rank, processes = 0, 1

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def autocast(self) -> AbstractContextManager[Any]:
        """No change of precision."""
        return nullcontext()

    def mean(self, gradient: Tensor) -> None:
        """Return the gradient as it is: one process has nothing to average."""


class Accelerated:
    """Hugging Face's accelerate: bfloat16 autocast, and the processes that a launcher started.

    Args:
        device: "cpu" or "cuda".
        precision: "float32" or "bfloat16" (of the forward pass; weights, gradients and averages stay float32).

    Raises:
        ConfigError: accelerate is not installed.
    """

    def __init__(self, device: str, precision: str = "float32") -> None:
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState
        except ImportError as error:
            raise ConfigError(
                f"engine = 'accelerate' needs the package accelerate ({error})", "install driftlaw[diffusers]"
            ) from None
        mixed = "bf16" if precision == "bfloat16" else "no"
        if AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
            AcceleratorState._reset_state()  # it refuses a second precision in one process
        self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.processes: int = self._accelerator.num_processes

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in bfloat16 where the configuration asks for it."""
        context: AbstractContextManager[Any] = self._accelerator.autocast()
        return context

    def mean(self, gradient: Tensor) -> None:
        """Average over the processes."""
        if self.processes > 1:
            gradient.copy_(self._accelerator.reduce(gradient, reduction="mean"))
