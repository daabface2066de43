"""``lightbsr degrade``."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.degradations import Parameters, gaussian_kernels
from lightbsr_arch.degradations.classical import degrade
from lightbsr_cli import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a b.png", (50, 62)), ("c.png", (48, 64))):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    return folder


def test_one_blur_is_that_of_the_tables(photos: Path, tmp_path: Path) -> None:
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--sigma", "1.5", "3", "--theta", "90"]) == 0
    folder = tmp_path / "out/sigma1.5x3.0_theta90"
    assert sorted(path.name for path in folder.iterdir()) == ["a_b.png", "c.png"]
    gt = to_tensor(cv2.imread(str(photos / "a b.png"))[:48, :60])[None]
    kernel = gaussian_kernels(torch.tensor([1.5]), torch.tensor([3.0]), torch.tensor([torch.pi / 2]))
    lq = degrade(gt, Parameters(kernel, torch.zeros(1)), 4)[0]
    assert torch.equal((to_tensor(cv2.imread(str(folder / "a_b.png"))) * 255).round(), (lq * 255).round())


def test_a_setting_is_a_folder_a_degradation(photos: Path, tmp_path: Path) -> None:
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--setting", "setting1", "--scale", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sigma0", "sigma1.2", "sigma2.4", "sigma3.6"]
    assert cv2.imread(str(tmp_path / "out/sigma0/c.png")).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sigma", "1", "2", "3"], "--sigma takes one number, or one for each axis"),
        (["--sigma", "-1"], "neither it nor --noise may be negative"),
        (["--setting", "gaussian8"], "nothing: no such folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["degrade", str(tmp_path / "nothing"), str(tmp_path / "out"), *arguments]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("lightbsr degrade: ")
    assert line in error


@pytest.mark.parametrize(
    ("setting", "named", "least"), [("setting1", "small.png", 11), ("second-order", "a b.png", 74)]
)
def test_a_picture_that_is_too_small_is_named(
    setting: str, named: str, least: int, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(photos / "small.png"), np.zeros((8, 64, 3), np.uint8))
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--setting", setting, "--scale", "2"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"failed: {named} in {photos}")]
    assert errors
    assert all(f"give images of at least {least}" in line for line in errors)
