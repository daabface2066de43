"""The second-order degradation compared with BasicSR's, step by step with equal seeds."""

from collections.abc import Iterator
from copy import deepcopy
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data.realesrgan_dataset import RealESRGANDataset
from basicsr.models import realesrnet_model
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils import DiffJPEG, USMSharp
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.bench.pairs import Pairs
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations import (
    Draws,
    SecondOrderDegradation,
    bicubic_resize,
    build_degradation,
    second_order,
    second_order_round,
)
from lightbsr_arch.degradations.pair_pool import PairPool
from lightbsr_arch.degradations.usm import usm_sharp
from lightbsr_arch.seeds import seeded

REAL_ESRGAN: dict[str, Any] = {
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.15, 1.5],
    "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30],
    "poisson_scale_range": [0.05, 3],
    "gray_noise_prob": 0.4,
    "jpeg_range": [30, 95],
    "second_blur_prob": 0.8,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2],
    "gaussian_noise_prob2": 0.5,
    "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5],
    "gray_noise_prob2": 0.4,
    "jpeg_range2": [30, 95],
}
"""options/train_realesrnet_x4plus.yml of Real-ESRGAN."""

KERNELS: dict[str, Any] = {
    f"{key}{number}": value
    for number, sigma in (("", [0.2, 3]), ("2", [0.2, 1.5]))
    for key, value in {
        "blur_kernel_size": 21,
        "kernel_list": ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"],
        "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
        "sinc_prob": 0.1,
        "blur_sigma": sigma,
        "betag_range": [0.5, 4],
        "betap_range": [1, 2],
    }.items()
}


