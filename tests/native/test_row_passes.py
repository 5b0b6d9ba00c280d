"""The compiled passes over rows against NumPy: the same bits of standardised rows and counts, the same sums."""

import numpy as np
import pytest
import torch

from driftlaw.measure.features.steps import Standardise
from driftlaw.measure.sketch.blocks import BlockSums, block_of
from driftlaw.measure.sketch.features import SketchFeatures
from driftlaw.measure.sketch.histograms import LEVELS, Cells, real_edges
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.native import row_passes
from driftlaw.native.compiled import INSTRUCTION_SETS

needs_compiler = pytest.mark.skipif(not row_passes.SOURCE.available(), reason=row_passes.SOURCE.describe())
both = pytest.mark.parametrize("isa", [0, 1], ids=INSTRUCTION_SETS[:2])
SHAPES = [(1, 1), (7, 3), (100, 31), (1000, 70), (300, 1001)]  # tails of vectors, several tiles of rows


def normal(n, k, dtype=np.float64, seed=0):
    return (3 + np.random.default_rng(seed).normal(size=(n, k))).astype(dtype)


def test_a_compiler_means_compiled_passes():
    """So that a library that its own trial rejects fails here and is not skipped everywhere."""
    story = row_passes.SOURCE.describe(build=True)
    expected = ("absent: no C++ compiler", "absent: switched off", "absent: DRIFTLAW_NATIVE")
    assert row_passes.SOURCE.available() or story.startswith(expected), story


@needs_compiler
@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_standardised_rows_have_the_bits_of_pytorch(n, k, dtype, isa):
    x = torch.from_numpy(normal(n, k, dtype))
    mean, scale = torch.from_numpy(normal(1, k, seed=1)[0]), torch.from_numpy(normal(1, k, seed=2)[0].clip(0.1))
    step = Standardise(torch.arange(k), mean, scale)
    assert torch.equal(row_passes.standardise(x, mean, scale, isa), (x - mean) / scale)
    assert torch.equal(row_passes.standardise(x.T.contiguous().T, mean, scale, isa), step(x))


@needs_compiler
@both
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_centred_rows_have_the_bits_of_numpy_and_sums_are_close(n, k, isa):
    z, c = normal(n, k), normal(1, k, seed=1)[0]
    block, sums = np.random.default_rng(0).integers(0, 5, n), normal(5, k, seed=2)
    wanted = sums.copy()
    np.add.at(wanted, block, z - c)
    centred = z.copy()
    row_passes.centre(centred, c, block, sums, isa)
    assert (centred == z - c).all()
    np.testing.assert_allclose(sums, wanted, rtol=1e-12, atol=1e-12)


@needs_compiler
@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_counts_at_edges_and_of_missing_values(n, k, dtype, isa):
    assert (sum(level <= 0.5 for level in LEVELS), len(LEVELS)) == row_passes.EDGES
    x = np.round(normal(n, k), 1).astype(dtype)  # many values lie on edges
    edges = real_edges(np.round(normal(50, k, seed=1), 1).astype(dtype).astype(np.float64)).astype(dtype)
    x[::7], x[3::11] = np.nan, -np.inf
    x[5::11], x[:1] = np.inf, -0.0
    edges[:, 0] = 0.0  # a column that was constant
    low = row_passes.EDGES[0]
    wanted = np.stack([~np.isnan(x), *(x >= edges[:low, None]), *(x > edges[low:, None])]).sum(axis=1)
    assert (row_passes.count(x, edges, isa) == wanted).all()
    assert (row_passes.count(np.asfortranarray(x), edges, isa) == wanted).all()


@needs_compiler
@both
@pytest.mark.parametrize("kind", ["identity", "pca", "quadratic"])
def test_a_sketch_is_the_same_with_and_without(kind, isa, monkeypatch):
    """Large offsets, chunks of both sizes, columns and features in cells."""
    d = 300 if kind == "identity" else 20
    x = np.round(normal(6000, d, np.float32, seed=1) + 100, 2)
    phi = SketchFeatures.fit(x[:500], kind)
    for name in ("standardise", "centre", "count"):
        passed = getattr(row_passes, name)
        monkeypatch.setattr(row_passes, name, lambda *a, passed=passed: passed(*a, instruction_set=isa))
    whole = Sketch(phi).add(x[500:])
    monkeypatch.setattr(row_passes, "serves", lambda numbers: False)
    plain = Sketch(phi).add(x[500:])
    assert (whole.counts == plain.counts).all()
    np.testing.assert_allclose(whole.means, plain.means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(whole.covariance, plain.covariance, rtol=1e-11, atol=1e-11)
    for name, histogram in plain.histograms.items():
        assert (whole.histograms[name].counts == histogram.counts).all()


@needs_compiler
def test_large_chunks_take_it_and_small_ones_compile_nothing(monkeypatch):
    taken, asked = [], []
    run, available = row_passes._run, row_passes.SOURCE.available
    monkeypatch.setattr(row_passes, "_run", lambda name, *a: taken.append(name) or run(name, *a))
    monkeypatch.setattr(row_passes.SOURCE, "available", lambda: asked.append(1) or available())
    x = normal(row_passes.LARGE // 8, 8, np.float32)
    phi = SketchFeatures.fit(x[:100], "identity")
    Sketch(phi).add(x[1:])
    assert not asked
    Sketch(phi).add(x)
    assert taken == ["standardise", "count", "centre"]
    monkeypatch.setattr(row_passes.SOURCE, "available", lambda: False)
    Sketch(phi).add(x)
    assert len(taken) == 3


def test_a_wrong_library_and_a_missing_one_are_not_used(monkeypatch):
    try:
        row_passes.SOURCE._loaded.clear()
        monkeypatch.delenv("DRIFTLAW_NATIVE", raising=False)
        monkeypatch.setattr(row_passes.SOURCE, "right", lambda handle, isa: False)
        assert not row_passes.serves(row_passes.LARGE)
        if row_passes.SOURCE.describe() != "absent: no C++ compiler":
            assert "wrong" in row_passes.SOURCE.describe()
        with pytest.raises(RuntimeError, match="the compiled passes over rows are absent"):
            row_passes.count(np.zeros((2, 2)), np.zeros((9, 2)))
        z, block = normal(row_passes.LARGE // 8, 8), block_of(0, row_passes.LARGE // 8, 4, 0)
        sums = BlockSums(4, 8)
        sums.add(z.copy(), block)
        np.testing.assert_allclose(sums.moments().covariance, np.cov(z.T), rtol=1e-11, atol=1e-12)
        assert Cells(real_edges(z)).count(z).sum() == z.size
    finally:
        monkeypatch.undo()
        row_passes.SOURCE._loaded.clear()


def test_a_library_that_counts_wrongly_fails_its_trial(monkeypatch):
    """The trial sees each pass: an edge that is too low, a division, a sum."""
    handle, _, isa = row_passes.SOURCE.library()
    if handle is None:
        pytest.skip(row_passes.SOURCE.describe())
    call = row_passes._call
    assert row_passes._right(handle, isa)
    for name in ("standardise", "centre", "count"):

        def spoilt(handle, at, isa, rows, *arrays, name=name):
            call(handle, at, isa, rows, *arrays)
            if at == name:
                arrays[-1][1, 1] += 1

        monkeypatch.setattr(row_passes, "_call", spoilt)
        assert not row_passes._right(handle, isa)
