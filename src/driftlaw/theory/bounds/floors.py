r"""Floors: how much drift a persistent score error leaves, whatever the learner does.

One generation costs :math:`I_i`, because
:math:`\sqrt{D_{i+1}} + (1-\alpha)\sqrt{D_i} \ge \sqrt{J_i} \ge \sqrt{\alpha I_i}`. [KTV] square this with a factor 2;
keeping the square roots gives the better floor below. Proposition 4.1 has two clauses that say different things, and
they are kept apart here:

(i)  :math:`\sum \varepsilon_{*,i}^2 = \infty \Rightarrow \sum D_i = \infty`. It does not say that
     :math:`D_i \not\to 0`: with :math:`\varepsilon_{*,i}^2 = 1/(i+1)` the sum diverges and D_i can tend to 0.
(ii) with eventual floors :math:`\eta_i \ge \underline\eta`, :math:`\varepsilon_{*,i}^2 \ge \underline\varepsilon^2`,
     :math:`\limsup D_i \ge \alpha\,\underline\eta\,\underline\varepsilon^2 / (16 (1 + (1-\alpha)^2))`.

References: [KTV] (arXiv 2602.16601) Prop. 4.1; this project, theory sections 4.1 and 4.2, for the improved floor and
the counter-example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import UNKNOWN, Evidence
from driftlaw.theory.bounds.one_step import NO_EVIDENCE
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, check_alpha, check_eta, propagate
from driftlaw.theory.refresh import Array, check_horizon

CLEAN = Assumption(
    "clean regime", "eps*^2 <= min(1, eta/(8 C)), so that I >= eta eps*^2/8", UNKNOWN, "C is a moment constant"
)
EVENTUALLY = Assumption(
    "floors", "eta_i and eps*_i^2 stay above these floors from some generation on", UNKNOWN, "a run is finite"
)


def two_step_floor(alpha: float, chi2: Number, measured: Estimate | None = None) -> Bound:
    r"""[KTV]'s step to Proposition 4.1: :math:`D_{i+1} + (1-\alpha)^2 D_i \ge \alpha I_i/2`.

    Args:
        alpha: fraction of fresh data.
        chi2: I_i = chi2(p_hat^{i+1} || q_i).
        measured: D_{i+1} + (1 - alpha)^2 D_i.
    """
    a = check_alpha(alpha)
    return Bound(
        name="Two-step floor",
        reference="[KTV] section 4",
        quantity="D_{i+1} + (1 - alpha)^2 D_i",
        formula=r"D_{i+1} + (1-\alpha)^2 D_i \ge \tfrac12 \alpha I_i",
        side="lower",
        value=propagate(lambda i: 0.5 * a * i if a else 0.0, "alpha I/2", i=chi2),
        measured=measured,
    )


def improved_floor(alpha: float, chi2: Number, measured: Estimate | None = None) -> Bound:
    r"""Sharper: :math:`\max(D_i, D_{i+1}) \ge \alpha I_i/(2-\alpha)^2`; implies :func:`two_step_floor`'s consequence.

    Args:
        alpha: fraction of fresh data.
        chi2: I_i = chi2(p_hat^{i+1} || q_i).
        measured: max(D_i, D_{i+1}).
    """
    a = check_alpha(alpha)
    return Bound(
        name="Improved floor",
        reference="this project, theory section 4.1",
        quantity="max(D_i, D_{i+1})",
        formula=r"\max(D_i, D_{i+1}) \ge \alpha I_i/(2-\alpha)^2",
        side="lower",
        value=propagate(lambda i: a * i / (2 - a) ** 2 if a else 0.0, "alpha I/(2 - alpha)^2", i=chi2),
        measured=measured,
    )


def _ktv_factor(a: float) -> float:
    """alpha/(16 (1 + (1 - alpha)^2)), the constant in both clauses of Proposition 4.1."""
    return a / (16 * (1 + (1 - a) ** 2))


def proposition_4_1_sum(
    alpha: float,
    eta: Sequence[Number],
    eps_star2: Sequence[Number],
    measured: Estimate | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Bound:
    r"""Clause (i) of Proposition 4.1 in its finite form.

    .. math:: \sum_{i=0}^{N} D_i \ge \frac{\alpha}{16\,(1+(1-\alpha)^2)} \sum_{i=0}^{N-1} \eta_i\,\varepsilon_{*,i}^2

    so that a divergent sum of eta eps*^2 makes the sum of drifts diverge. It is silent about each D_i.

    Args:
        alpha: fraction of fresh data.
        eta: eta_0..eta_{N-1}.
        eps_star2: eps*_0^2..eps*_{N-1}^2.
        measured: D_0 + ... + D_N.
        evidence: for the audit of A1-A4.
    """
    a = check_alpha(alpha)
    if len(eta) != len(eps_star2) or not eta:
        raise InputError(f"eta and eps*^2 need one value per generation, got {len(eta)} and {len(eps_star2)}")
    factor = _ktv_factor(a)

    def total(h: list[float], e: list[float]) -> float:
        return factor * sum(x * y for x, y in zip(h, e, strict=True)) if factor else 0.0

    return Bound(
        name="Proposition 4.1 (i)",
        reference="[KTV] Prop. 4.1, first clause; finite form: this project",
        quantity="D_0 + ... + D_N",
        formula=r"\sum \varepsilon_{*,i}^2 = \infty \Rightarrow \sum D_i = \infty",
        side="lower",
        value=propagate(
            total, "sum of eta eps*^2 alpha/(16 (1 + (1 - alpha)^2))", h=[check_eta(h) for h in eta], e=eps_star2
        ),
        measured=measured,
        assumptions=(*evidence.assumptions("A1", "A2", "A3", "A4"), CLEAN),
        note="a statement on the sum: D_i may still tend to 0, as in proposition_4_1_counter_example",
    )


def proposition_4_1_counter_example(alpha: float, N: int, tv: float = 0.5, chi2: float = 1.0) -> tuple[Array, Array]:
    r"""Clause (i) does not keep D_i away from 0, by laws that exist: ever smaller contaminations of one law r.

    .. math:: \hat p^{i+1} = (1 - l_i)\,q_i + l_i\,r, \qquad l_i = \tfrac12 (i+1)^{-1/2}

    Then :math:`\hat p^i - p = c_i (r - p)` with :math:`c_{i+1} = (1-l_i)(1-\alpha)c_i + l_i`, so that
    :math:`D_i = c_i^2 \chi^2(r\|p)` tends to 0 as 1/(4 alpha^2 i), while
    :math:`\varepsilon_{*,i}^2 \ge 2 KL(q_i\|\hat p^{i+1}) \ge 4 l_i^2 (1 - (1-\alpha) c_i)^2 TV(r, p)^2` by Pinsker has
    a divergent sum.

    Args:
        alpha: fraction of fresh data, positive.
        N: generations.
        tv: TV(r, p), in (0, 1].
        chi2: chi2(r || p), positive.

    Returns:
        ``(eps2 [N], D [N])``: the lower bounds of eps*^2, and the drift D_1..D_N.

    Raises:
        InputError: numbers out of range.

    Reference: this project, theory section 10.
    """
    a = check_alpha(alpha, positive=True)
    if not (0 < tv <= 1 and 0 < chi2 < math.inf):
        raise InputError(f"TV {tv!r} and chi2 {chi2!r} of one law", "give 0 < TV <= 1 and a finite chi2 > 0")
    share = 0.5 / np.sqrt(np.arange(1, check_horizon(N) + 1, dtype=np.float64))
    off = np.zeros(len(share) + 1)
    for i, new in enumerate(share):
        off[i + 1] = (1 - new) * (1 - a) * off[i] + new
    return 4 * (share * (1 - (1 - a) * off[:-1]) * tv) ** 2, off[1:] ** 2 * chi2


def proposition_4_1_floor(
    alpha: float, eta: Number, eps_star2: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""Clause (ii) of Proposition 4.1.

    .. math:: \limsup D_i \ge \frac{\alpha\,\underline\eta\,\underline\varepsilon^2}{16\,(1+(1-\alpha)^2)}

    Args:
        alpha: fraction of fresh data.
        eta: eventual floor of the observability.
        eps_star2: eventual floor of the energy under the ideal path.
        measured: largest late D_i.
        evidence: for the audit of A1-A4.
    """
    a = check_alpha(alpha)
    factor = _ktv_factor(a)
    return Bound(
        name="Proposition 4.1 (ii)",
        reference="[KTV] Prop. 4.1, second clause",
        quantity="limsup D_i",
        formula=r"\limsup D_i \ge \alpha\,\underline\eta\,\underline\varepsilon^2 / (16 (1+(1-\alpha)^2))",
        side="lower",
        value=propagate(lambda h, e: factor * h * e, "KTV's floor", h=check_eta(eta), e=eps_star2),
        measured=measured,
        assumptions=(*evidence.assumptions("A1", "A2", "A3", "A4"), CLEAN, EVENTUALLY),
    )


