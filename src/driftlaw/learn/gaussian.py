r"""Gaussian maximum likelihood: the learner whose collapse is known in closed form.

:math:`\hat m = \tfrac1n \sum_j x_j` and :math:`\hat\Sigma = \tfrac1n \sum_j (x_j - \hat m)(x_j - \hat m)^T` (over n - 1
if unbiased), plus ridge I. Trained only on its own samples, the variance of the MLE shrinks as
:math:`E v_k = v_0 (1 - 1/n)^k` (theory section 7); the unbiased one keeps :math:`E v_k = v_0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from driftlaw.config import Described, validate
from driftlaw.errors import InputError
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.exact import ExactModel, load_mixture
from driftlaw.learn.rows import check_rows
from driftlaw.process.laws.mixture import GaussianMixture

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class GaussianMLE(Described):
    """One Gaussian with full covariance.

    Args:
        unbiased: divide the scatter by n - 1 instead of n.
        ridge: variance added to every coordinate, in squared units of the data.
        t0: early-stopping time on the OU clock, >= 0.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> model = GaussianMLE().fit(torch.randn(100, 2, generator=g), FitContext())
        >>> model.law.covariances.shape
        torch.Size([1, 2, 2])
    """

    kind: ClassVar[str] = "gaussian"
    order_free: ClassVar[bool] = True
    unbiased: bool = False
    ridge: Number = 0.0
    t0: Number = 0.0

    def __post_init__(self) -> None:
        validate(self)

    def fit(self, data: Tensor, context: FitContext = ALONE) -> ExactModel[GaussianMixture]:
        """Moments of ``[n, ...]`` rows in float64. Deterministic; nothing in `context` is used.

        Raises:
            InputError: unusable rows, or a covariance that is singular (n <= d without ridge).
        """
        data = check_rows(data)
        flat = data.flatten(1).double()
        n, d = flat.shape
        mean = flat.mean(dim=0)
        centred = flat - mean
        covariance = centred.T @ centred / (n - 1 if self.unbiased else n)
        covariance = covariance + self.ridge * torch.eye(d, dtype=torch.float64)
        smallest, largest = (float(v) for v in torch.linalg.eigvalsh(covariance)[[0, -1]])
        if smallest <= 1e-12 * largest or largest == 0:
            raise InputError(
                f"the covariance of {n} rows in {d} dimensions is singular: eigenvalues {smallest:.3g}..{largest:.3g}",
                "set ridge above 0, or give more rows that vary in every coordinate",
            )
        fitted = GaussianMixture([1.0], mean[None], covariance[None])
        return ExactModel(fitted, self.t0, tuple(data.shape[1:]))

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> ExactModel[GaussianMixture]:
        """Restore the model from :meth:`ExactModel.state`."""
        return load_mixture(state, shape)
