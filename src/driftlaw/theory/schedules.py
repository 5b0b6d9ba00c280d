r"""The best schedule: fewest fresh data for a drift budget, or least drift for an amount of fresh data.

For fractions :math:`\alpha_1, \dots, \alpha_H` and the drift :math:`D_1, \dots, D_H` of
:class:`driftlaw.theory.planning.DriftModel`,

========== =====================================================
objective  what is kept within the budget, or made least
========== =====================================================
max        :math:`\max_n D_n`
mean       :math:`\frac1H \sum_n D_n`
terminal   :math:`D_H`
========== =====================================================

and the cost is :math:`\sum_n \alpha_n`, in training sets. Alignment decides the shape. *Terminal*: spend last, for
every kappa. Proof: each product :math:`G_{H,k} = \prod_{j>k}(1-\alpha_j)` falls, or stays, when fresh data move from an
earlier generation to the last one; for k before both because :math:`(1-a)(1-b)` at a fixed sum is least when a and b
are as unequal as they can be. *Mean*, aligned: full refreshes, far apart. *Max*: as late as the budget allows.

In :math:`x_n = -\log(1 - \alpha_n)` every D_n is convex, but the cost is concave: there are many local optima, near
bursts of different number and size. So the search is global first (bursts of every period and size, waiting rules, late
starts and, up to 8 generations, a coarse grid of all schedules, each scaled until it just keeps the budget) and local
after (sequential quadratic programming with exact gradients from the best of them). It is not certified; the tests hold
it against exhaustive grids.

:class:`SampleNoise` weighs sets of given sizes: every schedule costs the same rows, and the schedule of least drift is
the answer to both questions; for kappa = 0 its weights are the gains of a Kalman filter.

Reference: this project, theory section 8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from driftlaw.errors import InputError, nearest
from driftlaw.theory.planning import DriftModel, SampleNoise, check_budget, constant_schedule
from driftlaw.theory.refresh import Array, check_horizon

Objective = Literal["max", "mean", "terminal"]
#: Which of many schedules are enough, ``[M, H] -> [M]``.
Test = Callable[[Array], NDArray[np.bool_]]
#: Levels of the coarse grid of all schedules, by horizon; longer ones have none.
_LEVELS = {1: 65, 2: 33, 3: 13, 4: 9, 5: 6, 6: 5, 7: 4, 8: 3}
#: Sizes of bursts that are tried.
_SIZES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
#: How many starts are polished, and up to which horizon.
_POLISHED, LONGEST_POLISHED = 5, 100
#: Relative excess over the budget that counts as rounding.
ROUNDING = 1e-9


def check_objective(objective: str) -> Objective:
    """`objective` if it is one of max, mean, terminal."""
    if objective not in get_args(Objective):
        raise InputError(f"unknown objective {objective!r}", nearest(str(objective), get_args(Objective)))
    return objective  # type: ignore[return-value]


def evaluate(drift: Array, objective: Objective) -> Array:
    """The objective of drift ``[..., H]``; ``[...]``."""
    if objective == "terminal":
        return np.asarray(drift[..., -1])
    return np.asarray(drift.max(axis=-1) if objective == "max" else drift.mean(axis=-1))


def cleanest(model: DriftModel, horizon: int) -> Array:
    """The schedule that makes drift least in every generation, ``[H]``: ones, or the best weights in turn."""
    if not isinstance(model.innovation, SampleNoise):
        return constant_schedule(1.0, horizon)
    found: list[float] = []
    for _ in range(check_horizon(horizon)):
        before = np.array(found)

        def next_drift(w: float, before: Array = before) -> float:
            return float(model.drift(np.append(before, w))[-1])

        best = minimize_scalar(next_drift, bounds=(0, 1), method="bounded", options={"xatol": 1e-10})
        found.append(float(best.x))
    return np.array(found)


def smallest_budget(model: DriftModel, horizon: int, objective: Objective) -> float:
    """The least value of the objective over all schedules: what fresh data alone, or the best weights, reach."""
    return float(evaluate(model.drift(cleanest(model, horizon)), check_objective(objective)))


def constant_within(model: DriftModel, budget: float, horizon: int, objective: Objective) -> float:
    """Smallest constant fraction that keeps the objective over the horizon within the budget; ``nan`` if none does.

    Raises:
        InputError: a budget that is not positive, a horizon < 1 or an unknown objective.
    """
    B, H, of = check_budget(budget), check_horizon(horizon), check_objective(objective)

    def within(alpha: Array) -> NDArray[np.bool_]:
        schedules = np.repeat(alpha[:, None], H, axis=1)
        return np.asarray(evaluate(model.drift(schedules), of) <= B * (1 + ROUNDING))

    grid = np.linspace(0, 1, 1001)
    inside = np.flatnonzero(within(grid))
    if not inside.size:
        return math.nan
    if inside[0] == 0:
        return 0.0
    low, high = float(grid[inside[0] - 1]), float(grid[inside[0]])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if within(np.array([middle]))[0] else (middle, high)
    return high


def fewest(model: DriftModel, budget: float, horizon: int, objective: Objective) -> Array | None:
    """The schedule that keeps the objective within the budget with the least fresh data; None if none does.

    Args:
        model: innovations and start.
        budget: B > 0.
        horizon: H >= 1.
        objective: "max", "mean" or "terminal".

    Returns:
        ``[H]`` fractions.

    Raises:
        InputError: a budget that is not positive, a horizon < 1 or an unknown objective.

    Example:
        >>> fewest(DriftModel(1.0, 1.0), 4.0, 4, "terminal").round(6)
        array([0.      , 0.      , 0.      , 0.666667])
    """
    B, H, of = check_budget(budget), check_horizon(horizon), check_objective(objective)
    smallest = smallest_budget(model, H, of)
    if smallest > B * (1 + ROUNDING):
        return None
    if isinstance(model.innovation, SampleNoise):
        return cleanest(model, H)
    B = max(B, smallest)

    def kept(schedules: Array) -> NDArray[np.bool_]:
        return np.asarray(evaluate(model.drift(schedules), of) <= B)

    if of == "terminal":
        return _scale_last(kept, H)
    found = _scale(_shapes(model, H, np.array([B]) if of == "max" else None), kept)
    found = found[kept(found)]

    def limits(s: Array) -> tuple[Array, Array]:
        drift, slope = model.drift_and_gradient(s)
        if of == "mean":
            drift, slope = drift.mean(keepdims=True), slope.mean(axis=0, keepdims=True)
        return 1 - drift / B, -slope / B

    def polish(s: Array) -> Array:
        return _solve(lambda x: (x.sum(), np.ones(H)), limits, s, H)

    return _best(found, lambda s: np.asarray(s.sum(axis=-1)), polish, kept)


def least(model: DriftModel, total: float, horizon: int, objective: Objective) -> Array:
    """The schedule of least drift whose fractions sum to at most `total`.

    Args:
        model: innovations and start.
        total: F >= 0, in training sets; not used with :class:`SampleNoise`.
        horizon: H >= 1.
        objective: "max", "mean" or "terminal".

    Returns:
        ``[H]`` fractions.

    Raises:
        InputError: a negative total, a horizon < 1 or an unknown objective.

    Example:
        >>> least(DriftModel(1.0, 1.0), 1.0, 5, "terminal")
        array([0., 0., 0., 0., 1.])
    """
    H, of = check_horizon(horizon), check_objective(objective)
    if not isinstance(total, int | float | np.integer | np.floating) or not math.isfinite(total) or total < 0:
        raise InputError(f"the total of fresh data must be a finite number >= 0, got {total!r}", "use a number >= 0")
    if isinstance(model.innovation, SampleNoise) or total >= H:
        return cleanest(model, H)
    F = float(total)
    if F == 0:
        return np.zeros(H)
    if of == "terminal":
        return _last(F, H)

    def spends(schedules: Array) -> NDArray[np.bool_]:
        return np.asarray(schedules.sum(axis=-1) >= F * (1 - 1e-12))

    unit = float(evaluate(model.drift(np.ones(H)), of))

    def value(s: Array) -> tuple[float, Array]:
        drift, slope = model.drift_and_gradient(s)
        return float(drift.mean() / unit), slope.mean(axis=0) / unit

    def spent(s: Array) -> tuple[Array, Array]:
        return np.array([F - s.sum()]), -np.ones((1, H))

    def below(x: Array) -> tuple[Array, Array]:  # x holds the fractions and the level that all drift stays under
        drift, slope = model.drift_and_gradient(x[:H])
        slack = np.append(x[H] - drift / unit, F - x[:H].sum())
        rows = np.column_stack([-slope / unit, np.ones(H)])
        return slack, np.vstack([rows, np.append(-np.ones(H), 0.0)])

    def polish(s: Array) -> Array:
        if of == "mean":
            return _solve(value, spent, s, H)
        level = float(model.drift(s).max() / unit)
        return _solve(lambda x: (x[H], np.eye(H + 1)[H]), below, np.append(s, level), H)[:H]

    levels = np.geomspace(unit * 1.001, max(float(model.drift(np.zeros(H)).max()), unit * 1.01), 16)
    found = _scale(_shapes(model, H, levels), spends)
    return _best(found, lambda s: evaluate(model.drift(s), of), polish, spends)


def _scale(shapes: Array, enough: Test) -> Array:
    """Scale each shape ``[M, H]`` as ``min(1, t s)`` by the least t for which it is enough, or up to all ones on it."""
    shapes = np.atleast_2d(shapes)
    low, high = np.zeros(len(shapes)), np.ones(len(shapes))

    def at(t: Array) -> Array:  # t in [0, 1) maps to a multiple in [0, inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            multiple = np.where(t < 1, t / (1 - t), np.inf)[:, None]
            return np.asarray(np.where(shapes > 0, np.minimum(1.0, multiple * shapes), 0.0))

    for _ in range(45):
        middle = (low + high) / 2
        good = enough(at(middle))
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return at(high)


def _scale_last(enough: Test, H: int) -> Array:
    """Spend last, as little as is enough."""
    low, high = 0.0, float(H)
    if enough(np.zeros(H)):
        return np.zeros(H)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(_last(middle, H)) else (middle, high)
    return _last(high, H)


def _last(total: float, H: int) -> Array:
    """Everything as late as possible."""
    return np.asarray(np.clip(total - np.arange(H)[::-1], 0.0, 1.0))


def _shapes(model: DriftModel, H: int, levels: Array | None) -> Array:
    """Shapes worth trying, ``[M, H]``, before they are scaled."""
    at = np.arange(1, H + 1)
    found: list[Array] = [np.ones(H)]
    for period in sorted({*range(2, min(H, 12) + 1), *_spread(12, H)}):
        for first, size in itertools.product(sorted({1, 2, (period + 1) // 2, period}), _SIZES):
            found.append(size * ((at >= first) & ((at - first) % period == 0)))
    for cut, size in itertools.product(_spread(1, H - 1), _SIZES):
        found += [np.asarray(shape, dtype=np.float64) for shape in (size * (at > cut), size * (at <= cut))]
    if levels is None:
        top = float(model.drift(np.zeros(H)).max())
        levels = np.geomspace(float(model.drift(np.ones(H)).max()) * 1.001, top * 1.001, 16)
    found += [_wait(model, H, float(level), size) for level in levels for size in (0.0, *_SIZES)]
    if H in _LEVELS:
        found += list(np.array(list(itertools.product(np.linspace(0, 1, _LEVELS[H]), repeat=H))))
    return np.array(found)


def _spread(low: int, high: int) -> list[int]:
    """At most 12 whole numbers from low to high."""
    return sorted({round(x) for x in np.linspace(low, high, 12)}) if high >= low else []


def _wait(model: DriftModel, H: int, level: float, size: float) -> Array:
    """Wait while drift stays under the level; then refresh by `size`, or by more where that is needed."""
    kappa, root, found = model.alignment, math.sqrt(float(model.sizes(0.0))), np.zeros(H)
    a, s = model.start, math.sqrt(model.start)
    grid = np.linspace(0, 1, 201)
    for n in range(H):
        A, S = (1 - grid) ** 2 * a + root**2, (1 - grid) * s + root
        inside = np.flatnonzero((1 - kappa) * A + kappa * S**2 <= level)
        k = int(inside[0]) if inside.size else 200
        k = max(k, round(200 * size)) if k else 0
        found[n], a, s = grid[k], float(A[k]), float(S[k])
    return found


def _best(
    found: Array,
    cost: Callable[[Array], Array],
    polish: Callable[[Array], Array],
    enough: Test,
) -> Array:
    """The cheapest of the scaled shapes, after polishing the most promising ones that differ."""
    costs = cost(found)
    order = np.argsort((costs / (float(costs.min()) or 1.0)).round(9), kind="stable")  # of equal costs the first
    best = found[order[0]]
    if found.shape[1] > LONGEST_POLISHED:
        return np.asarray(best)
    starts: list[Array] = []
    for k in order:
        if all(abs(found[k] - s).max() > 0.1 for s in starts):
            starts.append(found[k])
        if len(starts) == _POLISHED:
            break
    for start in starts:
        polished = np.clip(polish(start), 0.0, 1.0)
        candidate = _scale(np.where(polished < 1e-7, 0.0, polished), enough)[0]
        if enough(candidate) and cost(candidate) < (1 - 1e-9) * cost(best):
            best = candidate
    return np.asarray(best)


def _solve(
    value: Callable[[Array], tuple[Any, Array]],
    limits: Callable[[Array], tuple[Array, Array]],
    start: Array,
    H: int,
) -> Array:
    """Minimise `value` subject to `limits` >= 0; the first H variables lie in [0, 1], others are free above 0."""
    top = np.ones(start.size)
    top[H:] = np.inf

    def inside(x: Array) -> Array:
        return np.clip(x, 0.0, top)

    slsqp: Any = minimize  # its stubs know no function that returns value and gradient
    found = slsqp(
        lambda x: value(inside(x)),
        start,
        jac=True,
        method="SLSQP",
        bounds=list(zip(np.zeros(start.size), top, strict=True)),
        constraints={"type": "ineq", "fun": lambda x: limits(inside(x))[0], "jac": lambda x: limits(inside(x))[1]},
        options={"maxiter": 100, "ftol": 1e-8},
    )
    return np.asarray(found.x if np.isfinite(found.x).all() else start)
