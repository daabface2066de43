"""The editors' schema and the options page say what the types say, and stand in the repository as they are now."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from lightbsr_arch.basicsr_patches.distribution import basicsr_distribution
from lightbsr_arch.config.reference import json_schema, options_page
from lightbsr_arch.config.yaml_file import load_file
from tests import option_files
from tests.option_files import OPTIONS

AGAIN = "made anew by: make reference"
made_with_1_4_2 = pytest.mark.skipif(
    basicsr_distribution() != "basicsr", reason="the files in the repository have the docstrings of BasicSR 1.4.2"
)


@made_with_1_4_2
def test_schema_is_up_to_date() -> None:
    assert (OPTIONS / "schema.json").read_text(encoding="utf-8") == json_schema(), AGAIN


@made_with_1_4_2
def test_page_is_up_to_date() -> None:
    assert (OPTIONS.parent / "docs/options.md").read_text(encoding="utf-8") == options_page(), AGAIN


def test_every_reference_of_the_schema_is_defined() -> None:
    text = json_schema()
    used = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used <= json.loads(text)["$defs"].keys()
    assert {"network KDIDEStudent", "loss L1Loss", "dataset GTDataset", "metric calculate_psnr"} <= used


@pytest.fixture(scope="module")
def editor() -> Draft7Validator:
    return Draft7Validator(json.loads(json_schema()))


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.stem)
def test_editors_accept_every_options_file(editor: Draft7Validator, path: Path) -> None:
    assert [*editor.iter_errors(load_file(path).data)] == []


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"base": "a.yml", "train": {"total_itre": 5}}, ["train"]),
        ({"base": "a.yml", "network_g": {"type": "EDSR", "num_fet": 3}}, ["network_g"]),
        ({"base": "a.yml", "train": {"optim_g": {"lr": -1}}}, ["train", "optim_g", "lr"]),
    ],
)  # fmt: skip
def test_editors_find_a_mistake_in_a_file_with_a_base(
    editor: Draft7Validator, options: dict[str, Any], wrong: list[str]
) -> None:
    (error,) = editor.iter_errors(options)
    assert list(error.absolute_path) == wrong


def test_editors_find_a_missing_key_only_without_a_base(editor: Draft7Validator) -> None:
    options = load_file(OPTIONS / "student.yml").data
    del options["train"]["optim_g"]["lr"], options["network_g"]["restorer"]["type"], options["scale"]
    missing = {(*error.absolute_path, error.message) for error in editor.iter_errors(options)}
    assert missing == {
        ("'scale' is a required property",),
        ("train", "optim_g", "'lr' is a required property"),
        ("network_g", "restorer", "'type' is a required property"),
    }
    assert [*editor.iter_errors({**options, "base": "a.yml"})] == []


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.stem)
def test_every_options_file_points_editors_to_the_schema(path: Path) -> None:
    schema = Path(*[".."] * len(path.relative_to(OPTIONS).parent.parts), "schema.json").as_posix()
    assert path.read_text(encoding="utf-8").startswith(f"# yaml-language-server: $schema={schema}\n")
