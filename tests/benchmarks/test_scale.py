"""The benchmark of several processes runs with two of them, and computes efficiencies."""

import json

import pytest

from lightbsr.errors import UserError


@pytest.mark.slow
def test_two_processes_train_together(script, tmp_path):
    file, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text("<!-- scale: begin -->\n<!-- scale: end -->\n")
    script("scale").main(["--tiny", "--processes", "2", "--output", str(file), "--page", str(page)])
    report = json.loads(file.read_text())
    assert [*report["images_per_second"]] == ["2"]
    rate = report["images_per_second"]["2"]
    assert rate > 0
    assert f"| 2 | {rate:.1f} | {rate / 2:.1f} |  |  |" in page.read_text()


def test_efficiency_is_relative_to_the_cores(script):
    report = {"recipe": "r", "machine": "m", "cores": 2, "images_per_second": {1: 10.0, 2: 18.0, 4: 16.0}}
    assert script("scale").shown(report).splitlines()[-3:] == [
        "| 1 | 10.0 | 10.0 | 1.00 | 100% |",
        "| 2 | 18.0 | 9.0 | 1.80 | 90% |",
        "| 4 | 16.0 | 4.0 | 1.60 | 80% |",
    ]


def test_numbers_of_processes_are_positive(script):
    with pytest.raises(UserError, match="--processes 0: expected positive numbers"):
        script("scale").main(["--processes", "0"])
