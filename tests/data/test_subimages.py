"""Crops compared with a literal copy of the loop in BasicSR's extract_subimages.py."""

import numpy as np
import pytest
from PIL import Image

from lightbsr.errors import UserError
from lightbsr_arch.data.subimages import CropRule


def basicsr_crops(h: int, w: int, crop_size: int, step: int, thresh_size: int) -> list[tuple[str, int, int]]:
    h_space = np.arange(0, h - crop_size + 1, step)
    if h - (h_space[-1] + crop_size) > thresh_size:
        h_space = np.append(h_space, h - crop_size)
    w_space = np.arange(0, w - crop_size + 1, step)
    if w - (w_space[-1] + crop_size) > thresh_size:
        w_space = np.append(w_space, w - crop_size)
    index, crops = 0, []
    for x in h_space:
        for y in w_space:
            index += 1
            crops.append((f"_s{index:03d}", int(x), int(y)))
    return crops


def test_equal_to_basicsr_over_sizes_and_rules() -> None:
    for crop, step, thresh in [(8, 4, 0), (8, 8, 0), (8, 5, 2), (8, 11, 3), (1, 1, 0), (8, 4, 100)]:
        rule = CropRule(crop, step, thresh)
        for h in range(crop, crop + 15):
            for w in range(crop, crop + 15):
                ours = [(suffix, top, left) for suffix, top, left, _, _ in rule.boxes(h, w)]
                assert ours == basicsr_crops(h, w, crop, step, thresh)


def test_a_div2k_picture_gives_basicsrs_forty_crops() -> None:
    boxes = list(CropRule(480, 240, 0).boxes(1404, 2040))
    assert len(boxes) == 40
    assert boxes[0] == ("_s001", 0, 0, 480, 480)
    assert boxes[-1] == ("_s040", 924, 1560, 480, 480)


def test_numbers_beyond_999_grow() -> None:
    suffixes = [box[0] for box in CropRule(1, 1, 0).boxes(40, 40)]
    assert (suffixes[998], suffixes[999]) == ("_s999", "_s1000")
    assert len(set(suffixes)) == 1600


def test_crop_0_is_the_whole_picture() -> None:
    assert list(CropRule(0, 0, 0).boxes(5, 7)) == [("", 0, 0, 5, 7)]


def test_too_small_is_said_with_numbers() -> None:
    with pytest.raises(UserError, match=r"^too small: 100x479 pixels, the crop is 480$"):
        list(CropRule(480, 240, 0).boxes(479, 100))


@pytest.mark.parametrize("numbers", [(-1, 1, 0), (8, 0, 0), (8, 4, -1)])
def test_senseless_numbers_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="at least 0, 1 and 0"):
        CropRule(*numbers)


def test_shrunk_versions_are_cut_too() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    crops = dict(CropRule(20, 20, 0, (0.5, 0.25)).cut(image))
    assert list(crops) == [*(f"_s{number:03d}" for number in range(1, 7)), "_x0_5_s001", "_x0_5_s002"]
    np.testing.assert_array_equal(crops["_s005"], image[20:40, 20:40])
    half = np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(crops["_x0_5_s002"], half[:, 10:])
    whole = dict(CropRule(0, shrink=(0.5,)).cut(image))
    assert {key: crop.shape for key, crop in whole.items()} == {"": (40, 60, 3), "_x0_5": (20, 30, 3)}


@pytest.mark.parametrize(
    ("shrink", "text"),
    [
        ((0.5, 1.0), "--shrink 1: expected a factor between 0 and 1"),
        ((0.5, 0.5), "--shrink 0.5 0.5: a factor is given twice"),
    ],
)
def test_senseless_factors_are_refused(shrink: tuple[float, ...], text: str) -> None:
    with pytest.raises(UserError, match=text):
        CropRule(shrink=shrink)
