"""The kernel sum of the paper's literal protocol on a GPU: float32 KernelMixture against attention alone.

    python -m benchmarks.cuda --json cuda.json

One step of one generation is 100,000 points by 100,000 centres at one time; the literal protocol has 500 of them.
Public scaled_dot_product_attention of the same shape takes turns with it, in float32 (what KernelMixture uses) and in
bfloat16 (flash attention: the roofline of the card, though its rounding makes it useless for scores). Wall-clock times
around synchronisation; medians and ranges. Without a CUDA device it says so and measures nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import command
from benchmarks.kernel_sum import paper, points, sdpa
from benchmarks.machine import facts
from driftlaw.process import KernelMixture

SKIPPED = "skipped: PyTorch finds no CUDA device here"


def timed(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def half_attention(m: int, n: int) -> Callable[[], object]:
    """Flash attention of the shape of the sum, in bfloat16."""
    q, k = (torch.randn(1, 1, size, 16, device="cuda", dtype=torch.bfloat16) for size in (m, n))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=1.0)


def case(n: int, m: int, t: float, repetitions: int) -> dict[str, object]:
    here = paper(n, 10, 0.6)
    x = points(here, t, m)
    law = KernelMixture(here.centres.cuda(), here.bandwidth)
    there = x.cuda()
    public = sdpa(law, t)
    work = {
        "driftlaw": lambda: law.evaluate(there, t),
        "sdpa, float32": lambda: public(there),
        "sdpa, bfloat16": half_attention(m, n),
    }
    exact = law.score(there[:1024].double(), t)
    error = (law.score(there[:1024], t) - exact).norm(dim=1) / exact.square().sum(1).mean().sqrt()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for r in range(repetitions + 1):
        for name, method in work.items():
            taken = timed(method)
            if r:  # the first round warms up
                seconds[name].append(taken)
    spread = {k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in seconds.items()}
    return {
        "N": n,
        "M": m,
        "t": t,
        "seconds": spread,
        "error_mean": float(error.mean()),
        "error_max": float(error.max()),
    }


def run(n: int = 100_000, m: int = 100_000, repetitions: int = 5) -> dict[str, object]:
    """All measurements as one JSON-ready mapping; without a CUDA device only a word."""
    if not torch.cuda.is_available():
        return {"machine": facts(), "skipped": SKIPPED}
    cases = [case(n, m, t, repetitions) for t in (0.02, 0.1, 1.0, 4.0)]
    return {"machine": facts() | {"gpu": torch.cuda.get_device_name()}, "cases": cases}


def table(result: dict) -> str:
    if "skipped" in result:
        return result["skipped"]
    lines = [f"{'t':>5} {'method':16} {'ms per step':>12} {'min':>8} {'max':>8} {'error mean':>10} {'max':>8}"]
    for row in result["cases"]:
        for name, s in row["seconds"].items():
            times = f"{1e3 * s['median']:>12.1f} {1e3 * s['min']:>8.1f} {1e3 * s['max']:>8.1f}"
            error = f" {row['error_mean']:>10.1e} {row['error_max']:>8.1e}" if name == "driftlaw" else ""
            lines.append(f"{row['t']:>5} {name:16} {times}{error}")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    options = parser.parse_args()
    result = run()
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
