r"""Excess denoising energy: how much worse a learned score is than a reference, by time, from rows alone.

For :math:`x_t = a x_0 + \sigma z` with :math:`x_0 \sim q` the denoising target :math:`\tau = -z/\sigma` has the
conditional mean :math:`s_t(x_t)`, so that the part of the loss that no model can avoid cancels in a difference
(Vincent 2011):

.. math:: E|\hat s - \tau|^2 - E|r - \tau|^2 = E|\hat s - s|^2 - E|r - s|^2 .

Integrated over time the left side is :math:`\varepsilon_*^2(\hat s) - \varepsilon_*^2(r)`. It needs no true score, and
because :math:`\varepsilon_*^2(r) \ge 0` it is a **lower** bound of :math:`\varepsilon_*^2(\hat s)`: the better the
reference, the closer. A negative value says that the reference is the worse of the two. Both scores see the same noise,
in antithetic pairs, and the integrand is taken as :math:`(\hat s - r)\cdot(\hat s + r - 2\tau)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.paths.path import ROWS, Horizon
from driftlaw.process.draws import normal
from driftlaw.process.schedule import alpha, expand, sigma
from driftlaw.process.score import Field, Score, checked
from driftlaw.seeding import generator


@dataclass(frozen=True)
class ExcessEnergy:
    """The excess of a score over a reference.

    Args:
        total: eps*^2(score_hat) - eps*^2(reference) over the whole horizon.
        edges: ``[k + 1]`` OU times, ascending.
        by_time: ``[k]``, the part between two edges; they add up to `total`.
    """

    total: Estimate
    edges: tuple[float, ...]
    by_time: tuple[Estimate, ...]


@torch.no_grad()
def excess_energy(
    score_hat: Score | Field,
    reference: Score | Field,
    rows: Tensor,
    *,
    t0: float = 0.02,
    T: float = 4.0,
    strata: int = 4,
    seed: int = 0,
) -> ExcessEnergy:
    r"""Excess denoising energy of `score_hat` over `reference`, unbiased.

    Assumption: rows are independent draws of q that trained neither score.

    Args:
        score_hat: learned score.
        reference: another score, better trained.
        rows: ``[n, ...]`` at time 0, n >= 2; each is noised once, with an antithetic pair, in each stratum of time.
        t0: early-stopping time, > 0.
        T: horizon.
        strata: parts of the horizon, equal in the clock of :class:`~driftlaw.measure.paths.path.Horizon`.
        seed: seed of the named streams.

    Raises:
        InputError: fewer than 2 rows, strata < 1, not 0 < t0 < T, or scores that are NaN or infinite.

    Example:
        >>> rows = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        >>> found = excess_energy(lambda x, t: -0.8 * x, lambda x, t: -x, rows)  # eps*^2 = 0.04 x 2 x 3.98
        >>> found.total.low < 0.3184 < found.total.high
        True
    """
    horizon, hat, ref = Horizon(t0, T), checked(score_hat), checked(reference)
    if len(rows) < 2 or strata < 1:
        raise InputError(f"an excess energy of {len(rows)} rows in {strata} strata", "give at least 2 rows, 1 stratum")
    parts = torch.empty(strata, len(rows), dtype=torch.float64)
    for k in range(strata):
        g = generator(seed, "excess", k)
        for start in range(0, len(rows), ROWS):
            x0 = rows[start : start + ROWS]
            u = torch.rand(len(x0), generator=g, dtype=torch.float64)
            t, weight = horizon.time((k + u) / strata)
            z = normal(tuple(x0.shape), g, x0.dtype, x0.device)
            a, s = (expand(c(t).to(x0), x0.ndim) for c in (alpha, sigma))
            gain = torch.zeros(len(x0), dtype=torch.float64)
            for noise in (z, -z):
                x = a * x0 + s * noise
                one, two = (f.score(x, t.to(x.device)).double() for f in (hat, ref))
                both = (one - two) * (one + two + 2 * (noise / s).double())
                gain += both.flatten(1).sum(1).cpu() / 2
            parts[k, start : start + ROWS] = weight * gain / strata
    method = f"paired denoising losses, {strata} strata of time, antithetic noise"
    edges, _ = horizon.time(torch.linspace(0, 1, strata + 1, dtype=torch.float64))
    return ExcessEnergy(
        Estimate.mean(parts.sum(0), method), tuple(edges.tolist()), tuple(Estimate.mean(p, method) for p in parts)
    )
