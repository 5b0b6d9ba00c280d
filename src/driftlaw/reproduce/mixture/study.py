r"""The mixture study of [KTV] section 5, measured: one :class:`Step` for each alpha and generation i.

``measure_population`` runs the closed recursion of laws: no training set, no sampling error of a learner, every number
with the standard error of its own Monte Carlo average alone. ``measure_runs`` takes the same numbers from the records
of a finite study. Step i trains on q_i and makes p_hat^{i+1}; laws are compared at t0 (theory sections 1, 3, 4 and 6).
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from driftlaw.estimate import Estimate
from driftlaw.learn.kde import KDE
from driftlaw.loop import presets
from driftlaw.loop.history import History, read_model
from driftlaw.loop.run import threads
from driftlaw.loop.study import Study
from driftlaw.measure.laws.divergence import LogDensities, chi2_mixture, kl, log_densities, reverse_kl, total_variation
from driftlaw.measure.paths.observability import (
    first_order,
    observability,
    observability_of_laws,
)
from driftlaw.measure.paths.path import initial_kl, path_energy
from driftlaw.measure.paths.regression import observability_regression
from driftlaw.measure.sets.innovations import Innovations, density_innovations
from driftlaw.process.laws.law import ExactLaw
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.reproduce.mixture.population import population
from driftlaw.reproduce.mixture.ratio import chi2_of_mixtures
from driftlaw.seeding import generator, stream_seed
from driftlaw.theory.refresh import FixedFraction

#: The protocol of [KTV] section 5.
ALPHAS, GENERATIONS, BANDWIDTH, T0, T = (0.1, 0.5, 0.9), 20, 0.6, 0.02, 4.0
#: Generations whose clouds are drawn, and at which the regression of [KTV] is run.
SHOWN = (0, 1, 4, 9, 19)
#: Points of each cloud.
CLOUD = 400

#: ``watch(done, total, what)``.
Watch = Callable[[int, int, str], None]


def silent(done: int, total: int, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Step:
    """One generation: p_hat^{i+1} against q_i (``one_step``) and against p (``drift``), both at t0."""

    alpha: float
    index: int
    one_step: Mapping[str, Estimate]
    drift: Mapping[str, Estimate]
    second_moment_drift: Estimate


@dataclass(frozen=True)
class StudyNumbers:
    """What a study measured.

    Args:
        steps: ordered by alpha, then generation.
        innovations: by alpha; the Gram matrix in L^2 of the mixture of p and all generations.
        clouds: by (alpha, generation n), the first :data:`CLOUD` draws of p_hat^n; n = 0 is the target.
        generations: N.
        origin: "population" or "paper".
    """

    steps: tuple[Step, ...]
    innovations: Mapping[float, Innovations]
    clouds: Mapping[tuple[float, int], Tensor]
    generations: int
    origin: str

    @property
    def alphas(self) -> tuple[float, ...]:
        """Fresh fractions of the study, ascending."""
        return tuple(sorted({s.alpha for s in self.steps}))

    def at(self, alpha: float, index: int) -> Step:
        """The step of one generation."""
        return next(s for s in self.steps if s.alpha == alpha and s.index == index)


def measure_population(
    alphas: Sequence[float] = ALPHAS,
    generations: int = GENERATIONS,
    *,
    seed: int = 0,
    target_se: float = 0.01,
    workers: int = 1,
    watch: Watch = silent,
) -> StudyNumbers:
    """Measure the recursion of laws of the paper's mixture.

    Args:
        alphas: fresh fractions.
        generations: N.
        seed: seed of the named streams.
        target_se: relative standard error to reach for the energies and KL.
        workers: processes; they change the time, not the numbers.
        watch: told after each alpha.
    """
    jobs = [(alpha, generations, seed, target_se) for alpha in alphas]
    steps: list[Step] = []
    innovations: dict[float, Innovations] = {}
    clouds: dict[tuple[float, int], Tensor] = {}
    for k, part in enumerate(_parts(jobs, workers)):
        steps += part.steps
        innovations |= part.innovations
        clouds |= part.clouds
        watch(k + 1, len(jobs), f"alpha {alphas[k]:g}")
    return StudyNumbers(tuple(steps), innovations, clouds, generations, "population")


def _parts(jobs: Sequence[tuple[float, int, int, float]], workers: int) -> Iterator[StudyNumbers]:
    if min(workers, len(jobs)) < 2:
        yield from (measure_alpha(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(measure_alpha, *zip(*jobs, strict=True))


@threads(1)
def measure_alpha(alpha: float, generations: int, seed: int, target_se: float) -> StudyNumbers:
    """The part of :func:`measure_population` at one fresh fraction.

    On one thread: handing small blocks to a team of threads costs more than it gains, and adds no rounding.
    """
    p, policy = GaussianMixture.paper(), FixedFraction(alpha)
    target = p.diffuse(T0)
    steps: list[Step] = []
    laws: list[GaussianMixture] = []
    for n, g in enumerate(population(p, KDE(BANDWIDTH, t0=T0), policy, generations)):
        stream = stream_seed(seed, "reproduce", str(alpha), n)
        one = one_step_measures(g.fitted, g.training, n, seed=stream, target_se=target_se)
        drift = drift_measures(g.law, target, seed=stream_seed(stream, "drift"), target_se=target_se)
        moment = Estimate.exact(g.law.second_moment() / p.second_moment() - 1, "closed form")
        steps.append(Step(alpha, n, one, drift, moment))
        laws.append(g.law)
    fresh, mixing = policy.rows(generations)
    points, stream = draws(40_000, target_se), stream_seed(seed, "reproduce", "gram", str(alpha))
    found = density_innovations(p, laws, fresh, mixing, n=points, seed=stream)
    return StudyNumbers(tuple(steps), {alpha: found}, draw_clouds(alpha, p, laws, seed), generations, "population")


def draws(n: int, target_se: float) -> int:
    """Draws that go with a target: `n` at 1 %, fewer for a coarser one, never less than 200."""
    return max(200, round(n * min(1.0, (0.01 / target_se) ** 2)))


def target_of_a_run(target_se: float, runs: int) -> float:
    """Relative standard error that each of `runs` repetitions needs so that their mean has `target_se`.

    Errors of the mean are smaller by the root of the repetitions. A factor of 0.55 leaves room for what differs between
    runs, and for the uncertainty of a standard error that is itself estimated from few of them.
    """
    return target_se * max(1.0, 0.55 * math.sqrt(runs))


def paper_study(samples: int, generations: int, runs: int, target_se: float) -> Study:
    """One run of the finite study, at the alpha and seed that a sweep gives it.

    Sample-based measures are off: no figure needs them beside exact densities.

    Args:
        samples: rows of each training set.
        generations: N.
        runs: repetitions of each alpha.
        target_se: relative standard error of the energies and of observability, of the mean over the runs.
    """
    config = presets.preset("gmm", "paper") | {"samples": samples, "generations": generations}
    config["measures"] |= {"samples": 0, "target_se": target_of_a_run(target_se, runs)}
    return Study.from_config(config)


def draw_clouds(
    alpha: float, p: GaussianMixture, laws: Sequence[GaussianMixture], seed: int
) -> dict[tuple[float, int], Tensor]:
    """Points of the target and of the generations of :data:`SHOWN`."""
    found = {}
    for n in (0, *(i + 1 for i in SHOWN if i < len(laws))):
        law = p if n == 0 else laws[n - 1]
        found[alpha, n] = law.sample(CLOUD, generator(seed, "reproduce", "cloud", str(alpha), n))
    return found


def one_step_measures(
    fitted: GaussianMixture, training: GaussianMixture, index: int, *, seed: int, target_se: float
) -> dict[str, Estimate]:
    """Path measures of p_hat^{i+1} against q_i; both laws at time 0, compared at t0."""
    r, q = fitted.diffuse(T0), training.diffuse(T0)
    ends = refined(r, q, target_se, seed, draws(20_000, target_se))
    late = log_densities(
        fitted.diffuse(T), training.diffuse(T), n=draws(10_000, target_se), seed=stream_seed(seed, "T")
    )
    ideal = path_energy(fitted, training, training, T0, T, n=draws(8192, target_se), seed=seed, target_se=target_se)
    chi2 = chi2_of_mixtures(r, q, n=draws(45_000, target_se), seed=seed)
    found = {
        "energy_ideal": ideal,
        "energy_learned": path_energy(
            fitted,
            training,
            fitted,
            T0,
            T,
            n=draws(8192, target_se),
            seed=stream_seed(seed, "learned"),
            target_se=target_se,
        ),
        "observability": observability_of_laws(fitted, training, T0, T, n=draws(8192, target_se), seed=seed),
        "observability_stein": observability(fitted, training, training, T0, T, n=draws(4096, target_se), seed=seed),
        "observability_first_order": first_order(chi2, ideal),
        "kl": kl(ends),
        "kl_reverse": reverse_kl(ends),
        "tv": total_variation(ends),
        "chi2": chi2,
        "chi2_reverse": chi2_of_mixtures(q, r, n=draws(15_000, target_se), seed=seed),
        "kl_initial": kl(late),
        "kl_standard": initial_kl(training, T, n=draws(20_000, target_se), seed=seed),
    }
    if index in SHOWN:
        found["observability_regression"] = observability_regression(
            fitted, training, training, T0, T, n=draws(2500, target_se), seed=seed, steps=60
        )
    return found


def refined(r: GaussianMixture, q: GaussianMixture, target_se: float, seed: int, n: int = 20_000) -> LogDensities:
    """Log densities with as many draws as KL(r || q) needs to reach `target_se`, at most 16 times `n`."""
    first = log_densities(r, q, n=n, seed=seed)
    at_first = kl(first)
    if at_first.stderr <= target_se * at_first.value:
        return first
    needed = 1.1 * n * (at_first.stderr / (target_se * at_first.value)) ** 2
    return log_densities(r, q, n=math.ceil(min(needed, 16 * n)), seed=stream_seed(seed, "refined"))


def drift_measures(
    learned: GaussianMixture, target: GaussianMixture, *, seed: int, target_se: float
) -> dict[str, Estimate]:
    """Divergences of p_hat^{i+1} from P_{t0} p, both directions."""
    ends = log_densities(learned, target, n=draws(10_000, target_se), seed=seed)
    return {
        "kl": kl(ends),
        "kl_reverse": reverse_kl(ends),
        "tv": total_variation(ends),
        "chi2_mix": chi2_mixture(ends),
        "chi2": chi2_of_mixtures(learned, target, n=draws(15_000, target_se), seed=seed),
        "chi2_reverse": chi2_of_mixtures(target, learned, n=draws(15_000, target_se), seed=seed),
    }


def measure_runs(histories: Iterable[tuple[float, History]], seed: int = 0) -> StudyNumbers:
    """The same numbers from finite runs: mean over seeds with the standard error between them.

    Args:
        histories: alpha and run; runs of one alpha are repetitions. The Gram matrix and the clouds are the first's.
        seed: seed of the shared points of the Gram matrix.
    """
    groups: dict[float, list[History]] = {}
    for alpha, history in histories:
        groups.setdefault(alpha, []).append(history)
    steps, innovations, clouds = [], {}, {}
    N = min(len(h) for runs in groups.values() for h in runs)
    p = GaussianMixture.paper()
    for alpha, runs in sorted(groups.items()):
        for i in range(N):
            records = [h[i + 1] for h in runs]
            one = over_seeds([dict(g.path.items()) for g in records])
            if "chi2" in one and "energy_ideal" in one:
                one["observability_first_order"] = first_order(one["chi2"], one["energy_ideal"])
            drift = over_seeds([dict(g.divergence) for g in records])
            moments = over_seeds([dict(g.moments) for g in records])
            moment = moments.get("second_moment_drift", Estimate.refused("records", "not recorded"))
            steps.append(Step(alpha, i, one, drift, moment))
        first = runs[0]
        laws = [model_law(first, n) for n in range(1, N + 1)]
        fresh, mixing = FixedFraction(alpha).rows(N)
        innovations[alpha] = density_innovations(p, laws, fresh, mixing, n=4000, seed=seed)
        for n in (0, *(i + 1 for i in SHOWN if i < N)):
            clouds[alpha, n] = torch.from_numpy(np.array(first.samples(n)[:CLOUD]))
    return StudyNumbers(tuple(steps), innovations, clouds, N, "paper")


def model_law(history: History, n: int) -> ExactLaw:
    """The exact law at t0 of the model of generation n."""
    model = read_model(history.directory, KDE(BANDWIDTH, t0=T0), (GaussianMixture.paper().dim,), n)
    law: ExactLaw = model.law  # type: ignore[attr-defined]
    return law


def over_seeds(records: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """Mean of each estimate over repetitions; infinite or refused if one of them is; a single one as it is."""
    found = {}
    for name in dict.fromkeys(k for r in records for k in r):
        values = [r[name] for r in records if name in r]
        odd = next((e for e in values if not math.isfinite(e.value)), None)
        if odd is not None or len(values) == 1:
            found[name] = odd or values[0]
            continue
        mean = Estimate.mean(np.array([e.value for e in values]), f"mean over {len(values)} seeds; {values[0].method}")
        found[name] = mean
    return found
