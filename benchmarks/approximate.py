"""Approximate kernel mixtures: what a call gains over the exact sum, its true errors, and how often its limits hold.

    python -m benchmarks.approximate --json approximate.json

KDEs of the five clusters of arXiv 2602.16601 (bandwidth 0.6), float32 points of the law at one time. Exact sum and call
take turns within one process; the ratio is the exact sum's processor time over that of the call: median and range over
repetitions with other points each. The true errors are those of the last call, over all of its points. Coverage is
that of the tau which the last call chose or turned down, in 1000 checks each of which draws other points: of the
clipped error, that the limit promises to cover in 1 - 0.01/3 of them, and of the plain root mean square error, that it
covers where no error exceeds 5 tolerances. The worst of score, log density and divergence is shown.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.kernel_sum import paper, points, seconds
from benchmarks.machine import facts
from driftlaw.process.approximate import CLIP, ApproximateKernelMixture, checked
from driftlaw.process.draws import LawValues
from driftlaw.process.matched_blocks import Query
from driftlaw.process.schedule import alpha, variance
from driftlaw.seeding import generator

TIMES = (0.02, 0.1, 0.5, 1.0, 1.5, 2.0, 4.0)
#: N, d, tolerance, times.
CASES = (
    (100_000, 10, 1e-3, TIMES),
    (100_000, 10, 1e-2, TIMES[1:5]),
    (100_000, 2, 1e-3, (0.1, 1.0, 2.0)),
    (100_000, 16, 1e-3, (1.0, 2.0, 4.0)),
    (10_000, 10, 1e-3, (1.0, 2.0, 4.0)),
)


def relative_errors(values: LawValues, exact: LawValues) -> dict[str, Tensor]:
    """Errors of every point: nats for the log density, else relative to the root mean square."""
    score = (values.score - exact.score).double().norm(dim=1) / exact.score.double().square().sum(1).mean().sqrt()
    divergence = (values.divergence - exact.divergence).double().abs()
    return {
        "score": score,
        "log_density": (values.log_density - exact.log_density).double().abs(),
        "divergence": divergence / exact.divergence.double().square().mean().sqrt(),
    }


def rms(e: Tensor) -> float:
    return float(e.square().mean().sqrt())


def coverage(errors: Tensor, tolerance: float, check: int, draws: int = 1000) -> tuple[float, float]:
    """Shares of the checks whose limit covers the clipped and the plain root mean square error."""
    clipped, plain = rms(errors.clamp(max=CLIP * tolerance)), rms(errors)
    limits = []
    for k in range(draws):
        rows = torch.randint(len(errors), (check,), generator=generator(k, "coverage"))
        limits.append(checked(errors[rows], tolerance, check).limit)
    return tuple(sum(limit >= true for limit in limits) / draws for true in (clipped, plain))


def cell(view: ApproximateKernelMixture, t: float, m: int, repetitions: int) -> dict[str, object]:
    ratios, answers = [], {}
    before = view.fallbacks
    for r in range(repetitions):
        x = view.law.diffuse(t).sample(m, generator(r, "points"))
        names = ("exact", "call") if r % 2 else ("call", "exact")
        took = {}
        for name in names:
            law = view.law if name == "exact" else view
            took[name], _ = seconds(lambda x, law=law, name=name: answers.update({name: law.evaluate(x, t)}), x)
        ratios.append(took["exact"] / took["call"])
    report = view.last_error
    row = {"N": len(view), "d": view.dim, "t": t, "tolerance": view.tolerance, "points": m}
    row |= {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    row |= {"decision": report.decision, "cut": f"{report.cut:g}", "fallbacks": view.fallbacks - before}
    errors = relative_errors(answers["call"], answers["exact"])
    row["error"] = {name: {"rms": rms(e), "max": float(e.max())} for name, e in errors.items()}
    row["limit"] = {name: getattr(report, name).limit for name in errors}
    if not math.isnan(report.cut):
        time = torch.tensor(t, dtype=torch.float64)
        query = Query(x, time, alpha(time), alpha(time).square() * view.law.bandwidth**2 + variance(time))
        errors = relative_errors(view._parts.evaluate(query, report.cut)[0], answers["exact"])
        covered = [coverage(e, view.tolerance, view.check) for e in errors.values()]
        row["coverage_clipped"], row["coverage_plain"] = (min(c) for c in zip(*covered, strict=True))
        row["largest_error_in_tolerances"] = max(float(e.max()) for e in errors.values()) / view.tolerance
    return row


def run(
    m: int = 20_000, repetitions: int = 3, centres: int | None = None, time: float | None = None
) -> dict[str, object]:
    """All cells, or those of so many centres or one time, as one JSON-ready mapping, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for n, d, tolerance, times in CASES:
            if centres not in {None, n}:
                continue
            view = ApproximateKernelMixture(paper(n, d, 0.6), tolerance=tolerance)
            for t in times:
                if time not in {None, t}:
                    continue
                view.evaluate(points(view.law, t, 2000), t)  # blocks and packed centres are built once
                rows.append(cell(view, t, m, repetitions))
        return {"machine": facts(), "check": view.check, "clip": CLIP, "cells": rows}
    finally:
        torch.set_num_threads(threads)


def table(result: dict) -> str:
    lines = [
        f"{'N':>7} {'d':>2} {'tol.':>5} {'t':>4} {'CPU ratio':>16} {'rms error':>9} {'max':>7} {'limit':>7}"
        f" {'coverage':>8} {'plain':>5}  decision"
    ]
    for row in result["cells"]:
        spread = f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]"
        worst, largest = (max(e[k] for e in row["error"].values()) for k in ("rms", "max"))
        covered = "".join(
            f" {row[k]:>{width}.3f}" if k in row else f" {'-':>{width}}"
            for k, width in (("coverage_clipped", 8), ("coverage_plain", 5))
        )
        decision = row["decision"].replace("the approximation would not be cheaper", "not cheaper")
        lines.append(
            f"{row['N']:>7} {row['d']:>2} {row['tolerance']:>5.0e} {row['t']:>4} {spread:>16} {worst:>9.1e}"
            f" {largest:>7.0e} {max(row['limit'].values()):>7.1e}{covered}  {decision}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--centres", type=int, choices=sorted({case[0] for case in CASES}))
    parser.add_argument("--time", type=float, choices=TIMES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = run(options.points, options.repetitions, options.centres, options.time)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
