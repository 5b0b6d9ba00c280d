"""``python -m benchmarks.faults``: a kill and a full disk at every storage call of seven commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.faults import control
from benchmarks.faults.cases import CASES

OUTCOMES = ("stopped, same", "carried on, same", "never came", "stuck", "different", "traceback", "hang", "litter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="fail only each so-many-th call")
    parser.add_argument("--out", type=Path, help="JSON file of all outcomes")
    options = parser.parse_args()
    if "DRIFTLAW_FAULTS" not in os.environ:
        _start_again()
    from benchmarks.faults.trials import all_trials

    folder = Path(os.environ["DRIFTLAW_FAULTS"]).parent
    chosen = [CASES[name] for name in options.only.split(",")]
    found = []
    for result in all_trials(chosen, folder, control.Control(folder / "control"), options.every):
        found.append(result)
        print(table([result], heading=len(found) == 1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(any(result["faults"] for result in found))


def table(results: list[dict], heading: bool = True) -> str:
    """Rows of a Markdown table: one for each case and kind of fault."""
    lines = []
    if heading:
        lines += [f"| command | fault | trials | {' | '.join(OUTCOMES)} |", "|---" * (len(OUTCOMES) + 3) + "|"]
    for result in results:
        for mode, count in result["outcomes"].items():
            cells = [str(count.get(o, 0)) for o in OUTCOMES]
            lines.append(f"| {result['case']} | {mode} | {sum(count.values())} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _start_again() -> None:
    """The same command under the interposed library, one thread, in a folder that goes afterwards."""
    import subprocess

    with tempfile.TemporaryDirectory(prefix="driftlaw-faults-") as name:
        folder = Path(name).resolve()
        library = control.build(folder)
        control.Control(folder / "control")
        environment = os.environ | {
            "DRIFTLAW_FAULTS": str(folder / "control"),
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "400",
        }
        sys.exit(subprocess.run([sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]], env=environment).returncode)


if __name__ == "__main__":
    main()
