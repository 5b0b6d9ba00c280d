r"""What selection did to a training law: how much it kept, what it preferred, and whether it undid the drift.

With the policy's weights :math:`w_j` on models and means of :math:`\psi` (whitened features, and their products of
degree 2, so that spread is seen), the selection innovation and the drift that it meets are

.. math:: \sigma = \sum_j w_j (E_{\hat p^{j,sel}} \psi - E_{\hat p^j} \psi), \qquad
          f = \sum_j w_j (E_{\hat p^j} \psi - E_p \psi) .

The *alignment* of :math:`\sigma` with :math:`-f` is 1 where a verifier moves samples straight back to the target and -1
where it drives them on. Products are taken across 20 blocks of rows, so that sampling noise has mean zero in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from driftlaw.estimate import Estimate
from driftlaw.learn.select.reward import judged
from driftlaw.learn.select.select import Select
from driftlaw.loop.step.setting import Past, Setting, candidates
from driftlaw.measure.sets.innovations import BLOCKS, Array, Innovations, block_innovations, block_means

#: Features whose pairs are looked at.
MOST_PAIRED = 16


def effect(setting: Setting, index: int, past: Past) -> dict[str, Estimate]:
    """What selection did to the training set of generation `index`; empty without selection or models.

    Returns:
        ``kept`` (share of candidates), ``reward_before``, ``reward_after``; and where features are compared:
        ``selection`` (squared size of sigma), ``drift_before`` (of f), ``alignment``.
    """
    select, weights = setting.study.select, setting.rows[1][index - 1, 1:index]
    used = [(j, float(w)) for j, w in enumerate(weights, start=1) if w > 0] if index > 1 else []
    if select is None or not used:
        return {}
    rewards, kept, steps, gaps = [], [], [], []
    reference, held_out = setting.reference, setting.held_out
    psi = None if reference is None else degree_two(reference.features.in_parts)
    real = None if psi is None or held_out is None else block_means(psi(held_out.x))
    for j, w in used:
        pool, generator = candidates(setting, index, past, j)
        reward = judged(select.selector, pool)
        chosen = select.chosen(reward, generator)
        rewards.append(reward)
        kept.append(chosen)
        if real is not None and psi is not None:
            found = block_shift(psi(pool), chosen)
            if found is None:
                real = None
                continue
            before, after = found
            steps.append(w * (after - before))
            gaps.append(w * (before - real))
    out = _rewards(select, rewards, kept)
    if real is not None and steps:
        out |= _against_drift(sum(steps), sum(gaps), len(rewards[0]))  # type: ignore[arg-type]
    return out


def degree_two(phi: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Whitened features with their normalised products of degree 2 (squares alone beyond 16 features)."""

    def psi(x: Tensor) -> Tensor:
        z = phi(x).double()
        parts = [z, (z.square() - 1) / math.sqrt(2)]
        if z.shape[1] <= MOST_PAIRED:
            i, j = torch.triu_indices(z.shape[1], z.shape[1], 1)
            parts.append(z[:, i] * z[:, j])
        return torch.cat(parts, 1)

    return psi


def block_shift(phi: Tensor, chosen: Tensor) -> tuple[Array, Array] | None:
    """Block means of all rows and of the chosen ones, ``[B, k]`` each; None where a block has none chosen."""
    before = block_means(phi)
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(len(phi)), BLOCKS))])
    block = np.searchsorted(edges, chosen.numpy(), side="right") - 1
    if len(np.unique(block)) < BLOCKS:
        return None
    values = phi.double().cpu().numpy()[chosen.numpy()]
    return before, np.stack([values[block == b].mean(0) for b in range(BLOCKS)])


def _rewards(select: Select, rewards: list[Tensor], kept: list[Tensor]) -> dict[str, Estimate]:
    before = torch.cat(rewards)
    after = torch.cat([r[k] for r, k in zip(rewards, kept, strict=True)])
    out = {"kept": Estimate.exact(len(after) / len(before), f"share of {len(before)} candidates that were kept")}
    if select.rule == "threshold":
        out["kept"] = Estimate.mean((before > select.level).double(), "share of candidates that were kept")
    for name, values in (("reward_before", before), ("reward_after", after)):
        if len(values) > 1:
            out[name] = Estimate.mean(values, f"mean reward of {'all' if name == 'reward_before' else 'kept'} samples")
    return out


def _against_drift(step: Array, gap: Array, n: int) -> dict[str, Estimate]:
    """Sizes of selection and drift, and the alignment of selection with minus the drift, from block means."""
    means = np.stack([np.zeros_like(step), step, -gap])
    found: Innovations = block_innovations(means, np.ones(2), np.zeros((2, 3)), n, "features, selection against drift")

    selection, drift = found.sizes
    out = {"selection": selection, "drift_before": drift}
    if min(selection.low, drift.low) <= 0:
        why = "the selection" if selection.low <= 0 else "the drift"
        return out | {"alignment": Estimate.refused(found.method, f"{why} is not above its noise", n)}
    return out | {"alignment": cosine(found, 0, 1)}


def cosine(found: Innovations, i: int, j: int) -> Estimate:
    """Cosine of two innovations, in [-1, 1]."""

    def of(gram: Array) -> float:
        size = gram[i, i] * gram[j, j]
        return float(gram[i, j] / np.sqrt(size)) if min(gram[i, i], gram[j, j]) > 0 else math.nan

    e = found.statistic(of, "alignment")
    if e.is_refused:
        return e
    value, low, high = (min(1.0, max(-1.0, v)) for v in (e.value, e.low, e.high))
    return replace(e, value=value, low=low, high=high)
