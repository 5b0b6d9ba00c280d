"""Sketches: what they hold, that they merge exactly, that their file is whole, and what they refuse."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy import stats

from driftlaw.auditing.sketching import sketch
from driftlaw.errors import CorruptFileError, DataNotFoundError, InputError, StorageError
from driftlaw.measure.features.columns import KINDS
from driftlaw.measure.features.steps import Cosine, Standardise, from_tensors, to_tensors
from driftlaw.measure.sketch import file as sketch_file
from driftlaw.measure.sketch.blocks import BlockMoments, BlockSums, block_of
from driftlaw.measure.sketch.features import SketchFeatures
from driftlaw.measure.sketch.histograms import LEVELS, Cells, real_edges
from driftlaw.measure.sketch.sketch import Sketch


def rows(n, d=5, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.random.default_rng(7).normal(size=(d, d)) + offset


def close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def block_moments(z, start=0):
    sums = BlockSums(4, z.shape[1])
    for part in range(0, len(z), 100):
        sums.add(z[part : part + 100].copy(), block_of(start + part, len(z[part : part + 100]), 4, 0))
    return sums.moments()


@pytest.fixture(scope="module")
def phi():
    return SketchFeatures.fit(rows(400, seed=1), "identity")


# -- what it holds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_all_features(kind):
    phi = SketchFeatures.fit(rows(400, seed=1), kind, dimension=None if kind == "quadratic" else 4)
    x = rows(1001)
    sketch = Sketch(phi, blocks=8)
    for part in np.split(x, [3, 3, 500]):
        sketch.add(part)
    z, block = phi(x), block_of(0, 1001, 8, phi.seed)
    assert sketch.n == 1001
    close(sketch.mean, z.mean(axis=0))
    close(sketch.covariance, np.cov(z.T))
    close(sketch.means, np.stack([z[block == b].mean(axis=0) for b in range(8)]))
    assert (sketch.counts == np.bincount(block, minlength=8)).all()
    assert len(phi.labels) == phi.dimension == z.shape[1]


def test_a_large_offset_does_not_cancel():
    """Rows at 1e8 with standard deviation 1, features that do not centre: raw sums of squares would lose everything."""
    z = np.random.default_rng(0).normal(size=(4000, 3)) + 1e8
    moments = BlockMoments.empty(4, 3)
    for start in range(0, 4000, 500):
        moments.include(block_moments(z[start : start + 500], start))
    close(moments.covariance, np.cov(z.T), 1e-7)
    drifting = z + 1e3 * np.arange(4000)[:, None]  # every chunk far from those before
    moments = BlockMoments.empty(4, 3)
    for start in range(0, 4000, 500):
        moments.include(block_moments(drifting[start : start + 500], start))
    close(moments.covariance, np.cov(drifting.T), 1e-9)


def test_an_empty_block_is_nan_not_zero(phi):
    sketch = Sketch(phi, blocks=32).add(rows(5))
    assert np.isnan(sketch.means).all(axis=1).sum() == 27
    assert (block_moments(rows(2)).means == 0).all(axis=1).sum() == 2  # what a file holds of them
    assert np.isnan(Sketch(phi).mean).all()
    assert np.isnan(Sketch(phi).add(rows(1)).covariance).all()


def test_products_are_products():
    x = rows(300)
    phi = SketchFeatures.fit(x, "quadratic")
    z = phi(x)
    s = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    assert phi.dimension == 5 + 5 + 10
    close(z[:, phi.labels.index("x1*x3")], s[:, 1] * s[:, 3])
    close(z[:, phi.labels.index("x4^2")], s[:, 4] ** 2)
    capped = SketchFeatures.fit(x, "quadratic", dimension=12)
    assert capped.dimension == 12
    assert "7 of 15 products are kept in 12 features" in capped.warnings
    with pytest.raises(InputError, match="no room for products"):
        SketchFeatures.fit(x, "quadratic", dimension=5)


def test_constant_columns_are_left_out_and_said_but_still_counted():
    x = rows(300)
    x[:, 2] = 7.0
    phi = SketchFeatures.fit(x, "identity")
    assert phi.labels == ["x0", "x1", "x3", "x4"]
    assert "1 of 5 columns are constant in the real rows and give no feature: x2" in phi.warnings
    close(phi(x)[:, 2], (x[:, 3] - x[:, 3].mean()) / x[:, 3].std(ddof=1))
    moved = x.copy()
    moved[:10, 2], moved[10:13, 2] = 7.5, 6.0
    counts = Sketch(phi).add(moved).histograms["x2"].counts
    assert (counts[0], counts[-1], counts.sum()) == (3, 10, 300)
    with pytest.raises(InputError, match="no column of the real rows varies"):
        SketchFeatures.fit(np.ones((9, 2)), "identity")


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks_are_balanced_and_depend_on_the_row_number_only():
    whole = block_of(0, 1000, 32, seed=3)
    for start in range(0, 960, 32):
        assert sorted(whole[start : start + 32]) == list(range(32))
    assert (block_of(77, 500, 32, seed=3) == whole[77:577]).all()
    assert (block_of(0, 1000, 32, seed=4) != whole).mean() > 0.8
    for position in range(32):  # every place of a run reaches every block: chi2 test at 1e-6 over 32 places
        seen = np.bincount(block_of(0, 32 * 400, 32, seed=0).reshape(-1, 32)[:, position], minlength=32)
        assert stats.chisquare(seen).pvalue > 1e-6


@pytest.mark.parametrize("sort", [False, True])
def test_block_means_vary_as_chance_says_also_for_two_valued_and_sorted_rows(sort):
    """n_b |m_b - m|^2 / variance sums to chi2 with B - 1 degrees of freedom. False failure 2 x 2e-5."""
    x = np.random.default_rng(5).integers(0, 2, size=(3200, 1)).astype(float)
    phi = SketchFeatures.fit(x[:200], "identity")
    sketch = Sketch(phi).add(np.sort(x, axis=0) if sort else x)
    spread = float((sketch.counts * (sketch.means[:, 0] - sketch.mean[0]) ** 2).sum() / sketch.covariance[0, 0])
    # sorted rows are spread over blocks more evenly than chance, never less
    low, high = stats.chi2(31).ppf([1e-5, 1 - 1e-5])
    assert (0.0 if sort else low) < spread < high


# -- merging ----------------------------------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(0, 600), max_size=6), order=st.randoms(use_true_random=False))
def test_any_order_and_any_sharding_give_the_sketch_of_the_whole(cuts, order):
    x = rows(600)
    x[5], x[11] = 1e3, -1e3
    phi = SketchFeatures.fit(rows(100, seed=1), "identity")
    whole = Sketch(phi).add(x)
    edges = sorted({0, *cuts, 600})
    shards = [Sketch(phi, first_row=a).add(x[a:b]) for a, b in pairwise(edges)]
    plain = [Sketch(phi).add(x[a:b]) for a, b in pairwise(edges)]
    while len(shards) > 1:  # a random tree of merges
        for parts in (shards, plain):
            a = parts.pop(order.randrange(len(parts)))
            b = parts.pop(order.randrange(len(parts)))
            parts.append(a.merge(b))
    merged, other = shards[0], plain[0]
    for found in (merged, other):
        assert found.n == whole.n
        close(found.mean, whole.mean, 1e-12)
        close(found.covariance, whole.covariance, 1e-12 * np.abs(whole.covariance).max())
        for name, histogram in whole.histograms.items():
            assert (found.histograms[name].counts == histogram.counts).all()
    assert (merged.counts == whole.counts).all()
    close(merged.means, whole.means, 1e-12 * np.abs(whole.means).max())
    assert other.counts.sum() == 600


def test_merging_leaves_its_parts_alone_and_knows_empty_ones(phi):
    a, b = Sketch(phi).add(rows(50)), Sketch(phi).add(rows(60, seed=2))
    before = a.mean
    assert a.merge(b).n == 110
    close(a.mean, before)
    close(Sketch(phi).merge(a).covariance, a.covariance)
    close(a.merge(Sketch(phi)).covariance, a.covariance)
    assert Sketch(phi).merge(a).add(rows(4)).n == 54
    assert a.n == 50


def test_other_features_are_refused_in_words(phi):
    a = Sketch(phi)
    refitted = SketchFeatures.fit(rows(400, seed=2), "identity")
    reseeded = SketchFeatures.fit(rows(400, seed=1), "identity", seed=1)
    for other, words in (
        (refitted, "fitted apart"),
        (reseeded, "fitted apart"),
        (SketchFeatures.fit(rows(400, seed=1), "pca", dimension=2), r"'identity' \(5\) and 'pca' \(2\)"),
        (SketchFeatures.fit(rows(400, d=3), "identity"), "encode rows differently"),
    ):
        with pytest.raises(InputError, match=words):
            a.merge(Sketch(other))
    with pytest.raises(InputError, match="32 and 16 blocks"):
        a.merge(Sketch(phi, blocks=16))
    again = SketchFeatures.fit(rows(400, seed=1), "identity")
    assert a.merge(Sketch(again).add(rows(10))).n == 10


# -- histograms -------------------------------------------------------------------------------------------------------


def test_cells_count_what_comparisons_count():
    x = np.round(rows(3000), 1)
    x[::50, 1] = np.nan
    edges = real_edges(x[:500])
    assert edges.shape == (len(LEVELS), 5)
    for n in (0, 1, 31, 33, 3000):
        counts = Cells(edges).count(x[:n])
        for j in range(5):
            seen = x[:n, j][~np.isnan(x[:n, j])]
            beyond = [
                (seen > e).sum() if level > 0.5 else (seen >= e).sum()
                for e, level in zip(edges[:, j], LEVELS, strict=True)
            ]
            assert counts[j].tolist() == (np.array([len(seen), *beyond]) - np.array([*beyond, 0])).tolist()
    many = np.zeros((20_000, 5))  # more rows than bytes can count
    assert Cells(edges).count(many).sum() == 100_000


def test_tails_are_the_real_ones_and_single_precision_counts_alike():
    x = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    phi = SketchFeatures.fit(x[:10_000], "identity")
    a, b = Sketch(phi).add(x[10_000:]), Sketch(phi).add(x[10_000:].astype(np.float64))
    for name, histogram in a.histograms.items():
        assert (histogram.counts == b.histograms[name].counts).all()
        # 5 % beyond the edges at 5 and 95 %: two binomial errors of 0.22 %, five of them
        assert abs(histogram.counts[:3].sum() / 10_000 - 0.05) < 5 * 0.0031
        assert abs(histogram.counts[-3:].sum() / 10_000 - 0.05) < 5 * 0.0031
    assert len(a.histograms["x0"].cells) == len(a.histograms["x0"].counts)


def test_wide_rows_and_images_are_counted_by_feature():
    images = np.random.default_rng(0).integers(0, 256, size=(400, 3, 10, 10), dtype=np.uint8)
    phi = SketchFeatures.fit(images, "pca", dimension=3)
    sketch = Sketch(phi).add(images)
    assert list(sketch.histograms) == ["pc1", "pc2", "pc3"]
    assert all(h.n == 400 for h in sketch.histograms.values())


# -- tables -----------------------------------------------------------------------------------------------------------


def table(n=500, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, n)
    age[::10] = np.nan
    city = rng.choice(np.array(["a", "b", "c"], dtype=object), n, p=[0.5, 0.3, 0.2])
    city[::25] = None
    return {"age": age, "city": city, "zip": rng.integers(0, 3, n)}


def test_columns_are_encoded_as_recorded():
    real = table()
    phi = SketchFeatures.fit(real, "identity", categorical=("zip",))
    zips = [str(v) for v in np.argsort(-np.bincount(real["zip"]), kind="stable")]
    assert phi.labels == ["age", "age missing", "city=b", "city=c", "city missing", *[f"zip={z}" for z in zips[1:]]]
    data = {"age": np.array([np.nan, 60.0]), "city": np.array([None, "z"], dtype=object), "zip": np.array([0.0, 9.0])}
    columns = phi.encoder(data).columns.numpy()
    mean, scale = np.nanmean(real["age"]), np.nanstd(real["age"], ddof=1)
    close(columns[:, 0], [0.0, (60 - mean) / scale])
    assert columns[:, 1:5].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]
    known = {"age": np.array([mean]), "city": np.array(["c"], dtype=object), "zip": np.array([int(zips[1])])}
    assert phi.encoder(known).columns.numpy().round(9).tolist() == [[0, 0, 0, 1, 0, 1, 0]]
    sketch = Sketch(phi).add(data)
    assert sketch.missing == {"age": 1, "city": 1}
    assert sketch.unknown == {"city": 1, "zip": 1}
    histogram = sketch.histograms["city"]
    assert dict(zip(histogram.cells, histogram.counts.tolist(), strict=True)) == {"a": 0, "b": 0, "c": 0, "other": 1}
    full = Sketch(phi).add(table(seed=1))
    assert np.linalg.cond(full.covariance) < 1e3  # all categories as columns would make it singular
    assert full.missing == {"age": 50, "city": 20}
    assert full.merge(sketch).missing == {"age": 51, "city": 21}


def test_rare_categories_share_other():
    names = np.array([f"c{i:02d}" for i in range(40) for _ in range(50 - i)], dtype=object)
    phi = SketchFeatures.fit({"k": names}, "identity")
    assert phi.dimension == 32
    assert phi.labels[-1] == "k=other"
    assert Sketch(phi).add({"k": names}).unknown == {"k": sum(50 - i for i in range(32, 40))}


def test_missing_values_count_where_the_real_rows_had_none():
    phi = SketchFeatures.fit({"a": rows(100)[:, 0], "b": rows(100)[:, 1]}, "identity")
    assert phi.labels == ["a", "b"]
    sketch = Sketch(phi).add({"a": np.array([1.0, np.nan, 2.0]), "b": np.zeros(3)})
    assert (sketch.n, sketch.missing, sketch.histograms["a"].n) == (3, {"a": 1}, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, "age": t["city"]}, "'age' holds text"),
        (lambda t: {k: v for k, v in t.items() if k != "age"}, "'age' of the sketch is not in the data"),
        (lambda t: {**t, "more": t["age"]}, "1 columns are not in the sketch: more"),
        (
            lambda t: {**t, "age": np.where(np.arange(500) == 7, np.inf, t["age"])},
            "1 cells of column 'age' are inf.* 7",
        ),
        (lambda t: t["age"], "an array was given"),
    ],
)
def test_tables_that_do_not_fit(change, words):
    phi = SketchFeatures.fit(table(), "identity")
    with pytest.raises(InputError, match=words):
        Sketch(phi).add(change(table(seed=1)))


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (rows(4, d=4), r"shape \(4,\), the sketch is of rows of shape \(5,\)"),
        ({"a": np.zeros(3)}, "a table with named columns was given"),
        (np.zeros((3, 5), complex), "complex"),
        (np.float64(1.0), "shape"),
    ],
)
def test_rows_of_another_kind(phi, bad, words):
    with pytest.raises(InputError, match=words):
        Sketch(phi).add(bad)


def test_nan_cells_are_located_and_change_nothing(phi):
    sketch = Sketch(phi).add(rows(100))
    before = sketch.covariance
    bad = rows(60_000)
    bad[50_003, 2], bad[50_003, 4], bad[59_000, 0] = np.nan, np.inf, np.nan
    with pytest.raises(InputError, match=r"3 cells in 2 of the rows 100 to 60099 .* the first is row 50103, column x2"):
        sketch.add(bad)
    assert sketch.n == 100
    assert (sketch.covariance == before).all()


def test_numbers_that_overflow_change_nothing():
    phi = SketchFeatures.fit(rows(300), "quadratic")
    sketch = Sketch(phi).add(rows(100))
    before, bad = sketch.covariance, rows(60_000)
    bad[59_990] = 1e200
    with pytest.raises(InputError, match=r"row 60090, column x0 is 1e\+200: powers of such numbers overflow"):
        sketch.add(bad)
    assert sketch.n == 100
    assert (sketch.covariance == before).all()
    assert sketch.histograms["x0"].n == 100


def test_absurd_settings(phi):
    with pytest.raises(InputError, match="1 blocks"):
        Sketch(phi, blocks=1)
    with pytest.raises(InputError, match="first_row is -1"):
        Sketch(phi, first_row=-1)
    with pytest.raises(InputError, match="Did you mean 'pca'"):
        SketchFeatures.fit(rows(10), "pcs")
    with pytest.raises(InputError, match="dimension is 0"):
        SketchFeatures.fit(rows(10), dimension=0)
    with pytest.raises(InputError, match="1 rows were given to fit"):
        SketchFeatures.fit(rows(1))


# -- maps of the user -------------------------------------------------------------------------------------------------


def network(seed=0):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3, dtype=torch.float32)).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return net


def fork_rng(work):
    """Building a layer draws initial weights from the global generator; tests leave that as it was."""
    with torch.random.fork_rng():
        return work()


def test_a_module_sees_images_in_its_own_range_and_is_known_by_its_weights(tmp_path):
    net, other = fork_rng(network), fork_rng(lambda: network(1))
    images = np.random.default_rng(0).integers(0, 256, size=(50, 1, 4, 4), dtype=np.uint8)
    phi = SketchFeatures.fit(images, net)
    with torch.no_grad():
        expected = net(torch.from_numpy((images.astype(np.float32) - 127.5) / 127.5)).double()
    close(phi(images), expected, 1e-6)
    assert phi.labels == ["Sequential[0]", "Sequential[1]", "Sequential[2]"]
    assert (
        SketchFeatures.fit(images, net).fingerprint == phi.fingerprint != SketchFeatures.fit(images, other).fingerprint
    )
    sketch = Sketch(phi).add(images)
    sketch.save(tmp_path / "net.sketch")
    bare = Sketch.load(tmp_path / "net.sketch")
    assert bare.merge(sketch).n == 100
    with pytest.raises(InputError, match="Give the map again"):
        bare.add(images)
    assert Sketch.load(tmp_path / "net.sketch", features=net).add(images).n == 100
    with pytest.raises(InputError, match="are not those of the sketch"):
        Sketch.load(tmp_path / "net.sketch", features=other)
    with pytest.raises(InputError, match="training mode"):
        SketchFeatures.fit(images, net.train())


def test_functions_that_change_their_shape_are_refused():
    ragged = SketchFeatures.fit(rows(50), lambda x: x[:, : 2 if len(x) == 2 else 3])
    with pytest.raises(InputError, match="gave 3 numbers a row, not 2"):
        ragged(rows(9))
    with pytest.raises(InputError, match=r"gave shape \(1, 5\) for 2 rows"):
        SketchFeatures.fit(rows(50), lambda x: x[:1])


# -- built-in maps ----------------------------------------------------------------------------------------------------


def test_products_that_say_nothing_are_left_out():
    """Squares of two-valued columns, also of one whose third value comes late, and products that do not vary."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(0, 2, 5000), np.zeros(5000), rng.integers(0, 2, 5000), rng.normal(size=5000)])
    x[:, 1] = 1 - x[:, 0]
    x[4999, 2] = 2
    labels = SketchFeatures.fit(x, "quadratic").labels
    assert labels == ["x0", "x1", "x2", "x3", "x2^2", "x3^2", "x0*x2", "x0*x3", "x1*x2", "x1*x3", "x2*x3"]


