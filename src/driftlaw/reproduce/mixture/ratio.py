r"""chi2 of isotropic mixtures from draws whose weights have a finite variance.

Plain Monte Carlo for :math:`\chi^2(r\|q) = \int (r - q)^2/q` needs more tail than chi2 itself: with the widest
components :math:`v_r, v_q` the integral is finite for :math:`v_r < 2 v_q` but the variance of r/q under r only for
:math:`v_r < 1.5\,v_q`. In the tail :math:`r^2/q` behaves like a Gaussian of variance :math:`1/(2/v_r - 1/v_q)`. Draws
from a mixture of q, r and r with its components widened to that variance (and a tenth more, for the shift of the means)
keep the weights bounded, so that the interval is valid wherever chi2 is finite (this project).
"""

from __future__ import annotations

import torch

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.laws.tails import chi2_finite
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.seeding import generator


def chi2_of_mixtures(r: GaussianMixture, q: GaussianMixture, *, n: int = 60_000, seed: int = 0) -> Estimate:
    """chi2(r || q) of two isotropic mixtures at time 0: infinite where it is, else with a valid interval.

    Args:
        r: the law on top.
        q: the law below.
        n: draws, a third from each part of the proposal.
        seed: seed of the named stream.

    Raises:
        InputError: diagonal or full covariances.
    """
    for law in (r, q):
        if law.covariances.ndim != 1:
            raise InputError(f"{law!r} is not isotropic", "give one variance a component")
    method = "importance sampling from q, r and widened r"
    widest = float(q.covariances.max())
    verdict = chi2_finite(float(r.covariances.max()), widest)
    if verdict.finite is False:
        return Estimate.infinite("exact tail test", f"chi2 is infinite: {verdict.reason}")
    if verdict.finite is None:
        return Estimate.refused("exact tail test", f"chi2 cannot be told to be finite: {verdict.reason}")
    widened = 1.1 / (2 / r.covariances - 1 / widest)
    wide = GaussianMixture(r.weights, r.means, torch.maximum(widened, r.covariances))
    g = generator(seed, "reproduce", "chi2")
    each = -(-n // 3)
    values = []
    for part in (q, r, wide):  # equal shares: the sum of the three variances is what counts
        x = part.sample(each, g).double()
        logs = torch.stack([law.log_prob(x) for law in (q, r, wide)])
        proposal = logs.logsumexp(0) - torch.log(torch.tensor(3.0, dtype=torch.float64))
        values.append((2 * _log_gap(logs[1], logs[0]) - logs[0] - proposal).exp())
    parts = torch.stack(values)
    stderr = float((parts.var(1) / each).sum().sqrt()) / 3
    return Estimate.normal(float(parts.mean()), stderr, 3 * each, method)


def _log_gap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Logarithm of |e^a - e^b|, without overflow."""
    top = torch.maximum(a, b)
    return top + torch.log(-torch.expm1(-(a - b).abs()))
