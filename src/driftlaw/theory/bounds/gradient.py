r"""Diffusion models observe only gradients: bounds with the gradient part of the score error.

Weighted Helmholtz-Hodge split :math:`e = \Pi e + R`, :math:`\mathrm{div}(p_t R) = 0`: the rotational part R leaves
every marginal as it is, so that only :math:`G^2 = \int E_{p_t} |\Pi_{p_t} e|^2 dt \le \varepsilon_*^2` can do harm.

References: [KTV-G] (arXiv 2606.06179); this project, theory section 3.4, for the statements as re-derived here.
"""

from __future__ import annotations

from driftlaw.estimate import Estimate
from driftlaw.theory.bounds.assumptions import UNKNOWN
from driftlaw.theory.bounds.statement import Assumption, Bound, Number, finite, path_kl, propagate


def _whole_gradient(exact: bool) -> Assumption:
    text = "G^2 is the energy of the whole gradient part; a critic over some features only bounds it from below"
    return Assumption("gradient part", text, "checked" if exact else UNKNOWN, "closed form" if exact else "a critic")


def gradient_floor(G2: Estimate, measured: Estimate | None = None, *, exact: bool = False) -> Bound:
    r"""A score error has at least the energy of its gradient part: :math:`\varepsilon_*^2 \ge G^2`.

    A critic's value is itself a lower bound of :math:`G^2`, so that the statement needs no true score.

    Args:
        G2: energy of the gradient part, or a critic's held-out value with its lower confidence limit.
        measured: eps*^2 where it is known.
        exact: whether `G2` is the whole gradient part and not the value of a critic.
    """
    unseen = Assumption(
        "unseen rows",
        "the critic is judged on independent rows of q that trained neither it nor the network",
        "checked",
        "held-out real rows, and rows of earlier models that trained no network",
    )
    return Bound(
        name="Score error, from below",
        reference="[KTV-G]; this project, theory section 3.4",
        quantity="eps*^2",
        formula=r"\varepsilon_*^2 \ge G^2 = \int E_{q_t}|\Pi_{q_t} e|^2 dt",
        side="lower",
        value=G2 if exact else Estimate.exact(max(G2.low, 0.0), f"95 % lower confidence limit; {G2.method}"),
        measured=measured,
        assumptions=() if exact else (unseen,),
    )


def gradient_observability(
    G2: Number, eps_star2: Number, measured: Estimate | None = None, *, exact: bool = False
) -> Bound:
    r"""Only gradients are seen: :math:`\eta \le G^2/\varepsilon_*^2`, :math:`G^2 = \int E_{p_t}|\Pi e|^2 dt`.

    Args:
        G2: energy of the gradient part of the error under the ideal path.
        eps_star2: its whole energy; at zero error eta = 0 by convention.
        measured: eta.
        exact: whether `G2` is the whole gradient part and not the value of a critic.
    """

    def ratio(g: float, e: float) -> float:
        return min(1.0, g / e) if e > 0 else 0.0

    return Bound(
        name="Gradient bound on eta",
        reference="[KTV-G]; this project, theory section 3.4",
        quantity="observability eta",
        formula=r"\eta \le G^2/\varepsilon_*^2",
        side="upper",
        value=propagate(ratio, "min(1, G^2/eps*^2)", g=G2, e=eps_star2),
        measured=measured,
        assumptions=(_whole_gradient(exact),),
    )


def gradient_kl(G_hat2: Number, kl_init: Number, measured: Estimate | None = None, *, exact: bool = False) -> Bound:
    r"""Proposition 3.1 with the gradient part only: :math:`KL(\hat p\|q) \le KL(init\|q_T) + \tfrac12\hat G^2`.

    Args:
        G_hat2: energy of the gradient part (in L^2 of p_hat_t) under the learned path.
        kl_init: KL(init || q_T), nats.
        measured: KL(p_hat || q) at t0, nats.
        exact: whether `G_hat2` is the whole gradient part and not the value of a critic.
    """
    return Bound(
        name="Gradient bound",
        reference="[KTV-G]; this project, theory section 3.4",
        quantity="KL(p_hat || q) at t0",
        formula=r"KL(\hat p\|q)_{t_0} \le KL(\mathrm{init}\|q_T) + \tfrac12 \int E_{\hat p_t}|\Pi_{\hat p_t} e|^2 dt",
        side="upper",
        value=propagate(lambda g, k: path_kl(g, k), "KL_init + G_hat^2/2", g=G_hat2, k=kl_init),
        measured=measured,
        assumptions=(finite("G_hat^2", G_hat2), _whole_gradient(exact)),
    )


def gradient_kl_reverse(G2: Number, kl_init: Number, measured: Estimate | None = None, *, exact: bool = False) -> Bound:
    r"""Reverse direction with the gradient part only: :math:`KL(q\|\hat p) \le KL(q_T\|init) + \tfrac12 G^2`.

    Args:
        G2: energy of the gradient part (in L^2 of q_t) under the ideal path.
        kl_init: KL(q_T || init), nats.
        measured: KL(q || p_hat) at t0, nats.
        exact: whether `G2` is the whole gradient part and not the value of a critic.
    """
    return Bound(
        name="Gradient bound, reverse",
        reference="[KTV-G]; this project, theory section 3.4",
        quantity="KL(q || p_hat) at t0",
        formula=r"KL(q\|\hat p)_{t_0} \le KL(q_T\|\mathrm{init}) + \tfrac12 \int E_{q_t}|\Pi_{q_t} e|^2 dt",
        side="upper",
        value=propagate(lambda g, k: path_kl(g, k), "KL_init + G^2/2", g=G2, k=kl_init),
        measured=measured,
        assumptions=(finite("G^2", G2), _whole_gradient(exact)),
    )
