"""The hot sum (score and log density of a diffused KDE) by every means at hand, alternating within one process.

    python -m benchmarks.kernel_sum --json kernel_sum.json

Time is processor time per pair of a point and a centre ("core-ns": all threads added up; what other programs do on the
machine hardly changes it); medians over repetitions in which the methods take turns, and medians of the ratios to
PyTorch's fused attention (sdpa) within a repetition. Errors are |s - s64| / rms |s64| against float64;
scikit-learn has no score, its error is that of the log density in nats, at a relative tolerance of 1e-3. The limit is
2d + 6 fused multiply-adds per pair (d + 1 exponent, 5 exponential, d values) at the rate that a register-only loop of
multiply-adds reaches here. KeOps and a C++ compiler are used if they are there.
"""

from __future__ import annotations

import ctypes
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.neighbors import KernelDensity
from torch import Tensor

from benchmarks import command
from benchmarks.machine import facts
from driftlaw.native import kernel_sum as native
from driftlaw.native.compiled import UnusableError, find_compiler
from driftlaw.process import GaussianMixture, KernelMixture
from driftlaw.process.laws import kernel_sum
from driftlaw.seeding import generator

PEAK = """
typedef float V __attribute__((vector_size(4 * LANES)));
extern "C" __attribute__((target(TARGET))) float peak(long n, float b, float c) {
  V a[12], x = V{} + b, y = V{} + c, total = {};
  for (int k = 0; k < 12; ++k) a[k] = V{} + b * k;
  for (long i = 0; i < n; ++i) {
    a[0] = a[0] * x + y; a[1] = a[1] * x + y; a[2] = a[2] * x + y; a[3] = a[3] * x + y;
    a[4] = a[4] * x + y; a[5] = a[5] * x + y; a[6] = a[6] * x + y; a[7] = a[7] * x + y;
    a[8] = a[8] * x + y; a[9] = a[9] * x + y; a[10] = a[10] * x + y; a[11] = a[11] * x + y;
  }
  float s = 0;
  for (int k = 0; k < 12; ++k) total += a[k];
  for (int k = 0; k < LANES; ++k) s += total[k];
  return s;
}
"""

Method = Callable[[Tensor], object]


def paper(n: int, d: int, bandwidth: float) -> KernelMixture:
    """KDE of n draws of the five clusters of arXiv 2602.16601, cut or padded to d dimensions."""
    means = torch.zeros(5, max(d, 2), dtype=torch.float64)
    means[1:, :2] = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])
    law = GaussianMixture(torch.full((5,), 0.2), means[:, :d], 0.36)
    return KernelMixture(law.sample(n, generator(0, "centres")), bandwidth)


def points(law: KernelMixture, t: float, m: int) -> Tensor:
    return law.diffuse(t).sample(m, generator(1, "points"))


def coefficients(law: KernelMixture, t: float) -> tuple[float, float]:
    a = math.exp(-t / 2)
    return a, a * a * law.bandwidth**2 - math.expm1(-t)


def by_path(law: KernelMixture, t: float, x: Tensor, compiled: bool) -> Tensor:
    """KernelMixture's score through the compiled path or through PyTorch alone."""
    fewest, kernel_sum.COMPILED_CENTRES = kernel_sum.COMPILED_CENTRES, 1 if compiled else 2**62
    try:
        return law.score(x, t)
    finally:
        kernel_sum.COMPILED_CENTRES = fewest


