r"""What an adaptive policy is told after each generation, and where its answer is kept.

Rows that the next model was trained on say too little about its innovation: their own noise is part of the training
law, and cancels. So `measures.samples` new rows are drawn from each model for this purpose, and compared with the
held-out rows of the target in the feature coordinates of the study, by products of means across blocks
(:func:`driftlaw.measure.sets.innovations.block_innovations`), which are unbiased. From them come the mean size of
the innovations, their alignment for equal sizes, and the number of directions that their independent part is spread
over,

.. math:: J = \mathrm{mean}_i\, \Gamma_{ii}, \qquad \kappa = \mathrm{mean}_{i \ne j}\, \Gamma_{ij} / J, \qquad
   r = ((1-\kappa) J)^2 / \mathrm{mean}_{i<j} (\Gamma_{ij} - \kappa J)^2,

the last because independent innovations of covariance C have :math:`E \Gamma_{ij}^2 = \mathrm{tr}\,C^2`. r lies between
1 and the number of features, which is also what is taken before 4 generations are there. Besides the jackknife over
blocks, the standard errors of J and kappa carry the fluctuation of the innovations themselves, :math:`J \sqrt{2/(rn)}`
and :math:`1/\sqrt{r\,n(n-1)/2}`.

The decision for generation n + 1 is written to ``generations/NNN/decision.json`` before its training starts and its
hash is part of the generation's record: a killed run resumes with the fraction it had, and the evidence stays readable.

Reference: this project, theory sections 4, 5 and 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from driftlaw.errors import ConfigError, CorruptFileError, InputError
from driftlaw.estimate import Estimate
from driftlaw.learn.estimator import Model
from driftlaw.loop.step.setting import Setting
from driftlaw.loop.store import read_json, write_json
from driftlaw.measure.sets.innovations import BLOCKS, Innovations, block_innovations, block_means
from driftlaw.theory.adaptive import AdaptivePolicy, Observed
from driftlaw.theory.refresh import Array

#: File of a decision in the folder of its generation.
DECISION = "decision.json"
#: Fewer generations than this say nothing about the number of directions.
ENOUGH_GENERATIONS = 4


class Observer:
    """Draws and remembers what is compared: one set of block means for the target and for each model.

    Args:
        setting: the study, with the fractions decided so far.
        model: p_hat^n.
    """

    def __init__(self, setting: Setting, model: Callable[[int], Model]) -> None:
        self.setting, self.model = setting, model
        self._means: dict[int, Array] = {}

    def innovations(self, generations: int) -> Innovations:
        """Innovations of generations 1..n in the feature coordinates of the study.

        Raises:
            InputError: no held-out rows to compare with.
        """
        setting, study = self.setting, self.setting.study
        reference, held_out = setting.reference, setting.held_out
        if reference is None or held_out is None:
            raise InputError("this study has no held-out rows to compare with", "set measures.samples to 40 or more")
        phi = reference.features
        for n in range(generations + 1):
            if n not in self._means:
                draw = setting.stream("adaptive", "rows", n)
                rows = self.model(n).sample(study.measures.samples, draw).cpu() if n else held_out.x
                self._means[n] = block_means(phi.in_parts(rows))
        fresh, mixing = setting.rows
        means = np.stack([self._means[n] for n in range(generations + 1)])
        return block_innovations(
            means, fresh[:generations], mixing[:generations, : generations + 1], len(held_out), phi.name
        )

    def observe(self, generations: int) -> Observed:
        """What generations 1..n show."""
        found = self.innovations(generations)
        fractions = self.setting.rows[0][:generations]
        return observe(found, [float(a) for a in fractions], self._means[0].shape[1])


def observe(found: Innovations, fractions: Sequence[float], features: int) -> Observed:
    """Drift, size, alignment and dimension of innovations.

    Args:
        found: innovations of generations 1..n.
        fractions: ``[n]``, the fractions of fresh data that they were trained with.
        features: number of features, an upper bound of the dimension.
    """
    gram, n = found.gram, len(found.gram)
    pairs = np.triu_indices(n, k=1)

    def ratio(g: np.ndarray) -> float:
        mean = float(np.diag(g).mean())
        return float(g[pairs].mean()) / mean if mean > 0 else math.nan

    size = found.statistic(lambda g: float(np.diag(g).mean()), "mean size of innovations")
    kappa = found.statistic(ratio, "alignment") if n > 1 else Estimate.refused("alignment", "one generation")
    dimension = float(features)
    if n >= ENOUGH_GENERATIONS and not kappa.is_refused and size.value > 0:
        apart = gram[pairs] - kappa.value * size.value
        spread = float((apart**2 - found.gram_stderr[pairs] ** 2).mean())
        independent = max(0.0, 1 - kappa.value) * size.value
        dimension = min(dimension, max(1.0, independent**2 / spread)) if spread > 0 else dimension
    size = _wider(size, abs(size.value) * math.sqrt(2 / (dimension * n)))
    if not kappa.is_refused:
        kappa = _wider(kappa, 1 / math.sqrt(dimension * n * (n - 1) / 2))
    return Observed(tuple(fractions), found.drift[-1], size, kappa, dimension)


def _wider(e: Estimate, stderr: float) -> Estimate:
    """An estimate with a further, independent error."""
    if e.is_refused:
        return e
    return Estimate.normal(e.value, math.hypot(e.stderr, stderr), e.n, e.method, e.warnings, dof=BLOCKS - 1)


def check(setting: Setting) -> None:
    """Find out before anything is written whether an adaptive policy can be told anything.

    Raises:
        ConfigError: too few rows to compare.
    """
    least = 2 * BLOCKS
    held_out = 0 if setting.held_out is None else len(setting.held_out)
    if min(held_out, setting.smallest) < least:
        raise ConfigError(
            f"an adaptive policy compares at least {least} rows with {least} held-out ones; this study has "
            f"{setting.smallest} and {held_out}",
            f"set samples and measures.samples to {least} or more",
        )


def decide(observer: Observer, policy: AdaptivePolicy, folder: Path) -> str:
    """Ask the policy for the fraction of the next generation, or read what it said before the run was killed.

    Args:
        observer: of the generations so far; its setting learns the new fraction.
        policy: of the study.
        folder: of the next generation.

    Returns:
        SHA-256 of the file with the decision.

    Raises:
        CorruptFileError: the file is damaged.
        InputError: the policy's answer is not a fraction in [0, 1].
    """
    path = folder / DECISION
    setting = observer.setting
    done = len(setting.decided)
    if path.is_file():
        try:
            document = read_json(path)
            alpha = float(document["alpha"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise CorruptFileError(f"{path} is damaged ({error})", "delete it and resume") from error
    else:
        observed = observer.observe(done) if done else None
        alpha = float(policy.next_alpha(observed))
        document = {"alpha": alpha, "observed": None if observed is None else observed.to_json()}
    if not 0 <= alpha <= 1:
        raise InputError(f"the policy wants a fraction of {alpha} in generation {done + 1}", "use a number in [0, 1]")
    setting.decide(alpha)
    return write_json(path, document)
