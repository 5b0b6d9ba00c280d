r"""Refresh policies: what each generation is trained on, as rows of mixing weights.

Generation i + 1 is trained on

.. math:: q_i = a_i\, p + \sum_{j \le i} w_{ij}\, \hat p^{\,j}, \qquad a_i + \sum_j w_{ij} = 1,

with p the target (fresh data), :math:`\hat p^{\,0}` the first model or the kept real set, and :math:`\hat p^{\,j}` the
j-th learned law. A policy *is* the pair ``(fresh [N], mixing [N, N + 1])`` of these weights: everything that theory
says about it (memory, amplification, steady state) follows from the rows through :mod:`driftlaw.theory.propagator`.

========================== ================================================ ==================================
policy                     row i                                            `parse` / `build`
========================== ================================================ ==================================
``Replace()``              q_i = p_hat^i                                    ``replace``
``FixedFraction(alpha)``   q_i = alpha p + (1 - alpha) p_hat^i              ``fixed:0.5``
``Schedule([a_0, ...])``   q_i = a_i p + (1 - a_i) p_hat^i                  ``schedule:1,0,0.5``
``Accumulate()``           q_i = blocks p_hat^0, ..., p_hat^i; data grows    ``accumulate``
``AccumulateSubsample()``  the same law; the number of rows stays n         ``accumulate-subsample``
``FixedReal()``            q_i = kept real set p_hat^0 and block p_hat^i     ``fixed-real``
``Window(k, fresh=a)``     q_i = a p + (1 - a) mean of the last k models    ``window:3,0.1``
``Adaptive(B, H)``         as ``Schedule``, a_i from what was seen before   ``adaptive:0.1,20``
========================== ================================================ ==================================

Reference: this project, theory section 4. ``FixedFraction`` is the recursion of [KTV] (arXiv 2602.16601).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftlaw.config import Described, shown
from driftlaw.errors import ConfigError, InputError, LimitError
from driftlaw.kinds import POLICIES
from driftlaw.system import memory
from driftlaw.theory.blocks.pooled import check_sizes, pooled

Array = NDArray[np.float64]
#: ``(fresh [N], mixing [N, N + 1], rows of each training set [N])``.
BlockRows = tuple[Array, Array, Array]
#: Most generations; their weights are a square of numbers, 0.75 GiB for these.
LONGEST = 10_000
#: How far a row of weights may be from summing to one.
SUM_TOLERANCE: float = 1e-9


@runtime_checkable
class Policy(Protocol):
    """Anything with rows is a policy; a user's own needs no registration to be run, only to be read from YAML.

    A policy whose weights follow from how many rows there are has ``rows_of_blocks(sizes [N]) -> (fresh, mixing,
    totals)`` as well: block 0 is the kept real set, block j the stored samples of model j, totals the rows of each
    training set. A run asks for these where they exist.
    """

    @property
    def grows(self) -> bool:
        """Whether the training set of generation i + 1 has i + 1 blocks of n rows instead of one."""
        ...

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])`` of q_0, ..., q_{N-1}."""
        ...

    def config(self) -> dict[str, Any]:
        """YAML-ready description with a ``kind``."""
        ...


def check_horizon(N: int) -> int:
    """`N` if it is a positive whole number of generations, otherwise `InputError`."""
    if isinstance(N, bool) or not isinstance(N, int | np.integer) or N < 1:
        raise InputError(f"the number of generations must be a whole number >= 1, got {N!r}", "use N = 1, 2, ...")
    if int(N) > LONGEST:
        raise LimitError(
            f"{int(N)} generations need {8 * int(N) ** 2 / 2**30:.3g} GiB for their mixing weights alone",
            f"use at most {LONGEST}",
        )
    memory.check(32.0 * int(N) ** 2, f"a recursion of {int(N)} generations", "use fewer")
    return int(N)


def check_rows(fresh: ArrayLike, mixing: ArrayLike) -> tuple[Array, Array]:
    """Validate the rows of a policy; the first row that is wrong is named.

    Args:
        fresh: ``[N]``, a_i.
        mixing: ``[N, N + 1]``, w_ij on p_hat^0..p_hat^N; zero for j > i.

    Returns:
        The same rows as float64 arrays.

    Raises:
        InputError: wrong shapes, a weight that is negative or not finite, a row that does not sum to one, or a row
            that uses a model which does not exist yet (j > i).
    """
    a, w = np.asarray(fresh, dtype=np.float64), np.asarray(mixing, dtype=np.float64)
    if a.ndim != 1 or a.size < 1 or w.shape != (a.size, a.size + 1):
        raise InputError(
            f"a policy's rows have shapes fresh [N] and mixing [N, N + 1], got {list(a.shape)} and {list(w.shape)}",
            "row i holds the weight of fresh data and the weights on p_hat^0, ..., p_hat^N",
        )
    full = np.column_stack([a, w])
    future = np.triu(np.ones(w.shape, dtype=bool), k=1) & (w != 0)
    problems = (
        (~np.isfinite(full).all(axis=1), "has a weight that is not finite", "every weight is a number in [0, 1]"),
        ((full < 0).any(axis=1), "has a negative weight", "every weight is a number in [0, 1]"),
        (future.any(axis=1), "uses a model that is not trained yet", "row i may only use p_hat^0, ..., p_hat^i"),
        (abs(full.sum(axis=1) - 1) > SUM_TOLERANCE, "does not sum to 1", "fresh[i] + sum(mixing[i]) must be 1"),
    )
    for wrong, what, fix in problems:
        if wrong.any():
            i = int(wrong.argmax())
            raise InputError(f"row {i} of the policy {what}: fresh {a[i]:g}, mixing {w[i, : i + 2].tolist()}", fix)
    return a, w


