"""The tables in ``docs/systems`` are those of the papers' figures, the recipes and the cards."""

import json
import re

import pytest

from tools.system_tables import PAGES, PAPERS, PLACE, ROOT, filled, published, recipes, weights


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
    assert (
        "The LR images of IKC, DANv2, DCLS may have been downsampled by taking every scale-th pixel (s-fold)" in tables
    )


def test_methods_of_which_a_table_only_states_ssim_are_left_out() -> None:
    setting1 = published("CdCL").partition("**CdCL, TIP 2025, table III**")[0]
    assert row(setting1, "DAN")[:3] == ["DAN", "4.33 M", "32.22 / 31.96 / 30.94"]
    assert "DASR" not in setting1
    assert (
        "The LR images of DAN may have been downsampled by taking every scale-th pixel (s-fold), not bicubically."
        in setting1
    )


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


def test_tables_of_the_pages_are_up_to_date() -> None:
    for page in PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert {place["kind"] for place in PLACE.finditer(text)} >= {"recipes", "weights"}, page.name
        assert filled(text) == text, f"{page.name}: run make reference"


def test_only_text_between_markers_is_replaced() -> None:
    text = "a\n<!-- weights none_*: begin -->\nold\n<!-- weights none_*: end -->\nb"
    assert filled(text) == text.replace("\nold\n", "\n\nThe package has no weights of this system.\n\n")
