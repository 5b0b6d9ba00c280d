"""Programs and functions of the user as learners: real processes, the contract, every way to get it wrong, resume."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import CallableEstimator, Command, DrawnSamples, FitContext, build
from driftlaw.loop.cost import cost

BOOTSTRAP = """
import json, sys, pathlib, numpy as np
job = json.load(open(sys.argv[-1]))
x = np.load(job["training"])
rng = np.random.default_rng(job["seed"])
np.save(job["samples_file"], x[rng.integers(0, len(x), job["samples"])])
before = pathlib.Path(job["previous_output"] or "nowhere") / "count.txt"
count = int(before.read_text()) if before.exists() else 0
(pathlib.Path(job["output"]) / "count.txt").write_text(str(count + 1))
(pathlib.Path(job["output"]) / "job.json").write_text(json.dumps(job))
print("trained on", len(x))
"""


def rows(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def program(tmp_path, text=BOOTSTRAP, name="train.py", **settings):
    path = tmp_path / name
    path.write_text(text)
    return Command((sys.executable, str(path)), **settings)


def study(tmp_path, estimator, **settings):
    path = tmp_path / "data.npy"
    if not path.exists():
        np.save(path, rows(200, 3).numpy())
    values = {"policy": 0.5, "samples": 40, "generations": 3, "measures": {"samples": 40}, "reuse": True}
    values |= {"threads": 1} | settings
    return dl.Study(source={"kind": "array", "path": str(path)}, estimator=estimator, **values)


def test_a_program_is_the_learner_of_a_study(tmp_path):
    estimator = program(tmp_path)
    records = list(dl.run(study(tmp_path, estimator), tmp_path / "run"))
    history = dl.load(tmp_path / "run")
    for g in records:
        folder = tmp_path / f"run/generations/{g.index:03d}"
        assert (folder / "output/count.txt").read_text() == str(g.index)  # each found the folder of the one before
        assert (folder / "command.log").read_text() == "trained on 40\n"
        job = json.loads((folder / "output/job.json").read_text())
        assert (job["generation"], job["samples"], job["shape"], job["device"]) == (g.index, 40, [3], "cpu")
        assert (job["previous_output"] is None) == (g.index == 1)
        assert 0 <= job["seed"] < 2**31
        assert not list(folder.glob("attempt-*"))
        assert "frechet" in g.divergence
        assert not g.path.known
    assert history.samples(2).shape == (40, 3)
    assert len({json.loads(p.read_text())["seed"] for p in tmp_path.glob("run/generations/*/output/job.json")}) == 3
    model = estimator.load({"rows": torch.from_numpy(history.samples(3))}, (3,))
    with pytest.raises(InputError, match="known by its samples only: it has no score"):
        model.score(torch.zeros(2, 3), 0.1)


def test_the_job_can_stand_anywhere_in_the_command(tmp_path):
    path = tmp_path / "p.py"
    path.write_text(BOOTSTRAP.replace("sys.argv[-1]", "sys.argv[1][6:]") + "assert sys.argv[2:] == ['--fast']\n")
    model = Command((sys.executable, str(path), "--job={job}", "--fast")).fit(rows(9, 2), FitContext(samples=5))
    assert model.rows.shape == (5, 2)
    assert Command("python 'my train.py' -x").command == ("python", "my train.py", "-x")


def test_images_as_files(tmp_path):
    text = (
        BOOTSTRAP
        + "import os\nnames = str(sorted(os.listdir(job['training_images'])))\n"
        + "(pathlib.Path(job['output']) / 'n.txt').write_text(names)\n"
    )
    text += "import shutil\nshutil.copy(job['training_images'] + '/000001.png', job['output'])\n"
    data = rows(3, 3, 4, 4)  # some beyond [-1, 1]: white or black
    program(tmp_path, text, png=True).fit(data, FitContext(folder=tmp_path))
    assert (tmp_path / "output/n.txt").read_text() == "['000000.png', '000001.png', '000002.png']"
    pixels = np.asarray(Image.open(tmp_path / "output/000001.png")).transpose(2, 0, 1) / 127.5 - 1
    assert np.abs(pixels - data[1].clamp(-1, 1).numpy()).max() <= 1 / 255 + 1e-6
    program(tmp_path, text, png=True).fit(data[:, :1], FitContext(folder=tmp_path))
    assert Image.open(tmp_path / "output/000001.png").mode == "L"


SAVE = (
    "import json, sys, numpy as np\njob = json.load(open(sys.argv[-1]))\nn, f = job['samples'], job['samples_file']\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.stderr.write('out of memory'); sys.exit(3)", r"exit code 3.*\n.*out of memory"),
        ("print('x' * 5000, 'the end'); raise SystemExit(2)", "exit code 2.*x the end. Run it by hand"),
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV; it printed nothing"),
        ("pass", "ended without writing its samples"),
        (SAVE + "open(f, 'w').write('garbage')", "not a .npy array of numbers"),
        (SAVE + "open(f, 'w').close()", "not a .npy array of numbers"),
        (SAVE + "np.save(f, np.array([{}] * n), allow_pickle=True)", "not a .npy array of numbers"),
        (SAVE + "np.save(f, np.array(['a'] * n))", "not a .npy array of numbers"),
        (SAVE + "np.save(f, np.zeros((n + 1, 3)))", r"gave 8 rows. Expected 7"),
        (SAVE + "np.save(f, np.zeros((n, 4)))", r"rows of shape \[4\]. Expected rows of shape \[3\]"),
        (SAVE + "np.save(f, np.zeros((n, 3), dtype=np.uint8))", "gave torch.uint8"),
        (SAVE + "x = np.zeros((n, 3)); x[4:, 1] = np.nan; np.save(f, x)", "3 of 7 rows .* first is row 4"),
    ],
)
def test_what_a_program_can_do_wrong(tmp_path, text, words):
    with pytest.raises(InputError, match=f"(?s)the command .*{words}|^{words}"):
        program(tmp_path, text).fit(rows(9, 3), FitContext(samples=7))


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path):
    text = "import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    text += "print(p.pid, flush=True)\ntime.sleep(60)"
    for seconds in (1.5, 30.0):  # a busy machine may need more to start two programs
        with pytest.raises(InputError, match=f"was stopped after {seconds:g} s") as e:
            program(tmp_path, text, timeout=seconds).fit(rows(9, 3), FitContext(folder=tmp_path))
        if told := re.search(r"output:\n(\d+)\. Raise timeout", str(e.value)):
            break
    assert told
    state, end = "S", time.monotonic() + 30
    while state and not state.startswith("Z") and time.monotonic() < end:
        state = subprocess.run(["ps", "-o", "stat=", "-p", told[1]], capture_output=True, text=True).stdout.strip()
    assert state == "" or state.startswith("Z")


def test_bad_commands_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"there is no program 'no-such-program'"):
        dl.run(study(tmp_path, Command("no-such-program x")), tmp_path / "run")
    with pytest.raises(InputError, match="not grey or colour images"):
        dl.run(study(tmp_path, program(tmp_path, png=True)), tmp_path / "run")
    with pytest.raises(InputError, match=r"rows of shape \[2, 4, 4\] are not grey or colour images"):
        program(tmp_path, png=True).check((2, 4, 4))
    assert not (tmp_path / "run").exists()
    for bad, words in ((("",), "empty"), ((), "empty"), ("", "empty"), (3, "command = 3"), ("a 'b", "No closing")):
        with pytest.raises(ConfigError, match=words):
            Command(bad)
    with pytest.raises(ConfigError, match="timeout = 0"):
        Command("x", timeout=0)


def test_round_trip_and_dry_run(tmp_path):
    estimator = program(tmp_path, "raise SystemExit(1)", timeout=5)
    assert build(yaml.safe_load(yaml.safe_dump(estimator.config()))) == estimator
    assert build({"kind": "command", "command": "python a.py"}).command == ("python", "a.py")
    what = cost(study(tmp_path, estimator))  # the program, which fails, is not called
    assert "time not known" in what.text()
    assert what.to_json()["estimated_seconds_total"] is None


@pytest.mark.heavy
def test_a_study_of_a_program_killed_and_resumed(tmp_path):
    """kill -9 while the second program runs; the third attempt gives the files of an uninterrupted run."""
    slow = (
        BOOTSTRAP + "import time, os\ntime.sleep(float(os.environ.get('SLOW', 0)) if job['generation'] == 2 else 0)\n"
    )
    config = study(tmp_path, program(tmp_path, slow))
    (tmp_path / "study.yaml").write_text(config.to_yaml())
    command = [
        sys.executable,
        "-m",
        "driftlaw",
        "run",
        str(tmp_path / "study.yaml"),
        "--trust",
        "--out",
        str(tmp_path / "a"),
    ]
    process = subprocess.Popen(command, env=os.environ | {"SLOW": "60"}, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    end = time.monotonic() + 120
    while time.monotonic() < end and not (tmp_path / "a/generations/002/output/job.json").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = (tmp_path / "a/generations/002/command.log").read_text()
    assert len(dl.load(tmp_path / "a")) == 1, log
    list(dl.resume(tmp_path / "a"))
    list(dl.run(config, tmp_path / "b"))
    for name in ("journal.jsonl", *(f"generations/00{k}/samples.npy" for k in (1, 2, 3))):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert not list(tmp_path.glob("a/generations/*/attempt-*"))


def test_a_finished_program_is_not_called_again(tmp_path):
    class Memory:
        content = None

        def load(self):
            return self.content

        def save(self, tensors, meta):
            self.content = dict(tensors), json.loads(json.dumps(meta))

    memory, estimator = Memory(), program(tmp_path)
    context = FitContext(seed=4, samples=6, folder=tmp_path, checkpoint=memory)
    (tmp_path / "attempt-killed").mkdir()
    first = estimator.fit(rows(9, 3), context)
    assert not list(tmp_path.glob("attempt-*"))
    (tmp_path / "train.py").write_text("raise SystemExit(1)")
    assert torch.equal(estimator.fit(rows(9, 3), context).rows, first.rows)
    with pytest.raises(InputError, match="exit code 1"):
        estimator.fit(rows(9, 3, seed=1), context)  # other rows: not that attempt
    with pytest.raises(InputError, match="exit code 1"):
        estimator.fit(rows(9, 3), replace(context, samples=5))


# -------------------------------------------------------------------------------------------------------- functions


def shrinking(data, context):
    """A Gaussian of the rows with 0.9 of their deviation."""
    mean, sd = data.mean(0), 0.9 * data.std(0)
    return lambda n, g: mean + sd * torch.randn(n, data.shape[1], generator=g)


def test_a_function_is_the_learner_of_a_study(tmp_path):
    config = study(tmp_path, CallableEstimator(shrinking), policy="replace", samples=150, generations=4)
    records = list(dl.run(config, tmp_path / "run"))
    drift = [g.moments["second_moment"].value for g in records]
    assert all(b < 0.95 * a for a, b in pairwise(drift))
    assert records == list(dl.run(config, tmp_path / "again"))


def test_rows_come_in_single_precision_from_a_stream_of_the_seed():
    weight = torch.ones(1, requires_grad=True)

    def noise(data, context):
        return lambda n, g: weight * torch.randn(n, 3, generator=g, dtype=torch.float64)

    a, b, again = (CallableEstimator(noise).fit(rows(9, 3), FitContext(seed=s)).rows for s in (1, 2, 1))
    assert (a.dtype, a.requires_grad) == (torch.float32, False)
    assert torch.equal(a, again)
    assert not torch.equal(a, b)


def test_unusable_rows_are_refused_before_anything_is_called(tmp_path):
    bad = rows(9, 3)
    bad[4, 1] = torch.nan
    for estimator in (CallableEstimator(shrinking), program(tmp_path)):
        with pytest.raises(InputError, match="row 4"):
            estimator.fit(bad, FitContext(folder=tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


OWN_LEARNER = """
import torch

