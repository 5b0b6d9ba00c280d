r"""Does a model repeat its training rows? Nearest neighbours among training rows and among held-out rows.

Let d_T(s) and d_H(s) be the distances of a generated row s to the nearest training row and to the nearest held-out
row. Real rows that no model saw are the yardstick: a model that learned the law, well or badly, has no reason to be
nearer to the rows T that it saw than to the rows H that it did not.

- **memorised**: share of generated rows with :math:`d_T(s)/d_H(s)` below the 1 % quantile of
  :math:`d_T(h)/d_{H \setminus h}(h)` over held-out rows h. All of T is used. The ratio, unlike d_T alone, does not fire
  for a blurred model whose rows are near everything. Without memorisation: 0.01. All rows copied: 1. Discrete and
  rounded rows tie: with shares S of generated and H of held-out rows at or below the quantile it is
  0.01 + 0.99 (S - H)/(1 - H), which is S without ties and has the same two ends.
- **train_nearest**: share of generated rows that are nearer to T than to H, with as many rows of each. If T and H are
  exchangeable given the model (it memorised nothing), each is the nearer one with probability 1/2 whatever the model's
  law. Copies: towards 1, as far as the rows of T that are compared were copied. Ties count one half.

Given T, held-out ratios and generated ratios are nearly independent, so *memorised* has a Wilson interval at n m/(n+m)
rows. A reference row that is the nearest of c_r generated rows moves *train_nearest* by c_r/n when its label changes;
the Wilson interval is taken at the effective number :math:`n^2/\sum_r c_r^2`. After Meehan, Chaudhuri and Dasgupta,
AISTATS 2020 (data-copying), who compare d_T with a test set's; the ratio and the exchange argument are this project's.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.features.fitted import as_rows
from driftlaw.measure.sets.moments import proportion
from driftlaw.numerics.memory import PAIR_BYTES
from driftlaw.seeding import generator

#: keys of :func:`memorisation`
KEYS = ("memorised", "train_nearest")
#: share of held-out rows that count as near to a training row by chance
QUANTILE = 0.01
#: share of both sets that is looked at where rows tie
TIED = 0.02
_LEAST = 6
BLOCK = PAIR_BYTES // 8


def memorisation(
    samples: Tensor, training: Tensor, held_out: Tensor, *, seed: int = 0, block: int = BLOCK
) -> dict[str, Estimate]:
    """Shares of generated rows that sit on training rows.

    Args:
        samples: ``[n, k]`` features of generated rows.
        training: ``[M, k]`` features of real rows that the model was trained on.
        held_out: ``[m, k]`` features of real rows of the same law that it was not trained on.
        seed: chooses the rows of the larger real set that *train_nearest* compares.
        block: distances in memory at once.

    Returns:
        ``{"memorised", "train_nearest"}``.

    Raises:
        InputError: fewer than 6 rows in a set, different feature counts, NaN or infinite rows.
    """
    s, t, h = (
        as_rows(x, name, _LEAST)
        for x, name in ((samples, "the sample"), (training, "the training rows"), (held_out, "held_out"))
    )
    if not s.shape[1] == t.shape[1] == h.shape[1]:
        raise InputError(
            f"the three sets have {s.shape[1]}, {t.shape[1]} and {h.shape[1]} features", "use one feature map"
        )
    s_t, _ = _nearest(s, t, block)
    s_h, _ = _nearest(s, h, block)
    h_t, _ = _nearest(h, t, block)
    h_h, _ = _nearest(h, h, block, own=True)
    return {
        "memorised": _memorised(_ratio(s_t, s_h), _ratio(h_t, h_h)),
        "train_nearest": _exchange(s, t, h, seed, block),
    }


def memorisation_floor(training: Tensor, held_out: Tensor, *, seed: int = 0, block: int = BLOCK) -> dict[str, Estimate]:
    """The same for real rows: one half of the held-out rows plays the model, the other half is the yardstick.

    Raises:
        InputError: fewer than 12 held-out rows, and what :func:`memorisation` refuses.
    """
    order = torch.randperm(len(held_out), generator=generator(seed, "memorisation", "halves"))
    half = len(held_out) // 2
    return memorisation(held_out[order[:half]], training, held_out[order[half:]], seed=seed, block=block)


def _memorised(samples: Tensor, held_out: Tensor) -> Estimate:
    n, m = len(samples), len(held_out)
    rank = max(1, math.floor(QUANTILE * (m + 1)))
    threshold = float(held_out.kthvalue(rank).values) * (1.0 + 1e-12)
    near, ours = int((held_out <= threshold).sum()), int((samples <= threshold).sum())
    method = f"nearer to a training row than {1 - rank / (m + 1):.1%} of {m} held-out rows"
    if near == rank:
        pooled = max(1, n * m // (n + m))
        return replace(proportion(ours / n * pooled, pooled), n=n, method=f"{method}, Wilson interval")
    share, honest = proportion(ours, n), proportion(near, m)
    if near == m:
        return Estimate.refused(method, "every held-out row is as near to a training row: ties hide any copy", n)
    scale = (1.0 - QUANTILE) / (1.0 - honest.value)
    value = QUANTILE + scale * (share.value - honest.value)
    below = scale * math.hypot(share.value - share.low, honest.high - honest.value)
    above = scale * math.hypot(share.high - share.value, honest.value - honest.low)
    stderr = scale * math.hypot(share.stderr, honest.stderr)
    low, centre, high = (min(max(x, 0.0), 1.0) for x in (value - below, value, value + above))
    return Estimate(centre, stderr, low, high, n, f"{method}, ties among them taken off, Newcombe interval").warn(
        f"{near} of {m} held-out rows tie at that distance: their share is the yardstick"
    )


def copied_p(samples: Tensor, training: Tensor, held_out: Tensor, *, block: int = BLOCK) -> float:
    """Probability that so many honest rows would be as near to training rows as the nearest held-out ones are.

    With k generated and r held-out rows within the threshold, no ties: the k + r nearest rows hold at most r held-out
    ones (hypergeometric). With ties at the threshold, as rounded and discrete rows have them, generated rows that
    share a cell would count as many: there the yardstick is the nearest *other* row of both sets together, d_T(u)/d(u),
    and the nearest :data:`TIED` of them and their ties hold generated and held-out rows at random (Fisher's test,
    one-sided mid-p; exact, as neither the ratio nor the threshold knows which set a row is from).
    """
    s, t, h = samples.double(), training.double(), held_out.double()
    mine = _ratio(_nearest(s, t, block)[0], _nearest(s, h, block)[0])
    real = _ratio(_nearest(h, t, block)[0], _nearest(h, h, block, own=True)[0])
    n, m = len(mine), len(real)
    rank = max(1, math.floor(QUANTILE * (m + 1)))
    threshold = float(real.kthvalue(rank).values) * (1.0 + 1e-12)
    near, ours = int((real <= threshold).sum()), int((mine <= threshold).sum())
    if ours == 0:
        return 1.0
    if near == rank:
        return float(stats.hypergeom(n + m, m, ours + rank - 1).cdf(rank - 1))
    both = torch.cat([s, h])
    ratio = _ratio(_nearest(both, t, block)[0], _nearest(both, both, block, own=True, other=True)[0])
    threshold = float(ratio.kthvalue(max(1, math.ceil(TIED * (n + m)))).values) * (1.0 + 1e-12)
    at = ratio <= threshold
    found = int(at[:n].sum())
    law = stats.hypergeom(n + m, int(at.sum()), n)
    return float(law.sf(found) + 0.5 * law.pmf(found))


def _exchange(s: Tensor, t: Tensor, h: Tensor, seed: int, block: int) -> Estimate:
    size = min(len(t), len(h))
    g = generator(seed, "memorisation", "exchange")
    t, h = (x if len(x) == size else x[torch.randperm(len(x), generator=g)[:size]] for x in (t, h))
    d_t, at_t = _nearest(s, t, block)
    d_h, at_h = _nearest(s, h, block)
    n = len(s)
    share = float((d_t < d_h).double().mean() + 0.5 * (d_t == d_h).double().mean())
    nearest = torch.where(d_t < d_h, at_t, size + at_h)
    counts = torch.bincount(nearest, minlength=2 * size).double()
    effective = max(1, math.floor(n**2 / float(counts.square().sum())))
    method = f"nearer to {size} training rows than to {size} held-out rows, Wilson interval at {effective} rows"
    return replace(proportion(share * effective, effective), n=n, method=method)


def _ratio(d_t: Tensor, d_h: Tensor) -> Tensor:
    return torch.where(d_h > 0, d_t / d_h, torch.where(d_t > 0, math.inf, 1.0))


def _nearest(a: Tensor, b: Tensor, block: int, own: bool = False, other: bool = False) -> tuple[Tensor, Tensor]:
    """Distance to and number of the nearest row of `b`; `own`: a is b, and a row is not its own neighbour.

    other: nor is one that equals it.
    """
    if other:
        same = torch.unique(b, dim=0, return_inverse=True)[1]
    distances, places = torch.empty(len(a), dtype=torch.float64), torch.empty(len(a), dtype=torch.int64)
    centre = b.mean(dim=0)
    a, b = a - centre, b - centre
    norms = b.square().sum(dim=1)
    for rows in torch.split(torch.arange(len(a)), max(1, block // len(b))):
        square = norms - 2.0 * a[rows] @ b.T
        if own:
            square[torch.arange(len(rows)), rows] = math.inf
        if other:
            square[same[rows][:, None] == same[None]] = math.inf
        places[rows] = square.argmin(dim=1)
        # the distance itself from differences: a copy is at distance exactly 0
        distances[rows] = (a[rows] - b[places[rows]]).square().sum(dim=1).sqrt()
    return distances, places
