"""The command line that all benchmarks share: the module's page as help, a table on stdout, JSON on request."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parser(page: str | None) -> argparse.ArgumentParser:
    """A parser with ``--json FILE``; `page` is the module's docstring."""
    made = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="also write the result here")
    return made


def finish(result: Any, table: Callable[[Any], str], path: Path | None) -> None:
    """Print the table of a result, and write the result where that was asked."""
    sys.stdout.write(table(result) + "\n")
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
