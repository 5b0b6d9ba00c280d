"""How many rows each generation learns, from where, and how many of its own are stored.

Row n-1 of the policy gives the weights of generation n (theory section 4). Where the weights follow from row counts
(pooled blocks, a fixed real set) the counts come first and the weights are theirs exactly; else a training set has
`samples` rows that follow the weights.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from driftlaw import seeding
from driftlaw.errors import ConfigError
from driftlaw.loop.branches.shared import Shared
from driftlaw.loop.step.training import largest_remainder
from driftlaw.loop.study import Study
from driftlaw.theory.adaptive import AdaptivePolicy
from driftlaw.theory.refresh import Schedule, check_rows


class Allocation:
    """Rows of the training sets of a study; :class:`driftlaw.loop.step.setting.Setting` is one."""

    study: Study
    decided: list[float]
    shared: Shared

    def _check_blocks(self) -> None:
        """Refuse a policy that takes more rows of one generation than are stored of it."""
        first = max(2, len(self.shared) + 1)
        for index in range(first, self.study.generations + 1 if self.adaptive is None else first):
            fresh, taken = self.counts(index)
            over = [j for j, count in enumerate(taken) if count > self.stored(j)]
            if over:
                j = over[0]
                raise ConfigError(
                    f"the policy takes {taken[j]} rows of generation {j} to train generation {index}, "
                    f"but {self.stored(j)} are stored of it",
                    f"give it a weight of at most {self.stored(j) / (fresh + int(taken.sum())):g}",
                )

    def stored(self, index: int) -> int:
        """Rows of block `index`: the real rows that generation 1 learns, or the stored samples of a model.

        Model j stores as many rows as the next training set has, so that block j has the size of generation j + 1.
        """
        if index and index <= len(self.shared):
            return self.shared.records[index - 1].samples
        return self.counts(1)[0] if self.shared and not index else self.study.size(index + 1)

    @cached_property
    def smallest(self) -> int:
        """Rows of the smallest block."""
        return min(self.stored(j) for j in range(self.study.generations))

    @cached_property
    def _of_blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Weights and row counts where they follow from the sizes of blocks."""
        blocks = getattr(self.study.policy, "rows_of_blocks", None)
        if blocks is None:
            return None
        fresh, mixing, totals = blocks([self.stored(j) for j in range(self.study.generations)])
        return *check_rows(fresh, mixing), np.asarray(totals, dtype=np.float64)

    def total(self, index: int) -> int:
        """Rows of the training set of generation `index`."""
        if index == 1:
            return self.study.size(1)
        if self._of_blocks is not None:
            return int(self._of_blocks[2][index - 1])
        return sum(self.stored(j) for j in range(index)) if self.grows else self.study.size(index)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """``(fresh [N], mixing [N, N+1])`` of the policy; all fresh where an adaptive one has not decided yet."""
        N, policy = self.study.generations, self.study.policy
        if self.adaptive is not None:
            policy = Schedule([*self.decided, *[1.0] * (N - len(self.decided))])
        found = policy.rows(N) if self._of_blocks is None else self._of_blocks[:2]
        fresh, mixing = (np.array(part, float) for part in found)
        for i, record in enumerate(self.shared.records):
            fresh[i], mixing[i] = record.fresh, 0.0
            mixing[i, : i + 1] = record.mixing
        return fresh, mixing

    @property
    def adaptive(self) -> AdaptivePolicy | None:
        """The policy if its rows are known only after each generation."""
        policy = self.study.policy
        return policy if isinstance(policy, AdaptivePolicy) else None

    def decide(self, alpha: float) -> None:
        """Add the fraction of the next generation; what follows from the rows is found anew."""
        self.decided.append(alpha)
        for name in ("rows", "population_tails"):
            self.__dict__.pop(name, None)

    @property
    def grows(self) -> bool:
        """Whether training sets hold several blocks whole."""
        return bool(getattr(self.study.policy, "grows", False))

    def counts(self, index: int) -> tuple[int, np.ndarray]:
        """Rows of generation `index`'s training set: fresh real rows, and ``[index]`` rows of p_hat^0..p_hat^{index-1}.

        Generation 1 trains on p whatever the policy says, because p_hat^0 = p: all its rows are fresh.
        """
        fresh, mixing = self.rows
        if index <= len(self.shared):
            lineage = self.shared.records[index - 1].lineage
            taken = lineage.fresh + lineage.reused
            return taken, np.array([lineage.real - taken, *(lineage.models.get(j, 0) for j in range(1, index))])
        if index == 1:
            return self.study.size(1), np.zeros(1, int)
        total = self.total(index)
        weights = np.concatenate([fresh[index - 1 : index], mixing[index - 1, :index]])
        if self.study.mixing == "multinomial":
            rng = seeding.numpy_generator(self.study.seed, "generation", index, "counts")
            counts = rng.multinomial(total, weights / weights.sum())
        else:
            counts = largest_remainder(weights, total)
        return int(counts[0]), counts[1:]

    def fresh_before(self, index: int) -> int:
        """Fresh rows that generations 1..index-1 have used: where generation `index` starts in the supply."""
        return sum(self.counts(k)[0] for k in range(1, index))

    def fresh_bound(self) -> int:
        """Most fresh rows that the whole run takes from the supply."""
        study = self.study
        certain = self.adaptive is None and not self.grows
        return (
            self.fresh_before(study.generations + 1)
            if certain
            else sum(map(study.size, range(1, study.generations + 1)))
        )
