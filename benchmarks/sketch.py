"""What a sketch costs: rows per second against BLAS, peak memory against rows, bytes on disk.

Rate: the sums of outer products are the least that any pass over [n, k] features must do. BLAS does them with dsyrk
(``x.T @ x`` in numpy, half the multiplications of a general product) on float64 rows that lie ready; the sketch starts
from float32 rows and also converts, checks, standardises, assigns blocks and counts histograms. Both use one thread and
run in turn within one process; the ratio is of CPU seconds, so other load on the machine matters little.

Memory: the peak resident set of a fresh process that sketches a .npy file or an iterator of n rows.

    python -m benchmarks.sketch
    python -m benchmarks.sketch --rows 100000,1000000,10000000 --json sketch.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import driftlaw as dl
from benchmarks import command
from benchmarks.machine import facts, peak_resident
from driftlaw.measure.sketch.features import SketchFeatures
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.native import row_passes

CHUNK = 4096  # rows of 256 numbers that the reader hands on at once


def rate(k: int, rows: int, repeats: int) -> dict:
    """CPU microseconds per row of the sketch and of BLAS, and the share of the BLAS rate that the sketch reaches."""
    x = np.random.default_rng(0).standard_normal((CHUNK, k)).astype(np.float32)
    ready = x.astype(np.float64)
    sketch = Sketch(SketchFeatures.fit(x, "identity"))
    chunks = max(1, rows // CHUNK)
    sums = np.zeros((k, k))

    def ours() -> None:
        for _ in range(chunks):
            sketch.add(x)

    def blas() -> None:
        nonlocal sums
        for _ in range(chunks):
            sums += ready.T @ ready

    def general() -> None:  # a general product: both triangles
        for _ in range(chunks):
            torch.from_numpy(ready).T @ torch.from_numpy(ready)

    work = {"sketch": ours, "syrk": blas, "gemm": general}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for r in range(repeats + 1):
        for name in list(work) if r % 2 else list(reversed(work)):
            start = time.process_time()
            work[name]()
            if r:  # the first round warms up
                seconds[name].append((time.process_time() - start) / (chunks * CHUNK))
    spread = {n: {"median": statistics.median(s), "min": min(s), "max": max(s)} for n, s in seconds.items()}
    out = {n: {key: round(1e6 * v, 3) for key, v in s.items()} for n, s in spread.items()}
    shares = [b / s for s, b in zip(seconds["sketch"], seconds["syrk"], strict=True)]
    out["share_of_syrk"] = {"median": statistics.median(shares), "min": min(shares), "max": max(shares)}
    shares = [b / s for s, b in zip(seconds["sketch"], seconds["gemm"], strict=True)]
    out["share_of_gemm"] = {"median": statistics.median(shares), "min": min(shares), "max": max(shares)}
    return out


def peak(rows: int, k: int, source: str) -> dict:
    """Peak resident MiB of this process after sketching, and before."""
    before = peak_resident()
    rng = np.random.default_rng(0)
    chunk = rng.standard_normal((65_536, k)).astype(np.float32)

    def chunks():
        for start in range(0, rows, len(chunk)):
            yield chunk[: min(len(chunk), rows - start)]

    start = time.process_time()
    if source == "iterator":
        sketch = dl.sketch(chunks(), "identity")
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.npy"
            with path.open("wb") as f:
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, k)}
                np.lib.format.write_array_header_1_0(f, header)
                for part in chunks():
                    f.write(part.tobytes())
            start = time.process_time()
            sketch = dl.sketch(path, "identity")
    after = peak_resident()
    return {
        "rows": sketch.n + sketch.features.fitted_on,
        "before_mib": round(before, 1),
        "peak_mib": round(after, 1),
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def memory(rows: list[int], k: int, source: str) -> list[dict]:
    out = []
    for n in rows:
        command = [
            sys.executable,
            "-m",
            "benchmarks.sketch",
            "--peak-of",
            str(n),
            "--columns",
            str(k),
            "--from",
            source,
        ]
        out.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return out


def size(k: int, blocks: int = 32) -> dict:
    """Bytes of the file at k features of k columns."""
    x = np.random.default_rng(0).standard_normal((4 * k, k))
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("identity", "pca", "random_fourier"):
            sketch = Sketch(SketchFeatures.fit(x, kind, dimension=k), blocks).add(x)
            sketch.save(Path(folder) / "s")
            out[kind] = {"features": sketch.features.dimension, "bytes": (Path(folder) / "s").stat().st_size}
    return out


def run(k: int = 256, rows: tuple[int, ...] = (100_000, 1_000_000), columns: int = 16, repeats: int = 7) -> dict:
    torch.set_num_threads(1)
    return {
        "machine": facts(),
        "setting": {"k": k, "columns": columns, "chunk": CHUNK, "repeats": repeats},
        "passes over rows": row_passes.SOURCE.describe(build=True),
        "cpu_microseconds_per_row": rate(k, 8 * CHUNK, repeats),
        "memory": {source: memory(list(rows), columns, source) for source in ("npy", "iterator")},
        "file": size(k),
    }


def table(result: dict) -> str:
    lines = [f"{name}: {value}" for name, value in result["cpu_microseconds_per_row"].items()]
    lines += [f"{source}: {row}" for source, found in result["memory"].items() for row in found]
    return "\n".join([*lines, f"file: {result['file']}"])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--rows", default="100000,1000000", help="numbers of rows whose peak memory is measured")
    parser.add_argument("--columns", type=int, default=16, help="of those rows")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="source", default="npy", choices=["npy", "iterator"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        print(json.dumps(peak(args.peak_of, args.columns, args.source)))
        return
    result = run(args.k, tuple(int(v) for v in args.rows.split(",")), args.columns, args.repeats)
    command.finish(result, table, args.json)


if __name__ == "__main__":
    main()
