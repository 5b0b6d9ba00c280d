r"""Sharper statements (T1 to T8): an identity for any field, old error discounted, floors without unknown constants.

T1  :math:`KL_{t_0} = KL_T + \tfrac12\hat G^2 - \tfrac12\int E_{\hat p_t}|\Pi e - g|^2 dt`,
    :math:`g = \nabla\log \hat p_t/q_t`.
T2  :math:`KL_{t_0} \le e^{-\theta\Lambda(T)} KL_T + \frac{1}{2(1-\theta)}\int e^{-\theta\Lambda(t)}\hat G_t^2\,dt`,
    :math:`\Lambda(t) = \int_{t_0}^t ds/C_s`, C_t a log-Sobolev constant of q_t.
T3  :math:`\chi^2(\hat p\|q) \ge (E_{\hat p}L)^2/(\eta\varepsilon_*^2)`, L the Stein function.
T4  :math:`\max(D_i, D_{i+1}) \ge 4\tau_i^2/(2-\alpha)^2`, :math:`\tau_i = TV(\hat p^{i+1}, q_i)`.
T5  :math:`TV \le \sqrt{1 - e^{-\varepsilon_{1/2}^2/4}}`, energy along the path with score s + e/2, started at q_T; and
    :math:`TV \le \sqrt{1 - e^{-K}}` for a path KL K.
T6  :math:`|e_t| \le b_t` gives :math:`\chi^2(\hat p\|q) \le (1 + \chi^2_T)\,e^{\int b^2 dt} - 1`.
T7  :math:`KL(N\|q_T) \le \sum_k w_k KL(N\|N(a m_k, \Sigma_{k,T}))`, :math:`KL(q_T\|N) \le e^{-(T-s)} KL(q_s\|N)`.
T8  q strongly log-concave: :math:`W_2 \le \int e^{R(t)}\|e_t\|_{L^2(\hat p_t)} dt + e^{R(T)} W_2(T)`,
    :math:`R(t) = \int_{t_0}^t (\tfrac12 - 1/C_s)\,ds`.

Reference: this project, theory section 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.theory.bounds.assumptions import UNKNOWN, Evidence
from driftlaw.theory.bounds.one_step import NO_EVIDENCE
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, check_alpha, finite, path_kl, propagate
from driftlaw.theory.refresh import Array

LSI = Assumption("log-Sobolev", "q_t has log-Sobolev constant C_t at every t", UNKNOWN, "given by the caller")
START = Assumption("start", "the learned path starts at q_T", UNKNOWN, "given by the caller")


def pythagoras(gradient: Number, mismatch: Number, kl_terminal: Number, measured: Estimate | None = None) -> Bound:
    """T1: what the gradient part costs, less what the field is inconsistent by; equality for any field.

    Args:
        gradient: G_hat^2 = int E|Pi e|^2 dt under the learned path.
        mismatch: int E|Pi e - grad log p_hat_t/q_t|^2 dt under the learned path; 0 for consistent fields.
        kl_terminal: KL(p_hat || q) at T, nats.
        measured: KL(p_hat || q) at t0, nats.
    """
    value = propagate(
        lambda g, m, k: max(0.0, k + (g - m) / 2),
        "KL_T + (G_hat^2 - mismatch)/2",
        g=gradient,
        m=mismatch,
        k=kl_terminal,
    )
    return Bound(
        name="Pythagoras",
        reference="this project, theory section 10, T1",
        quantity="KL(p_hat || q) at t0",
        formula=r"KL_{t_0} = KL_T + \tfrac12 \hat G^2 - \tfrac12 \int E_{\hat p_t} |\Pi e - g|^2 dt",
        side="identity",
        value=value,
        measured=measured,
        assumptions=(finite("G_hat^2", gradient),),
    )


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
    t, g, c = _profile(times, gradient, constants)
    if not 0 <= theta < 1:
        raise InputError(f"theta = {theta!r} is out of range", "0 <= theta < 1")
    rate = cumulative_trapezoid(1 / c, t, initial=0)
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


def bounded_error(b2: Number, chi2_terminal: Number = 0.0, measured: Estimate | None = None) -> Bound:
    r"""T6: Theorem 3.4 with an explicit constant, for errors that are bounded at each time.

    Args:
        b2: int b_t^2 dt, where \|e_t(x)\| <= b_t for every x.
        chi2_terminal: chi2(p_hat || q) at T, of the start.
        measured: chi2(p_hat || q) at t0.
    """
    bounded = Assumption("bounded error", "|e_t(x)| <= b_t for every x and t", UNKNOWN, "given by the caller")
    return Bound(
        name="Bounded error",
        reference="this project, theory section 10, T6",
        quantity="chi2(p_hat || q) at t0",
        formula=r"\chi^2(\hat p\|q) \le (1 + \chi^2_T) e^{\int b_t^2 dt} - 1",
        side="upper",
        value=propagate(
            lambda b, c: (1 + c) * math.exp(b) - 1 if b < 700 else math.inf, "e^(int b^2) - 1", b=b2, c=chi2_terminal
        ),
        measured=measured,
        assumptions=(bounded,),
    )


def start_kl(target: GaussianMixture, T: float, measured: Estimate | None = None) -> Bound:
    """T7: KL(N(0, I) || q_T) of a mixture in closed form, by convexity of KL in its second argument.

    Args:
        target: q at time 0.
        T: horizon, OU time.
        measured: KL(N(0, I) || q_T), nats.
    """
    at = target.diffuse(T)
    full = at.covariances if at.covariances.ndim == 3 else at.covariances[:, None, None] * torch.eye(at.dim).double()
    inverse = torch.linalg.inv(full)
    trace = inverse.diagonal(dim1=1, dim2=2).sum(1)
    pull = torch.einsum("kd,kde,ke->k", at.means, inverse, at.means)
    each = 0.5 * (trace + pull - at.dim + torch.linalg.slogdet(full).logabsdet)
    return Bound(
        name="Start in closed form",
        reference="this project, theory section 10, T7",
        quantity="KL(N(0, I) || q_T)",
        formula=r"KL(N\|q_T) \le \sum_k w_k KL(N\|N(a m_k, \Sigma_{k,T}))",
        side="upper",
        value=Estimate.exact(float(at.weights @ each), "closed form"),
        measured=measured,
    )


def start_kl_decay(kl_early: Number, elapsed: float, measured: Estimate | None = None) -> Bound:
    """T7: KL(q_T || N(0, I)) from an earlier time, by the log-Sobolev inequality of N(0, I).

    Args:
        kl_early: KL(q_s || N(0, I)), nats.
        elapsed: T - s >= 0.
        measured: KL(q_T || N(0, I)), nats.
    """
    if not 0 <= elapsed < math.inf:
        raise InputError(f"elapsed = {elapsed!r}", "give T - s, an OU time >= 0")
    return Bound(
        name="Decay of the start",
        reference="this project, theory section 10, T7",
        quantity="KL(q_T || N(0, I))",
        formula=r"KL(q_T\|N) \le e^{-(T-s)} KL(q_s\|N)",
        side="upper",
        value=propagate(lambda k: math.exp(-elapsed) * k, "e^-(T-s) KL", k=kl_early),
        measured=measured,
    )


def transport(
    times: Sequence[float],
    energy: Sequence[float],
    constants: Sequence[float],
    w2_terminal: Number = 0.0,
    measured: Estimate | None = None,
) -> Bound:
    """T8: W2 where q is strongly log-concave: the reverse processes coupled by the same noise.

    Args:
        times: ``[K]`` increasing, from t0 to T; trapezoid rule in between.
        energy: ``[K]`` E|e_t|^2 under the learned path at these times.
        constants: ``[K]`` C_t > 0 with Hess log q_t <= -1/C_t; C_t <= e^{-t} C_0 + 1 - e^{-t}.
        w2_terminal: W2 of the start at T.
        measured: W2(p_hat, q) at t0.

    Raises:
        InputError: numbers that do not fit.
    """
    t, g, c = _profile(times, energy, constants)
    grown = np.exp(cumulative_trapezoid(0.5 - 1 / c, t, initial=0))
    integral = float(np.trapezoid(grown * np.sqrt(g), t))
    concave = Assumption("log-concave", "Hess log q_t <= -1/C_t at every t", UNKNOWN, "given by the caller")
    return Bound(
        name="Transport bound",
        reference="this project, theory section 10, T8",
        quantity="W2(p_hat, q) at t0",
        formula=r"W_2 \le \int e^{R(t)} \|e_t\|_{L^2(\hat p_t)} dt + e^{R(T)} W_2(T)",
        side="upper",
        value=propagate(lambda w: float(grown[-1]) * w + integral, "same noise in both processes", w=w2_terminal),
        measured=measured,
        assumptions=(concave,),
    )


def _profile(times: Sequence[float], energy: Sequence[float], constants: Sequence[float]) -> tuple[Array, Array, Array]:
    """Times, energies and constants as arrays that fit each other."""
    t, g, c = (np.asarray(x, dtype=np.float64) for x in (times, energy, constants))
    if not (t.ndim == 1 and t.shape == g.shape == c.shape and len(t) > 1 and (np.diff(t) > 0).all()):
        raise InputError(f"{t.shape} times, {g.shape} energies and {c.shape} constants", "give one each per time")
    if not ((g >= 0).all() and (c > 0).all()):
        raise InputError("an energy or a constant is out of range", "energies >= 0, C_t > 0")
    return t, g, c
