"""dl.plan: closed forms, shapes of schedules, uncertainty that is carried, sources, and what it refuses."""

import json
import math

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.errors import DataNotFoundError, InputError, RunDirectoryError
from driftlaw.estimate import Estimate
from driftlaw.planning.evidence import read
from driftlaw.theory.planning import DriftModel, SampleNoise

GIVEN = {"innovation": 1.0, "alignment": 1.0}


def test_smallest_constant_fraction_in_closed_form():
    assert dl.plan(**GIVEN, budget=100.0, horizon=10).alpha == pytest.approx(0.1, abs=1e-12)
    independent = dl.plan(innovation=0.2, alignment=0.0, budget=1.0, horizon=10, objective="mean")
    assert independent.alpha == pytest.approx(1 - math.sqrt(0.8), abs=1e-12)
    assert independent.alpha_horizon < independent.alpha  # a short horizon is cheaper: drift is not there yet


@pytest.mark.parametrize("objective", ["max", "mean", "terminal"])
@pytest.mark.parametrize("alignment", [0.0, 0.4, 1.0])
def test_the_schedule_keeps_the_budget_with_no_more_than_the_constant(objective, alignment):
    p = dl.plan(innovation=0.5, alignment=alignment, budget=3.0, horizon=12, objective=objective, samples=200)
    assert p.feasible
    assert p.value <= 3.0
    assert {"max": max, "mean": np.mean, "terminal": lambda d: d[-1]}[objective](p.drift) == pytest.approx(p.value)
    assert p.fresh_total == pytest.approx(200 * sum(p.schedule))
    assert p.fresh_total <= 200 * 12 * p.alpha_horizon + 1e-6
    np.testing.assert_allclose(p.drift, DriftModel(0.5, alignment).drift(p.schedule))


def test_an_infeasible_budget_says_so_and_names_the_smallest():
    p = dl.plan(**GIVEN, budget=0.9, horizon=5)
    assert not p.feasible
    assert p.smallest_feasible_budget == pytest.approx(1.0)
    assert math.isnan(p.alpha)
    assert p.schedule == (1.0,) * 5
    assert dl.plan(**GIVEN, budget=p.smallest_feasible_budget, horizon=5).feasible


def test_a_total_of_fresh_samples():
    p = dl.plan(innovation=1.0, alignment=0.5, total_fresh=300, samples=100, horizon=10, objective="terminal")
    assert p.fresh_total == pytest.approx(300)
    assert p.schedule[-3:] == (1.0, 1.0, 1.0)
    both = dl.plan(innovation=1.0, alignment=0.5, total_fresh=1, budget=1.2, horizon=10)
    assert not both.feasible
    assert both.notes == ("the budget can be kept, but not with this total of fresh samples",)
    assert dl.plan(**GIVEN, total_fresh=0, horizon=4).drift == pytest.approx((1, 4, 9, 16))


def test_the_frontier_falls_and_the_best_schedule_is_never_worse():
    p = dl.plan(innovation=1.0, alignment=0.3, budget=5.0, horizon=8, objective="mean")
    best, constant = [f.best for f in p.frontier], [f.constant for f in p.frontier]
    assert (np.diff(best) <= 1e-9).all()
    assert all(b <= c for b, c in zip(best, constant, strict=True))
    assert best[-1] == pytest.approx(1.0)


def test_uncertainty_makes_the_plan_robust():
    J, kappa = Estimate.normal(1.0, 0.15, 50, "m"), Estimate.normal(0.4, 0.1, 50, "m")
    plain = dl.plan(innovation=1.0, alignment=0.4, budget=8.0, horizon=15)
    robust = dl.plan(innovation=J, alignment=kappa, budget=8.0, horizon=15)
    surer = dl.plan(innovation=J, alignment=kappa, budget=8.0, horizon=15, confidence=0.99)
    assert plain.alpha < robust.alpha < surer.alpha
    assert plain.margin == 1
    spread = dl.plan(innovation=J, alignment=kappa, budget=8.0, horizon=15, dimension=6)
    assert spread.margin > 1
    assert spread.alpha > robust.alpha
    unknown = dl.plan(innovation=1.0, alignment=Estimate.refused("kappa", "noise"), budget=8.0, horizon=15)
    assert unknown.alignment == 1.0
    assert "worst case" in unknown.notes[0]


def test_robust_plans_keep_the_budget_as_often_as_they_say():
    """150 measurements of J and kappa, confidence 0.8: at least 0.8 - 4 sd of the plans keep the budget."""
    rng, kept = np.random.default_rng(0), 0
    for _ in range(150):
        J, kappa = 1 + 0.2 * rng.standard_normal(), 0.5 + 0.1 * rng.standard_normal()
        p = dl.plan(innovation=Estimate.normal(J, 0.2, 9, "m"), alignment=Estimate.normal(kappa, 0.1, 9, "m"),
                    budget=12.0, horizon=8, confidence=0.8, objective="terminal")  # fmt: skip
        kept += DriftModel(1.0, 0.5).drift(p.schedule)[-1] <= 12.0
    assert kept / 150 >= 0.8 - 4 * math.sqrt(0.16 / 150)


