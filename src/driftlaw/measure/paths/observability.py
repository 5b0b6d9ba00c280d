r"""Observability eta: which share of the path error shows in the samples. Two unbiased estimators.

With the martingale :math:`M = -\int e \cdot d\bar B` under the ideal reverse path law ([KTV] arXiv 2602.16601, Def 3.2)

.. math:: \eta = \frac{Var(E[M | Y_{t_0}])}{\varepsilon_*^2} \in [0, 1], \qquad \eta = 0 \text{ if } \varepsilon_* = 0.

**Stein form** (this project, theory 3.2): with :math:`A_t e = \nabla\cdot e + e \cdot s_t`

.. math:: L(x) := E[M | Y_{t_0} = x] = \int_{t_0}^T E[(A_t e)(X_t) | X_{t_0} = x]\,dt .

:math:`X_t` given :math:`X_{t_0}` is one Gaussian draw, so the product of two conditionally independent one-sample
integrals has the mean :math:`\eta \varepsilon_*^2`: unbiased, without paths and without a regressor
(:func:`observability`). :math:`E L = 0` exactly; a mean of L that is clearly not 0 shows that `score` is not the score
of `law`, and is reported.

**Between laws** (this project): if :math:`\hat s` is the score of a diffused law too, Ito's formula for
:math:`h_t = \log \hat p_t/q_t` along the forward path gives

.. math:: M = R - h_{t_0}(X_{t_0}), \qquad R = h_T(X_T) - \tfrac12 \int_{t_0}^T |e_t(X_t)|^2 dt, \qquad
    \eta = 1 - \frac{E\, Var(R | X_{t_0})}{\varepsilon_*^2},

(the Ito isometry is :math:`Var M = \varepsilon_*^2`), so that :math:`1 - \eta` is of second order in the error and is
estimated alone: :func:`observability_of_laws`, for KDE and mixtures.

The regression of [KTV] is in :mod:`driftlaw.measure.paths.regression`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import CLEAR, Estimate
from driftlaw.measure.paths.path import ROWS, Horizon, forward, own_error, refined, score_error, square
from driftlaw.process.laws.law import ExactLaw, evaluate
from driftlaw.process.score import Field, Law, Score, as_score, checked, divergence_of
from driftlaw.seeding import generator

#: True skewness over that of a sample: rows in the long tail of a product of two copies are not met in a few hundred.
UNSEEN = 1.5


@torch.no_grad()
def observability(
    score_hat: Score | Field,
    score: Score | Field,
    law: Law,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 8192,
    seed: int = 0,
    points: int = 4,
    probes: int = 0,
) -> Estimate:
    r"""Observability eta by the two-copy Stein estimator.

    The numerator :math:`E[L_1 L_2]` and the denominator :math:`\varepsilon_*^2` are unbiased from the same draws; their
    ratio has a bias of O(1/n) and a delta-method interval, corrected for skewness. The value is not clipped to [0, 1].

    Args:
        score_hat: learned score; a :class:`~driftlaw.process.score.Perturbed` around `score` uses its error directly.
        score: score of the diffused `law`.
        law: the training law q at time 0; anything with ``sample``.
        t0: early-stopping time, > 0.
        T: horizon.
        n: number of starting points; each costs 2 x points evaluations of both scores and of the divergence.
        seed: seed of the named stream.
        points: times in each copy of L, one in each of as many strata.
        probes: Hutchinson probes for the divergence, independent in the two copies; 0 for the exact divergence.

    Returns:
        eta with its 95 % interval; 0, and said so, where the error vanishes everywhere.

    Raises:
        InputError: not 0 < t0 < T, n < 2, points < 1, or values that are NaN or infinite.
    """
    horizon, g = _checked_horizon(t0, T, n, points), generator(seed, "observability")
    products, energies, means = [], [], []
    for start in range(0, n, ROWS):
        x = forward(law.sample(min(ROWS, n - start), g), t0, g)
        copies, energy = torch.zeros(2, len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
        for one in copies:
            times, weights = _strata(horizon, len(x), points, g)
            for t, weight in zip(times.T, weights.T, strict=True):
                y = forward(x, t - t0, g)
                e, divergence, s = error_values(score_hat, score, y, t, probes, g)
                one += weight * (divergence.cpu().double() + (e * s).cpu().double().flatten(1).sum(1))
                energy += weight * square(e) / 2
        products.append(copies.prod(0))
        energies.append(energy)
        means.append(copies.mean(0))
    method = f"two-copy Stein estimator, {points} times a copy"
    estimate = _ratio(torch.cat(products), torch.cat(energies), method)
    centre = Estimate.mean(torch.cat(means), "mean of L")
    if centre.stderr > 0 and abs(centre.value) > CLEAR * centre.stderr:
        return estimate.warn(f"the mean of L is {centre}, not 0: is the given score that of the given law?")
    return estimate


@torch.no_grad()
def observability_of_laws(
    p_hat: ExactLaw,
    q: ExactLaw,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 2048,
    seed: int = 0,
    points: int = 2,
    target_se: float | None = None,
    density: Sequence[float] = (),
) -> Estimate:
    r"""Observability eta of the score of one exact law for another, through :math:`E\,Var(R | X_{t_0})`.

    Same estimand as :func:`observability` with the scores of `p_hat` and `q`, at a small part of its variance. Two
    exact forward paths leave each starting point, and :math:`Var(R | X_{t_0}) = \tfrac12 E[(R_1 - R_2)^2 | X_{t_0}]`.
    The square is a product of two factors, whose integrals take two independent sets of times, so that it is unbiased.
    Both paths take the same times: what is left of the difference is what the paths differ in, not the times.

    Args:
        p_hat: learned law at time 0 (KDE, mixture), with exact density and score at every time.
        q: training law at time 0, likewise.
        t0: early-stopping time, > 0.
        T: horizon.
        n: number of starting points; each costs 4 x points + 2 evaluations of both laws.
        seed: seed of the named stream.
        points: times in each set, one in each of as many strata.
        target_se: relative standard error to reach, as of :func:`~driftlaw.measure.paths.path.path_energy`.
        density: of the times, from :func:`~driftlaw.measure.paths.path.time_density`; () for the same everywhere.

    Returns:
        eta with its 95 % interval.

    Raises:
        InputError: as :func:`observability`, or a target that is not positive.
    """
    horizon, error = replace(_checked_horizon(t0, T, n, points), density=density), score_error(p_hat, q)

    def draw(starts: int, stage: str) -> Tensor:
        g = generator(seed, "observability", "laws", *([stage] if stage else []))
        ends, energies = [], []
        for done in range(0, starts, ROWS):
            x = forward(q.sample(min(ROWS, starts - done), g), t0, g)
            sets = [_strata(horizon, len(x), points, g) for _ in range(2)]
            paths = [_path(p_hat, q, error, horizon, x, sets, g) for _ in range(2)]
            ends.append(torch.stack([end for end, _ in paths]))
            energies.append(torch.stack([energy for _, energy in paths]))
        return _conditional_variance(torch.cat(ends, 1), torch.cat(energies, 2))

    method = f"conditional variance of log p_hat/q, {points} times a set"
    return refined(draw, lambda rows: _ratio(rows[:, 1] - rows[:, 0], rows[:, 1], method), n, target_se)


def _conditional_variance(ends: Tensor, energy: Tensor) -> Tensor:
    """Var(R | start) and energy of each start ``[n, 2]``.

    From h_T ``[path, n]`` and energies ``[path, time set, n]`` of two paths.
    """
    r = ends[:, None] - energy / 2
    return torch.stack([(r[0] - r[1]).prod(0) / 2, energy.mean((0, 1))], 1)


def _path(
    p_hat: ExactLaw,
    q: ExactLaw,
    error: Score,
    horizon: Horizon,
    x: Tensor,
    sets: Sequence[tuple[Tensor, Tensor]],
    g: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One exact forward path from `x` at t0: h_T at its end ``[n]`` and its energy by each set of times ``[2, n]``.

    Every set holds times and weights, ``[n, points]``.
    """
    points = sets[0][0].shape[1]
    times, order = torch.cat([t for t, _ in sets], 1).sort(1)
    weights = torch.cat([w for _, w in sets], 1).gather(1, order)
    energy, now = torch.zeros(2, len(x), dtype=torch.float64), torch.full((len(x),), horizon.t0, dtype=torch.float64)
    for t, weight, column in zip(times.T, weights.T, order.T, strict=True):
        x, now = forward(x, t - now, g), t
        gain = weight * square(error.score(x, t))
        energy += torch.where(torch.stack([column < points, column >= points]), gain, 0.0)
    x = forward(x, horizon.T - now, g)
    end = p_hat.log_prob(x, horizon.T).double() - q.log_prob(x, horizon.T).double()
    return end.cpu(), energy


