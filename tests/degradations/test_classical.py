"""The classical degradation compared with recorded images, BasicSR's functions and formulas."""

import math

import cv2
import numpy as np
import pytest
import torch
from basicsr.data.degradations import bivariate_Gaussian
from basicsr.utils import tensor2img
from basicsr.utils.matlab_functions import imresize

from lightbsr.errors import UserError
from lightbsr_arch.degradations import ClassicalDegradation, Draws, bicubic_resize, build_degradation, gaussian_kernels
from lightbsr_arch.degradations.classical import Parameters, degrade
from lightbsr_arch.degradations.settings import Setting, named_settings
from tests.golden import golden, needs_golden

NO_NOISE = torch.zeros(1)


def draws(seed: int = 0, **more: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), **more)


def recorded() -> dict[str, torch.Tensor]:
    return golden("losses_and_degradations", "deg")


def iso(sigma: float) -> torch.Tensor:
    return Setting(sigma=sigma).parameters().kernel


def share_off(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the share of pixels that differ, for images on the 8-bit scale that differ by at most one grey level."""
    difference = (ours - theirs).abs()
    assert difference.max() < 1.01
    return (difference > 0.01).float().mean().item()


@needs_golden
def test_kernels_are_the_recorded_ones():
    deg = recorded()
    sigma = deg["iso_sigma"]
    torch.testing.assert_close(
        gaussian_kernels(sigma, sigma, torch.zeros_like(sigma)), deg["iso_kernels"], atol=1e-6, rtol=0
    )
    x, y, theta = deg["aniso_l1_l2_theta"].T
    torch.testing.assert_close(gaussian_kernels(x, y, theta.deg2rad()), deg["aniso_kernels"], atol=1e-6, rtol=0)


@needs_golden
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_quality_images_are_the_recorded_ones(scale):
    deg = recorded()
    hr = deg["hr"][:, :, : deg["hr"].shape[2] // scale * scale] / 255
    ours = degrade(hr, Parameters(iso(2.6), NO_NOISE), scale) * 255
    assert share_off(ours, deg[f"lr_iso2.6_x{scale}"]) <= 0.001


@needs_golden
def test_a_batch_of_different_kernels_gives_the_recorded_images():
    deg = recorded()
    ours = degrade(deg["hr"] / 255, Parameters(deg["aniso_kernels"][:2], torch.zeros(2)), 4) * 255
    assert share_off(ours, deg["lr_aniso_pair_x4"]) <= 0.001


@needs_golden
def test_blur_and_bicubic_upscaling_are_the_recorded_ones():
    deg = recorded()
    blurred = degrade(deg["hr"] / 255, Parameters(iso(2.6), NO_NOISE), 1, "s-fold") * 255
    assert share_off(blurred, deg["blur_iso2.6_x4"].round()) <= 0.001
    up = bicubic_resize(deg["lr_iso2.6_x4"], 4)
    torch.testing.assert_close(up, deg["bicubic_up_x4"], atol=1e-3, rtol=0)


def test_kernels_are_basicsrs():
    arguments = torch.tensor([[0.7, 3.1], [2.2, 1.4], [0.3, 2.8]])
    for kernel, (x, y, theta) in zip(gaussian_kernels(*arguments), arguments.T.tolist(), strict=True):
        basicsrs = torch.from_numpy(bivariate_Gaussian(21, x, y, theta, isotropic=False)).float()
        torch.testing.assert_close(kernel, basicsrs, atol=1e-6, rtol=0)


def test_no_entry_of_a_kernel_is_denormal():
    sigma = torch.linspace(0, 4, 200)
    kernels = gaussian_kernels(sigma, sigma.flip(0), sigma)
    assert kernels[kernels > 0].min() >= 1e-30
    assert (kernels == 0).any()


def test_sigma_0_is_no_blur():
    kernel = iso(0.0)[0]
    assert kernel[10, 10] == 1
    assert kernel.sum() == 1


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 3])
def test_resizing_is_basicsrs_but_for_the_border(scale):
    image = torch.rand(1, 3, 48, 60)
    ours, theirs = bicubic_resize(image, scale)[0], imresize(image[0], scale)
    border = math.ceil(2 * max(scale, 1))
    inner = (slice(None), slice(border, -border), slice(border, -border))
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [9, 66, 87, 2049])
def test_a_third_of_a_multiple_of_3_is_whole(size):
    assert bicubic_resize(torch.rand(1, 1, size, 9), 1 / 3).shape[2] == size // 3


def test_s_fold_takes_every_fourth_pixel():
    gt = torch.randint(0, 256, (1, 3, 24, 24)) / 255
    lq = degrade(gt, Parameters(iso(0.0), NO_NOISE), 4, "s-fold")
    torch.testing.assert_close(lq, gt[..., ::4, ::4])


def test_output_is_8_bit_in_range():
    lq = ClassicalDegradation(2, "aniso", noise=(0, 75))(torch.rand(4, 3, 32, 32), draws()).lq
    assert lq.min() >= 0
    assert lq.max() <= 1
    torch.testing.assert_close(lq * 255, (lq * 255).round(), atol=1e-4, rtol=0)


def test_the_seed_alone_decides():
    degradation, gt = ClassicalDegradation(4, "aniso", noise=(0, 25)), torch.rand(3, 3, 48, 48)

    def run(seed: int) -> torch.Tensor:
        return degradation(gt, draws(seed)).lq

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_what_is_drawn_lies_in_its_range_and_differs_by_sample():
    degradation = ClassicalDegradation(4, "iso", sigma=(1.0, 2.0), noise=(5, 10))
    kernel, noise = degradation.sample(256, draws())
    # The middle of a normalised Gaussian kernel is 1 / (2 pi sigma^2).
    sigma = (1 / (2 * math.pi * kernel[:, 10, 10])).sqrt()
    for drawn, (low, high) in ((sigma, (1.0, 2.0)), (noise, (5.0, 10.0))):
        assert low - 1e-3 <= drawn.min() < low + 0.05 * (high - low) + 1e-3
        assert high - 0.05 * (high - low) - 1e-3 < drawn.max() <= high + 1e-3
    torch.testing.assert_close(kernel, kernel.transpose(1, 2))  # isotropic


def test_noise_has_the_asked_strength():
    grey = torch.full((2, 3, 128, 128), 0.5)
    parameters = Parameters(iso(0.0).repeat(2, 1, 1), torch.tensor([5.0, 20.0]))
    lq = degrade(grey, parameters, 2, draws=draws()) * 255
    assert lq.std(dim=(1, 2, 3)).tolist() == pytest.approx([5.0, 20.0], rel=0.03)


def test_built_from_options():
    degradation = build_degradation({"type": "ClassicalDegradation", "kernel": "aniso", "noise": [0, 25]}, 3)
    assert degradation(torch.rand(1, 3, 48, 36), draws()).lq.shape == (1, 3, 16, 12)


def test_published_settings():
    assert [s.sigma for s in named_settings("gaussian8", 4)] == [1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2]
    assert [s.sigma for s in named_settings("gaussian8", 2)] == [0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert [s.sigma for s in named_settings("setting1", 4)] == [0.0, 1.2, 2.4, 3.6]
    assert [s.sigma for s in named_settings("setting1", 3)] == [0.0, 0.8, 1.6, 2.4]
    assert [s.sigma for s in named_settings("setting1", 2)] == [0.0, 0.6, 1.2, 1.8]
    setting2 = named_settings("setting2", 4)
    assert len({s.name for s in setting2}) == len(setting2) == 27
    assert setting2[11] == Setting(sigma=(3.5, 1.5), theta=30, noise=5)
    assert setting2[20].name == "sigma3.5x1.5_theta30_noise10"
    with pytest.raises(
        UserError, match="'gaussian9' is not the name of a test degradation; use one of bicubic, gaussian8"
    ):
        named_settings("gaussian9", 4)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize(("group", "item"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_processes_share_what_one_would_draw(group, item, per):
    degradation, gt = ClassicalDegradation(2, "aniso", noise=(5, 25), per=per), torch.rand(12, 3, 24, 24)
    whole = degradation(gt, draws(group=group, item=item))
    blocks = torch.arange(12).view(-1, max(group, item))
    for rank in range(2):
        mine = blocks[rank::2].flatten()
        part = degradation(gt[mine], draws(rank=rank, world_size=2, group=group, item=item))
        assert torch.equal(part.lq, whole.lq[mine])
        assert torch.equal(part.parameters.kernel, whole.parameters.kernel[mine])


def test_a_group_shares_its_degradation_but_not_the_noise():
    degraded = ClassicalDegradation(2, noise=(25, 26))(torch.full((6, 3, 16, 16), 0.5), draws(group=3))
    lq, (kernel, noise) = degraded.lq, degraded.parameters
    assert len(noise.unique()) == 2
    assert torch.equal(kernel[0], kernel[2])
    assert not torch.equal(kernel[2], kernel[3])
    assert not torch.equal(lq[0], lq[1])


def test_a_batch_may_share_one_degradation_but_not_the_noise():
    degradation, gt = ClassicalDegradation(2, "aniso", noise=(5, 25), per="batch"), torch.full((5, 3, 24, 24), 0.5)
    lq, (kernel, noise) = degradation(gt, draws()).lq, degradation(gt, draws()).parameters
    assert len(noise) == len(kernel) == 5
    assert len(noise.unique()) == len(kernel.unique(dim=0)) == 1
    assert not torch.equal(lq[0], lq[1])
    next_noise = degradation(gt, draws(1)).parameters.noise
    assert not torch.equal(noise, next_noise)
    assert len(degradation.sample(5, draws()).noise.unique()) == 5  # required by a teacher's PCA


def test_a_test_setting_ends_with_jpeg():
    gt = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, compressed = (
        setting.degrade(gt, 2, "bicubic", Draws(torch.Generator())).lq
        for setting in (Setting(sigma=1.0), Setting(sigma=1.0, jpeg=30))
    )
    for before, after in zip(plain, compressed, strict=True):
        written = cv2.imencode(".jpg", tensor2img(before), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
        assert np.array_equal(tensor2img(after), cv2.imdecode(written, cv2.IMREAD_COLOR))
    assert Setting(sigma=(2.0, 0.5), theta=30, noise=10, jpeg=60).name == "sigma2.0x0.5_theta30_noise10_jpeg60"
    assert Setting(sigma=(3.46, 0.5)).name == "sigma3.46x0.5_theta0"
    with pytest.raises(ValueError, match=r"sigma is at least 0, not -2\.0"):
        Setting(sigma=-2.0)
    with pytest.raises(ValueError, match="jpeg is a quality from 1 to 100, not 0"):
        Setting(sigma=1.0, jpeg=0)


def test_a_resize_in_inference_mode_leaves_nothing_that_breaks_gradients() -> None:
    image = torch.rand(1, 3, 57, 43)  # a size that no other test has, so that its matrices are not cached
    with torch.inference_mode():
        bicubic_resize(image, 0.5)
    bicubic_resize(image.requires_grad_(), 0.5).sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad.sum(), torch.tensor(3.0 * 29 * 22))  # each output pixel has weights of sum 1
