"""Class-conditional learners: each class is learned, guidance sharpens it, labels survive kill -9."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn import Denoiser, FitContext
from driftlaw.learn.conditional.embedding import check_labels

NET = {"conditional": True, "label_dropout": 0.25, "width": 48, "blocks": 2, "steps": 500, "warm_steps": 100}
CENTRES = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])


def rows(n=1500, seed=0):
    """Three overlapping classes of deviation .8 with shares .2, .3, .5."""
    g = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor([0.2, 0.3, 0.5]), n, replacement=True, generator=g)
    return CENTRES[y] + 0.8 * torch.randn(n, 2, generator=g), y


def context(y, **more):
    return FitContext(seed=1, labels=y, classes=("a", "b", "c"), **more)


@pytest.fixture(scope="module")
def model():
    x, y = rows()
    return Denoiser(**NET).fit(x, context(y))


def test_each_class_is_learned(model):
    """1000 samples of each: means within .15 (their errors .03, the network's bias measured up to .08)."""
    g = torch.Generator().manual_seed(2)
    for c in range(3):
        drawn = model.sample(1000, g, labels=torch.full((1000,), c))
        assert float((drawn.mean(0) - CENTRES[c]).abs().max()) < 0.2
        assert float((drawn.std(0) - 0.8).abs().max()) < 0.15


def test_scores_with_and_without_a_class(model):
    """Of one class -(x - a m)/(a^2 s^2 + sigma^2); without a class that of the mixture."""
    x = rows(300, seed=3)[0]
    a2 = float(np.exp(-0.5))
    y = torch.zeros(300, dtype=torch.int64)
    exact = -(x - a2**0.5 * CENTRES[0]) / (a2 * 0.64 + 1 - a2)
    near = (x - CENTRES[0]).norm(dim=1) < 2
    error = (model.score_given(x, 0.5, y) - exact)[near].square().sum() / exact[near].square().sum()
    assert float(error) < 0.1
    law = dl.GaussianMixture([0.2, 0.3, 0.5], CENTRES.tolist(), 0.64)
    exact = law.score(x, 0.5)
    assert float((model.score(x, 0.5) - exact).square().sum() / exact.square().sum()) < 0.2


def test_guidance_sharpens_and_zero_is_none(model):
    x, y = rows()
    strong = Denoiser(**NET, guidance=2.0).load(model.state(), (2,))
    none = Denoiser(**NET, guidance=0.0).load(model.state(), (2,))
    labels = torch.full((600,), 2)
    a, b, c = (m.sample(600, torch.Generator().manual_seed(4), labels=labels) for m in (model, none, strong))
    assert torch.equal(a, b)
    assert float(c.var(0).sum()) < 0.75 * float(a.var(0).sum())  # less variety
    assert float(c[:, 1].mean()) > float(a[:, 1].mean()) + 0.2  # away from the others
    acting = strong.acting(x, 0, y)
    assert acting["guidance"] > 0.1
    assert model.acting(x, 0, y) == {}


def test_labels_are_drawn_like_those_of_the_rows(model):
    y = model.draw_labels(20_000, torch.Generator().manual_seed(5))
    counts = torch.bincount(rows()[1], minlength=3).double()
    share = torch.bincount(y, minlength=3).double() / 20_000
    assert float((share - counts / counts.sum()).abs().max()) < 4.5 * 0.5 / np.sqrt(20_000)
    a, b = (model.sample(50, torch.Generator().manual_seed(6)) for _ in range(2))
    assert torch.equal(a, b)


def test_sampling_in_parts_keeps_each_rows_class(model):
    small = Denoiser(**NET, sample_batch=7).load(model.state(), (2,))
    labels = torch.arange(20) % 3
    a, b = (m.sample(20, torch.Generator().manual_seed(7), labels=labels) for m in (model, small))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_rows_without_a_class_teach_the_score_of_all():
    x, y = rows(200)
    y = torch.where(torch.arange(200) % 2 == 0, -1, y)
    few = Denoiser(**NET | {"steps": 3})
    model = few.fit(x, context(y))
    assert int(model.label_counts.sum()) == int((y >= 0).sum())
    assert few.fit(x, context(y)).state()["net.embed.table.weight"].shape == (4, 16)
    for bad, words in (
        (None, "without labels"),
        (torch.full((200,), -1), "known class"),
        (y[:5], "200 rows"),
        (y + 9, "Use 0"),
    ):
        with pytest.raises(InputError, match=words):
            few.fit(x, context(bad))
    with pytest.raises(InputError, match="labels from 5"):
        check_labels(torch.tensor([5, 6]), 2, 3)
    with pytest.raises(NotImplementedError):
        Denoiser(**NET | {"steps": 3, "label_dropout": 0.0}).fit(x, context(y)).score(x, 0.5)
    with pytest.raises(ConfigError, match="needs the score with and without a class"):
        Denoiser(guidance=1.0)
    with pytest.raises(ConfigError, match="needs the score with and without a class"):
        Denoiser(conditional=True, label_dropout=0.0, guidance=1.0)
    with pytest.raises(InputError, match="unconditional"):
        few.load(Denoiser(width=48, blocks=2, steps=1).fit(x).state(), (2,))


def test_unconditional_networks_are_what_they_were():
    """Settings of classes at their defaults are no part of what a fit is known by, nor of its network."""
    flat = Denoiser().flat()
    assert not {"conditional", "label_dropout", "guidance"} & set(flat)
    assert Denoiser().known_by()["clip"] is None
    x, y = rows(64)
    plain = Denoiser(width=16, steps=3)
    a, b = plain.fit(x, FitContext(seed=1)), plain.fit(x, context(y))
    assert all(torch.equal(v, b.state()[k]) for k, v in a.state().items())
    assert a.draw_labels(3) is None


def test_a_source_without_classes_is_refused_before_anything_is_written(tmp_path):
    law = dl.GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    study = dl.Study(source=law, estimator=Denoiser(**NET), policy=0.5, samples=60, generations=1)
    with pytest.raises(ConfigError, match="conditional and gmm has no labels"):
        dl.run(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unets_take_classes():
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(12, 1, 8, 8, generator=g) * 2 - 1, torch.arange(12) % 3
    for settings in (
        {"net": "unet", "width": 8, "multipliers": (1, 2)},
        {"net": "diffusers-unet", "width": 8, "multipliers": (1, 2)},
        {"net": "diffusers-unet", "width": 8, "multipliers": (1, 2), "prediction": "epsilon", "noise": "ddpm"},
    ):
        if settings["net"] == "diffusers-unet":
            pytest.importorskip("diffusers")
        config = Denoiser(conditional=True, steps=30, batch=8, lr=1e-2, solver_steps=2, **settings)
        model = config.fit(x, context(y))
        one, two = (model.score_given(x, 0.5, torch.full((12,), c)) for c in (0, 1))
        assert float((one - two).abs().max()) > 1e-4
        again = config.load(model.state(), (1, 8, 8))
        drawn = [m.sample(4, torch.Generator().manual_seed(1), labels=torch.arange(4) % 3) for m in (model, again)]
        assert torch.equal(*drawn)


def test_a_dry_run_knows_the_classes():
    from driftlaw.loop.cost import cost

    small = {"samples": 40, "critic_rows": 0}
    study = dl.Study(source="digits", estimator=Denoiser(**NET), policy=0.5, samples=60, generations=2, measures=small)
    assert cost(study).seconds["training"] > 0


STUDY = [
    *("run", "digits", "--generations", "2", "--samples", "60", "--seed", "5"),
    *("--set", "estimator.steps=40", "--set", "estimator.warm_steps=40", "--set", "estimator.checkpoint_every=5"),
    *("--set", "estimator.width=32", "--set", "estimator.batch=32", "--set", "measures.samples=40"),
    *("--set", "estimator.conditional=true", "--set", "estimator.guidance=1", "--set", "estimator.sample_batch=16"),
]


@pytest.mark.heavy
def test_a_killed_run_resumes_to_the_same_labels(tmp_path):
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(words, out):
        command = [
            sys.executable,
            "-m",
            "driftlaw",
            *words,
            *(["--out", str(out)] if words[0] == "run" else [str(out)]),
        ]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(STUDY, whole).wait() == 0
    process = start(STUDY, killed)
    while process.poll() is None and not (killed / "generations/002/checkpoint.safetensors").exists():
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = start(["resume"], killed)
    assert process.wait() == 0, process.stderr.read().decode()
    for n in (1, 2):
        for name in ("labels.npy", "samples.npy", "weights.safetensors", "record.json"):
            path = f"generations/{n:03d}/{name}"
            assert (whole / path).read_bytes() == (killed / path).read_bytes(), path
    history = dl.load(killed)
    last = history[2]
    assert set(last.by_class) == set("0123456789")
    assert {"share", "real_share", "drift", "recognised"} >= set(last.by_class["0"])
    assert last.by_class["3"]["share"].value == pytest.approx(float((history.labels(2) == 3).mean()))
    assert "Each class by its labels" in (killed / "report.html").read_text()
    frame = history.frame()
    assert frame.loc[2, "by_class.3.share"] == last.by_class["3"]["share"].value
    path = killed / "generations/002/labels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(dl.CorruptFileError, match=r"labels\.npy"):
        history.labels(2)
