r"""Sharper statements (T2 to T5): old error discounted, a lower bound without unknown constants, a floor without alpha.

T2  :math:`KL_{t_0} \le e^{-\theta\Lambda(T)} KL_T + \frac{1}{2(1-\theta)}\int e^{-\theta\Lambda(t)}\hat G_t^2\,dt`,
    :math:`\Lambda(t) = \int_{t_0}^t ds/C_s`, C_t a log-Sobolev constant of q_t.
T3  :math:`\chi^2(\hat p\|q) \ge (E_{\hat p}L)^2/(\eta\varepsilon_*^2)`, L the Stein function.
T4  :math:`\max(D_i, D_{i+1}) \ge 4\tau_i^2/(2-\alpha)^2`, :math:`\tau_i = TV(\hat p^{i+1}, q_i)`.
T5  :math:`TV \le \sqrt{1 - e^{-\varepsilon_{1/2}^2/4}}`, energy along the path with score s + e/2, started at q_T; and
    :math:`TV \le \sqrt{1 - e^{-K}}` for a path KL K.

Reference: this project, theory section 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import UNKNOWN, Evidence
from driftlaw.theory.bounds.one_step import NO_EVIDENCE
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, check_alpha, finite, path_kl, propagate

LSI = Assumption("log-Sobolev", "q_t has log-Sobolev constant C_t at every t", UNKNOWN, "given by the caller")
START = Assumption("start", "the learned path starts at q_T", UNKNOWN, "given by the caller")


def discounted_gradient(
    times: Sequence[float],
    gradient: Sequence[float],
    constants: Sequence[float],
    kl_terminal: Number,
    theta: float = 0.5,
    measured: Estimate | None = None,
) -> Bound:
    """T2: error made early on the reverse path is forgotten at the rate of the log-Sobolev constant.

    Args:
        times: ``[K]`` increasing, from t0 to T; trapezoid rule in between.
        gradient: ``[K]`` G_hat_t^2 = E|Pi e|^2 under the learned path at these times.
        constants: ``[K]`` C_t > 0; C_t <= e^{-t} C_0 + 1 - e^{-t}.
        kl_terminal: KL(p_hat || q) at T, nats.
        theta: in [0, 1); 0 is the gradient bound itself.
        measured: KL(p_hat || q) at t0, nats.

    Raises:
        InputError: numbers that do not fit.
    """
    t, g, c = (np.asarray(x, dtype=np.float64) for x in (times, gradient, constants))
    if not (t.ndim == 1 and t.shape == g.shape == c.shape and len(t) > 1 and (np.diff(t) > 0).all()):
        raise InputError(f"{t.shape} times, {g.shape} energies and {c.shape} constants", "give one each per time")
    if not (0 <= theta < 1) or (g < 0).any() or (c <= 0).any():
        raise InputError("theta, an energy or a constant is out of range", "0 <= theta < 1, energies >= 0, C_t > 0")
    rate = np.concatenate([[0.0], np.cumsum(np.diff(t) * (1 / c[1:] + 1 / c[:-1]) / 2)])
    weight = np.exp(-theta * rate)
    integral = float(np.trapezoid(weight * g, t)) / (2 * (1 - theta))
    return Bound(
        name="Discounted gradient bound",
        reference="this project, theory section 10, T2",
        quantity="KL(p_hat || q) at t0",
        formula=r"KL_{t_0} \le e^{-\theta\Lambda(T)} KL_T + \int e^{-\theta\Lambda} \hat G_t^2 dt / (2(1-\theta))",
        side="upper",
        value=propagate(lambda k: float(weight[-1]) * k + integral, "discounted by log-Sobolev", k=kl_terminal),
        measured=measured,
        assumptions=(LSI,),
    )


def stein_floor(mean_stein: Number, eta_eps2: Number, measured: Estimate | None = None) -> Bound:
    """T3: lower bound of chi2 without unknown constants.

    Args:
        mean_stein: |E_{p_hat} L|, L the Stein function of the score error (its mean under q is 0).
        eta_eps2: eta eps*^2 = Var_q L, positive.
        measured: chi2(p_hat || q) at t0.
    """
    return Bound(
        name="Stein floor",
        reference="this project, theory section 10, T3",
        quantity="chi2(p_hat || q) at t0",
        formula=r"\chi^2(\hat p\|q) \ge (E_{\hat p} L)^2 / (\eta\varepsilon_*^2)",
        side="lower",
        value=propagate(
            lambda x, v: x * x / v if v > 0 else math.nan, "(E L)^2/(eta eps*^2)", x=mean_stein, v=eta_eps2
        ),
        measured=measured,
        assumptions=(finite("eta eps*^2", eta_eps2),),
    )


def floor_without_alpha(alpha: float, tv: Number, measured: Estimate | None = None) -> Bound:
    r"""T4: :math:`\max(D_i, D_{i+1}) \ge 4\tau^2/(2-\alpha)^2`; above the improved floor unless alpha is large.

    Args:
        alpha: fraction of fresh data.
        tv: TV(p_hat^{i+1}, q_i).
        measured: max(D_i, D_{i+1}).
    """
    a = check_alpha(alpha)
    return Bound(
        name="Floor by TV",
        reference="this project, theory section 10, T4",
        quantity="max(D_i, D_{i+1})",
        formula=r"\max(D_i, D_{i+1}) \ge 4 TV(\hat p^{i+1}, q_i)^2/(2-\alpha)^2",
        side="lower",
        value=propagate(lambda t: 4 * t * t / (2 - a) ** 2, "4 TV^2/(2 - alpha)^2", t=tv),
        measured=measured,
    )


def half_way_tv(eps_half2: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE) -> Bound:
    """T5: TV from the energy along the path with score s + e/2; always below 1.

    Args:
        eps_half2: E int |e|^2 dt along that path.
        measured: TV(p_hat, q) at t0.
        evidence: for A2.
    """
    return Bound(
        name="Half-way bound",
        reference="this project, theory section 10, T5",
        quantity="TV(p_hat, q) at t0",
        formula=r"TV(\hat p, q) \le \sqrt{1 - e^{-\varepsilon_{1/2}^2/4}}",
        side="upper",
        value=propagate(lambda e: math.sqrt(-math.expm1(-e / 4)), "energy half-way", e=eps_half2),
        measured=measured,
        assumptions=(finite("eps_half^2", eps_half2), START, *evidence.assumptions("A2")),
    )


def exponential_pinsker(
    energy: Number, kl_init: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""TV from a path KL K, below 1 whatever K: :math:`TV \le \sqrt{1 - e^{-K}}` (Bretagnolle and Huber).

    Args:
        energy: eps_hat^2 with KL(init || q_T), or eps*^2 with KL(q_T || init).
        kl_init: the initialisation term, nats.
        measured: TV(p_hat, q) at t0.
        evidence: for A2.
    """
    return Bound(
        name="Exponential Pinsker",
        reference="this project, theory section 10, T5",
        quantity="TV(p_hat, q) at t0",
        formula=r"TV(\hat p, q) \le \sqrt{1 - e^{-K}}, \quad K = KL_{\mathrm{init}} + \tfrac12 \hat\varepsilon^2",
        side="upper",
        value=propagate(lambda e, k: math.sqrt(-math.expm1(-path_kl(e, k))), "sqrt(1 - e^-K)", e=energy, k=kl_init),
        measured=measured,
        assumptions=(finite("energy", energy), *evidence.assumptions("A2")),
    )
