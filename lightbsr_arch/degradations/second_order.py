"""The second-order degradation of real photos: blur, resize, noise and JPEG, twice, then a sinc filter.

Real-ESRGAN (ICCVW 2021) describes it in section 3 and figure 2. BSRGAN (ICCV 2021) describes its version, with shuffled
steps, in section 3. Kernels, noise, JPEG and sharpening are BasicSR's.
"""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from basicsr.data.degradations import circular_lowpass_kernel
from basicsr.data.transforms import paired_random_crop
from basicsr.utils import DiffJPEG
from basicsr.utils.img_process_util import filter2D
from msgspec import Meta
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.degradations.classical import Degraded, NonNegative
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.jpeg import compress_on_device
from lightbsr_arch.degradations.pair_pool import PairPool, Pooled
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY
from lightbsr_arch.degradations.second_order_round import (
    KERNEL_PROB,
    KERNEL_SIZE,
    KERNEL_SIZES,
    KERNELS,
    RESIZE_MODES,
    Factors,
    Kernels,
    Odds,
    Probability,
    Quality,
    Range,
    Round,
)
from lightbsr_arch.degradations.usm import RADIUS, usm_sharp
from lightbsr_arch.seeds import derive_seed, seeded


@DEGRADATION_REGISTRY.register()
class SecondOrderDegradation(Pooled):
    """Real-ESRGAN's degradation of photos in two rounds, or BSRGAN's. Options with a 2 belong to the second round.

    With the same random choices, the result equals that of BasicSR's ``RealESRNetModel``. Each sample has its own
    kernels, noise levels and JPEG qualities. All samples of a batch have the same kinds of noise, the same resizing and
    the same position of the crop. ``queue_size`` therefore mixes the pairs of many batches. The degradation returns no
    ``Parameters``, so teachers that need a kernel cannot be trained with it.

    Args:
        scale: size of gt divided by that of lq.
        gt_size: side of the final crop in ground-truth pixels; null for no crop. Data sets provide larger images,
            because blur affects their borders.
        gt_usm: sharpen the ground truth first, by unsharp masking.
        queue_size: number of pairs in the pool that mixes batches, rounded up to whole batches; 0 for no pool.
        order: "fixed" for Real-ESRGAN's order of steps, or "shuffled" for BSRGAN's, in which only resizing and the last
            JPEG have fixed positions.
        kernel_list: kinds of blur kernels.
        kernel_prob: relative probabilities of these kinds.
        sinc_prob: probability of a sinc filter instead of a blur kernel.
        blur_sigma: standard deviations of the blur, in pixels.
        betag_range: shapes of generalised Gaussian kernels.
        betap_range: shapes of plateau kernels.
        resize_prob: relative probabilities of enlarging, shrinking and keeping the size.
        resize_range: smallest and largest factor of a resize.
        gaussian_noise_prob: probability of Gaussian noise; otherwise the noise is Poisson noise.
        noise_range: standard deviations of Gaussian noise, on the 8-bit scale.
        poisson_scale_range: factors of Poisson noise.
        gray_noise_prob: probability of noise that is equal in all channels.
        jpeg_range: JPEG qualities.
        second_blur_prob: probability of a blur in the second round.
        final_sinc_prob: probability of the sinc filter at the end.

    The defaults are Real-ESRGAN's, except for ``gt_size``, ``gt_usm`` and ``queue_size``, where Real-ESRGAN has 256,
    true and 180.
    """

    def __init__(
        self,
        scale: int,
        gt_size: Annotated[int, Meta(ge=8)] | None = None,
        gt_usm: bool = False,
        queue_size: Annotated[int, Meta(ge=0, le=65536)] = 0,
        order: Literal["fixed", "shuffled"] = "fixed",
        kernel_list: Kernels = KERNELS,
        kernel_prob: list[NonNegative] = KERNEL_PROB,
        sinc_prob: Probability = 0.1,
        blur_sigma: Range = (0.2, 3),
        betag_range: Range = (0.5, 4),
        betap_range: Range = (1, 2),
        resize_prob: Odds = (0.2, 0.7, 0.1),
        resize_range: Factors = (0.15, 1.5),
        gaussian_noise_prob: Probability = 0.5,
        noise_range: Range = (1, 30),
        poisson_scale_range: Range = (0.05, 3),
        gray_noise_prob: Probability = 0.4,
        jpeg_range: tuple[Quality, Quality] = (30, 95),
        second_blur_prob: Probability = 0.8,
        kernel_list2: Kernels = KERNELS,
        kernel_prob2: list[NonNegative] = KERNEL_PROB,
        sinc_prob2: Probability = 0.1,
        blur_sigma2: Range = (0.2, 1.5),
        betag_range2: Range = (0.5, 4),
        betap_range2: Range = (1, 2),
        resize_prob2: Odds = (0.3, 0.4, 0.3),
        resize_range2: Factors = (0.3, 1.2),
        gaussian_noise_prob2: Probability = 0.5,
        noise_range2: Range = (1, 25),
        poisson_scale_range2: Range = (0.05, 2.5),
        gray_noise_prob2: Probability = 0.4,
        jpeg_range2: tuple[Quality, Quality] = (30, 95),
        final_sinc_prob: Probability = 0.8,
    ) -> None:
        options = {**locals()}
        if gt_size is not None and gt_size % scale:
            raise UserError(f"degradation.gt_size: {gt_size} is not a multiple of the scale, {scale}")
        for key, kinds, odds in (("", kernel_list, kernel_prob), ("2", kernel_list2, kernel_prob2)):
            if len(kinds) != len(odds):
                raise UserError(f"degradation.kernel_prob{key}: {len(odds)} numbers for {len(kinds)} kernels")
            for name in (f"kernel_prob{key}", f"resize_prob{key}"):
                if not sum(options[name]):
                    raise UserError(f"degradation.{name}: all odds are 0")
        self.scale = scale
        self.gt_size = gt_size
        self.gt_usm = gt_usm
        self.order = order
        self.second_blur_prob = second_blur_prob
        self.final_sinc_prob = final_sinc_prob
        self.first, self.second = (Round(*(options[name + key] for name in Round._fields)) for key in ("", "2"))
        self.jpeg = DiffJPEG(differentiable=False)
        self.pool = PairPool(queue_size) if queue_size else None

    # ------------------------------------------------------------------------------------------ a batch

    @torch.no_grad()
    def __call__(self, gt: torch.Tensor, draws: Draws) -> Degraded:
        """Degrade ``gt``, N x 3 x H x W in [0, 1]. The result is determined by the generator of ``draws``.

        Processes that share a batch draw independently. Images of a group are degraded side by side as one image. They
        therefore share all random choices except the noise itself. Blur mixes them near their common border.

        Raises:
            UserError: ``gt`` is too small to be degraded.
        """
        self._check_size(gt)
        generator = draws.generator
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        with seeded(derive_seed(int(seed), draws.rank), gt.device):
            return self._mix(self._degrade(gt, draws.group), draws.group)

    def _degrade(self, plain: torch.Tensor, group: int = 1) -> Degraded:
        kernels = self.draw_kernels(len(plain) // group, plain.device)
        gt = usm_sharp(plain) if self.gt_usm else plain
        lq = _apart(self.degrade(_side_by_side(gt, group), *kernels), group)
        if self.gt_size is not None:
            (gt, plain), lq = paired_random_crop([gt, plain], lq, self.gt_size, self.scale)
        return Degraded(lq.contiguous(), None, gt, plain)

    def _mix(self, new: Degraded, group: int = 1) -> Degraded:
        return self.mix(new, group, self.gt_usm)

    def draw_kernels(self, n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw the blur kernels of both rounds and the last sinc filters, each n x KERNEL_SIZE x KERNEL_SIZE."""
        each = [(self.first.draw_kernel(), self.second.draw_kernel(), self._draw_final_sinc()) for _ in range(n)]
        first, second, final = (
            torch.from_numpy(np.stack(kernels)).float().to(device, non_blocking=True) for kernels in zip(*each)
        )
        return first, second, final

    def _draw_final_sinc(self) -> np.ndarray:
        if np.random.uniform() < self.final_sinc_prob:
            size = random.choice(KERNEL_SIZES)
            kernel: np.ndarray = circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi), size, pad_to=KERNEL_SIZE)
            return kernel
        pulse = np.zeros((KERNEL_SIZE, KERNEL_SIZE))
        pulse[KERNEL_SIZE // 2, KERNEL_SIZE // 2] = 1
        return pulse

    def degrade(
        self, gt: torch.Tensor, kernel1: torch.Tensor, kernel2: torch.Tensor, sinc_kernel: torch.Tensor
    ) -> torch.Tensor:
        """Degrade with given kernels. All other random numbers come from the global generators.

        Args:
            gt: N x 3 x H x W in [0, 1].
            kernel1: blur kernels of the first round, N x K x K.
            kernel2: blur kernels of the second round, N x K x K.
            sinc_kernel: last sinc filters, N x K x K.

        Returns:
            N x 3 x H/scale x W/scale in [0, 1], multiples of 1/255.
        """
        height, width = (side // self.scale for side in gt.shape[-2:])

        def resize1(out: torch.Tensor) -> torch.Tensor:
            factor, mode = self.first.draw_resize()
            return F.interpolate(out, scale_factor=factor, mode=mode)

        def blur2(out: torch.Tensor) -> torch.Tensor:
            return filter2D(out, kernel2) if np.random.uniform() < self.second_blur_prob else out

        def resize2(out: torch.Tensor) -> torch.Tensor:
            factor, mode = self.second.draw_resize()
            sides = (side / self.scale * factor for side in gt.shape[-2:])
            return F.interpolate(out, size=tuple(map(int, sides)), mode=mode)

        def resize_back(out: torch.Tensor) -> torch.Tensor:
            mode = random.choice(RESIZE_MODES)
            result: torch.Tensor = filter2D(F.interpolate(out, size=(height, width), mode=mode), sinc_kernel)
            return result

        blur1 = partial(filter2D, kernel=kernel1)
        jpeg1, jpeg2 = (partial(self._compress, options=options) for options in (self.first, self.second))
        steps: list[Callable[[torch.Tensor], torch.Tensor]]
        steps = [blur1, resize1, self.first.add_noise, jpeg1, blur2, resize2, self.second.add_noise]
        if self.order == "shuffled":
            random.shuffle(steps)
            # The second resizing has a fixed output size. If it came first, the other resizing would make the image too
            # small.
            one, other = sorted((steps.index(resize1), steps.index(resize2)))
            steps[one], steps[other] = resize1, resize2
        out = gt
        for step in steps:
            out = step(out)
        for step in (resize_back, jpeg2) if np.random.uniform() < 0.5 else (jpeg2, resize_back):
            out = step(out)
        return (out * 255.0).round().clamp(0, 255) / 255.0

    def _compress(self, images: torch.Tensor, options: Round) -> torch.Tensor:
        quality = images.new_zeros(len(images)).uniform_(*options.jpeg_range)
        return compress_on_device(self.jpeg.to(images.device), images, quality)

    def _check_size(self, gt: torch.Tensor) -> None:
        """Raise `UserError` if a side does not exceed the half kernel that a blur reflects at each border."""
        side = min(gt.shape[-2:])
        smallest = min(side * min(self.first.resize_range[0], 1), side // self.scale)
        if self.order == "shuffled":
            smallest = min(smallest, side / self.scale * min(self.second.resize_range[0], 1))
        least = max(math.ceil(side / smallest * (KERNEL_SIZE // 2 + 1)), self.gt_size or 0)
        if self.gt_usm:
            least = max(least, RADIUS // 2 + 1)
        if side < least:
            raise UserError(
                f"{side} pixels are too few for the second-order degradation: give images of at least {least} (in "
                "training, datasets.train.gt_size)"
            )


def _side_by_side(images: torch.Tensor, group: int) -> torch.Tensor:
    """Join each ``group`` neighbours, N x 3 x H x W, to one image, N/group x 3 x H x group*W."""
    out: torch.Tensor = images.unflatten(0, (-1, group)).permute(0, 2, 3, 1, 4).flatten(3)
    return out


def _apart(images: torch.Tensor, group: int) -> torch.Tensor:
    """Undo ``_side_by_side``."""
    out: torch.Tensor = images.unflatten(3, (group, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    return out
