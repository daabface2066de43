"""The benchmark of int8 quantises a network, and measures PSNR-Y."""

import json
from pathlib import Path

import pytest

from lightbsr.errors import UserError
from tests.bench.toys import pictures


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return pictures(tmp_path / "images", 2, side=80)


@pytest.mark.slow
def test_the_change_of_psnr_is_that_of_the_quantised_network(script, images, tmp_path):
    file, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text("<!-- int8: begin -->\n<!-- int8: end -->\n")
    arguments = ["--tiny", "--images", str(images), "--rounds", "1", "--size", "16", "16", "--threads", "1"]
    script("int8").main([*arguments, "--output", str(file), "--page", str(page)])
    fp32, int8 = json.loads(file.read_text())["rows"]
    assert (fp32["form"], fp32["of_fp32"]) == ("fp32", 1)
    assert int8["form"] == "its 3x3 convolutions over all channels"
    assert int8["megabytes"] < fp32["megabytes"]
    change = int8["psnr_y"] - fp32["psnr_y"]
    assert 0 < abs(change) < 1
    assert f"| {int8['psnr_y']:.2f} | {change:+.2f} |" in page.read_text()


def test_missing_images_are_refused(script, tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder; expected ground-truth images"):
        script("int8").main(["--images", str(tmp_path / "none")])
