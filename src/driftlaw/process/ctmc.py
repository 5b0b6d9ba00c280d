r"""Discrete diffusion on a finite alphabet, exact: continuous-time Markov chains and their reversals.

A chain jumps from x to y at rate :math:`Q(x \to y)`; rows of Q sum to zero, and :math:`p_t = p\,e^{tQ}`. Reversed in
time it is a chain again, with rates

.. math:: R_t(y \to x) = Q(x \to y)\, \frac{p_t(x)}{p_t(y)} .

A model of discrete diffusion learns the ratios, and so rates :math:`\hat R`. They are *consistent* where they are those
of a law :math:`\hat p`: then the reverse chain from :math:`\hat p_T` ends in :math:`\hat p_{t_0}` exactly.

Two chains are in use (Austin et al., arXiv 2107.03006; Lou et al., arXiv 2310.16834): *uniform*, :math:`p_t = e^{-t} p
+ (1 - e^{-t})/K`, and *absorbing* (masked), :math:`p_t = e^{-t} p + (1 - e^{-t})\,\delta_{mask}`. Everything here is by
matrix exponentials, for alphabets of up to some hundred states; sequences are the alphabet of all words
(:meth:`JumpProcess.words`). :mod:`driftlaw.measure.paths.jumps` measures paths; docs/derivations.md section 11.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from driftlaw.errors import InputError

Array = NDArray[np.float64]
#: Reverse rates ``R[y, x]`` at a time; the diagonal is not read.
Rates = Callable[[float], Array]
#: Largest number of states: matrices are dense.
MOST_STATES = 1024


def check_law(p: Any, states: int, what: str = "law") -> Array:
    """Probabilities as float64 ``[K]``.

    Raises:
        InputError: another shape, a negative or non-finite entry, or a sum that is not 1 within 1e-6.
    """
    law = np.asarray(p, float)
    if law.shape != (states,):
        raise InputError(f"the {what} has shape {list(law.shape)} for {states} states", f"give {states} probabilities")
    if not (np.isfinite(law) & (law >= 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(law) & (law >= 0)))[0])
        raise InputError(f"probability {bad} of the {what} is {law[bad]}", "probabilities are finite and >= 0")
    if abs(law.sum() - 1) > 1e-6:
        raise InputError(f"the {what} sums to {law.sum():.9g}", "divide it by its sum")
    return np.asarray(law / law.sum())


@dataclass(frozen=True)
class JumpProcess:
    """A time-homogeneous chain on K states.

    Args:
        rates: ``[K, K]``, Q(x -> y) >= 0 off the diagonal; the diagonal is set to minus the row's sum.

    Raises:
        InputError: not square, fewer than 2 states or too many, or rates that are negative or not finite.

    Example:
        >>> chain = JumpProcess.uniform(4)
        >>> chain.law([1.0, 0.0, 0.0, 0.0], 50.0).round(3)
        array([0.25, 0.25, 0.25, 0.25])
    """

    rates: Array

    def __post_init__(self) -> None:
        q = np.array(self.rates, float)
        if q.ndim != 2 or q.shape[0] != q.shape[1] or not 2 <= len(q) <= MOST_STATES:
            raise InputError(f"rates of shape {list(q.shape)}", f"give a square matrix of 2 to {MOST_STATES} states")
        np.fill_diagonal(q, 0.0)
        if not (np.isfinite(q) & (q >= 0)).all():
            x, y = np.argwhere(~(np.isfinite(q) & (q >= 0)))[0]
            raise InputError(f"the rate from state {x} to {y} is {q[x, y]}", "rates are finite and >= 0")
        np.fill_diagonal(q, -q.sum(1))
        object.__setattr__(self, "rates", q)

    @classmethod
    def uniform(cls, states: int) -> JumpProcess:
        """Every letter is replaced by a uniformly drawn one at rate 1."""
        _check_states(states, 2)
        return cls(np.full((states, states), 1 / states))

    @classmethod
    def absorbing(cls, letters: int) -> JumpProcess:
        """Every letter is masked at rate 1; the mask is the last of ``letters + 1`` states."""
        _check_states(letters, 1)
        q = np.zeros((letters + 1, letters + 1))
        q[:-1, -1] = 1.0
        return cls(q)

    @property
    def states(self) -> int:
        """K."""
        return len(self.rates)

    def words(self, length: int) -> JumpProcess:
        """The chain of words of `length` letters that jump independently; word (x_1, .., x_L) is sum x_i K^(L - i).

        Raises:
            InputError: more than 1024 words.
        """
        if length < 1 or self.states**length > MOST_STATES:
            raise InputError(
                f"words of {length} letters out of {self.states} states", f"at most {MOST_STATES} words are enumerated"
            )
        q, one = np.zeros((1, 1)), self.rates
        for _ in range(length):
            q = np.kron(q, np.eye(self.states)) + np.kron(np.eye(len(q)), one)
        return JumpProcess(q)

    def transition(self, t: float) -> Array:
        """P(X_t = y | X_0 = x) as ``[x, y]``, t >= 0."""
        if not 0 <= t < np.inf:
            raise InputError(f"time {t} is not one of a chain", "times are finite and >= 0")
        return np.asarray(expm(self.rates * t)).clip(min=0.0)

    def law(self, p: Any, t: float) -> Array:
        """p_t from the law p at time 0, ``[K]``."""
        return np.asarray(check_law(p, self.states) @ self.transition(t))

    def reverse_rates(self, p: Any) -> Rates:
        """R_t(y -> x) of the law p at time 0, as a function of t > 0: ``[y, x]`` with rows that sum to zero.

        Rates out of a state that has no probability are 0.
        """
        law = check_law(p, self.states)

        def rates(t: float) -> Array:
            if t <= 0:
                raise InputError(f"reverse rates at t = {t}", "they exist for t > 0")
            p_t = law @ self.transition(t)
            with np.errstate(divide="ignore", invalid="ignore"):
                r = self.rates.T * p_t[None, :] / p_t[:, None]
            r[~np.isfinite(r)] = 0.0
            return generator_of(r)

        return rates

    def reverse_transition(self, p: Any, t: float, s: float) -> Array:
        """P(X_s = x | X_t = y) as ``[y, x]`` for s < t: one exact step of the reversed chain of the law p.

        Rows of states without probability are zero.
        """
        if not 0 <= s < t:
            raise InputError(f"a step back from t = {t} to s = {s}", "0 <= s < t")
        at_s, at_t = self.law(p, s), self.law(p, t)
        joint = at_s[:, None] * self.transition(t - s)
        with np.errstate(divide="ignore", invalid="ignore"):
            back = joint.T / at_t[:, None]
        back[~np.isfinite(back)] = 0.0
        return np.asarray(back)

    def carried(self, rates: Rates, start: Any, T: float, times: Sequence[float] | Array) -> Array:
        """Laws of the chain with reverse rates `rates` that starts from `start` at T, at decreasing times ``[m]``.

        Args:
            rates: any reverse rates, consistent or not.
            start: law at T.
            T: where it starts.
            times: from high to low, all in (0, T].

        Returns:
            ``[m, K]``; error below 1e-10 (an adaptive ODE solver of order 8).

        Raises:
            InputError: times that do not descend in (0, T], or rates that are negative or not finite.
        """
        at = np.asarray(times, float)
        if at.ndim != 1 or not len(at) or (np.diff(at) > 0).any() or at[0] > T or at[-1] <= 0:
            raise InputError("times of a reversed chain do not descend in (0, T]", "sort them from high to low")
        law = check_law(start, self.states, "starting law")

        def move(u: float, q: Array) -> Array:  # in u = -log t, so that steps follow the rates near 0
            t = float(np.exp(-u))
            return np.asarray(t * (q @ _checked(rates(t), t)))

        ends = -np.log(at)
        found = solve_ivp(
            move, (-np.log(T), max(ends[-1], -np.log(T) + 1e-12)), law, "DOP853", ends, rtol=1e-11, atol=1e-13
        )
        if not found.success or found.y.shape[1] != len(at):
            raise InputError(
                f"the reversed chain cannot be followed ({found.message})", "raise t0, or smooth the rates"
            )
        return np.asarray(found.y.T)


def generator_of(rates: Array) -> Array:
    """A rate matrix with the diagonal that makes rows sum to zero."""
    r = np.array(rates, float)
    np.fill_diagonal(r, 0.0)
    np.fill_diagonal(r, -r.sum(1))
    return r


def _checked(rates: Array, t: float) -> Array:
    r = generator_of(rates)
    off = r[~np.eye(len(r), dtype=bool)]
    if not (np.isfinite(off) & (off >= 0)).all():
        raise InputError(f"reverse rates at t = {t:.6g} are negative or not finite", "rates are finite and >= 0")
    return r


def _check_states(states: int, least: int) -> None:
    if not least <= states < MOST_STATES:
        raise InputError(f"an alphabet of {states} letters", f"give {least} to {MOST_STATES - 1}")
