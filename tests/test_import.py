"""Importing driftlaw is cheap, and every public name resolves."""

import subprocess
import sys

import driftlaw

HEAVY = ("matplotlib", "typer", "rich", "diffusers", "sklearn", "ray", "jinja2", "playwright", "driftlaw.cli")


def test_import_loads_no_plotting_cli_or_learning_code():
    code = f"import sys, driftlaw; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_resolves():
    for name in driftlaw.__all__:
        assert getattr(driftlaw, name) is not None


def test_the_namespace_holds_public_names_and_nothing_else():
    import driftlaw as dl

    assert dir(dl) == sorted(dl.__all__)
    assert not {"Any", "importlib", "TYPE_CHECKING", "annotations"} & set(dir(dl))
    wanted = (
        "Plan BoundsReport History SampleNoise Measures FitContext CorruptFileError compare_laws write_report Model"
    )
    assert set(wanted.split()) <= set(dir(dl))
    assert issubclass(dl.ConfigError, dl.InputError)
    assert issubclass(dl.CorruptFileError, dl.DriftlawError)


def test_context_and_generator_are_optional():
    import torch

    import driftlaw as dl

    rows = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    for estimator in (dl.KDE(), dl.GaussianMLE(), dl.MixtureEM(2), dl.Denoiser(width=8, steps=2)):
        model = estimator.fit(rows)
        assert model.sample(5).shape == (5, 2)
        assert isinstance(model, dl.Model)


def test_bandwidth_is_scotts_rule_by_default():
    import torch

    import driftlaw as dl

    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * 2
    sigma = float(rows.double().var(dim=0).mean()) ** 0.5
    assert abs(dl.KDE().fit(rows).bandwidth / (sigma * 500 ** (-1 / 7)) - 1) < 1e-6
