r"""Theorem 4.2 of [KTV]: what stands, and what cannot stand as printed.

Displayed form: under summable energies and with :math:`C_\mathrm{bias} > 0`, the two sides of

.. math:: D_{N+1} + C_\mathrm{bias} \asymp
   \sum_{i=0}^{N} (1-\alpha)^{2(N-i)} \varepsilon_{*,i}^2 + (1-\alpha)^{2(N+1)} D_0

are comparable with constants that do not depend on N. That is impossible: the right side tends to 0 under the
theorem's own summability assumption while the left side is at least C_bias. At :math:`\alpha = 0.1`,
:math:`\varepsilon_i^2 = 0.04 \cdot 0.5^i`, D_0 = 0.25, C_bias = 1 the constant that it would need is 26.84 at N = 10
and 1.43e15 at N = 160 (:func:`theorem_4_2_required_constant`). Without bias term it fails too: aligned innovations give
ratio N. The additive upper bound stands, and the accumulation identity says what its bias term is:
:math:`C_\mathrm{bias} = \sum_{i \ne j} G_{N,i} G_{N,j} \langle\delta_i, \delta_j\rangle`.

References: [KTV] (arXiv 2602.16601) Thm 4.2; this project, theory section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import UNKNOWN
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, check_alpha, propagate

#: eps_i^2 for i = 0, 1, ...: a sequence, or a function of i.
Energies = Sequence[float] | Callable[[int], float]


def discounted_sum(alpha: float, energies: Sequence[float], D0: float) -> float:
    r"""[KTV]'s right side for M = N + 1 energies x: :math:`\sum_i (1-\alpha)^{2(M-1-i)} x_i + (1-\alpha)^{2M} D_0`."""
    x = np.asarray(energies, dtype=np.float64)
    weights = (1 - check_alpha(alpha)) ** (2.0 * np.arange(x.size, -1, -1))
    total = np.concatenate([[D0], x])
    return float((weights * total)[weights > 0].sum())


def theorem_4_2_required_constant(alpha: float, eps2: Energies, D0: float, C_bias: float, N: int) -> float:
    r"""Smallest constant c that the displayed form of Theorem 4.2 would need at N, even if D_{N+1} were 0.

    .. math:: c = C_\mathrm{bias} \Big/ \Big(
       \sum_{i=0}^{N} (1-\alpha)^{2(N-i)} \varepsilon_i^2 + (1-\alpha)^{2(N+1)} D_0\Big)

    A theorem with constants uniform in N needs this to stay bounded.

    Args:
        alpha: fraction of fresh data.
        eps2: eps_0^2, ..., eps_N^2 (a sequence of at least N + 1) or a function of i.
        D0: drift at the start.
        C_bias: the additive constant of the left side.
        N: the right side sums generations 0..N.

    Returns:
        The constant; ``inf`` where the right side is 0 in double precision.

    Raises:
        InputError: fewer than N + 1 energies, or a negative number.

    Example:
        >>> round(theorem_4_2_required_constant(0.1, lambda i: 0.04 * 0.5**i, 0.25, 1.0, 10), 2)
        26.84
    """
    if not callable(eps2) and len(eps2) < N + 1:
        raise InputError(f"N = {N} needs {N + 1} energies, got {len(eps2)}", "pass eps_0^2, ..., eps_N^2")
    energies = [float(eps2(i) if callable(eps2) else eps2[i]) for i in range(N + 1)]
    if not min([*energies, D0, C_bias]) >= 0 or any(math.isnan(e) for e in energies):
        raise InputError("energies, D0 and C_bias must be non-negative numbers", "check the first arguments")
    right = discounted_sum(alpha, energies, D0)
    return C_bias / right if right > 0 else (math.inf if C_bias > 0 else 0.0)


