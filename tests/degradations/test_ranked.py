"""The five versions of each image: one degree is worse in each, and nothing else."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.bench.pairs import Pairs
from lightbsr_arch.degradations import RankedSecondOrderDegradation, ranked
from lightbsr_arch.degradations.usm import usm_sharp
from lightbsr_arch.seeds import seeded
from tests.degradations.test_second_order import draws, pictures

NO_NOISE = {
    f"{name}{key}": value
    for key in ("", "2")
    for name, value in (("noise_range", (0, 0)), ("poisson_scale_range", (0, 0)), ("jpeg_range", (95, 95)))
}
ONE_BLUR = {"blur_sigma": (1, 1), "blur_sigma2": (0.5, 0.5)}


def versions(lq):
    """Images x versions: mild, more blur, more noise, clean, worst."""
    return lq.unflatten(0, (-1, 5))


def detail(images):
    """Mean difference of neighbouring pixels, of each image."""
    return images.diff(dim=-1).abs().mean(dim=(-3, -2, -1))


def without_sinc(degradation, **more):
    for key in ("first", "second"):
        setattr(degradation, key, getattr(degradation, key)._replace(sinc_prob=0.0, **more))
    degradation.final_sinc_prob = 0.0
    return degradation


def test_isotropic_kernels_differ_in_sigma_by_the_gap_or_more_and_the_last_has_the_largest():
    options = RankedSecondOrderDegradation(4).first._replace(kernel_list=["iso"], kernel_prob=[1.0], sinc_prob=0.0)
    sigmas = []
    with seeded(0):
        for _ in range(300):
            kernels = ranked.draw_kernels(options, gap=0.1)
            assert kernels.shape == (3, 21, 21)
            # Neighbours of a Gaussian's middle: exp(-1 / (2 sigma^2)).
            ratio = np.maximum(kernels[:, 10, 11] / kernels[:, 10, 10], 1e-300)
            sigmas.append((-0.5 / np.log(ratio)) ** 0.5)
    mild, worse, worst = np.stack(sigmas).T
    assert (worse - mild).min() >= 0.1 - 1e-9
    assert (worse - mild).min() < 0.15
    assert 2 < (worse - mild).max() < 2.8
    assert mild.min() > 0.19
    assert worse.max() <= 3 + 1e-6
    assert worst == pytest.approx(3, abs=1e-6)


def test_kernels_of_one_image_share_their_kind_and_angle():
    options = RankedSecondOrderDegradation(4).first._replace(kernel_list=["aniso"], kernel_prob=[1.0], sinc_prob=0.0)
    y, x = np.mgrid[-10:11, -10:11]
    with seeded(1):
        for _ in range(50):
            mild, worse, worst = ranked.draw_kernels(options, gap=0.5)
            moments = [np.array([(k * x * x).sum(), (k * y * y).sum(), (k * x * y).sum()]) for k in (mild, worse)]
            # sigma grows by the same amount along both axes, so that the variance grows along every direction.
            grown = moments[1] - moments[0]
            assert grown[0] > -1e-3
            assert grown[1] > -1e-3
            # The tilt keeps its sign, unless the kernel is about round.
            assert moments[0][2] * moments[1][2] > -1e-2
            np.testing.assert_allclose(worst, worst.T, atol=1e-6)  # the largest sigma along both axes


def test_sinc_filters_pass_less_and_less():
    options = RankedSecondOrderDegradation(4).first._replace(sinc_prob=1.0)
    with seeded(0):
        for _ in range(50):
            peaks = ranked.draw_kernels(options, gap=0.1).max(axis=(1, 2))
            assert peaks[0] > peaks[1] >= peaks[2]


def test_pairs_of_levels_stay_in_their_range_and_differ_by_the_gap():
    torch.manual_seed(0)
    low, high = ranked._draw_pairs(torch.empty(5000, 1), (30.0, 95.0), (5.0, 60.0))
    assert 30 <= low.min() < 31
    assert 94 < high.max() <= 95
    assert 5 <= (high - low).min() < 5.1
    assert 59.9 < (high - low).max() <= 60
    low, high = ranked._draw_pairs(torch.empty(100, 1), (2.0, 3.0), (5.0, 60.0))
    assert low.tolist() == [2.0] * 100
    assert high.tolist() == [3.0] * 100


def test_the_clean_version_is_only_downsampled():
    gt = pictures(2, 104)
    degraded = RankedSecondOrderDegradation(4, gt_usm=True)(gt, draws())
    expected = F.interpolate(usm_sharp(gt), size=(26, 26), mode="bilinear")
    torch.testing.assert_close(versions(degraded.lq)[:, 3], (expected * 255).round() / 255, atol=0, rtol=0)
    torch.testing.assert_close(degraded.gt, usm_sharp(gt).repeat_interleave(5, dim=0))
    assert torch.equal(degraded.gt_plain, gt.repeat_interleave(5, dim=0))


def test_without_noise_the_second_version_alone_differs_from_the_first():
    degradation = RankedSecondOrderDegradation(4, **NO_NOISE)
    more = []
    for seed in range(8):
        lq = versions(degradation(pictures(2, 104, seed), draws(seed)).lq)
        assert torch.equal(lq[:, 2], lq[:, 0])
        energies = detail(lq)
        more.append((energies[:, 0] > energies[:, 1]) & (energies[:, 1] > energies[:, 4]))
    # A resizing that enlarges, between two of the same blur, may sharpen a little.
    assert torch.cat(more).float().mean() > 0.8


def test_with_one_blur_the_third_version_is_noisier_than_the_first():
    def made(**more):
        degradation = RankedSecondOrderDegradation(4, **ONE_BLUR, **more)
        return without_sinc(degradation, resize_prob=(0, 0, 1), gaussian_noise_prob=1.0)

    degradation, silent = made(), made(**NO_NOISE)
    ratios = []
    for seed in range(8):
        gt = torch.full((2, 3, 104, 104), 0.5)
        lq = versions(degradation(gt, draws(seed)).lq)
        noise = lq.std(dim=(2, 3, 4))
        ratios.append(torch.stack([noise[:, 2] / noise[:, 0], noise[:, 1] / noise[:, 0]]))
    more_noise, more_blur = torch.cat(ratios, dim=1)
    assert more_noise.median() > 1.2
    assert more_blur.median() == pytest.approx(1, abs=0.2)
    lq = versions(silent(pictures(2, 104), draws()).lq)
    assert torch.equal(lq[:, 1], lq[:, 0])
    assert torch.equal(lq[:, 2], lq[:, 0])


def test_versions_are_cut_alike_and_stay_together_in_the_pool():
    degradation = RankedSecondOrderDegradation(4, gt_size=32, gt_usm=True, queue_size=4)
    ramp = torch.linspace(0.1, 0.9, 14)
    seen = set()
    for step in range(7):
        gt = ramp[2 * step : 2 * step + 2, None, None, None].expand(2, 3, 80, 80)
        lq, _, made, plain = degradation(gt, draws(step))
        assert lq.shape == (10, 3, 8, 8)
        assert made.shape == plain.shape == (10, 3, 32, 32)
        levels = versions(plain)[:, :, 0, 0, 0]
        assert torch.equal(levels, levels[:, :1].expand(2, 5))
        torch.testing.assert_close(versions(lq)[:, 3].mean(dim=(1, 2, 3)), levels[:, 0], atol=3e-3, rtol=0)
        seen |= {round(level, 4) for level in levels[:, 0].tolist()}
    assert 6 < len(seen) < 14  # the pool gives earlier images
    assert set(degradation.state_dict()) == {"parts", "order", "filled"}
    assert [tuple(part.shape) for part in degradation.state_dict()["parts"]] == [
        (4, 5, 3, 8, 8), (4, 3, 32, 32), (4, 3, 32, 32),
    ]  # fmt: skip


def test_equal_draws_give_equal_versions():
    degradation = RankedSecondOrderDegradation(4, gt_size=64)
    gt = pictures(2, 104)
    one, same, other = (degradation(gt, draws(seed)).lq for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"degradation.jpeg_range2: 95 is more than 30; the smaller number comes first"):
        RankedSecondOrderDegradation(4, jpeg_range2=(95, 30))
    with pytest.raises(UserError, match=r"degradation.gt_size: 30 is not a multiple of the scale, 4"):
        RankedSecondOrderDegradation(4, gt_size=30)
    with pytest.raises(UserError, match=r"RankedSecondOrderDegradation degrades each image by itself"):
        RankedSecondOrderDegradation(4)(pictures(2, 104), draws(group=2))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    with pytest.raises(UserError, match=r"RankedSecondOrderDegradation makes several versions of each picture"):
        Pairs("set", str(tmp_path), "ranked", {"type": "RankedSecondOrderDegradation"}, 4, "bicubic")
