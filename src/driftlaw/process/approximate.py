r"""A kernel mixture whose sums are approximate, and checked on exact points in every call.

Blocks of centres that a point hardly feels are replaced by Gaussians with their moments, the others are summed exactly
(:mod:`driftlaw.process.matched_blocks`). Each call controls its own error. With :math:`\epsilon` the tolerance, the
score's error at point i is, in units of it,

.. math:: e_i = |\hat s(x_i) - s(x_i)| \Big/ \epsilon \Big(\frac1n \sum_j |\hat s(x_j)|^2\Big)^{1/2} ;

that of the divergence likewise, and that of the log density is in nats, :math:`|\log \hat q(x_i) - \log q(x_i)| /
\epsilon`.

1. :data:`PILOT` random points choose the largest cut :math:`\tau` that promises to pass step 3. If the predicted cost
   with it is not below :data:`WORTH` of the exact sum's, the call is exact.
2. These and the :data:`SUSPECTS` share of the points with the largest suspect mass take the exact sum: no error.
3. `check` other points, a simple random sample of the rest, are compared with the exact sum. Errors above :math:`k` =
   :data:`CLIP` count as k, so that :func:`clipped_limit` gives an upper limit of the clipped mean square

   .. math:: D = \frac1n \sum_i \min(e_i, k)^2

   of each of the three quantities, for any distribution of the errors. If a limit exceeds 1, the whole call is
   answered by the exact sum: a *fallback*.

**What is guaranteed.** Whatever the law, the points and the errors: a call in which D > 1 for the score, the log
density or the divergence is answered approximately with probability at most 1 - :data:`CONFIDENCE`, over the choice of
the checked points. D <= 1 says that at most a share 1/k^2 (4 %) of the points has an error above k tolerances, and that
the others have a root mean square error of at most the tolerance.

**What is not.** The errors of that last share are not bounded: no number of checked points bounds a mean against
values that may be arbitrarily large and rare. *If* no error exceeds k tolerances, nothing is clipped, and the limit is
one of the plain root mean square error. ``python -m benchmarks.approximate`` measures all of these, and the gain
(docs/performance.md). The blocks are built once, at the first call that may use them, for about the cost of the exact
sum at 20,000 points.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from scipy.special import rel_entr
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.draws import LawValues, check_points
from driftlaw.process.kernel_sum import KernelMixture
from driftlaw.process.matched_blocks import CALL_COST, MATCHED_COST, Parts, Query
from driftlaw.process.schedule import alpha, sample_times, variance
from driftlaw.process.score import Time
from driftlaw.seeding import generator

#: Points that choose tau.
PILOT = 128
#: Share of the points, those with most suspect mass, that take the exact sum in an approximate call.
SUSPECTS = 0.03
#: The approximation is used only if its predicted cost is below this share of the exact sum's: a prediction of 0.6 was
#: measured to take 0.7 to 0.85.
WORTH = 0.65
#: The pilot's limits must be below this share of the tolerance: a fallback pays for both sums.
MARGIN = 0.9
#: Confidence of the three limits of a call together.
CONFIDENCE = 0.99
#: k: errors above this many tolerances count as this many.
CLIP = 5.0
#: With fewer checked points, not even errors of zero would pass.
FEWEST = math.ceil(math.log((1 - CONFIDENCE) / 3) / math.log1p(-1 / CLIP**2))

_TOO_FAR = "exact: the error may exceed the tolerance"
_NOT_CHEAPER = "exact: the approximation would not be cheaper"


class Checked(NamedTuple):
    """Root mean square error: of the checked points, clipped, and the upper confidence limit for all of the call."""

    value: float
    limit: float


_NONE = Checked(0.0, 0.0)


@dataclass(frozen=True)
class ErrorReport:
    """What a call knows about its error.

    Args:
        log_density: error of the log density, nats.
        score: error of the score, relative to the root mean square of the approximate scores.
        divergence: error of the divergence of the score, relative likewise.
        n: number of checked points; 0 for an exact call that checked nothing, whose errors are given as 0.
        decision: "approximate", or "exact: " and the reason; results of exact calls have no approximation error,
            then the errors are those of the approximation that was turned down.
        cut: tau of the approximation; ``nan`` if none was tried.

    Assumptions: errors are clipped at :data:`CLIP` tolerances (module docstring).
    """

    log_density: Checked
    score: Checked
    divergence: Checked
    n: int
    decision: str
    cut: float

    @property
    def largest(self) -> float:
        """The largest of the three limits; ``nan`` if one is."""
        limits = [e.limit for e in (self.log_density, self.score, self.divergence)]
        return float(torch.tensor(limits, dtype=torch.float64).max())


def clipped_limit(mean: float, n: int, delta: float) -> float:
    r"""Upper confidence limit of the mean of a population of numbers in [0, 1], from a simple random sample.

    .. math:: \sup \{ \mu : n\, \mathrm{kl}(\bar x, \mu) \le \log(1/\delta) \}, \qquad
        \mathrm{kl}(p, q) = p \log \frac pq + (1-p) \log \frac{1-p}{1-q} .

    Valid for every n and every such population, drawn with or without replacement: Hoeffding, J. Am. Stat. Assoc. 58
    (1963), theorem 1 (eq. 2.1) and theorem 4. About log(1/delta)/n for a sample of zeros.

    Args:
        mean: of the sample, in [0, 1].
        n: size of the sample, >= 1.
        delta: largest probability that the limit is below the population's mean.

    Example:
        >>> round(clipped_limit(0.0, 100, 0.01), 4)  # 1 - 0.01^(1/100)
        0.045
    """
    low, high = mean, 1.0
    for _ in range(60):
        mu = (low + high) / 2
        kl = float(rel_entr(mean, mu) + rel_entr(1 - mean, 1 - mu))
        low, high = (mu, high) if n * kl <= math.log(1 / delta) else (low, mu)
    return high


def checked(errors: Tensor, tolerance: float, n: int, share: float = 1.0) -> Checked:
    """Clipped root mean square error with its limit.

    Args:
        errors: ``[m]``, >= 0, of points drawn at random.
        tolerance: unit of the clipping.
        n: number of points that the limit is for (m, or how many will be checked).
        share: of all points the share that the sample stands for; the others have no error.
    """
    mean = float((errors.double() / (CLIP * tolerance)).clamp(max=1).square().mean())
    limit = clipped_limit(mean, n, (1 - CONFIDENCE) / 3)
    return Checked(*(CLIP * tolerance * math.sqrt(share * z) for z in (mean, limit)))


class ApproximateKernelMixture:
    r"""The law of a :class:`~driftlaw.process.kernel_sum.KernelMixture`, approximate where that is cheaper.

    Args:
        law: the exact law; draws and moments are its own.
        tolerance: largest root-mean-square error of a call, of the score and its divergence relative to their size and
            of the log density in nats, in the sense of the module docstring.
        blocks: number of blocks (fewer if the centres do not differ enough).
        check: number of points of every call that are compared with the exact sum, >= :data:`FEWEST`.
        seed: seed of the choice of these points, which depends on nothing but the seed and the points themselves.

    Attributes:
        fallbacks: how many calls the exact sum had to answer because the error was or might have been too large.
        last_error: :class:`ErrorReport` of the last call, None before the first.

    Raises:
        InputError: not a KernelMixture, a tolerance that is not positive, blocks < 1, too few checked points.

    Assumptions: points on a GPU, points that record gradients, calls of at most 2 (PILOT + check) points and laws with
    less than MATCHED_COST / WORTH (62) centres a block take the exact sum. Results of a point depend on the call that
    it is in (by tau), within the tolerance.

    Example:
        >>> centres = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> law = ApproximateKernelMixture(KernelMixture(centres, bandwidth=0.5))
        >>> law.score(torch.zeros(1, 2), t=1.0).shape, law.last_error.decision
        (torch.Size([1, 2]), 'exact: few points')
    """

    def __init__(
        self, law: KernelMixture, *, tolerance: float = 1e-3, blocks: int = 256, check: int = 800, seed: int = 0
    ) -> None:
        if not isinstance(law, KernelMixture):
            raise InputError(f"{type(law).__name__} is not a KernelMixture", "only kernel mixtures are approximated")
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise InputError(f"tolerance {tolerance}", "the tolerance is finite and > 0")
        if blocks < 1:
            raise InputError(f"{blocks} blocks", "give blocks >= 1")
        if check < FEWEST:
            raise InputError(f"a check on {check} points", f"give check >= {FEWEST}; 800 is the usual choice")
        self.law, self.tolerance, self.blocks, self.check, self.seed = law, float(tolerance), blocks, check, seed
        self.fallbacks = 0
        self.last_error: ErrorReport | None = None

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.law.dim

    def __len__(self) -> int:
        return len(self.law)

    def __repr__(self) -> str:
        return f"ApproximateKernelMixture({self.law!r}, tolerance={self.tolerance:g})"

    def sample(self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`n` independent draws ``[n, d]`` of the exact law at time 0."""
        return self.law.sample(n, generator, dtype)

    def second_moment(self) -> float:
        """E|X|^2 at time 0, exact."""
        return self.law.second_moment()

    def evaluate(self, x: Tensor, t: Time = 0.0) -> LawValues:
        """Log density, score and divergence of the score at time t; `last_error` says how they were computed.

        Args, returns and errors as :meth:`driftlaw.process.kernel_sum.KernelMixture.evaluate`.
        """
        times = sample_times(t, len(check_points(x, self.dim)), x.device)
        a = alpha(times)
        v = a.square() * self.law.bandwidth**2 + variance(times)
        reason = ""
        if torch.is_grad_enabled() and x.requires_grad | times.requires_grad:
            reason = "exact: gradients are recorded"
        elif x.device.type != "cpu" or self.law.centres.device.type != "cpu":
            reason = "exact: not on the CPU"
        elif len(x) <= 2 * (PILOT + self.check):
            reason = "exact: few points"
        elif MATCHED_COST * min(self.blocks, len(self)) >= WORTH * len(self):
            reason = _NOT_CHEAPER
        if reason or not bool((v > 0).all()):  # the exact sum says what is wrong with v
            return self._exact(x, t, ErrorReport(_NONE, _NONE, _NONE, 0, reason, math.nan))
        with torch.no_grad():
            return self._evaluate(x, t, times, a, v)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        return self.evaluate(x, t).log_density

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]``."""
        return self.evaluate(x, t).score

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        return self.evaluate(x, t).divergence

    def _exact(self, x: Tensor, t: Time, report: ErrorReport) -> LawValues:
        values = self.law.evaluate(x, t)
        self.last_error = report
        return values

    def _evaluate(self, x: Tensor, t: Time, times: Tensor, a: Tensor, v: Tensor) -> LawValues:
        query = Query(x, times, a, v)
        order = self._random_order(query)
        pilot, others = order[:PILOT], order[PILOT:]
        cut, report = self._choose(query.take(pilot), len(x))
        if report is not None:
            self.fallbacks += report.decision == _TOO_FAR
            return self._exact(x, t, report)
        values, suspect = self._parts.evaluate(query, cut)
        certain = torch.zeros(len(x), dtype=torch.bool)
        certain[suspect.topk(math.ceil(SUSPECTS * len(x))).indices] = certain[pilot] = True
        check = others[~certain[others]][: self.check]
        rows = torch.cat([certain.nonzero()[:, 0], check])
        few = query.take(rows)
        truth = self.law.evaluate(few.x, few.t)
        part = LawValues(*(z[-len(check) :].double() for z in truth))
        errors = _errors(LawValues(*(z[check] for z in values)), part, values)
        share = 1 - float(certain.double().mean())
        log_density, score, divergence = (checked(e, self.tolerance, len(check), share) for e in errors)
        report = ErrorReport(log_density, score, divergence, len(check), "approximate", cut)
        if not report.largest <= self.tolerance:
            self.fallbacks += 1
            return self._exact(x, t, replace(report, decision=_TOO_FAR))
        self.last_error = report
        out = LawValues(*(z.to(x.dtype) for z in values))
        for whole, some in zip(out, truth, strict=True):
            whole[rows] = some
        return out

    def _choose(self, pilot: Query, n: int) -> tuple[float, ErrorReport | None]:
        """The largest usable tau for a call of n points, or why the exact sum is taken."""
        trials = self._parts.trials(pilot)
        for cut, values, cost in trials.candidates:
            errors = _errors(values, trials.truth, trials.truth)
            log_density, score, divergence = (checked(e, self.tolerance, self.check) for e in errors)
            worst = ErrorReport(log_density, score, divergence, len(pilot.x), _TOO_FAR, cut)
            if worst.largest <= MARGIN * self.tolerance:
                once = len(self) * (len(pilot.x) + self.check) + CALL_COST * self._parts.count
                cheaper = cost + SUSPECTS * trials.exact_cost + once / n < WORTH * trials.exact_cost
                return cut, None if cheaper else replace(worst, decision=_NOT_CHEAPER)
        return math.nan, worst

    def _random_order(self, query: Query) -> Tensor:
        """The rows in random order, from the seed and the points: first the pilot, then candidates for the check."""
        key = hashlib.blake2b(query.x.detach().contiguous().numpy().tobytes(), digest_size=8)
        key.update(query.t.numpy().tobytes())
        draw = generator(self.seed, "approximate", key.hexdigest())
        return torch.randperm(len(query.x), generator=draw)

    @functools.cached_property
    def _parts(self) -> Parts:
        return Parts(self.law, self.blocks)


def _errors(values: LawValues, truth: LawValues, sizes: LawValues) -> tuple[Tensor, Tensor, Tensor]:
    """Errors ``[m]`` of log density, score and divergence, the last two relative to their rms in `sizes`."""
    score, divergence = (max(float(z.square().sum().div(len(z)).sqrt()), 1e-300) for z in sizes[1:])
    return (
        (values.log_density - truth.log_density).abs(),
        (values.score - truth.score).norm(dim=1) / score,
        (values.divergence - truth.divergence).abs() / divergence,
    )
