r"""Observability by regression ([KTV]): a lower bound of eta from simulated paths.

M is summed along simulated paths and regressed on the end point; the squared held-out correlation is a lower bound of
eta. See :mod:`driftlaw.measure.paths.observability` for M, eta and the unbiased estimators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Z95, Estimate
from driftlaw.measure.paths.path import Horizon, forward, own_error
from driftlaw.numerics.directions import oriented
from driftlaw.process.draws import normal
from driftlaw.process.schedule import log_grid
from driftlaw.process.score import Field, Law, Score, checked
from driftlaw.seeding import generator

#: Principal components of the end point that a regression uses at most, and the ridges it tries, per path.
COORDINATES, RIDGES = 128, np.logspace(-4, 2, 7)


@torch.no_grad()
def observability_regression(
    score_hat: Score | Field,
    score: Score | Field,
    law: Law,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 20_000,
    seed: int = 0,
    steps: int = 200,
    folds: int = 5,
    frequencies: int = 128,
    copies: int = 0,
) -> Estimate:
    r"""A lower bound of eta: squared held-out correlation of M with a regression on the end point ([KTV] section 5).

    Euler-Maruyama paths of the ideal reverse process from exact draws of q_T, steps equal in log t;
    :math:`M = -\sum_k e_{t_k}(Y_k)\cdot\sqrt{h_k} z_k`. The regressor (ridge, its strength by leave-one-out, on linear,
    quadratic and random Fourier features of the standardised end point, or of its 128 leading principal components) is
    fitted on the other folds, so that :math:`corr(M, f(Y))^2 \le \eta` for every fit: the estimate is low by what the
    regressor misses, plus the discretisation error of the chain.

    In many dimensions few paths teach a regressor nothing. `copies` gives it what it should learn (this project): the
    forward process leads from the end point to fresh paths, and M along them, summed with the same score, is like a
    copy of M that shares nothing but the end point. Their mean enters first, then the features explain what it leaves.
    The bound holds whether `score` is that of the law or not, because any function of the end point and of independent
    draws may stand for f. If it is, c copies alone would find :math:`\eta^2 / (\eta + (1 - \eta)/c)`.

    Args:
        score_hat: learned score.
        score: score of the diffused `law`.
        law: the training law q at time 0.
        t0: early-stopping time, > 0.
        T: horizon.
        n: number of paths.
        seed: seed of the named streams.
        steps: time steps.
        folds: cross-fitting folds.
        frequencies: random Fourier frequencies (two features each).
        copies: forward paths from each end point; each costs as much as the path itself.

    Returns:
        The lower bound; its interval is that of the squared correlation.

    Raises:
        InputError: not 0 < t0 < T, n < 20 folds, copies < 0, or scores that are NaN or infinite.
    """
    Horizon(t0, T)
    if folds < 2 or n < 20 * folds or copies < 0:
        raise InputError(
            f"a cross-fitted regression needs folds >= 2, n >= 20 folds and copies >= 0, got n = {n}, folds = {folds}, "
            f"copies = {copies}"
        )
    fields, g = _fields(score_hat, score), generator(seed, "observability", "paths")
    y = forward(law.sample(n, g), T, g)
    m, times = torch.zeros(n, dtype=torch.float64), log_grid(T, t0, steps).tolist()
    for t, s in pairwise(times):
        true, error = fields(y, t)
        kick = normal(tuple(y.shape), g, y.dtype, y.device) * math.sqrt(t - s)
        m -= _inner(error, kick)
        y = y + (t - s) * (y / 2 + true) + kick
    like = torch.zeros(n, max(copies, 0), dtype=torch.float64)
    for copy in like.T:
        x = y
        for s, t in pairwise(reversed(times)):
            x, back = forward(x, t - s, g), x
            true, error = fields(x, t)
            copy -= _inner(error, back - x - (t - s) * (x / 2 + true))
    method = f"lower bound: held-out squared correlation, {steps} Euler steps, {folds} folds"
    if copies:
        method += f", {copies} forward copies"
    if float(m.abs().amax()) == 0:
        return Estimate(0.0, 0.0, 0.0, 0.0, n, method).warn(
            "the score error is zero on every path: eta is 0 by convention"
        )
    fit = generator(seed, "observability", "fit")
    predicted = _cross_fit(
        y.cpu().double().flatten(1), m, like.mean(1, keepdim=True)[:, :copies], folds, frequencies, fit
    )
    a, b = ((v - v.mean()) / v.std() for v in (m, predicted))
    r = float((a * b).mean())
    stderr = float((a * b - r / 2 * (a.square() + b.square())).std()) / math.sqrt(n)
    low, high = (max(r + sign * Z95 * stderr, 0.0) ** 2 for sign in (-1, 1))
    return Estimate(max(r, 0.0) ** 2, 2 * abs(r) * stderr, low, high, n, method)


def _fields(score_hat: Score | Field, score: Score | Field) -> Callable[[Tensor, float], tuple[Tensor, Tensor]]:
    """The true score and the error at (x, t), the true score evaluated once."""
    true, known = checked(score), own_error(score_hat, score)
    learned = checked(score_hat)

    def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        s = true.score(x, t)
        return s, (learned.score(x, t) - s if known is None else known.score(x, t))

    return both


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row, ``[n]`` float64."""
    return (a * b).cpu().double().flatten(1).sum(1)


def _cross_fit(y: Tensor, m: Tensor, first: Tensor, folds: int, frequencies: int, g: torch.Generator) -> Tensor:
    """Held-out predictions of `m`: least squares on the columns of `first`, then a ridge of the rest on `y`.

    Rows are exchangeable, so folds are taken in turn.
    """
    from sklearn.linear_model import LinearRegression, RidgeCV

    if y.shape[1] > COORDINATES:  # no more than these can be told apart from as many paths as one can afford
        y = y @ oriented(torch.linalg.svd(y - y.mean(0), full_matrices=False).Vh[:COORDINATES].mT)
    z = (y - y.mean(0)) / y.std(0).clamp_min(1e-12)
    d = z.shape[1]
    i, j = torch.triu_indices(d, d) if d <= 32 else torch.arange(d).expand(2, d)
    phase = z @ torch.randn(d, frequencies, generator=g, dtype=torch.float64) * (1.5 / math.sqrt(d))
    features = torch.cat([z, z[:, i] * z[:, j], phase.cos(), phase.sin()], 1)
    inputs = ((features - features.mean(0)) / features.std(0).clamp_min(1e-12)).numpy()
    target, copies, fold = m.numpy(), first.numpy(), np.arange(len(m)) % folds
    held_out = np.zeros(len(m))
    for k in range(folds):
        rest, out, into = target[fold != k], fold == k, fold != k
        if copies.shape[1]:
            line = LinearRegression().fit(copies[into], rest)
            held_out[out], rest = line.predict(copies[out]), rest - line.predict(copies[into])
        held_out[out] += RidgeCV(RIDGES * len(m)).fit(inputs[into], rest).predict(inputs[out])
    return torch.from_numpy(held_out)
