"""Losses of texture without the smooth areas of an image."""

import torch
from torch.nn import functional as F

SIDE = 11
"""Side in pixels of the window around a pixel that decides whether its area is smooth (Beby-GAN)."""


def with_smooth_areas_of(gt: torch.Tensor, images: torch.Tensor, smallest_std: float) -> torch.Tensor:
    """Return ``images`` with their smooth areas replaced by ``gt``. A loss of the result teaches nothing there.

    A pixel is in a smooth area if the brightness of the 11 x 11 pixels of ``gt`` around it has a standard deviation
    below ``smallest_std``. Source: the region-aware adversarial learning of Beby-GAN (Li et al., AAAI 2022), which sets
    these areas to zero.

    Args:
        gt: ground truth, N x 3 x H x W in [0, 1].
        images: restored images of the same shape.
        smallest_std: smallest standard deviation of texture, of values in [0, 1].
    """
    brightness = gt.float().mean(1, keepdim=True)
    mean, mean_of_squares = (_mean_around(values) for values in (brightness, brightness.square()))
    is_smooth = mean_of_squares - mean.square() < smallest_std**2
    return torch.where(is_smooth, gt.to(images.dtype), images)


def _mean_around(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the window around each pixel, N x 1 x H x W. One pass per axis is faster than one of both."""
    for window in ((SIDE, 1), (1, SIDE)):
        padding = (window[0] // 2, window[1] // 2)
        values = F.avg_pool2d(values, window, stride=1, padding=padding, count_include_pad=False)
    return values
