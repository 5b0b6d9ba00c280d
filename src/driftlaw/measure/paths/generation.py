r"""The path measures of one generation whose training law q and learned law p_hat are both known exactly.

All laws are compared at :math:`t_0` (theory section 1): :math:`\hat p = P_{t_0} \hat Q` against :math:`P_{t_0} q`,
where :math:`\hat Q` is the fitted law at time 0. With the score of a diffused law, [KTV] Prop 3.1 is the equality
:math:`KL(\hat p \| q)_{t_0} = KL(\hat p \| q)_T + \hat\varepsilon^2 / 2` (theory 3.1), so these numbers check
each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from driftlaw.estimate import Estimate
from driftlaw.measure.laws.divergence import (
    LogDensities,
    SharedDraws,
    chi2,
    kl,
    reverse_kl,
    total_variation,
    with_names,
)
from driftlaw.measure.paths.observability import observability_of_laws
from driftlaw.measure.paths.path import Horizon, StandardNormal, path_energy, time_density
from driftlaw.process.laws.law import Diffused, ExactLaw
from driftlaw.records import Record
from driftlaw.seeding import generator, stream_seed

#: Reason given where a study has no exact scores.
#: The compared laws as warnings name them.
AT_T0 = ("p_hat_t0", "q_t0")
UNKNOWN = Estimate.refused("path measure", "the score of the training law is not known")


@dataclass(frozen=True)
class PathMeasures(Record):
    """Path measures of one generation, p_hat^{i+1} against q_i; refused where a score is not known.

    Args:
        energy_ideal: eps*^2, path score-error energy under the ideal path (nats).
        energy_learned: eps_hat^2, under the learned path (nats).
        observability: eta in [0, 1].
        kl, kl_reverse: KL(p_hat || q) and KL(q || p_hat) at t0 (nats).
        tv: total variation at t0.
        chi2: chi2(p_hat || q) at t0.
        kl_initial, kl_initial_reverse: KL(p_hat || q) and KL(q || p_hat) at T: the initialisation terms of a reverse
            process that starts at the learned law's own p_hat_T (nats).
        kl_standard: KL(N(0, I) || q_T), the initialisation term of a process that starts at N(0, I) (nats).
        gradient_energy: G^2, the part of eps*^2 that the marginals can see (theory 3.4): all of it for scores of laws,
            a lower bound by a critic for other score fields.
        kl_standard_reverse: KL(q_T || N(0, I)) (nats): the initialisation term of KL(q || p_hat).
    """

    energy_ideal: Estimate = UNKNOWN
    energy_learned: Estimate = UNKNOWN
    observability: Estimate = UNKNOWN
    kl: Estimate = UNKNOWN
    kl_reverse: Estimate = UNKNOWN
    tv: Estimate = UNKNOWN
    chi2: Estimate = UNKNOWN
    kl_initial: Estimate = UNKNOWN
    kl_initial_reverse: Estimate = UNKNOWN
    kl_standard: Estimate = UNKNOWN
    gradient_energy: Estimate = UNKNOWN
    kl_standard_reverse: Estimate = UNKNOWN

    @property
    def known(self) -> bool:
        """Whether the score of the training law is known, and with it the energies."""
        return not self.energy_ideal.is_refused

    def items(self) -> Iterator[tuple[str, Estimate]]:
        """Names and estimates of what was measured, as of a mapping."""
        return ((f.name, e) for f in fields(self) if (e := getattr(self, f.name)) is not UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready mapping; empty if nothing was measured."""
        return {name: e.to_json() for name, e in self.items()}


def path_measures(
    p_hat: ExactLaw,
    q: ExactLaw,
    *,
    t0: float = 0.02,
    T: float = 4.0,
    n: int = 4096,
    density_samples: int = 10_000,
    seed: int = 0,
    target_se: float | None = None,
    tail: tuple[float, float] | None = None,
    ends: LogDensities | None = None,
) -> PathMeasures:
    """Measure one generation of exact laws.

    A pilot says at which times draws are worth most, for both energies and observability; p_hat, q and N(0, I) at T are
    evaluated once at shared draws for all initialisation terms.

    Args:
        p_hat: the fitted law at time 0 (KDE, mixture).
        q: the training law at time 0.
        t0: early-stopping time, > 0, where the laws are compared.
        T: horizon.
        n: draws of each energy; observability uses half as many starting points.
        density_samples: draws of each law for KL, TV and chi2 at t0.
        seed: seed of the named streams.
        target_se: relative standard error of the energies and of observability to reach.
        tail: largest component variances of both laws at t0 averaged over training draws, for the exact tail test.
        ends: log densities of both laws at t0, if they were taken already; `density_samples` draws otherwise.

    Raises:
        InputError: not 0 < t0 < T, or values that are NaN.
    """

    def stream(name: str) -> int:
        return stream_seed(seed, "path measures", name)

    Horizon(t0, T)
    if ends is None:
        at_t0 = SharedDraws({"r": Diffused(p_hat, t0), "q": Diffused(q, t0)}, n=density_samples, seed=stream("t0"))
        ends = at_t0.log_densities("r", "q")
    shape = tuple(p_hat.sample(1, generator(stream("shape"))).shape[1:])
    at_T = SharedDraws(
        {"r": Diffused(p_hat, T), "q": Diffused(q, T), "normal": StandardNormal(shape)},
        n=max(100, min(n, density_samples)),
        seed=stream("T"),
    )
    late = at_T.log_densities("r", "q")
    times = time_density(p_hat, q, q, t0, T, n=max(64, n // 4), seed=stream("pilot"))

    def energy(law: ExactLaw, name: str) -> Estimate:
        return path_energy(p_hat, q, law, t0, T, n=n, seed=stream(name), target_se=target_se, density=times)

    ideal = energy(q, "ideal")
    return PathMeasures(
        energy_ideal=ideal,
        energy_learned=energy(p_hat, "learned"),
        observability=observability_of_laws(
            p_hat,
            q,
            t0,
            T,
            n=max(2, n // 2),
            seed=stream("observability"),
            target_se=target_se,
            density=times,
        ),
        kl=with_names(kl(ends), *AT_T0),
        kl_reverse=with_names(reverse_kl(ends), *AT_T0),
        tv=total_variation(ends),
        chi2=with_names(chi2(ends, tail), *AT_T0),
        kl_initial=kl(late),
        kl_initial_reverse=reverse_kl(late),
        kl_standard=kl(at_T.log_densities("normal", "q")),
        gradient_energy=replace(ideal, method=f"eps*^2: e = grad log p_hat_t/q_t is a gradient; {ideal.method}"),
    )
