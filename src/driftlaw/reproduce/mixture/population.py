r"""The recursion of laws: infinitely many rows, no sampling noise, everything in closed form.

With a kernel density estimate of bandwidth h and early stopping at t0, the model averaged over its rows is an exact
operator on laws (theory section 6):

.. math:: \hat p^{n+1} = P_{t_0}\,(q_n * N(0, h^2 I)), \qquad q_n = a_n\,p + \sum_j w_{nj}\,\hat p^j .

If p is a Gaussian mixture, so is every generation: a component that went through k rounds has age k, mean
:math:`e^{-k t_0/2} m` and, for h = sigma and t0 = 0, covariance (1 + k) sigma^2. Components of equal age merge, so a
generation holds at most (n + 1) times the components of p. This separates what the *method* does to the law (blur,
early stopping) from what finite samples do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from driftlaw.errors import ConfigError
from driftlaw.learn.kde import KDE
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.theory.refresh import Policy


@dataclass(frozen=True)
class PopulationGeneration:
    """One generation of the recursion of laws.

    Args:
        index: n >= 1.
        training: q_{n-1} at time 0.
        fitted: the kernel density estimate's law at time 0, q_{n-1} * N(0, h^2 I).
        law: p_hat^n = P_{t0} fitted.
    """

    index: int
    training: GaussianMixture
    fitted: GaussianMixture
    law: GaussianMixture


def population(p: GaussianMixture, estimator: KDE, policy: Policy, generations: int) -> Iterator[PopulationGeneration]:
    """Iterate the recursion of laws.

    Args:
        p: the target, with any covariances.
        estimator: a KDE with a numeric bandwidth.
        policy: the refresh policy.
        generations: how many.

    Raises:
        ConfigError: a bandwidth rule (it depends on a sample size), or another learner.

    Example:
        >>> from driftlaw.theory.refresh import FixedFraction
        >>> last = list(population(GaussianMixture.paper(), KDE(0.6), FixedFraction(0.5), 20))[-1]
        >>> round(last.law.second_moment() / 29.2 - 1, 4)
        0.2466
    """
    if not isinstance(estimator, KDE) or isinstance(estimator.bandwidth, str):
        raise ConfigError("the recursion of laws is closed for a KDE with a number as bandwidth", "use dl.KDE(0.6)")
    h2 = float(estimator.bandwidth) ** 2
    fresh, mixing = policy.rows(generations)
    laws = [p]
    for n in range(generations):
        weights = mixing[n, : n + 1].copy()
        weights[0] += fresh[n]
        training = blend(weights, laws)
        blur = h2 if training.covariances.ndim < 3 else h2 * torch.eye(training.dim, dtype=torch.float64)
        fitted = GaussianMixture(training.weights, training.means, training.covariances + blur)
        law = fitted.diffuse(estimator.t0) if estimator.t0 > 0 else fitted
        laws.append(law)
        yield PopulationGeneration(n + 1, training, fitted, law)


def blend(weights: np.ndarray, laws: list[GaussianMixture]) -> GaussianMixture:
    """The mixture ``sum_k w_k law_k`` as one Gaussian mixture, equal components merged."""
    merged: dict[tuple[float, ...], list[torch.Tensor]] = {}
    for w, law in zip(weights, laws, strict=True):
        if w == 0:
            continue
        for weight, mean, covariance in zip(law.weights, law.means, law.covariances, strict=True):
            key = tuple(np.round(torch.cat([mean.reshape(-1), covariance.reshape(-1)]).numpy(), 12).tolist())
            if key in merged:
                merged[key][0] = merged[key][0] + w * weight
            else:
                merged[key] = [w * weight, mean, covariance]
    total, means, covariances = (torch.stack(parts) for parts in zip(*merged.values(), strict=True))
    return GaussianMixture(total / total.sum(), means, covariances)
