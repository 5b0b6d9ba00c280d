"""The compiled kernel sum against the float64 twin, its fallbacks, and its build."""

import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from driftlaw.native import kernel_sum as native
from driftlaw.native import row_passes
from driftlaw.native.compiled import find_compiler
from driftlaw.process.laws import kernel_sum
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.seeding import generator
from oracles import kernel_twin

ROOT = Path(__file__).parents[2]
needs_native = pytest.mark.skipif(not native.available(), reason=native.describe())
BEST = native.INSTRUCTION_SETS.index("AVX-512")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "normal"), dtype=torch.float64)


def random_weights(n, zeros=0):
    w = torch.rand(n, generator=generator(n, "weights"), dtype=torch.float64) + 0.01
    w[1 : 1 + zeros] = 0
    return w / w.sum()


def points(c, h, t, m, seed=1):
    """Float32-representable points of the law at time t, and its a and v."""
    a = torch.exp(-torch.as_tensor(t, dtype=torch.float64) / 2)
    v = a.square() * h * h + 1 - a.square()
    label = torch.randint(len(c), (m,), generator=generator(seed, "label"))
    x = a.reshape(-1, 1) * c[label] + v.sqrt().reshape(-1, 1) * normal(m, c.shape[1], seed=seed)
    return x.float().double(), a.expand(m), v.expand(m)


def laws(sums, x, a, v, d):
    """Log density, score and divergence from the sums."""
    log_density = sums.log_sum - d / 2 * torch.log(2 * math.pi * v)
    score = (a.unsqueeze(1) * sums.mean - x) / v.unsqueeze(1)
    return log_density, score, (a / v).square() * (sums.square - sums.mean.square().sum(1)) - d / v


def rms(error, scale):
    return float(error.square().mean().sqrt() / scale.square().mean().sqrt())


def check(c, h, t, m, weights=None, instruction_set=BEST, score_error=5e-6):
    x, a, v = points(c, h, t, m)
    d = c.shape[1]
    got = native.Packed(c, weights).sums(x, a, v, instruction_set)
    log_density, score, divergence = laws(got, x, a, v, d)
    exact = kernel_twin.evaluate(c, h, x, t, weights)
    assert rms(score - exact[1], exact[1]) <= score_error
    assert rms(divergence - exact[2], d / v) <= 1e-5
    torch.testing.assert_close(log_density, exact[0], rtol=1e-6, atol=2e-5)
    assert float(got.lost.max()) <= kernel_sum.COMPILED_LIMIT * math.sqrt(d)


def test_a_compiler_means_a_compiled_path():
    """So that a library that its own trial rejects fails here and is not skipped everywhere."""
    story = native.describe(build=True)
    expected = (
        "absent: no C++ compiler",
        "absent: switched off",
        "absent: this processor has neither",
        "absent: DRIFTLAW_NATIVE",
    )
    assert native.available() or story.startswith(expected), story


@needs_native
@pytest.mark.parametrize("d", [1, 2, 3, 7, 8, 10, 16, 17, 64])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_every_shape_against_the_twin(d, n):
    """Times per sample from 0.005 to 4; tails of vectors, register tiles, leaves and groups of columns."""
    for m in (1, 5, 67):
        check(normal(n, d), 0.5, torch.linspace(0.005, 4, m, dtype=torch.float64), m)


@needs_native
@pytest.mark.parametrize("instruction_set", [0, 1, 2])
@pytest.mark.parametrize("zeros", [0, 5])
def test_weights_with_and_without_zeros(instruction_set, zeros):
    for n in (9, 700, 3000):
        check(normal(n, 10), 0.5, 0.05, 30, random_weights(n, zeros), instruction_set)


@needs_native
@pytest.mark.parametrize("h", [0.0, 0.6])
@pytest.mark.parametrize("t", [0.005, 0.02, 0.3, 4.0])
@pytest.mark.parametrize("clusters", [1, 2, 5])
def test_clusters_forty_sigma_apart(h, t, clusters):
    c = 0.6 * normal(3000, 10)
    c[:, 0] += 24 * (torch.arange(3000) % clusters)
    check(c - c.mean(0), h, t, 60)


