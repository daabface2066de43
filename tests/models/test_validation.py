"""BasicSR's validation loop with a list of settings: figures by setting, their mean, log and TensorBoard."""

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.metrics import calculate_psnr
from basicsr.utils import get_root_logger, tensor2img
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from lightbsr.errors import UserError
from tests.models.helpers import batch, build, kdsr, options, train

SETTINGS = [{"sigma": 0.8}, {"sigma": [2.0, 1.0], "theta": 30, "noise": 10}]
NAMES = ["Toy/sigma0.8", "Toy/sigma2.0x1.0_theta30_noise10"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip("ab", batch(2, 33)["gt"], strict=True):
        cv2.imwrite(str(folder / f"{name}.png"), tensor2img(image))
    return folder


def dataset_options(photos):
    return {
        "name": "Toy", "type": "DegradedDataset", "phase": "val", "scale": 2, "dataroot_gt": str(photos),
        "io_backend": {"type": "disk"}, "settings": SETTINGS,
    }  # fmt: skip


def loader(photos):
    opt = dataset_options(photos)
    return build_dataloader(build_dataset(opt), opt)


def test_items_are_the_same_every_time_and_on_every_view(photos):
    dataset = build_dataset(dataset_options(photos))
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["lq_path"] for item in items] == [
        "a_sigma0.8.png", "b_sigma0.8.png",
        "a_sigma2.0x1.0_theta30_noise10.png", "b_sigma2.0x1.0_theta30_noise10.png",
    ]  # fmt: skip
    assert items[0]["gt"].shape == (3, 32, 32)  # 33 is cropped to a multiple of the scale
    assert items[0]["lq"].shape == (3, 16, 16)
    assert not torch.equal(items[0]["lq"], items[2]["lq"])
    views = [view[i] for view in dataset.by_setting() for i in range(len(view))]
    for item, again in zip(items, views, strict=True):
        assert torch.equal(item["lq"], again["lq"])
        assert item["lq_path"] == again["lq_path"]
    noise = [item["lq"] - clean["lq"] for item, clean in zip(items[2:], items[:2], strict=True)]
    assert not torch.equal(*noise)  # each image its own


def test_figures_by_setting_and_their_mean(photos, tmp_path):
    opt = options(tmp_path, "KDTeacherModel", kdsr("teacher"), ema_decay=0.9)
    model = build(opt)
    logger = get_root_logger()
    lines: list[str] = []
    logger.addFilter(lambda record: lines.append(record.getMessage()) or True)
    logger.setLevel("INFO")
    writer = SummaryWriter(tmp_path / "tb")
    model.validation(loader(photos), 10, writer, True)
    writer.close()

    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    psnr, ssim = (
        {name: events.Scalars(f"metrics/{name}/{metric}")[0].value for name in [*NAMES, "Toy"]}
        for metric in ("psnr_y", "ssim_y")
    )
    for figures in (psnr, ssim):
        assert figures["Toy"] == pytest.approx(np.mean([figures[name] for name in NAMES]), rel=1e-5)
    assert any(line.startswith("Validation Toy\n") and f"psnr_y: {psnr['Toy']:.4f}" in line for line in lines)

    # The figures of one setting are computed by hand.
    dataset = build_dataset(dataset_options(photos))
    by_hand = []
    for item in (dataset[2], dataset[3]):
        with torch.inference_mode():
            sr = model.net_g_ema(item["lq"][None], item["gt"][None])
        by_hand.append(calculate_psnr(tensor2img(sr), tensor2img(item["gt"]), 2, test_y_channel=True))
    assert psnr[NAMES[1]] == pytest.approx(np.mean(by_hand), abs=1e-3)

    saved = sorted(path.name for path in (tmp_path / "pictures").rglob("*.png"))
    assert saved[0] == "a_sigma0.8_10.png"
    assert len(saved) == 4
    assert model.net_g.training


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_a_figure_that_is_no_number_is_told(photos, tmp_path):
    opt = options(tmp_path, "KDTeacherModel", kdsr("teacher"))
    opt["val"]["metrics"]["psnr_y"]["crop_border"] = 20  # of 32 pixels
    lines: list[str] = []
    get_root_logger().addFilter(lambda record: lines.append(record.getMessage()) or True)
    build(opt).validation(loader(photos), 10, None, False)
    assert any(line.startswith("val.metrics.psnr_y is no number on Toy: ") for line in lines)


def test_a_teacher_without_ground_truth_is_told(tmp_path):
    model = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    model.feed_data({"lq": torch.rand(1, 3, 8, 8)})
    with pytest.raises(UserError, match=r"a teacher needs the ground truth"):
        model.test()


def test_a_teacher_does_not_take_the_last_batch_for_ground_truth(photos, tmp_path):
    model = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    train(model, 1, 1)
    opt = {"name": "Real", "type": "SingleImageDataset", "phase": "val", "dataroot_lq": str(photos)}
    opt["io_backend"] = {"type": "disk"}
    with pytest.raises(UserError, match=r"a teacher needs the ground truth of every image: use a dataset that has it"):
        model.validation(build_dataloader(build_dataset(opt), opt), 1, None, False)
    assert set(model.opt["val"]["metrics"]) == {"psnr_y", "ssim_y"}