def test_the_seed_chooses_the_products():
    chosen = [SketchFeatures.fit(rows(300), "quadratic", dimension=12, seed=s).labels[-2:] for s in (0, 0, 1, 2)]
    assert chosen[0] == chosen[1]
    assert len({tuple(c) for c in chosen}) > 1


def test_few_rows_are_no_reason_to_warn():
    """The whitening of the fit is not the covariance that drift is measured with."""
    assert not any("inflates" in w for w in SketchFeatures.fit(rows(40, d=10), "pca", dimension=8).warnings)


def test_steps_by_hand_and_from_tensors_in_any_order():
    x = torch.tensor([[1.0, 5.0, 2.0], [3.0, 5.0, 8.0]], dtype=torch.float64)
    mean, scale = torch.tensor([2.0, 4.0]).double(), torch.tensor([0.5, 2.0]).double()
    scaled = Standardise(torch.tensor([0, 2]), mean, scale)
    close(scaled(x), [[-2, -1], [2, 2]])
    waves = Cosine(torch.zeros(2, 3).double(), torch.zeros(3).double())
    close(waves(scaled(x)), np.full((2, 3), 2**0.5))
    stored = to_tensors((scaled, waves))
    again = from_tensors(dict(reversed(stored.items())))
    assert [type(step) for step in again] == [Standardise, Cosine]
    close(again[0](x), scaled(x))