def pictures(n: int, side: int, seed: int = 0) -> torch.Tensor:
    """Return smooth shapes with a little grain, rounded to 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    shapes = F.interpolate(torch.rand(n, 3, 6, 6, generator=generator), size=(side, side), mode="bicubic")
    grain = 0.05 * torch.randn(n, 3, side, side, generator=generator)
    return ((shapes + grain).clamp(0, 1) * 255).round() / 255


def draws(seed: int = 0, **more: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), **more)


def basicsr_model(gt_size: int, gt_usm: bool, queue_size: int) -> RealESRNetModel:
    """BasicSR's model without its networks and without the `.cuda()` of its constructor."""
    model = RealESRNetModel.__new__(RealESRNetModel)
    model.opt = {**REAL_ESRGAN, "gt_usm": gt_usm, "gt_size": gt_size, "scale": 4}
    model.is_train, model.device, model.queue_size = True, torch.device("cpu"), queue_size
    model.jpeger, model.usm_sharpener = DiffJPEG(differentiable=False), USMSharp()
    # On the CPU, BasicSR's next blur does not accept the memory layout of the JPEG output.
    model.jpeger.register_forward_hook(lambda module, inputs, output: output.contiguous())
    return model


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Record the results of every blur, resize, noise and JPEG, here and in BasicSR, in order."""
    seen: list[tuple[str, torch.Tensor]] = []

    def spied(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            out = function(*args, **kwargs)
            seen.append((name, out.clone()))
            return out

        return call

    noises = ("random_add_gaussian_noise_pt", "random_add_poisson_noise_pt")
    for name, ours in {"filter2D": second_order, **dict.fromkeys(noises, second_order_round)}.items():
        for module in (realesrnet_model, ours):
            monkeypatch.setattr(module, name, spied(name, getattr(module, name)))
    monkeypatch.setattr(F, "interpolate", spied("interpolate", F.interpolate))
    monkeypatch.setattr(DiffJPEG, "forward", spied("jpeg", DiffJPEG.forward))
    monkeypatch.setattr(second_order, "compress_on_device", spied("jpeg", second_order.compress_on_device))
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    return seen


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("gt_usm", [False, True])
def test_every_step_gives_what_basicsr_gives(seed: int, gt_usm: bool, steps: list[tuple[str, torch.Tensor]]) -> None:
    gt = pictures(3, 104, seed)
    steps.clear()
    theirs = basicsr_model(64, gt_usm, queue_size=180)
    ours = SecondOrderDegradation(4, gt_size=64, gt_usm=gt_usm, queue_size=180)
    with seeded(seed):
        kernels = ours.draw_kernels(3, gt.device)
        # Both use our sharpening, which is tested below, because a difference of 1e-6 can change an 8-bit rounding.
        theirs.usm_sharpener = usm_sharp
        theirs.feed_data({"gt": gt, **dict(zip(("kernel1", "kernel2", "sinc_kernel"), kernels, strict=True))})
    expected, steps[:] = list(steps), []
    with seeded(seed), torch.no_grad():
        degraded = ours._degrade(gt)
    assert [name for name, _ in steps] == [name for name, _ in expected]
    assert len(steps) >= 9
    for (_, step), (_, step_of_basicsr) in zip(steps, expected, strict=True):
        torch.testing.assert_close(step, step_of_basicsr, atol=0, rtol=0)
    torch.testing.assert_close(degraded.lq, theirs.lq, atol=0, rtol=0)
    torch.testing.assert_close(degraded.gt, theirs.gt, atol=0, rtol=0)
    assert degraded.lq.shape == (3, 3, 16, 16)


def test_the_pool_gives_the_pairs_that_basicsrs_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    theirs = basicsr_model(32, False, queue_size=8)
    ours = SecondOrderDegradation(4, gt_size=32, queue_size=8)
    moved = 0
    for step in range(9):
        gt = pictures(2, 80, step)
        with seeded(step):
            kernels = ours.draw_kernels(2, gt.device)
            theirs.feed_data({"gt": gt, **dict(zip(("kernel1", "kernel2", "sinc_kernel"), kernels, strict=True))})
        with seeded(step), torch.no_grad():
            new = ours._degrade(gt)
            mixed = ours._mix(new)
        torch.testing.assert_close(mixed.lq, theirs.lq, atol=0, rtol=0)
        torch.testing.assert_close(mixed.gt, theirs.gt, atol=0, rtol=0)
        moved += not torch.equal(mixed.lq, new.lq)
    assert moved == 5  # the first four fill the pool


@pytest.mark.parametrize("seed", range(20))
def test_kernels_are_those_of_basicsrs_data_set(seed: int, tmp_path: Any) -> None:
    cv2.imwrite(str(tmp_path / "gt.png"), np.zeros((400, 400, 3), np.uint8))
    (tmp_path / "meta_info.txt").write_text("gt.png\n")
    options = {
        **KERNELS,
        "dataroot_gt": str(tmp_path),
        "meta_info": str(tmp_path / "meta_info.txt"),
        "io_backend": {"type": "disk"},
        "use_hflip": False,
        "use_rot": False,
        "final_sinc_prob": 0.8,
    }
    with seeded(seed):
        item = RealESRGANDataset(options)[0]
    with seeded(seed):
        kernels = SecondOrderDegradation(4).draw_kernels(1, torch.device("cpu"))
    for ours, name in zip(kernels, ("kernel1", "kernel2", "sinc_kernel"), strict=True):
        torch.testing.assert_close(ours[0], item[name], atol=1e-30, rtol=0)  # ours have no smaller entries
        assert ours.sum().item() == pytest.approx(1, abs=1e-5)


def test_sharpening_is_basicsrs_to_a_rounding() -> None:
    images = pictures(2, 120)
    ours, theirs = usm_sharp(images), USMSharp()(images)
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - images).abs().mean() > 0.005  # the degradation has an effect


def test_equal_draws_give_equal_results_and_leave_the_global_generators_alone() -> None:
    gt = pictures(2, 96)
    degradation = build_degradation({"type": "SecondOrderDegradation", "gt_size": 64, "gt_usm": True}, 4)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = degradation(gt, draws(1)), degradation(gt, draws(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.lq, second.lq)
    assert torch.equal(first.gt, second.gt)
    assert not torch.equal(first.lq, degradation(gt, draws(2)).lq)
    assert not torch.equal(first.lq, degradation(gt, draws(1, rank=1, world_size=2)).lq)
    levels = first.lq * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_what_is_sharpened_and_what_is_not() -> None:
    gt = pictures(2, 96)
    sharpened = SecondOrderDegradation(4, gt_size=96, gt_usm=True)(gt, draws())
    torch.testing.assert_close(sharpened.gt, usm_sharp(gt))
    assert torch.equal(sharpened.gt_plain, gt)
    plain = SecondOrderDegradation(4)(gt, draws())
    assert torch.equal(plain.gt, gt)
    assert torch.equal(plain.gt_plain, gt)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_order_is_shuffled_and_the_images_stay_images(scale: int, steps: list[tuple[str, torch.Tensor]]) -> None:
    gt = pictures(2, 152)
    steps.clear()
    orders, likeness = set(), []
    for seed in range(16):
        degraded = SecondOrderDegradation(scale, order="shuffled", gt_size=96)(gt, draws(seed))
        orders.add(tuple(name for name, _ in steps))
        assert degraded.lq.shape == (2, 3, 96 // scale, 96 // scale)
        small = F.interpolate(degraded.gt, size=degraded.lq.shape[-2:], mode="area")
        likeness.append(torch.corrcoef(torch.stack([degraded.lq.flatten(), small.flatten()]))[0, 1].item())
        steps.clear()
    assert median(likeness) > 0.9  # blurred and noisy, but the same picture
    assert len(orders) > 12


def test_a_saved_pool_goes_on_where_it_was() -> None:
    def degradation() -> SecondOrderDegradation:
        return SecondOrderDegradation(4, gt_size=32, gt_usm=True, queue_size=5)

    whole = degradation()
    for step in range(5):
        whole(pictures(2, 80, step), draws(step))
    resumed = degradation()
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    ours, theirs = (one(pictures(2, 80, 9), draws(9)) for one in (resumed, whole))
    assert torch.equal(ours.lq, theirs.lq)
    assert torch.equal(ours.gt, theirs.gt)
    assert torch.equal(ours.gt_plain, theirs.gt_plain)


@pytest.mark.parametrize("queue_size", [0, 2])
def test_images_of_a_group_share_their_degradation(queue_size: int) -> None:
    noiseless: dict[str, Any] = {f"gaussian_noise_prob{key}": 1 for key in ("", "2")}
    noiseless |= {f"noise_range{key}": (0, 0) for key in ("", "2")}
    # With an unchanged size, the JPEG blocks of neighbours start at the same position.
    noiseless |= {f"resize_prob{key}": (0, 0, 1) for key in ("", "2")}
    degradation = SecondOrderDegradation(4, queue_size=queue_size, **noiseless)
    one = F.interpolate(torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), (192, 192))
    lq = degradation(one.repeat(4, 1, 1, 1), draws(group=2)).lq[..., 10:-10, 10:-10]
    within, between = ((lq[i] - lq[j]).abs().mean() for i, j in ((0, 1), (0, 2)))
    assert within < 0.01
    assert between > 0.03


def test_no_entry_of_a_kernel_is_denormal() -> None:
    with seeded(0):
        drawn = torch.cat(SecondOrderDegradation(4).draw_kernels(200, torch.device("cpu")))
    assert drawn[drawn != 0].abs().min() >= 1e-30


def test_one_line_for_what_cannot_be_degraded() -> None:
    with pytest.raises(
        UserError, match="64 pixels are too few for the second-order degradation: give images of at least 74 "
    ):
        SecondOrderDegradation(4)(pictures(1, 64), draws())
    enlarged = {"resize_range": (1, 1.5), "resize_range2": (1, 1.2)}
    with pytest.raises(UserError, match=r"24 pixels are too few .* at least 26"):
        SecondOrderDegradation(2, gt_usm=True, **enlarged)(pictures(1, 24), draws())
    assert SecondOrderDegradation(2, gt_usm=True, **enlarged)(pictures(1, 26), draws()).lq.shape[-1] == 13
    with pytest.raises(UserError, match=r"120 pixels are too few .* at least 256"):
        SecondOrderDegradation(4, gt_size=256)(pictures(1, 120), draws())
    with pytest.raises(UserError, match="gt_size: 62 is not a multiple of the scale, 4"):
        SecondOrderDegradation(4, gt_size=62)
    with pytest.raises(UserError, match="kernel_prob2: 1 numbers for 6 kernels"):
        SecondOrderDegradation(4, kernel_prob2=[1.0])


def test_validation_and_bench_see_the_same_drawn_pictures(tmp_path: Any) -> None:
    for index, picture in enumerate(pictures(2, 90)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), (picture.permute(1, 2, 0).numpy()[..., ::-1] * 255).round())
    section = {"name": "x", "scale": 4, "dataroot_gt": str(tmp_path), "io_backend": {"type": "disk"}}
    dataset = DegradedDataset({**section, "settings": "second-order"})
    (view,) = dataset.by_setting()
    assert view.opt["name"] == "x/second-order"
    pairs = Pairs("x", str(tmp_path), "second-order", "second-order", 4, "bicubic")
    (condition,) = pairs.conditions
    for index in range(2):
        item, again, pair = view[index], dataset[index], pairs.make(index, condition)
        assert item["lq"].shape == (3, 22, 22)
        assert item["lq_path"] == f"{index}_second-order.png"
        assert "degradation" not in item
        assert pair.prior is None
        assert torch.equal(item["lq"], again["lq"])
        assert torch.equal(item["lq"], pair.lq[0])
        assert 10 < -10 * (bicubic_resize(item["gt"][None], 1 / 4)[0] - item["lq"]).square().mean().log10() < 40
    assert not torch.equal(view[0]["lq"], view[1]["lq"])


def test_a_pool_that_is_not_full_can_be_saved_and_one_of_another_size_is_filled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args: empty(*args).fill_(torch.nan))  # as on CUDA
    pool = PairPool(8)
    pool.exchange(torch.ones(4, 3))
    assert all(part.isfinite().all() for part in pool.state_dict()["parts"])
    larger = PairPool(16)
    larger.load_state_dict(pool.state_dict())
    larger.exchange(torch.ones(4, 3))
    assert (len(larger.order), larger.filled) == (16, 4)
