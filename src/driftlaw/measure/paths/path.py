r"""Path score-error energies by exact marginals, initialisation KL, and learned paths from a sampler.

Forward process :math:`X_t = a X_{t_0} + \sqrt{1 - a^2} Z` with :math:`a = e^{-(t - t_0)/2}`. The reverse process with
the score error :math:`e = \hat s - s` has the drift error e and unit noise. The energies are

.. math::

    \varepsilon_*^2 = \int_{t_0}^T E_{q_t} |e_t|^2 dt, \qquad \hat\varepsilon^2 = \int_{t_0}^T E_{\hat p_t} |e_t|^2 dt

([KTV] arXiv 2602.16601; Prop 3.1: :math:`KL(\hat p\|q)_{t_0} \le KL_{init} + \hat\varepsilon^2/2`). Under the ideal
path law the marginals are the diffused law, drawn exactly: no solver and no time step (this project, theory section 2).
The same holds for :math:`\hat\varepsilon^2` if :math:`\hat s` is the score of a diffused law (KDE, mixture); then Prop
3.1 is an equality, :math:`KL(\hat p\|q)_{t_0} = KL(\hat p\|q)_T + \hat\varepsilon^2/2` (theory 3.1). Other score fields
(networks) have no exact learned path: :func:`learned_path_energy` simulates it and says what the time step costs.

Times go through the map :math:`t(u) = t_0 + b\,(e^{cu} - 1)`, :math:`b = \sqrt{t_0 T}`: uniform in t near :math:`t_0`,
uniform in log t beyond it. Strata hold two independent draws each, so that the estimate and the estimate of its
variance are both unbiased for any field. Few draws suffice if they go where the integrand varies:
:func:`time_density` finds the density over u that is proportional to its standard deviation (Neyman allocation) from
a pilot sample of its own, which leaves everything unbiased. For kernel density estimates, whose error lives near
:math:`t_0`, this halves the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.laws.divergence import kl, log_densities
from driftlaw.process.draws import normal, own_generator
from driftlaw.process.laws.law import ExactLaw, diffuse
from driftlaw.process.schedule import alpha, expand, log_grid, sigma
from driftlaw.process.score import Field, Law, Perturbed, Score, as_score, checked
from driftlaw.seeding import generator

#: Draws taken from a stream at a time: another value gives other numbers of the same law. Laws bound their own memory.
ROWS = 8192
#: A target standard error raises n at most by this factor, in at most so many stages after the pilot.
MAX_GROWTH, STAGES = 64, 3
#: Parts of u in which :func:`time_density` looks, and the share of the draws that it spreads evenly: no weight can grow
#: by more than 1/EVEN.
PARTS, EVEN = 16, 0.2


@dataclass(frozen=True)
class Horizon:
    """Times from `t0` (where laws are compared) to `T` (where the reverse process starts), and draws of them.

    Args:
        t0: early-stopping time, > 0.
        T: horizon, > t0.
        density: relative density of the draws over equal parts of u; () for the same everywhere.

    Raises:
        InputError: not 0 < t0 < T < infinity, or a density that is not positive.
    """

    t0: float
    T: float
    density: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not 0 < self.t0 < self.T < math.inf:
            raise InputError(f"path measures need 0 < t0 < T, got t0 = {self.t0}, T = {self.T}")
        if not all(0 < share < math.inf for share in self.density):
            raise InputError(f"a density of times must be positive, got {list(self.density)}", "see time_density")

    def time(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Times and the weights dt/dv that turn a mean over v in [0, 1] into an integral over time.

        v is u itself, or the distribution function of u under :attr:`density`.
        """
        b = math.sqrt(self.t0 * self.T)
        c = math.log1p((self.T - self.t0) / b)
        u, slope = self._allocated(v) if self.density else (v, torch.ones_like(v))
        return self.t0 + b * torch.expm1(c * u), slope * b * c * torch.exp(c * u)

    def _allocated(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The u at which the distribution function is v, and du/dv."""
        share = torch.as_tensor(self.density, dtype=torch.float64)
        share, parts = share / share.sum(), len(share)
        edges = share.cumsum(0)
        part = torch.searchsorted(edges, v.contiguous(), right=True).clamp_(max=parts - 1)
        slope = 1 / (parts * share[part])
        return (part + 1) / parts - (edges[part] - v) * slope, slope


def forward(x: Tensor, elapsed: float | Tensor, g: torch.Generator) -> Tensor:
    """One exact draw of the forward process after `elapsed` OU time (scalar or ``[n]``) from ``x [n, ...]``."""
    z = normal(tuple(x.shape), g, x.dtype, x.device)
    a, s = (torch.as_tensor(c(elapsed)).to(x) for c in (alpha, sigma))
    return expand(a, x.ndim) * x + expand(s, x.ndim) * z


def own_error(score_hat: Score | Field, score: Score | Field) -> Score | None:
    """The error field of a :class:`Perturbed` around `score` itself, else None."""
    if isinstance(score_hat, Perturbed) and (
        score_hat.base is score or getattr(score_hat.base, "field", None) is score
    ):
        return checked(score_hat.error)
    return None


def score_error(score_hat: Score | Field, score: Score | Field) -> Score:
    """The field ``e = score_hat - score``, without cancellation where :func:`own_error` knows it."""
    known = own_error(score_hat, score)
    if known is not None:
        return known
    learned, true = checked(score_hat), checked(score)
    return as_score(lambda x, t: learned.score(x, t) - true.score(x, t))


@torch.no_grad()
def time_density(
    score_hat: Score | Field,
    score: Score | Field,
    law: Law,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 512,
    seed: int = 0,
) -> tuple[float, ...]:
    """Where along the path draws of the score error are worth most: a density for :class:`Horizon`.

    Proportional to the standard deviation of the energy's integrand in each of :data:`PARTS` parts of u, and at least
    :data:`EVEN` of the mean.

    Args:
        score_hat: learned score.
        score: score of the training law q.
        law: law at time 0 whose diffusion gives the marginals.
        t0: early-stopping time, > 0.
        T: horizon.
        n: pilot draws, from a stream of their own.
        seed: seed of the named stream.

    Returns:
        ``[PARTS]`` of mean 1, or () where the error does not vary.

    Raises:
        InputError: not 0 < t0 < T, or a score that is NaN or infinite.
    """
    horizon, error, each = Horizon(t0, T), score_error(score_hat, score), max(2, n // PARTS)
    g = generator(seed, "path", "pilot")
    u = (torch.arange(PARTS)[:, None] + torch.rand(PARTS, each, generator=g, dtype=torch.float64)) / PARTS
    t, weight = horizon.time(u.flatten())
    x = forward(law.sample(len(t), g), t, g)
    spread = (weight * square(error.score(x, t))).reshape(PARTS, each).std(1)
    if not 0 < float(spread.mean()) < math.inf:
        return ()
    return tuple((EVEN + (1 - EVEN) * spread / spread.mean()).tolist())


@torch.no_grad()
def path_energy(
    score_hat: Score | Field,
    score: Score | Field,
    law: Law,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 4096,
    seed: int = 0,
    target_se: float | None = None,
    density: Sequence[float] = (),
) -> Estimate:
    r"""Path score-error energy :math:`\int_{t_0}^T E_{law_t} |\hat s_t - s_t|^2 dt`, unbiased.

    With the law that `score` belongs to this is :math:`\varepsilon_*^2`; with the law that `score_hat` belongs to (a
    KDE or mixture) it is :math:`\hat\varepsilon^2`.

    Args:
        score_hat: learned score.
        score: score of the training law q.
        law: law at time 0 whose diffusion gives the marginals; anything with ``sample``.
        t0: early-stopping time, > 0.
        T: horizon.
        n: number of (time, point) draws; rounded up to an even number.
        seed: seed of the named streams.
        target_se: relative standard error to reach, for example 0.02. While the draws miss it, as many as they suggest
            are added, at most three times and up to 64 n in all.
        density: of the times, from :func:`time_density`; () for the same everywhere.

    Returns:
        The energy (no unit) with Student's interval, n/2 degrees of freedom, corrected for skewness.

    Raises:
        InputError: not 0 < t0 < T, n < 4, a target that is not positive, or a score that is NaN or infinite.
    """
    horizon, error = Horizon(t0, T, density), score_error(score_hat, score)
    if n < 4:
        raise InputError(f"a path energy with an interval needs n >= 4 draws, got {n}")

    def draw(size: int, stage: str) -> Tensor:
        return _pairs(error, law, horizon, size, generator(seed, "path", "energy", *([stage] if stage else [])))

    return refined(draw, _energy, n, target_se)


def refined(
    draw: Callable[[int, str], Tensor], estimate: Callable[[Tensor], Estimate], n: int, target_se: float | None
) -> Estimate:
    """An estimate from as many draws as its target needs: a pilot of `n`, then what the draws so far suggest.

    No draw is thrown away: a set that met a rare large value, and for that missed its target, stays in the estimate.
    What remains is the bias of stopping where no such value was met; it falls with `n`.

    Args:
        draw: maps a number of draws and a stage (a name of random streams; "" is the pilot) to rows.
        estimate: of all rows so far.
        n: draws of the pilot; all stages together have at most :data:`MAX_GROWTH` times as many.
        target_se: relative standard error to reach; None takes the pilot.

    Raises:
        InputError: a target that is not positive.
    """
    if target_se is not None and not target_se > 0:
        raise InputError(f"target_se must be positive, got {target_se}")
    rows, made = draw(n, ""), n
    found = estimate(rows)
    if target_se is None:
        return found
    for stage in range(1, STAGES + 1):
        if found.stderr <= target_se * abs(found.value) or made >= MAX_GROWTH * n:
            break
        needed = 1.1 * made * (found.stderr / (target_se * abs(found.value))) ** 2 if found.value else math.inf
        more = max(n, math.ceil(min(needed, MAX_GROWTH * n)) - made)
        rows, made = torch.cat([rows, draw(more, f"stage {stage}")]), made + more
        found = estimate(rows)
    if found.stderr > target_se * abs(found.value):
        reached = found.stderr / abs(found.value) if found.value else math.inf
        return found.warn(f"relative standard error {reached:.2g}, not the target {target_se:.2g}: raise n")
    return found


def _pairs(error: Score, law: Law, horizon: Horizon, n: int, g: torch.Generator) -> Tensor:
    """Two weighted squared errors in each of n/2 strata of time, ``[n/2, 2]``."""
    strata = (n + 1) // 2
    parts = []
    for start in range(0, strata, ROWS // 2):
        rows = torch.arange(start, min(start + ROWS // 2, strata), dtype=torch.float64)[:, None]
        u = (rows + torch.rand(len(rows), 2, generator=g, dtype=torch.float64)) / strata
        t, weight = horizon.time(u.flatten())
        x = forward(law.sample(len(t), g), t, g)
        parts.append((weight * square(error.score(x, t))).reshape(-1, 2))
    return torch.cat(parts)


def _energy(pairs: Tensor) -> Estimate:
    strata = len(pairs)
    stderr = math.sqrt(float((pairs[:, 0] - pairs[:, 1]).square().sum()) / 4) / strata
    method = "exact marginals, stratified times"
    skewness = _third_cumulant(pairs) / stderr**3 if stderr > 0 else 0.0
    estimate = Estimate.skewed(float(pairs.mean()), stderr, skewness, 2 * strata, method, dof=strata, no_shorter=True)
    return replace(estimate, low=max(estimate.low, 0.0))


def _third_cumulant(pairs: Tensor) -> float:
    """Of the mean of all draws: k-statistics of the four draws of each two neighbouring strata, which differ little."""
    four = pairs[: len(pairs) // 2 * 2].reshape(-1, 4)
    k3 = (four - four.mean(1, keepdim=True)).pow(3).sum(1) * 2.0 / 3.0
    return float(k3.sum()) * 4.0 / pairs.numel() ** 3


def square(e: Tensor) -> Tensor:
    """Squared norm of each row, ``[n]`` float64."""
    return e.detach().cpu().double().flatten(1).square().sum(1)


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I) on rows of the given shape: the usual start of the reverse process.

    Args:
        shape: shape of one row.
    """

    shape: tuple[int, ...]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws, ``[n, *shape]`` float32."""
        return normal((n, *self.shape), own_generator(generator), torch.float32)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, ``[n]``."""
        return -0.5 * (x.flatten(1).square().sum(1) + math.prod(self.shape) * math.log(2 * math.pi))


@torch.no_grad()
def initial_kl(law: ExactLaw, T: float = 4.0, n: int = 10_000, seed: int = 0, reverse: bool = False) -> Estimate:
    r"""Cost of starting the reverse process at N(0, I): KL(N(0, I) || q_T) in nats, or KL(q_T || N(0, I)).

    The first enters the bound on KL(p_hat || q), the second (`reverse`) that on KL(q || p_hat); [KTV] Prop 3.1 drops
    both.

    Args:
        law: q at time 0, with an exact diffused density.
        T: horizon.
        n: draws of each law.
        seed: seed of the named streams.
        reverse: give KL(q_T || N(0, I)).

    Raises:
        InputError: a law without a density, or n < 2.
    """
    shape = tuple(law.sample(1, generator(seed, "path", "shape")).shape[1:])
    start, end = StandardNormal(shape), diffuse(law, T)
    return kl(log_densities(end, start, n=n, seed=seed) if reverse else log_densities(start, end, n=n, seed=seed))


@torch.no_grad()
def learned_path_energy(
    score_hat: Score | Field,
    score: Score | Field,
    start: Law,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 4096,
    seed: int = 0,
    steps: int = 500,
    grid: Tensor | None = None,
) -> Estimate:
    r"""The energy :math:`\hat\varepsilon^2` along simulated paths of the learned reverse process.

    Euler-Maruyama with `score_hat`: :math:`\sum_k h_k E|e_{t_k}(Y_k)|^2`. It is exact for that chain: its path KL from
    the chain with the true score is :math:`KL_{init}` plus half of it. As an estimate of the continuous energy it has a
    bias of first order in the steps; a second chain with half of the steps runs along the same noise, and the
    difference, which estimates that bias, is stated in the method.

    Args:
        score_hat: learned score that drives the path.
        score: score of the training law.
        start: law of the path at time T (not diffused), for example :class:`StandardNormal`.
        t0: last time.
        T: first time.
        n: number of paths.
        seed: seed of the named stream.
        steps: number of steps, even; equal in log t.
        grid: descending times ``[steps + 1]`` instead of `steps`.

    Raises:
        InputError: an odd number of steps, not 0 < t0 < T, n < 2, or a score that is NaN or infinite.
    """
    Horizon(t0, T)
    times = log_grid(T, t0, steps) if grid is None else grid.double()
    if len(times) % 2 == 0 or len(times) < 3:
        raise InputError(f"the check with half of the steps needs an even number of them, got {len(times) - 1}")
    g = generator(seed, "path", "learned")
    _, energy = coupled_chains(score_hat, score, start.sample(n, g), times, g)
    bias = float((energy[1] - energy[0]).mean())  # first order: half of the steps double it
    method = f"Euler-Maruyama, {len(times) - 1} steps; half of the steps change it by {bias:.3g}"
    estimate = Estimate.mean(energy[0], method)
    if abs(bias) > estimate.stderr:
        return estimate.warn(f"the time step matters: its bias is about {bias:.3g} and not in the interval")
    return estimate


@torch.no_grad()
def coupled_chains(
    score_hat: Score | Field, score: Score | Field, start: Tensor, times: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Two Euler-Maruyama chains of the learned reverse process along the same noise: all steps, and half of them.

    Args:
        score_hat: learned score that drives the chains.
        score: score of the training law.
        start: points at the first time, ``[n, ...]``.
        times: descending, ``[steps + 1]`` with an even number of steps.
        g: source of the noise.

    Returns:
        End points ``[2, n, ...]`` and energies :math:`\sum_k h_k |e_{t_k}(Y_k)|^2` ``[2, n]``; first all steps.
    """
    learned, true, known = checked(score_hat), checked(score), own_error(score_hat, score)
    ends, energy = [start, start], torch.zeros(2, len(start), dtype=torch.float64)

    def advance(chain: int, t: float, s: float, kick: Tensor) -> None:
        y, h = ends[chain], t - s
        drift = learned.score(y, t)
        e = known.score(y, t) if known is not None else drift - true.score(y, t)
        energy[chain] += h * square(e)
        ends[chain] = y + h * (y / 2 + drift) + kick

    for (t, middle), (_, s) in zip(*(list(pairwise(times.tolist()))[i::2] for i in (0, 1)), strict=True):
        kicks = [
            normal(tuple(start.shape), g, start.dtype, start.device) * math.sqrt(h) for h in (t - middle, middle - s)
        ]
        advance(1, t, s, kicks[0] + kicks[1])
        advance(0, t, middle, kicks[0])
        advance(0, middle, s, kicks[1])
    return torch.stack(ends), energy
