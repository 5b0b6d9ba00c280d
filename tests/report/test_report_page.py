import errno
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import report_runs

from driftlaw import report
from driftlaw.errors import CorruptFileError, InputError, StorageError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import load
from driftlaw.report import page
from driftlaw.report.figures import run as figures
from driftlaw.report.figures import samples, svg
from driftlaw.report.vocabulary import measure

LIMIT = 5 * 2**20
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Text, ids, references and attributes; fails on tags that do not nest."""

    def __init__(self, html):
        super().__init__()
        self.text, self.ids, self.links, self.stack, self.tags = [], [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[k] for k in ("href", "src", "xlink:href", "action") if k in found]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in {"script", "style"}:
            self.text.append(data)

    def __contains__(self, text):
        return text in re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    return report_runs.digits(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def image_html(image_run):
    return report.build(image_run)


@pytest.fixture(scope="module")
def vector_html(tmp_path_factory):
    return report.build(report_runs.gmm(tmp_path_factory.mktemp("runs") / "gmm"))


def test_image_study(image_html):
    found = Page(image_html)
    for text in ("How far from the real data", "Generation 5", "Real data", "Fréchet distance", "outside the floor",
                 "Origin of each training set", "Memory of the refresh policy", "held-out rows are few",
                 "driftlaw run digits",
                 "13.5 [13.3, 13.7]", "Mahalanobis U-statistic", "held out loss", "816 MiB",
                 "all 10 classes equally often"):  # fmt: skip
        assert text in found, text
    assert "What one step costs" not in found
    assert "Path measures" not in found
    assert sum(tag == "img" for tag, _ in found.tags) == 6
    assert all(attrs["alt"] for tag, attrs in found.tags if tag == "img")
    figures_ = [attrs for tag, attrs in found.tags if tag == "svg"]
    assert len(figures_) == 7 + 1 + 1 + 2 + 2  # measures, classes, entropy, moments, lineage and memory
    assert all(a["role"] == "img" and a["aria-labelledby"] in found.ids for a in figures_)


def test_vector_study(vector_html):
    found = Page(vector_html)
    for text in ("What one step costs", "Path measures", "KL(p̂ⁿ ‖ qₙ₋₁)", "principal components",
                 "Infinite at every generation:",
                 "Infinite at generation 1:", "Not known at generation 1: the error energy is zero.",
                 "Generation 20"):  # fmt: skip
        assert text in found, text
    assert sum(tag == "img" for tag, _ in found.tags) == 0
    assert "the floor" not in found


@pytest.mark.parametrize("which", ["image_html", "vector_html"])
def test_complete_in_itself(which, request):
    html = request.getfixturevalue(which)
    found = Page(html)
    assert len(html.encode()) <= LIMIT
    assert len(found.ids) == len(set(found.ids))
    for link in found.links:
        assert link.startswith(("data:", "#")), link
        assert not link.startswith("#") or link[1:] in found.ids
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(found.ids)
    assert "@import" not in html
    assert not re.search(r"#0102[0-9a-f]{2}\b", html), "a sentinel colour was left"
    assert "default-src 'none'" in html
    assert not re.search(r"\b(nan|inf)\b", " ".join(found.text)), "a special number got into the text"


def test_same_records_same_page(image_run, image_html):
    assert report.build(image_run) == image_html


def test_axis_numbers_are_not_cut():
    """Coordinates are shortened to two decimals; tick labels are text and must keep theirs."""
    values = {n: report_runs.normal(0.0015 * n, 0.0001) for n in range(1, 4)}
    figure = figures.curve("x", measure("mmd2"), values, {}, 3)
    ticks = [float(text) for text in re.findall(r">(\d\.\d+)</text>", figure)]
    assert len(ticks) > 3
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-9)
    assert 0 < ticks[1] - ticks[0] < 0.005
    assert not re.search(r' d="[^"]*\d\.\d{3}', figure)


def test_what_is_not_finite_is_never_drawn():
    infinite, refused = Estimate.infinite("m", "heavy tails"), Estimate.refused("m", "no data")
    assert figures.curve("x", measure("chi2"), {1: infinite, 2: refused}, {}, 2) is None
    chart = page.chart("x", measure("chi2"), {1: infinite, 2: report_runs.normal(1, 0.1), 3: refused}, {}, 3)
    assert chart.notes == ("Infinite at generation 1: heavy tails.", "Not known at generation 3: no data.")
    assert chart.figure.count("<use") == figures.curve(
        "x", chart.measure, {2: report_runs.normal(1, 0.1)}, {}, 3
    ).count("<use")
    assert "generation 2: 1 [0.804, 1.2]." in chart.figure
    assert "generation 1:" not in chart.figure


def test_an_interval_without_an_upper_end_is_said():
    wide = Estimate(1.0, float("nan"), 0.5, float("inf"), 100, "m")
    chart = page.chart("x", measure("chi2"), {1: report_runs.normal(1, 0.1), 2: wide}, {}, 2)
    assert chart.notes == ("The interval has no upper end at generation 2.",)
    assert "generation 2: 1 [0.5, infinite]" in chart.figure
    assert page._number_fact("x", wide, "").interval == "0.5 to infinite"


def test_user_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    change = {
        "warnings": (evil,),
        "modes": {evil: report_runs.normal(0.5, 0.1), "entropy": report_runs.normal(0.5, 0.1)},
    }
    change["divergence"] = {evil: report_runs.normal(1, 0.1, method=evil, warnings=(evil,))}
    change["training"] = {evil: 1.0}
    history = report_runs.digits(tmp_path / "run", generations=2, name=evil, record=change)
    html = report.build(history)
    assert html.count("<script>") == 1
    assert "alert(1)</" not in html.replace("alert(1)&lt;/", "")
    assert evil in Page(html)
    assert "alert(1)</" not in report.build_sweep({evil: history}, {evil: 'x"onclick="alert(1)'}).replace("&lt;", "")
    assert 'onclick="alert' not in report.build_sweep({evil: history}, {evil: 'x"onclick="alert(1)'})


def test_infinite_and_refused_are_words_in_every_table(tmp_path):
    change = {
        "divergence": {
            "chi2": Estimate.infinite("tail test", "heavy tails"),
            "kl": Estimate.refused("ratio", "no data"),
        }
    }
    change |= {"floor": {"chi2": Estimate.refused("ratio", "no data")}}
    change |= {"moments": {"second_moment_drift": Estimate.refused("ratio", "zero moment")}, "modes": {}}
    found = Page(report.build(report_runs.digits(tmp_path / "run", generations=2, record=change)))
    assert "Infinite at every generation: heavy tails." in found
    assert "Not known at every generation: no data." in found
    assert not re.search(r"\b(nan|inf)\b", " ".join(found.text), re.I)


def test_one_generation(tmp_path):
    found = Page(report.build(report_runs.digits(tmp_path / "run", generations=1)))
    assert "After 1 generation at" in found
    assert "One generation has no memory yet." in found


def test_no_finished_generation(tmp_path):
    history = report_runs.digits(tmp_path / "run", generations=0)
    with pytest.raises(InputError, match=r"no finished generation.*driftlaw resume"):
        report.write(history)
    assert not (tmp_path / "run" / "report.html").exists()


def test_unfinished_run_says_so(tmp_path):
    history = report_runs.digits(tmp_path / "run", generations=2)
    history.config["generations"] = 5
    assert "of 5 planned: not finished" in Page(report.build(history))


def test_without_samples_and_with_a_damaged_file(tmp_path):
    assert "Samples of every generation" not in Page(
        report.build(report_runs.digits(tmp_path / "a", 2, real_rows=False))
    )
    history = report_runs.digits(tmp_path / "b", 2)
    (history.directory.folder(1) / "samples.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CorruptFileError, match=r"001.samples\.npy"):
        report.build(history)


def test_write_is_atomic_and_where_asked(tmp_path, image_run):
    assert report.write(image_run) == image_run.directory.path / "report.html"
    elsewhere = report.write(image_run, tmp_path / "new" / "page.html")
    assert elsewhere.read_text() == report.build(image_run)
    assert [p.name for p in elsewhere.parent.iterdir()] == ["page.html"]
    with pytest.raises(StorageError):
        report.write(image_run, elsewhere / "below-a-file.html")


def test_a_full_disk_leaves_the_old_page(tmp_path, image_run, monkeypatch):
    path = report.write(image_run, tmp_path / "page.html")
    before = path.read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        report.write(image_run, path)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == before


def test_memory_is_the_squared_propagator(image_run):
    G2 = page.squared_propagator(image_run)
    n, i = np.tril_indices(5)
    np.testing.assert_allclose(G2[n, i], 0.9 ** (2 * (n - i)), rtol=1e-12)
    assert np.all(np.triu(G2, 1) == 0)
    assert "43 % of the energy is left in generation 5" in page.memory_words(image_run)


@pytest.mark.parametrize(("count", "most", "length"), [(1, 24, 1), (24, 24, 24), (500, 24, 24)])
def test_thinning_keeps_both_ends(count, most, length):
    found = figures.thin(count, most)
    assert (found[0], found[-1], len(found)) == (1, count, length)


def test_many_generations_and_classes_stay_small(tmp_path):
    modes = {f"mode {k}": report_runs.normal(1 / 100, 0.001) for k in range(100)}
    history = report_runs.digits(tmp_path / "run", generations=60, drift=0.1, record={"modes": modes})
    html = report.build(history)
    assert len(html.encode()) <= LIMIT
    assert "Of 60 generations, 24 are shown." in Page(html)
    assert "81 others" in html


@pytest.mark.parametrize("shape", [(3, 96, 96), (1, 28, 28), (3, 32, 32), (1, 500, 400)])
def test_big_images_stay_within_the_limit(shape):
    rng = np.random.default_rng(0)
    rows = {n: rng.uniform(-1, 1, (40, *shape)).astype(np.float32) for n in range(8)}
    found = samples._images(rows, "")
    assert sum(len(p.picture) for p in found.panels) < 4_000_000
    assert len(found.panels) == 8


def test_contact_sheet_places_and_scales_pixels():
    x = np.full((12, 1, 2, 3), -1.0)
    x[11] = 1.0
    pixels = np.asarray(samples.contact_sheet(x))
    assert pixels.shape == (2 * 3 - 1, 10 * 4 - 1, 2)
    assert (pixels[3:5, 4:7] == 255).all()
    assert (pixels[3:5, :3, 0] == 0).all()
    assert (pixels[2, :, 1] == 0).all()
    grey = np.asarray(samples.contact_sheet(np.zeros((1, 3, 4, 4)), stride=2))
    assert grey.shape == (2, 2, 4)
    assert set(grey[..., 0].flat) == {128}
    assert np.asarray(samples.contact_sheet(np.full((1, 1, 1, 1), np.nan)))[0, 0, 0] == 0


def test_principal_components_are_those_of_the_real_rows():
    rng = np.random.default_rng(0)
    scale = np.array([0.1, 5.0, 0.2, 2.0])
    mean, components, share = samples.principal(rng.normal(size=(5000, 4)) * scale + 3)
    np.testing.assert_allclose(mean, 3, atol=0.3)
    np.testing.assert_allclose(components, np.eye(4)[:, [1, 3]], atol=0.03)
    np.testing.assert_allclose(share, [25 / 29.05, 4 / 29.05], atol=0.02)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_vectors_of_any_dimension_and_rows_that_are_not_finite(d):
    rng = np.random.default_rng(0)
    rows = {n: rng.normal(size=(50, d)).astype(np.float32) for n in range(3)}
    rows[2][:4] = np.nan
    found = samples._vectors(rows, "")
    assert [p.note for p in found.panels] == ["", "", "4 rows are not finite and are left out"]
    assert all("<svg" in p.picture for p in found.panels)


def test_natural_order():
    assert sorted(["mode 10", "mode 2", "b", "9", "10"], key=page.natural) == ["9", "10", "b", "mode 2", "mode 10"]


def test_real_class_shares_are_recorded_and_in_older_runs_come_from_the_labels(tmp_path, image_run, monkeypatch):
    seen = {}
    monkeypatch.setattr(figures, "classes", lambda name, columns: seen.update(columns))
    page.class_table(image_run)
    assert list(seen) == ["real", "1", "2", "3", "4", "5"]
    assert seen["real"]["3"] == 0.1
    older = report_runs.digits(tmp_path / "older", record={"real_modes": {}})
    page.class_table(older)
    assert seen["real"]["3"] == pytest.approx(np.mean(older.labels() == 3))


def test_nothing_heavy_is_loaded_and_pyplot_never():
    code = "import driftlaw.report, sys; print('matplotlib' in sys.modules, 'jinja2' in sys.modules);"
    code += "import driftlaw.report.page, driftlaw.report.sweep; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_global_matplotlib_settings_are_left_alone(image_run):
    import matplotlib as mpl

    before = json.dumps({k: str(v) for k, v in mpl.rcParams.items()})
    report.build(image_run)
    assert json.dumps({k: str(v) for k, v in mpl.rcParams.items()}) == before


def test_inline_svg_prefixes_what_is_referenced():
    raw = '<svg viewBox="0 0 9 9"><g id="a"><use xlink:href="#b"/></g><path id="b" style="fill: #010203"/></svg>'
    found = svg.inline(raw, "p", 'say "<&"')
    assert 'href="#p-b"' in found
    assert 'id="p-b"' in found
    assert 'id="p-a"' not in found
    assert "var(--ink)" in found
    assert "say &#34;&lt;&amp;&#34;" in found


def test_a_report_of_a_read_back_run_is_the_same(image_run, image_html):
    assert report.build(load(image_run.directory.path)) == image_html