def test_the_protocol_and_functions_and_what_they_may_return():
    class Embedding:
        name, dimension, fingerprint = "embedding", 2, "v1"

        def __call__(self, x):
            return x[:, :2]

    x = rows(40)
    phi = SketchFeatures.fit(x, Embedding())
    assert (phi.name, phi.dimension, phi.phi.fingerprint) == ("embedding", 2, "v1")
    kept = torch.from_numpy(x.copy()).float()
    Sketch(SketchFeatures.fit(kept, lambda t: t)).add(kept)
    close(kept, x, 1e-6)  # a map that returns its own input must not have it overwritten
    stored = torch.ones(40, 2, dtype=torch.float64).cumsum(0)
    Sketch(SketchFeatures.fit(x, lambda t: stored[: len(t)])).add(x)
    assert (stored == torch.ones(40, 2).cumsum(0)).all()  # nor what it keeps
    other = SketchFeatures.fit(rows(40, seed=3), Embedding())
    with pytest.raises(InputError, match="fitted apart"):  # the same map, but other edges: counts would not add
        Sketch(phi).merge(Sketch(other))
    with pytest.raises(InputError, match=r"gave shape \(40,\)|gave shape \(2,\)"):
        SketchFeatures.fit(x, lambda t: t[:, 0])
    with pytest.raises(InputError, match="for arrays and images"):
        SketchFeatures.fit({"a": x[:, 0]}, Embedding())


