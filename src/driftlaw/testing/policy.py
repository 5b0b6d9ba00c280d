"""The contract of a policy: rows of weights, whether the training set grows, and plain settings."""

from __future__ import annotations

from typing import Any

import numpy as np

from driftlaw.errors import DriftlawError
from driftlaw.estimate import Estimate
from driftlaw.kinds import POLICIES
from driftlaw.learn.gaussian import GaussianMLE
from driftlaw.loop.step.setting import Setting
from driftlaw.loop.study import Study
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.testing.checking import check_config, report, require
from driftlaw.theory.adaptive import AdaptivePolicy, Observed
from driftlaw.theory.refresh import check_rows


def check_policy(policy: Any, *, generations: int = 8, samples: int = 60) -> None:
    """Check a refresh policy in a study of `generations` generations of `samples` rows.

    Checked: ``rows(N)`` gives ``(fresh [N], mixing [N, N + 1])`` whose rows are weights that sum to 1 and use no later
    model, the same in each call; ``grows`` says whether generation n trains on n blocks; no generation takes more rows
    of a model than are stored; ``config()`` is plain data and names no other class. A policy with ``next_alpha`` is
    asked before and after a generation instead of for its rows.

    Raises:
        ConformanceError: everything that failed.

    Example:
        >>> from driftlaw.theory.refresh import Window
        >>> check_policy(Window(3, fresh=0.25))
    """

    def rows() -> None:
        if isinstance(policy, AdaptivePolicy):
            for observed in (None, _observed()):
                alpha = policy.next_alpha(observed)
                require(0 <= float(alpha) <= 1, f"next_alpha gives {alpha}: a fraction in [0, 1] was expected")
                require(alpha == policy.next_alpha(observed), "next_alpha gives another fraction when asked again")
            return
        require(callable(getattr(policy, "rows", None)), "it has no rows(N)")
        for N in range(1, generations + 1):
            try:
                first, second = (check_rows(*policy.rows(N)) for _ in range(2))
            except DriftlawError as error:
                raise AssertionError(f"rows({N}): {error}") from None
            same = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
            require(same, f"rows({N}) gives other weights when it is asked again")
            require(len(first[0]) == N, f"rows({N}) gives {len(first[0])} rows")

    def grows() -> None:
        value = getattr(policy, "grows", None)
        require(
            isinstance(value, bool),
            "grows is not there: True where generation n trains on n blocks of `samples` rows, else False",
        )

    def counts() -> None:
        law = GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
        study = Study(
            source=law,
            estimator=GaussianMLE(),
            policy=policy,
            samples=samples,
            generations=generations,
            measures={"samples": 0},
        )
        Setting(study).prepare()

    def settings() -> None:
        check_config(policy, POLICIES)

    report(policy, [rows, grows, counts, settings])


def _observed() -> Observed:
    known, unknown = Estimate.exact(0.1, "given"), Estimate.refused("given", "one generation")
    return Observed((1.0,), known, known, unknown, 4.0)
