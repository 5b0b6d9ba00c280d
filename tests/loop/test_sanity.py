"""What must be known before a generation's measures: each check finds its cause and is silent without it."""

import math

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.cli import app
from driftlaw.errors import SanityError
from driftlaw.loop.record import Finding, Generation
from driftlaw.loop.step import sanity
from driftlaw.process.sampler import Ancestral, sample
from driftlaw.process.schedule import karras_grid

OFF = {"samples": 0, "path_samples": 0, "critic_rows": 0, "density_samples": 100}
NET = {"width": 32, "steps": 300, "warm_steps": 50, "batch": 64}
CHAIN = {"prediction": "epsilon", "noise": "ddpm", "solver": "ddpm"}


def gaussian(variance=1.0, mean=(0.0, 0.0)):
    return dl.GaussianMixture([1.0], [list(mean)], variance)


def study(source, estimator, **changes):
    settings = {"policy": 0.5, "samples": 400, "generations": 1, "measures": OFF} | changes
    return dl.Study(source=source, estimator=estimator, **settings)


def found(source, estimator, **changes):
    (record,) = dl.run(study(source, estimator, **changes))
    return {f.kind: f for f in record.sanity}


def test_a_sound_network_has_no_finding():
    assert found(gaussian(0.7), dl.Denoiser(**NET)) == {}


def test_one_heun_step_is_the_solvers_fault():
    """From T the one step overshoots by the noise-to-signal ratio."""
    f = found(gaussian(0.8), dl.Denoiser(**NET, solver_steps=1, T=5.0))
    assert "the solver, not the model, widens" in f["solver"].text
    assert f["solver"].value > 3
    assert f["spread"].value == pytest.approx(f["solver"].value, rel=0.2)  # the exact score says what came out


def test_few_levels_of_a_long_chain_shrink():
    f = found(gaussian(0.16), dl.Denoiser(**NET, **CHAIN, solver_steps=6, diffusion_steps=800))
    assert "the solver, not the model, shrinks" in f["solver"].text
    assert 0.4 < f["solver"].value < 0.7
    assert f["spread"].value < 0.75


def test_a_cosine_chain_is_bounded_by_default_and_said_where_it_is_not():
    chain = CHAIN | {"beta_schedule": "cosine", "diffusion_steps": 120, "solver_steps": 120}
    source = gaussian(1.5, (0.5, 0.0))
    assert found(source, dl.Denoiser(**NET, **chain)) == {}
    f = found(source, dl.Denoiser(**NET, **chain, clip=None))
    assert f["spread"].value > 10
    tight = found(source, dl.Denoiser(**NET, **chain, clip=0.6))
    assert tight["clip"].value > 0.2


def test_the_bound_of_a_chain_is_that_of_its_rows_and_is_stored():
    rows = gaussian().sample(100, torch.Generator().manual_seed(0))
    config = dl.Denoiser(**NET, **CHAIN, diffusion_steps=50, beta_end=0.3, solver_steps=50)
    model = config.fit(rows)
    assert model.clip == float(rows.abs().max())
    assert config.load(model.state(), (2,)).clip == model.clip
    assert dl.Denoiser(**NET).fit(rows).clip is None  # an edm prediction has nothing that blows up
    old = {k: v for k, v in model.state().items() if k != "bound"}
    assert config.load(old, (2,)).clip is None  # weights of an older version sample as they did


def test_far_narrow_data_are_too_far_and_too_fine():
    """Two points at +-20 with deviation .02: e^-5 20^2 / 2 nats a coordinate at T = 5; blur sqrt(e^.002 - 1) = .045."""
    law = dl.GaussianMixture([0.5, 0.5], [[20.0, 20.0], [-20.0, -20.0]], 4e-4)
    f = found(law, dl.Denoiser(**NET, t0=0.002, T=5.0))
    spread = 800 * math.exp(-5)  # of the one direction with variance
    assert f["start"].value == pytest.approx(0.5 * (spread - math.log1p(spread)), rel=0.1)
    assert f["blur"].value == pytest.approx(math.sqrt(math.expm1(0.002)) / 0.02, rel=0.1)
    apart = found(law, dl.Denoiser(**NET, t0=1e-5, T=12.0))
    assert not {"start", "blur"} & set(apart)


def test_an_offset_of_the_data_is_an_error_of_the_start():
    """N(m, I): e^-T |m|^2 / 2 nats, and none of it centred; variances of 2000 rows add less than e^-2T / 1000."""
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (f,) = sanity.start(x + torch.tensor([6.0, 0.0, -3.0]), 4.0)
    assert f.value == pytest.approx(math.exp(-4) * 45 / 2, rel=0.03)
    assert list(sanity.start(x, 4.0)) == []


