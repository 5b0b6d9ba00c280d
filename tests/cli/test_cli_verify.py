"""``driftlaw verify`` names exactly the file that was damaged."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.auditing.verification import verify


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("verify") / "run"
    small = {"samples": 0, "density_samples": 200, "path_samples": 0}
    list(dl.run(dl.Study(source="gmm", estimator=dl.KDE(0.6), policy=0.5, samples=60, generations=2, measures=small),
                out=place))  # fmt: skip
    return place


NAMES = ["manifest.json", "config.yaml", "journal.jsonl", "summary.json", "generations/000/samples.npy",
         "generations/001/weights.safetensors", "generations/002/samples.npy", "generations/002/record.json",
         "generations/002/timing.json", "generations/000/hashes.json"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_named_and_a_whole_run_is_clean(run, name):
    assert verify(run).clean
    assert len(verify(run).checked) >= len(NAMES)
    path = run / name
    kept = path.read_bytes()
    try:
        at = kept.index(b'"seed": 0') + 8 if name == "manifest.json" else len(kept) // 2
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        damaged = verify(run).damaged
        assert any(name in key or name in reason for key, reason in damaged.items()), damaged
    finally:
        path.write_bytes(kept)


def test_exit_codes_and_json(run, tmp_path):
    def call(*words):
        command = [sys.executable, "-m", "driftlaw", "verify", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)

    done = call(run, "--json")
    assert (done.returncode, json.loads(done.stdout)["clean"]) == (0, True), done.stderr
    assert call(tmp_path).returncode == 2
    sketch = tmp_path / "x.sketch"
    dl.sketch(np.random.default_rng(0).normal(size=(500, 3))).save(sketch)
    assert verify(sketch).clean
    data = bytearray(sketch.read_bytes())
    data[-3] ^= 1
    sketch.write_bytes(data)
    assert call(sketch).returncode == 2