def test_sample_noise_gives_the_golden_ratio():
    noise = SampleNoise(500, 500, 10)
    best = noise.best_weight
    floor = float(DriftModel(noise, 0.0).steady(best))
    p = dl.plan(innovation=noise, alignment=0.0, budget=floor, horizon=20)
    assert p.alpha == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-6)
    assert p.fresh_total == 500 * 20
    assert p.schedule[-1] == pytest.approx(best, abs=1e-5)
    with pytest.raises(InputError, match="total_fresh"):
        dl.plan(innovation=noise, alignment=0.0, total_fresh=10, horizon=20)


def test_start_from_a_drift():
    far = dl.plan(**GIVEN, budget=9.0, horizon=6, start=49.0)
    assert far.feasible
    assert far.schedule[0] > 0.5  # 7 -> 3: the first generation has to refresh
    assert max(far.drift) <= 9.0
    assert far.alpha >= 1 - 2 / 7 - 1e-9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "run"
    study = dl.Study(
        source=dl.GaussianMixture.paper(), estimator=dl.GaussianMLE(), policy=0.3, samples=100, generations=4,
        measures={"samples": 100, "path_samples": 0, "density_samples": 200},
    )  # fmt: skip
    list(dl.run(study, folder))
    return folder


def test_a_run_is_a_source(run):
    found = read(run)
    assert found.samples == 100
    assert "feature" in found.coordinates  # chi2 of a Gaussian against this mixture is not finite
    assert found.innovation.low < 0.1 < found.innovation.high
    p = dl.plan(history=dl.load(run), budget=2.0, horizon=6)
    assert p.samples == 100
    assert p.margin > 1
    assert p.innovation >= found.innovation.value
    assert p.start == 0
    assert any('start="last" goes on' in note for note in p.notes)
    assert dl.plan(history=run, budget=2.0, horizon=6, start="last").start > 0
    mixture = dl.plan(history=run, budget=50.0, horizon=6, reference="mixture")
    assert mixture.evidence.coordinates == "L² of the mixture"
    json.dumps(p.to_json(), allow_nan=False)


def test_an_audit_is_a_source(tmp_path):
    rng = np.random.default_rng(0)
    sets = [rng.normal(0.05 * n, 1, (2_000, 3)) for n in range(5)]
    found = dl.audit(sets[0], sets[1:], alpha=0.0)
    found.save(tmp_path)
    for source in (found, tmp_path):
        evidence = read(source)
        assert evidence.drift == found.drift[-1]
        assert evidence.dimension == 3
    p = dl.plan(history=tmp_path, budget=1.0, horizon=5)
    assert p.feasible
    assert p.innovation >= found.innovation.value


def test_a_plan_from_an_audit_goes_on_from_its_last_drift(tmp_path):
    rng = np.random.default_rng(1)
    sets = [rng.normal(0.12 * n, 1, (2_000, 3)) for n in range(4)]
    found = dl.audit(sets[0], sets[1:], alpha=0.0)
    p = dl.plan(history=found, budget=0.2, horizon=5)
    assert p.start >= found.drift[-1].value > 0.2
    assert any("starts from the drift of the last generation, 0." in note for note in p.notes)
    assert p.schedule[0] > 0.2  # from 0 the first fraction makes no difference
    assert p.drift[0] <= 0.2 * (1 + 1e-9)
    assert dl.plan(history=found, budget=0.2, horizon=5, start=0.0).start == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        {"budget": 0.0},
        {"budget": -1.0},
        {"budget": math.nan},
        {"budget": math.inf},
        {"budget": None},
        {"horizon": 0},
        {"horizon": -3},
        {"horizon": 2.5},
        {"alignment": -0.1},
        {"alignment": 1.1},
        {"alignment": math.nan},
        {"alignment": None},
        {"innovation": -1.0},
        {"innovation": 0.0},
        {"innovation": math.nan},
        {"innovation": Estimate.refused("J", "no")},
        {"innovation": Estimate.normal(-1.0, 0.1, 5, "m")},
        {"objective": "median"},
        {"confidence": 1.0},
        {"total_fresh": -1.0},
        {"samples": 0},
        {"start": -1.0},
        {"start": "last"},
        {"start": "first"},
        {"dimension": 0},
        {"history": "somewhere"},
    ],
    ids=str,
)
def test_bad_input_is_named(bad):
    with pytest.raises(InputError):
        dl.plan(**({**GIVEN, "budget": 4.0, "horizon": 5} | bad))


def test_sources_without_innovations(tmp_path):
    with pytest.raises(RunDirectoryError, match="neither a run"):
        dl.plan(history=tmp_path, budget=1.0, horizon=3)
    with pytest.raises((DataNotFoundError, RunDirectoryError)):
        dl.plan(history=tmp_path / "nothing", budget=1.0, horizon=3)
    bare = dl.Study(source="digits", estimator=dl.KDE(0.6), policy=0.5, samples=60, measures={"samples": 0})
    iterator = dl.run(bare, tmp_path / "bare")
    next(iterator)
    iterator.close()
    with pytest.raises(InputError, match="no innovations"):
        dl.plan(history=tmp_path / "bare", budget=1.0, horizon=3)
    with pytest.raises(InputError, match="made from a list"):
        dl.plan(history=[1, 2], budget=1.0, horizon=3)
