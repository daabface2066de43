"""MM-RealSR's degradation: versions of each image whose degrees of blur and of noise are in a known order.

MM-RealSR (ECCV 2022). All versions pass through one second-order chain and share its random numbers, except for those
that set the degree of blur or of noise.
"""

import random
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from basicsr.data.degradations import add_gaussian_noise_pt, add_poisson_noise_pt, circular_lowpass_kernel
from basicsr.data.transforms import paired_random_crop
from basicsr.utils.img_process_util import filter2D
from msgspec import Meta
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.degradations.classical import Degraded, NonNegative
from lightbsr_arch.degradations.jpeg import compress_on_device
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY
from lightbsr_arch.degradations.second_order import SecondOrderDegradation
from lightbsr_arch.degradations.second_order_round import (
    KERNEL_SIZE,
    KERNEL_SIZES,
    RESIZE_MODES,
    Quality,
    Range,
    Round,
)
from lightbsr_arch.degradations.usm import usm_sharp
from lightbsr_arch.seeds import seeded

Levels = Sequence[torch.Tensor]
"""A quantity at three levels: mild, worse, and the worst that the options allow."""

# Levels of the versions that pass through the chain: mild, more blur, more noise, worst.
BLUR_LEVELS = (0, 1, 0, 2)
NOISE_LEVELS = (0, 0, 1, 2)
CLEAN = 3  # index of the clean image among the five versions
# Probability that the noise of the second round differs between versions if that of the first round does.
BOTH_DIFFER = 0.2
# Width of an interval for a fixed number, because BasicSR draws only from intervals that are not empty.
TINY = 1e-9


