"""The page in a real browser: all drawn, nothing requested, readable in light and dark, on wide and small screens."""

import shutil
from itertools import pairwise

import pytest
import report_runs

from driftlaw import report

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

#: Lowest contrast (WCAG 2.1 relative luminance) of any visible text against what is painted behind it.
CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ratio = (a, b) => (Math.max(luminance(a), luminance(b)) + .05) / (Math.min(luminance(a), luminance(b)) + .05);
  const painted = e => parse(getComputedStyle(e).backgroundColor);
  const behind = e => { while (painted(e)[3] !== 1) e = e.parentElement; return painted(e); };
  const probe = document.createElement('i'); document.body.append(probe);
  const colour = name => { probe.style.color = `var(--${name})`; return parse(getComputedStyle(probe).color); };
  const heat = colour('heat'); let worst = [99, ''], texts = 0, figure = 0;
  document.querySelectorAll('details').forEach(d => d.open = true);
  const note = (value, text) => { if (value < worst[0]) worst = [value, text]; };
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || ['SCRIPT', 'STYLE', 'title'].includes(e.tagName) || !e.getClientRects().length) continue;
    const svg = e.closest('svg'), style = getComputedStyle(e), c = parse(svg ? style.fill : style.color);
    note(ratio(c, behind(svg ? svg.parentElement : e)), e.textContent); texts += 1;
    if (svg) figure += 1;
    if (svg && c.join() === colour('ink').join()) note(ratio(c, heat), 'on the heat map: ' + e.textContent);
  }
  probe.remove();
  return {worst, texts, figure};
}"""

DRAWN = """() => ({
  figures: [...document.querySelectorAll('svg')].map(s => [
    s.getBoundingClientRect().width, s.getBoundingClientRect().height, s.getBBox().width,
    s.querySelectorAll('path, use, rect').length, s.querySelectorAll('text').length]),
  images: [...document.querySelectorAll('img')].map(i => [i.naturalWidth, i.getBoundingClientRect().width, i.complete]),
})"""

#: How far text of a figure reaches beyond its frame, in CSS pixels.
CUT = """() => Math.max(0, ...[...document.querySelectorAll('svg text')].map(t => {
  const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
  return Math.max(b.left - a.left, a.right - b.right, b.top - a.top, a.bottom - b.bottom);
}))"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs the system package chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    with sync_api.sync_playwright() as p:
        launched = p.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    one = report_runs.digits(root / "sweep" / "a", 3)
    two = report_runs.digits(
        root / "sweep" / "b", 3, alpha=0.9, drift=0.1, name="a long name without a space " + "x" * 120
    )
    bounds = report_runs.gmm(root / "bounds", 4)
    report_runs.analysed().save(bounds.directory.path)
    return {
        "bounds": report.write(bounds),
        "digits": report.write(report_runs.digits(root / "digits")),
        "gmm": report.write(report_runs.gmm(root / "gmm")),
        "sweep": report.write_sweep({"a": one, "b" * 90: two}, root / "sweep"),
        "long": report.write(two),
    }


@pytest.fixture
def visit(browser, pages):
    """Open a page; afterwards no error was logged and nothing but the file was asked for."""
    opened = []

    def go(name, width=1280, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        tab = context.new_page()
        said, asked, address = [], [], pages[name].as_uri()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address, wait_until="networkidle")
        opened.append((context, said, asked, address))
        return tab

    yield go
    for context, said, asked, address in opened:
        context.close()
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [address]


@pytest.mark.parametrize(
    ("name", "figures", "images"), [("digits", 13, 6), ("gmm", 44, 0), ("sweep", 10, 0), ("bounds", 36, 0)]
)
def test_every_figure_is_drawn(visit, name, figures, images):
    found = visit(name).evaluate(DRAWN)
    assert len(found["figures"]) == figures
    for width, height, painted, shapes, texts in found["figures"]:
        assert min(width, height, painted) > 50
        assert shapes > 5
        assert texts > 3
    assert len(found["images"]) == images
    for natural, width, complete in found["images"]:
        assert natural > 0
        assert width > 100
        assert complete


@pytest.mark.parametrize("name", ["digits", "gmm", "sweep", "long", "bounds"])
@pytest.mark.parametrize("width", [400, 1280])
def test_fits_the_screen(visit, name, width):
    tab = visit(name, width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(CUT) <= 2


@pytest.mark.parametrize("name", ["digits", "gmm", "sweep", "bounds"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_in_both_themes(visit, name, scheme):
    tab = visit(name, scheme=scheme)
    found = tab.evaluate(CONTRAST)
    assert found["texts"] > 60
    assert found["figure"] > 40
    assert found["worst"][0] >= 4.5, found["worst"]
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 28)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_toggle_turns_the_theme_over_and_back(visit, scheme):
    tab = visit("digits", scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    before, button = tab.evaluate(background), tab.locator("#theme")
    assert button.inner_text() == ("Dark" if scheme == "light" else "Light")
    button.click()
    assert tab.evaluate(background) != before
    assert tab.evaluate(CONTRAST)["worst"][0] >= 4.5
    button.click()
    assert tab.evaluate(background) == before


def test_reads_without_script_and_prints_light(visit):
    tab = visit("digits", scheme="dark", script=False)
    assert not tab.locator("#theme").is_visible()
    assert tab.locator("svg.figure").count() == 13
    tab.emulate_media(media="print")
    assert tab.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"


def test_headings_and_landmarks(visit):
    tab = visit("digits")
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert tab.locator("main").count() == 1
    assert tab.locator("img:not([alt])").count() == 0
    assert tab.get_by_role("img", name="Line chart of").count() > 5
