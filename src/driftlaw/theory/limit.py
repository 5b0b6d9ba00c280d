r"""Where a recursion with perfect scores goes: the limit law of early stopping, its spectrum, and annealing.

A learner with exact scores that stops at OU time :math:`\tau_n` in round n makes
:math:`p_{n+1} = P_{\tau_n}(\alpha p + (1-\alpha) p_n)`, P the Ornstein-Uhlenbeck semigroup. With constant
:math:`\tau > 0` and :math:`\alpha > 0`

.. math::

    p_\infty = \alpha \sum_{k \ge 1} (1-\alpha)^{k-1} P_{k\tau}\,p, \qquad
    p_n - p_\infty = (1-\alpha)^n P_{n\tau}(p_0 - p_\infty),

and every Hermite coefficient :math:`a_m = E\,He_m(X)` of total degree m, whatever p, is multiplied by the gain

.. math:: g_m = \frac{\alpha r_m}{1 - (1-\alpha) r_m}, \qquad r_m = e^{-m\tau/2} .

Early stopping is a low-pass filter. Annealing (:math:`\tau_n \to 0`) removes the compounding for every m.

References: Khelifa, Turner, Venkataramanan, arXiv 2606.13796, for the topic (abstract read); proofs: this project,
theory section 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from driftlaw.errors import InputError
from driftlaw.process.laws.mixture import GaussianMixture

#: Most Gaussian components that a truncated limit law may have.
MOST_COMPONENTS = 100_000


class RecursionLaw(GaussianMixture):
    """An exact law of the recursion, as a Gaussian mixture.

    Attributes:
        alpha: fraction of fresh data.
        rounds: rounds of the recursion from p_0 = p that give this law.
        missing: largest TV distance to the limit law; nan where the rounds differ and no limit was meant.
    """

    alpha: float = math.nan
    rounds: int = 0
    missing: float = math.nan


def recursion_law(target: GaussianMixture, alpha: float, t0: Sequence[float]) -> RecursionLaw:
    r"""The exact law :math:`p_n` after one round for each of the times `t0`, from :math:`p_0 = p`.

    .. math:: p_n = \alpha \sum_{k=1}^{n} (1-\alpha)^{k-1} P_{S_k}\,p + (1-\alpha)^n P_{S_n}\,p,
        \qquad S_k = \tau_{n-k+1} + \dots + \tau_n

    Args:
        target: p.
        alpha: fraction of fresh data, in [0, 1].
        t0: tau of each round, OU times >= 0.

    Raises:
        InputError: alpha outside [0, 1], no rounds, or a time that is negative or not finite.
    """
    if not isinstance(target, GaussianMixture):
        raise InputError(f"{target!r} is not a Gaussian mixture", "exact laws of the recursion need one")
    check_fraction(alpha)
    taus = check_times(t0)
    n, K = len(taus), len(target)
    if n * K > MOST_COMPONENTS:
        raise InputError(
            f"{n} rounds of {K} components make {n * K} components, more than {MOST_COMPONENTS}",
            "choose a larger alpha or tolerance, or fewer rounds",
        )
    total = torch.from_numpy(np.cumsum(taus[::-1]).copy())
    shares = alpha * (1 - alpha) ** np.arange(n)
    shares[-1] += (1 - alpha) ** n
    used = torch.from_numpy(shares) > 0
    total, weights = total[used], torch.from_numpy(shares)[used]
    shape = (-1, *[1] * target.covariances.ndim)
    decay = torch.exp(-total)
    noise = -torch.expm1(-total).reshape(shape)
    if target.covariances.ndim == 3:
        noise = noise * torch.eye(target.dim, dtype=torch.float64)
    covariances = decay.reshape(shape) * target.covariances + noise
    law = RecursionLaw(
        (weights[:, None] * target.weights).flatten(),
        (decay.sqrt()[:, None, None] * target.means).flatten(0, 1),
        covariances.flatten(0, 1),
    )
    law.alpha, law.rounds = float(alpha), n
    return law


def limit_law(target: GaussianMixture, alpha: float, t0: float, *, tolerance: float = 1e-10) -> RecursionLaw:
    r"""The limit law :math:`p_\infty = \alpha\sum_{k\ge1}(1-\alpha)^{k-1}P_{kt_0}p`; public as ``driftlaw.limit_law``.

    It is truncated after n terms, and the rest of the mass, :math:`(1-\alpha)^n`, sits on :math:`P_{nt_0}p`: this is
    exactly the law of the recursion after n rounds from p, within ``law.missing`` of the limit in TV.

    Args:
        target: p.
        alpha: fraction of fresh data, in (0, 1].
        t0: early-stopping time of every round, > 0.
        tolerance: largest missing mass.

    Raises:
        InputError: alpha = 0 (no limit law), t0 = 0 (the limit is p), or numbers that are not finite.

    Reference: theory section 9.

    Example:
        >>> law = limit_law(GaussianMixture([1.0], [[2.0]], 1.0), alpha=0.2, t0=0.05)
        >>> round(float(law.mean()) / 2, 4)  # the gain of degree 1
        0.8876
    """
    check_positive(alpha, t0)
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance {tolerance!r} is not in (0, 1)", "it is the largest missing mass")
    rounds = 1 if alpha == 1 else max(1, math.ceil(math.log(tolerance) / math.log1p(-alpha)))
    law = recursion_law(target, alpha, _repeated(t0, rounds, len(target)))
    law.missing = (1 - alpha) ** rounds
    return law


def _repeated(t0: float, rounds: int, components: int) -> list[float]:
    if rounds * components > MOST_COMPONENTS:
        raise InputError(
            f"the limit needs {rounds} terms of {components} components, more than {MOST_COMPONENTS} in all",
            "choose a larger alpha or tolerance",
        )
    return [t0] * rounds


def hermite_gain(degree: int | Sequence[int] | NDArray[np.int64], alpha: float, t0: float) -> NDArray[np.float64]:
    """Gain g_m of the limit law at the given total degrees, any target.

    Raises:
        InputError: alpha = 0, t0 <= 0, or a negative degree.

    Example:
        >>> hermite_gain([1, 2, 3], 0.2, 0.05).round(4).tolist()
        [0.8876, 0.796, 0.7197]
    """
    check_positive(alpha, t0)
    m = np.asarray(degree, dtype=np.float64)
    if (m < 0).any():
        raise InputError(f"degree {degree} is negative", "degrees count from 0")
    r = np.exp(-m * t0 / 2)
    return np.asarray(alpha * r / (1 - (1 - alpha) * r))


def hermite_gain_after(degree: int, alpha: float, t0: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Gain :math:`a_m(p_n)/a_m(p)` after each round of a schedule, from :math:`p_0 = p`: ``[rounds]``.

    .. math:: g^{n+1} = r_m(\tau_n)\,(\alpha + (1-\alpha)\,g^n)
    """
    check_fraction(alpha)
    gains, g = [], 1.0
    for r in np.exp(-degree * check_times(t0) / 2):
        g = r * (alpha + (1 - alpha) * g)
        gains.append(g)
    return np.array(gains)


