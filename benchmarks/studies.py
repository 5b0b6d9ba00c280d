"""Whole studies as people run them: wall-clock seconds, processor seconds and peak memory of each command.

    python -m benchmarks.studies [--only digits] [--json FILE]

Each study is a fresh process, so start-up, measures and the report count. The goals are for two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import facts

STUDIES = {
    "digits": (["run", "digits"], 180),
    "gmm-paper": (["run", "gmm", "--preset", "paper"], 300),
    "fashion-mnist-laptop": (["run", "fashion-mnist", "--preset", "laptop"], 900),
}


def study(args: list[str], goal: int) -> dict:
    """Run one command in a temporary folder and account for it."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        command = [sys.executable, "-m", "driftlaw", *args, "--out", str(Path(folder) / "run"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"driftlaw {' '.join(args)} failed:\n{done.stderr}")
        document = json.loads(done.stdout)
        report = (Path(folder) / "run/report.html").stat().st_size
        stages: dict[str, float] = {}
        for timing in sorted(Path(folder).glob("run/generations/*/timing.json")):
            for name, value in json.loads(timing.read_text()).items():
                if name != "peak_memory_mib":
                    stages[name] = round(stages.get(name, 0.0) + value, 1)
    return {
        "command": "driftlaw " + " ".join(args),
        "seconds": round(seconds, 1),
        "goal_seconds": goal,
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_mib": document["peak_memory_mib"],
        "report_bytes": report,
        "stages_seconds": stages,
    }


def run(only: str | None = None) -> dict:
    """All studies, or the one named `only`."""
    chosen = {only: STUDIES[only]} if only else STUDIES
    return {"machine": facts(), "studies": {name: study(*what) for name, what in chosen.items()}}


def table(result: dict) -> str:
    return "\n".join(
        f"{s['command']}: {s['seconds']} s (goal {s['goal_seconds']}), {s['processor_seconds']} processor seconds, "
        f"peak {s['peak_memory_mib']} MiB, {s['stages_seconds']}"
        for s in result["studies"].values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(STUDIES))
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    result = run(options.only)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
