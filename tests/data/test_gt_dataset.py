"""Positions and random flips of training crops, and invalid data sets."""

import random

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset

from lightbsr.errors import UserError
from lightbsr_arch.data import gt_source


@pytest.fixture
def dataset(tmp_path):
    rows, columns = np.mgrid[:40, :50]
    image = np.stack([rows, columns, np.full_like(rows, 200)], axis=-1).astype(np.uint8)  # blue: row, green: column
    cv2.imwrite(str(tmp_path / "grid.png"), image)

    def make(**more):
        return build_dataset(
            {
                "name": "Toy", "type": "GTDataset", "phase": "train", "scale": 2, "dataroot_gt": str(tmp_path),
                "io_backend": {"type": "disk"}, "gt_size": 16, **more,
            }
        )  # fmt: skip

    return make


def test_crops_are_rgb_in_range_and_upright_without_augmentation(dataset):
    crops = dataset(use_hflip=False, use_rot=False)
    random.seed(0)
    corners = set()
    for _ in range(50):
        item = crops[0]
        red, green, blue = (item["gt"] * 255).round().int()
        assert item["gt"].shape == (3, 16, 16)
        assert (red == 200).all()
        top, left = int(blue[0, 0]), int(green[0, 0])
        assert torch.equal(blue[:, 0], torch.arange(top, top + 16, dtype=torch.int32))
        assert torch.equal(green[0], torch.arange(left, left + 16, dtype=torch.int32))
        corners.add((top, left))
    assert len(corners) > 40
    assert item["gt_path"] == "grid.png"


def test_flips_and_turns_come_in_all_eight_ways(dataset):
    crops = dataset()
    random.seed(0)
    ways = set()
    for _ in range(100):
        _, green, blue = crops[0]["gt"]
        ways.add(tuple(int(torch.sign(d)) for d in (blue[1, 0] - blue[0, 0], blue[0, 1] - blue[0, 0],
                                                    green[1, 0] - green[0, 0], green[0, 1] - green[0, 0])))  # fmt: skip
    assert len(ways) == 8


def test_the_seed_decides(dataset):
    crops = dataset()

    def draw(seed):
        random.seed(seed)
        return crops[0]["gt"]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_a_small_image_is_named(dataset):
    with pytest.raises(
        UserError, match=r"grid.png in .* has 50x40 pixels, gt_size is 48: leave the image out or lower"
    ):
        dataset(gt_size=48)[0]


def test_the_patches_of_an_image_are_decoded_once(dataset, monkeypatch):
    decoded = []
    read_image = gt_source.read_image
    monkeypatch.setattr(gt_source, "read_image", lambda path: decoded.append(path) or read_image(path))
    assert dataset(patches_per_item=4)[0]["gt"].shape[0] == 4
    assert len(decoded) == 1


def test_several_patches_of_one_image(dataset):
    random.seed(0)
    item = dataset(patches_per_item=3)[0]
    assert item["gt"].shape == (3, 3, 16, 16)
    assert not torch.equal(item["gt"][0], item["gt"][1])
