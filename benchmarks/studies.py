"""Whole studies as people run them: wall-clock seconds, processor seconds and peak memory of each command.

    python -m benchmarks.studies [--only digits] [--json FILE]

Each study is a fresh process, so start-up, measures and the report count. The goals are for two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command
from benchmarks.machine import facts

STUDIES = {
    "digits": (["run", "digits"], 180),
    "gmm-paper": (["run", "gmm", "--preset", "paper"], 300),
    "fashion-mnist-smoke": (["run", "fashion-mnist", "--preset", "smoke"], 60),
    "fashion-mnist-laptop": (["run", "fashion-mnist", "--preset", "laptop"], 900),
    "reproduce-population": (["reproduce", "table"], 60),
    "reproduce-paper": (["reproduce", "--paper"], 1800),
}


def study(args: list[str], goal: int) -> dict:
    """Run one command in a temporary folder and account for it and the processes that it starts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        start = time.perf_counter()
        command = [sys.executable, "-m", "driftlaw", *args, "--out", str(folder), "--json"]
        with (Path(name) / "stderr").open("w+") as log:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - start
            if process.returncode:
                log.seek(0)
                raise SystemExit(f"driftlaw {' '.join(args)} failed:\n{log.read()}")
        stages: dict[str, float] = {}
        for timing in sorted(folder.glob("**/generations/*/timing.json")):
            for stage, value in json.loads(timing.read_text()).items():
                if stage != "peak_memory_mib":
                    stages[stage] = stages.get(stage, 0.0) + value
        pages = sum(page.stat().st_size for page in folder.glob("*.html"))
    return {
        "command": "driftlaw " + " ".join(args),
        "seconds": round(seconds, 1),
        "goal_seconds": goal,
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "largest_process_mib": round(used.ru_maxrss / 1024),  # KiB on Linux
        "page_bytes": pages,
        "stages_seconds": {stage: round(value, 1) for stage, value in stages.items()},
    }


def run(only: str | None = None) -> dict:
    """All studies, or the one named `only`."""
    chosen = {only: STUDIES[only]} if only else STUDIES
    return {"machine": facts(), "studies": {name: study(*what) for name, what in chosen.items()}}


def table(result: dict) -> str:
    lines = [f"{'command':<42}{'seconds':>8}{'goal':>6}{'CPU s':>8}{'largest process':>17}"]
    for s in result["studies"].values():
        lines.append(
            f"{s['command']:<42}{s['seconds']:>8}{s['goal_seconds']:>6}{s['processor_seconds']:>8}"
            f"{s['largest_process_mib']:>13} MiB"
        )
    for s in result["studies"].values():
        spent = sorted(s["stages_seconds"].items(), key=lambda item: -item[1])
        if spent:
            lines.append(f"{s['command']}: " + ", ".join(f"{name} {value}" for name, value in spent[:5]))
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--only", choices=list(STUDIES))
    options = parser.parse_args()
    result = run(options.only)
    if options.only and options.json and options.json.is_file():
        before = json.loads(options.json.read_text())
        result["studies"] = {**before["studies"], **result["studies"]}
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
