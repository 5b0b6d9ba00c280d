r"""Gradient part of the score error: how much of it the marginals can see.

Weighted Helmholtz-Hodge split :math:`e = \hat s - s = \Pi e + R` with :math:`\mathrm{div}(p_t R) = 0`: the rotational
part R leaves every marginal where it is, and only

.. math:: G^2 = \int_{t_0}^T E_{p_t} |\Pi_{p_t} e_t|^2 dt \le \varepsilon_*^2

can do harm: :math:`KL(q\|\hat p) \le KL(q_T\|init) + G^2/2` and :math:`\eta \le G^2/\varepsilon_*^2` ([KTV-G] arXiv
2606.06179; this project, theory section 3.4).

**Closed form.** For :math:`p = N(m, \Sigma)` and a linear error :math:`e(x) = E(x - m) + b` the gradient part is
:math:`S(x - m) + b` with S symmetric, :math:`S\Sigma + \Sigma S = E\Sigma + \Sigma E^T` (:func:`linear_gradient_part`),
and its energy is an integral over time (:func:`linear_gradient_energy`).

**Critics.** In general :math:`E_{p_t}|\Pi e|^2 = \sup_\phi E[2(\hat s(x_t) - \nabla\log p_{t|0}(x_t|x_0)) \cdot
\nabla\phi(x_t) - |\nabla\phi|^2]`: no true score is needed, only rows and the learned score.
:func:`gradient_energy` fits a potential on one half of the rows and evaluates it, frozen, on the other half. The
expectation of that value is at most :math:`G^2` whatever was fitted: it is a **lower** confidence bound and never an
upper one. How the noise is kept small is the subject of :mod:`driftlaw.measure.paths.critic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.estimate import Estimate
from driftlaw.measure.paths.critic import DIRECTIONS, FOLDS, Critic, Draws, Folds, Frame, fit_fourier, fit_quadratic
from driftlaw.measure.paths.neural_critic import Examples, Network, fit_network
from driftlaw.measure.paths.path import ROWS, Horizon
from driftlaw.numerics.memory import fitting
from driftlaw.numerics.rows import check_finite
from driftlaw.process.schedule import alpha, variance
from driftlaw.process.score import Checked, Field, Law, Score, checked
from driftlaw.seeding import generator

#: The critics, each with all of "polynomial" before it.
CriticName = Literal["polynomial", "fourier", "neural"]
#: Fewest rows from which a critic can be fitted and evaluated.
MIN_ROWS = 64
#: Antithetic pairs from which a neural critic learns; in high dimension as many as fit a pass, at least an eighth.
POOL = 32_768
#: Gauss-Legendre nodes of a closed form's integral over time.
NODES = 64

#: A constant matrix or vector, or one for each time.
Coefficient = Tensor | Callable[[float], Tensor]


def linear_gradient_part(Sigma: Tensor, E: Tensor) -> Tensor:
    r"""Gradient part S of the linear field E(x - m) + b on N(m, Sigma); b is a gradient and passes.

    :math:`S\Sigma + \Sigma S = E\Sigma + \Sigma E^T`, S symmetric: in the eigenbasis of Sigma with eigenvalues
    :math:`\lambda`, :math:`S_{ij} = (E_{ij}\lambda_j + \lambda_i E_{ji})/(\lambda_i + \lambda_j)`.

    Args:
        Sigma: ``[d, d]`` symmetric, positive definite.
        E: ``[d, d]``.

    Returns:
        S ``[d, d]`` float64.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a Sigma that is not symmetric and positive
            definite.

    Example:
        >>> linear_gradient_part(torch.eye(2), torch.tensor([[1.0, 2.0], [-2.0, 3.0]]))
        tensor([[1., 0.],
                [0., 3.]], dtype=torch.float64)
    """
    values, Q = _eigen(Sigma)
    E = torch.as_tensor(E, dtype=torch.float64)
    if E.shape != Q.shape or not bool(torch.isfinite(E).all()):
        raise InputError(
            f"a linear field E of shape {list(E.shape)} on a Gaussian in {len(Q)} dimensions",
            f"give a finite [{len(Q)}, {len(Q)}] matrix",
        )
    turned = Q.mT @ E @ Q * values
    return Q @ ((turned + turned.mT) / (values[:, None] + values)) @ Q.mT


def linear_gradient_energy(
    Sigma: Tensor, E: Coefficient, b: Coefficient | None = None, *, t0: float = 0.02, T: float = 4.0
) -> Estimate:
    r"""Exact G^2 of the linear error :math:`e_t(x) = E_t (x - a_t m) + b_t` on the diffusion of N(m, Sigma).

    :math:`G^2 = \int_{t_0}^T \mathrm{tr}(S_t \Sigma_t S_t) + |b_t|^2\,dt` with
    :math:`\Sigma_t = a_t^2\Sigma + \sigma_t^2 I` and :math:`S_t` from :func:`linear_gradient_part`; 64 Gauss-Legendre
    nodes in the clock of :class:`~driftlaw.measure.paths.path.Horizon` (to rounding for smooth coefficients).

    Args:
        Sigma: ``[d, d]`` covariance at time 0, symmetric, positive definite.
        E: ``[d, d]``, or a callable of the OU time that returns one.
        b: ``[d]``, a callable that returns one, or None for zero.
        t0: early-stopping time, > 0.
        T: horizon.

    Raises:
        InputError: as :func:`linear_gradient_part`, or not 0 < t0 < T.
    """
    horizon = Horizon(t0, T)
    values, Q = _eigen(Sigma)
    nodes, mass = np.polynomial.legendre.leggauss(NODES)
    times, weights = horizon.time(torch.from_numpy((nodes + 1) / 2))
    total = 0.0
    for t, w in zip(times.tolist(), (weights * torch.from_numpy(mass) / 2).tolist(), strict=True):
        Sigma_t = Q @ torch.diag(float(alpha(t)) ** 2 * values + float(variance(t))) @ Q.mT
        S = linear_gradient_part(Sigma_t, _at(E, t))
        density = float((S @ Sigma_t * S).sum())
        if b is not None:
            density += float(_at(b, t).double().square().sum())
        total += w * density
    return Estimate.exact(total, f"closed form, {NODES} Gauss-Legendre nodes in time")


def _at(coefficient: Coefficient, t: float) -> Tensor:
    return coefficient if isinstance(coefficient, Tensor) else coefficient(t)


def _eigen(Sigma: Tensor) -> tuple[Tensor, Tensor]:
    Sigma = torch.as_tensor(Sigma, dtype=torch.float64)
    square = Sigma.ndim == 2 and Sigma.shape[0] == Sigma.shape[1]
    if not square or not bool(torch.isfinite(Sigma).all()) or not torch.allclose(Sigma, Sigma.mT, rtol=1e-6):
        raise InputError(f"a covariance of shape {list(Sigma.shape)} that is not square, symmetric and finite")
    values, Q = torch.linalg.eigh((Sigma + Sigma.mT) / 2)
    if not bool(values[0] > 0):
        raise InputError(f"a covariance whose smallest eigenvalue is {float(values[0]):.3g}", "it must be positive")
    return values, Q


@torch.no_grad()
def gradient_energy(
    score_hat: Score | Field,
    data: Tensor | Law,
    *,
    t0: float = 0.02,
    T: float = 4.0,
    critic: CriticName = "polynomial",
    n: int = 20_000,
    seed: int = 0,
    strata: int = 8,
    features: int = 256,
    width: int = 64,
    steps: int = 500,
    batch: int = 256,
) -> Estimate:
    r"""Lower confidence bound of the gradient part G^2 of the score error, from rows and the learned score alone.

    Half of the rows fit the critic (the ridge or the early stop included), the other half evaluates it. The error e is
    that against the score of the law of `data`. Each row is noised once, with an antithetic pair, in each stratum of
    time; its mean over the strata is one observation, so that the standard error is one over independent rows.

    Assumptions: rows are independent draws of the law that `score_hat` was meant to learn, and `score_hat` was not
    trained on them (a score that has memorised its rows is nearly right on them and wrong elsewhere).

    Args:
        score_hat: learned score.
        data: rows at time 0, ``[n, d]`` or ``[n, c, h, w]``, or anything with ``sample`` (then `n` rows are drawn).
        t0: early-stopping time, > 0.
        T: horizon.
        critic: "polynomial" (degree 2: all of it in the 128 leading principal directions; linear and
            isotropic in the others), "fourier"
            (that and random waves) or "neural" (that and a network of the principal coordinates).
        n: rows used, at most; a random part of a longer tensor.
        seed: seed of the named streams.
        strata: strata of time; a dictionary's coefficients are constant within each.
        features: random waves of "fourier".
        width: hidden width of "neural".
        steps: optimisation steps of "neural".
        batch: antithetic pairs per step of "neural".

    Returns:
        The held-out value (no unit; it may be negative where there is nothing to find) with a one-sided interval: `low`
        is the 95 % lower confidence bound of G^2, `high` is infinite because no critic bounds G^2 from above.

    Raises:
        InputError: an unknown critic, fewer than 64 rows, rows or scores that are NaN or infinite, sizes < 1, or not
            0 < t0 < T.

    Example:
        >>> rows = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> shrunk = gradient_energy(lambda x, t: -0.8 * x, rows, t0=0.02, T=4.0)  # e = 0.2 x, so G^2 = 0.3184
        >>> 0.2 < shrunk.low < shrunk.value < 0.4
        True
    """
    horizon = Horizon(t0, T)
    if critic not in get_args(CriticName):
        raise InputError(f"unknown critic {critic!r}", nearest(str(critic), get_args(CriticName)))
    for name, size in {"strata": strata, "features": features, "width": width, "steps": steps, "batch": batch}.items():
        if size < 1:
            raise InputError(f"gradient_energy with {name} = {size}", f"give {name} >= 1")
    fit, held_out = _halves(data, n, seed)
    noise = _Noise(checked(score_hat), horizon, strata, seed, features if critic == "fourier" else 1)
    frame, fit = _frame(fit)
    critics: list[list[Critic]] = []
    for k in range(strata):
        chosen: list[Critic] = [fit_quadratic(frame, noise.folds(fit, "polynomial", k))]
        if critic == "fourier":
            centre = float(horizon.time(torch.tensor((k + 0.5) / strata))[0])
            waves = generator(seed, "gradient", "waves", k)
            chosen.append(fit_fourier(frame, noise.folds(fit, "fourier", k), chosen, centre, features, waves))
        critics.append(chosen)
    if critic == "neural":
        network = _fit_neural(noise, frame, fit, critics, width, steps, batch)
        critics = [[*chosen, network] for chosen in critics]
    values = sum(_values(noise.draws(held_out, "held out", k), critics[k]) for k in range(strata)) / strata
    return _lower_bound(torch.as_tensor(values), critic, frame, len(fit), strata)


@dataclass(frozen=True)
class _Noise:
    """Noised rows with the learned score, in blocks that bound the memory; each purpose has its own streams."""

    score: Checked
    horizon: Horizon
    strata: int
    seed: int
    features: int

    def draws(self, rows: Tensor, purpose: str, k: int, fold: int = 0) -> Iterator[Draws]:
        g = generator(self.seed, "gradient", purpose, k, fold)
        d = rows[0].numel()
        block = min(ROWS // 2, fitting(2 * 8 * (10 * d + 4 * self.features)))
        for part in torch.split(rows, block):
            m = len(part)
            t, weight = self.horizon.time((k + torch.rand(m, generator=g, dtype=torch.float64)) / self.strata)
            z = torch.randn(m, d, generator=g, dtype=torch.float64)
            signal = alpha(t)[:, None] * part.flatten(1).cpu().double()
            noise = variance(t).sqrt()[:, None] * z
            x, t, z, weight = (
                torch.cat([signal + noise, signal - noise]),
                t.repeat(2),
                torch.cat([z, -z]),
                weight.repeat(2),
            )
            at = x.reshape(2 * m, *part.shape[1:]).to(part)
            yield Draws(x, z, t, weight, self.score.score(at, t.to(at.device)).flatten(1).cpu().double())

    def folds(self, rows: Tensor, purpose: str, k: int) -> Folds:
        parts = enumerate(rows.tensor_split(FOLDS))
        return [partial(self.draws, part, purpose, k, i) for i, part in parts]


def _halves(data: Tensor | Law, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fitting rows and held-out rows."""
    if n < MIN_ROWS:
        raise InputError(f"a critic fitted and evaluated on n = {n} rows", f"give n >= {MIN_ROWS}")
    rows = data if isinstance(data, Tensor) else data.sample(n, generator(seed, "gradient", "rows"))
    if rows.ndim < 2 or not rows.is_floating_point():
        raise InputError(f"rows of shape {list(rows.shape)} and dtype {rows.dtype}", "give float rows [n, d]")
    if len(rows) < MIN_ROWS:
        raise InputError(f"a critic fitted and evaluated on {len(rows)} rows", f"give at least {MIN_ROWS}")
    order = torch.randperm(len(rows), generator=generator(seed, "gradient", "split"))[:n].to(rows.device)
    check_finite(rows, "rows", "drop them")
    half = len(order) // 2
    return rows[order[:half]], rows[order[half:]]