class Model:
    def fit(data, context):
        return lambda n, g: data[torch.randint(len(data), (n,), generator=g)]
"""


def test_a_function_by_name_resumes_from_the_directory(tmp_path, monkeypatch):
    (tmp_path / "own_learner.py").write_text(OWN_LEARNER)
    monkeypatch.syspath_prepend(tmp_path)
    estimator = build({"kind": "callable", "function": "own_learner:Model.fit"})
    assert build(estimator.config()) == estimator
    iterator = dl.run(study(tmp_path, estimator), tmp_path / "run")
    first = next(iterator)
    iterator.close()
    assert [first, *dl.resume(tmp_path / "run")] == list(dl.run(study(tmp_path, estimator), tmp_path / "whole"))


def test_what_a_function_can_do_wrong():
    for function, words in (
        (lambda x, c: None, "returned a NoneType. Return a sampler"),
        (lambda x, c: lambda n, g: torch.zeros(n, 4), r"rows of shape \[4\]"),
        (lambda x, c: lambda n, g: torch.zeros(n + 1, 3), "gave 10 rows. Expected 9"),
        (lambda x, c: lambda n, g: torch.full((n, 3), torch.nan), "9 of 9 rows"),
        (lambda x, c: lambda n, g: [0] * n, "gave list"),
        (lambda x, c: lambda n, g: torch.zeros(n, 3).long(), "gave torch.int64"),
    ):
        with pytest.raises(InputError, match=words):
            CallableEstimator(function).fit(rows(9, 3), FitContext())
    for name in ("json", "no.such:thing", "json:nothing"):
        with pytest.raises(ConfigError, match="cannot be imported"):
            build({"kind": "callable", "function": name})
    with pytest.raises(ConfigError, match="int is not a function"):
        CallableEstimator(3)


def test_drawn_samples():
    x = rows(8, 2)
    model, g = DrawnSamples(x, "it"), torch.Generator().manual_seed(0)
    model.sample(8, g).zero_()  # what is handed out is a copy
    assert torch.equal(model.sample(8, g), x)
    assert not torch.equal(model.sample(7, g), model.sample(7, g))
    few = model.sample(5, g)
    assert len({r.numpy().tobytes() for r in few}) == 5
    assert {r.numpy().tobytes() for r in few} <= {r.numpy().tobytes() for r in x}
    for n in (0, 9):
        with pytest.raises(InputError, match=f"{n} samples were asked of it, which drew 8"):
            model.sample(n, g)
    with pytest.raises(InputError, match="Expected rows of shape"):
        Command("x").load(model.state(), (3,))
    with pytest.raises(InputError, match=r"the state holds net.weight \[8, 2\]"):
        Command("x").load({"net.weight": x}, (2,))


def test_rows_of_a_program_are_stored_once_and_read_back(tmp_path):
    made = study(tmp_path, program(tmp_path))
    list(dl.run(made, tmp_path / "run"))
    history = dl.load(tmp_path / "run")
    for g in history:
        folder = tmp_path / "run" / "generations" / f"{g.index:03d}"
        stored = load_file(folder / "weights.safetensors")
        assert stored == {}, "the rows lie in samples.npy"
        model = history.model(g.index)
        assert (model.rows.numpy() == history.samples(g.index)).all()
    with pytest.raises(InputError, match="generations 1"):
        history.model(99)
