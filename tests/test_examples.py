"""What an example checks by itself can fail (tests/test_docs.py runs them all)."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_what_the_example_checks_can_fail(monkeypatch):
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import recursion_from_scratch as example
    finally:
        sys.path.remove(str(ROOT / "examples"))
    exact = example.on_paper()
    monkeypatch.setattr(example, "SEEDS", 2)
    monkeypatch.setattr(example, "from_scratch", lambda seed: [m + 0.8 for m in exact])
    monkeypatch.setattr(example, "by_driftlaw", lambda seed, folder: exact)
    with pytest.raises(AssertionError, match="from scratch, generation 1"):
        example.main()
