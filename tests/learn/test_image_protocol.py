"""The published image protocol as a preset, and that a killed run goes on within the sampling of a generation."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftlaw.learn import Denoiser, build
from driftlaw.loop import presets

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
DDPM = [
    *("--generations", "2", "--samples", "60", "--seed", "3", "--set", "measures.samples=40"),
    *("--set", "measures.critic_rows=0", "--set", "measures.path_samples=0"),
    *("--set", "estimator.steps=6", "--set", "estimator.warm_steps=6", "--set", "estimator.width=64"),
    *("--set", "estimator.prediction=epsilon", "--set", "estimator.noise=ddpm", "--set", "estimator.solver=ddpm"),
    *("--set", "estimator.diffusion_steps=200", "--set", "estimator.beta_end=0.08"),
    *("--set", "estimator.solver_steps=200", "--set", "estimator.sample_batch=6"),
]


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_the_paper_preset_has_every_published_setting(name):
    config = presets.preset(name, "paper")
    assert (config["samples"], config["generations"]) == (50_000, 10)
    learner = build(config["estimator"])
    published = {
        "dropout": 0.1, "ema": 0.99, "lr": 2e-4, "weight_decay": 1e-4, "schedule": "cosine", "epochs": 200,
        "warm_epochs": 100, "patience": 50, "solver": "ddpm", "solver_steps": 1000, "diffusion_steps": 1000,
    }  # fmt: skip
    assert {k: getattr(learner, k) for k in published} == published
    assert learner.fit_steps(50_000, warm=False) == 78_125
    assert learner.fit_steps(50_000, warm=True) == 39_063
    # every setting that the paper leaves open is written out, so that a reader of the study file sees it
    open_ones = {"width", "multipliers", "blocks", "attention", "batch", "beta_schedule", "holdout_every", "validation"}
    groups = ("network", "optimiser", "chain", "sampling")
    assert open_ones <= {key for group in groups for key in config["estimator"][group]}
    shape = (1, 28, 28) if name == "fashion-mnist" else (3, 32, 32)
    assert sum(p.numel() for p in learner.build_network(shape).parameters()) > 4_000_000


def test_the_other_presets_are_what_they_were():
    """Their numbers are in the documentation and in stored studies."""
    unet = {"kind": "denoiser", "net": "unet", "lr": 0.002, "solver": "multistep", "solver_steps": 20}
    for name in ("fashion-mnist", "cifar10"):
        laptop, smoke = (build(presets.preset(name, size)["estimator"]) for size in ("laptop", "smoke"))
        assert laptop == build(unet | {"steps": 500, "warm_steps": 250})
        assert smoke == build(unet | {"steps": 40, "warm_steps": 20, "solver_steps": 8})
    assert build(unet) == Denoiser(net="unet", lr=0.002, solver="multistep")


def start(directory: Path) -> subprocess.Popen:
    verb = ["resume", str(directory)]
    if not (directory / "manifest.json").exists():
        verb = ["run", "digits", *DDPM, "--out", str(directory)]
    return subprocess.Popen([sys.executable, "-m", "driftlaw", *verb], env=ENV, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)  # fmt: skip


def content(directory: Path) -> dict[str, bytes]:
    names = ["journal.jsonl", "config.yaml", "summary.json"]
    files = {n: (directory / n).read_bytes() for n in names}
    found = [p for p in sorted(directory.glob("generations/*/*")) if p.name != "timing.json"]
    return files | {str(p.relative_to(directory)): p.read_bytes() for p in found}


@pytest.mark.heavy
def test_killed_while_it_samples_a_run_goes_on_to_the_same_files(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    kept = []
    for generation in ("001", "002"):
        process, end = start(killed), time.monotonic() + 200
        parts = killed / "generations" / generation / "chunks"
        while process.poll() is None and len(list(parts.glob("0*"))) < 3 and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        names = sorted(parts.glob("0*"))
        assert len(names) >= 3, "the run went past the moment to kill it"
        kept.append((names[0], names[0].stat().st_mtime_ns))
    process = start(killed)
    while process.poll() is None and kept[1][0].exists():
        assert kept[1][0].stat().st_mtime_ns == kept[1][1] if kept[1][0].exists() else True  # not drawn again
        time.sleep(0.02)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    assert content(killed) == content(whole)
    assert not list(killed.rglob("chunks"))
