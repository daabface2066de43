"""The pages of the documentation site that are made of other files, without MkDocs."""

import json
import logging
import posixpath
import re

import pytest

from tools.site_pages import (
    FRONT,
    LINK,
    PAPERS,
    ROOT,
    filled,
    made_pages,
    page_of,
    published,
    recipes,
    site_text,
    source_of,
    weights,
)


def row(table: str, head: str) -> list[str]:
    """Return the cells of the only row that begins with ``head``."""
    (cells,) = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(f"| {head} |")]
    return cells


def test_published_figures_are_those_of_the_file() -> None:
    tables = published("KDSR")
    papers = [json.loads(path.read_text(encoding="utf-8")) for path in PAPERS.glob("*.json")]
    tables_of_all = [table for paper in papers for table in paper.get("tables", ())]
    mine = [table for table in tables_of_all if any("KDSR" in method for method in table["figures"])]
    assert [table["source"] in tables for table in mine] == [True] * len(mine)
    assert row(tables, "**KDSR_S-M**")[:3] == ["**KDSR_S-M**", "5.80 M", "32.02 / 0.8892"]
    assert "| **KDSR** | 5 | 27.56 | 27.55 | 26.67 | 26.49 | 26.44 | 26.35 | 26.19 | 25.78 | 25.25 |" in tables
    assert "| 0.3758" not in tables
    assert row(tables, "**KDSR_S-GAN**")[2] == "24.22 / 0.7038 / 0.3758"
    assert "The LR images of IKC, DANv2, DCLS may hold every scale-th pixel (s-fold)." in tables


def test_methods_of_which_a_table_only_states_ssim_are_left_out() -> None:
    setting1 = published("CdCL").partition("**CdCL, TIP 2025, table III**")[0]
    assert row(setting1, "DAN")[:3] == ["DAN", "4.33 M", "32.22 / 31.96 / 30.94"]
    assert "DASR" not in setting1
    assert "The LR images of DAN may hold every scale-th pixel (s-fold)." in setting1


def test_rows_have_as_many_cells_as_their_heads() -> None:
    for name in ("KDSR", "DASR", "CdCL", "MRDA", "MM-RealSR"):
        for table in re.findall(r"(?:^\|.*\n)+", published(name), re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"papers has no figures of KSDR"):
        published("KSDR")


def test_recipes_are_listed_with_their_first_sentence() -> None:
    table = recipes("cdcl_s.yml")
    assert row(table, "[`cdcl_s.yml`](../../options/cdcl_s.yml)")[1] == (
        "A small CdCL x4 on the demo photos, without a teacher."
    )
    assert "weights/kdsr_s_x4_iso_student.yml" in recipes("kdsr_*.yml")
    assert recipes("kdsr_*.yml").count("\n") == 1 + len([*(ROOT / "options").rglob("kdsr_*.yml")])
    assert recipes("none_*.yml") == "The package has no recipe of this system."


def test_weights_are_listed_with_their_cards() -> None:
    line = "- [`lightbsr_s_x4_iso`](../../lightbsr_arch/weights/lightbsr_s_x4_iso.md): A small LightBSR for x4"
    assert weights("lightbsr_*").startswith(line)
    assert weights("none_*") == "The package has no weights of this system."


def test_every_system_has_its_tables() -> None:
    for page in (ROOT / "docs/systems").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert len(re.findall("<!-- (?:recipes|weights): ", text)) == 2
        assert "<!--" not in re.sub("<!-- [a-z]+: (?:begin|end) -->", "", filled(text))


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
        for link in LINK.finditer(site_text(filled(page.read_text(encoding="utf-8")), page)):
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
