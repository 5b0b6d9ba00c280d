"""Sets are read so that they can be compared: scales, shapes, order, options that fit somewhere."""

import numpy as np
import pytest
from PIL import Image

import driftlaw as dl
from driftlaw.auditing.reading.rule import order_question, range_note
from driftlaw.errors import ConfigError

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(
    ("real", "other", "words"),
    [
        ((-1, 1), (0, 0.99), "2 x - 1"),
        ((-1, 0.98), (0, 255), "0.00784314 x - 1"),
        ((0, 1), (0, 254), "0.00392157 x + 0"),
        ((0, 255), (-1, 1), "127.5 x + 127.5"),
        ((-3, 4), (-900, 800), "scaled differently"),
        ((-1, 1), (-0.9, 1), None),
        ((-3, 4), (-9, 11), None),
        ((-3, 4), (0, 1), None),
        ((0, 1), (0.1, 0.7), None),
        ((2, 2), (2, 2), None),
        (None, (0, 1), None),
    ],
)
def test_scales(real, other, words):
    note = range_note(real, other)
    assert (note is None) == (words is None)
    assert words is None or words in note


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["run/g1.csv", "run/g10.csv", "run/g2.csv"], "g1.csv, g2.csv, g10.csv"),
        (["g1", "g2", "g10"], None),
        (["a", "b"], None),
        (["g01", "g02", "g10"], None),
        (["g2", "g1"], None),
        (["x1", "y10", "z2"], None),
        (["g1"], None),
        (["g9/part", "g11/part"], None),
    ],
)
def test_the_order_of_a_glob(names, asked):
    question = order_question(names)
    assert (question is None) == (asked is None)
    assert asked is None or asked in question


@pytest.fixture
def pictures(tmp_path):
    images = RNG.integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    (tmp_path / "png").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / "png" / f"{i:03d}.png")
    return tmp_path / "png", images


def test_an_audit_names_scales_and_shapes(pictures):
    folder, images = pictures
    unit = images[:, 0].astype(np.float32) / 255
    found = dl.audit(folder, [unit, images, images.transpose(0, 2, 3, 1)], dimension=3)
    first, second, third = (" ".join(g.warnings) for g in found.generations)
    assert "the numbers look scaled differently" in first
    assert "have shape (8, 8), the real ones (1, 8, 8): read as such" in first
    assert "scaled" not in second + third
    assert found.generations[1].drift.value == found.generations[2].drift.value


def test_options_apply_where_they_fit(pictures):
    folder, images = pictures
    small = np.asarray(images[:, :, ::2, ::2], np.float32) / 127.5 - 1
    found = dl.audit(folder, [small], dimension=3, size=4)
    assert found.generations[0].n == 300
    with pytest.raises(ConfigError, match="size = 4 has no meaning for any of these data: it is for images"):
        dl.audit(small, [small], dimension=3, size=4)


def test_bad_images_are_left_out_of_an_audit_and_counted(pictures):
    folder, images = pictures
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:40])
    with pytest.raises(dl.InputError, match=r"005.png cannot be read .*--skip-bad"):
        dl.audit(folder, [images], dimension=3)
    found = dl.audit(folder, [images], dimension=3, skip_bad=True)
    assert any("1 of 300 images" in w for w in found.warnings)


def test_numbers_that_overflow_are_located():
    x = RNG.normal(size=(500, 3))
    x[321, 2] = 1e200
    with pytest.raises(dl.InputError, match=r"row 321, column x2 is 1e\+200"):
        dl.sketch(x, like=dl.sketch(RNG.normal(size=(500, 3)), "identity"))
    with pytest.raises(dl.InputError, match="overflow"):
        dl.sketch(1e200 * RNG.normal(size=(500, 3)), "pca")
    with pytest.raises(dl.InputError, match=r"cells of column 'a' are beyond 1e\+75"):
        dl.sketch({"a": x[:, 2], "b": x[:, 0]}, "pca", seed=0, fit_on={"a": x[:, 2], "b": x[:, 0]})


@pytest.mark.parametrize("row", [3, 117, 444])
def test_a_bad_cell_is_located_whichever_part_it_falls_in(tmp_path, row):
    x = RNG.normal(size=(500, 3))
    x[row, 1] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(dl.InputError, match=rf"row {row}, column x1 of .*x.npy is inf"):
        dl.sketch(tmp_path / "x.npy", "identity")
    with pytest.raises(dl.InputError, match=rf"row {row}, column 'b' of the table is inf"):
        dl.sketch({"a": x[:, 0], "b": x[:, 1]}, "identity")


def test_notes_of_reading_are_kept_in_the_file(tmp_path):
    table = {"x": RNG.normal(size=200), "v": ["1,000.5", "2.25"] * 100}
    sketch = dl.sketch(table, "identity")
    sketch.save(tmp_path / "s")
    again = dl.Sketch.load(tmp_path / "s")
    assert again.notes == sketch.notes
    assert any("numbers written as text" in note for note in again.notes)
    x = RNG.normal(size=(100, 2))
    dl.sketch(x, "identity").save(tmp_path / "x")
    low, high = dl.Sketch.load(tmp_path / "x").extent
    assert x.min() <= low < high <= x.max()


def test_a_new_code_is_not_hidden_in_other():
    """60 codes share 32 columns and "other"; a new code takes the place of a rare one, so "other" does not grow."""
    codes = np.array([f"k{i:02d}" for i in range(60)])
    weights = np.linspace(3, 1, 60) / np.linspace(3, 1, 60).sum()

    def rows(n, names):
        return {"c": RNG.choice(names, n, p=weights), "x": RNG.normal(size=n)}

    swapped = np.where(codes == "k59", "new", codes)
    found = dl.audit(rows(6000, codes), [rows(6000, codes), rows(6000, swapped)], features="identity")
    named = [{name for c in g.columns for name, _ in c.new} for g in found.generations]
    assert named == [set(), {"new"}]
    reasons = " ".join(f.text for f in found.generations[1].findings)
    assert "c: new categories 'new'" in reasons
