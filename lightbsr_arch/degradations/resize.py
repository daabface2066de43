"""MATLAB-style bicubic resizing, a batch at a time."""

import math
from functools import lru_cache

import torch
from basicsr.utils.matlab_functions import calculate_weights_indices


def bicubic_resize(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Resize with MATLAB's bicubic kernel, antialiased when it shrinks.

    The weights are those of BasicSR's ``imresize``, which takes one image on the CPU and loops over its rows. One thing
    differs: beyond the border the last pixel is repeated, as in the evaluation code of the published blind SR networks
    since DASR, where BasicSR mirrors the image; that moves pixels next to the border by a grey level or so.

    Args:
        images: N x C x H x W on any scale of values.
        scale: of the sides; H * scale and W * scale are rounded up.

    Returns:
        N x C x H*scale x W*scale, neither rounded nor clamped.
    """
    rows, columns = (_resize_matrix(size, scale).to(images) for size in images.shape[-2:])
    return rows @ images @ columns.T


@lru_cache(maxsize=256)
def _resize_matrix(size: int, scale: float) -> torch.Tensor:
    """The linear map from a line of ``size`` pixels to its resized line, out x in."""
    size_out = math.ceil(size * scale - 1e-6)  # 1/3 of a multiple of 3 may come out above a whole number
    weights, indices, padded_before, _ = calculate_weights_indices(
        size, size_out, scale, kernel="cubic", kernel_width=4, antialiasing=True
    )
    source = (indices - padded_before).long().clamp(0, size - 1)
    return torch.zeros(size_out, size).scatter_add_(1, source, weights)
