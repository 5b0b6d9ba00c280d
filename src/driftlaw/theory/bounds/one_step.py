r"""One generation: what the path score error says about the learned law.

Symbols: q = q_i the training law, :math:`\hat p = \hat p^{\,i+1}` the learned law, both at the early-stopping time t0;
:math:`\varepsilon_*^2 = E_{P_*}\int|e|^2dt` and :math:`\hat\varepsilon^2 = E_{\hat P}\int|e|^2dt` the score-error
energies under the ideal and the learned reverse path; :math:`\eta = \mathrm{Var}(E[M|Y_{t_0}])/\varepsilon_*^2` the
observability; :math:`I = \chi^2(\hat p\|q)`; KL_init the cost of starting the reverse path from `init` instead of q_T
([KTV] drop it; it must enter the budget).

References: [KTV] (arXiv 2602.16601) Propositions 3.1 and 3.3, Theorem 3.4; this project, theory sections 3.1 and 3.3,
for the initialisation, the equality and the sharp constant.
"""

from __future__ import annotations

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import UNKNOWN, Evidence
from driftlaw.theory.bounds.statement import (
    Assumption,
    Bound,
    Number,
    Status,
    check_eta,
    finite,
    path_kl,
    premise,
    propagate,
)

NO_EVIDENCE = Evidence()
SMALL = "the score error is small: eps*^2 <= 1"


