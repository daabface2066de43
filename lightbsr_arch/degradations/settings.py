"""The test degradations of the published tables, by name."""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import torch

from lightbsr.defaults import NAMED_SETTINGS
from lightbsr.errors import UserError
from lightbsr_arch.degradations.classical import Degraded, Downsample, NonNegative, Parameters, degrade
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.jpeg import compress
from lightbsr_arch.degradations.kernels import gaussian_kernels
from lightbsr_arch.degradations.second_order import SecondOrderDegradation


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One test degradation: a Gaussian blur, a noise level and JPEG compression, in this order.

    Attributes:
        sigma: standard deviations of the blur along its axes, in pixels; one number for an isotropic blur, 0 for none.
        theta: angle of the first axis, in degrees.
        noise: standard deviation of the noise on the 8-bit scale.
        jpeg: quality, 1 to 100; None for no compression.
    """

    # The number has no bounds, because a bounded number in a union with a tuple corrupts memory in msgspec 0.22.
    sigma: float | tuple[float, float]
    theta: float = 0.0
    noise: NonNegative = 0.0
    jpeg: int | None = None

    def __post_init__(self) -> None:
        if min(self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)) < 0:
            raise ValueError(f"sigma is at least 0, not {self.sigma}")
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise ValueError(f"jpeg is a quality from 1 to 100, not {self.jpeg}")

    @property
    def name(self) -> str:
        """Return the name in files and logs, such as "sigma1.8" or "sigma3.5x1.5_theta30_noise10_jpeg60"."""
        if isinstance(self.sigma, tuple):
            x, y = (f"{sigma:.1f}" if sigma == round(sigma, 1) else f"{sigma:g}" for sigma in self.sigma)
            name = f"sigma{x}x{y}_theta{self.theta:g}"
        else:
            name = f"sigma{self.sigma:g}"
        name += f"_noise{self.noise:g}" if self.noise else ""
        return name if self.jpeg is None else f"{name}_jpeg{self.jpeg}"

    @property
    def random(self) -> bool:
        """Return whether the degradation is random."""
        return self.noise > 0

    def parameters(self) -> Parameters:
        """Return kernel and noise level as a batch of one, on the CPU."""
        sigma_x, sigma_y = self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)
        x, y, theta = torch.tensor([[sigma_x], [sigma_y], [math.radians(self.theta)]])
        return Parameters(gaussian_kernels(x, y, theta), torch.tensor([self.noise]))

    def degrade(self, gt: torch.Tensor, scale: int, downsample: Downsample, draws: Draws) -> Degraded:
        """Degrade all images, N x 3 x H x W in [0, 1], with this setting."""
        parameters = Parameters(*(part.expand(len(gt), *part.shape[1:]) for part in self.parameters()))
        lq = degrade(gt, parameters, scale, downsample, draws)
        if self.jpeg is not None:
            lq = compress(lq, self.jpeg)
        return Degraded(lq, parameters, gt, gt)


class SecondOrderSetting:
    """Real-ESRGAN's degradation, drawn once per image. Its name is "second-order"."""

    name = "second-order"
    random = True

    def degrade(self, gt: torch.Tensor, scale: int, downsample: Downsample, draws: Draws) -> Degraded:
        """Degrade one image, 1 x 3 x H x W in [0, 1]. ``downsample`` is ignored; the interpolation is drawn."""
        return SecondOrderDegradation(scale)(gt, draws)


