"""Crops compared with a literal copy of the loop in BasicSR's extract_subimages.py."""

import numpy as np
import pytest

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
