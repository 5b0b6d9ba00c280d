"""``make bench``: every benchmark, one JSON file each under --out, and a table on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import kernel_sum, studies, training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--only", choices=["kernel_sum", "training", "studies"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, module in (("kernel_sum", kernel_sum), ("training", training), ("studies", studies)):
        if options.only in {None, name}:
            result = module.run()
            (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            sys.stdout.write(f"{name}\n{module.table(result)}\n\n")


if __name__ == "__main__":
    main()
