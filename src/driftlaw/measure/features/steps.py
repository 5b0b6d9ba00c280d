r"""The steps a frozen feature map is made of: each sends rows ``[n, d]`` to rows ``[n, k]`` with fixed numbers.

Affine: (x - m) A. Standardise: (x - m) / s per column. Products: x with chosen products x_i x_j beside it. Cosine:
sqrt(2) cos(x W + b). Hermite: He_m(x_j)/sqrt(m!), m = 1..degree. A step is its tensors and nothing else, so it can be
hashed, stored and read back without pickle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from driftlaw.native import row_passes


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> (x - mean) @ matrix, ``[n, d] -> [n, k]``."""

    mean: Tensor
    matrix: Tensor

    @property
    def dimension(self) -> int:
        """Number of columns that come out."""
        return int(self.matrix.shape[1])

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the step to rows ``[n, d]``."""
        return (x - self.mean) @ self.matrix


@dataclass(frozen=True, eq=False)
class Standardise:
    """x -> (x[:, columns] - mean) / scale, ``[n, d] -> [n, k]``; a column that is not listed is left out."""

    columns: Tensor
    mean: Tensor
    scale: Tensor

    @property
    def dimension(self) -> int:
        """Number of columns that come out."""
        return int(self.columns.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the step to rows ``[n, d]``."""
        chosen = x if self.dimension == x.shape[1] else x[:, self.columns]
        if row_passes.serves(chosen.numel()):
            return row_passes.standardise(chosen, self.mean, self.scale)
        return (chosen - self.mean).div_(self.scale)


@dataclass(frozen=True, eq=False)
class Products:
    """x -> (x, x[:, left] * x[:, right]), ``[n, d] -> [n, d + p]``."""

    columns: Tensor
    left: Tensor
    right: Tensor

    @property
    def dimension(self) -> int:
        """Number of columns that come out, d + p."""
        return int(self.columns.shape[0] + self.left.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the step to rows ``[n, d]``."""
        return torch.cat([x, x[:, self.left] * x[:, self.right]], dim=1)


@dataclass(frozen=True, eq=False)
class Cosine:
    """z -> sqrt(2) cos(z @ frequencies + phases), ``[n, d] -> [n, k]``."""

    frequencies: Tensor
    phases: Tensor

    @property
    def dimension(self) -> int:
        """Number of columns that come out."""
        return int(self.frequencies.shape[1])

    def __call__(self, z: Tensor) -> Tensor:
        """Apply the step to rows ``[n, d]``."""
        return math.sqrt(2.0) * torch.cos(z @ self.frequencies + self.phases)


@dataclass(frozen=True, eq=False)
class Hermite:
    """z -> He_m(z_j)/sqrt(m!), m = 1..degree, ``[n, d] -> [n, degree d]``, the degree slowest; numbers are ``[1]``."""

    degree: Tensor
    columns: Tensor

    @property
    def dimension(self) -> int:
        """Number of columns that come out."""
        return int(self.degree) * int(self.columns)

    def __call__(self, z: Tensor) -> Tensor:
        """Apply the step to rows ``[n, d]``: sqrt(m+1) h_{m+1} = z h_m - sqrt(m) h_{m-1}."""
        parts = [torch.ones_like(z), z]
        for m in range(1, int(self.degree)):
            parts.append((z * parts[m] - math.sqrt(m) * parts[m - 1]) / math.sqrt(m + 1))
        return torch.cat(parts[1:], dim=1)


Step = Affine | Standardise | Products | Cosine | Hermite
STEPS: dict[str, type[Step]] = {cls.__name__: cls for cls in (Affine, Standardise, Products, Cosine, Hermite)}


def to_tensors(steps: tuple[Step, ...]) -> dict[str, Tensor]:
    """The numbers of all steps, keyed ``"0.Affine.mean"``."""
    return {
        f"{i}.{type(step).__name__}.{name}": part for i, step in enumerate(steps) for name, part in vars(step).items()
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> tuple[Step, ...]:
    """Restore the steps that :func:`to_tensors` stores."""
    parts: dict[int, tuple[str, dict[str, Tensor]]] = {}
    for key, tensor in tensors.items():
        number, kind, name = key.split(".")
        parts.setdefault(int(number), (kind, {}))[1][name] = tensor
    return tuple(STEPS[kind](**fields) for _, (kind, fields) in sorted(parts.items()))
