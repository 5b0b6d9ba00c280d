"""``make bench``: every benchmark, one JSON file each under --out, and a table on stdout."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

#: Modules with run() -> JSON-ready mapping and table(mapping) -> text, quick ones first.
NAMES = (
    *("cuda", "kernel_sum", "protocol", "sketch", "training", "classifier", "diffusers_loop", "flow"),
    *("audit", "coverage", "adaptive", "annealing", "studies"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--only", choices=NAMES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        result = module.run()
        (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        sys.stdout.write(f"{name}\n{module.table(result)}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
