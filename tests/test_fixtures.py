"""Files of driftlaw 0.1.0 (``fixtures/v0.1``) still load, and give the numbers that 0.1.0 read from them.

Only public names and the command line are used, so that what moves inside does not matter here.
"""

import contextlib
import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import driftlaw as dl

FOLDER = Path(__file__).parent / "fixtures" / "v0.1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
STUDIES = sorted(p.stem for p in (FOLDER / "studies").glob("*.yaml"))
#: Estimates that jump when a row changes sides; a resumed fit may differ in rounding on another processor.
COUNTED = ("precision", "recall", "density", "coverage", "mode", "entropy", "rank", "nearest")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A copy to write to; relative paths start there."""
    shutil.copytree(FOLDER, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


@pytest.fixture
def driftlaw(monkeypatch):
    """``python -m driftlaw`` in this process; returns what it printed on stdout."""

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["driftlaw", *map(str, words)])
        out, err, ended = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module("driftlaw", run_name="__main__")
            except SystemExit as stop:
                ended = stop.code or 0
        assert ended == code, err.getvalue()
        return out.getvalue()

    return run


def same(found, wanted, rel=1e-9, abs=1e-12):
    assert [float(x) for x in found] == pytest.approx([float(x) for x in wanted], rel=rel, abs=abs, nan_ok=True)


def test_the_files_are_few_and_small():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 1_500_000


@pytest.mark.parametrize("name", EXPECTED["frames"])
def test_runs_load(name):
    frame = dl.load(FOLDER / name).frame()
    assert len(EXPECTED["frames"][name]) > 20
    for column, wanted in EXPECTED["frames"][name].items():
        same(frame[column], wanted)


def test_rows_labels_and_manifest_of_a_run():
    history = dl.load(FOLDER / "denoiser")
    assert history.samples(0).shape == history.samples(2).shape == (40, 1, 8, 8)
    assert history.labels().shape == (40,)
    assert history.manifest["driftlaw"] == "0.1.0"
    assert history.config["generations"] == len(history) == 2
    assert all(t["peak_memory_mib"] > 0 for t in history.timings)


@pytest.mark.parametrize("name", ["gmm", "denoiser", "feature-space", "interrupted", "sweep", "audit"])
def test_pages_are_made_again(files, driftlaw, name):
    (files / name / "report.html").unlink(missing_ok=True)
    driftlaw("report", name)
    assert "</html>" in (files / name / "report.html").read_text()


@pytest.mark.parametrize("name", ["interrupted", "interrupted-sampling"])
def test_an_interrupted_run_ends_with_the_numbers_of_one_that_was_not(files, driftlaw, name):
    first = dl.load(name)[1].to_json()
    document = json.loads(driftlaw("resume", name, "--json"))
    assert [g["index"] for g in document["generations"]] == [1, 2]
    assert dl.load(name)[1].to_json() == first
    assert sorted(p.name for p in (files / name / "generations/002").iterdir() if p.is_dir()) == []
    frame, checked = dl.load(name).frame(), 0
    for column, wanted in EXPECTED["frames"]["denoiser"].items():
        if not any(word in column for word in COUNTED):
            same(frame[column], wanted, rel=2e-3, abs=2e-4)
            checked += 1
    assert checked >= 5
    assert np.allclose(dl.load(name).samples(2), dl.load("denoiser").samples(2), atol=1e-3)


@pytest.mark.parametrize("name", ["gmm", "adaptive", "feature-space", "accumulate", "window", "mixture-em"])
def test_resuming_a_finished_run_changes_nothing(files, driftlaw, name):
    journal = (files / name / "journal.jsonl").read_bytes()
    driftlaw("resume", name, "--json")
    assert (files / name / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize("name", ["adaptive", "feature-space", "accumulate", "window"])
def test_a_run_cut_after_two_generations_goes_on(files, name):
    """Models, decisions, the classifier and its cache of 0.1.0 serve the next generation."""
    journal = files / name / "journal.jsonl"
    whole = dl.load(name)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    for path in (files / name / "generations/003").iterdir():
        if path.name != "decision.json":
            path.unlink()
    (last,) = dl.resume(name)
    assert (last.index, last.alpha, last.lineage) == (3, whole[3].alpha, whole[3].lineage)
    shared = set(last.divergence) & set(whole[3].divergence)
    assert len(shared) >= 3
    for key in shared - set(COUNTED):
        same([last.divergence[key].value], [whole[3].divergence[key].value], rel=1e-3, abs=1e-4)


@pytest.mark.heavy
def test_the_sweep_goes_on(files, driftlaw):
    small = {"samples": 24, "density_samples": 100, "path_samples": 32, "dimension": 4, "critic_rows": 24}
    settings = [word for k, v in small.items() for word in ("--set", f"measures.{k}={v}")]
    grid = ["--alphas", "0.1,0.5", "--seeds", "3", "--generations", "1", "--samples", "30", "--set", "device=cpu"]
    document = json.loads(driftlaw("sweep", "gmm", "--preset", "smoke", *grid, *settings, "--out", "sweep", "--json"))
    assert [(r["alpha"], r["seed"]) for r in document["runs"]] == [(0.1, 3), (0.5, 3)]
    for r in document["runs"]:
        wanted = EXPECTED["frames"][f"sweep/alpha-{r['alpha']:g}/seed-{r['seed']}"]
        same([r["generations"][0]["divergence"]["kl"]["value"]], wanted["kl"])


def test_bounds_load():
    kind = type(dl.bounds(dl.load(FOLDER / "gmm"), samples=100))
    found = kind.load(FOLDER / "gmm").to_json()
    statements = list(found["statements"])
    wanted = EXPECTED["bounds"]["statements"]
    assert len(wanted) > 20
    assert [[s["generation"], s["name"]] for s in statements] == [w[:2] for w in wanted]
    same([s["value"]["value"] for s in statements], [w[2] for w in wanted])
    for a, drift in zip(found["accumulations"], EXPECTED["bounds"]["drift"], strict=True):
        same([d["value"] for d in a["drift"]], drift)


def test_bounds_of_an_old_run_are_found_again(files, driftlaw):
    document = json.loads(driftlaw("bounds", "gmm", "--samples", "200", "--json"))
    main = document["accumulations"][0]
    assert len(main["drift"]) == 3
    assert max(a["reconstruction_error"] for a in document["accumulations"]) < 1e-9
    for d, was in zip(main["drift"], EXPECTED["bounds"]["drift"][0], strict=True):
        assert abs(d["value"] - was) < 8 * d["stderr"] + 1e-9


@pytest.mark.parametrize("name", EXPECTED["sketches"])
def test_sketches_load(name):
    sketch, wanted = dl.Sketch.load(FOLDER / "sketches" / name), EXPECTED["sketches"][name]
    assert (sketch.n, sketch.blocks) == (wanted["n"], wanted["blocks"])
    same(np.ravel(sketch.mean), wanted["mean"])


def test_a_sketch_of_now_is_comparable_with_an_old_one(files, driftlaw):
    for kind, ending in (("arrays", ".npy"), ("table", ".csv"), ("quadratic", ".npy"), ("fourier", ".npy")):
        driftlaw("sketch", f"data/gen1{ending}", "-o", "now.sketch", "--like", f"sketches/{kind}-real.sketch")
        same(dl.Sketch.load("now.sketch").mean, EXPECTED["sketches"][f"{kind}-gen1.sketch"]["mean"], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["audit", "audit-table"])
def test_audits_load(name):
    wanted, audit = EXPECTED["audits"][name], dl.Audit.load(FOLDER / name)
    again = dl.Audit.from_json(json.loads((FOLDER / name / "audit.json").read_text()))
    for a in (audit, again, dl.Audit.from_json(audit.to_json())):
        assert [g.n for g in a.generations] == wanted["n"]
        for g, drift in zip(a.generations, wanted["drift"], strict=True):
            same([g.drift.value, g.drift.low, g.drift.high], drift)
        same([g.p_value.value for g in a.generations], wanted["p_value"])
        same([g.innovation.value for g in a.generations], wanted["innovation"])
        same([a.effective_alpha.value], [wanted["alpha"]])
        assert [e.is_refused for e in a.forecast(3)] == [True] * 3  # 0.1.0 still forecast from two generations


@pytest.mark.parametrize("kind", ["arrays", "quadratic", "fourier", "table", "images"])
def test_audits_of_old_sketches(files, driftlaw, kind):
    names = [f"sketches/{kind}-{part}.sketch" for part in ("real", "gen1", "gen2")]
    document = json.loads(driftlaw("audit", *[n for n in names if Path(n).exists()], "--json"))
    wanted = EXPECTED["audits"][f"sketches/{kind}"]
    assert [g["n"] for g in document["generations"]] == wanted["n"]
    same([g["drift"]["value"] for g in document["generations"]], [d[0] for d in wanted["drift"]], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("source", ["gmm", "audit"])
def test_plans_from_old_runs_and_audits(files, driftlaw, source):
    plan = json.loads(driftlaw("plan", "--from", source, "--budget", "50", "--horizon", "4", "--json"))
    same_plan(plan, EXPECTED["plans"][source])


def same_plan(plan, wanted):
    assert (plan["kind"], plan["feasible"]) == ("plan", wanted["feasible"])
    assert (plan["alpha"] is None) == (wanted["alpha"] is None) == (not wanted["feasible"])
    if wanted["feasible"]:
        same([plan["alpha"]], [wanted["alpha"]], rel=1e-3)
    same(plan["schedule"], wanted["schedule"], rel=1e-3, abs=1e-4)
    same(plan["drift"], wanted["drift"], rel=1e-3, abs=1e-4)


def test_a_plan_is_what_it_was():
    same_plan(json.loads((FOLDER / "plan/plan.json").read_text()), EXPECTED["plans"]["plan"])
    same_plan(dl.plan(innovation=0.5, alignment=0.3, budget=2, horizon=5).to_json(), EXPECTED["plans"]["plan"])


@pytest.mark.heavy
def test_reproductions_go_on(files, driftlaw):
    small = ["--alphas", "0.5", "--generations", "1", "--workers", "1", "--json"]
    paper = ["--paper", "--runs", "2", "--samples", "30", "--target-se", "0.5", "--out", "reproduce"]
    images = ["--images", "--study", "studies/run-denoiser.yaml", "--preset", "smoke", "--runs", "1"]
    for words in (["table", *small, *paper], ["fig10", *small, *images, "--out", "reproduce-images"]):
        folder = files / words[-1]
        journals = {p: p.read_bytes() for p in folder.rglob("journal.jsonl")}
        claims = json.loads((folder / "claims.json").read_text())
        document = json.loads(driftlaw("reproduce", *words))
        assert journals
        assert {p: p.read_bytes() for p in folder.rglob("journal.jsonl")} == journals
        assert {c["key"]: c["verdict"] for c in document["claims"]} == {
            c["key"]: c["verdict"] for c in claims["claims"]
        }


def leaves(value):
    if isinstance(value, dict):
        return [x for v in value.values() for x in leaves(v)]
    return [x for v in value for x in leaves(v)] if isinstance(value, list | tuple) else [value]


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_read(files, name):
    """Every value that is given is in the resolved study, wherever it stands there; it is written and read again."""
    config = yaml.safe_load(Path(f"studies/{name}.yaml").read_text())
    try:
        study = dl.Study.from_config(config)
    except Exception as error:
        if name in ("source-fashion-mnist", "source-cifar10") and "driftlaw data fetch" in str(error):
            return  # read; the data set is not on this machine
        raise
    resolved = study.config()
    found = leaves(resolved)
    for value in leaves(config):
        if isinstance(value, str) and "/" in value and Path(value).exists():
            assert any(isinstance(x, str) and x.endswith(value) for x in found), value
        elif value is not None and not (name == "policy-word" and value == "window:3,0.12"):
            assert any(x == value and isinstance(x, bool) == isinstance(value, bool) for x in found), value
    assert dl.Study.from_config(yaml.safe_load(study.to_yaml())).config() == resolved


def test_policies_of_studies():
    def fresh(name):
        config = yaml.safe_load((FOLDER / "studies" / f"policy-{name}.yaml").read_text())
        return dl.Study.from_config(config).policy.rows(4)[0]

    same(fresh("fixed"), [0.45] * 4)
    same(fresh("number"), fresh("fixed"))
    same(fresh("word"), fresh("window"))
    same(fresh("schedule"), [1.0, 0.35, 0.65, 0.15])
    same(fresh("window"), [0.12] * 4)
    same(fresh("replace"), [0] * 4)