def _frame(fit: Tensor) -> tuple[Frame, Tensor]:
    """The frame, and the fitting rows left for the critics: half where directions are chosen, else all."""
    d = fit[0].numel()
    cut = len(fit) // 2 if d > DIRECTIONS else 0
    rows = fit.flatten(1).cpu().double()
    return (Frame.of(rows[:cut], rows[cut:]) if cut else Frame.of(rows)), fit[cut:]


def _fit_neural(
    noise: _Noise, frame: Frame, fit: Tensor, critics: list[list[Critic]], width: int, steps: int, batch: int
) -> Network:
    """A network for what `critics` leave, on a pool of noised rows; a quarter of the rows decides when to stop."""
    cut = 3 * len(fit) // 4
    size = min(POOL, max(POOL // 8, fitting(8 * fit[0].numel())))

    def pool(rows: Tensor, purpose: str, pairs: int) -> Examples:
        rounds = max(1, pairs // (noise.strata * len(rows)))
        parts = []
        for i in range(rounds * noise.strata):
            k = i % noise.strata
            for draws in noise.draws(rows[: max(1, pairs // noise.strata)], purpose, k, i // noise.strata):
                parts.append(Examples.of(frame, draws, critics[k]))
        return Examples.join(parts)

    train, test = pool(fit[:cut], "neural train", size), pool(fit[cut:], "neural test", size // 2)
    return fit_network(frame, train, test, width, steps, batch, generator(noise.seed, "gradient", "network"))


def _values(blocks: Iterator[Draws], critics: list[Critic]) -> Tensor:
    """The objective of the summed critics for each row: mean of its antithetic pair, ``[n]``."""
    parts = []
    for draws in blocks:
        pieces = [critic(draws) for critic in critics]
        gradient = torch.stack([p[0] for p in pieces]).sum(0)
        xi = torch.stack([p[1] for p in pieces]).sum(0)
        value = 2 * ((draws.score * gradient).sum(1) + xi) - gradient.square().sum(1)
        parts.append((draws.weight * value).reshape(2, -1).mean(0))
    return torch.cat(parts)


def _lower_bound(values: Tensor, critic: str, frame: Frame, fitted: int, strata: int) -> Estimate:
    n = len(values)
    value, stderr = float(values.mean()), float(values.std()) / math.sqrt(n)
    low = value - float(stats.t.ppf(0.95, n - 1)) * stderr
    more = {"polynomial": "", "fourier": " and random waves", "neural": " and a network"}[critic]
    method = (
        f"lower bound by a critic: quadratic in {frame.size} of {len(frame.mean)} directions{more},"
        f" {strata} strata of time, fitted on {fitted} rows, evaluated on the others; one-sided 95 % interval"
    )
    warnings = ["a lower bound of G^2, never an upper one: what the critic cannot express is missed"]
    if low <= 0:
        warnings.append("not significantly positive: this critic found no gradient error in these rows")
    return Estimate(value, stderr, low, math.inf, n, method, tuple(warnings))
