r"""Values too rare for any moment: exact tests of counts (hypergeometric), given how often both sets show them.

A feature that takes two values (one-hot columns, flags) is known from its sums: (high - m)(m - low) is its variance and
nothing else's (equality in Bhatia and Davis 2000). Where fewer than :data:`ENOUGH` rows of the smaller set are
expected to show the rarer value, the count G in the generation, given the count T in both sets, is hypergeometric
without drift,

    P(G = g) = C(T, g) C(N - T, n - g)/C(N, n).

Several such features: X = sum_j (G_j - T_j n/N)^2/(T_j n n_0/N^2) against its own conditional law, drawn with a fixed
seed (rare values of different features seldom meet in a row); where they do meet, Bonferroni. Discrete laws cannot
have a level of exactly 5 %: mid-p values come close on either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from driftlaw.auditing.evidence.moments import Array, Moments, spread_of
from driftlaw.seeding import numpy_generator

#: Rows of the smaller set that must be expected to show a value before moments are trusted.
ENOUGH = 5.0
_DRAWS, _FEW = 4000, 20
#: Correlation of two rare features beyond which their counts are not drawn independently.
_TOGETHER = 0.3


@dataclass(frozen=True)
class RareTest:
    """Exact test of features that take two values, one of them rarely.

    Args:
        features: ``[m]`` indices.
        total: ``[m]`` rows of both sets with the rarer value.
        generated: ``[m]`` of them in the generation.
        p: that the counts are a random split, over all of them together.
    """

    features: NDArray[np.int64]
    total: NDArray[np.int64]
    generated: NDArray[np.int64]
    p: float


def rare_test(real: Moments, generation: Moments) -> RareTest | None:
    """Test the rare features of two sets; None where there are none, or where ranges were not kept."""
    spreads = spread_of(real), spread_of(generation)
    if spreads[0] is None or spreads[1] is None:
        return None
    n0, n = real.n, generation.n
    N = n0 + n
    low, high = np.minimum(spreads[0].low, spreads[1].low), np.maximum(spreads[0].high, spreads[1].high)
    m0, m1 = np.asarray(real.mean), np.asarray(generation.mean)
    mean, width = (n0 * m0 + n * m1) / N, high - low
    scatter = (n0 - 1) * np.diag(real.covariance) + (n - 1) * np.diag(generation.covariance)
    variance = scatter / N + n0 * n / N**2 * (m1 - m0) ** 2
    possible = (high - mean) * (mean - low)
    with np.errstate(invalid="ignore", divide="ignore"):
        two = (width > 0) & (np.abs(possible - variance) <= 1e-7 * width**2 / N)
        upper = (mean - low) / width
        share = np.where(upper <= 0.5, upper, 1.0 - upper)
        mine = np.where(upper <= 0.5, (m1 - low) / width, (high - m1) / width)
    rare = np.flatnonzero(two & (share * min(n0, n) < ENOUGH))
    if not len(rare):
        return None
    total, generated = (np.rint(x).astype(np.int64) for x in (share[rare] * N, mine[rare] * n))
    return RareTest(rare, total, generated, _p(real, generation, rare, total, generated))


def _p(
    real: Moments, generation: Moments, rare: NDArray[np.int64], total: NDArray[np.int64], generated: NDArray[np.int64]
) -> float:
    n0, n = real.n, generation.n
    single = len(rare) * min(mid_p(int(t), int(g), n0, n) for t, g in zip(total, generated, strict=True))
    if len(rare) == 1 or _meet(real, rare) or _meet(generation, rare):
        return min(1.0, single)
    expected, unit = total * n / (n0 + n), total * n * n0 / (n0 + n) ** 2
    drawn = numpy_generator(0, "audit", "rare").hypergeometric(total, n0 + n - total, n, (_DRAWS, len(total)))
    law = ((drawn - expected) ** 2 / unit).sum(1)
    seen = float(((generated - expected) ** 2 / unit).sum())
    tie = np.abs(law - seen) <= 1e-9 * seen
    above = float((law > seen)[~tie].sum() + 0.5 * tie.sum())
    return min(1.0, above / _DRAWS if above >= _FEW else max(min(single, _FEW / _DRAWS), 1e-300))


def _meet(s: Moments, rare: NDArray[np.int64]) -> bool:
    """Whether rare values of different features occur in the same rows."""
    part: Array = np.asarray(s.covariance)[np.ix_(rare, rare)]
    scale = np.sqrt(np.diag(part))
    seen = scale > 0
    off = part[np.ix_(seen, seen)] / np.outer(scale[seen], scale[seen]) - np.eye(int(seen.sum()))
    return bool((off > _TOGETHER).any())


def mid_p(total: int, generated: int, n0: int, n: int) -> float:
    """Two-sided mid-p value of a count: outcomes less likely than the observed one, and half of those as likely.

    Example:
        >>> round(mid_p(4, 4, 100, 100), 4)  # 2/16, halved, but for drawing without replacement
        0.0605
    """
    if total == 0:
        return 1.0
    # outcomes far from both the expected and the observed count have no weight worth counting
    law = stats.hypergeom(n0 + n, total, n)
    outcomes = np.arange(max(0, total - n0), min(total, n) + 1)
    weights = law.pmf(outcomes)
    seen = float(law.pmf(generated))
    tie = np.abs(weights - seen) <= 1e-9 * seen
    return float(min(1.0, weights[(weights < seen) & ~tie].sum() + 0.5 * weights[tie].sum()))
