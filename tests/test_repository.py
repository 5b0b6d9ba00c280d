"""The repository as a whole: what must be there, what must agree, and what may not be committed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import driftlaw

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
# Written in pieces so that this file does not contain what it forbids.
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/(?:wor" + r"k|hom" + r"e|roo" + r"t|User" + r"s|mn" + r"t)/[\w.]")
REGISTRIES = re.compile("py" + r"pi\.org|python" + r"hosted|(?:extra-)?index" + r"-url|artifac" + r"tory|dev" + r"pi\b")


def committed() -> list[Path]:
    """Files under version control; without git (an unpacked archive), all but what the tools make."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    made = {".git", ".venv", "__pycache__", "runs", "dist", "build"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not made & set(p.relative_to(ROOT).parts)]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data[:4096] else data.decode("utf-8", errors="replace")


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRIES], ids=["machine paths", "registry hosts"])
def test_nothing_of_one_machine_is_committed(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in committed()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_patterns_find_what_they_forbid():
    for text in ("/wor" + "k/main/x", 'open("/hom' + 'e/me")', "/roo" + "t/.cache"):
        assert MACHINE_PATHS.search(text), text
    assert not MACHINE_PATHS.search("docs/work/x and ~/home/x")
    assert REGISTRIES.search("https://py" + "pi.org/simple")


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "Makefile"),
        *("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"),
    ],
)
def test_what_a_project_must_have(name):
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_licence_is_apache_everywhere():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"


def test_one_version_everywhere():
    assert PROJECT["dynamic"] == ["version"]
    assert driftlaw.__version__ == CITATION["version"]
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changes or f"## [{driftlaw.__version__}]" in changes


def test_requirements_and_their_pins():
    assert "torch>=2.6" in PROJECT["dependencies"]
    tested = pins("constraints.txt")
    assert tested["torch"] == "2.13.0"
    names = {normal(re.split(r"[<>=\[ ]", d)[0]) for d in PROJECT["dependencies"]}
    assert names <= set(tested), "a dependency without a pin"


def test_the_lowest_versions_are_the_lower_bounds():
    """`make test-lowest` tests what pyproject.toml admits; ray takes gigabytes and is not tested there."""
    extras, bounds = PROJECT["optional-dependencies"], {}
    for requirement in [*PROJECT["dependencies"], *extras["diffusers"], *extras["features"], *extras["dev"]]:
        package, _, bound = requirement.partition(">=")
        assert not re.search("[<=!~,]", package + bound), f"{requirement}: only lower bounds"
        if bound:
            assert bounds.setdefault(normal(package), version(bound)) == version(bound), f"two bounds of {package}"
    lowest, tested = (
        {p: version(v) for p, v in pins(f).items()} for f in ("constraints-lowest.txt", "constraints.txt")
    )
    assert lowest == bounds
    assert [p for p, v in lowest.items() if v > tested[p]] == []


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return {normal(p): v for p, _, v in (line.partition("==") for line in lines if line and line[0] != "#")}


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def version(text: str) -> tuple[int, ...]:
    """Numbers of a version without zeros at its end: 6.0 is 6."""
    return tuple(map(int, re.findall(r"\d+", re.sub(r"(\.0)+$", "", text))))


def test_public_names_exist_and_are_documented():
    for name in driftlaw.__all__:
        value = getattr(driftlaw, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


def test_the_readme_is_short_and_its_picture_small():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    for figure in (ROOT / "docs" / "figures").glob("*"):
        assert figure.stat().st_size <= 300_000, figure.name


def test_forms_and_workflows_are_yaml():
    found = sorted((ROOT / ".github").rglob("*.yml"))
    assert {p.name for p in found} >= {"bug.yml", "feature.yml", "config.yml", "ci.yml"}
    for path in found:
        assert yaml.safe_load(path.read_text()), path
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]["steps"]
    targets = {word for step in steps for word in step.get("run", "").split() if word != "make"}
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)


def test_every_path_of_the_architecture_exists():
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:src|docs|tests)/[\w./]+)`", page)
    assert len(paths) > 25
    assert [p for p in paths if not (ROOT / p).exists()] == []
    floors = {p.name for p in (ROOT / "src" / "driftlaw").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert floors == set(re.findall(r"`src/driftlaw/(\w+)/` \|", page))
