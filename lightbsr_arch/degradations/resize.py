"""MATLAB-style bicubic resizing in batches."""

import math
from functools import lru_cache

import torch
from basicsr.utils.matlab_functions import calculate_weights_indices


def bicubic_resize(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Resize with MATLAB's bicubic kernel, with antialiasing when it shrinks.

    The weights are those of BasicSR's ``imresize``, which processes one image on the CPU and loops over its rows. The
    border is different. This function repeats the last pixel, as the evaluation code of blind SR networks does since
    DASR. BasicSR mirrors the image. Pixels next to the border differ by about one grey level.

    Args:
        images: N x C x H x W with any range of values.
        scale: factor of the sides; H * scale and W * scale are rounded up.

    Returns:
        N x C x H*scale x W*scale, neither rounded nor clamped.
    """
    rows, columns = (_resize_matrix(size, scale).to(images) for size in images.shape[-2:])
    return rows @ images @ columns.T


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # later calls may need gradients
def _resize_matrix(size: int, scale: float) -> torch.Tensor:
    """Return the linear map from a line of ``size`` pixels to the resized line, out x in."""
    size_out = math.ceil(size * scale - 1e-6)  # 1/3 of a multiple of 3 may exceed a whole number by rounding
    weights, indices, padded_before, _ = calculate_weights_indices(
        size, size_out, scale, kernel="cubic", kernel_width=4, antialiasing=True
    )
    source = (indices - padded_before).long().clamp(0, size - 1)
    return torch.zeros(size_out, size).scatter_add_(1, source, weights)
