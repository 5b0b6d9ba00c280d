r"""Path measures of a score field that need not be the score of any law: a trained network's.

What can be said depends on what is known of the training law q:

* **rows of q alone** (images, tables, the second generation of a network): the gradient part :math:`G^2`, the part of
  the score error that the marginals can see, bounded from below by a critic (:mod:`driftlaw.measure.paths.gradient`;
  [KTV-G] arXiv 2606.06179), and the start :math:`KL(q_T \| N(0, I))`, bounded from above because the divergence is
  convex in its first argument:

  .. math:: KL(q_T\|N(0,I)) \le E_{x_0\sim q}\,KL(N(a x_0, \sigma^2 I)\|N(0,I))
            = \tfrac12\big(a^2 E|x_0|^2 - d\,(a^2 + \log \sigma^2)\big), \quad a = e^{-T/2},\ \sigma^2 = 1 - a^2 ;

* **q itself** (a network that learned a known mixture): both energies and :math:`\eta` as well. There is no exact
  learned path, so that :math:`\hat\varepsilon^2` is taken along simulated paths from N(0, I), with the bias of the time
  step stated (:func:`~driftlaw.measure.paths.path.learned_path_energy`).
"""

from __future__ import annotations

import math

from torch import Tensor

from driftlaw.estimate import Estimate
from driftlaw.measure.laws.divergence import kl, log_densities, reverse_kl
from driftlaw.measure.paths.generation import PathMeasures
from driftlaw.measure.paths.gradient import MIN_ROWS, CriticName, gradient_energy
from driftlaw.measure.paths.observability import observability
from driftlaw.measure.paths.path import StandardNormal, learned_path_energy, path_energy
from driftlaw.process.laws.law import ExactLaw, diffuse
from driftlaw.process.score import Field, Score
from driftlaw.seeding import stream_seed

#: Paths and steps of the simulation of the learned path.
PATHS, STEPS = 512, 200


def score_path_measures(
    score_hat: Score | Field,
    rows: Tensor,
    law: ExactLaw | None = None,
    *,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 2048,
    critic: CriticName = "polynomial",
    seed: int = 0,
) -> PathMeasures:
    """Measure one generation whose learned score is a field.

    Args:
        score_hat: learned score.
        rows: independent rows of q at time 0 that `score_hat` was not trained on, ``[m, ...]``.
        law: q at time 0, where it is known.
        t0: early-stopping time, > 0.
        T: horizon, where the learned path starts at N(0, I).
        n: draws of each energy and starting points of eta, where q is known.
        critic: how the gradient part is looked for.
        seed: seed of the named streams.

    Returns:
        What can be measured; the gradient part is refused with fewer than 64 rows.

    Raises:
        InputError: not 0 < t0 < T, or a score or rows that are NaN or infinite.

    Example:
        >>> from driftlaw.process.laws.mixture import GaussianMixture
        >>> q = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
        >>> found = score_path_measures(lambda x, t: -0.8 * x, q.sample(500), q, n=500)  # e = 0.2 x
        >>> 0 < found.gradient_energy.low < found.energy_ideal.high
        True
    """

    def stream(name: str) -> int:
        return stream_seed(seed, "score path", name)

    gradient = Estimate.refused("critic", f"{len(rows)} unseen rows of the training law; a critic needs {MIN_ROWS}")
    if len(rows) >= MIN_ROWS:
        gradient = gradient_energy(score_hat, rows, t0=t0, T=T, critic=critic, n=len(rows), seed=stream("gradient"))
    if law is None:
        return PathMeasures(gradient_energy=gradient, kl_standard_reverse=initial_kl_limit(rows, T))
    start = StandardNormal(tuple(rows.shape[1:]))
    late = log_densities(start, diffuse(law, T), n=n, seed=stream("standard"))
    return PathMeasures(
        energy_ideal=path_energy(score_hat, law, law, t0, T, n=n, seed=stream("ideal")),
        energy_learned=learned_path_energy(
            score_hat, law, start, t0, T, n=min(n, PATHS), seed=stream("learned"), steps=STEPS
        ),
        observability=observability(score_hat, law, law, t0, T, n=n, seed=stream("observability")),
        kl_standard=kl(late),
        gradient_energy=gradient,
        kl_standard_reverse=reverse_kl(late),
    )


def initial_kl_limit(rows: Tensor, T: float) -> Estimate:
    r"""An upper bound of KL(q_T || N(0, I)) from rows of q: :math:`\tfrac12(a^2 E|x|^2 - d(a^2 + \log\sigma^2))`, nats.

    The module's page has the proof.

    Args:
        rows: ``[n, ...]`` rows of q at time 0, n >= 2.
        T: horizon.
    """
    x = rows.detach().flatten(1).cpu().double()
    a2 = math.exp(-T)
    costs = (a2 * x.square().sum(1) - x.shape[1] * (a2 + math.log1p(-a2))) / 2
    return Estimate.mean(costs, "upper bound: convexity of KL in q_T, from E|x|^2")
