"""LR and HR pictures are matched by name, as in BasicSR, and mismatches are named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset

from lightbsr.errors import UserError
from lightbsr_arch.data.pair_dataset import PicturePairs


def picture(path: Path, height: int, width: int, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))


def layout(root: Path, gt: str, lq: str, count: int = 3) -> None:
    """Write x4 pairs. The pixels of an HR picture equal its number, those of LR are larger by 100."""
    for number in range(1, count + 1):
        picture(root / gt.format(number), 32, 48, number)
        picture(root / lq.format(number), 8, 12, 100 + number)


@pytest.mark.parametrize(
    ("gt", "lq", "templates"),
    [
        ("gt/{:04}.png", "lq/{:04}.png", ()),  # NTIRE2020, AIM2019
        ("gt/{:04}.png", "lq/{:04}x4.png", ("{}x4",)),  # DIV2K
        ("gt/img_{}_gt.png", "lq/im_{}.png", ("im_{}", "img_{}_gt")),  # DIV2KRK
        ("gt/DSC_{}_x1.png", "lq/DSC_{}_x4.png", ("{}_x4", "{}_x1")),  # DRealSR
        ("all/Canon_{:03}_HR.png", "all/Canon_{:03}_LR4.png", ("{}_LR4", "{}_HR")),  # RealSR
        ("gt/a/{}.png", "lq/a/{}.png", ()),
    ],
)
def test_layouts_of_real_data_sets(gt, lq, templates, tmp_path):
    layout(tmp_path, gt, lq)
    roots = [str(tmp_path / name.partition("/")[0]) for name in (gt, lq)]
    pairs = PicturePairs(*roots, 4, *templates)
    assert len(pairs) == 3
    assert pairs.keys() == [gt.format(number).partition("/")[2] for number in (1, 2, 3)]
    for index in range(3):
        hr, lr = pairs.read(index)
        assert (hr.shape, lr.shape) == ((32, 48, 3), (8, 12, 3))
        assert (hr[0, 0, 0], lr[0, 0, 0]) == (index + 1, index + 101)


def test_pairs_are_basicsrs(tmp_path):
    layout(tmp_path, "gt/{:04}.png", "lq/{:04}x4.png")
    picture(tmp_path / "gt/0001.png", 34, 51)  # BasicSR crops the pixels that LR does not cover
    options = {"name": "toy", "phase": "val", "scale": 4, "io_backend": {"type": "disk"}, "filename_tmpl": "{}x4"}
    options |= {"dataroot_gt": str(tmp_path / "gt"), "dataroot_lq": str(tmp_path / "lq")}
    ours = build_dataset({**options, "type": "PairDataset"})
    theirs = build_dataset({**options, "type": "PairedImageDataset"})
    by_path = {Path(item["gt_path"]).name: item for item in (theirs[index] for index in range(len(theirs)))}
    assert len(ours) == len(by_path) == 3
    for item in (ours[index] for index in range(3)):
        wanted = by_path[item["gt_path"]]
        assert torch.equal(item["gt"], wanted["gt"])
        assert torch.equal(item["lq"], wanted["lq"])
    assert [ours[index]["lq_path"] for index in range(3)] == ["0001.png", "0002.png", "0003.png"]


def test_what_has_no_partner_is_named(tmp_path):
    layout(tmp_path, "gt/{}.png", "lq/{}.png", 6)
    gt, lq = str(tmp_path / "gt"), str(tmp_path / "lq")
    (tmp_path / "lq/2.png").rename(tmp_path / "lq/2x4.png")
    with pytest.raises(UserError) as caught:
        PicturePairs(gt, lq, 4)
    assert str(caught.value) == f"2.png has no LR picture 2.png in {lq}; 2x4.png in {lq} has no HR picture in {gt}"
    (tmp_path / "lq/2x4.png").unlink()
    for number in (3, 4, 5):
        (tmp_path / f"lq/{number}.png").unlink()
    with pytest.raises(UserError, match=r"^2\.png has .*; 3\.png has .*; 4\.png has .*; and 1 more$"):
        PicturePairs(gt, lq, 4)
    with pytest.raises(UserError, match=r"1\.png in \S+gt does not match the template \{\}_HR; "):
        PicturePairs(gt, lq, 4, "{}", "{}_HR")
    with pytest.raises(UserError, match=r"gt: no picture matches the template \{\}_LR4"):
        PicturePairs(gt, gt, 4, "{}_LR4", "{}")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        PicturePairs(gt, "nowhere", 4)


def test_another_scale_is_named_with_the_sizes(tmp_path):
    layout(tmp_path, "gt/{}.png", "lq/{}.png", 5)
    gt, lq = str(tmp_path / "gt"), str(tmp_path / "lq")
    picture(tmp_path / "lq/4.png", 16, 24)
    with pytest.raises(UserError) as caught:
        PicturePairs(gt, lq, 4)
    assert str(caught.value) == "4.png: HR 48x32 and LR 24x16, expected LR 12x8 for x4"
    with pytest.raises(UserError, match=r"^1\.png: .*; 2\.png: .*; 3\.png: .*; and 1 more$"):
        PicturePairs(gt, lq, 2)


def test_a_damaged_picture_is_an_error_where_it_is_read(tmp_path):
    layout(tmp_path, "gt/{}.png", "lq/{}.png")
    (tmp_path / "lq/2.png").write_bytes(b"")
    pairs = PicturePairs(str(tmp_path / "gt"), str(tmp_path / "lq"), 4)
    assert pairs.read(0)[1].shape == (8, 12, 3)
    with pytest.raises(UserError, match=r"2\.png: empty file"):
        pairs.read(1)
