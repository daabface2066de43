"""The editors' schema and the options page say what the types say, and stand in the repository as they are now."""

import json
from pathlib import Path

import pytest

from lightbsr_arch.config.reference import json_schema, options_page
from tests import option_files
from tests.config.conftest import OPTIONS

AGAIN = "made anew by: make reference"


def test_schema_is_up_to_date() -> None:
    assert (OPTIONS / "schema.json").read_text(encoding="utf-8") == json_schema(), AGAIN


def test_page_is_up_to_date() -> None:
    assert (OPTIONS.parent / "docs/options.md").read_text(encoding="utf-8") == options_page(), AGAIN


def test_every_reference_of_the_schema_is_defined() -> None:
    text = json_schema()
    used = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used <= json.loads(text)["$defs"].keys()
    assert {"network KDIDEStudent", "loss L1Loss", "dataset GTDataset", "metric calculate_psnr"} <= used


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.stem)
def test_every_options_file_points_editors_to_the_schema(path: Path) -> None:
    schema = Path(*[".."] * len(path.relative_to(OPTIONS).parent.parts), "schema.json").as_posix()
    assert path.read_text(encoding="utf-8").startswith(f"# yaml-language-server: $schema={schema}\n")
