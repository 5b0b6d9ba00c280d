r"""Does c_{i+1} = (1 - alpha) c_i + d_i with stationary innovations fit? Five ways in which it does not.

The stationary model is nested in, or stands beside, five others, each fitted by the same likelihood
(:mod:`driftlaw.auditing.evidence.recursion`):

=================== ==============================================================
growing bias        the common error grows geometrically, u_i = g^i, g > 1
shrinking bias      the same, g < 1
alpha changed       two values of alpha, before and after a generation
outlier generation  one innovation far larger than the others
shared rows         audited rows of one generation trained the next (or did not)
=================== ==============================================================

The gain in likelihood counts at the effective number of coordinates, and must exceed :data:`GAIN` plus twice the log
of the number of places tried. Where it does, a stationary alpha and its forecasts are not to be believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from driftlaw.auditing.evidence.moments import Array
from driftlaw.auditing.evidence.recursion import effective, grams, kept_weights, profile

#: Twice the log-likelihood that a richer model must gain.
GAIN = 10.0
#: Generations from which misfit is looked for, and from which a change of alpha is.
LEAST, LEAST_CHANGE = 5, 8
#: Share of the mean innovation energy that no recursion of real models is exact to.
EXACT = 1e-3
GROWTH = (0.5, 0.6, 0.7, 0.8, 0.87, 1.15, 1.3, 1.5, 2.0)
#: A bias that dies out while all is kept makes the curve of a steady one that is forgotten: not to be told apart.
SAME = 0.95
_FINE = np.linspace(0.0, 1.0, 201)
_RHO = np.linspace(0.0, 1.0, 26)
_COARSE = np.linspace(0.0, 1.0, 11)
_OUTLYING = (5.0, 30.0, 200.0)


@dataclass(frozen=True)
class Misfit:
    """The likeliest way in which the recursion does not fit.

    Args:
        cause: one of the table's first column.
        at: generation from which it holds, or the outlying one; 0 for the whole line.
        size: growth factor, alpha after the change, or how many times the usual innovation energy; nan if none.
        gain: twice the gain in log likelihood, less its penalty for places tried.
    """

    cause: str
    at: int
    size: float
    gain: float


def find_misfit(products: Array, noise: Array, rank: int, shared_rows: bool, from_real: bool) -> Misfit | None:
    """The clearest misfit of a line of N generations, or None.

    Args:
        products: ``[N + 1, N + 1]`` raw products of whitened means.
        noise: ``[N + 1]`` expected squared lengths of their errors.
        rank: coordinates r.
        shared_rows: as in :func:`driftlaw.audit`.
        from_real: the same.
    """
    N, first = len(noise) - 1, 0 if from_real else 1
    if N - first < LEAST:
        return None

    size = grams(kept_weights(np.ones((1, N))), products, noise, shared_rows)[0][0]
    least = EXACT * max(float(np.trace(size[first:, first:])) / (N - first), 0.0)

    def fit(kept: Array, u: Array | None, extra: Array | None, shared: bool, places: int) -> tuple[int, float, Array]:
        """Best of g models: its index, twice its log likelihood at its r_eff less the penalty, and its V's s."""
        gram, R = grams(kept_weights(kept), products, noise, shared)
        gram, R = gram[:, first:, first:], R[:, first:, first:]
        if extra is not None:  # known extra variance is part of what is measured
            gram, R = gram - extra, R + extra
        like, a, s = profile(gram, R, rank, u, least)
        best = int(like.argmax())
        r = effective(gram[best], R[best], rank, float(a[best]), float(s[best]), None if u is None else u[best])
        return best, float(like[best]), np.array([r, float(a[best]), float(s[best]), 2.0 * math.log(places)])

    steady = np.repeat(_RHO[:, None], N, 1)
    _, base, facts = fit(np.repeat(_FINE[:, None], N, 1), None, None, shared_rows, 1)
    found: list[Misfit] = []

    def compare(cause: str, like: float, other: Array, at: int, size: float) -> None:
        r = max(float(other[0]), float(facts[0]))
        gain = 2.0 * (like - base) * r / rank - float(other[3])
        if gain > GAIN:
            found.append(Misfit(cause, at, size, gain))

    n = N - first
    i = np.arange(n)
    growth, kept = np.repeat(np.array(GROWTH), len(_RHO)), np.tile(steady, (len(GROWTH), 1))
    told = (growth > 1) | (kept[:, 0] < SAME)
    growth, kept = growth[told], kept[told]
    u = growth[:, None] ** (i - (n - 1) / 2.0)
    best, like, other = fit(kept, u, None, shared_rows, 1)
    g = float(growth[best])
    compare("growing bias" if g > 1 else "shrinking bias", like, other, 0, g)

    scale = float(facts[2]) + float(np.median(noise)) + float(facts[1])
    spots = [(j, t) for j in range(n) for t in _OUTLYING]
    coarse = np.repeat(_COARSE[:, None], N, 1)
    extra = np.zeros((len(spots) * len(_COARSE), n, n))
    for k, (j, t) in enumerate(spots):
        extra[k * len(_COARSE) : (k + 1) * len(_COARSE), j, j] = t * scale
    best, like, other = fit(np.tile(coarse, (len(spots), 1)), None, extra, shared_rows, n)
    j, t = spots[best // len(_COARSE)]
    compare("outlier generation", like, other, j + 1 + first, t)

    _, like, other = fit(steady, None, None, not shared_rows, 1)
    compare("shared rows", like, other, 0, math.nan)

    if n >= LEAST_CHANGE:
        places = range(first + 2, N - 2)
        pairs = [(p, a, b) for p in places for a in _COARSE for b in _COARSE if abs(a - b) > 0.15]
        kept = np.array([[a] * p + [b] * (N - p) for p, a, b in pairs])
        best, like, other = fit(kept, None, None, shared_rows, len(places))
        p, _, b = pairs[best]
        compare("alpha changed", like, other, p + 1, 1.0 - float(b))
    return max(found, key=lambda m: m.gain, default=None)
