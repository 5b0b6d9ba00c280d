"""Estimators as configurations: round trip, positional use, refusals that name the key."""

import pytest
import torch

from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import KDE, Denoiser, Estimator, FitContext, GaussianMLE, MixtureEM, build

EXAMPLES = [
    KDE(0.3, 0.02),
    KDE("scott"),
    GaussianMLE(True, 0.1),
    MixtureEM(3, "diag", 2),
    Denoiser(net="unet", width=8, multipliers=(1, 2), steps=7, noise="lognormal", compile="auto"),
]


@pytest.mark.parametrize("estimator", EXAMPLES, ids=lambda e: type(e).__name__)
def test_config_round_trip(estimator):
    config = estimator.config()
    assert build(config) == estimator
    assert isinstance(estimator, Estimator)
    import yaml

    assert build(yaml.safe_load(yaml.safe_dump(config))) == estimator


def test_defaults_fill_what_is_missing():
    assert build({"kind": "kde"}) == KDE()
    assert build({"kind": "denoiser", "width": 64}) == Denoiser(width=64)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": "kdee"}, "'kde'"),
        ({}, "estimator needs a kind"),
        ({"kind": "kde", "bandwith": 1.0}, "Did you mean 'bandwidth'"),
        ({"kind": "kde", "bandwidth": -0.1}, "bandwidth = -0.1"),
        ({"kind": "kde", "bandwidth": "scot"}, "bandwidth = 'scot'"),
        ({"kind": "kde", "t0": float("nan")}, "t0 = nan"),
        ({"kind": "gaussian", "ridge": -1}, "ridge = -1"),
        ({"kind": "mixture-em"}, "needs the setting 'components'"),
        ({"kind": "mixture-em", "components": 0}, "components = 0"),
        ({"kind": "mixture-em", "components": 2, "covariance": "tied"}, "covariance = 'tied'"),
        ({"kind": "denoiser", "steps": 0}, "steps = 0"),
        ({"kind": "denoiser", "ema": 1.0}, "ema = 1.0"),
        ({"kind": "denoiser", "t0": 2.0, "T": 1.0}, "not below T"),
        ({"kind": "denoiser", "multipliers": []}, "multipliers"),
        ({"kind": "denoiser", "solver": "euler"}, "solver = 'euler'"),
    ],
)
def test_bad_configurations_name_the_key(config, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        build(config)


@pytest.mark.parametrize("estimator", [KDE(), GaussianMLE(), MixtureEM(1), Denoiser(steps=1)])
def test_bad_rows_are_refused_by_every_learner(estimator):
    rows = torch.zeros(6, 3)
    rows[3, 1], rows[4, 0] = float("nan"), float("inf")
    with pytest.raises(InputError, match=r"2 of 6 rows .* the first is row 3"):
        estimator.fit(rows, FitContext())
    for wrong in (torch.zeros(1, 3), torch.zeros(0, 3), torch.zeros(5), torch.zeros(5, 3, 3), torch.zeros(5, 3).long()):
        with pytest.raises(InputError, match="training set"):
            estimator.fit(wrong, FitContext())