class FixedSecondOrder:
    """Real-ESRGAN's degradation with the blurs, noise levels and JPEG qualities of one draw, and without resizing.

    Degraded versions of an image then differ only in the noise itself and in the interpolation of the downsampling.

    Args:
        seed: seed of the draw.
    """

    random = True

    def __init__(self, seed: int) -> None:
        self.name = f"second-order{seed}"
        drawn = Random(seed)

        def fixed(low: float, high: float) -> tuple[float, float]:
            value = drawn.uniform(low, high)
            return value, math.nextafter(value, math.inf)  # BasicSR does not accept an empty range

        def flag() -> float:
            return float(drawn.random() < 0.5)

        self._options: dict[str, Any] = {}
        for key, sigma, noise, poisson in (("", 3, 30, 3), ("2", 1.5, 25, 2.5)):
            self._options |= {
                f"kernel_list{key}": ["iso"],
                f"kernel_prob{key}": [1],
                f"sinc_prob{key}": 0,
                f"blur_sigma{key}": fixed(0.2, sigma),
                f"resize_prob{key}": (0, 0, 1),
                f"gaussian_noise_prob{key}": flag(),
                f"noise_range{key}": fixed(1, noise),
                f"poisson_scale_range{key}": fixed(0.05, poisson),
                f"gray_noise_prob{key}": flag(),
                f"jpeg_range{key}": fixed(30, 95),
            }
        self._options |= {"second_blur_prob": 1, "final_sinc_prob": 0}

    def degrade(self, gt: torch.Tensor, scale: int, downsample: Downsample, draws: Draws) -> Degraded:
        """Degrade images, N x 3 x H x W in [0, 1]. ``downsample`` is ignored; the interpolation is drawn."""
        return SecondOrderDegradation(scale, **self._options)(gt, draws)


# Isotropic Gaussian8 (IKC, CVPR 2019): eight widths, evenly spaced.
_GAUSSIAN8_START_STEP = {2: (0.9, 0.1), 3: (1.35, 0.15), 4: (1.8, 0.2)}

# DASR (CVPR 2021), table 2.
_SETTING1_SIGMAS = {2: (0.0, 0.6, 1.2, 1.8), 3: (0.0, 0.8, 1.6, 2.4), 4: (0.0, 1.2, 2.4, 3.6)}

# DASR, table 3: sigma along the axes, and the angle in degrees. KDSR's table 2 and MRDA use other kernels.
_SETTING2_KERNELS = (
    ((2.0, 0.5), 0),
    ((2.0, 1.0), 10),
    ((3.5, 1.5), 30),
    ((3.5, 2.0), 45),
    ((3.5, 2.0), 90),
    ((4.0, 1.5), 120),
    ((4.0, 2.0), 135),
    ((4.0, 3.0), 165),
    ((4.0, 4.0), 180),
)
_SETTING2_NOISE = (0, 5, 10)


def named_settings(settings: str | Sequence[Setting], scale: int) -> list[Setting]:
    """Return the test degradations of a name, in the order of the published tables. A list is returned unchanged.

    Args:
        settings: "bicubic" (no blur), "gaussian8", "setting1" (isotropic), "setting2" (anisotropic with noise).
        scale: 2, 3 or 4. Gaussian8 and setting 1 depend on it.

    Raises:
        UserError: no degradation has this name, or it is not defined for this scale.
    """
    if not isinstance(settings, str):
        return list(settings)
    if settings == "bicubic":
        return [Setting(sigma=0.0)]
    if settings in ("gaussian8", "setting1") and scale not in _GAUSSIAN8_START_STEP:
        raise UserError(f"{settings} is defined for scale 2, 3 and 4, not {scale}")
    if settings == "gaussian8":
        start, step = _GAUSSIAN8_START_STEP[scale]
        return [Setting(sigma=round(start + i * step, 2)) for i in range(8)]
    if settings == "setting1":
        return [Setting(sigma=sigma) for sigma in _SETTING1_SIGMAS[scale]]
    if settings == "setting2":
        return [
            Setting(sigma=sigma, theta=theta, noise=noise)
            for noise in _SETTING2_NOISE
            for sigma, theta in _SETTING2_KERNELS
        ]
    raise UserError(f"{settings!r} is not the name of a test degradation; use one of {', '.join(NAMED_SETTINGS[:-1])}")
