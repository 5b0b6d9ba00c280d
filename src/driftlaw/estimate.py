r"""A measured number never travels alone.

Everything that leaves :mod:`driftlaw.measure` is an :class:`Estimate`: a value with its standard error, a 95 %
interval, the number of observations behind it, the method, and warnings in words. A quantity that is infinite has the
value ``inf`` and says so; a quantity that cannot be given has the value ``nan`` and says why (it is *refused*).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats

from driftlaw.errors import InputError
from driftlaw.numerics import words
from driftlaw.records import Record

#: Standard errors beyond which a contradiction is called clear: a normal error gets there with probability 7e-6.
CLEAR = 4.5
#: Two-sided normal quantile of the intervals used everywhere (95 %).
Z95: float = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Estimate(Record):
    """A value with its uncertainty.

    Args:
        value: the estimate, in the units of the estimand (nats for KL, none for chi2, TV and Hellinger).
        stderr: standard error, same units; 0 for an exact value, ``nan`` if it cannot be given.
        low, high: 95 % interval.
        n: number of observations behind the value (0 for a closed form).
        method: how it was computed, in words.
        warnings: what a reader must know before using it.
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int
    method: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def exact(cls, value: float, method: str) -> Estimate:
        """A closed form: no sampling error."""
        return cls(float(value), 0.0, float(value), float(value), 0, method)

    @classmethod
    def infinite(cls, method: str, why: str, n: int = 0) -> Estimate:
        """A quantity that is known to be infinite; `why` says how it is known."""
        return cls(math.inf, 0.0, math.inf, math.inf, n, method, (why,))

    @classmethod
    def without_interval(cls, value: float, n: int, method: str) -> Estimate:
        """A number whose error is not known."""
        return cls(float(value), math.nan, math.nan, math.nan, n, method, ("no interval: its error is not known",))

    @classmethod
    def refused(cls, method: str, why: str, n: int = 0) -> Estimate:
        """A quantity that cannot be given from this data; `why` says what is missing."""
        return cls(math.nan, math.nan, math.nan, math.nan, n, method, (why,))

    @classmethod
    def normal(
        cls, value: float, stderr: float, n: int, method: str, warnings: Iterable[str] = (), dof: float = math.inf
    ) -> Estimate:
        """Interval value +- quantile * stderr; Student's t with `dof` degrees of freedom when it is finite."""
        quantile = Z95 if math.isinf(dof) else float(stats.t.ppf(0.975, dof))
        half = quantile * stderr
        return cls(float(value), float(stderr), float(value - half), float(value + half), n, method, tuple(warnings))

    @classmethod
    def skewed(
        cls,
        value: float,
        stderr: float,
        skewness: float,
        n: int,
        method: str,
        dof: float = math.inf,
        no_shorter: bool = False,
    ) -> Estimate:
        r"""Interval of an estimate whose error is skewed, by Hall's cubic transformation of Student's t.

        .. math:: \text{value} - \text{stderr}\,g(\pm t), \qquad
            g(y) = \frac{3}{\lambda}\Bigl[\bigl(1 + \lambda(y - \lambda/6)\bigr)^{1/3} - 1\Bigr]

        A mean of skewed rows and its standard error rise together, so that Student's interval is too short on the long
        side; the transformation removes that to second order and keeps both ends finite.

        Args:
            value: the estimate.
            stderr: its standard error.
            skewness: lambda, third central moment of the estimate over stderr^3 (of a mean: that of a row over
                sqrt(n)); 0 gives Student's interval.
            n: observations behind it.
            method: in words.
            dof: degrees of freedom of t.
            no_shorter: on neither side shorter than Student's; for rows with heavy tails on both sides, whose sample
                skewness is mostly noise.

        References:
            P. Hall, "On the removal of skewness by transformation", JRSS B 54, 1992.

        Example:
            >>> found = Estimate.skewed(1.0, 0.1, 0.1, 100, "example")
            >>> round(found.low, 3), round(found.high, 3)
            (0.826, 1.239)
        """
        symmetric = cls.normal(value, stderr, n, method, dof=dof)
        if not abs(skewness) > 1e-6 or not math.isfinite(skewness):
            return symmetric
        t = (symmetric.high - value) / stderr
        low, high = (
            value - stderr * 3.0 / skewness * (float(np.cbrt(1.0 + skewness * (y - skewness / 6.0))) - 1.0)
            for y in (t, -t)
        )
        if no_shorter:
            low, high = min(low, symmetric.low), max(high, symmetric.high)
        return replace(symmetric, low=min(low, value), high=max(high, value))

    @classmethod
    def mean(cls, observations: torch.Tensor | np.ndarray, method: str, warnings: Iterable[str] = ()) -> Estimate:
        """Mean of independent observations with Student's t interval.

        Args:
            observations: ``[n]``, at least two, finite.
            method: how they were made, in words.
            warnings: what a reader must know.

        Raises:
            InputError: fewer than two observations, or NaN among them.
        """
        x = np.asarray(torch.as_tensor(observations).detach().cpu().double()).reshape(-1)
        if x.size < 2:
            raise InputError(f"a mean with an interval needs at least 2 observations, got {x.size} ({method})")
        if np.isnan(x).any():
            raise InputError(
                f"{int(np.isnan(x).sum())} of {x.size} observations are NaN ({method})",
                f"the first is number {int(np.isnan(x).argmax())}",
            )
        stderr = float(x.std(ddof=1)) / math.sqrt(x.size)
        return cls.normal(float(x.mean()), stderr, x.size, method, warnings, dof=x.size - 1)

    @property
    def is_infinite(self) -> bool:
        """Whether the estimand is infinite."""
        return math.isinf(self.value)

    @property
    def is_refused(self) -> bool:
        """Whether no number could be given."""
        return math.isnan(self.value)

    def __float__(self) -> float:
        return self.value

    def warn(self, *messages: str) -> Estimate:
        """The same estimate with more warnings."""
        return replace(self, warnings=self.warnings + messages)

    def scaled(self, factor: float) -> Estimate:
        """Estimate of ``factor * estimand``."""
        low, high = sorted((self.low * factor, self.high * factor))
        return replace(self, value=self.value * factor, stderr=self.stderr * abs(factor), low=low, high=high)

    def text(self, digits: int = 3) -> str:
        """Value with its 95 % interval in ASCII, or "infinite" or "unknown"."""
        return words.interval(self.value, self.low, self.high, lambda x: words.plain(x, digits))

    @property
    def why(self) -> str:
        """What a refused estimate lacks, in words; empty for any other."""
        return "; ".join(self.warnings) if self.is_refused else ""

    def __str__(self) -> str:
        return self.text(4)