@needs_native
def test_leaves_are_left_out_only_where_nothing_is_lost():
    """Weights down to e^-100 beside each other: a far cluster of huge weight beats a near one of tiny weight."""
    c = torch.cat([0.3 * normal(600, 3), 0.3 * normal(600, 3, seed=2) + torch.tensor([8.0, 0.0, 0.0])])
    for log_tiny in (-20.0, -40.0, -60.0):
        w = torch.cat([torch.full((600,), math.exp(log_tiny)), torch.ones(600)]).double()
        w /= w.sum()
        x, a, v = normal(40, 3).float().double(), torch.ones(40).double(), torch.full((40,), 0.5).double()
        sums = native.Packed(c, w).sums(x, a, v)
        logits = w.log() - torch.cdist(x, c, compute_mode="donot_use_mm_for_euclid_dist").square()
        torch.testing.assert_close(sums.log_sum, logits.logsumexp(1), rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(sums.mean, logits.softmax(1) @ c, rtol=1e-5, atol=2e-5)


@needs_native
def test_instruction_sets_agree():
    c = normal(2500, 10)
    x, a, v = points(c, 0.4, torch.linspace(0.01, 2, 50, dtype=torch.float64), 50)
    portable, *others = (native.Packed(c).sums(x, a, v, isa) for isa in (0, 1, 2))
    for other in others:
        torch.testing.assert_close(other.log_sum, portable.log_sum, rtol=1e-6, atol=3e-6)
        torch.testing.assert_close(other.mean, portable.mean, rtol=1e-5, atol=1e-5)


@needs_native
def test_results_do_not_depend_on_threads_or_on_other_points():
    c = normal(5000, 10)
    x, a, v = points(c, 0.2, torch.linspace(0.01, 2, 333, dtype=torch.float64), 333)
    packed = native.Packed(c)
    one = packed.sums(x, a, v)
    torch.set_num_threads(3)
    try:
        three = packed.sums(x, a, v)
    finally:
        torch.set_num_threads(1)
    some = packed.sums(x[100:135], a[100:135], v[100:135])
    for first, second, third in zip(one, three, some, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first[100:135], third)


@needs_native
@pytest.mark.parametrize("instruction_set", [0, 1, 2])
def test_zero_denormal_huge_and_missing_points(instruction_set):
    c = normal(300, 4)
    c[0], c[1], c[2] = -0.0, 1e-310, 1e-42
    packed, half = native.Packed(c), torch.tensor(0.5, dtype=torch.float64)
    x = torch.zeros(6, 4, dtype=torch.float64)
    x[1], x[2], x[3], x[4], x[5] = -0.0, 1e-42, 1e12, math.nan, math.inf
    got = packed.sums(x, half, half, instruction_set)
    assert torch.equal(got.mean[0], got.mean[1])
    torch.testing.assert_close(got.mean[2], got.mean[0])
    assert got.lost[3] > 1e6
    assert all(part[4:].isnan().all() for part in got)
    many = packed.sums(
        x.repeat(200, 1), half, half, instruction_set
    )  # enough points to be put in order, which NaN has not
    assert torch.equal(many.mean[0], got.mean[0])
    assert packed.sums(x[:0], half, half).mean.shape == (0, 4)
    law = KernelMixture(torch.cat([c] * 7).float(), 0.1)
    assert law.score(x.float(), 0.5).isfinite().all(dim=1).tolist() == [True] * 4 + [False] * 2
    far = law.log_prob(torch.full((1, 4), 1e4), 0.5)  # lost too much: done in float64
    exact = kernel_twin.evaluate(law.centres, 0.1, torch.full((1, 4), 1e4), 0.5)[0]
    torch.testing.assert_close(far.double(), exact, rtol=1e-6, atol=0)


@needs_native
@pytest.mark.parametrize("weighted", [False, True])
def test_kernel_mixture_uses_it(monkeypatch, weighted):
    n = kernel_sum.COMPILED_CENTRES
    law = KernelMixture(normal(n, 6).float() + 3, 0.3, random_weights(n) if weighted else None)
    calls, sums = [], native.Packed.sums
    monkeypatch.setattr(native.Packed, "sums", lambda *a: calls.append(1) or sums(*a))
    monkeypatch.setattr(KernelMixture, "_fast_sums", None)
    x, t = law.sample(50, generator(3)), torch.linspace(0.005, 4, 50)
    for got, exact in zip(
        law.evaluate(x, t), kernel_twin.evaluate(law.centres, 0.3, x, t, law.weights)[:3], strict=True
    ):
        assert got.dtype == torch.float32
        assert rms(got.double() - exact, exact) <= 5e-6
    assert calls == [1]
    law.score(x.double(), t)
    law.score(x.clone().requires_grad_(), t)
    KernelMixture(law.centres[1:], 0.3).log_prob(x.double(), t)
    assert calls == [1], "float64 points, gradients and few centres are served by PyTorch"


@needs_native
def test_points_that_lose_too_much_are_done_in_float64(monkeypatch):
    law = KernelMixture(normal(kernel_sum.COMPILED_CENTRES, 5), 0.2)
    x = law.sample(30, generator(4))
    before = law.score(x, 0.01)
    sums = native.Packed.sums

    def spoilt(*arguments):
        out = sums(*arguments)
        out.mean[::2] = 7.0
        out.lost[::2] = math.nan
        return out

    monkeypatch.setattr(native.Packed, "sums", spoilt)
    torch.testing.assert_close(law.score(x, 0.01), before, rtol=1e-4, atol=1e-4)


PROGRAM = r"""
import torch
from driftlaw.process import KernelMixture
from driftlaw.native import kernel_sum as native
torch.set_num_threads(1)
c = torch.linspace(-2, 2, 9000).mul(97).sin().reshape(3000, 3)
value = float(KernelMixture(c, 0.3).score(c[:50], 0.1).double().square().sum())
print(value, native.describe(), sep="\n")
"""


def start(cache, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("CXX", "DRIFTLAW_NATIVE")}
    env |= {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.PIPE, text=True)


def outcome(process):
    value, story = process.communicate(timeout=300)[0].splitlines()
    assert process.returncode == 0
    return float(value), story


def fake_compiler(folder, action):
    """A "c++ 9.9" that does `action` ($target: the library to be built) and logs that it ran."""
    folder.mkdir()
    script = folder / "c++"
    script.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && echo "c++ (Some) 9.9" && exit 0
echo ran >> {folder}/log
for target; do :; done
{action}
"""
    )
    script.chmod(0o755)
    return {"CXX": str(script)}


@needs_native
@pytest.mark.heavy
def test_two_first_users_at_once_and_a_damaged_library(tmp_path):
    copy = fake_compiler(tmp_path / "bin", f"sleep 1; cp {native.SOURCE.path(find_compiler())} $target")
    both = [outcome(process) for process in [start(tmp_path, **copy), start(tmp_path, **copy)]]
    assert both[0] == both[1]
    assert both[0][1].endswith("compiled by c++ 9.9")
    (built,) = (tmp_path / "driftlaw").glob("*.so")
    ran = len((tmp_path / "bin" / "log").read_text().split())
    assert outcome(start(tmp_path, **copy)) == both[0]
    assert len((tmp_path / "bin" / "log").read_text().split()) == ran, "the second use compiles nothing"
    built.write_bytes(b"not a library")
    assert outcome(start(tmp_path, **copy)) == both[0]


@needs_native
def test_without_a_compiled_path_the_numbers_are_the_same(tmp_path):
    names: dict[str, float] = {}
    exec(PROGRAM, names)
    value = names["value"]
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "absent: no C++ compiler": start(tmp_path / "1", PATH=str(empty)),
        "absent: switched off by DRIFTLAW_NATIVE": start(tmp_path, DRIFTLAW_NATIVE="0"),
    }
    for story, process in cases.items():
        got, told = outcome(process)
        assert told.startswith(story)
        assert got == pytest.approx(value, rel=1e-4, abs=1e-3)


@needs_native
def test_a_failure_is_told_and_a_use_refused(tmp_path, monkeypatch):
    for name, value in fake_compiler(tmp_path / "bin", "echo broken >&2; exit 1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    find_compiler.cache_clear()
    native.SOURCE._loaded.clear()
    try:
        assert native.describe() == "not compiled yet: c++ 9.9 will do it at the first large sum"
        assert not native.available()
        assert native.describe() == "absent: c++ 9.9 failed: broken"
        with pytest.raises(RuntimeError, match="broken"):
            native.Packed(torch.zeros(3, 2))
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        native.SOURCE._loaded.clear()
        assert "set XDG_CACHE_HOME" in native.describe(build=True)
    finally:
        monkeypatch.undo()
        find_compiler.cache_clear()
        native.SOURCE._loaded.clear()


@needs_native
def test_a_wrong_library_is_not_trusted(monkeypatch):
    native.SOURCE._loaded.clear()
    try:
        monkeypatch.setattr(native.SOURCE, "right", lambda handle, isa: False)
        assert "wrong" in native.describe(build=True)
        assert not native.available()
    finally:
        monkeypatch.undo()
        native.SOURCE._loaded.clear()


def test_importing_compiles_nothing(tmp_path):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import driftlaw.process"], env=env, check=True)
    assert not list(tmp_path.iterdir())


def test_the_source_is_package_data(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"driftlaw/process/{f}" for f in ("kernel_sum.cpp", "kernel_lanes.hpp", "row_passes.cpp")} <= set(names)


class Processor:
    """A loaded library on a processor whose best instruction set is another one."""

    def __init__(self, handle, isa):
        self.__dict__.update(handle=handle, driftlaw_isa=lambda: isa)

    def __getattr__(self, name):
        return getattr(self.handle, name)


@pytest.fixture(params=["kernel sum", "row passes"])
def source(request):
    found = {"kernel sum": native.SOURCE, "row passes": row_passes.SOURCE}[request.param]
    found._loaded.clear()
    yield found
    found._loaded.clear()


@needs_native
def test_the_switch_restricts_the_instruction_set(source, monkeypatch):
    best = source._open(source.path(find_compiler())).driftlaw_isa()
    open_ = source._open
    for processor in range(best + 1):
        monkeypatch.setattr(source, "_open", lambda path, isa=processor: Processor(open_(path), isa))
        source._loaded.clear()
        for value, asked in (("1", None), ("avx2", 1), ("AVX512", 2)):
            monkeypatch.setenv("DRIFTLAW_NATIVE", value)
            handle, story, isa = source.library()
            used = min(processor, source.most if asked is None else min(asked, source.most))
            if asked is not None and asked > processor:
                name = native.INSTRUCTION_SETS[asked]
                assert story == f"absent: DRIFTLAW_NATIVE asks for {name}, which this processor lacks"
            elif used < source.least:
                assert story.startswith("absent: this processor has neither")
            else:
                assert handle is not None
                assert (isa, story.split(",")[0]) == (used, native.INSTRUCTION_SETS[used])
    monkeypatch.setenv("DRIFTLAW_NATIVE", "sse")
    assert source.describe() == "absent: DRIFTLAW_NATIVE is 'sse'; it can be 0, 1, avx2 or avx512"
    assert not source.available()


@needs_native
def test_no_better_set_is_used_than_the_switch_allows(monkeypatch):
    """AVX2 differs from AVX-512 in the last bits: whoever asks for more gets AVX2."""
    c = normal(2500, 10)
    x, a, v = points(c, 0.4, torch.linspace(0.01, 2, 50, dtype=torch.float64), 50)
    by_avx2 = native.Packed(c).sums(x, a, v, 1)
    monkeypatch.setenv("DRIFTLAW_NATIVE", "avx2")
    if native.available():
        assert all(map(torch.equal, native.Packed(c).sums(x, a, v), by_avx2))
