r"""Every bound, certificate and identity of a finished run beside the measured value (this project, theory 3 and 4).

Nothing is simulated again: records give energies, eta and divergences, and the stored models (checked against their
hashes) give innovations :math:`\delta_i = (\hat p^{i+1} - q_i)/\mu` on shared points.

========== ======================================== ==================================================================
reference  when                                     what it gives
========== ======================================== ==================================================================
p          densities known, chi2 against p finite   the identity for D_n = chi2 itself; everything else stated for chi2
mixture    densities known                          the identity, bracket and Minkowski where all is finite, but D_n is
                                                    the squared distance in L^2 of (p + all generations)/(N + 1)
features   always, from new rows of the models      the same in whitened feature coordinates; a lower bound of D_n
========== ======================================== ==================================================================

A field fitted in closed form is consistent: P_hat and P* both reverse the same diffusion, so
:math:`d\hat P/dP^*` is :math:`(\hat p/q)(Y_{t_0})`. Its mean is 1 (A2), and its tail (A3) is that of the end point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from driftlaw import seeding
from driftlaw.analysis.collapse import collapse_profile
from driftlaw.analysis.opened import OpenRun
from driftlaw.analysis.report import Accumulation, BoundsReport, Statement, reference_words
from driftlaw.analysis.statements import (
    Rows,
    accumulated,
    against_p,
    certificates,
    one_step,
    proposition_4_1,
    score_field,
)
from driftlaw.errors import InputError, nearest
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History
from driftlaw.loop.step.setting import law_of, training_law
from driftlaw.loop.study import Study
from driftlaw.measure.laws.divergence import log_densities, total_variation
from driftlaw.measure.laws.tails import pareto_k
from driftlaw.measure.sets.innovations import BLOCKS, Innovations, density_innovations, feature_innovations
from driftlaw.process.laws.law import ExactLaw, diffuse
from driftlaw.seeding import stream_seed
from driftlaw.theory.accumulation import accumulated_drift, alignment
from driftlaw.theory.bounds import Evidence
from driftlaw.theory.propagator import propagator
from driftlaw.theory.regimes import classify

REFERENCES = ("p", "mixture", "features")
SAMPLE_ONLY = (
    "no densities: the accumulation identity, bracket, Minkowski, steady states and the regime are in feature "
    "coordinates; Prop 3.1, 3.3, Thm 3.4, floors and the TV certificate need the densities of target and models"
)


def analyse(
    history: History,
    *,
    samples: int = 4000,
    seed: int = 0,
    reference: str | None = None,
    study: Study | None = None,
) -> BoundsReport:
    """Put every statement that applies to a run beside its measured value; public as ``driftlaw.bounds``.

    Args:
        history: a finished or growing run.
        samples: points of the innovations and draws of each law; feature coordinates draw as many rows from each model
            as there are held-out ones.
        seed: seed of the named streams.
        reference: "p", "mixture" or "features" where the accumulation identity shall be in one of them; None takes all
            that the run allows, features only where no densities are known.
        study: the study that the run was started with, where it holds a part of one's own.

    Returns:
        The report; ``report.save(directory)`` stores it.

    Raises:
        InputError: no finished generation, too few samples, or a reference that this run does not have; the message
            says which are available.
        CorruptFileError: a stored model or sample file is not the one that the run wrote.

    Example:
        >>> import tempfile
        >>> import driftlaw as dl
        >>> study = dl.Study(source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=100,
        ...     generations=2, measures={"samples": 0, "density_samples": 200, "path_samples": 200})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = list(dl.run(study, out=f"{folder}/run"))
        ...     report = dl.bounds(dl.load(f"{folder}/run"), samples=400)
        >>> report.main.reference, report.main.reconstruction_error < 1e-12
        ('mixture', True)
    """
    if not len(history):
        raise InputError(f"{history.directory.path} has no finished generation", "go on with `driftlaw resume`")
    if samples < 2 * BLOCKS:
        raise InputError(f"{samples} samples were asked for", f"use at least {2 * BLOCKS}, better thousands")
    run = _Run(history, samples, seed, study)
    chosen, notes = _references(run, reference)
    statements: list[Statement] = []
    found = {name: run.innovations(name) for name in chosen}
    energies = [g.path.energy_ideal for g in history] if run.paths_known else None
    for innovations in found.values():
        statements += accumulated(run.rows, innovations, energies)
    if run.dense:
        statements += _density_statements(run, found.get("p"))
        if not run.paths_known:
            notes.append("path measures are missing: Prop 3.1, 3.3, 4.1, Thm 3.4 and the TV certificate need them")
        elif not run.one_t0:
            notes.append("generations stop at different times: Prop 4.1 and the TV certificate are left out")
    if not run.paths_known:
        fields = [s for g in history for s in score_field(g.index, g.path)]
        statements += fields
        if fields and (solver := _ode_solver(history)):
            notes.append(
                f"rows were drawn by an ODE ({solver}); path bounds are about the reverse diffusion of the same score. "
                "For the ODE's law KL = KL_T + 1/2 int E[e . grad log p_hat/q] dt: no bound by the energy of e alone"
            )
    if any(g.selection for g in history):
        notes.append("samples were selected: innovations are of training and selection together")
    last = len(history) + 1
    return BoundsReport(
        study=str(history.config.get("name", "")),
        generations=len(history),
        t0=run.t0 if run.paths_known else math.nan,
        samples=samples,
        seed=seed,
        statements=tuple(sorted(statements, key=lambda s: s.generation or last)),
        accumulations=tuple(_accumulation(run.rows, i) for i in found.values()),
        notes=tuple(notes),
        collapse=collapse_profile(history),
    )


#: The public name: ``driftlaw.bounds(history)``.
bounds = analyse


class _Run(OpenRun):
    """A run opened for bounds."""

    def __init__(self, history: History, samples: int, seed: int, study: Study | None) -> None:
        super().__init__(history, study)
        self.points, self.seed = samples, seed
        N = len(history)
        fresh, mixing = self.setting.rows
        self.rows = Rows(fresh[:N], mixing[:N, : N + 1])
        self.dense = all("kl" in g.divergence and "kl" in g.one_step for g in history)
        paths = self.dense and all(g.path.known for g in history)
        self.paths_known = paths and hasattr(self.model(1), "fitted")

    @property
    def target(self) -> ExactLaw:
        """The density of p."""
        return self.study.source.law  # type: ignore[no-any-return]

    @property
    def model_t0(self) -> float:
        """Time at which models are sampled."""
        return float(getattr(self.model(1), "t0", 0.0)) if self.dense else 0.0

    @property
    def t0(self) -> float:
        """Time at which path measures compare laws; of generation 1 where it changes."""
        return self.t0_of(1)

    def t0_of(self, index: int) -> float:
        """Time at which path measures compare the laws of generation `index`."""
        return float(getattr(self.model(index), "t0", 0.0)) or self.study.measures.t0

    @cached_property
    def one_t0(self) -> bool:
        """Whether all generations are compared at one time."""
        return len({self.t0_of(n) for n in range(1, len(self.history) + 1)}) == 1

    def stream(self, *path: int | str) -> int:
        """Seed of a named stream."""
        return stream_seed(self.seed, "bounds", *path)

    def innovations(self, reference: str) -> Innovations:
        """Innovations of all generations in one reference law."""
        N = len(self.history)
        if reference in {"p", "mixture"}:
            laws = [law for n in range(1, N + 1) if (law := law_of(self.model(n))) is not None]
            seed = self.stream("innovations")
            return density_innovations(
                self.target, laws, *self.rows.pair, n=self.points, seed=seed, reference=reference
            )
        found = self.setting.reference
        assert found is not None
        held_out = self.setting.held_out
        assert held_out is not None
        phi = found.features
        # a stored row that trained the next model shares its noise with that model: new rows do not
        m = max(len(held_out), 2 * BLOCKS)
        draws = [seeding.generator(self.seed, "bounds", "rows", n) for n in range(1, N + 1)]
        sets = [self.model(n).sample(m, g).cpu() for n, g in enumerate(draws, start=1)]
        return feature_innovations(
            phi.in_parts, held_out.x, sets, *self.rows.pair, seed=self.stream("blocks"), name=phi.name
        )


def _ode_solver(history: History) -> str | None:
    """The solver of a network that was sampled by an ODE."""
    estimator = history.config.get("estimator")
    settings = estimator if isinstance(estimator, dict) else {}
    grouped = settings.get("sampling")
    solver = (grouped if isinstance(grouped, dict) else settings).get("solver")
    return solver if solver in ("euler", "heun", "multistep") else None


def _references(run: _Run, asked: str | None) -> tuple[list[str], list[str]]:
    """The reference laws to use, and notes on those that cannot be."""
    if asked is not None and asked not in REFERENCES:
        raise InputError(f"unknown reference {asked!r}", nearest(asked, REFERENCES))
    why: dict[str, str] = {}
    if not run.dense:
        why["p"] = why["mixture"] = "this run has no densities of target and models"
    elif reason := _not_in_p(run):
        why["p"] = reason
    if run.setting.reference is None:
        why["features"] = (
            "this run has no held-out rows to compare with (measures.samples is 0, or the source is small)"
        )
    available = [name for name in REFERENCES if name not in why]
    if not available:
        raise InputError(f"no bound can be given: {'; '.join(dict.fromkeys(why.values()))}", SAMPLE_ONLY)
    if asked in why:
        raise InputError(
            f"bounds in {reference_words(asked)} cannot be given: {why[asked]}",
            f"available: {', '.join(available)}",
        )
    if asked is not None:
        return [asked], []
    if not run.dense:
        return ["features"], [SAMPLE_ONLY]
    if "p" in why:
        return ["mixture"], [f"{why['p']}: the identity, bracket and Minkowski are in {reference_words('mixture')}"]
    return ["p", "mixture"], []


def _not_in_p(run: _Run) -> str:
    """Why L^2(p) cannot be used, from the tail verdicts in the records; empty if it can."""
    found = {g.index: g.divergence["chi2"] for g in run.history}
    for words, bad in (
        ("infinite", [n for n, e in found.items() if e.is_infinite]),
        ("unknown", [n for n, e in found.items() if e.is_refused]),
        ("of infinite variance", [n for n, e in found.items() if math.isnan(e.stderr) and not e.is_refused]),
    ):
        if bad:
            return f"chi2 against p is {words} at generation {bad[0]} ({'; '.join(found[bad[0]].warnings)})"
    return ""


def _density_statements(run: _Run, in_p: Innovations | None) -> list[Statement]:
    """Everything that needs densities."""
    history, rows = run.history, run.rows
    drift: Sequence[Estimate] = [g.divergence["chi2"] for g in history] if in_p is None else in_p.drift
    one_step_chi2 = [g.one_step["chi2"] for g in history]
    one_step_tv = [g.one_step["tv"] for g in history]
    found = list(against_p(rows, one_step_chi2, one_step_tv, drift, None if in_p is None else in_p.sizes))
    if not run.paths_known:
        return found
    p0, tv, tails = diffuse(run.target, run.t0), [], []
    paths = [g.path for g in history]
    for n, path in enumerate(paths, start=1):
        r = diffuse(run.model(n).fitted, run.t0_of(n))  # type: ignore[attr-defined]
        if run.one_t0:
            tv.append(total_variation(log_densities(r, p0, n=run.points, seed=run.stream("tv", n))))
        tails.append(_end_tail(run, n, r))
        evidence = _evidence(path.energy_learned, tails[-1], tails[-1:], [path.chi2])
        found += one_step(n, path, evidence)
    if not run.one_t0:
        return found
    blur = None
    if run.model_t0 > 0:
        blur = total_variation(log_densities(p0, run.target, n=run.points, seed=run.stream("blur")))
    worst = max(tails, key=lambda k: k.high if not k.is_refused else -math.inf)
    energies = max((p.energy_learned for p in paths), key=float)
    audited = _evidence(energies, worst, tails, [p.chi2 for p in paths])
    found += proposition_4_1(rows, paths, drift, audited, run.model_t0)
    found += certificates(rows, paths, tv, blur, audited)
    return found


def _evidence(energy: Estimate, tail: Estimate, tails: Sequence[Estimate], chi2: Sequence[Estimate]) -> Evidence:
    """What is known about A1-A5 for consistent fields."""
    mean = Estimate.exact(1.0, "dP_hat/dP* is p_hat/q at t0: both reverse one diffusion")
    why = next((w for e in chi2 if e.is_infinite and e.method == "exact tail test" for w in e.warnings), "")
    return Evidence(eps_hat2=energy, density_mean=mean, density_tail=tail, generation_tails=tails, infinite=why)


def _end_tail(run: _Run, n: int, r: ExactLaw) -> Estimate:
    """Tail index of p_hat/q at t0 under q, which for consistent fields is that of the path density under P*."""
    chi2 = run.history[n].path.chi2
    if chi2.is_infinite:
        return Estimate(0.5, 0.0, 0.5, math.inf, 0, "exact tail test", chi2.warnings)
    q = training_law(run.setting, n, run.past)
    assert q is not None
    return pareto_k(log_densities(r, diffuse(q, run.t0_of(n)), n=run.points, seed=run.stream("tail", n)).ratio_at_q)


def _accumulation(rows: Rows, found: Innovations) -> Accumulation:
    G = propagator(rows.pair)
    drift = np.array([e.value for e in found.drift])
    rebuilt = accumulated_drift(G, found.gram)
    scale = max(float(abs(drift).max()), np.finfo(float).tiny)
    return Accumulation(
        reference=found.reference,
        method=found.method,
        n=found.n,
        propagator=G,
        gram=found.gram,
        gram_stderr=found.gram_stderr,
        drift=found.drift,
        sizes=found.sizes,
        alignment=found.statistic(alignment, "alignment"),
        reconstruction_error=float(abs(drift - rebuilt).max()) / scale,
        regime=classify(found.drift, rows.pair, found.gram),
    )
