r"""Selection of a model's samples by a reward r, before they are mixed into a training set.

Selecting with probability proportional to :math:`h` turns a law q into :math:`q^{sel} = h q`, :math:`E_q h = 1`. With F
the distribution function of r under q,

================  =========================================================================
threshold         :math:`h = 1\{r > \ell\} / P(r > \ell)`
top               :math:`h = 1\{F(r) \ge 1 - s\} / s`: the best share s
best              :math:`h = K F(r)^{K-1}`: the best of K
bradley-terry     :math:`h = E[K e^r / (e^r + \sum_{j=2}^K e^{r_j})]`: one of K, by a choice of odds :math:`e^r`
================  =========================================================================

As K grows the last one is the exponential tilt :math:`e^r / E_q e^r` (:func:`tilted`, exact for Gaussian mixtures and
the rewards :class:`~driftlaw.learn.select.reward.Linear` and ``Distance``).

Reference: Ferbach et al., arXiv 2407.09499 (curation by discrete choice); docs/derivations.md section 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from driftlaw.config import describe, validate
from driftlaw.errors import InputError
from driftlaw.learn.select.reward import Distance, Linear, as_reward, judged
from driftlaw.process.laws.mixture import GaussianMixture

#: Pools of candidates that are drawn for one training set at most, and after how many without a single kept row it
#: is an error.
MOST_POOLS, EMPTY_POOLS = 1000, 3
#: Draws of the other K - 1 candidates in the density of a Bradley-Terry choice.
RIVALS = 1024


@dataclass(frozen=True)
class Select:
    """Which samples of a model the next one may train on.

    Args:
        selector: what judges rows: a function ``rows [n, ...] -> [n]`` of rewards or booleans (or its
            ``"module:name"``), a :class:`Linear` or :class:`Distance` reward, or their configuration.
        rule: "threshold", "top", "best" or "bradley-terry"; see the module's page.
        level: rows with a reward above it are kept ("threshold"; 0.5 keeps what a boolean selector accepts).
        share: of a pool that is kept ("top"), in (0, 1].
        of: candidates K for one kept row ("best", "bradley-terry").

    Example:
        >>> select = Select(lambda x: x[:, 0] > 0)
        >>> rows = torch.tensor([[-1.0], [2.0], [3.0]])
        >>> select.choose(rows, torch.Generator())
        tensor([1, 2])
    """

    kind: ClassVar[str] = "select"
    selector: Annotated[Any, BeforeValidator(as_reward)]
    rule: Literal["threshold", "top", "best", "bradley-terry"] = "threshold"
    level: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    of: Annotated[int, Field(ge=2, le=10_000)] = 4

    def __post_init__(self) -> None:
        validate(self)

    def config(self) -> dict[str, Any]:
        """Plain data that rebuilds it."""
        return {**describe(self.kind, self), "selector": self.selector.config()}

    def choose(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Indices of the kept rows of a pool, ascending, int64 ``[k]``; the pool's order must be random.

        Raises:
            InputError: a reward that is not one finite number per row, one that is the same for all rows of a pool that
                it must put in order, or fewer than K rows.
        """
        return self.chosen(judged(self.selector, rows), generator)

    def chosen(self, reward: Tensor, generator: torch.Generator) -> Tensor:
        """:meth:`choose` for rewards ``[n]`` that are known already."""
        if self.rule == "threshold":
            return (reward > self.level).nonzero()[:, 0]
        n = len(reward)
        if n > 1 and bool((reward == reward[0]).all()):
            raise InputError(
                f"the reward is {float(reward[0]):g} for all {n} rows of a pool: nothing to rank by",
                "give a reward that tells rows apart, or use rule: threshold",
            )
        if self.rule == "top":
            kept = math.ceil(self.share * n)
            return reward.argsort(descending=True, stable=True)[:kept].sort().values
        if n < self.of:
            raise InputError(f"{n} candidates, and one of {self.of} is to be kept", "raise samples, or lower of")
        groups = reward[: n - n % self.of].view(-1, self.of)
        if self.rule == "bradley-terry":
            uniform = torch.rand(groups.shape, generator=generator, dtype=torch.float64)
            groups = groups - (-uniform.log()).log()  # Gumbel's maximum is a choice with odds e^r
        return groups.argmax(1) + self.of * torch.arange(len(groups))

    def density(self, reward: Tensor, of_law: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The factor h at rewards ``[n]``, from rewards ``[m]`` of independent rows of the law, float64 ``[n]``.

        Error: that of the empirical law of `of_law`, relative order ``m**-0.5`` (and of 1024 draws of the rivals).

        Raises:
            InputError: no row of the law is kept.
        """
        r, known = reward.double(), of_law.double().sort().values
        below = torch.searchsorted(known, r, right=True).double() / len(known)
        if self.rule == "threshold":
            kept = float((known > self.level).double().mean())
            if kept == 0:
                raise InputError(f"no reward of the law is above {self.level:g}", "lower level")
            return (r > self.level).double() / kept
        if self.rule == "top":
            cut = known[min(len(known) - 1, math.floor((1 - self.share) * len(known)))]
            return (r >= cut).double() / self.share
        if self.rule == "best":
            return self.of * below ** (self.of - 1)
        pick = torch.randint(len(known), (RIVALS, self.of - 1), generator=generator)
        rivals = known[pick].logsumexp(1)
        return torch.cat([self.of * torch.sigmoid(part[:, None] - rivals).mean(1) for part in torch.split(r, 4096)])


def selected(
    select: Select,
    pool: Tensor,
    count: int,
    generator: torch.Generator,
    more: Callable[[int], Tensor],
    what: str = "the model",
) -> Tensor:
    """`count` selected rows: from a pool in random order, then from further ones.

    Args:
        select: the rule.
        pool: the first candidates, ``[n, ...]``.
        count: rows that are wanted.
        generator: of choices by chance.
        more: candidates of pool c = 1, 2, ..., ``[m, ...]``.
        what: whose samples they are, for messages.

    Raises:
        InputError: the selector keeps nothing of three pools, or too little of very many.
    """
    kept, seen, c = [pool[select.choose(pool, generator)]], len(pool), 0
    while (found := sum(map(len, kept))) < count:
        c += 1
        if (not found and c >= EMPTY_POOLS) or c > MOST_POOLS:
            raise InputError(
                f"the selector keeps {found} of {seen} samples of {what}, and {count} are needed to train on",
                "lower level, raise share, or check the selector on rows in the units of the training set",
            )
        pool = more(c)
        kept.append(pool[select.choose(pool, generator)])
        seen += len(pool)
    return torch.cat(kept)[:count]


def tilted(law: GaussianMixture, reward: Linear | Distance) -> GaussianMixture:
    r"""The exponential tilt :math:`e^r q / E_q e^r` of a mixture q, in closed form.

    Linear: component k moves to :math:`m_k + \Sigma_k c`, weight :math:`w_k e^{c \cdot m_k + c \cdot \Sigma_k c/2}`.
    Distance: precision :math:`\Sigma_k^{-1} + s^{-2} I`, weight :math:`w_k N(m; m_k, \Sigma_k + s^2 I)`.

    Raises:
        InputError: a reward of another dimension.
    """
    means, weights = law.means.double(), law.weights.double()
    d = means.shape[1]
    full = torch.stack([_full(c, d) for c in law.covariances.double()])
    vector = torch.tensor(reward.direction if isinstance(reward, Linear) else reward.centre, dtype=torch.float64)
    if len(vector) != d:
        raise InputError(f"the reward has {len(vector)} numbers and the law {d} coordinates", "give one each")
    if isinstance(reward, Linear):
        moved = full @ vector
        log_weights = weights.log() + means @ vector + moved @ vector / 2
        return GaussianMixture(log_weights.softmax(0), means + moved, full)
    wide = full + reward.scale**2 * torch.eye(d, dtype=torch.float64)
    gain = torch.linalg.solve(wide, full).transpose(1, 2)  # Sigma (Sigma + s^2)^-1
    gap = vector - means
    distance = (gap * torch.linalg.solve(wide, gap[..., None])[..., 0]).sum(1)
    log_weights = weights.log() - distance / 2 - torch.linalg.slogdet(wide).logabsdet / 2
    covariances = full - gain @ full
    covariances = (covariances + covariances.transpose(1, 2)) / 2
    return GaussianMixture(log_weights.softmax(0), means + (gain @ gap[..., None])[..., 0], covariances)


def _full(covariance: Tensor, d: int) -> Tensor:
    if covariance.ndim == 2:
        return covariance
    return torch.diag(covariance) if covariance.ndim == 1 else covariance * torch.eye(d, dtype=torch.float64)
