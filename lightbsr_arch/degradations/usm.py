"""Unsharp masking, as Real-ESRGAN sharpens its ground truth."""

from functools import lru_cache

import cv2
import torch
from torch.nn import functional as F

RADIUS = 51
"""Side of the Gaussian, in pixels. OpenCV derives the standard deviation from it."""


def usm_sharp(images: torch.Tensor, weight: float = 0.5, threshold: float = 10) -> torch.Tensor:
    """Return the result of BasicSR's ``USMSharp``, computed with a 1-D Gaussian per axis instead of one of 51 x 51.

    Args:
        images: N x C x H x W in [0, 1]; H and W larger than 25.
        weight: factor of the difference between the image and its blurred version.
        threshold: differences below it, on the 8-bit scale, are not amplified.
    """
    residual = images - _blur(images)
    mask = _blur((residual.abs() * 255 > threshold).to(images))
    sharp = (images + weight * residual).clamp(0, 1)
    return mask * sharp + (1 - mask) * images


def _blur(images: torch.Tensor) -> torch.Tensor:
    rows, columns = (_blur_matrix(side).to(images) for side in images.shape[-2:])
    return rows @ images @ columns.T


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # later calls may need gradients
def _blur_matrix(size: int) -> torch.Tensor:
    """Return the linear map from a line of ``size`` pixels, reflected at its ends, to the blurred line."""
    kernel = torch.from_numpy(cv2.getGaussianKernel(RADIUS, 0)).view(1, 1, -1)
    lines = F.pad(torch.eye(size, dtype=kernel.dtype)[:, None], (RADIUS // 2, RADIUS // 2), mode="reflect")
    return F.conv1d(lines, kernel)[:, 0].T.float()
