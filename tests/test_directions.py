"""What is fitted does not depend on the signs that a LAPACK library gives to directions."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from driftlaw.auditing.coordinates import Whitening
from driftlaw.measure.features import fitted as features
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.paths import regression
from driftlaw.measure.paths.critic import Frame
from driftlaw.numerics.directions import oriented
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.report.figures.samples import principal
from driftlaw.reproduce.mixture.tables import fig1
from driftlaw.seeding import generator


def rows(n, d, seed=0):
    mix = torch.randn(d, d, generator=generator(seed, "mix"), dtype=torch.float64)
    return torch.randn(n, d, generator=generator(seed, "rows"), dtype=torch.float64) @ mix + 3.0


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@given(seed=st.integers(0, 1000), d=st.integers(1, 6), batch=st.integers(1, 3))
def test_any_signs_give_the_same_columns(kind, seed, d, batch):
    rng = np.random.default_rng(seed)
    v = rng.integers(-3, 4, size=(batch, d, 4)).astype(float)  # many ties, some columns of zeros
    noise = 1 + 1e-12 * rng.normal(size=v.shape)  # the last bits of another machine
    flips = rng.choice([-1.0, 1.0], size=(batch, 1, 4))
    a, b = (np.asarray(oriented(kind(z))) for z in (v, v * noise * flips))
    np.testing.assert_allclose(a, b, atol=1e-9)
    np.testing.assert_array_equal(np.abs(a), np.abs(v))
    assert (a.max(axis=-2) >= -a.min(axis=-2) - 1e-9).all()


def _flipping(function, columns=(), lines=()):
    """`function` as another LAPACK could return it: the directions in its `columns` and `lines` have other signs."""
    rng = np.random.default_rng(0)

    def flipped(*args, **kwargs):
        out = function(*args, **kwargs)
        parts = list(out)
        signs = rng.choice([-1.0, 1.0], size=4096)
        for index in (*columns, *lines):
            part = parts[index]
            s = signs[: part.shape[-1]] if index in columns else signs[: part.shape[-2], None]
            parts[index] = part * (torch.from_numpy(s.copy()).to(part) if isinstance(part, torch.Tensor) else s)
        return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)

    return flipped


@pytest.fixture
def other_lapack(monkeypatch):
    def switch():
        monkeypatch.setattr(torch.linalg, "eigh", _flipping(torch.linalg.eigh, columns=[1]))
        monkeypatch.setattr(torch.linalg, "qr", _flipping(torch.linalg.qr, columns=[0], lines=[1]))
        monkeypatch.setattr(torch.linalg, "svd", _flipping(torch.linalg.svd, columns=[0], lines=[2]))
        monkeypatch.setattr(np.linalg, "eigh", _flipping(np.linalg.eigh, columns=[1]))
        monkeypatch.setattr(np.linalg, "svd", _flipping(np.linalg.svd, columns=[0], lines=[2]))
        monkeypatch.setattr(features, "eigh", _flipping(scipy.linalg.eigh, columns=[1]))

    return switch


def _whitening():
    x = rows(400, 7)
    w = Whitening.of(SimpleNamespace(n=len(x), mean=x.mean(0).numpy(), covariance=x.T.cov().numpy()))
    return torch.from_numpy(w.matrix)


def _mixture(draw):
    x = rows(60, 3)
    law = GaussianMixture([0.4, 0.6], x[:2], torch.stack([x[:30].T.cov(), x[30:].T.cov()]))
    return draw(law)


def _regression():
    y, g = rows(300, 6), torch.Generator().manual_seed(0)
    return regression._cross_fit(y, y[:, 0].square(), y[:, :1], 3, 8, g)


def _picture():
    mean, axes, share = principal(rows(50, 5).numpy())
    return torch.from_numpy(np.hstack([mean, axes.ravel(), share]))


def _first_figure():
    frame = fig1(SimpleNamespace(clouds={(0.5, 1): rows(20, 10)})).tables["points"]
    return torch.from_numpy(frame[["pc1", "pc2"]].to_numpy().copy())


def _features(kind, n, d):
    return FeatureMap.fit(rows(n, d), kind, dimension=5)(rows(9, d, 1))


SIZES = ((200, 8), (12, 20))
FITTED = {
    **{f"{kind} {s}": partial(_features, kind, *s) for kind in features.KINDS for s in SIZES},
    "audit": _whitening,
    "critic": lambda: Frame.of(rows(50, 6)).basis,
    "critic, wide": lambda: Frame.of(rows(40, 140)).basis,
    "draws": lambda: _mixture(lambda law: law.sample(50, torch.Generator().manual_seed(1))),
    "bridge": lambda: _mixture(
        lambda law: law.reverse_transition(rows(50, 3, 2), 1.0, 0.2, torch.Generator().manual_seed(1))
    ),
    "observability": _regression,
    "picture": _picture,
    "figure 1": _first_figure,
}


@pytest.mark.parametrize("name", FITTED)
def test_signs_of_lapack_reach_nothing(name, other_lapack, monkeypatch):
    monkeypatch.setattr(regression, "COORDINATES", 4)  # so that few columns are many
    here = FITTED[name]()
    other_lapack()
    for _ in range(3):
        torch.testing.assert_close(FITTED[name](), here, rtol=1e-8, atol=1e-8)