def limit_rates(alpha: float, t0: float) -> dict[str, float]:
    r"""Factors by which one round shrinks the distance to the limit law, at worst.

    ``tv`` and ``hellinger2``, ``kl``, ``chi2`` (of p_n against p_inf): :math:`1-\alpha`, by linearity or joint
    convexity and data processing; ``w1``: :math:`(1-\alpha)e^{-t_0/2}`; ``w2``:
    :math:`\rho = \sqrt{1-\alpha}\,e^{-t_0/2}` (couple the fresh part with itself, and the noise with itself).

    Reference: theory section 9.
    """
    check_positive(alpha, t0)
    keep, blur = 1 - alpha, math.exp(-t0 / 2)
    same = dict.fromkeys(("tv", "hellinger2", "kl", "chi2"), keep)
    return {**same, "w1": keep * blur, "w2": math.sqrt(keep) * blur}


def w2_ball(alpha: float, t0: float, error: float, start: float, rounds: int) -> float:
    r"""Bound of :math:`W_2(\hat p_n, p_\infty)` when every round errs by at most `error` in W2.

    .. math:: \rho^n\,W_2(p_0, p_\infty) + \epsilon\,\frac{1-\rho^n}{1-\rho}, \qquad \rho = \sqrt{1-\alpha}\,e^{-t_0/2}

    Args:
        alpha: fraction of fresh data.
        t0: early-stopping time.
        error: largest one-round W2 error.
        start: W2(p_0, p_inf).
        rounds: n.
    """
    rho = limit_rates(alpha, t0)["w2"]
    if min(error, start) < 0 or rounds < 0:
        raise InputError(f"error {error}, start {start}, rounds {rounds}", "all are >= 0")
    return rho**rounds * start + error * (1 - rho**rounds) / (1 - rho)


def check_fraction(alpha: float) -> None:
    """Refuse an alpha outside [0, 1]."""
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must be in [0, 1], got {alpha!r}", "alpha is the fraction of fresh data")


def check_times(t0: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Times of rounds as an array; refuse none, a negative one or one that is not finite."""
    taus = np.asarray(t0, dtype=np.float64)
    if taus.ndim != 1 or not len(taus) or not np.isfinite(taus).all() or (taus < 0).any():
        raise InputError(f"t0 = {t0!r} is not a list of OU times >= 0", "give one finite time per round")
    return taus


def check_positive(alpha: float, t0: float) -> None:
    """Refuse what has no limit law."""
    check_fraction(alpha)
    if alpha == 0:
        raise InputError(
            "alpha = 0 has no limit law: without fresh data the blur never stops, and every target ends at N(0, I)",
            "choose alpha > 0, or recursion_law for a number of rounds",
        )
    if not 0 < t0 < math.inf:
        why = "without early stopping the limit law is the target itself" if t0 == 0 else "it is not a time"
        raise InputError(f"t0 = {t0!r}: {why}", "choose a finite t0 > 0")
