import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.features.fitted import KINDS, FeatureMap, as_rows
from driftlaw.seeding import generator


def rows(n, d, seed=0):
    mix = torch.randn(d, d, generator=generator(seed, "mix"), dtype=torch.float64)
    return torch.randn(n, d, generator=generator(seed, "rows"), dtype=torch.float64) @ mix + 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_rows_become_white(kind):
    x = rows(500, 8)
    z = FeatureMap.fit(x, kind, dimension=5)(x)
    assert z.dtype == torch.float64
    assert z.shape == (500, 8 if kind == "identity" else 5)
    torch.testing.assert_close(z.mean(0), torch.zeros(z.shape[1]).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.T.cov(), torch.eye(z.shape[1]).double(), atol=1e-8, rtol=0)


def test_identity_gives_the_mahalanobis_form():
    x, shift = rows(500, 6), torch.arange(6).double()
    phi = FeatureMap.fit(x, "identity")
    distance2 = float((phi(x + shift).mean(0) - phi(x).mean(0)).square().sum())
    assert distance2 == pytest.approx(float(shift @ torch.linalg.solve(x.T.cov(), shift)))


def test_pca_spans_the_leading_directions():
    """Without cutting, pca and identity whiten to the same Mahalanobis form; cut, the largest variances stay."""
    x = rows(300, 6)
    a, b = FeatureMap.fit(x, "pca", dimension=6)(x), FeatureMap.fit(x, "identity")(x)
    torch.testing.assert_close(a @ a.T, b @ b.T, atol=1e-8, rtol=1e-8)
    y = torch.randn(400, 4, generator=generator(1), dtype=torch.float64) * torch.tensor([0.1, 5.0, 0.1, 3.0])
    kept = FeatureMap.fit(y, "pca", dimension=2)
    seen = kept(torch.eye(4).double()) - kept(torch.zeros(4, 4).double())
    assert float(seen[[1, 3]].norm(dim=1).min()) > 0.15
    # a direction that is left out moves features only through the small error of the fitted directions
    assert float(seen[[0, 2]].norm(dim=1).max()) < 0.03


def test_more_columns_than_rows_uses_the_gram_matrix_and_agrees():
    """The two ways to the principal directions give one map."""
    x = rows(40, 39)
    wide = torch.cat([x, torch.zeros(40, 1).double()], dim=1)  # d = 40 <= n
    wider = torch.cat([x, torch.zeros(40, 21).double()], dim=1)  # d = 60 > n
    a, b = FeatureMap.fit(wide, "pca", dimension=5), FeatureMap.fit(wider, "pca", dimension=5)
    torch.testing.assert_close(a(wide), b(wider), atol=1e-7, rtol=1e-7)


def test_images_are_flattened_and_other_shapes_refused():
    x = rows(100, 16).reshape(100, 1, 4, 4)
    phi = FeatureMap.fit(x, dimension=3)
    assert phi(x[:7]).shape == (7, 3)
    assert phi.dimension == 3
    with pytest.raises(InputError, match=r"\(16,\) were given to features fitted on rows of shape \(1, 4, 4\)"):
        phi(x.reshape(100, 16))


def test_constant_columns_and_repeated_columns_are_said():
    x = rows(200, 4)
    x = torch.cat([x, torch.ones(200, 1).double(), x[:, :1]], dim=1)
    phi = FeatureMap.fit(x, "identity")
    assert phi.dimension == 4
    assert any("1 of 6 columns are constant" in w for w in phi.warnings)
    assert any("rank 4 of 6" in w for w in phi.warnings)
    assert torch.isfinite(phi(x)).all()
    assert any("only 4 of the 6" in w for w in FeatureMap.fit(x, "pca", dimension=6).warnings)


@pytest.mark.parametrize("kind", ["identity", "pca"])
def test_fewer_rows_than_features_shrinks_and_says_so(kind):
    """An unshrunk inverse would blow up new rows: their largest variance stays near 1."""
    x = torch.randn(20, 30, generator=generator(2), dtype=torch.float64)
    phi = FeatureMap.fit(x, kind, dimension=30)
    assert any("shrunk" in w for w in phi.warnings)
    fresh = phi(torch.randn(4000, 30, generator=generator(3), dtype=torch.float64))
    assert float(fresh.var(dim=0).min()) > 0.2
    assert float(fresh.var(dim=0).max()) < 2.0


def test_few_rows_name_the_inflation():
    assert any("inflates" in w for w in FeatureMap.fit(rows(50, 10), "identity").warnings)
    assert FeatureMap.fit(rows(500, 10), "identity").warnings == ()


def test_fingerprint_follows_content():
    x = rows(100, 6)
    print_of = {k: FeatureMap.fit(x, k, dimension=4).fingerprint for k in KINDS}
    assert len(set(print_of.values())) == 3
    for kind in KINDS:
        assert FeatureMap.fit(x.clone(), kind, dimension=4).fingerprint == print_of[kind]
    changed = x.clone()
    changed[5, 2] += 1e-6
    assert FeatureMap.fit(changed, "pca", dimension=4).fingerprint != print_of["pca"]
    assert FeatureMap.fit(x, "random_fourier", dimension=4, seed=1).fingerprint != print_of["random_fourier"]


class TestBadInput:
    def test_unknown_kind(self):
        with pytest.raises(InputError, match="Did you mean 'pca'"):
            FeatureMap.fit(rows(10, 2), "pac")

    def test_dimension(self):
        with pytest.raises(InputError, match="dimension is 0"):
            FeatureMap.fit(rows(10, 2), dimension=0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_varies(self, kind):
        with pytest.raises(InputError, match="varies"):
            FeatureMap.fit(torch.ones(10, 3), kind)

    def test_nan_rows(self):
        x = torch.zeros(9, 2, 2)
        x[3, 1, 0] = math.nan
        with pytest.raises(
            InputError, match="1 of 9 rows of the real training set are NaN or infinite, the first is row 3"
        ):
            FeatureMap.fit(x)

    def test_shapes(self):
        with pytest.raises(InputError, match="single number"):
            as_rows(torch.tensor(1.0))
        with pytest.raises(InputError, match="no features"):
            as_rows(torch.zeros(3, 0))
        with pytest.raises(InputError, match="has 1 row"):
            as_rows(torch.zeros(1, 4))