@DEGRADATION_REGISTRY.register()
class RankedSecondOrderDegradation(SecondOrderDegradation):
    """Makes five versions of each image: mild, more blur, more noise, clean, and the worst in both.

    ``DegreeRankingLoss`` compares them. The versions share the kinds and angles of kernels, the kinds of noise, the
    resizing and the crop. With more blur, both kernels have larger standard deviations or lower cut-off frequencies,
    and the first resizing is stronger. With more noise, the noise is stronger in at least one round, and JPEG qualities
    are lower in both. The clean version is only downsampled, bilinearly. The worst one has the worst values of all
    ranges. A batch of N images becomes one of 5 N, in which the versions of an image are neighbours. Options that are
    not listed have the values of ``SecondOrderDegradation``, except that the second blur always takes place.

    Args:
        scale: downsampling factor, the size of gt divided by that of lq.
        gt_size: side of the final crop in ground-truth pixels. Data sets provide larger images, whose borders are
            affected by the blur. null for no crop.
        gt_usm: sharpen the ground truth first, by unsharp masking.
        queue_size: number of images in the pool that mixes batches, each with its five versions, rounded up to whole
            batches; 0 for no pool.
        blur_sigma: standard deviations of the blur in the first round, in pixels.
        noise_range: standard deviations of Gaussian noise in the first round, on the 8-bit scale.
        poisson_scale_range: factors of Poisson noise in the first round.
        jpeg_range: JPEG qualities in the first round.
        blur_sigma2: standard deviations of the blur in the second round, in pixels.
        noise_range2: standard deviations of Gaussian noise in the second round, on the 8-bit scale.
        poisson_scale_range2: factors of Poisson noise in the second round.
        jpeg_range2: JPEG qualities in the second round.
        sigma_gap: smallest difference between the standard deviations of two kernels.
        noise_gap: range of the difference between the standard deviations of two Gaussian noises.
        poisson_gap: range of the difference between the factors of two Poisson noises.
        jpeg_gap: range of the difference between two JPEG qualities.

    A difference is never larger than the range from which the two values are drawn. The defaults are MM-RealSR's,
    except for ``gt_size``, ``gt_usm`` and ``queue_size``, which are 192, true and 90 in MM-RealSR.
    """

    num_version: ClassVar[int] = len(BLUR_LEVELS) + 1

    def __init__(
        self,
        scale: int,
        gt_size: Annotated[int, Meta(ge=8)] | None = None,
        gt_usm: bool = False,
        queue_size: Annotated[int, Meta(ge=0, le=65536)] = 0,
        blur_sigma: Range = (0.2, 3),
        noise_range: Range = (1, 30),
        poisson_scale_range: Range = (0.05, 3),
        jpeg_range: tuple[Quality, Quality] = (30, 95),
        blur_sigma2: Range = (0.2, 1.5),
        noise_range2: Range = (1, 25),
        poisson_scale_range2: Range = (0.05, 2.5),
        jpeg_range2: tuple[Quality, Quality] = (30, 95),
        sigma_gap: NonNegative = 0.1,
        noise_gap: Range = (1, 21),
        poisson_gap: Range = (0.05, 2.05),
        jpeg_gap: Range = (5, 60),
    ) -> None:
        options = {**locals()}
        for name, value in options.items():
            if isinstance(value, tuple | list) and value[0] > value[1]:
                raise UserError(
                    f"degradation.{name}: {value[0]} is more than {value[1]}; the smaller number comes first"
                )
        drawn = ("blur_sigma", "noise_range", "poisson_scale_range", "jpeg_range")
        both_rounds = {name + key: options[name + key] for key in ("", "2") for name in drawn}
        super().__init__(scale, gt_size, gt_usm, queue_size, **both_rounds)
        self.sigma_gap = sigma_gap
        self.noise_gap = noise_gap
        self.poisson_gap = poisson_gap
        self.jpeg_gap = jpeg_gap

    # ------------------------------------------------------------------------------------------ a batch

    def _degrade(self, plain: torch.Tensor, group: int = 1) -> Degraded:
        """Return the versions of each image, and the ground truth of each image once."""
        if group > 1:
            raise UserError(
                "degradation.type: RankedSecondOrderDegradation degrades each image by itself; training in which "
                "images share a degradation needs another one"
            )
        gt = usm_sharp(plain) if self.gt_usm else plain
        versions = self.versions(gt)
        if self.gt_size is not None:
            (gt, plain), versions = paired_random_crop([gt, plain], versions, self.gt_size, self.scale)
        return Degraded(torch.stack(versions, dim=1).flatten(0, 1), None, gt, plain)

    def _mix(self, new: Degraded, group: int = 1) -> Degraded:
        lq, gt, plain = new.lq.unflatten(0, (-1, self.num_version)), new.gt, new.gt_plain
        if self.pool is not None:
            if self.gt_usm:
                lq, gt, plain = self.pool.exchange(lq, gt, plain)
            else:
                lq, gt = self.pool.exchange(lq, gt)
                plain = gt
        gt, plain = (part.repeat_interleave(self.num_version, dim=0) for part in (gt, plain))
        return Degraded(lq.flatten(0, 1), None, gt, plain)

    def versions(self, gt: torch.Tensor) -> list[torch.Tensor]:
        """Return the five versions of each image; all random numbers come from the global generators.

        Args:
            gt: N x 3 x H x W in [0, 1].

        Returns:
            Mild, more blur, more noise, clean and worst, each N x 3 x H/scale x W/scale in [0, 1], multiples of 1/255.
        """
        small = [side // self.scale for side in gt.shape[-2:]]
        sinc_kernels = torch.from_numpy(np.stack([self._draw_final_sinc() for _ in gt])).to(gt)
        noise_differs = np.random.uniform() < 0.5
        noise_differs2 = not noise_differs or np.random.uniform() < BOTH_DIFFER

        images = self._blurred([gt] * len(BLUR_LEVELS), self.first)
        factors, mode = _draw_factors(self.first)
        images = [F.interpolate(image, scale_factor=factors[i], mode=mode) for image, i in zip(images, BLUR_LEVELS)]
        images = self._noisy(images, self.first, noise_differs)
        images = self._compressed(images, self.first)

        images = self._blurred(images, self.second)
        factor, mode = self.second.draw_resize()
        sides = tuple(int(side / self.scale * factor) for side in gt.shape[-2:])
        images = [F.interpolate(image, size=sides, mode=mode) for image in images]
        images = self._noisy(images, self.second, noise_differs2)

        def resize_back(images: list[torch.Tensor]) -> list[torch.Tensor]:
            mode = random.choice(RESIZE_MODES)
            return [filter2D(F.interpolate(image, size=small, mode=mode), sinc_kernels) for image in images]

        def compress(images: list[torch.Tensor]) -> list[torch.Tensor]:
            return self._compressed(images, self.second)

        for step in (resize_back, compress) if np.random.uniform() < 0.5 else (compress, resize_back):
            images = step(images)
        images.insert(CLEAN, F.interpolate(gt, size=small, mode="bilinear"))
        return [(image * 255.0).round().clamp(0, 255) / 255.0 for image in images]

    def _blurred(self, images: list[torch.Tensor], options: Round) -> list[torch.Tensor]:
        kernels = [draw_kernels(options, self.sigma_gap) for _ in images[0]]
        levels = torch.from_numpy(np.stack(kernels, axis=1)).to(images[0])
        return [filter2D(image, levels[i]) for image, i in zip(images, BLUR_LEVELS)]

    def _noisy(self, images: list[torch.Tensor], options: Round, differs: bool) -> list[torch.Tensor]:
        """Add noise. If it ``differs``, it is stronger in the version with more noise."""
        add: Callable[..., torch.Tensor]
        if np.random.uniform() < options.gaussian_noise_prob:
            add, interval, gap = add_gaussian_noise_pt, options.noise_range, self.noise_gap
        else:
            add, interval, gap = add_poisson_noise_pt, options.poisson_scale_range, self.poisson_gap
        low, high = _draw_pairs(images[0], interval, gap)
        levels: Levels = (low, high if differs else low, torch.full_like(low, interval[1]))
        is_gray = (torch.rand_like(low) < options.gray_noise_prob).to(low)
        return [
            add(image, levels[i], gray_noise=is_gray, clip=True, rounds=False) for image, i in zip(images, NOISE_LEVELS)
        ]

    def _compressed(self, images: list[torch.Tensor], options: Round) -> list[torch.Tensor]:
        low, high = _draw_pairs(images[0], options.jpeg_range, self.jpeg_gap)
        levels: Levels = (high, low, torch.full_like(low, options.jpeg_range[0]))
        jpeg = self.jpeg.to(low.device)
        return [compress_on_device(jpeg, image, levels[i]) for image, i in zip(images, NOISE_LEVELS)]


# ------------------------------------------------------------------------------------------ random numbers


def draw_kernels(options: Round, gap: float) -> np.ndarray:
    """Draw three kernels of the same kind, size, angle and shape, with increasing blur.

    Args:
        options: options of one round of the degradation.
        gap: smallest difference between the standard deviations of the first two kernels, along either axis.

    Returns:
        3 x KERNEL_SIZE x KERNEL_SIZE. The last has the largest standard deviation, or the lowest cut-off frequency.
    """
    if np.random.uniform() < options.sinc_prob:
        size = random.choice(KERNEL_SIZES)
        lowest = np.pi / (3 if size < 13 else 5)
        one, other = np.random.uniform(lowest, np.pi, 2)
        cutoffs = (max(one, other), min(one, other), lowest)
        return np.stack([circular_lowpass_kernel(cutoff, size, pad_to=KERNEL_SIZE) for cutoff in cutoffs])
    low, high = options.blur_sigma
    width = high - low
    # The difference is distributed like that of two numbers of the range that are drawn until they differ by the gap.
    more = np.random.triangular(gap, gap, width) if gap < width else width
    seed = np.random.randint(2**31)
    kernels = []
    for interval in ((low, high - more), (low + more, high), (high, high)):
        with seeded(seed):
            drawn = options._replace(sinc_prob=0.0, blur_sigma=(interval[0], interval[1] + TINY))
            kernels.append(drawn.draw_kernel())
    return np.stack(kernels)


def _draw_factors(options: Round) -> tuple[tuple[float, float, float], str]:
    """Draw the interpolation and the factors of the three levels of blur. The last factor is an end of the range."""
    change = random.choices(("up", "down", "keep"), options.resize_prob)[0]
    end = {"up": options.resize_range[1], "down": options.resize_range[0], "keep": 1.0}[change]
    one, other = np.sort(np.random.uniform(size=2))
    return (1 + one * (end - 1), 1 + other * (end - 1), end), random.choice(RESIZE_MODES)


def _draw_pairs(images: torch.Tensor, interval: Range, gap: Range) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw two numbers of an interval for each of N images. They differ by a number drawn from ``gap``."""
    low, high = interval
    number, more = torch.rand(2, len(images), device=images.device, dtype=images.dtype)
    more = (gap[0] + more * (gap[1] - gap[0])).clamp(max=high - low)
    number = low + number * (high - low - more)
    return number, number + more
