r"""Path measures of discrete diffusion, exact: Girsanov for jump processes, and what of an error shows in the samples.

With true reverse rates R and learned ones :math:`\hat R` (:mod:`driftlaw.process.ctmc`), :math:`h = \hat R/R - 1`:

.. math::

    KL(\hat P\|P^*) &= KL(\hat p_T\|p_T) + \int_{t_0}^T E_{\hat p_t} \sum_x
        \big[\hat R \log \tfrac{\hat R}{R} - \hat R + R\big](X_t \to x)\,dt, \\
    \epsilon_*^2 &= \int E_{p_t} \sum_x R\,h^2\,dt, \\
    A_t h(x) &= \sum_y Q(x \to y)\,h(y \to x) - \sum_y R_t(x \to y)\,h(x \to y), \qquad
    L(x) = \int_{t_0}^T E[A_t h(X_t) \mid X_{t_0} = x]\,dt .

To first order :math:`\hat p_{t_0}/p_{t_0} - 1 = L`, so with :math:`\eta = \mathrm{Var}\,L/\epsilon_*^2`,
:math:`\chi^2 = \eta\,\epsilon_*^2 (1 + O(\epsilon))`; and :math:`E_p L = 0` gives :math:`\chi^2 \ge (E_{\hat p} L)^2 /
\mathrm{Var}\,L` without any smallness. For consistent rates the path KL *is* the KL at :math:`t_0`.

:math:`2 \int [\ldots]` takes the place of :math:`\hat\epsilon_*^2`, so every statement of theory section 3 that rests
on Girsanov and data processing alone carries over (docs/derivations.md section 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.process.ctmc import Array, JumpProcess, Rates, check_law
from driftlaw.records import Record

#: Relative change between two quadratures that ends the doubling, and the most nodes.
TOLERANCE, FEWEST_NODES, MOST_NODES = 1e-9, 32, 512
QUADRATURE = "Gauss-Legendre in log t"


@dataclass(frozen=True)
class JumpMeasures(Record):
    """One generation of a discrete diffusion on a known law; all numbers exact up to 1e-9
    (a warning says where the rates are too rough for that).

    Args:
        kl, kl_reverse, chi2, tv: of p_hat_{t0} against p_{t0}.
        kl_initial, kl_initial_reverse: the same KLs at T.
        energy_learned: twice the integral of the path KL under p_hat (eps_hat^2).
        energy_learned_reverse: the same under p, of the reverse KL.
        energy_ideal: eps*^2.
        observability: eta, in [0, 1] up to O(eps) terms of the start.
        stein_floor: lower bound of chi2, (E_{p_hat} L)^2 / Var L.
    """

    kl: Estimate
    kl_reverse: Estimate
    chi2: Estimate
    tv: Estimate
    kl_initial: Estimate
    kl_initial_reverse: Estimate
    energy_learned: Estimate
    energy_learned_reverse: Estimate
    energy_ideal: Estimate
    observability: Estimate
    stein_floor: Estimate


def jump_measures(
    chain: JumpProcess,
    p: Any,
    rates_hat: Rates,
    *,
    start: Any = None,
    t0: float = 0.02,
    T: float = 4.0,
) -> JumpMeasures:
    """Measure learned reverse rates against a known law.

    Args:
        chain: the noise.
        p: the target at time 0, ``[K]``.
        rates_hat: learned reverse rates, ``t -> [y, x]``; ``chain.reverse_rates(p_hat)`` are those of a law.
        start: law at T that the learned chain starts from; None takes the true p_T.
        t0: early stopping, > 0.
        T: horizon.

    Raises:
        InputError: not 0 < t0 < T, or rates that are negative or not finite.

    Example:
        >>> chain = JumpProcess.uniform(3)
        >>> p, p_hat = [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]
        >>> m = jump_measures(chain, p, chain.reverse_rates(p_hat), start=chain.law(p_hat, 4.0))
        >>> abs(m.kl.value - m.kl_initial.value - m.energy_learned.value / 2) < 1e-9
        True
    """
    if not 0 < t0 < T < math.inf:
        raise InputError(f"a horizon from t0 = {t0} to T = {T}", "0 < t0 < T < infinity")
    law = check_law(p, chain.states)
    p_T, p_0 = chain.law(law, T), chain.law(law, t0)
    hat_T = p_T if start is None else check_law(start, chain.states, "starting law")
    true = chain.reverse_rates(law)
    before, change, n = np.zeros(0), math.inf, FEWEST_NODES
    while True:
        found, hat_0 = _integrals(chain, law, true, rates_hat, hat_T, T, t0, *_nodes(t0, T, n))
        flat = np.concatenate([np.ravel(part) for part in found])
        if len(before):
            change = _change(before, flat)
        if change <= TOLERANCE or n >= MOST_NODES:
            break
        before, n = flat, 2 * n
    learned, learned_reverse, ideal, stein = found
    rough = () if change <= TOLERANCE else (f"the quadrature still changes by {change:.1g}: the rates are not smooth",)

    def exact(value: float, method: str = "") -> Estimate:
        if not math.isfinite(value):
            return Estimate.infinite(method or QUADRATURE, "a learned or true rate is 0 where the other is not")
        return Estimate.exact(value, method) if method else Estimate.exact(value, QUADRATURE).warn(*rough)

    variance = float(p_0 @ stein**2) - float(p_0 @ stein) ** 2
    ends = "exact laws by matrix exponentials"
    eps2, mean = float(ideal), float(hat_0 @ stein) - float(p_0 @ stein)
    small = not (eps2 > 0 and math.isfinite(eps2))
    eta = Estimate.refused(QUADRATURE, "the rates have no error, or one of infinite energy") if small else None
    return JumpMeasures(
        kl=exact(kl_of(hat_0, p_0), ends),
        kl_reverse=exact(kl_of(p_0, hat_0), ends),
        chi2=exact(_chi2(hat_0, p_0), ends),
        tv=exact(float(abs(hat_0 - p_0).sum() / 2), ends),
        kl_initial=exact(kl_of(hat_T, p_T), ends),
        kl_initial_reverse=exact(kl_of(p_T, hat_T), ends),
        energy_learned=exact(2 * float(learned)),
        energy_learned_reverse=exact(2 * float(learned_reverse)),
        energy_ideal=exact(eps2),
        observability=eta or exact(variance / eps2),
        stein_floor=exact(mean**2 / variance) if variance > 0 else Estimate.exact(0.0, QUADRATURE),
    )


def _change(before: Array, after: Array) -> float:
    """Largest change of a number relative to its size (at least 1e-3); infinite ones must stay so."""
    finite = np.isfinite(after)
    if bool((finite != np.isfinite(before)).any()):
        return math.inf
    return float((abs(after[finite] - before[finite]) / np.maximum(1e-3, abs(after[finite]))).max(initial=0.0))


def kl_of(r: Array, q: Array) -> float:
    """KL(r || q) of two laws on a finite alphabet, nats; infinite where r is not dominated."""
    used = r > 0
    if bool((q[used] == 0).any()):
        return math.inf
    return float((r[used] * np.log(r[used] / q[used])).sum())


def _chi2(r: Array, q: Array) -> float:
    used = q > 0
    return math.inf if bool((r[~used] > 0).any()) else float(((r - q)[used] ** 2 / q[used]).sum())


def _nodes(t0: float, T: float, n: int) -> tuple[Array, Array]:
    """Times, descending, and weights of Gauss-Legendre quadrature in log t."""
    x, w = np.polynomial.legendre.leggauss(n)
    half = math.log(T / t0) / 2
    t = np.exp(math.log(T) - half * (1 + x))
    return t, half * w * t


def _integrals(
    chain: JumpProcess,
    law: Array,
    true: Rates,
    learned: Rates,
    hat_T: Array,
    T: float,
    t0: float,
    t: Array,
    w: Array,
) -> tuple[tuple[Any, ...], Array]:
    """Path KL both ways, eps*^2 and L, and p_hat at t0."""
    hats = chain.carried(learned, hat_T, T, np.append(t, t0)).clip(min=0.0)
    off = ~np.eye(chain.states, dtype=bool)
    totals, stein = np.zeros(3), np.zeros(chain.states)
    for time, weight, hat in zip(t, w, hats[:-1], strict=True):
        R, H = np.where(off, true(float(time)), 0.0), np.where(off, learned(float(time)), 0.0)
        p_t = law @ chain.transition(float(time))
        with np.errstate(divide="ignore", invalid="ignore"):
            h = np.where(R > 0, H / R - 1, np.where(H > 0, np.inf, 0.0))
            totals += weight * np.array(
                [_mean(hat, _jump(H, R)), _mean(p_t, _jump(R, H)), _mean(p_t, np.where(R > 0, R * h**2, h))]
            )
        g = np.where(np.isfinite(h), h, 0.0)
        action = (np.where(off, chain.rates, 0.0) * g.T).sum(1) - (R * g).sum(1)
        stein += weight * (chain.transition(float(time) - t0) @ action)
    return (*totals, stein), hats[-1]


def _jump(first: Array, second: Array) -> Array:
    """Costs a log(a/b) - a + b, entry by entry; infinite where a > 0 = b."""
    logs = np.where(first > 0, first * np.log(first / second), 0.0)
    return np.asarray(logs - first + second)


def _mean(p: Array, costs: Array) -> float:
    """E_p of the row sums; rows without probability do not count."""
    rows = costs.sum(1)
    return float((p[p > 0] * rows[p > 0]).sum())
