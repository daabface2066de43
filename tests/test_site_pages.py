"""The pages of the documentation site that are made of other files, without MkDocs."""

import logging
import posixpath
import re

import pytest

from tools.site_pages import FRONT, LINK, ROOT, made_pages, page_of, site_text, source_of


def test_links_become_links_of_the_site() -> None:
    page = ROOT / "docs/systems/kdsr.md"
    text = (
        "[a](../idr.md#setting-2), [b](../../README.md), [c](../../lightbsr_arch/archs/part.py), [d](https://e.org/x)"
    )
    assert site_text(text, page) == (
        "[a](../idr.md#setting-2), [b](../index.md), [c](../source/lightbsr_arch/archs/part.py.md), [d](https://e.org/x)"
    )
    assert site_text("![p](docs/images/p.svg) [c](docs/bench.md)", ROOT / "README.md") == (
        "![p](docs/images/p.svg) [c](bench.md)"
    )
    assert site_text("| `a\\|b` |\na\\|b", page) == "| `a|b` |\na\\|b"


def test_a_broken_link_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        assert site_text("[a](gone.md)", ROOT / "docs/idr.md") == "[a](gone.md)"
    assert caplog.messages == ["docs/idr.md links to gone.md, which does not exist"]


def test_every_link_leads_to_a_page_or_a_picture() -> None:
    pages = dict(made_pages())
    assert {"index.md", "contributing.md", "changes.md", "source/lightbsr_arch/archs/index.md"} <= pages.keys()
    for page in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in FRONT)]:
        for link in LINK.finditer(site_text(page.read_text(encoding="utf-8"), page)):
            address = posixpath.normpath(posixpath.join(posixpath.dirname(page_of(page)), link["path"]))
            assert (ROOT / "docs" / address).is_file() or address in pages, (page.name, link["path"])


def test_pages_know_their_files() -> None:
    assert source_of("index.md") == ROOT / "README.md"
    assert source_of("systems/kdsr.md") == ROOT / "docs/systems/kdsr.md"
    card = ROOT / "lightbsr_arch/weights/kdsr_s_x4_iso.md"
    assert source_of(page_of(card)) == card
    assert source_of(page_of(ROOT / "lightbsr_arch/archs/part.py")) is None


def test_each_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {*listed} == set()
    assert len(listed) == len({*listed})