# -- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_was_written(kind, tmp_path):
    data = table(), table(seed=1)
    phi = SketchFeatures.fit(data[0], kind, categorical=("zip",))
    sketch = Sketch(phi, first_row=5).add(data[1])
    sketch.save(tmp_path / "a")
    again = Sketch.load(tmp_path / "a")
    assert again.features.fingerprint == phi.fingerprint
    assert again.features.config() == phi.config()
    assert again.features.labels == phi.labels
    assert json.loads(json.dumps(phi.config())) == phi.config()
    for name in ("counts", "means", "covariance", "mean"):
        assert (getattr(again, name) == getattr(sketch, name)).all()
    assert again.missing == sketch.missing
    assert all((again.histograms[k].counts == h.counts).all() for k, h in sketch.histograms.items())
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    more = table(seed=2)
    close(again.add(more).covariance, sketch.add(more).covariance)
    close(again.means, sketch.means)


@pytest.mark.parametrize("kind", ["identity", "pca", "random_fourier"])
def test_the_file_is_small_and_holds_no_row(kind, tmp_path):
    x = rows(600, d=256)
    sketch = Sketch(SketchFeatures.fit(x[:300], kind, dimension=256)).add(x[300:])
    sketch.save(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    assert len(content) <= 2_100_000
    assert not any(row[:3].tobytes() in content for row in (*x, *x.astype(np.float32)))


def test_damaged_foreign_and_newer_files(phi, tmp_path):
    path = tmp_path / "s.sketch"
    Sketch(phi).add(rows(99)).save(path)
    whole = path.read_bytes()
    assert sketch_file.is_sketch(path)
    for size in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match="damaged or incomplete"):
            Sketch.load(path)
    for position in (len(whole) - 3, whole.index(b"identity")):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CorruptFileError, match="hash"):
            Sketch.load(path)
    entry = json.loads(
        json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]["driftlaw sketch"]
    )
    path.write_bytes(save(load(whole), {"driftlaw sketch": json.dumps({**entry, "version": 2})}))
    with pytest.raises(InputError, match=r"format 2, this driftlaw reads 1\. Upgrade driftlaw"):
        Sketch.load(path)
    for foreign in (b"", b"hello", save({"a": np.zeros(3)})):
        path.write_bytes(foreign)
        with pytest.raises(InputError, match="is not a sketch"):
            Sketch.load(path)
    with pytest.raises(DataNotFoundError):
        Sketch.load(tmp_path / "none")


