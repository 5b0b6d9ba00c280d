"""Eigenimages point at the pixels that changed; histograms hold every generation."""

import json

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.auditing.record import Audit
from driftlaw.report import build_audit


@pytest.fixture(scope="module")
def brightened():
    """Images whose patch varies; generations brighten one patch a little more each time."""
    g = np.random.default_rng(5)
    patterns = 0.1 * g.normal(size=(6, 1, 10, 12))
    patch = np.zeros((1, 10, 12))
    patch[:, 2:5, 7:10] = 0.3

    def draw(n, extra):
        x = np.einsum("nk,kchw->nchw", g.normal(size=(n, 6)), patterns)
        x += (g.normal(size=n) + extra)[:, None, None, None] * patch
        return np.clip(x + 0.02 * g.normal(size=x.shape), -1, 1).astype(np.float32)

    return dl.audit(draw(1500, 0.0), [draw(600, 0.5), draw(600, 1.0)], dimension=8)


def test_the_mean_shift_is_brightest_where_the_images_were_brightened(brightened):
    found = [g.eigenimages for g in brightened.generations]
    for e in found:
        change = e.images()[0, :, :, 0]
        patch = change[2:5, 7:10].mean()
        outside = np.delete(change.ravel(), np.ravel_multi_index(np.mgrid[2:5, 7:10].reshape(2, -1), (10, 12)))
        assert patch > 0.3
        assert patch > 4 * abs(outside).mean()
    assert found[1].largest[0] == pytest.approx(2 * found[0].largest[0], rel=0.35)
    assert found[1].names[0] == "mean shift"


def test_they_survive_the_file(brightened, tmp_path):
    brightened.save(tmp_path)
    again = Audit.load(tmp_path)
    assert again.generations[1].eigenimages == brightened.generations[1].eigenimages
    json.dumps(brightened.to_json(), allow_nan=False)


def test_the_page_shows_them_and_every_generation_in_histograms(brightened):
    page = build_audit(brightened)
    assert "Where the images changed" in page
    assert "Generation 1: mean shift" in page
    assert "Generation 2: mean shift" in page


def test_rows_that_are_no_images_and_maps_without_inverse_have_none():
    g = np.random.default_rng(0)
    flat = dl.audit(g.normal(size=(300, 4)), [g.normal(size=(200, 4))])
    assert flat.generations[0].eigenimages is None
    x = g.normal(size=(300, 1, 4, 4)).clip(-1, 1)
    waves = dl.audit(x, [x[:200]], features="random_fourier")
    assert waves.generations[0].eigenimages is None


def test_histograms_of_a_table_hold_each_generation():
    import pandas as pd

    g = np.random.default_rng(1)
    tables = [pd.DataFrame({"wage": g.normal(0.3 * k, 1, 900), "town": g.choice(["a", "b"], 900)}) for k in range(4)]
    page = build_audit(dl.audit(tables[0], tables[1:]))
    figure = page[page.index("Histograms of wage") :]
    figure = figure[: figure.index("</svg>")]
    for label in ("real", "1", "2", "3"):
        assert f">{label}</text>" in figure
    assert "in generation 3" in figure
