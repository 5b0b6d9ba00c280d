r"""The literal protocol for one generation: Euler-Maruyama in 500 steps, beside the exact route that replaces it.

A study here never simulates the reverse process of a KDE: its end points are drawn from :math:`P_{t_0} \hat Q`, and its
energy comes from exact marginals (theory section 2). This target simulates it, as [KTV] section 5 does, with steps
equal in t from :math:`T` to :math:`t_0`, once from the law's own :math:`\hat p_T` and once from N(0, I), and compares

- the path energy :math:`\sum_k h\,|e_{t_k}(Y_k)|^2` with :math:`\int E|e_t|^2 dt`,
- the second moment :math:`E|Y|^2` at the end,
- :math:`E \log \hat p_{t_0}/q_{t_0}(Y)` at the end, which is :math:`KL(\hat p\|q)_{t_0}` for the start at
  :math:`\hat p_T`,

with exact draws: :math:`X_t | X_T` is one reverse transition, a centre by its responsibility and a Gaussian bridge
(:meth:`~driftlaw.process.laws.kernel_sum.KernelMixture.reverse_transition`). The chain's bias is of first order in the
step. A chain with half of the steps along the same noise estimates it, :math:`b = E(Y^{h} - Y^{2h})`, and :math:`2 Y^h
- Y^{2h}` is free of it up to second order: that must agree with the exact route.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from driftlaw.estimate import CLEAR, Estimate
from driftlaw.learn.estimator import FitContext
from driftlaw.learn.kde import KDE
from driftlaw.measure.paths.path import Horizon, coupled_chains, square
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.law import Diffused
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.records import Claim, FigureData, Number, Verdict, estimate_of, row
from driftlaw.seeding import generator

BANDWIDTH, T0, T, STEPS = 0.6, 0.02, 4.0, 500
#: Exact draws for each path.
EXACT = 8
#: Accepted distance: standard errors, and the share of the step's bias that its second order may be.
SPREAD, SECOND_ORDER = CLEAR, 0.1
TITLE = "Literal simulation"
STATEMENT = "Simulating a generation gives what exact draws give, up to first order in the step (ours)."

Fitted = KernelMixture | GaussianMixture


def fitted_law(samples: int | None, seed: int = 0) -> Fitted:
    """The KDE of `samples` rows of the target; for None the law that it has with infinitely many."""
    p = GaussianMixture.paper()
    if samples is None:
        return GaussianMixture(p.weights, p.means, p.covariances + BANDWIDTH**2)
    rows = p.sample(samples, generator(seed, "reproduce", "literal", "rows"))
    return KDE(BANDWIDTH, t0=T0).fit(rows, FitContext(seed=seed)).fitted


@torch.no_grad()
def literal_chains(seed: int = 0, n: int = 1000, samples: int | None = None, steps: int = STEPS) -> pd.DataFrame:
    """Chains of the learned reverse process and the exact route, one row for each start, quantity and method.

    Args:
        seed: seed of the named streams.
        n: paths from each start; a path costs 3 `steps`/2 evaluations of the learned score.
        samples: rows of the KDE, or None for its population law.
        steps: number of steps, even.
    """
    p, fitted = GaussianMixture.paper(), fitted_law(samples, seed)
    ends_of: dict[str, Callable[[Tensor], Tensor]] = {
        "second moment": square,
        "log p̂/q at t₀": lambda y: (fitted.log_prob(y, T0) - p.log_prob(y, T0)).double(),
    }
    rows = []
    for start in ("p̂_T", "N(0, I)"):
        g = generator(seed, "reproduce", "literal", start)
        x = _start(fitted, start, n, g)
        ends, energy = coupled_chains(fitted, p, x, torch.linspace(T, T0, steps + 1, dtype=torch.float64), g)
        chains = {"path energy": energy} | {name: torch.stack([f(y) for y in ends]) for name, f in ends_of.items()}
        exact = _exact(fitted, p, _start(fitted, start, EXACT * n, g), ends_of, g)
        for name, (fine, coarse) in chains.items():
            found = {
                f"{steps} steps": Estimate.mean(fine, "Euler-Maruyama"),
                f"{steps // 2} steps": Estimate.mean(coarse, "Euler-Maruyama along the same noise"),
                "bias of the step": Estimate.mean(fine - coarse, "difference of the two chains"),
                "extrapolated": Estimate.mean(2 * fine - coarse, "Richardson, second order in the step"),
                "exact": exact[name],
            }
            found["gap"] = _gap(found["extrapolated"], found["exact"])
            rows += [row(e, start=start, quantity=name, route=route) for route, e in found.items()]
    return pd.DataFrame(rows)


def _start(fitted: Fitted, start: str, n: int, g: torch.Generator) -> Tensor:
    if start == "N(0, I)":
        return torch.randn(n, fitted.dim, generator=g)
    return Diffused(fitted, T).sample(n, g)


def _exact(
    fitted: Fitted, p: GaussianMixture, x: Tensor, ends_of: dict[str, Callable[[Tensor], Tensor]], g: torch.Generator
) -> dict[str, Estimate]:
    """The quantities from exact transitions: of the end points, and of one point of each path at a stratified time."""
    y = fitted.reverse_transition(x, T, T0, g)
    found = {name: Estimate.mean(f(y), "exact reverse transitions") for name, f in ends_of.items()}
    strata = len(x) // 2
    u = (torch.arange(strata)[:, None] + torch.rand(strata, 2, generator=g, dtype=torch.float64)) / strata
    t, weight = Horizon(T0, T).time(u.flatten())
    y = fitted.reverse_transition(x[: len(t)], T, t, g)
    values = (weight * square(fitted.score(y, t) - p.score(y, t))).reshape(-1, 2)
    stderr = math.sqrt(float((values[:, 0] - values[:, 1]).square().sum()) / 4) / strata
    found["path energy"] = Estimate.normal(float(values.mean()), stderr, 2 * strata, "exact reverse transitions")
    return found


def _gap(a: Estimate, b: Estimate) -> Estimate:
    return Estimate.normal(a.value - b.value, math.hypot(a.stderr, b.stderr), min(a.n, b.n), "extrapolated - exact")


def agrees(gap: Estimate, bias: Estimate) -> bool:
    """Whether an extrapolated chain and the exact route are one number."""
    return abs(gap.value) <= SPREAD * gap.stderr + SECOND_ORDER * abs(bias.value)


def literal_figure(table: pd.DataFrame) -> tuple[FigureData, list[Claim]]:
    """The table, its notes and the claim that the exact route is the literal protocol."""
    numbers, good, notes = [], [], []
    for (start, quantity), group in table.groupby(["start", "quantity"], sort=False):
        e = {str(r["route"]): estimate_of(r) for r in group.to_dict("records")}
        fine, exact = e[str(group.route.iloc[0])], e["exact"]
        good.append(agrees(e["gap"], e["bias of the step"]))
        where = f"{quantity}, from {start}"
        numbers += [Number(f"{where}: {group.route.iloc[0]}", fine, exact.value)]
        numbers += [Number(f"{where}: without the bias of the step", e["extrapolated"], exact.value)]
        notes.append(f"{where}: {fine} simulated, bias of the step {e['bias of the step']}, {exact} exact.")
    verdict: Verdict = "confirmed" if all(good) else "not reproduced"
    because = (
        "Half of the steps double the bias; without it, simulated and exact numbers agree within their intervals."
        if all(good)
        else "Simulated and exact numbers differ by more than sampling error and the time step explain."
    )
    claim = Claim("literal", "literal", TITLE, STATEMENT, verdict, because, tuple(numbers))
    return FigureData("literal", {"chains": table}, notes), [claim]