@pytest.mark.parametrize("dimension", [1, 2, 6])
def test_smooth_data_are_not_too_fine(dimension):
    x = torch.randn(1000, dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert list(sanity.blur(x, 1e-3)) == []
    assert list(sanity.blur(x, 0.02)) == []
    assert len(list(sanity.blur(0.01 * x, 0.02))) == 1


def test_a_blurring_learner_is_wide_in_the_directions_it_blurs():
    """KDE of rows with deviations 2 and .5 at h = .5: 1.03 and 1.41 times."""
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], [[[4.0, 0.0], [0.0, 0.25]]])
    f = found(law, dl.KDE(0.5), samples=2000)
    assert f["spread"].value == pytest.approx(math.sqrt(2), rel=0.08)
    assert "in one direction" in f["spread"].text
    assert found(law, dl.KDE(0.1), samples=2000) == {}


def test_honest_draws_are_not_too_wide():
    """5 standard errors in at most 33 looks of 1000 pairs: fewer than 2e-5 each; heavy tails and few rows included."""
    rng = np.random.default_rng(2)
    for k in range(300):
        n = (40, 200, 1000)[k % 3]
        x, y = (torch.from_numpy(rng.standard_t(6, size=(n, 1 + k % 8))) for _ in range(2))
        assert list(sanity.spread(x, y)) == []


def test_the_solvers_error_is_that_of_simulated_samples():
    """Variances beside 40,000 simulated rows: 5 standard errors of a deviation, 1/sqrt(2n)."""
    values = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    grid = karras_grid(4.0, 0.05, 6)
    for method in ("heun", "multistep", "euler_maruyama", Ancestral("large")):
        g = torch.Generator().manual_seed(3)
        scale = (1 + math.exp(-4.0) * (values - 1)).sqrt()
        x = torch.randn(40_000, 3, generator=g, dtype=torch.float64) * scale
        end = sample(lambda x, t: -x / (1 + torch.exp(-t) * (values - 1)), x, grid, method, g)
        exact = (math.exp(-0.05) * values + 1 - math.exp(-0.05)).sqrt()
        ratio = sanity.solver_ratios(values, grid, method)
        torch.testing.assert_close(end.std(0) / exact, ratio, rtol=5 / math.sqrt(80_000), atol=0)


def test_a_fit_that_is_stopped_early_is_said():
    source = dl.GaussianMixture([0.5, 0.5], [[2.0, 0.0], [-2.0, 0.0]], 0.01)
    short = dl.Denoiser(width=32, steps=60, lr=1e-3, warmup=0, schedule="constant")
    assert found(source, short)["training"].value > sanity.MOST_FALL
    assert "training" not in found(source, dl.Denoiser(width=32, steps=800))


class Forgets(dl.GaussianMLE):
    """Draws from the first mode alone."""

    def fit(self, data, context=None):
        return super().fit(data[data[:, 0] < 0])


def test_a_lost_mode_is_named():
    law = dl.GaussianMixture([0.4, 0.6], [[-5.0, 0.0], [5.0, 0.0]], 1.0)
    f = found(law, Forgets())
    assert f["classes"].value == 1
    assert "mode 1" in f["classes"].text
    assert "classes" not in found(law, dl.KDE(0.1))


def test_strict_stops_before_anything_is_recorded_and_the_run_goes_on(tmp_path):
    law = dl.GaussianMixture([0.4, 0.6], [[-5.0, 0.0], [5.0, 0.0]], 1.0)
    made = study(law, dl.Denoiser(**NET, solver_steps=1), generations=2)
    with pytest.raises(SanityError, match=r"generation 1: spread: .*; solver: the solver, not the model"):
        list(dl.run(made, tmp_path / "run", strict=True))
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    assert (tmp_path / "run/generations/001/checkpoint.safetensors").exists()
    with pytest.raises(SanityError):
        list(dl.resume(tmp_path / "run", strict=True))
    records = list(dl.resume(tmp_path / "run"))
    assert records == list(dl.run(made, tmp_path / "whole"))
    assert [f.kind for f in records[0].sanity] == ["spread", "solver"]


def test_findings_come_first_on_the_terminal_and_in_the_report(tmp_path, monkeypatch, capsys):
    words = ["run", "gmm", "--samples", "300", "--generations", "2", "--out", str(tmp_path / "run")]
    words += ["--set", "measures={samples: 0, density_samples: 100, path_samples: 0}"]

    def call(*more):
        monkeypatch.setattr("sys.argv", ["driftlaw", *words, *more])
        with pytest.raises(SystemExit) as done:
            app.main()
        return done.value.code or 0, capsys.readouterr()

    code, printed = call()
    assert code == 0
    assert printed.err.count("check generation 1: samples are") == 1
    page = (tmp_path / "run/report.html").read_text()
    assert 0 < page.index("Read this first") < page.index("How far from the real data")
    words[words.index("--out") + 1] = str(tmp_path / "strict")
    code, printed = call("--strict")
    assert code == 1
    assert "generation 1: spread" in printed.err.replace("\n", " ")


def test_records_without_the_field_are_read():
    record = next(iter(dl.run(study(gaussian(), dl.KDE(0.1)))))
    document = record.to_json()
    del document["sanity"]
    assert Generation.from_json(document).sanity == ()
    again = Generation.from_json(document | {"sanity": [{"kind": "blur", "text": "t", "value": 2.0}]})
    assert again.sanity == (Finding("blur", "t", 2.0),)