def theorem_4_2_displayed(
    alpha: float, eps2: Sequence[Number], D0: Number, C_bias: float, measured: Estimate | None = None
) -> Bound:
    r"""The displayed form of Theorem 4.2, shown with constant 1 and marked *not valid as printed*.

    Args:
        alpha: fraction of fresh data.
        eps2: eps*_0^2..eps*_N^2.
        D0: drift at the start.
        C_bias: the additive constant of the left side.
        measured: D_{N+1} + C_bias.
    """
    N = len(eps2) - 1
    value = propagate(lambda e, d0: discounted_sum(alpha, e, d0), "discounted sum, constant 1", e=eps2, d0=D0)
    plain = [max(e.value, 0.0) if isinstance(e, Estimate) else e for e in eps2]
    start = max(D0.value, 0.0) if isinstance(D0, Estimate) else D0
    needed = [theorem_4_2_required_constant(alpha, plain[: n + 1], start, C_bias, n) for n in (N // 2, N)]
    evidence = f"the constant needed grows: at least {needed[0]:.4g} at N = {N // 2}, {needed[1]:.4g} at N = {N}"
    if not needed[1] > needed[0]:
        evidence = (
            "under summable energies the right side tends to 0 and the left side does not; without bias term, aligned "
            "innovations give ratio N"
        )
    return Bound(
        name="Theorem 4.2, as displayed",
        reference="[KTV] Thm 4.2",
        quantity="D_{N+1} + C_bias, up to constants",
        formula=r"D_{N+1} + C_{\mathrm{bias}} \asymp"
        r" \sum_i (1-\alpha)^{2(N-i)} \varepsilon_{*,i}^2 + (1-\alpha)^{2(N+1)} D_0",
        side="upper",
        value=value,
        measured=measured,
        assumptions=(Assumption("constants", "comparable with constants uniform in N", "violated", evidence),),
        note="not valid as printed; see the additive form",
    )


def _meeting(alpha: float, J: Sequence[float], D0: float) -> float:
    """2 (1 - alpha)^N sqrt(D_0) sum_i (1 - alpha)^{N-1-i} sqrt(J_i): what start and innovations can add at most."""
    roots = np.sqrt(np.asarray(J, dtype=np.float64))
    kept = (1.0 - alpha) ** np.arange(roots.size, -1.0, -1.0)
    return float(2.0 * kept[0] * np.sqrt(D0) * (kept[1:] @ roots)) if D0 > 0 and roots.size else 0.0


def theorem_4_2_additive(
    alpha: float,
    J: Sequence[Number],
    D0: Number,
    C_bias: Number | None = None,
    measured: Estimate | None = None,
    *,
    C_start: Number | None = None,
) -> Bound:
    r"""The additive form of Theorem 4.2, which stands.

    .. math:: D_N \le (1-\alpha)^{2N} D_0 + \sum_{i<N} (1-\alpha)^{2(N-1-i)} J_i + C_\mathrm{bias} + C_\mathrm{start}

    With :math:`D_0 > 0` the start meets the innovations too:
    :math:`C_\mathrm{start} \ge 2 (1-\alpha)^N \langle f_0, \sum_i (1-\alpha)^{N-1-i} \delta_i\rangle`, at most
    :math:`2 (1-\alpha)^N \sqrt{D_0} \sum_i (1-\alpha)^{N-1-i} \sqrt{J_i}` (Cauchy and Schwarz).

    Args:
        alpha: fraction of fresh data.
        J: innovation energies J_0..J_{N-1}. In the form of [KTV] these are constants times eps*_i^2; the constants come
            from Theorem 3.4 and sup q/p.
        D0: drift at the start.
        C_bias: bound on the cross terms of the accumulation identity, cut at 0; None leaves them out (C_bias = 0):
            right for orthogonal innovations only, and flagged.
        measured: D_N.
        C_start: bound on the cross terms of start and innovations; None takes the one by Cauchy and Schwarz.
    """
    text = "C_bias bounds the cross terms sum_{i != j} G_i G_j <delta_i, delta_j>"
    evidence = "left out: needs the Gram matrix of innovations" if C_bias is None else "supplied"
    bias: Number = 0.0 if C_bias is None else C_bias
    return Bound(
        name="Theorem 4.2, additive",
        reference="[KTV] Thm 4.2, upper bound; this project, theory section 4.2",
        quantity="D_N",
        formula=r"D_N \le (1-\alpha)^{2N} D_0 + \sum_i (1-\alpha)^{2(N-1-i)} J_i + C_{\mathrm{bias}}"
        r" + C_{\mathrm{start}}",
        side="upper",
        value=propagate(
            lambda j, d0, c, start: (
                discounted_sum(alpha, j, d0) + c + (_meeting(alpha, j, d0) if C_start is None else start)
            ),
            "decayed start + discounted sum + cross terms",
            j=J,
            d0=D0,
            c=bias,
            start=0.0 if C_start is None else C_start,
        ),
        measured=measured,
        assumptions=(Assumption("C_bias", text, UNKNOWN, evidence),),
    )