def _fraction(name: str, value: Any) -> float:
    number = not isinstance(value, bool | np.bool_) and isinstance(value, int | float | np.integer | np.floating)
    if not number or math.isnan(value) or not 0 <= value <= 1:
        raise ConfigError(
            f"{name} must be a fraction in [0, 1], got {shown(value)}", "0 is no fresh data, 1 is only fresh"
        )
    return float(value)


def _fractions(name: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a list of fractions, got {shown(values)}", "use Schedule([0.5, 0.1, ...])")
    fractions = tuple(_fraction(f"{name}[{i}]", value) for i, value in enumerate(values))
    if not fractions:
        raise ConfigError(f"{name} must hold at least one fraction", "use Schedule([0.5, 0.1, ...])")
    return fractions


def _last_model(fresh: Array) -> tuple[Array, Array]:
    """Rows of q_i = a_i p + (1 - a_i) p_hat^i."""
    N = fresh.size
    mixing = np.zeros((N, N + 1))
    mixing[np.arange(N), np.arange(N)] = 1 - fresh
    return fresh, mixing


@dataclass(frozen=True)
class Replace(Described):
    """Each generation is trained only on the one before it: q_i = p_hat^i."""

    kind: ClassVar[str] = "replace"
    grows: ClassVar[bool] = False

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])``."""
        return _last_model(np.zeros(check_horizon(N)))


@dataclass(frozen=True)
class FixedFraction(Described):
    """A constant share of fresh data: q_i = alpha p + (1 - alpha) p_hat^i [KTV].

    Args:
        alpha: fraction of fresh data in [0, 1]; 0 is `Replace`, 1 never sees a model.

    Raises:
        ConfigError: alpha is not in [0, 1].
    """

    alpha: float
    kind: ClassVar[str] = "fixed"
    grows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _fraction("alpha", self.alpha))

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])``."""
        return _last_model(np.full(check_horizon(N), self.alpha))


@dataclass(frozen=True)
class Schedule(Described):
    """A share of fresh data per generation: q_i = a_i p + (1 - a_i) p_hat^i.

    A schedule is never extended silently: asking for more generations than it has fractions is an error.

    Args:
        alphas: a_0, a_1, ...; at least as many as generations.

    Raises:
        ConfigError: an empty schedule or a fraction outside [0, 1].
    """

    alphas: Sequence[float]
    kind: ClassVar[str] = "schedule"
    grows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas", _fractions("alphas", self.alphas))

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])``.

        Raises:
            InputError: fewer than N fractions.
        """
        if check_horizon(N) > len(self.alphas):
            raise InputError(
                f"the schedule has {len(self.alphas)} fractions but {N} generations were asked for",
                f"give {N} fractions (repeat the last one, {self.alphas[-1]:g}, if that is meant) or use FixedFraction",
            )
        return _last_model(np.array(self.alphas[:N]))


def _window_rows(N: int, k: int, fresh: float) -> tuple[Array, Array]:
    """Rows of q_i = a p + (1 - a) mean of p_hat^j over the last min(k, i + 1) models."""
    i, j = np.arange(N)[:, None], np.arange(N + 1)[None, :]
    inside = (j <= i) & (j > i - k)
    return np.full(N, fresh), (1 - fresh) * inside / inside.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Accumulate(Described):
    """Keep everything: q_i = (n_0 p_hat^0 + ... + n_i p_hat^i) / S_i, p_hat^0 the kept real set, S_i = n_0 + ... + n_i.

    No fresh data are drawn; the training set of generation i + 1 is all blocks so far, or `cap` rows of them.

    Args:
        cap: most rows of a training set, drawn from the blocks in proportion; None trains on all.

    Raises:
        ConfigError: a cap that is no whole number >= 2.
    """

    cap: int | None = None
    kind: ClassVar[str] = "accumulate"
    grows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole = isinstance(self.cap, int | np.integer) and not isinstance(self.cap, bool)
        if self.cap is not None and (not whole or self.cap < 2):
            raise ConfigError(f"cap must be a whole number >= 2, got {shown(self.cap)}", "cap is a number of rows")
        object.__setattr__(self, "cap", None if self.cap is None else int(self.cap))

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])`` for equal blocks."""
        return _window_rows(check_horizon(N), N, 0.0)

    def rows_of_blocks(self, sizes: ArrayLike) -> BlockRows:
        """Weights and row counts for blocks of n_0, ..., n_{N-1} rows."""
        mixing, totals = pooled(sizes)
        return np.zeros(len(mixing)), mixing, totals if self.cap is None else np.minimum(totals, self.cap)

    def config(self) -> dict[str, Any]:
        """YAML-ready mapping; without a cap as version 0.1 wrote it."""
        return {"kind": self.kind} if self.cap is None else {"kind": self.kind, "cap": self.cap}


