"""What does not fit is refused with its size, before anything is allocated."""

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.errors import ConfigError, InputError, LimitError
from driftlaw.loop.step.setting import Setting
from driftlaw.system import memory
from driftlaw.system.documents import read_array


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "64MiB")


@pytest.mark.parametrize("text", ["x", "-1", "0", "1.5", "2 GiBs", "nan"])
def test_what_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv(memory.VARIABLE, text)
    if text == "1.5":
        assert memory.available()[0] == 1
        return
    with pytest.raises(ConfigError, match="not a size"):
        memory.check(1 << 30, "it", "")


def test_the_limit_of_the_variable_is_the_limit(small):
    memory.check(1 << 26, "it", "")
    with pytest.raises(LimitError, match=r"it needs 65 MiB of memory, more than the 64 MiB that DRIFTLAW_MAX_MEMORY"):
        memory.check(65 << 20, "it", "")


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_control_group_counts(tmp_path, version):
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    names = ("memory.max", "memory.current", "file") if version == 2 else ("limit", "usage", "total_inactive_file")
    for folder, most, used in ((tmp_path, 1 << 40, 0), (tmp_path / "a", 5000, 3000), (inner, 1 << 62, 10)):
        (folder / names[0]).write_text("max\n" if most == 1 << 62 and version == 2 else f"{most}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\n{names[2]} 500\n")
    assert min(memory._group(tmp_path, "/a/b", *names)) == 2500
    assert list(memory._group(tmp_path, "/../..", *names)) == [(1 << 40) + 500]


def test_the_address_space_counts(tmp_path):
    code = "from driftlaw.system import memory; print(memory.available()[0])"
    words = ["sh", "-c", f"ulimit -v 4000000; exec {sys.executable} -c '{code}'"]
    done = subprocess.run(words, env=os.environ | {memory.VARIABLE: ""}, capture_output=True, text=True)
    assert 0 < int(done.stdout) < 4_000_000 * 1024, done.stderr


def study(**settings):
    return dl.Study(**{"source": "gmm", "estimator": dl.KDE(0.6), "policy": 0.5, "generations": 2} | settings)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"samples": 100_000_000}, "training set of 100,000,000 rows of 10"),
        ({"measures": {"path_samples": 10**12}}, "path_samples = 1000000000000 in dimension 10"),
        ({"measures": {"density_samples": 10**12}}, "density_samples"),
    ],
)
def test_a_study_that_does_not_fit(small, settings, names):
    with pytest.raises(LimitError, match=names):
        Setting(study(**settings)).prepare()


def test_a_policy_that_grows_counts_all_its_rows(small):
    one = {"samples": 200_000, "estimator": dl.KDE(0.6), "source": "gmm"}
    Setting(dl.Study(policy="replace", generations=9, **one)).prepare()
    with pytest.raises(LimitError, match="1,800,000 rows"):
        Setting(dl.Study(policy="accumulate", generations=9, **one)).prepare()


def test_generations_and_horizons(small):
    with pytest.raises(LimitError, match="recursion of 2000 generations"):
        dl.propagator(dl.FixedFraction(0.5), 2000)
    with pytest.raises(LimitError, match="100000 generations need"):
        study(generations=100_000)
    with pytest.raises(LimitError, match="1000000 generations need"):
        dl.plan(innovation=0.1, alignment=0.5, budget=0.5, horizon=10**6, objective="max")


def test_a_network_a_mixture_and_a_sketch(small):
    with pytest.raises(LimitError, match=r"network of .* weights"):
        dl.Denoiser(width=100_000_000).check((1, 8, 8))
    with pytest.raises(LimitError, match="3000 dimensions"):
        dl.GaussianMixture([1.0], np.zeros((1, 3000)), 1.0).covariance()
    with pytest.raises(LimitError, match="blocks"):
        dl.sketch(np.random.default_rng(0).normal(size=(500, 3)), "identity", blocks=10**7)


def archive(path, header_shape, data):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": header_shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("x.npy", head.getvalue() + data)
    return path


@pytest.mark.parametrize("read", [dl.sketch, lambda p: dl.Study(source=str(p), estimator="kde", policy=0.5)])
def test_archives_that_swell(small, tmp_path, read):
    bomb = archive(tmp_path / "bomb.npz", (1_250_000, 10), bytes(100_000_000))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(LimitError, match=r"needs 95\.4 MiB"):
        read(bomb)
    with pytest.raises(InputError, match="promises 8000000000000 bytes, the archive has 208"):
        read(archive(tmp_path / "liar.npz", (10**12,), bytes(80)))


def test_headers_without_numbers(tmp_path):
    path = tmp_path / "x.npy"
    for shape in ((10**12, 0), (10**12,)):
        with path.open("wb") as f:
            np.lib.format.write_array_header_1_0(f, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with pytest.raises(InputError):
            dl.sketch(path)
        with pytest.raises(dl.errors.CorruptFileError):
            read_array(path)


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 100_000, 2**31 - 1])
def test_images_of_absurd_size(small, tmp_path, side):
    (tmp_path / "a.png").write_bytes(png(side, side))
    for read in (dl.sketch, lambda p: dl.Study(source={"kind": "images", "path": str(p)}, estimator="kde", policy=0.5)):
        with pytest.raises(InputError, match=r"needs .* of memory|cannot be read"):
            read(tmp_path)


def test_a_large_sparse_file_is_not_read(small, tmp_path):
    path = tmp_path / "samples.npy"
    with path.open("wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(LimitError, match=r"reading .*samples\.npy needs 2\.05e\+03 GiB"):
        read_array(path)
