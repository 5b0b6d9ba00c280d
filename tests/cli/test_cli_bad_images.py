"""One unreadable image among many, labels of another length, wrong channels: named, exit code 2, nothing written."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from PIL import Image

from driftlaw.cli import app


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def driftlaw(*args, cwd):
    """The command in this process, which saves seconds of imports."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["driftlaw", *map(str, args)])
        try:
            app.main()
        except SystemExit as done:
            code = done.code
    return Done(code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(300):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(folder / "photos" / f"{i:04d}.png")
    (folder / "photos" / "0123.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    np.savez(folder / "labels.npz", x=rng.uniform(-1, 1, (200, 1, 6, 6)).astype(np.float32), y=np.arange(199) % 3)
    settings = {"estimator": {"kind": "kde", "bandwidth": 0.3}, "policy": 0.5, "samples": 60, "generations": 1}
    measures = {"samples": 40, "path_samples": 0, "density_samples": 100}
    for name, source in (
        ("photos", {"kind": "images", "path": "photos"}),
        ("labels", {"kind": "array", "path": "labels.npz"}),
        ("digits", {"kind": "digits"}),
    ):
        document = {**settings, "source": source, "measures": measures, "name": name}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_the_unreadable_image_is_named(folder):
    done = driftlaw("run", "photos.yaml", "--out", "bad", cwd=folder)
    assert done.returncode == 2
    assert "0123.png cannot be read" in done.stderr
    assert "--skip-bad" in done.stderr
    assert not (folder / "bad").exists()


def test_skip_bad_goes_on_and_counts(folder):
    done = driftlaw("run", "photos.yaml", "--out", "good", "--skip-bad", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["generations"]
    assert any(w.startswith("1 of 300 images of") and "0123.png" in w for w in record["warnings"])
    assert yaml.safe_load((folder / "good/config.yaml").read_text())["source"]["skip_bad"] is True
    assert "1 of 300 images" in (folder / "good/report.html").read_text()


def test_skip_bad_is_for_images(folder):
    done = driftlaw("run", "digits.yaml", "--out", "no", "--skip-bad", cwd=folder)
    assert done.returncode == 2
    assert "--skip-bad is for folders of images, and the source is digits" in done.stderr


def test_labels_of_another_length(folder):
    done = driftlaw("run", "labels.yaml", "--out", "no", cwd=folder)
    assert done.returncode == 2
    assert "has 200 rows but labels of shape (199,)" in done.stderr
    assert not (folder / "no").exists()


def test_wrong_channels_and_no_cuda(folder):
    options = ["--skip-bad", "--out", "no"]
    done = driftlaw("run", "photos.yaml", *options, "--set", "measures.features=classifier", cwd=folder)
    assert done.returncode == 2
    assert "has no labels" in done.stderr
    (folder / "net.py").write_text("import torch\ndef build():\n    return torch.nn.Conv2d(1, 2, 6)\n")
    done = driftlaw("run", "photos.yaml", *options, "--set", "measures.features=net.py:build", cwd=folder)
    assert done.returncode == 2
    assert "build fails on images of shape (3, 6, 6)" in done.stderr
    assert not (folder / "no").exists()
