"""Damaged and forged files of every kind that is read: refused or read, never a traceback, never a silent change."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

import driftlaw as dl
from fuzz.mutations import damaged, dumped, forged, signed
from fuzz.outcomes import command, reading

#: Examples of each kind, in all runs and in long ones.
FEW, MANY = 12, 130


def sizes(name):
    return [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.heavy)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "rows.npz", x=rows, y=np.arange(300) % 3)
    table = pd.DataFrame(rows, columns=list("abc")).assign(word=["red", "green", "blue"] * 100)
    table.to_parquet(folder / "rows.parquet")
    table.to_csv(folder / "rows.csv", index=False)
    table.to_feather(folder / "rows.feather")
    table.to_json(folder / "rows.jsonl", orient="records", lines=True)
    save_file({"x": rows}, folder / "rows.safetensors")
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / "rows.png")
    Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / "rows.jpg")
    dl.sketch(folder / "rows.parquet").save(folder / "rows.sketch")
    audit = dl.audit(rows, [rng.normal(0.3, 1, size=(200, 3)), rng.normal(0.5, 1, size=(200, 3))])
    audit.save(folder)
    study = dl.Study(
        source="digits", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=2,
        measures={"samples": 40, "density_samples": 200, "path_samples": 0, "critic_rows": 0},
    )  # fmt: skip
    list(dl.run(study, folder / "run"))
    return folder


def all_of(path):
    rows = dl.open_rows(path)
    return sum(len(next(iter(c.values()))) if isinstance(c, dict) else len(c) for c in rows)


DATA = ("npy", "npz", "parquet", "csv", "feather", "jsonl", "safetensors", "png", "jpg")


@pytest.mark.parametrize("examples", sizes("data"))
@pytest.mark.parametrize("end", DATA)
def test_damaged_data(whole, tmp_path, end, examples):
    data = (whole / f"rows.{end}").read_bytes()
    other = (whole / f"rows.{DATA[DATA.index(end) - 1]}").read_bytes()
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(examples):
        rng = random.Random(f"{end} {i}")
        path = folder / f"{i}.{end}"
        path.write_bytes(damaged(data, rng, other))
        outcome, _ = reading(lambda path=path: all_of(folder if end in ("png", "jpg") else path))
        assert outcome in ("read", "refused"), (end, i, outcome)
        path.unlink()


def sketched(path):
    s = dl.Sketch.load(path)
    return s.n, s.mean.tolist(), s.covariance.tolist(), sorted(s.histograms), s.missing, s.unseen, s.warnings


@pytest.mark.parametrize("examples", sizes("sketch"))
def test_damaged_sketches_are_refused_or_the_same(whole, tmp_path, examples):
    data, before = (whole / "rows.sketch").read_bytes(), sketched(whole / "rows.sketch")
    path = tmp_path / "x.sketch"
    for i in range(examples):
        changed = damaged(data, random.Random(f"sketch {i}"))
        path.write_bytes(changed)
        outcome, found = reading(lambda: sketched(path))
        assert outcome == "refused" or (outcome == "read" and found == before), (i, outcome)


def forged_sketch(path, target, rng):
    from driftlaw.measure.sketch import file

    arrays, description = file.read(path)
    if rng.random() < 0.5:
        description = forged(description, rng)
    else:
        name = rng.choice(sorted(arrays))
        a = arrays[name].copy()
        kind = rng.randrange(5)
        if kind == 0:
            a = a[: rng.randrange(len(a) + 1)] if a.ndim else a
        elif kind == 1:
            a = a.reshape(-1)
        elif kind == 2:
            a = a.astype(rng.choice(["f4", "i8", "u1", "?"]))
        elif a.size:
            a.flat[rng.randrange(a.size)] = -5 if a.dtype.kind in "iu" else rng.choice([np.nan, np.inf, -1e300, -7.0])
        arrays[name] = a
        if rng.random() < 0.1:
            del arrays[name]
    file.write(target, arrays, description)


@pytest.mark.parametrize("examples", sizes("sketch"))
def test_forged_sketches_with_right_hashes(whole, tmp_path, examples):
    path = tmp_path / "x.sketch"
    made = 0
    for i in range(examples):
        try:
            forged_sketch(whole / "rows.sketch", path, random.Random(f"forged sketch {i}"))
        except (ValueError, TypeError, OverflowError):  # nothing that JSON or a sketch's writer can hold
            continue
        made += 1

        def use():
            s = dl.Sketch.load(path)
            return sketched(path), dl.audit(s, [s])

        outcome, _ = reading(use)
        assert outcome in ("read", "refused"), (i, outcome)
    assert made >= examples // 2


@pytest.mark.parametrize("examples", sizes("audit"))
@pytest.mark.parametrize("how", ["damaged", "forged"])
def test_audits(whole, tmp_path, examples, how):
    data = (whole / "audit.json").read_bytes()
    before = dl.Audit.load(whole / "audit.json").to_json()
    document = json.loads(data)
    path = tmp_path / "audit.json"
    for i in range(examples):
        rng = random.Random(f"{how} audit {i}")
        changed = damaged(data, rng) if how == "damaged" else dumped(signed(forged(document, rng))).encode()
        path.write_bytes(changed)
        outcome, found = reading(lambda: dl.Audit.load(path).to_json())
        assert outcome in ("read", "refused"), (i, outcome)
        if how == "damaged" and outcome == "read":
            assert found == before, (i, "changed silently")
        if how == "forged" and outcome == "read" and i % 10 == 0:
            for words in (["plan", "--from", str(path), "--budget", "9", "--horizon", "3"], ["report", str(path)]):
                assert command(words) in ("exit 0", "exit 2"), (i, command(words))


HASHED = (
    *("config.yaml", "manifest.json", "journal.jsonl", "summary.json", "generations/000/hashes.json"),
    *("generations/000/samples.npy", "generations/000/labels.npy", "generations/001/samples.npy"),
    *("generations/002/weights.safetensors", "generations/002/record.json", "generations/001/timing.json"),
)


def everything(run):
    history = dl.load(run)
    return (
        history.config,
        [g.to_json() for g in history],
        [history.samples(k).tolist() for k in range(len(history) + 1)],
        history.labels().tolist(),
        [{k: v.tolist() for k, v in history.model(n).state().items()} for n in range(1, len(history) + 1)],
        history.timings,
        len(history.frame()),
    )


@pytest.mark.parametrize("examples", sizes("run"))
@pytest.mark.parametrize("name", HASHED)
def test_damaged_runs_are_refused_or_the_same(whole, tmp_path, name, examples):
    shutil.copytree(whole / "run", tmp_path / "run")
    path = tmp_path / "run" / name
    data, before = path.read_bytes(), everything(whole / "run")
    for i in range(examples // 3):
        path.write_bytes(damaged(data, random.Random(f"{name} {i}")))
        noticed, found = reading(lambda: dl.verify(tmp_path / "run"))
        assert noticed in ("read", "refused"), (i, noticed)
        clean = noticed == "read" and found.clean
        outcome, found = reading(lambda: everything(tmp_path / "run"))
        assert outcome in ("read", "refused"), (i, outcome)
        if outcome == "read" and found != before:  # a journal cut between lines is a run that was stopped
            assert name == "journal.jsonl", (i, "changed silently")
            assert found[1] == before[1][: len(found[1])], (i, "changed silently")
            continue
        assert outcome == "read" or not clean, (i, "refused, and not named by verify")


def forge_run(run, name, rng):
    """Replace something in a stored document and make its hashes right."""
    import yaml

    path = run / name
    if name == "config.yaml":
        lines = path.read_text()
        text = yaml.safe_dump(forged(yaml.safe_load(lines), rng), sort_keys=False)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["config_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (run / "manifest.json").write_text(dumped(manifest))
    elif name == "journal.jsonl":
        records = [json.loads(line) for line in path.read_text().splitlines()]
        at = rng.randrange(len(records))
        records[at] = forged(records[at], rng)
        path.write_text("".join(dumped(signed(r)) + "\n" for r in records))
    else:
        document = forged(json.loads(path.read_text()), rng)
        path.write_text(dumped(signed(document) if "sha256" in document else document))


@pytest.mark.parametrize("examples", sizes("run"))
@pytest.mark.parametrize("name", ["config.yaml", "journal.jsonl", "manifest.json", "generations/001/timing.json",
                                  "generations/000/hashes.json"])  # fmt: skip
def test_forged_runs_with_right_hashes(whole, tmp_path, name, examples):
    run = tmp_path / "run"
    for i in range(examples):
        rng = random.Random(f"forged {name} {i}")
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole / "run", run)
        forge_run(run, name, rng)
        for use in (dl.verify, everything):
            outcome, _ = reading(lambda use=use: use(run))
            assert outcome in ("read", "refused"), (name, i, outcome)
        verb = rng.choice([["report", str(run)], ["bounds", str(run), "--json"], ["resume", str(run)],
                           ["plan", "--from", str(run), "--budget", "9", "--horizon", "3"]])  # fmt: skip
        if i % 12 == 0:
            outcome = command(verb)
            assert outcome in ("exit 0", "exit 2"), (name, i, verb, outcome)
    assert Path(run).is_dir()
