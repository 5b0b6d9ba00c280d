"""Every Python snippet and every console block of the README and of docs/ runs, and prints what the page says.

The blocks of a page share names and a temporary folder, in order. A `text` block right after a Python
block, and the lines below a `$ command`, are its expected output: words and whole numbers must agree, other numbers to
5 %, and `...` stands for anything. `console exit=2` expects that exit code. A block marked `heavy` runs only with the
heavy tests.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    kind: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def heavy(self) -> bool:
        return "heavy" in self.words

    @property
    def exit_code(self) -> int:
        return next((int(w.removeprefix("exit=")) for w in self.words if w.startswith("exit=")), 0)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0, f"{page.name}: a fence is not closed"
    return [Block(m[1], tuple(m[2].split()), m[3], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def agree(expected: str, printed: str) -> bool:
    """Whether the output is the expected one: words and whole numbers as they are, other numbers to 5 %."""
    want, numbers = "", []
    for token in re.split(rf"(\.\.\.|{NUMBER}|\s+)", expected.strip()):
        if token == "...":
            want += r".*?"
        elif re.fullmatch(NUMBER, token) and not token.isdigit():
            want += f"({NUMBER})"
            numbers.append(float(token))
        else:
            want += r"\s+" if token.isspace() else re.escape(token)
    found = re.fullmatch(want, printed.strip(), re.DOTALL)
    return found is not None and all(
        abs(float(got) - number) <= 0.05 * abs(number) for got, number in zip(found.groups(), numbers, strict=True)
    )


def run_python(block: Block, name: str, namespace: dict) -> str:
    printed = io.StringIO()
    code = compile("\n" * block.line + block.text, name, "exec", dont_inherit=True)  # errors name the page's own line
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def run_command(command: str) -> tuple[int, str, str]:
    """A shell command; `driftlaw ...` runs in this process, which saves seconds of imports."""
    if not command.startswith("driftlaw ") or re.search(r"[|<>&;]", command):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
        return done.returncode, done.stdout, done.stderr
    from driftlaw.cli import app

    code, out, err = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", shlex.split(command))
        try:
            app.main()
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
    return code, out.getvalue(), err.getvalue()


def run_console(block: Block, name: str) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, expected = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL).groups()
        code, out, err = run_command(command.replace("\\\n", " "))
        where = f"{name}:{block.line}: $ {command}"
        assert code == block.exit_code, f"{where}: exit {code}\n{out}\n{err}"
        printed = out if code == 0 else err
        assert not expected.strip() or agree(expected, printed), f"{where} printed\n{printed}\nnot\n{expected}"


def run_page(page: Path, heavy: bool) -> None:
    name, namespace = str(page.relative_to(ROOT)), {"__name__": "__main__"}
    found = [b for b in blocks(page) if heavy or not b.heavy]
    for block, after in zip(found, [*found[1:], None], strict=False):
        if block.kind == "python":
            printed = run_python(block, name, namespace)
            if after is not None and after.kind == "text":
                assert agree(after.text, printed), f"{name}:{block.line} printed\n{printed}\nnot\n{after.text}"
        elif block.kind == "console":
            run_console(block, name)


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """An empty current folder, the command on the path, a normal terminal, and torch's threads as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_runs(page, sandbox):
    run_page(page, heavy=False)


@pytest.mark.heavy
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.heavy for b in blocks(p))], ids=lambda p: p.name)
def test_every_block_runs_with_the_long_ones(page, sandbox):
    run_page(page, heavy=True)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_make_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if not re.match(r"https?:|mailto:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)", text)) | set(re.findall(r"^make ([\w-]+)", text, re.MULTILINE)) <= targets


def test_languages_are_known():
    """A typing error in a fence would silently take a block out of the tests."""
    for page in PAGES:
        assert {b.kind for b in blocks(page)} <= {"python", "console", "text", "sh", "yaml", "bibtex", "mermaid"}, (
            page.name
        )


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a 1.00", "a 1.04\n", True),
        ("a 1.00", "a 1.06", False),
        ("a 1", "b 1", False),
        ("a ... c", "a 1 b\n2 c", True),
        ("[1., 2.]", "[1., 2.]", True),
        ("1e-3", "0.001", True),
        ("0", "0.1", False),
        ("rows 200 ...", "rows 201 x", False),
        ("-2", "2", False),
    ],
)
def test_outputs_are_compared(expected, printed, same):
    assert agree(expected, printed) is same


def test_a_wrong_page_fails(tmp_path, monkeypatch):
    page = ROOT / "docs" / "concepts.md"
    for text in (
        "```python\nprint(1)\n```\n```text\n2\n```\n",
        "```python\n1 / 0\n```\n",
        "```console\n$ false\n```\n",
    ):
        monkeypatch.setattr(Path, "read_text", lambda self, text=text, **_: text)
        with pytest.raises((AssertionError, ZeroDivisionError)):
            run_page(page, heavy=False)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(example, sandbox):
    """Each example names the arguments that make it small in its docstring, on the line that starts with `test:`."""
    arguments = re.search(r"^\s*test: ?(.*)$", example.read_text(encoding="utf-8"), re.MULTILINE)
    assert arguments, f"{example.name} has no line `test: ARGUMENTS`"
    done = subprocess.run(
        [sys.executable, str(example), *shlex.split(arguments[1])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