def test_a_full_disk_leaves_the_old_file(phi, small_disk):
    folder = small_disk("32k")
    sketch = Sketch(phi).add(rows(99))
    sketch.save(folder / "s")
    old = (folder / "s").read_bytes()
    (folder / "fill").write_bytes(bytes(32_768 - 4096 * (-(-len(old) // 4096)) - 4096))
    big = SketchFeatures.fit(rows(200, d=60), "identity")
    with pytest.raises(StorageError, match="no space left"):
        Sketch(big).add(rows(99, d=60)).save(folder / "s")
    assert (folder / "s").read_bytes() == old
    assert sorted(p.name for p in folder.iterdir()) == ["fill", "s"]


def test_unseen_categories_are_counted_by_name_and_merge(tmp_path):
    import pandas as pd

    rng = np.random.default_rng(0)
    real = pd.DataFrame({"c": rng.choice(list("abc"), 500), "x": rng.normal(size=500)})
    base = sketch(real, "identity")
    names = np.array(["a", "b", *(f"new{i}" for i in range(1500))])
    rows = pd.DataFrame({"c": names[rng.integers(0, 1502, 6000)], "x": rng.normal(size=6000)})
    whole = Sketch(base.features).add(rows)
    half, rest = (Sketch(base.features).add(part) for part in (rows[:2500], rows[2500:]))
    merged = rest.merge(half)
    assert merged.unseen == whole.unseen
    counts = rows["c"].value_counts()
    assert len(whole.unseen["c"]) == 1000
    assert all(counts[name] == count for name, count in whole.unseen["c"].items())
    whole.save(tmp_path / "s.sketch")
    assert Sketch.load(tmp_path / "s.sketch").unseen == whole.unseen
    assert base.unseen == {}


def test_a_new_value_is_found_among_many_rare_ones():
    rng = np.random.default_rng(0)
    names = np.array([f"id{i}" for i in range(5000)])
    real_rows = {"c": rng.choice(names, 20_000), "x": rng.normal(size=20_000)}
    phi = SketchFeatures.fit({k: v[:500] for k, v in real_rows.items()}, "identity")
    real, other = Sketch(phi).add(real_rows), Sketch(phi)
    other.add({"c": np.where(rng.random(4000) < 0.05, "never", rng.choice(names, 4000)), "x": rng.normal(size=4000)})
    assert len(real.unseen["c"]) == 1000  # the names of smallest hash; of others nothing is claimed
    found = other.new(real).get("c", {})
    assert set(found) <= {"never"} | (set(other.unseen["c"]) - set(real_rows["c"]))
    few = Sketch(phi).add({"c": rng.choice(names[:200], 4000), "x": rng.normal(size=4000)})
    more = Sketch(phi).add({"c": [*rng.choice(names[:200], 3800), *["never"] * 200], "x": rng.normal(size=4000)})
    assert more.new(few) == {"c": {"never": 200}}
