r"""Divergences between two laws whose densities are known, all from one set of log densities.

Let :math:`m = (r + q)/2`, :math:`\ell = \log r/q` and :math:`T = (r - q)/(r + q) = \tanh(\ell/2)`. Each divergence is
an expectation under m, estimated from draws of r and of q in equal shares (deterministic mixture sampling):

=========================  ==============================================  ==========================
divergence                 integrand under m                               range of the integrand
=========================  ==============================================  ==========================
KL(r || q)                 :math:`(1 + T)\,\ell - 2T`                      >= 0
TV                         :math:`|T|`                                     [0, 1]
squared Hellinger          :math:`T \tanh(\ell/4) = 1 - 1/\cosh(\ell/2)`   [0, 1]
chi2(r || m)               :math:`T^2`                                     [0, 1]
chi2(r || q)               :math:`2T\,(e^\ell - 1)`                        >= 0, heavy tailed
=========================  ==============================================  ==========================

The terms of mean zero in them (control variates, :math:`E_m T = 0`) make every integrand non-negative and of second
order in :math:`\ell`: r = q gives exactly 0 and close laws have a relative error that does not grow. The weights r/m
and q/m are at most 2, so no estimator but chi2(r || q) has a variance problem; KL needs :math:`E_r \ell^2 < \infty`.
Squared Hellinger is :math:`1 - \int\sqrt{rq}`; chi2(r || m) is symmetric in r and q (the Vincze-Le Cam divergence) and
stays finite where chi2(r || q) is not.

Intervals are Student's with Welch degrees of freedom, corrected for the skewness of the integrands
(:meth:`driftlaw.estimate.Estimate.skewed`) and cut to the range of the estimand; with fewer than :data:`FEW` draws of a
law a warning says what may be unseen. Where fewer than ten draws'
worth of overlap was seen, the lower end for TV, Hellinger and chi2(r || m) is that of a Poisson count: draws that all
look separate cannot exclude a small overlap. chi2(r || q) is given only if it is finite: see :func:`chi2`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.laws.closed import chi2_closed
from driftlaw.measure.laws.tails import MIN_WEIGHTS, TailScale, Verdict, chi2_finite, pareto_k, renyi_finite
from driftlaw.process.score import Law
from driftlaw.seeding import generator

#: Draws of each law below which a warning says what they may have missed.
FEW = 100
#: Upper end of the tail index of r/q from which chi2 gets no upper end: there the weights may have no variance.
HEAVY = 0.5
#: The two laws of a divergence where a warning names them.
_LAWS = re.compile(r"\b[rq]\b")


@dataclass(frozen=True, eq=False)
class LogDensities:
    """Log densities of two laws at draws of each: all that the divergences need.

    Args:
        r_at_r, q_at_r: ``[n]`` log densities of r and q at draws of r; float64 inside.
        r_at_q, q_at_q: ``[m]`` the same at draws of q.

    Raises:
        InputError: shapes that do not fit, fewer than two draws, NaN or +inf, or a draw outside its own law's support.
    """

    r_at_r: Tensor
    q_at_r: Tensor
    r_at_q: Tensor
    q_at_q: Tensor

    def __post_init__(self) -> None:
        for f in fields(self):
            value = torch.as_tensor(getattr(self, f.name)).detach().cpu().double()
            object.__setattr__(self, f.name, value)
            own = f.name in ("r_at_r", "q_at_q")
            bad = value.isnan() | (value == math.inf) | (value.isinf() if own else False)
            if value.ndim != 1 or len(value) < 2:
                raise InputError(f"{f.name} must hold at least 2 log densities [n], got {list(value.shape)}")
            if bad.any():
                what = "NaN or infinite" if own else "NaN or +inf"
                where = f"the first is number {int(bad.nonzero()[0])}"
                raise InputError(f"{int(bad.sum())} of {len(bad)} log densities {f.name} are {what}", where)
        if self.r_at_r.shape != self.q_at_r.shape or self.r_at_q.shape != self.q_at_q.shape:
            raise InputError("log densities of r and q must be taken at the same draws")

    @property
    def ratio_at_r(self) -> Tensor:
        """Log ratio log r/q at the draws of r."""
        return self.r_at_r - self.q_at_r

    @property
    def ratio_at_q(self) -> Tensor:
        """Log ratio log r/q at the draws of q."""
        return self.r_at_q - self.q_at_q

    def swapped(self) -> LogDensities:
        """The same with r and q exchanged."""
        return LogDensities(self.q_at_q, self.r_at_q, self.q_at_r, self.r_at_r)


def log_densities(r: Law, q: Law, *, n: int, seed: int) -> LogDensities:
    """Log densities at `n` draws of each law, from the named streams of `seed`.

    Draws keep the dtype of the laws, so float32 laws give log ratios with an error of about 1e-5.

    Raises:
        InputError: n < 2, a law without ``log_prob``, or log densities that are NaN.
    """
    return SharedDraws({"r": r, "q": q}, n=n, seed=seed).log_densities("r", "q")


class SharedDraws:
    """Draws of several laws, so that each law is evaluated at most once at the draws of each, whatever is compared.

    Divergences from one such set are correlated, which changes no interval.

    Args:
        laws: by name; the names choose the random streams.
        n: draws of each law.
        seed: seed of the named streams.

    Raises:
        InputError: n < 2, or a law without ``log_prob``.
    """

    def __init__(self, laws: Mapping[str, Law], *, n: int, seed: int) -> None:
        if n < 2:
            raise InputError(f"a divergence with an interval needs n >= 2 draws of each law, got {n}")
        for name, law in laws.items():
            if not callable(getattr(law, "log_prob", None)):
                raise InputError(f"law {name} ({type(law).__name__}) has no log_prob", "use the sample-based measures")
        self.laws, self.n, self.seed = dict(laws), n, seed
        self._draws: dict[str, Tensor] = {}
        self._values: dict[tuple[str, str], Tensor] = {}

    def draws(self, name: str) -> Tensor:
        """The draws of one law, ``[n, ...]``."""
        if name not in self._draws:
            self._draws[name] = self.laws[name].sample(self.n, generator(self.seed, "divergence", name))
        return self._draws[name]

    def log_densities(self, r: str, q: str) -> LogDensities:
        """What the divergences of law `r` from law `q` need."""
        return LogDensities(*(self._value(law, at) for at in (r, q) for law in (r, q)))

    def compare(self, r: str, q: str, tail: tuple[TailScale, TailScale] | None = None) -> dict[str, Estimate]:
        """All divergences of law `r` from law `q`, as :func:`compare_laws`."""
        tail = tail if tail is not None else _own_tails(self.laws[r], self.laws[q])
        closed = chi2_closed(self.laws[r], self.laws[q])
        found = divergences(self.log_densities(r, q), tail, closed)
        return {key: with_names(e, r, q) for key, e in found.items()}

    def _value(self, law: str, at: str) -> Tensor:
        if (law, at) not in self._values:
            self._values[law, at] = self.laws[law].log_prob(self.draws(at))
        return self._values[law, at]


def compare_laws(
    r: Law, q: Law, *, n: int, seed: int, tail: tuple[TailScale, TailScale] | None = None
) -> dict[str, Estimate]:
    r"""All divergences of r from q, from one set of log densities.

    Args:
        r: law with ``sample(n, generator)`` and ``log_prob(x)``.
        q: the law to compare with, of the same kind.
        n: draws of each law.
        seed: seed of the named streams.
        tail: tails of r and q for the exact test of chi2 (:data:`~driftlaw.measure.laws.tails.TailScale`). A kernel
        density
            fitted to draws has, averaged over the draws, wider components than the fitted one: pass those. None: the
            laws' own ``component_covariances`` if both have them.

    Returns:
        ``kl`` KL(r || q), ``kl_reverse`` KL(q || r), ``tv``, ``hellinger2``, ``chi2`` chi2(r || q) and ``chi2_mix``
        chi2(r || (r + q)/2).

    Raises:
        InputError: n < 2, a law without a density, or NaN log densities.
    """
    return SharedDraws({"r": r, "q": q}, n=n, seed=seed).compare("r", "q", tail)


def with_names(e: Estimate, r: str, q: str) -> Estimate:
    """The same estimate, its warnings speaking of the laws by their names instead of r and q.

    Example:
        >>> with_names(Estimate.infinite("m", "chi2(r || q) is infinite"), "p_hat", "p").warnings
        ('chi2(p_hat || p) is infinite',)
    """
    names = {"r": r, "q": q}
    return replace(e, warnings=tuple(_LAWS.sub(lambda m: names[m[0]], w) for w in e.warnings))


def divergences(
    ld: LogDensities, tail: tuple[TailScale, TailScale] | None = None, closed: Estimate | None = None
) -> dict[str, Estimate]:
    """All divergences by name, as :func:`compare_laws`, from log densities that exist already."""
    return {
        "kl": kl(ld),
        "kl_reverse": reverse_kl(ld),
        "tv": total_variation(ld),
        "hellinger2": hellinger2(ld),
        "chi2": chi2(ld, tail, closed),
        "chi2_mix": chi2_mixture(ld),
    }


def kl(ld: LogDensities) -> Estimate:
    r"""KL(r || q) in nats: :math:`E_m[(1 + T)\,\ell - 2T]`; infinite if q vanishes at a draw of r."""
    method = "Monte Carlo under (r+q)/2, integrand (1+T) l - 2T"
    outside = int((ld.q_at_r == -math.inf).sum())
    if outside:
        why = f"q has no density at {outside} of {len(ld.q_at_r)} draws of r, so KL(r || q) is infinite"
        return Estimate.infinite(method, why, len(ld.q_at_r) + len(ld.q_at_q))

    def integrand(ratio: Tensor) -> Tensor:  # (1 + T) l -> 0 as l -> -inf
        t = torch.tanh(ratio / 2)
        return torch.where(ratio == -math.inf, 0.0, (1 + t) * ratio) - 2 * t

    return _balanced(ld, integrand, method)


def reverse_kl(ld: LogDensities) -> Estimate:
    """KL(q || r) in nats; infinite if r vanishes at a draw of q."""
    reverse = kl(ld.swapped())
    if reverse.is_infinite:
        outside, n = int((ld.r_at_q == -math.inf).sum()), len(ld.r_at_q)
        why = f"r has no density at {outside} of {n} draws of q, so KL(q || r) is infinite"
        return Estimate.infinite(reverse.method, why, reverse.n)
    return reverse


def total_variation(ld: LogDensities) -> Estimate:
    r"""TV distance :math:`\tfrac12\int|r - q| = E_m|T|`, in [0, 1]."""
    return _balanced(ld, lambda ratio: torch.tanh(ratio / 2).abs(), "Monte Carlo under (r+q)/2 of |T|", bounded=True)


def hellinger2(ld: LogDensities) -> Estimate:
    r"""Squared Hellinger distance :math:`1 - \int\sqrt{rq} = E_m[T\tanh(\ell/4)]`, in [0, 1]."""
    method = "Monte Carlo under (r+q)/2 of 1 - 1/cosh(l/2)"
    return _balanced(ld, lambda ratio: torch.tanh(ratio / 2) * torch.tanh(ratio / 4), method, bounded=True)


def chi2_mixture(ld: LogDensities) -> Estimate:
    r"""chi2 of r against the mixture (r + q)/2: :math:`E_m T^2`, in [0, 1], always finite."""
    return _balanced(ld, lambda ratio: torch.tanh(ratio / 2) ** 2, "Monte Carlo under (r+q)/2 of T^2", bounded=True)


def chi2(ld: LogDensities, tail: tuple[TailScale, TailScale] | None = None, closed: Estimate | None = None) -> Estimate:
    r"""Chi-square divergence of r from q, :math:`\int r^2/q - 1`, only if it is finite.

    Rule: (1) infinite if q vanishes at a draw of r, or if the exact test on `tail` says so. (2) The closed form where
    there is one. (3) Where the exact test cannot tell or there is none, the tail index k of r/q under r decides: no
    number unless its whole 95 % interval is below 1, where the mean exists. (4) If the variance of r/q is infinite
    (exactly, or k >= 1/2), the value and the lower end stand, the standard error is NaN, the upper end infinite, and a
    warning says so. There is no upper end either if k may reach 1/2 for all that the draws tell, or if the third moment
    of r/q is infinite (exactly: k >= 1/3): the draws that an upper end depends on are not made.

    Args:
        ld: the log densities.
        tail: tails of r and q, or None.
        closed: the closed form (:func:`driftlaw.measure.laws.closed.chi2_closed`), or None.

    Returns:
        The closed form, the Monte Carlo mean of :math:`2T(e^\ell - 1)` under (r + q)/2, infinite, or refused.
    """
    method, n = "Monte Carlo under (r+q)/2 of 2T (r/q - 1)", len(ld.q_at_r) + len(ld.q_at_q)
    outside = int((ld.q_at_r == -math.inf).sum())
    if outside:
        return Estimate.infinite(method, f"q has no density at {outside} of {len(ld.q_at_r)} draws of r", n)
    exact = Verdict(None, "no tails were given") if tail is None else chi2_finite(*tail)
    if exact.finite is False:
        return Estimate.infinite("exact tail test", f"chi2(r || q) is infinite: {exact.reason}", n)
    if closed is not None:
        return closed
    log_weights = ld.ratio_at_r
    k = pareto_k(log_weights)
    bounded = k.is_refused and len(log_weights) >= MIN_WEIGHTS  # the largest weights are equal, as for r = q
    if exact.finite is None and not bounded:
        if k.is_refused:
            why = f"whether chi2 is finite cannot be told ({exact.reason}; {k.warnings[0]})"
            return Estimate.refused(method, why, n)
        if k.high >= 1:
            likely = "most likely infinite" if k.low >= 1 else "possibly infinite"
            return Estimate.refused(method, f"chi2 is {likely}: tail index of r/q under r is {k} and 1 is the limit", n)
    value = _balanced(ld, lambda ratio: 2 * torch.tanh(ratio / 2) * torch.expm1(ratio), method)
    if not math.isfinite(value.value):
        return Estimate.refused(method, f"r/q reaches exp({float(log_weights.amax()):.0f}), too large to average", n)
    variance = Verdict(None, "") if tail is None else renyi_finite(*tail, order=3)
    if variance.finite is False or (variance.finite is None and not bounded and k.value >= 0.5):
        why = f"tail index k = {k}" if variance.finite is None else variance.reason
        words = f"the variance of r/q is infinite ({why}): no valid upper end, and the value is likely too small"
        value = replace(value, stderr=math.nan)
    elif tail is not None and renyi_finite(*tail, order=4).finite is False:
        words = "the third moment of r/q is infinite: a sample cannot tell its variance, only a lower end is given"
    elif not (bounded or k.high < HEAVY):
        words = f"too few draws for the weights r/q (tail index {k}, no variance from 0.5): only a lower end is given"
        if k.value >= 0.7:
            words = f"{words}, and the value is unreliable"
    else:
        return value
    return replace(value, high=math.inf).warn(words)


def _own_tails(r: Any, q: Any) -> tuple[TailScale, TailScale] | None:
    a, b = getattr(r, "component_covariances", None), getattr(q, "component_covariances", None)
    return (a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else None


def _balanced(ld: LogDensities, integrand: Callable[[Tensor], Tensor], method: str, bounded: bool = False) -> Estimate:
    """Mean under (r + q)/2 of a non-negative function of the log ratio, from draws of each."""
    parts = [integrand(ld.ratio_at_r), integrand(ld.ratio_at_q)]
    value = sum(float(p.mean()) for p in parts) / 2
    variances = [float(p.var()) / len(p) / 4 for p in parts]
    stderr = math.sqrt(sum(variances))
    # Welch-Satterthwaite degrees of freedom of the sum of two means
    freedom = [v**2 / (len(p) - 1) for v, p in zip(variances, parts, strict=True)]
    dof = sum(variances) ** 2 / sum(freedom) if sum(freedom) > 0 else math.inf
    third = sum(float((p - p.mean()).pow(3).mean()) / (8 * len(p) ** 2) for p in parts)
    n = sum(len(p) for p in parts)
    estimate = Estimate.skewed(value, stderr, third / stderr**3 if stderr > 0 else 0.0, n, method, dof)
    low, high = max(estimate.low, 0.0), estimate.high
    if bounded:
        low, high = min(low, 1 - _overlap_limit(parts)), min(high, 1.0)
    estimate = replace(estimate, low=low, high=high)
    least = min(len(p) for p in parts)
    if least < FEW:
        return estimate.warn(f"{least} draws are few: a region of {3 / least:.0%} of the mass may be unseen")
    return estimate


def _overlap_limit(parts: list[Tensor]) -> float:
    """97.5 % Poisson limit of 1 - value when the draws saw little overlap, else 0."""
    seen, n = sum(float((1 - p).sum()) for p in parts), sum(len(p) for p in parts)
    return min(1.0, float(stats.chi2.ppf(0.975, 2 * (seen + 1))) / 2 / n) if seen < 10 else 0.0