def cdist(law: KernelMixture, t: float, x: Tensor) -> Tensor:
    a, v = coefficients(law, t)
    c, parts = a * law.centres, []
    for rows in x.split(max(1, 2**24 // len(law))):
        weights = torch.cdist(rows, c).square_().mul_(-0.5 / v).softmax(dim=1)
        parts.append((weights @ c - rows) / v)
    return torch.cat(parts)


def gemm(law: KernelMixture, t: float, x: Tensor) -> Tensor:
    """Blocks of 512 x 2048 by two matrix products; exponents clamped at -80 (denormal numbers are slow)."""
    a, v = coefficients(law, t)
    c, parts = law.centres, []
    bias = c.square().sum(1) * (-a * a / (2 * v))
    for rows in x.split(512):
        high, total, mean = torch.full((len(rows), 1), -math.inf), torch.zeros(len(rows), 1), torch.zeros_like(rows)
        for block, b in zip(c.split(2048), bias.split(2048), strict=True):
            logits = torch.addmm(b, rows, block.T, alpha=a / v)
            new = torch.maximum(high, logits.amax(1, keepdim=True))
            shrink, e = (high - new).exp(), (logits - new).clamp_(min=-80).exp_()
            total, mean, high = total * shrink + e.sum(1, keepdim=True), mean * shrink + e @ block, new
        parts.append((a * mean / total - rows) / v)
    return torch.cat(parts)


def sdpa(law: KernelMixture, t: float) -> Method:
    """Torch scaled_dot_product_attention: the bias in an extra column, width padded to 16; score only."""
    a, v = coefficients(law, t)
    d, width = law.dim, -(-(law.dim + 1) // 16) * 16
    keys, values = (law.centres.new_zeros(1, 1, len(law), width) for _ in range(2))
    keys[0, 0, :, :d] = values[0, 0, :, :d] = law.centres
    keys[0, 0, :, d] = law.centres.square().sum(1)

    def run(x: Tensor) -> Tensor:
        query = x.new_zeros(1, 1, len(x), width)
        query[0, 0, :, :d], query[0, 0, :, d] = x * (a / v), -a * a / (2 * v)
        mean = torch.nn.functional.scaled_dot_product_attention(query, keys, values, scale=1.0)
        return (a * mean[0, 0, :, :d] - x) / v

    return run


def keops(law: KernelMixture, t: float) -> Method | None:
    try:
        from pykeops.torch import LazyTensor
    except ImportError:
        return None
    a, v = coefficients(law, t)
    c = a * law.centres

    def run(x: Tensor) -> Tensor:
        x_i, c_j = LazyTensor(x[:, None, :].contiguous()), LazyTensor(c[None, :, :].contiguous())
        mean = (-((x_i - c_j) ** 2).sum(-1) / (2 * v)).sumsoftmaxweight(c_j, axis=1)
        return (mean - x) / v

    return run


def sklearn_density(law: KernelMixture, t: float) -> Method:
    a, v = coefficients(law, t)
    density = KernelDensity(bandwidth=math.sqrt(v), rtol=1e-3).fit((a * law.centres).numpy())
    return lambda x: density.score_samples(x.numpy())


def seconds(method: Method, x: Tensor) -> tuple[float, float]:
    """Processor and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    method(x)
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(n: int, m: int, d: int, bandwidth: float, t: float, repetitions: int) -> list[dict[str, object]]:
    law = paper(n, d, bandwidth)
    x = points(law, t, m)
    few, fewer = x[: max(1, m // 8)], x[: max(1, m // 32)]
    methods: dict[str, tuple[Method | None, Tensor]] = {
        "sdpa": (sdpa(law, t), x),
        "driftlaw, torch": (lambda x: by_path(law, t, x, compiled=False), x),
        "driftlaw, compiled": ((lambda x: by_path(law, t, x, compiled=True)) if native.available() else None, x),
        "gemm": (lambda x: gemm(law, t, x), x),
        "cdist": (lambda x: cdist(law, t, x), few),
        "keops": (keops(law, t), few),
        "sklearn": (sklearn_density(law, t), fewer),
    }
    usable = {name: (method, at) for name, (method, at) in methods.items() if method is not None}
    truth = law.evaluate(few.double(), t)
    scale = truth.score.square().sum(1).mean().sqrt()
    errors: dict[str, tuple[float, float]] = {}
    for name, (method, at) in usable.items():  # also warms everything up
        value = method(few if len(at) > len(few) else at)
        if isinstance(value, Tensor):
            error = (value.double() - truth.score).norm(dim=1) / scale
        else:
            error = (torch.as_tensor(value) - truth.log_density[: len(at)]).abs()
        errors[name] = float(error.mean()), float(error.max())
        method(at)
    cpu: dict[str, list[float]] = {name: [] for name in usable}
    wall: dict[str, list[float]] = {name: [] for name in usable}
    for _ in range(repetitions):
        for name, (method, at) in usable.items():
            taken = seconds(method, at)
            for record, value in zip((cpu, wall), taken, strict=True):
                record[name].append(1e9 * value / n / len(at))
    return [
        {
            "t": t,
            "method": name,
            "core_ns_per_pair": statistics.median(cpu[name]),
            "wall_ns_per_pair": statistics.median(wall[name]),
            "ratio_to_sdpa": statistics.median(ours / sd for ours, sd in zip(cpu[name], cpu["sdpa"], strict=True)),
            "error_mean": errors[name][0],
            "error_max": errors[name][1],
        }
        for name in usable
    ]


def scaling(compiled: bool, repetitions: int) -> dict[str, dict[str, object]]:
    """Processor seconds as N, M or d grows alone at t = 1, and the slope of their logarithms."""
    grids = {
        "N": [(n, 512, 10) for n in (4096, 16384, 65536, 262144)],
        "M": [(16384, m, 10) for m in (128, 512, 2048, 8192)],
        "d": [(16384, 512, d) for d in (5, 10, 20, 40, 80, 160)],
    }
    result: dict[str, dict[str, object]] = {}
    for k, (name, grid) in enumerate(grids.items()):
        took = []
        for n, m, d in grid:
            law = paper(n, d, 0.6)
            x = points(law, 1.0, m)
            by_path(law, 1.0, x, compiled)
            took.append(
                statistics.median(
                    seconds(lambda x, law=law: by_path(law, 1.0, x, compiled), x)[0] for _ in range(repetitions)
                )
            )
        size = [cell[k] for cell in grid]
        slope = statistics.linear_regression([math.log(s) for s in size], [math.log(s) for s in took]).slope
        pairs = [1e9 * s / n / m for s, (n, m, _) in zip(took, grid, strict=True)]
        result[name] = {"sizes": size, "core_ns_per_pair": pairs, "slope": slope}
    return result


def multiply_add_ns(lanes: int, target: str) -> float | None:
    """Nanoseconds per independent vector multiply-add, in registers; None without a compiler."""
    try:
        compiler = find_compiler()
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "peak.cpp", Path(folder) / "peak.so"
            source.write_text(PEAK.replace("LANES", str(lanes)).replace("TARGET", json.dumps(target)))
            flags = ["-O2", "-ffp-contract=fast", "-fPIC", "-shared", "-w"]
            subprocess.run([*compiler.command, *flags, str(source), "-o", str(library)], check=True)
            peak = ctypes.CDLL(str(library)).peak
    except (UnusableError, OSError, subprocess.SubprocessError):
        return None
    peak.argtypes, peak.restype = [ctypes.c_long, ctypes.c_float, ctypes.c_float], ctypes.c_float
    best, n = math.inf, 5_000_000
    for _ in range(5):
        start = time.process_time()
        peak(n, 0.999, 0.001)
        best = min(best, time.process_time() - start)
    return 1e9 * best / n / 12


def limit(d: int) -> dict[str, object] | None:
    """The least core-ns per pair that 2d + 6 multiply-adds allow with the instruction set in use."""
    story = native.describe(build=True)
    for name, lanes, target in (("AVX-512", 16, "avx512f"), ("AVX2", 8, "avx2,fma")):
        if story.startswith(name) and (ns := multiply_add_ns(lanes, target)) is not None:
            return {"instruction_set": name, "ns_per_multiply_add": ns, "core_ns_per_pair": (2 * d + 6) * ns / lanes}
    return None


def run(n: int = 100_000, m: int = 1024, d: int = 10, repetitions: int = 5, scale: bool = True) -> dict[str, object]:
    """All measurements as one JSON-ready mapping."""
    cases = [(0.6, 0.02), (0.6, 1.0), (0.0, 0.02)]
    return {
        "machine": facts(),
        "sizes": {"N": n, "M": m, "d": d},
        "limit": limit(d),
        "methods": [{"bandwidth": h, **row} for h, t in cases for row in compare(n, m, d, h, t, repetitions)],
        "scaling": {
            name: scaling(compiled, repetitions)
            for name, compiled in (("driftlaw, torch", False), ("driftlaw, compiled", True))
            if scale and (native.available() or not compiled)
        },
    }


def table(result: dict) -> str:
    lines = [f"{'h':>4} {'t':>5} {'method':20} {'core-ns/pair':>12} {'/ sdpa':>7} {'error mean':>10} {'max':>8}"]
    for row in result["methods"]:
        lines.append(
            f"{row['bandwidth']:>4} {row['t']:>5} {row['method']:20} {row['core_ns_per_pair']:>12.3f}"
            f" {row['ratio_to_sdpa']:>7.3f} {row['error_mean']:>10.1e} {row['error_max']:>8.1e}"
        )
    limit = result["limit"]
    if limit:
        lines += [
            "",
            f"limit of 2d + 6 multiply-adds, {limit['instruction_set']}: {limit['core_ns_per_pair']:.3f} core-ns/pair "
            f"({limit['ns_per_multiply_add']:.3f} ns each)",
        ]
    for name, grids in result["scaling"].items():
        lines += ["", f"{name}: core-ns/pair as one size grows"]
        for axis, grid in grids.items():
            cells = ", ".join(f"{n}: {ns:.2f}" for n, ns in zip(grid["sizes"], grid["core_ns_per_pair"], strict=True))
            lines.append(f"  {axis} (time grows as {axis}^{grid['slope']:.2f})  {cells}")
        fixed, each = by_dimension(grids["d"])
        lines.append(f"  {fixed:.3f} + {each:.4f} d core-ns/pair for d = 10 to 40")
        if limit:
            least = limit["core_ns_per_pair"] / (2 * result["sizes"]["d"] + 6)
            lines[-1] += f"; the limit is {6 * least:.3f} + {2 * least:.4f} d"
    return "\n".join(lines)


def by_dimension(grid: dict) -> tuple[float, float]:
    """Constant and slope of core-ns per pair against d = 10 to 40: what the exponential and what one axis costs."""
    d, ns = zip(
        *((d, ns) for d, ns in zip(grid["sizes"], grid["core_ns_per_pair"], strict=True) if 10 <= d <= 40), strict=True
    )
    line = statistics.linear_regression(d, ns)
    return line.intercept, line.slope


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--centres", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-scaling", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = run(options.centres, options.points, options.dim, options.repetitions, not options.no_scaling)
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
