"""Links between the Markdown files of the repository lead to files and headings that exist."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("lightbsr_arch/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<path>[^)\s#]*)(?:#(?P<anchor>[^)\s]*))?\)")


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.finditer(CODE.sub("", page.read_text(encoding="utf-8"))):
        if link["path"].startswith(("http://", "https://")):
            continue
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            broken.append(link[0])
    assert broken == []


def test_links_are_found() -> None:
    assert {"README.md", "docs/faq.md", "docs/systems/kdsr.md"} <= {page.relative_to(ROOT).as_posix() for page in PAGES}
    (link,) = LINK.finditer("see [a page](docs/options.md#a-file-with-a-base).")
    assert link.groupdict() == {"path": "docs/options.md", "anchor": "a-file-with-a-base"}
    assert "a-file-with-a-base" in anchors(ROOT / "docs/options.md")
