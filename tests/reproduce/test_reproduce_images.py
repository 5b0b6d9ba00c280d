"""Image runs measured: kept parts, drift that is what the reference says, score errors, and verdicts by the numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

import driftlaw as dl
from driftlaw.analysis.opened import OpenRun
from driftlaw.errors import InputError
from driftlaw.loop.step.setting import Setting, training_set
from driftlaw.loop.sweep import sweep
from driftlaw.reproduce import Effort, check_names, reproduce_images
from driftlaw.reproduce.image_claims import image_claims
from driftlaw.reproduce.images import image_figures, longer
from driftlaw.reproduce.pages.page import write
from driftlaw.reproduce.records import FigureData, estimate_of, row

TINY = Effort(reference_steps=10, references=1, rows=80, paths=100, steps=6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    study = dl.Study(
        source="digits", estimator=dl.Denoiser(steps=60, warm_steps=30, width=16, solver_steps=5), policy=0.5,
        samples=120, generations=2, reuse=True, threads=1, measures={"samples": 100, "dimension": 8, "critic_rows": 0},
    )  # fmt: skip
    return sweep(study, tmp_path_factory.mktemp("images") / "runs", alphas=[0.2, 0.8], seeds=[0, 1])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def figures(runs, parts):
    return {f.name: next(iter(f.tables.values())) for f in image_figures(runs, parts, TINY, watch=lambda what: None)}


def test_drift_is_what_the_reference_says(figures, runs, parts):
    table = figures["fig9"]
    assert set(table.alpha) == {0.2, 0.8}
    assert set(table.seeds) == {2}
    floor = table[table.quantity.eq("frechet, floor")]
    assert set(floor.generation) == {0}
    values = []
    for cell, history in runs.items():
        if cell.alpha == 0.8:
            run = OpenRun(history)
            setting = Setting(run.study.with_settings({"measures.features": "classifier"}), folder=parts)
            found = setting.reference.compare(torch.from_numpy(np.array(run.samples(2))))
            values.append(found["frechet"].value)
    chosen = table[table.alpha.eq(0.8) & table.generation.eq(2) & table.quantity.eq("frechet")]
    assert float(chosen.value.iloc[0]) == pytest.approx(np.mean(values), rel=1e-9)


def test_score_errors(figures):
    table = figures["fig10"]
    eta = table[table.quantity.eq("eta")]
    assert len(eta) == 4
    assert eta.value.between(0, 1).all()
    gradient = table[table.quantity.eq("gradient")]
    assert np.isinf(gradient[gradient.seeds.eq(1)].high).all() or (gradient.seeds == 2).all()
    parts = table[table.quantity.str.startswith("excess, t")]
    total = table[table.quantity.eq("excess")].set_index(["alpha", "generation"]).value
    added = parts.groupby(["alpha", "generation"]).value.sum()
    pd.testing.assert_series_equal(added, total, check_names=False, rtol=1e-9)


def test_samples_are_the_stored_ones(figures, runs):
    shown = figures["fig8"]
    cell = next(c for c in runs if c.alpha == 0.2 and c.seed == 0)
    rows = np.array(runs[cell].samples(2)[:1], dtype=float)
    found = shown[shown.alpha.eq(0.2) & shown.generation.eq(2) & shown.tile.eq(0)].iloc[0]
    pixels = np.frombuffer(found.pixels, np.uint8).reshape(tuple(found["shape"]))
    real = np.array(runs[cell].samples(0))
    expected = np.clip((rows[0] - real.min()) / (real.max() - real.min()), 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-6


def test_finished_parts_are_kept_and_others_made_again(runs, parts, figures):
    before = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
    again = image_figures(runs, parts, TINY, watch=lambda what: None)
    assert {p.name: p.stat().st_mtime_ns for p in parts.glob("*.parquet")} == before
    pd.testing.assert_frame_equal(again[3].tables["errors"], figures["fig10"])
    damaged = parts / "alpha-0.2-seed-1-errors.parquet"
    damaged.write_bytes(damaged.read_bytes()[:50])
    image_figures(runs, parts, TINY, watch=lambda what: None)
    after = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
    assert {name for name in after if after[name] != before[name]} == {damaged.name}
    assert len(pd.read_parquet(damaged))


def test_the_reference_goes_on_from_the_network_on_the_same_rows(runs):
    run = OpenRun(next(iter(runs.values())))
    rows, _ = training_set(run.setting, 2, run.past)
    loss = []
    for model in (run.model(2), longer(run, 2, 400, 0)):
        x = rows[:60]
        t = torch.full((60,), 0.2)
        g = torch.Generator().manual_seed(0)
        noised = np.exp(-0.1) * x + np.sqrt(1 - np.exp(-0.2)) * torch.randn(x.shape, generator=g)
        loss.append(float((model.denoised(noised, t) - x).square().mean()))
    assert loss[1] < 0.95 * loss[0]


def test_page_and_files(runs, parts, tmp_path):
    settings = {"mode": "images", "study": "digits", "preset": "laptop", "alphas": [0.2, 0.8], "generations": 2,
                "runs": 2, "seed": 0}  # fmt: skip
    found = reproduce_images([], runs, parts, TINY, settings=settings, watch=lambda what: None)
    commands = {c.key: c.command for c in found.claims}
    assert (
        commands["fig-9"] == "driftlaw reproduce fig9 --images --study digits --alphas 0.2,0.8 --generations 2 --runs 2"
    )
    assert commands["prop-3.1"] == "driftlaw reproduce fig3"
    page = write(found, tmp_path / "out").read_text()
    assert "α = 0.2, n = 2" in page
    assert {p.name for p in (tmp_path / "out").glob("*.parquet")} == {
        "fig2-images-eta.parquet", "fig8-samples.parquet", "fig9-drift.parquet", "fig10-errors.parquet"
    }  # fmt: skip
    assert (tmp_path / "out" / "fig9-frechet.svg").is_file()


def estimates(alpha, generation, quantity, value, half):
    from driftlaw.estimate import Estimate

    e = Estimate.normal(value, half / 2, 10, "made up")
    return row(e, alpha=alpha, generation=generation, quantity=quantity, seeds=3)


@pytest.mark.parametrize(
    ("ends", "half", "verdict"),
    [
        ((9.0, 5.0, 2.0), 0.5, "confirmed"),
        ((9.0, 8.9, 2.0), 0.5, "not reproduced"),
        ((2.0, 5.0, 9.0), 0.1, "not reproduced"),
    ],
)
def test_verdict_on_drift_follows_the_intervals(ends, half, verdict):
    rows = [estimates(a, n, "frechet", v if n == 5 else 1.0, half)
            for a, v in zip((0.1, 0.5, 0.9), ends, strict=True) for n in (1, 5)]  # fmt: skip
    (claim,) = image_claims([FigureData("fig9", {"drift": pd.DataFrame(rows)})])
    assert claim.verdict == verdict
    assert len(claim.numbers) == 6


@pytest.mark.parametrize(("level", "verdict"), [(0.3, "confirmed with a condition"), (0.05, "not reproduced")])
def test_verdict_on_eta(level, verdict):
    rows = [estimates(a, n, "eta", level + 0.001 * n, 0.01) for a in (0.1, 0.9) for n in (1, 2, 3, 4)]
    (claim,) = image_claims([FigureData("fig10", {"errors": pd.DataFrame(rows)})])
    assert claim.verdict == verdict
    assert "same network trained further" in claim.because


def test_eta_without_references_is_not_measured():
    rows = [estimates(0.1, 1, "gradient", 1.0, 0.1)]
    (claim,) = image_claims([FigureData("fig10", {"errors": pd.DataFrame(rows)})])
    assert claim.verdict == "not measured in this run"


def test_rows_that_are_not_images_are_refused(tmp_path):
    study = dl.Study(source=dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0), estimator=dl.KDE(0.3), policy=0.5,
                     samples=60, generations=1, measures={"density_samples": 100, "path_samples": 0})  # fmt: skip
    runs = sweep(study, tmp_path / "runs", alphas=[0.5], seeds=[0])
    with pytest.raises(InputError, match="not images"):
        image_figures(runs, tmp_path / "parts", TINY)
    assert not (tmp_path / "parts").exists()


def test_names_and_efforts():
    assert check_names([], images=True) == ("fig2-images", "fig8", "fig9", "fig10")
    assert not set(check_names([])) & {"fig8", "fig9"}
    with pytest.raises(InputError, match="Add --images"):
        check_names(["fig9"])
    with pytest.raises(InputError, match="Leave out --images"):
        check_names(["fig3"], images=True)
    with pytest.raises(InputError, match="below 2"):
        Effort(rows=1)
    assert estimate_of(estimates(0.1, 1, "x", 1.0, 0.2)).value == 1.0


def test_only_what_is_asked_for_is_measured(runs, tmp_path):
    (shown,) = image_figures(runs, tmp_path / "parts", TINY, names=("fig8",), watch=lambda what: None)
    assert shown.name == "fig8"
    assert not (tmp_path / "parts").exists()