def proposition_3_1(
    eps_hat2: Number, kl_init: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""Path KL, learned against training law: :math:`KL(\hat p\|q)_{t_0} \le KL(init\|q_T) + \hat\varepsilon^2/2`.

    Args:
        eps_hat2: energy under the learned path.
        kl_init: KL(init || q_T) in nats; 0 only if the reverse path starts from q_T.
        measured: KL(p_hat || q) at t0, nats.
        evidence: for the audit of A1 and A2.

    Raises:
        InputError: a negative or NaN number.
    """
    return Bound(
        name="Proposition 3.1",
        reference="[KTV] Prop. 3.1; initialisation: this project, theory section 3.1",
        quantity="KL(p_hat || q) at t0",
        formula=r"KL(\hat p\|q)_{t_0} \le KL(\mathrm{init}\|q_T) + \tfrac12 \hat\varepsilon^2",
        side="upper",
        value=propagate(path_kl, "KL_init + eps_hat^2/2", e=eps_hat2, k=kl_init),
        measured=measured,
        assumptions=(finite("eps_hat^2", eps_hat2), *evidence.assumptions("A2")),
    )


def proposition_3_1_reverse(
    eps_star2: Number, kl_init: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""Path KL, training against learned law: :math:`KL(q\|\hat p)_{t_0} \le KL(q_T\|init) + \varepsilon_*^2/2`.

    Args:
        eps_star2: energy under the ideal path.
        kl_init: KL(q_T || init) in nats.
        measured: KL(q || p_hat) at t0, nats.
        evidence: for the audit of A2.
    """
    return Bound(
        name="Proposition 3.1, reverse",
        reference="[KTV] Prop. 3.1, reverse direction: this project, theory section 3.1",
        quantity="KL(q || p_hat) at t0",
        formula=r"KL(q\|\hat p)_{t_0} \le KL(q_T\|\mathrm{init}) + \tfrac12 \varepsilon_*^2",
        side="upper",
        value=propagate(path_kl, "KL_init + eps*^2/2", e=eps_star2, k=kl_init),
        measured=measured,
        assumptions=(finite("eps*^2", eps_star2), *evidence.assumptions("A2")),
    )


def consistent_field_identity(
    eps_hat2: Number, kl_terminal: Number, measured: Estimate | None = None, *, consistent: bool | None = None
) -> Bound:
    r"""Equality in Proposition 3.1 when the learned score is the score of a diffused law (KDE, mixture).

    .. math:: KL(\hat p\|q)_{t_0} = KL(\hat p\|q)_T + \tfrac12 \hat\varepsilon^2 \quad\text{(de Bruijn)}

    Args:
        eps_hat2: energy under the learned path.
        kl_terminal: KL(p_hat || q) at T, nats.
        measured: KL(p_hat || q) at t0, nats.
        consistent: whether the learned field is the score of one diffused law; None if that is not known.
    """
    statuses: dict[bool | None, Status] = {True: "checked", False: "violated", None: UNKNOWN}
    return Bound(
        name="Equality for consistent fields",
        reference="this project, theory section 3.1",
        quantity="KL(p_hat || q) at t0",
        formula=r"KL(\hat p\|q)_{t_0} = KL(\hat p\|q)_T + \tfrac12 \hat\varepsilon^2",
        side="identity",
        value=propagate(path_kl, "KL_T + eps_hat^2/2", e=eps_hat2, k=kl_terminal),
        measured=measured,
        assumptions=(
            finite("eps_hat^2", eps_hat2),
            Assumption("consistent", "the learned score is that of a diffused law at all times", statuses[consistent]),
        ),
    )


def _remainder(symbol: str, constant: float | None) -> Assumption:
    text = f"the moment constant {symbol} of the remainder {symbol} eps*^4 is known"
    if constant is None:
        return Assumption(
            "remainder", text, UNKNOWN, "only the leading part is given: no sample can certify the constant"
        )
    if not constant >= 0:
        raise InputError(f"the constant {symbol} must be a non-negative number, got {constant!r}", "or None: unknown")
    return Assumption("remainder", text, UNKNOWN, f"{symbol} = {constant:g} was supplied, not measured")


def proposition_3_3(
    eta: Number,
    eps_star2: Number,
    C: float | None = None,
    measured: Estimate | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Bound:
    r"""Lower bound on one generation's chi2: :math:`I \ge \tfrac14 \eta\varepsilon_*^2 - C\varepsilon_*^4`.

    Args:
        eta: observability in [0, 1].
        eps_star2: energy under the ideal path; the statement needs eps*^2 <= 1.
        C: moment constant K/8 + C' of A3 and A4; None gives the leading part, flagged as not certified.
        measured: I = chi2(p_hat || q).
        evidence: for the audit of A1-A4.
    """
    remainder = _remainder("C", C)
    c = 0.0 if C is None else C
    return Bound(
        name="Proposition 3.3",
        reference="[KTV] Prop. 3.3",
        quantity="I = chi2(p_hat || q)",
        formula=r"I \ge \tfrac14 \eta\,\varepsilon_*^2 - C\varepsilon_*^4",
        side="lower",
        value=propagate(
            lambda h, e: 0.25 * h * e - (c * e**2 if c else 0.0),
            "eta eps*^2/4 - C eps*^4" if c else "eta eps*^2/4 (leading part)",
            h=check_eta(eta),
            e=eps_star2,
        ),
        measured=measured,
        assumptions=(
            *evidence.assumptions("A1", "A2", "A3", "A4"),
            premise("eps*^2", SMALL, eps_star2, 1.0),
            remainder,
        ),
        note="" if C is not None else "leading part only: not certified",
    )


def proposition_3_3_clean(
    eta: Number,
    eps_star2: Number,
    C: float | None = None,
    measured: Estimate | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Bound:
    r"""Clean regime of Proposition 3.3.

    .. math:: I \ge \tfrac18\eta\varepsilon_*^2 \quad\text{if}\quad \varepsilon_*^2 \le \min(1, \eta/(8C))

    Args:
        eta: observability in [0, 1].
        eps_star2: energy under the ideal path.
        C: moment constant; without it the regime cannot be checked.
        measured: I = chi2(p_hat || q).
        evidence: for the audit of A1-A4.
    """
    text = "the clean regime: eps*^2 <= min(1, eta/(8 C))"
    low_eta = max(eta.low, 0.0) if isinstance(eta, Estimate) else eta
    if C is None:
        regime = Assumption("eps*^2", text, UNKNOWN, "C is not known")
        if (small := premise("eps*^2", text, eps_star2, 1.0)).status == "violated":
            regime = small
    else:
        _remainder("C", C)
        regime = premise("eps*^2", text, eps_star2, min(1.0, low_eta / (8 * C)) if C else 1.0)
    return Bound(
        name="Proposition 3.3, clean regime",
        reference="[KTV] Prop. 3.3",
        quantity="I = chi2(p_hat || q)",
        formula=r"I \ge \tfrac18 \eta\,\varepsilon_*^2, \quad \varepsilon_*^2 \le \min(1, \eta/(8C))",
        side="lower",
        value=propagate(lambda h, e: 0.125 * h * e, "eta eps*^2/8", h=check_eta(eta), e=eps_star2),
        measured=measured,
        assumptions=(*evidence.assumptions("A1", "A2", "A3", "A4"), regime),
    )


def theorem_3_4(
    eps_star2: Number, c: float | None = None, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""Upper bound on one generation's chi2: :math:`I \le 4\varepsilon_*^2 + c\,\varepsilon_*^4`.

    Args:
        eps_star2: energy under the ideal path; the statement needs eps*^2 <= 1.
        c: moment constant K + 2C' of A3 and A4; None gives the leading part, flagged as not certified.
        measured: I = chi2(p_hat || q).
        evidence: for the audit of A1-A4.
    """
    remainder = _remainder("c", c)
    coefficient = 0.0 if c is None else c
    return Bound(
        name="Theorem 3.4",
        reference="[KTV] Thm 3.4",
        quantity="I = chi2(p_hat || q)",
        formula=r"I \le 4\,\varepsilon_*^2 + c\,\varepsilon_*^4",
        side="upper",
        value=propagate(
            lambda e: 4.0 * e + (coefficient * e**2 if coefficient else 0.0),
            "4 eps*^2 + c eps*^4" if coefficient else "4 eps*^2 (leading part)",
            e=eps_star2,
        ),
        measured=measured,
        assumptions=(
            *evidence.assumptions("A1", "A2", "A3", "A4"),
            premise("eps*^2", SMALL, eps_star2, 1.0),
            remainder,
        ),
        note="" if c is not None else "leading part only: not certified",
    )


def sharp_first_order(eta: Number, eps_star2: Number, measured: Estimate | None = None) -> Bound:
    r"""Small errors: :math:`I = \eta\varepsilon_*^2 (1 + O(\varepsilon_*))`; the leading constant is 1, not 1/4 or 4.

    Args:
        eta: observability in [0, 1].
        eps_star2: energy under the ideal path.
        measured: I = chi2(p_hat || q).
    """
    small = Assumption("small error", "terms of relative order eps* are dropped", UNKNOWN, f"eps*^2 = {eps_star2}")
    return Bound(
        name="Sharp first order",
        reference="this project, theory section 3.3",
        quantity="I = chi2(p_hat || q)",
        formula=r"I = \eta\,\varepsilon_*^2\,(1 + O(\varepsilon_*))",
        side="identity",
        value=propagate(lambda h, e: h * e, "eta eps*^2", h=check_eta(eta), e=eps_star2),
        measured=measured,
        assumptions=(small,),
    )