@dataclass(frozen=True)
class AccumulateSubsample(Described):
    """The law of `Accumulate` at constant cost: n rows drawn from the pool of everything so far."""

    kind: ClassVar[str] = "accumulate-subsample"
    grows: ClassVar[bool] = False

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])``."""
        return _window_rows(check_horizon(N), N, 0.0)

    def rows_of_blocks(self, sizes: ArrayLike) -> BlockRows:
        """Weights for blocks of n_0, ..., n_{N-1} rows; each training set keeps the size of its own block."""
        mixing, _ = pooled(sizes)
        return np.zeros(len(mixing)), mixing, np.asarray(sizes, dtype=np.float64)


@dataclass(frozen=True)
class FixedReal(Described):
    """One real set for ever, and new samples beside it: q_i = (n_0 p_hat^0 + n_i p_hat^i) / (n_0 + n_i).

    The real rows are drawn once, for generation 1, and all of them are in every later training set. With
    ``samples=[100, 900, 900]`` the real set has 100 rows and every generation adds 900 of its own to it: alpha = 0.1.
    The propagator is prod_{j=i+1}^{N-1} n_j / (n_0 + n_j).
    """

    kind: ClassVar[str] = "fixed-real"
    grows: ClassVar[bool] = False

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])`` for equal blocks."""
        return self.rows_of_blocks(np.ones(check_horizon(N)))[:2]

    def rows_of_blocks(self, sizes: ArrayLike) -> BlockRows:
        """Weights and row counts for a real set of n_0 rows and n_i samples of model i."""
        n = check_sizes(sizes)
        mixing = np.zeros((n.size, n.size + 1))
        mixing[:, 0] = n[0]
        mixing[np.arange(1, n.size), np.arange(1, n.size)] = n[1:]
        totals = mixing.sum(axis=1)
        return np.zeros(n.size), mixing / totals[:, None], totals


@dataclass(frozen=True)
class Window(Described):
    """Fresh data and the last k models in equal shares: q_i = a p + (1 - a) mean(p_hat^{i-k+1}, ..., p_hat^i).

    Args:
        k: how many models are kept (fewer exist in the first generations: min(k, i + 1)).
        fresh: fraction of fresh data, in [0, 1].

    Raises:
        ConfigError: k is not a whole number >= 1, or fresh is not in [0, 1].
    """

    k: int
    fresh: float = 0.0
    kind: ClassVar[str] = "window"
    grows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise ConfigError(
                f"k must be a whole number >= 1, got {shown(self.k)}", "Window(1, fresh=a) is FixedFraction(a)"
            )
        object.__setattr__(self, "k", int(self.k))
        object.__setattr__(self, "fresh", _fraction("fresh", self.fresh))

    def rows(self, N: int) -> tuple[Array, Array]:
        """Weights ``(fresh [N], mixing [N, N + 1])``."""
        return _window_rows(check_horizon(N), self.k, self.fresh)


def build(config: object) -> Policy:
    """The policy that a configuration describes; inverse of ``policy.config()``.

    Args:
        config: a mapping with a ``kind``, a word such as ``fixed:0.5`` (see :func:`parse`), or a policy.

    Raises:
        ConfigError: no or an unknown kind, an unknown or missing key, or a value that cannot be used.

    Example:
        >>> build({"kind": "fixed", "alpha": 0.5})
        FixedFraction(alpha=0.5)
    """
    policy: Policy = parse(config) if isinstance(config, str) else POLICIES.build(config)
    return policy


def parse(text: str) -> Policy:
    """The policy that a command-line word describes: ``kind`` or ``kind:number,number,...``.

    Raises:
        ConfigError: an unknown kind, a word that is not a number, or too many or too few of them.

    Example:
        >>> parse("window:3,0.1")
        Window(k=3, fresh=0.1)
    """
    kind, _, rest = text.strip().partition(":")
    words = [word.strip() for word in rest.split(",")] if rest else []
    try:
        numbers = [int(word) if word.lstrip("+-").isdigit() else float(word) for word in words]
    except ValueError:
        fix = "write for example fixed:0.5, schedule:1,0,0.5 or window:3,0.1"
        raise ConfigError(f"policy {shown(text)} has an argument that is not a number", fix) from None
    if kind == Schedule.kind:
        return build({"kind": kind, "alphas": numbers})
    names = list(POLICIES.settings(kind))
    if len(numbers) > len(names):
        raise ConfigError(
            f"policy {shown(text)} has {len(numbers)} arguments, {kind} takes {len(names)}",
            f"write {':'.join([kind, ','.join(names)]) if names else kind}",
        )
    return build({"kind": kind, **dict(zip(names, numbers, strict=False))})