def error_values(
    score_hat: Score | Field, score: Score | Field, x: Tensor, t: Tensor, probes: int, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Error e, its divergence ``[n]`` and the true score, each in as few passes as the objects allow."""
    error, true = own_error(score_hat, score), checked(score)
    if error is not None:
        return error.score(x, t), divergence_of(error, x, t, probes, g), true.score(x, t)
    (s_hat, div_hat), (s, div) = (_score_and_divergence(f, x, t, probes, g) for f in (score_hat, score))
    return s_hat - s, div_hat - div, s


def _score_and_divergence(
    score: Score | Field, x: Tensor, t: Tensor, probes: int, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    if hasattr(score, "evaluate"):
        values = evaluate(score, x, t)  # type: ignore[arg-type]
        parts = as_score(lambda *_: values.score), values.divergence
        return checked(parts[0]).score(x, t), parts[1]
    inner = checked(score)
    return inner.score(x, t), divergence_of(inner, x, t, probes, g)


def _checked_horizon(t0: float, T: float, n: int, points: int) -> Horizon:
    if n < 2 or points < 1:
        raise InputError(f"observability needs n >= 2 starting points and points >= 1, got n = {n}, points = {points}")
    return Horizon(t0, T)


def _strata(horizon: Horizon, n: int, points: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Times and weights ``[n, points]``, one in each stratum; the weights sum over points to an integral over time."""
    u = (torch.arange(points) + torch.rand(n, points, generator=g, dtype=torch.float64)) / points
    times, weights = horizon.time(u)
    return times, weights / points


def _ratio(product: Tensor, energy: Tensor, method: str) -> Estimate:
    n, total = len(product), float(energy.mean())
    if total == 0:
        zero = Estimate(0.0, 0.0, 0.0, 0.0, n, method)
        return zero.warn("the score error is zero at every draw: eta is 0 by convention")
    eta = float(product.mean()) / total
    rows = product - eta * energy
    spread = float(rows.std())
    stderr = spread / math.sqrt(n) / total
    skewness = UNSEEN * float((rows / spread).pow(3).mean()) / math.sqrt(n) if spread > 0 else 0.0
    estimate = Estimate.skewed(eta, stderr, skewness, n, method, dof=n - 1, no_shorter=True)
    if estimate.low < 0 or estimate.high > 1:
        estimate = estimate.warn("the interval leaves [0, 1], where eta lies: raise n for a sharper one")
    return estimate


def first_order(chi2: Estimate, energy: Estimate) -> Estimate:
    r"""The small-error reading of eta, :math:`\chi^2(\hat p\|q) / \varepsilon_*^2 = \eta\,(1 + O(\varepsilon_*))`.

    A check, not an estimator: it needs a finite chi2 at t0 and a small error (this project, theory 3.3).

    Args:
        chi2: chi2(p_hat || q) at t0.
        energy: eps*^2, independent of it.

    Returns:
        The ratio with a delta-method interval; refused if chi2 is infinite or unknown, or if the energy is zero.
    """
    method = "chi2 / eps*^2, first order in the error"
    if not math.isfinite(chi2.value):
        why = "infinite" if chi2.is_infinite else "unknown"
        return Estimate.refused(method, f"chi2 is {why}, so its first-order reading does not exist", chi2.n)
    if energy.value <= 0:
        return Estimate.refused(method, "the energy is zero", energy.n)
    ratio = chi2.value / energy.value
    stderr = math.hypot(chi2.stderr, ratio * energy.stderr) / energy.value
    estimate = Estimate.normal(ratio, stderr, min(chi2.n, energy.n), method, (*chi2.warnings, *energy.warnings))
    if math.isnan(stderr):
        estimate = replace(estimate, low=0.0, high=math.inf)
    if energy.value > 0.1:
        return estimate.warn(f"eps*^2 = {energy.value:.3g} is not small: the first-order reading is off by O(eps*)")
    return estimate
