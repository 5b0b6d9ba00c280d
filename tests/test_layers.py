"""Imports point one way: between the floors, and inside every folder (no circle anywhere)."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "driftlaw"
#: Floors from the ground up; what stands on one floor may import only from floors below it.
FLOORS = (
    ("_version", "errors"),
    ("numerics", "records"),
    ("estimate",),
    ("progress", "seeding", "files", "config"),
    ("system",),
    ("kinds",),
    ("native",),
    ("process",),
    ("data", "learn", "measure", "theory"),
    ("loop",),
    ("testing",),
    ("analysis",),
    ("auditing",),
    ("planning", "metrics"),
    ("report",),
    ("reproduce",),
    ("cli",),
)
RANK = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}
#: The root holds names that load on first use, and starts the command line.
ROOT = {"__init__", "__main__"}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name below the package to file; a package goes by its folder's name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] not in ROOT:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import; write the full name so that the floor is visible"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = node.module == "driftlaw" or inner.removeprefix("driftlaw.") in known
                found.add(inner if is_module else str(node.module))
    return {name.removeprefix("driftlaw.") for name in found if name.startswith("driftlaw.")}


def violations(root: Path) -> list[str]:
    known, found = modules(root), []
    for name, path in known.items():
        here = name.split(".")[0]
        for module in imports(path, known):
            there = module.split(".")[0]
            if there == here or module == "__version__":
                continue
            if there not in RANK or here not in RANK:
                found.append(f"{name} imports {module}: no floor is known for it")
            elif RANK[there] >= RANK[here]:
                found.append(f"{name} imports {module}: {there} is not below {here}")
    return found


def circles(root: Path) -> list[list[str]]:
    """Sets of two or more modules that import each other, directly or not (Tarjan's algorithm)."""
    known = modules(root)
    edges = {name: sorted(imports(path, known) & known.keys() - {name}) for name, path in known.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for there in edges[node]:
            if there not in index:
                visit(there)
                low[node] = min(low[node], low[there])
            elif there in stack:
                low[node] = min(low[node], index[there])
        if low[node] == index[node]:
            start = stack.index(node)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for name in known:
        if name not in index:
            visit(name)
    return found


def test_imports_point_one_way():
    assert violations(SRC) == []


def test_no_module_imports_itself_through_others():
    assert circles(SRC) == []


@pytest.mark.parametrize(
    "line", ["from driftlaw.loop import run", "import driftlaw.measure.paths.path", "from driftlaw import cli"]
)
def test_a_wrong_import_is_caught(tmp_path, line):
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "bad.py").write_text(f"def f():\n    {line}\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize("line", ["from driftlaw.learn.b import x", "def f():\n    from driftlaw.learn import b"])
def test_a_circle_inside_a_folder_is_caught(tmp_path, line):
    (tmp_path / "learn").mkdir()
    (tmp_path / "learn" / "a.py").write_text(line)
    (tmp_path / "learn" / "b.py").write_text("from driftlaw.learn import c\n")
    (tmp_path / "learn" / "c.py").write_text("import driftlaw.learn.a\n")
    assert circles(tmp_path) == [["learn.a", "learn.b", "learn.c"]]


def test_files_stay_readable():
    long = {str(p.relative_to(SRC)): n for p in SRC.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}, "a file of more than 400 lines has more than one idea: split it"


def test_folders_stay_readable():
    folders = {p.parent for p in SRC.rglob("*.py")}
    full = {str(f.relative_to(SRC)): n for f in folders if (n := len(list(f.glob("*.py")))) > 12}
    assert full == {}, "a folder of more than 12 files has more than one room: split it"
