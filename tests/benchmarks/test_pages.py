"""Benchmarks write their tables between two lines of a page."""

import pytest

from lightbsr.errors import UserError


def test_only_the_text_between_the_lines_is_replaced(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter <!-- b: begin -->\n<!-- b: end -->\n")
    script("pages").write_between(page, "a", "new")
    assert page.read_text() == (
        "before\n<!-- a: begin -->\n\nnew\n\n<!-- a: end -->\nafter <!-- b: begin -->\n<!-- b: end -->\n"
    )


def test_a_page_without_the_lines_is_refused_and_unchanged(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- a: begin -->\n")
    with pytest.raises(UserError, match=r"page.md: needs the lines <!-- a: begin --> and <!-- a: end -->"):
        script("pages").write_between(page, "a", "new")
    assert page.read_text() == "<!-- a: begin -->\n"
    with pytest.raises(UserError, match=r"no.md: no such page"):
        script("pages").write_between(tmp_path / "no.md", "a", "new")


def test_numbers_are_aligned_to_the_right(script):
    assert script("pages").table(["name", "s"], [["a", "1"], ["b", "2"]]) == (
        "| name | s |\n|---|---:|\n| a | 1 |\n| b | 2 |"
    )
