"""Imports point in one direction: errors, estimate, seeding < process < data, learn, measure, theory < loop < ..."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "driftlaw"
RANK = {"directions": 0, "errors": 0, "estimate": 1, "files": 1, "seeding": 1}
RANK |= {"process": 2, "data": 3, "learn": 3, "measure": 3, "theory": 3}
RANK |= {"loop": 4, "auditing": 5, "planning": 5, "report": 6, "cli": 7}
SAME_LAYER_ALLOWED = {("auditing", "planning"), ("planning", "auditing")}


def imports(path: Path):
    """Dotted driftlaw modules that a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "driftlaw")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import; write the full name so that the layer is visible")
            if node.module and node.module.split(".")[0] == "driftlaw":
                if node.module == "driftlaw":
                    yield from (f"driftlaw.{alias.name}" for alias in node.names)
                else:
                    yield node.module


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        here = parts[0]
        if here in {"__init__", "__main__"}:
            continue
        for module in imports(path):
            there = module.partition(".")[2].split(".")[0]
            if there in {here, "", "__version__"}:  # the package itself holds only names that load on use
                continue
            if there not in RANK or here not in RANK:
                found.append(f"{path.relative_to(root)} imports {module}: no layer is known for it")
            elif RANK[there] >= RANK[here] and (here, there) not in SAME_LAYER_ALLOWED:
                found.append(f"{path.relative_to(root)} ({here}) imports {module} ({there}): wrong direction")
    return found


def test_imports_point_one_way():
    assert violations(SRC) == []


@pytest.mark.parametrize(
    "line", ["from driftlaw.loop import run", "import driftlaw.measure.path", "from driftlaw import cli"]
)
def test_a_wrong_import_is_caught(tmp_path, line):
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "bad.py").write_text(f"def f():\n    {line}\n")
    assert len(violations(tmp_path)) == 1


def test_files_stay_readable():
    long = {str(p.relative_to(SRC)): n for p in SRC.rglob("*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert long == {}, "a file of more than 450 lines has more than one idea: split it"
