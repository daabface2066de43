"""Options and random choices of one of the two rounds of the second-order degradation."""

import math
import random
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from basicsr.data.degradations import (
    circular_lowpass_kernel,
    random_add_gaussian_noise_pt,
    random_add_poisson_noise_pt,
    random_mixed_kernels,
)
from msgspec import Meta

from lightbsr_arch.degradations.classical import NonNegative
from lightbsr_arch.degradations.kernels import SMALLEST_ENTRY

Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
Probability = Annotated[float, Meta(ge=0, le=1)]
Quality = Annotated[float, Meta(ge=1, le=100)]
Range = tuple[NonNegative, NonNegative]
Factor = Annotated[float, Meta(gt=0, le=16)]
Factors = tuple[Factor, Factor]
Kernels = Annotated[list[Kernel], Meta(min_length=1)]
Odds = tuple[NonNegative, NonNegative, NonNegative]

KERNELS: list[Kernel] = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNEL_PROB = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
KERNEL_SIZE = 21
"""Side of all kernels. Smaller kernels are padded with zeros."""
KERNEL_SIZES = range(7, KERNEL_SIZE + 1, 2)
RESIZE_MODES = ("area", "bilinear", "bicubic")


class Round(NamedTuple):
    """Options of one of the two rounds, under their names without the 2."""

    kernel_list: list[Kernel]
    kernel_prob: list[float]
    sinc_prob: float
    blur_sigma: Range
    betag_range: Range
    betap_range: Range
    resize_prob: Odds
    resize_range: Factors
    gaussian_noise_prob: float
    noise_range: Range
    poisson_scale_range: Range
    gray_noise_prob: float
    jpeg_range: Range

    def draw_kernel(self) -> np.ndarray:
        """Draw a Gaussian kernel of a random kind or a sinc filter, KERNEL_SIZE x KERNEL_SIZE."""
        size = random.choice(KERNEL_SIZES)
        if np.random.uniform() < self.sinc_prob:
            cutoff = np.random.uniform(np.pi / (3 if size < 13 else 5), np.pi)
            kernel = circular_lowpass_kernel(cutoff, size, pad_to=False)
        else:
            kernel = random_mixed_kernels(
                self.kernel_list,
                self.kernel_prob,
                size,
                self.blur_sigma,
                self.blur_sigma,
                [-math.pi, math.pi],
                self.betag_range,
                self.betap_range,
                noise_range=None,
            )
        padded = np.zeros((KERNEL_SIZE, KERNEL_SIZE))  # faster than np.pad
        border = (KERNEL_SIZE - size) // 2
        padded[border : border + size, border : border + size] = kernel
        padded[np.abs(padded) < SMALLEST_ENTRY] = 0
        return padded

    def draw_resize(self) -> tuple[float, str]:
        """Draw the factor and the interpolation of a resize."""
        change = random.choices(("up", "down", "keep"), self.resize_prob)[0]
        factor = 1.0
        if change == "up":
            factor = np.random.uniform(1, self.resize_range[1])
        elif change == "down":
            factor = np.random.uniform(self.resize_range[0], 1)
        return factor, random.choice(RESIZE_MODES)

    def add_noise(self, images: torch.Tensor) -> torch.Tensor:
        if np.random.uniform() < self.gaussian_noise_prob:
            add, levels = random_add_gaussian_noise_pt, self.noise_range
        else:
            add, levels = random_add_poisson_noise_pt, self.poisson_scale_range
        out: torch.Tensor = add(images, levels, gray_prob=self.gray_noise_prob, clip=True, rounds=False)
        return out
