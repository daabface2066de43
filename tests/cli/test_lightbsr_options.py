"""``lightbsr options``, which checks without a run and prints the reference."""

from pathlib import Path

import pytest

from lightbsr.commands import main
from lightbsr_arch.config.reference import json_schema, options_page

ROOT = Path(__file__).parents[2]


def test_the_reference_and_the_schema_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "--reference"]) == 0
    assert capsys.readouterr().out == options_page()  # equal to the files: tests/config/test_reference.py
    assert main(["options", "--schema"]) == 0
    assert capsys.readouterr().out == json_schema()


def test_an_unknown_key_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "teacher.yml"
    file.write_text((ROOT / "options/teacher.yml").read_text(encoding="utf-8") + "\nmodle_type: X\n", encoding="utf-8")
    assert main(["options", str(file)]) == 1
    assert "modle_type" in capsys.readouterr().out


def test_a_task_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options"]) == 2
    assert capsys.readouterr().err == "lightbsr options: give options files to check, or --schema, or --reference\n"
