r"""Innovations and their Gram matrix: today's drift taken apart by the generation that caused it.

In L^2(mu), for a reference law mu, write :math:`f_i = (\hat p^i - p)/\mu` and :math:`\delta_i = (\hat p^{i+1} -
q_i)/\mu`. Mixing is linear, so :math:`f_{i+1} = \sum_j w_{ij} f_j + \delta_i` pointwise, and with the propagator G

.. math:: D_n = E_\mu f_n^2 = \sum_{ij} G_{ni} G_{nj} \Gamma_{ij}, \qquad \Gamma_{ij} = E_\mu \delta_i \delta_j

holds **on any shared sample points to rounding**, whatever the sampling error of each side. Two references: mu = p
(then D is chi2, often infinite), and mu = (p + p_hat^1 + ... + p_hat^N)/(N+1), where every ratio is at most N + 1 and
all is finite. In feature coordinates :math:`c_i = E_{\hat p^i}\phi - E_p\phi` obeys the same recursion. There, with c_b
the difference of two means over block b of B and :math:`\delta_b` the residual of the recursion, products are taken
across blocks only, so that sampling noise has mean zero in every entry:

.. math:: D = \frac{|\sum_b c_b|^2 - \sum_b |c_b|^2}{B (B - 1)}, \qquad
   \Gamma_{ij} = \frac{\sum_b \delta_{ib} \cdot \sum_b \delta_{jb} - \sum_b \delta_{ib} \cdot \delta_{jb}}{B (B - 1)}.

Source: this project, theory sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.process.laws.law import ExactLaw
from driftlaw.records import Record
from driftlaw.seeding import generator

Array = NDArray[Any]
#: Blocks of observations for jackknife intervals.
BLOCKS = 20


@dataclass(frozen=True)
class Innovations(Record):
    """Innovations of generations 0..N-1 and the drift that they add up to.

    Args:
        gram_blocks: ``[B, N, N]`` block observations whose mean is Gamma.
        drift_blocks: ``[B, N]`` block observations whose mean is D_1..D_N.
        n: points behind them, or rows of the smallest set.
        method: in words.
        reference: "p", "mixture" or the name of the feature map.
    """

    gram_blocks: Array
    drift_blocks: Array
    n: int
    method: str
    reference: str
    json_hidden: ClassVar[frozenset[str]] = frozenset({"gram_blocks", "drift_blocks", "n", "method"})
    json_extra: ClassVar[tuple[str, ...]] = ("gram", "gram_stderr", "drift", "sizes")

    @property
    def gram(self) -> Array:
        """Gamma_ij, ``[N, N]``; pair it with :attr:`gram_stderr`."""
        return np.asarray(self.gram_blocks.mean(0))

    @property
    def gram_stderr(self) -> Array:
        """Standard errors of :attr:`gram`."""
        return np.asarray(self.gram_blocks.std(0, ddof=1) / np.sqrt(len(self.gram_blocks)))

    @property
    def drift(self) -> tuple[Estimate, ...]:
        """Drift of generations 1..N in the reference law."""
        return tuple(_estimate(column, self.n, self.method) for column in self.drift_blocks.T)

    @property
    def sizes(self) -> tuple[Estimate, ...]:
        """J_0..J_{N-1}, the diagonal of the Gram matrix."""
        diagonal = np.diagonal(self.gram_blocks, axis1=1, axis2=2)
        return tuple(_estimate(column, self.n, self.method) for column in diagonal.T)

    def statistic(self, of: Callable[[Array], float], what: str) -> Estimate:
        """A function of the Gram matrix with its jackknife interval over blocks.

        Args:
            of: maps ``[N, N]`` to a number; ``nan`` where it has none.
            what: its name, for the method.
        """
        method, B = f"{what}; {self.method}", len(self.gram_blocks)
        value, total = of(self.gram), self.gram_blocks.sum(0)
        left = np.array([of((total - g) / (B - 1)) for g in self.gram_blocks])
        if np.isnan(value) or np.isnan(left).any():
            return Estimate.refused(method, f"{what} has no value: innovations are not above their noise", self.n)
        stderr = float(np.sqrt((B - 1) / B * ((left - left.mean()) ** 2).sum()))
        return Estimate.normal(value, stderr, self.n, method, dof=B - 1)


def density_innovations(
    p: ExactLaw,
    models: Sequence[ExactLaw],
    fresh: Array,
    mixing: Array,
    *,
    n: int = 4000,
    seed: int = 0,
    reference: str = "mixture",
) -> Innovations:
    r"""Innovations in L^2 of p or of the mixture of p and all generations, by Monte Carlo on shared points.

    Args:
        p: the target.
        models: p_hat^1..p_hat^N with exact densities, at the times where they are sampled.
        fresh: ``[N]`` policy weights on p.
        mixing: ``[N, N+1]`` policy weights on p_hat^0..p_hat^N; p_hat^0 = p.
        n: points, spread evenly over p and the models.
        seed: seed of the named stream.
        reference: "mixture" (always finite) or "p" (chi2; refuse it yourself where it is infinite). Points come from
            the mixture nu either way, with weights p/nu for "p": the variance is then finite as soon as
            :math:`E_p (\hat p/p)^3` is, where points of p would need the fourth moment.

    Raises:
        InputError: an unknown reference, no models, or rows that do not fit.
    """
    if reference not in {"mixture", "p"}:
        raise InputError(f"reference {reference!r}", "use 'mixture' or 'p'")
    if not models:
        raise InputError("no models were given", "innovations need at least one generation")
    laws = [p, *models]
    each = -(-n // (len(laws) * BLOCKS)) * BLOCKS
    g = generator(seed, "innovations")
    x = torch.cat([law.sample(each, g) for law in laws])
    logs = torch.stack([law.log_prob(x).double() for law in laws])
    base = torch.logsumexp(logs, 0) - np.log(len(laws))
    if reference == "p":  # (r - p)/p times the root of the weight p/nu
        base = (base + logs[0]) / 2
    ratios = torch.exp(logs - base).cpu().numpy()
    f = ratios[1:] - ratios[0]
    # points of one block come in equal shares from every law
    block = np.tile(np.arange(each) % BLOCKS, len(laws))
    return _assemble(_deltas(f, fresh, mixing), f, block, f"L2 of {reference}, shared points", reference)


def feature_innovations(
    features: Callable[[Tensor], Tensor],
    real: Tensor,
    generations: Sequence[Tensor],
    fresh: Array,
    mixing: Array,
    *,
    seed: int = 0,
    name: str = "features",
) -> Innovations:
    """Innovations in feature coordinates, from samples alone; unbiased in every entry.

    Assumption: no row of a generation trained a later model. One that did shares its noise with that model, so that J
    comes out low by up to (1-alpha)^2 k/n.

    Args:
        features: whitened feature map, ``[n, ...] -> [n, k]``.
        real: ``[m, ...]`` held-out rows of the target.
        generations: samples of p_hat^1..p_hat^N.
        fresh: ``[N]`` policy weights on p.
        mixing: ``[N, N+1]`` policy weights on the generations.
        seed: seed of the split into blocks.
        name: of the feature map.

    Raises:
        InputError: a set of fewer than 2 x 20 rows.
    """
    sets = [features(x) for x in (real, *generations)]
    small = min(map(len, sets))
    if small < 2 * BLOCKS:
        raise InputError(f"a set has {small} rows", f"feature innovations need at least {2 * BLOCKS}")
    orders = [torch.randperm(len(s), generator=generator(seed, "innovations", "blocks", k)) for k, s in enumerate(sets)]
    means = [block_means(s[order.to(s.device)]) for s, order in zip(sets, orders, strict=True)]
    return block_innovations(np.stack(means), fresh, mixing, small, name)


def block_means(phi: Tensor) -> Array:
    """Means of `BLOCKS` blocks of consecutive rows, ``[n, k] -> [B, k]``; rows are exchangeable."""
    return np.stack([part.mean(0) for part in np.array_split(phi.double().cpu().numpy(), BLOCKS)])


def block_innovations(means: Array, fresh: Array, mixing: Array, rows: int, name: str) -> Innovations:
    """Innovations from block means of rows that no model was trained on; unbiased in every entry.

    Args:
        means: ``[N + 1, B, k]`` block means of the target and of generations 1..N.
        fresh: ``[N]`` policy weights on p.
        mixing: ``[N, N+1]`` policy weights on the generations.
        rows: rows of the smallest set.
        name: of the feature map.

    Raises:
        InputError: rows of the policy that do not fit.
    """
    c = means[1:] - means[0]
    delta = _deltas(c.reshape(len(c), -1), fresh, mixing).reshape(c.shape)

    def products(x: Array) -> Array:
        """Block observations ``[B, N, N]`` whose mean is the product across blocks: the jackknife's pseudo-values."""
        total, own = x.sum(1), np.einsum("ibk,jbk->bij", x, x)
        whole = (total @ total.T - own.sum(0)) / (BLOCKS * (BLOCKS - 1))
        rest = total[None] - x.transpose(1, 0, 2)  # [B, N, k], all blocks but one
        left = np.einsum("bik,bjk->bij", rest, rest) - (own.sum(0)[None] - own)
        left /= (BLOCKS - 1) * (BLOCKS - 2)
        return np.asarray(whole + (BLOCKS - 1) * (left.mean(0) - left))

    drift = np.diagonal(products(c), axis1=1, axis2=2)
    return Innovations(products(delta), drift, rows, f"means of whitened {name} across blocks", name)


