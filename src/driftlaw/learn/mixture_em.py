r"""Gaussian mixture by expectation-maximisation (scikit-learn), started by seeded k-means.

Maximises :math:`\sum_j \log \sum_k w_k N(x_j; m_k, \Sigma_k)` (Dempster, Laird, Rubin 1977). It finds a local maximum:
with several starts the best is kept. scikit-learn adds :math:`10^{-6}` to every variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from driftlaw import seeding
from driftlaw.config import Described, validate
from driftlaw.errors import InputError
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.exact import ExactModel, load_mixture
from driftlaw.learn.rows import check_rows
from driftlaw.process.laws.mixture import GaussianMixture

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class MixtureEM(Described):
    """Gaussian mixture with a given number of components.

    Args:
        components: K >= 1.
        covariance: "full", "diag" or "spherical".
        starts: k-means initialisations; the fit of highest likelihood is kept.
        iterations: largest number of EM iterations per start.
        t0: early-stopping time on the OU clock, >= 0.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureEM(2).fit(torch.randn(100, 2, generator=g), FitContext())
        >>> model.law.means.shape
        torch.Size([2, 2])
    """

    kind: ClassVar[str] = "mixture-em"
    order_free: ClassVar[bool] = True
    components: Count
    covariance: Literal["full", "diag", "spherical"] = "full"
    starts: Count = 1
    iterations: Count = 200
    t0: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def __post_init__(self) -> None:
        validate(self)

    def fit(self, data: Tensor, context: FitContext = ALONE) -> ExactModel[GaussianMixture]:
        """EM on ``[n, ...]`` rows; a function of the data and ``context.seed``.

        Returns:
            A generator whose ``training`` holds log_likelihood (nats per row), iterations and converged (0 or 1).

        Raises:
            InputError: unusable rows, or fewer rows than components.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as ScikitMixture

        data = check_rows(data)
        if len(data) < self.components:
            raise InputError(f"{self.components} components cannot be fitted to {len(data)} rows", "lower components")
        model = ScikitMixture(
            self.components,
            covariance_type=self.covariance,
            n_init=self.starts,
            max_iter=self.iterations,
            random_state=seeding.stream_seed(context.seed, "mixture-em") % 2**32,
        )
        with warnings.catch_warnings():  # both are reported in `training`
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(data.flatten(1).double().numpy())
        fitted = GaussianMixture(*(torch.from_numpy(a) for a in (model.weights_, model.means_, model.covariances_)))
        training = {
            "log_likelihood": float(model.lower_bound_),
            "iterations": float(model.n_iter_),
            "converged": float(model.converged_),
        }
        return ExactModel(fitted, self.t0, tuple(data.shape[1:]), training)

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> ExactModel[GaussianMixture]:
        """Restore the model from :meth:`ExactModel.state`."""
        return load_mixture(state, shape)
