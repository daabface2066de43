"""The classical degradation of blind SR: blur, downsampling, noise, rounding to 8 bit.

DASR (CVPR 2021), KDSR (ICLR 2023) and LightBSR (ICCV 2025) use it. The settings of their tables are in ``settings``.
"""

import math
from typing import Annotated, Literal, NamedTuple, Protocol

import torch
from basicsr.utils.img_process_util import filter2D
from msgspec import Meta

from lightbsr.errors import UserError
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.kernels import gaussian_kernels
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY
from lightbsr_arch.degradations.resize import bicubic_resize

Downsample = Literal["bicubic", "s-fold"]
NonNegative = Annotated[float, Meta(ge=0)]


class Parameters(NamedTuple):
    """The degradation of each sample of a batch.

    Attributes:
        kernel: blur kernels, N x K x K.
        noise: standard deviations of the noise on the 8-bit scale, N.
    """

    kernel: torch.Tensor
    noise: torch.Tensor

    def to(self, device: torch.device) -> "Parameters":
        return Parameters(*(tensor.to(device) for tensor in self))


class Degraded(NamedTuple):
    """Low-quality images and their ground truth.

    Attributes:
        lq: N x 3 x H/scale x W/scale in [0, 1], 8-bit rounded.
        parameters: kernel and noise level of each sample, or None if they do not describe the degradation.
        gt: N x 3 x H x W in [0, 1], the ground truth of ``lq``, which may be a crop or sharpened version of the input.
        gt_plain: the ground truth before any sharpening.
    """

    lq: torch.Tensor
    parameters: Parameters | None
    gt: torch.Tensor
    gt_plain: torch.Tensor


class Degradation(Protocol):
    """The interface of degradations that models use."""

    def __call__(self, gt: torch.Tensor, draws: Draws) -> Degraded: ...


def degrade(
    gt: torch.Tensor,
    parameters: Parameters,
    scale: int,
    downsample: Downsample = "bicubic",
    draws: Draws | None = None,
    noisy: bool | None = None,
) -> torch.Tensor:
    """Blur with reflected borders, downsample, add noise, round to 8 bit.

    Args:
        gt: N x 3 x H x W in [0, 1]; H and W multiples of ``scale``, larger than half a kernel.
        parameters: kernel and noise level of each sample.
        scale: downsampling factor.
        downsample: "bicubic" (as in MATLAB), or "s-fold": every ``scale``-th pixel, starting with the first.
        draws: draws of the noise, required if ``parameters`` has noise. With a CPU generator, the noise is the same on
            every machine.
        noisy: whether ``parameters`` has noise. By default the noise levels are read, for which the host waits.

    Returns:
        N x 3 x H/scale x W/scale in [0, 1], multiples of 1/255.

    Raises:
        UserError: H or W is too small.
    """
    side, half = min(gt.shape[-2:]), parameters.kernel.shape[-1] // 2
    if side <= half:
        raise UserError(f"{side} pixels are too few for this blur: give images of at least {half + 1}")
    # `filter2D` has one kernel per sample. It reflects without the edge pixel, as `cv2.filter2D`.
    blurred = filter2D(gt, parameters.kernel)
    small = bicubic_resize(blurred, 1 / scale) if downsample == "bicubic" else blurred[..., ::scale, ::scale]
    small = small * 255
    if parameters.noise.any() if noisy is None else noisy:
        if draws is None:
            raise ValueError("noise needs random numbers: pass draws")
        small = small + draws.noise(small.shape).to(small) * parameters.noise.view(-1, 1, 1, 1)
    return small.round().clamp(0, 255) / 255


@DEGRADATION_REGISTRY.register()
class ClassicalDegradation:
    """Degrades images with Gaussian blur kernels and noise levels that are drawn per sample or per batch.

    Args:
        scale: downsampling factor.
        kernel: "iso" for one standard deviation, or "aniso" for one per axis and an angle in [0, pi).
        sigma: range of the standard deviations, in pixels.
        noise: range of the noise's standard deviation, on the 8-bit scale; (0, 0) for no noise.
        kernel_size: side of the blur kernels, odd.
        downsample: "bicubic" or "s-fold".
        per: "sample" for a kernel and noise level per sample, as in the code of DASR and LightBSR, or "batch" for one
            per training step, in all processes, as in KDSR's code.

    Setting 1 of the papers: iso, sigma (0.2, 4.0), no noise. Setting 2: aniso, sigma (0.2, 4.0), noise (0, 25).
    """

    def __init__(
        self,
        scale: int,
        kernel: Literal["iso", "aniso"] = "iso",
        sigma: tuple[NonNegative, NonNegative] = (0.2, 4.0),
        noise: tuple[NonNegative, NonNegative] = (0.0, 0.0),
        kernel_size: Annotated[int, Meta(ge=1, le=255)] = 21,
        downsample: Downsample = "bicubic",
        per: Literal["sample", "batch"] = "sample",
    ) -> None:
        if kernel_size % 2 == 0:
            raise UserError(f"degradation.kernel_size: {kernel_size} is even; choose an odd number")
        self.scale = scale
        self.kernel = kernel
        self.sigma = sigma
        self.noise = noise
        self.kernel_size = kernel_size
        self.downsample = downsample
        self.per = per

    def sample(self, n: int, draws: Draws) -> Parameters:
        """Draw one degradation per sample for ``n`` samples, even with ``per: batch``, on the generator's device."""

        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * draws.uniform(n)

        sigma_x = uniform(*self.sigma)
        if self.kernel == "iso":
            sigma_y, theta = sigma_x, torch.zeros_like(sigma_x)
        else:
            sigma_y, theta = uniform(*self.sigma), uniform(0, math.pi)
        return Parameters(gaussian_kernels(sigma_x, sigma_y, theta, self.kernel_size), uniform(*self.noise))

    def __call__(self, gt: torch.Tensor, draws: Draws) -> Degraded:
        """Degrade ``gt``, N x 3 x H x W in [0, 1]. The result is determined by the generator of ``draws``."""
        if self.per == "sample":
            parameters = self.sample(len(gt), draws)
        else:  # the generators of all processes have the same state, so all draw the same
            kernel, noise = self.sample(1, Draws(draws.generator))
            parameters = Parameters(kernel.repeat(len(gt), 1, 1), noise.repeat(len(gt)))
        parameters = parameters.to(gt.device)
        lq = degrade(gt, parameters, self.scale, self.downsample, draws, noisy=any(self.noise))
        return Degraded(lq, parameters, gt, gt)
