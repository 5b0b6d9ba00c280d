r"""The TV certificate: accumulated drift from score errors with no tail, ratio or smallness assumption.

TV contracts by exactly the mixing weights, so a policy's propagator adds up one-generation terms, and Pinsker's
inequality turns path KL (section 3.1 of the theory) into such terms:

.. math:: TV(\hat p^{\,N}, p) \le \sum_i G_{N,i}\, \tau_i + G_{N,\mathrm{init}}\, TV_0, \qquad
   \tau_i = \sqrt{\tfrac12 \min\big(KL_\mathrm{init} + \tfrac12\hat\varepsilon_i^2,\; KL'_\mathrm{init} +
   \tfrac12\varepsilon_{*,i}^2\big)}.

Early stopping: :math:`\tau_i` compares :math:`\hat p^{\,i+1}` with :math:`P_{t_0} q_i`. With
:math:`\beta = TV(p, P_{t_0} p)` the certificate is then for :math:`TV(\hat p^{\,N}, P_{t_0} p)`, and each generation
adds :math:`\beta` times the weight of models (not of real data) in its training law.

Reference: this project, theory section 4.1. Assumes A1 and A2 of [KTV] only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import Evidence
from driftlaw.theory.bounds.one_step import NO_EVIDENCE
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, check_alpha, finite, path_kl, propagate
from driftlaw.theory.propagator import PolicyLike, propagator, propagator_initial, rows_of

Energies = Sequence[Number] | None


def one_step_tv(
    eps_hat2: float = math.inf, eps_star2: float = math.inf, kl_init: float = 0.0, kl_init_reverse: float = 0.0
) -> float:
    r"""One-generation term :math:`\tau` of the TV certificate, at most 1.

    Args:
        eps_hat2: energy under the learned path; ``inf`` or ``nan`` if unknown.
        eps_star2: energy under the ideal path (or of its gradient part, G^2); ``inf`` or ``nan`` if unknown.
        kl_init: KL(init || q_T), nats.
        kl_init_reverse: KL(q_T || init), nats.
    """
    directions = (path_kl(eps_hat2, kl_init), path_kl(eps_star2, kl_init_reverse))
    kl = min(math.inf if math.isnan(x) else x for x in directions)
    return min(1.0, math.sqrt(0.5 * kl))


def tv_certificate(
    policy: PolicyLike,
    eps_hat2: Energies = None,
    eps_star2: Energies = None,
    *,
    kl_init: Number = 0.0,
    kl_init_reverse: Number = 0.0,
    tv_initial: Number = 0.0,
    blur: Number = 0.0,
    measured: Sequence[Estimate] | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> tuple[Bound, ...]:
    r"""Upper bounds on TV(p_hat^n, p), or TV(p_hat^n, P_{t0} p) with early stopping, for n = 1..N.

    Args:
        policy: a policy or its rows.
        eps_hat2: eps_hat_0^2..eps_hat_{N-1}^2; None if unknown.
        eps_star2: eps*_0^2..eps*_{N-1}^2, or the gradient energies G^2 in their place; None if unknown.
        kl_init: the largest KL(init || q_T) over generations, nats.
        kl_init_reverse: the largest KL(q_T || init), nats.
        tv_initial: TV(p_hat^0, p); 0 where p_hat^0 is the target.
        blur: TV(p, P_{t0} p); 0 if the energies compare p_hat^{i+1} with q_i itself.
        measured: TV of generations 1..N.
        evidence: for the audit of A2.

    Returns:
        One bound per generation, at most 1.

    Raises:
        InputError: neither kind of energy, lengths that differ, or a negative number.
    """
    given = [e for e in (eps_hat2, eps_star2) if e is not None]
    if not given or len({len(e) for e in given}) != 1:
        raise InputError(
            "the TV certificate needs eps_hat^2 or eps*^2, one value per generation and equally many of both"
        )
    N = len(given[0])
    if measured is not None and len(measured) != N:
        raise InputError(f"{N} generations need {N} measured values, got {len(measured)}", "pass TV_1..TV_N")
    rows = rows_of(policy, N)
    G, start = propagator(rows), propagator_initial(rows)
    weight_of_models = rows[1][:, 1:].sum(axis=1)
    hats: Sequence[Number] = [math.inf] * N if eps_hat2 is None else eps_hat2
    stars: Sequence[Number] = [math.inf] * N if eps_star2 is None else eps_star2
    early = not (isinstance(blur, int | float) and blur == 0)
    target = "P_t0 p" if early else "p"

    def bound(n: int) -> Bound:
        def total(hat: list[float], star: list[float], k: float, r: float, tv0: float, beta: float) -> float:
            terms = [one_step_tv(h, s, k, r) for h, s in zip(hat, star, strict=True)]
            innovations = np.array(terms) + beta * weight_of_models[:n]
            return min(1.0, float(G[n - 1, :n] @ innovations + start[n - 1] * tv0))

        value = propagate(
            total,
            "TV certificate",
            hat=hats[:n],
            star=stars[:n],
            k=kl_init,
            r=kl_init_reverse,
            tv0=tv_initial,
            beta=blur,
        )
        return Bound(
            name="TV certificate, early stopping" if early else "TV certificate",
            reference="this project, theory section 4.1",
            quantity=f"TV(p_hat^{n}, {target})",
            formula=r"TV(\hat p^n, p) \le \sum_i G_{n,i} \sqrt{\min(KL_{\mathrm{init}} + \hat\varepsilon_i^2/2,\,"
            r" KL'_{\mathrm{init}} + \varepsilon_{*,i}^2/2)/2} + G_{n,\mathrm{init}} TV_0"
            + (r" + \beta \textstyle\sum_i G_{n,i} \sum_{j \ge 1} w_{ij}" if early else ""),
            side="upper",
            value=value,
            measured=None if measured is None else measured[n - 1],
            assumptions=_assumptions(hats[:n], stars[:n], evidence),
            note="vacuous: TV is at most 1" if value.value >= 1 else "",
        )

    return tuple(bound(n) for n in range(1, N + 1))


def _assumptions(hats: Sequence[Number], stars: Sequence[Number], evidence: Evidence) -> tuple[Assumption, ...]:
    """Every generation needs one finite energy; which of the two may differ from one to the next."""

    def size(energy: Number) -> float:
        return math.inf if math.isnan(float(energy)) else float(energy)

    smaller = [min(pair, key=size) for pair in zip(hats, stars, strict=True)]
    return (finite("energy", max(smaller, key=size)), *evidence.assumptions("A2"))


def tv_steady_state(alpha: float, eps2: Number, kl_init: Number = 0.0, measured: Estimate | None = None) -> Bound:
    r"""Steady state of the TV certificate at a fixed fraction.

    .. math:: TV(\hat p^{\,n}, p) \le \frac{1}{\alpha}\sqrt{\tfrac12 (KL_\mathrm{init} + \tfrac12\varepsilon^2)}
       \;=\; \frac{\varepsilon}{2\alpha} \text{ if } KL_\mathrm{init} = 0

    Args:
        alpha: fraction of fresh data, positive.
        eps2: the largest energy over generations, eps_hat^2 or eps*^2.
        kl_init: the largest initialisation KL of the same direction, nats.
        measured: TV(p_hat^n, p) of any n, for p_hat^0 = p.
    """
    a = check_alpha(alpha, positive=True)
    return Bound(
        name="TV certificate, steady state",
        reference="this project, theory section 4.1",
        quantity="TV(p_hat^n, p), all n",
        formula=r"TV(\hat p^n, p) \le \sqrt{(KL_{\mathrm{init}} + \varepsilon^2/2)/2}\,/\,\alpha",
        side="upper",
        value=propagate(lambda e, k: min(1.0, math.sqrt(0.5 * path_kl(e, k)) / a), "eps/(2 alpha)", e=eps2, k=kl_init),
        measured=measured,
        assumptions=(finite("energy", eps2), *NO_EVIDENCE.assumptions("A2")),
    )