def _deltas(f: Array, fresh: Array, mixing: Array) -> Array:
    """delta_i = f_{i+1} - sum_j w_ij f_j with f_0 = 0; `f` is ``[N, points]``, f_1..f_N."""
    N = len(f)
    if np.shape(fresh) != (N,) or np.shape(mixing) != (N, N + 1):
        raise InputError(
            f"{N} generations need policy rows of shapes [{N}] and [{N}, {N + 1}], "
            f"got {list(np.shape(fresh))} and {list(np.shape(mixing))}",
            "use policy.rows(N)",
        )
    return np.asarray(f - np.asarray(mixing)[:, 1:] @ f)


def _assemble(delta: Array, f: Array, block: NDArray[np.intp], method: str, reference: str) -> Innovations:
    blocks = [np.flatnonzero(block == b) for b in range(BLOCKS)]
    grams = np.stack([delta[:, c] @ delta[:, c].T / len(c) for c in blocks])
    drifts = np.stack([(f[:, c] ** 2).mean(1) for c in blocks])
    return Innovations(grams, drifts, f.shape[1], method, reference)


def _estimate(observations: Array, n: int, method: str) -> Estimate:
    """Mean of block observations with Student's t interval."""
    stderr = float(observations.std(ddof=1) / np.sqrt(BLOCKS))
    return Estimate.normal(float(observations.mean()), stderr, n, method, dof=BLOCKS - 1)
