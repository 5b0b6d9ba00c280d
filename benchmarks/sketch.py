"""What a sketch costs: rows per second against BLAS, peak memory against rows, bytes on disk.

Rate: the sums of outer products are the least that any pass over [n, k] features must do. BLAS does them with dsyrk
(``x.T @ x`` in numpy, half the multiplications of a general product) on float64 rows that lie ready; the sketch starts
from float32 rows and also converts, checks, standardises, assigns blocks and counts histograms. Both use one thread and
run in turn within one process; the ratio is of CPU seconds, so other load on the machine matters little.

Readers: ``dl.open_rows`` over a table of 200,000 rows and 10 columns (7 numbers, whole numbers, booleans, text) against
pyarrow alone on one thread (read_table or read_csv, then columns as NumPy arrays), and over a folder of PNG files
against Pillow alone (open, decode, array). Both sides run in turn; the ratio is of CPU seconds.

Memory: the peak resident set of a fresh process that sketches a .npy file or an iterator of n rows.

    python -m benchmarks.sketch
    python -m benchmarks.sketch --only readers
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
from collections.abc import Callable
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


def readers(repeats: int, rows: int = 200_000, images: int = 1500) -> dict:
    """CPU microseconds per row of open_rows and of the library that it reads with, and their ratio."""
    import pandas as pd
    import pyarrow as pa
    from PIL import Image
    from pyarrow import csv, parquet

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    rng = np.random.default_rng(0)
    table = {f"x{i}": rng.normal(size=rows) for i in range(7)} | {
        "n": rng.integers(0, 1000, rows), "b": rng.random(rows) < 0.5, "c": rng.choice(["red", "green", "blue"], rows),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pd.DataFrame(table).to_parquet(root / "t.parquet")
        pd.DataFrame(table).to_csv(root / "t.csv", index=False)
        (root / "png").mkdir()
        pattern = np.kron(rng.integers(0, 256, (images, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
        for i, image in enumerate(pattern):
            Image.fromarray(image).save(root / "png" / f"{i:05d}.png")
        files = sorted((root / "png").iterdir())

        def alone(path: Path) -> None:
            with Image.open(path) as image:
                np.asarray(image)

        def arrays(found: pa.Table) -> list:
            return [column.to_numpy() for column in found.columns]

        one = csv.ReadOptions(use_threads=False)
        work = {
            "parquet": (
                rows,
                lambda: arrays(parquet.read_table(root / "t.parquet", use_threads=False)),
                root / "t.parquet",
            ),
            "csv": (rows, lambda: arrays(csv.read_csv(root / "t.csv", read_options=one)), root / "t.csv"),
            "png": (images, lambda: [alone(p) for p in files], root / "png"),
        }
        return {name: _against(n, library, path, repeats) for name, (n, library, path) in work.items()}


def _against(n: int, library: Callable[[], object], path: Path, repeats: int) -> dict:
    seconds: dict[str, list[float]] = {"open_rows": [], "alone": []}
    for r in range(repeats + 1):
        for name in list(seconds) if r % 2 else list(reversed(seconds)):
            start = time.process_time()
            if name == "alone":
                library()
            else:
                for _ in dl.open_rows(path):
                    pass
            if r:  # the first round warms up
                seconds[name].append(1e6 * (time.process_time() - start) / n)
    ratios = [a / b for a, b in zip(seconds["open_rows"], seconds["alone"], strict=True)]
    out = {name: round(statistics.median(s), 2) for name, s in seconds.items()}
    return out | {"ratio": [round(f(ratios), 2) for f in (statistics.median, min, max)]}


def run(k: int = 256, rows: tuple[int, ...] = (100_000, 1_000_000), columns: int = 16, repeats: int = 7) -> dict:
    torch.set_num_threads(1)
    return {
        "machine": facts(),
        "setting": {"k": k, "columns": columns, "chunk": CHUNK, "repeats": repeats},
        "passes over rows": row_passes.SOURCE.describe(build=True),
        "cpu_microseconds_per_row": rate(k, 8 * CHUNK, repeats),
        "readers": readers(repeats),
        "memory": {source: memory(list(rows), columns, source) for source in ("npy", "iterator")},
        "file": size(k),
    }


def table(result: dict) -> str:
    lines = [f"{name}: {value}" for name, value in result["cpu_microseconds_per_row"].items()]
    lines += [f"reading {name}: {value}" for name, value in result["readers"].items()]
    lines += [f"{source}: {row}" for source, found in result["memory"].items() for row in found]
    return "\n".join([*lines, f"file: {result['file']}"])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--rows", default="100000,1000000", help="numbers of rows whose peak memory is measured")
    parser.add_argument("--columns", type=int, default=16, help="of those rows")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=["readers"], help="one part")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="source", default="npy", choices=["npy", "iterator"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only == "readers":
        result = {"machine": facts(), "setting": {"repeats": args.repeats}, "readers": readers(args.repeats)}
        command.finish(result, lambda r: "\n".join(f"{n}: {v}" for n, v in r["readers"].items()), args.json)
        return
    if args.peak_of:
        print(json.dumps(peak(args.peak_of, args.columns, args.source)))
        return
    result = run(args.k, tuple(int(v) for v in args.rows.split(",")), args.columns, args.repeats)
    command.finish(result, table, args.json)


if __name__ == "__main__":
    main()
