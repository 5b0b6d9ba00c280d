"""Every citation of the theory resolves: "theory section 4.1" is a numbered section of docs/derivations.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "derivations.md"
#: "theory section 5", "theory sections 3.1 and 3.3", "theory 4, 5, 8", "docs/derivations.md#section-4-1".
CITATION = re.compile(
    r"theory,?\s+(?:sections?\s+)?(\d+(?:\.\d+)?(?:(?:,\s*(?:and\s+)?|\s+and\s+|\s+to\s+)\d+(?:\.\d+)?)*)"
)
LINK = re.compile(r"derivations\.md#([\w-]+)")


def anchors(text: str) -> list[str]:
    return re.findall(r'<a id="([\w-]+)"></a>', text)


def citations(text: str) -> set[str]:
    """Anchors that a text cites."""
    text = re.sub(r"\s*\n\s*(?:#:?\s*)?", " ", text)
    sections = {n for found in CITATION.findall(text) for n in re.findall(r"\d+(?:\.\d+)?", found)}
    return {f"section-{n.replace('.', '-')}" for n in sections} | set(LINK.findall(text))


def files() -> list[Path]:
    roots = [ROOT / name for name in ("src", "docs", "tests", "benchmarks", "examples")]
    found = [p for root in roots for p in root.rglob("*") if p.suffix in {".py", ".md", ".cpp", ".hpp", ".j2"}]
    return [p for p in found if p not in (PAGE, Path(__file__))] + [ROOT / "README.md"]


def test_every_citation_resolves():
    known = set(anchors(PAGE.read_text(encoding="utf-8")))
    cited = {path: citations(path.read_text(encoding="utf-8")) for path in files()}
    assert sum(map(len, cited.values())) > 60, "the pattern finds what the code cites"
    unknown = {str(path.relative_to(ROOT)): sorted(bad) for path, found in cited.items() if (bad := found - known)}
    assert unknown == {}


def test_anchors_are_unique_and_sections_complete():
    found = anchors(PAGE.read_text(encoding="utf-8"))
    assert len(found) == len(set(found))
    headings = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {f"section-{n.replace('.', '-')}" for n in headings} <= set(found)
    assert {str(n) for n in range(1, 15)} <= set(headings)


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("(this project, theory section 99.9)", {"section-99-9"}),
        ("theory sections 3.1,\n    4 and 17", {"section-3-1", "section-4", "section-17"}),
        ("see docs/derivations.md#section-88", {"section-88"}),
        ("the theory of 1927 has no section", set()),
    ],
)
def test_an_unknown_citation_would_be_seen(text, cited):
    assert citations(text) == cited
