"""Looks at spread and dependence: level for any law, power where means stand still, marginals that do not matter."""

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.auditing.verdict.shape import klotz, shape
from driftlaw.measure.sketch.histograms import Cells, Histogram, real_edges


def pair(draw, rng, n0, n, other=None):
    phi = dl.sketch(draw(rng, 400), "identity", fit_on=draw(rng, 500))
    return dl.sketch(draw(rng, n0), like=phi), dl.sketch((other or draw)(rng, n), like=phi)


def gaussian(rng, n, r=0.5):
    z = rng.standard_normal((n, 4))
    z[:, 1] = r * z[:, 0] + np.sqrt(1 - r**2) * z[:, 1]
    return z


def mixed(rng, n):
    share = 1 / np.arange(1, 13)
    level = rng.choice(12, size=n, p=share / share.sum())[:, None] == np.arange(1, 12)
    return np.column_stack([level, np.exp(0.7 * rng.standard_normal((n, 2))), rng.random((n, 2)) < 0.02])


@pytest.mark.parametrize("draw", [gaussian, mixed])
@pytest.mark.parametrize(("n0", "n"), [(300, 300), (2500, 300)])
def test_honest_rows_keep_the_level(draw, n0, n):
    """120 pairs of sets at 5 % each: more than 17 have probability < 1e-4."""
    rng, spread, dependence = np.random.default_rng(11), 0, 0
    for _ in range(120):
        found = shape(*pair(draw, rng, n0, n))
        spread += found.spread < 0.05
        dependence += found.dependence is not None and found.dependence < 0.05
    assert spread <= 17
    assert dependence <= 17


def test_klotz_is_near_the_best_test_of_variances():
    """z is near that of the likelihood ratio, log v / sqrt(2/n0 + 2/n), and blind to a monotone map."""
    rng = np.random.default_rng(12)
    x, y = rng.standard_normal(20_000), 1.1 * rng.standard_normal(5_000)
    found = []
    for f in (lambda z: z, np.exp):
        edges = real_edges(f(x)[:, None])
        h, g = (Histogram("x", Cells(edges).count(f(z)[:, None])[0], edges=edges[:, 0]) for z in (x, y))
        found.append(klotz(h, g))
    best = np.log(np.var(y) / np.var(x)) / np.sqrt(2 / 20_000 + 2 / 5_000)
    from scipy.stats import norm

    assert found[0] == found[1]
    assert norm.isf(found[0] / 2) == pytest.approx(best, rel=0.25)


def test_a_change_of_dependence_alone_is_found_and_named():
    rng = np.random.default_rng(13)
    real, made = pair(gaussian, rng, 5000, 1500, lambda g, n: gaussian(g, n, 0.3))
    found = dl.audit(real, [made]).generations[0]
    assert [(f.look, f.subject, f.word) for f in found.findings] == [("dependence", "x0, x1", "drifted")]
    assert "correlation +0.3" in found.findings[0].text or "correlation +0.2" in found.findings[0].text
    again = dl.Audit.from_json(dl.audit(real, [made]).to_json())
    assert again.generations[0].looks == found.looks
    moved = lambda g, n: 3.0 + 2.0 * gaussian(g, n)  # noqa: E731
    assert shape(*pair(gaussian, rng, 5000, 1500, moved)).dependence > 0.001


def test_a_spread_that_cells_see_late_is_found_and_named():
    """Variance 1.2 times: 12 of 20 or more; the cells' test alone sees half of it."""
    hits, late = 0, 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 14])
        real, made = pair(gaussian, rng, 5000, 1000, lambda g, n: gaussian(g, n) * [1.0, 1.0, 1.0, 1.2**0.5])
        found = dl.audit(real, [made]).generations[0]
        hits += found.looks.spread < 0.05 and found.looks.spread_of == "x3"
        late += found.looks.columns < 0.05
    assert hits >= 12
    assert hits > late
