"""``driftlaw reproduce`` as people use it."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from driftlaw import reproduce as loop
from driftlaw.cli.verbs.reproduce import check_numbers
from driftlaw.errors import InputError, RunDirectoryError
from driftlaw.reproduce.mixture.study import measure_population
from driftlaw.reproduce.pages import page as report
from driftlaw.reproduce.pages.figures import panels
from driftlaw.reproduce.records import FigureData

SMALL = ["--alphas", "0.5", "--generations", "2", "--target-se", "0.2", "--workers", "1"]


def driftlaw(*args, cwd):
    command = [sys.executable, "-m", "driftlaw", "reproduce", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything, small, written through the library."""
    folder = tmp_path_factory.mktemp("reproduce") / "out"
    study = measure_population((0.1, 0.5), 3, seed=0, target_se=0.15)
    settings = {"mode": "population", "alphas": [0.1, 0.5], "generations": 3, "target-se": 0.15, "seed": 0}
    found = loop.reproduce((), study, target_se=0.15, settings=settings)
    return folder, found, report.write(found, folder)


def test_command_prints_claims_and_writes_everything(tmp_path):
    done = driftlaw("fig3", *SMALL, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["out"] == "runs/reproduce-fig3"
    verdicts = {c["key"]: c["verdict"] for c in document["claims"]}
    assert verdicts["eta-kde"] == "confirmed with a condition"
    assert verdicts["thm-4.2"] == "not measured in this run"
    folder = tmp_path / document["out"]
    assert (folder / "report.html").is_file()
    stored = json.loads((folder / "claims.json").read_text())
    assert stored["claims"] == document["claims"]
    command = document["claims"][0]["command"]
    assert command == "driftlaw reproduce fig3 --alphas 0.5 --generations 2 --target-se 0.2"


def test_unknown_figure_exits_2_with_the_nearest_and_writes_nothing(tmp_path):
    done = driftlaw("fig33", "--out", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "'fig3'" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["fig9"], "Add --images"),
        (["fig3", "--images"], "Leave out --images"),
        (["--images", "--paper"], "choose one"),
        (["--images", "--study", "gmm"], "not images"),
        (["--images", "--study", "digitz"], "cannot read the study"),
    ],
)
def test_image_options_that_do_not_fit_exit_2(tmp_path, options, words):
    small = ["--runs", "1", "--generations", "1", "--alphas", "0.5", "--preset", "smoke", "--workers", "1"]
    done = driftlaw(*options, *small, "--out", "x", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words.lower() in " ".join(done.stderr.lower().split())
    assert not (tmp_path / "x").exists()


def test_foreign_folder_is_refused_untouched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    done = driftlaw("fig2", "--out", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "not a reproduction" in done.stderr
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_folders(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file"):
        report.check_folder(tmp_path / "file")
    assert report.check_folder(tmp_path / "new") == tmp_path / "new"
    report.claim_folder(tmp_path / "new", {"mode": "population"})
    assert report.check_folder(tmp_path / "new").is_dir(), "an own folder goes on"


@pytest.mark.parametrize(("alphas", "se"), [([], 0.1), ([0.0], 0.1), ([0.5, 0.5], 0.1), ([1.2], 0.1), ([0.5], 0.0)])
def test_bad_numbers(alphas, se):
    with pytest.raises(InputError):
        check_numbers(alphas, se)


def test_the_page_lists_every_claim_with_verdict_and_command(made):
    folder, found, page = made
    html = page.read_text()
    assert page == folder / "report.html"
    assert len(found.claims) == len(loop.CLAIMS)
    for claim in found.claims:
        assert f'id="{claim.key}"' in html
        assert f"<code>{claim.command}</code>" in html
    assert html.count('<span class="tag') == len(found.claims)
    of_images = sum(c.figure in loop.IMAGES for c in found.claims)
    assert html.count("not measured in this run</span>") == of_images == 3
    assert not re.findall(r'(?:src|href)="https?:', html), "the page loads nothing"


def test_parquet_holds_exactly_what_is_drawn(made):
    """Each figure drawn again from the files alone is the same figure, and changed data change it."""
    folder, found, _ = made
    for data in found.figures:
        tables = {name: pd.read_parquet(folder / f"{data.name}-{name}.parquet") for name in data.tables}
        for name, table in data.tables.items():
            pd.testing.assert_frame_equal(tables[name], table)
        drawn = panels(FigureData(data.name, tables, data.notes))
        for panel in drawn:
            path = folder / f"{panel.name}.svg"
            assert (panel.figure is None) != path.exists()
            if panel.figure is not None:
                assert path.read_text() == report.standalone(panel.figure)
    names = {p.name for data in found.figures for p in panels(data) if p.figure is not None}
    assert {f"fig5-{k}-0.5" for k in ("discounted", "attributed", "pairwise")} < names


def test_drawings_follow_the_data(made):
    _, found, _ = made
    data = next(d for d in found.figures if d.name == "fig4")
    changed = data.tables["drift"].copy()
    changed.loc[changed.quantity.eq("kl") & changed.generation.eq(2), "value"] *= 1.3
    before, after = (
        {p.name: p.figure for p in panels(FigureData("fig4", {"drift": t}))} for t in (data.tables["drift"], changed)
    )
    assert before["fig4-kl"] != after["fig4-kl"]
    assert before["fig4-tv"] == after["fig4-tv"]


def test_infinite_chi2_is_said_and_never_drawn(made):
    _, found, _ = made
    data = next(d for d in found.figures if d.name == "fig4")
    panel = next(p for p in panels(data) if p.name == "fig4-chi2")
    assert panel.figure is None
    assert any("infinite at alpha 0.1 in generations 2 to 3" in note for note in panel.notes)
    assert any("in generation 1" in note for note in panel.notes)


def test_svg_files_stand_alone(made):
    import xml.etree.ElementTree as ET

    folder, _, _ = made
    files = list(folder.glob("*.svg"))
    assert len(files) > 15
    for path in files:
        text = path.read_text()
        ET.fromstring(text)
        used, defined = set(re.findall(r"var\((--[\w-]+)\)", text)), set(re.findall(r"(--[\w-]+):", text))
        assert used <= defined


@pytest.mark.heavy
def test_paper_mode_resumes(tmp_path):
    args = ["--paper", "--runs", "2", "--samples", "80", *SMALL, "--out", "p"]
    first = driftlaw("fig4", "table", *args, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    journals = {p: p.read_bytes() for p in (tmp_path / "p").glob("runs/alpha-*/seed-*/journal.jsonl")}
    assert len(journals) == 2
    table = pd.read_parquet(tmp_path / "p/table-numbers.parquet")
    again = driftlaw("fig4", "table", *args, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {p: p.read_bytes() for p in journals} == journals
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p/table-numbers.parquet"), table)
    assert json.loads((tmp_path / "p/reproduce.json").read_text())["samples"] == 80