def improved_limsup_floor(
    alpha: float, eta: Number, eps_star2: Number, measured: Estimate | None = None, evidence: Evidence = NO_EVIDENCE
) -> Bound:
    r"""Clause (ii) from :func:`improved_floor`: larger by :math:`2(1+(1-\alpha)^2)/(2-\alpha)^2 \ge 1`.

    .. math:: \limsup D_i \ge \frac{\alpha\,\underline\eta\,\underline\varepsilon^2}{8\,(2-\alpha)^2}

    Args:
        alpha: fraction of fresh data.
        eta: eventual floor of the observability.
        eps_star2: eventual floor of the energy under the ideal path.
        measured: largest late D_i.
        evidence: for the audit of A1-A4.
    """
    a = check_alpha(alpha)
    factor = a / (8 * (2 - a) ** 2)
    return Bound(
        name="Improved floor, limit",
        reference="this project, theory section 4.1",
        quantity="limsup D_i",
        formula=r"\limsup D_i \ge \alpha\,\underline\eta\,\underline\varepsilon^2 / (8 (2-\alpha)^2)",
        side="lower",
        value=propagate(lambda h, e: factor * h * e, "improved floor", h=check_eta(eta), e=eps_star2),
        measured=measured,
        assumptions=(*evidence.assumptions("A1", "A2", "A3", "A4"), CLEAN, EVENTUALLY),
    )
