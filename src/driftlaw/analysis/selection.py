r"""How much of today's drift selection made, and how much training.

With selection the training law is :math:`q_i^{sel} = q_i + \sigma_i`, and the innovation of generation i is
:math:`\delta_i = (\hat p^{i+1} - q_i^{sel}) + \sigma_i = \tau_i + \sigma_i`. Mixing stays linear, so the accumulation
identity holds with both:

.. math:: D_N = \sum_{ij} G_{Ni} G_{Nj} (\langle \tau_i, \tau_j \rangle + \langle \tau_i, \sigma_j \rangle
          + \langle \sigma_i, \tau_j \rangle + \langle \sigma_i, \sigma_j \rangle) .

Everything is in the coordinates :math:`\psi` of :mod:`driftlaw.loop.step.selection`, from new draws of the stored
models (docs/derivations.md section 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftlaw import seeding
from driftlaw.analysis.opened import OpenRun
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.loop.step.selection import block_shift, cosine, degree_two
from driftlaw.loop.study import Study
from driftlaw.measure.sets.innovations import BLOCKS, Array, Innovations, block_innovations, block_means
from driftlaw.theory.propagator import propagator


@dataclass(frozen=True)
class SelectionSplit:
    """The drift of the last generation, taken apart.

    Args:
        drift: D_N in the coordinates psi.
        training: what training innovations alone add up to.
        selection: what selection innovations alone add up to.
        cross: twice their product; negative where selection undid what training did. The three sum to the drift.
        alignment: of selection with minus the training part, both accumulated: 1 where selection undoes it.
    """

    drift: Estimate
    training: Estimate
    selection: Estimate
    cross: Estimate
    alignment: Estimate


def split(history: History, rows: int = 4000, seed: int = 0, study: Study | None = None) -> SelectionSplit:
    """Split the drift of a run with selection into what training and what selection made.

    Args:
        history: a run with ``select``, of two generations or more, whose models can be drawn from.
        rows: new draws of each model.
        seed: of the draws.
        study: the study of the run, where it holds parts of your own.

    Raises:
        InputError: a run without selection, without held-out rows, or a selector that keeps too few of the rows.
    """
    run = OpenRun(history, study)
    select, reference, held_out = run.study.select, run.setting.reference, run.setting.held_out
    if select is None or len(history) < 2:
        raise InputError("this run selected nothing", "give a run of two generations or more with select")
    if reference is None or held_out is None:
        raise InputError("this run has no held-out rows to compare with", "run it with measures.samples above 0")
    N, psi = len(history), degree_two(reference.features.in_parts)
    fresh, mixing = (part[:N] for part in run.setting.rows)
    before, after = [], []
    for n in range(1, N + 1):
        x = run.model(n).sample(rows, seeding.generator(seed, "selection", n)).cpu()
        chosen = select.choose(x, seeding.generator(seed, "selection", n, "choose"))
        found = block_shift(psi(x), chosen)
        if found is None:
            raise InputError(f"the selector keeps {len(chosen)} of {rows} rows of generation {n}", "give more rows")
        before.append(found[0])
        after.append(found[1])
    c, moved = np.stack(before) - block_means(psi(held_out.x)), np.stack(after) - np.stack(before)
    weights = mixing[:, 1 : N + 1]
    sigma = np.einsum("ij,jbk->ibk", weights, moved)
    tau = c - np.einsum("ij,jbk->ibk", weights, c) - sigma
    g = propagator((fresh, mixing[:, : N + 1]))[-1]
    parts = np.stack([np.einsum("i,ibk->bk", g, tau), np.einsum("i,ibk->bk", g, sigma)])
    gram = _products(parts, rows)
    both = {
        "drift": lambda m: m.sum(),
        "training": lambda m: m[0, 0],
        "selection": lambda m: m[1, 1],
        "cross": lambda m: 2 * m[0, 1],
    }
    numbers = {name: gram.statistic(lambda m, f=f: float(f(m)), name) for name, f in both.items()}  # type: ignore[misc]
    undone = _products(parts * np.array([-1.0, 1.0])[:, None, None], rows)
    return SelectionSplit(**numbers, alignment=cosine(undone, 0, 1))


def _products(parts: Array, rows: int) -> Innovations:
    """Products of two vectors across blocks, from ``[2, B, k]``."""
    means = np.concatenate([np.zeros((1, BLOCKS, parts.shape[2])), parts])
    return block_innovations(means, np.ones(2), np.zeros((2, 3)), rows, "features of degree 2")
