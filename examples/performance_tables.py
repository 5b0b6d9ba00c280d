"""Write the results of `make bench` into docs/performance.md: numbers in the docs come from a file, never from a hand.

python examples/performance_tables.py runs/benchmarks docs/performance.md

What stands between `<!-- benchmark:NAME -->` and `<!-- end -->` is replaced by the table of NAME.json and the machine
that it was measured on; a benchmark without a file keeps what is there.
test: --check
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SLOT = re.compile(r"(<!-- benchmark:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str, results: Path) -> str:
    """The page with the table of every benchmark that has a file in `results`."""

    def table(slot: re.Match[str]) -> str:
        file = results / f"{slot[2]}.json"
        if not file.is_file():
            return slot[0]
        result = json.loads(file.read_text())
        text = importlib.import_module(f"benchmarks.{slot[2]}").table(result)
        machine = ", ".join(f"{k} {v}" for k, v in result["machine"].items())
        return f"{slot[1]}\n```text\n{text}\n```\n\nMeasured on: {machine}.\n\n{slot[3]}"

    return SLOT.sub(table, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--check", action="store_true", help="only check that every slot has a benchmark")
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8")
    if options.check:
        for name in [slot[2] for slot in SLOT.finditer(page)]:
            assert callable(importlib.import_module(f"benchmarks.{name}").table), name
        return
    options.page.write_text(fill(page, options.results), encoding="utf-8")


if __name__ == "__main__":
    main()
