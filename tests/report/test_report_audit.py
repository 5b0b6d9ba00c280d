"""The page of an audit: what it says, and that it draws and reads in a real browser."""

import re

import numpy as np
import pytest
from test_report_browser import CONTRAST, CUT, DRAWN, browser  # noqa: F401

import driftlaw as dl
from driftlaw import report
from driftlaw.auditing.record import Audit


@pytest.fixture(scope="module")
def audits():
    rng = np.random.default_rng(0)
    real = np.clip(0.4 * rng.standard_normal((1200, 1, 8, 8)), -1, 1).astype(np.float32)
    line = [
        (np.clip(0.4 * rng.standard_normal((500, 1, 8, 8)) + 0.03 * i, -1, 1)).astype(np.float32) for i in range(1, 6)
    ]
    table = {
        "height": rng.standard_normal(900),
        "a long name of a column " + "x" * 60: rng.integers(0, 9, 900).astype(str),
    }
    moved = {k: (v + 1 if v.dtype.kind == "f" else v) for k, v in table.items()}
    return {
        "images": dl.audit(real, line, holdout=real[:300], dimension=8),
        "table": dl.audit(table, [moved], features="identity"),
    }


@pytest.fixture(scope="module")
def pages(audits, tmp_path_factory):
    root = tmp_path_factory.mktemp("audits")
    return {name: report.write_audit(a, root / f"{name}.html") for name, a in audits.items()}


def test_the_page_comes_from_the_record_alone(audits, pages):
    for name, a in audits.items():
        html = pages[name].read_text()
        assert html == report.build_audit(Audit.from_json(a.to_json()))
        assert not re.search(r'(?:src|href)="(?!data:|#)', html)
        for g in a.generations:
            assert f">{g.n}</td>" in html
    assert "not identifiable" in pages["table"].read_text()
    assert "a long name of a column" in pages["table"].read_text()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["images", "table"])
@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark")])
def test_the_page_draws_fits_and_reads(browser, pages, name, width, scheme):  # noqa: F811
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(pages[name].as_uri(), wait_until="networkidle")
    found = tab.evaluate(DRAWN)
    assert len(found["figures"]) >= 3
    for w, h, painted, shapes, texts in found["figures"]:
        assert min(w, h, painted) > 50
        assert shapes > 5
        assert texts > 3
    assert len(found["images"]) == (18 if name == "images" else 0)  # 10 sheets, 5 mean shifts, 3 features
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(CUT) <= 2
    assert tab.evaluate(CONTRAST)["worst"][0] >= 4.5, tab.evaluate(CONTRAST)["worst"]
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]


def test_no_page_prints_a_p_value_that_no_test_can_vouch_for():
    g = np.random.default_rng(3)
    found = dl.audit(g.normal(size=(4000, 4)), [g.normal(2.0, 1, size=(2000, 4))])
    assert found.generations[0].p_value.value < 1e-100
    page = report.build_audit(found)
    assert "below 1e-6" in page
    assert not re.search(r"10⁻[⁰¹²³⁴⁵⁶⁷⁸⁹]{2,}", page)
    assert "<td>0</td>" not in page[page.index("p-value, adjusted") :][:200]
