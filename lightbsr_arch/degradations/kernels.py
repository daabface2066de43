"""Gaussian blur kernels in batches."""

import torch

# Below this standard deviation (in pixels) a kernel is one pixel, even in double precision.
_SMALLEST_SIGMA = 0.01
KERNEL_SIZE = 21
"""Side of the kernels of test images, and of training unless its options name another."""
SMALLEST_ENTRY = 1e-30
"""Smaller entries of a kernel become 0. They change no pixel, but a CPU takes much longer for denormal numbers."""


def gaussian_kernels(
    sigma_x: torch.Tensor, sigma_y: torch.Tensor, theta: torch.Tensor, kernel_size: int = KERNEL_SIZE
) -> torch.Tensor:
    """Compute one normalised Gaussian kernel per sample, on the device of the arguments.

    The values are those of ``basicsr.data.degradations.bivariate_Gaussian``, which computes one kernel per call on the
    CPU and does not support sigma 0 (no blur).

    Args:
        sigma_x: standard deviations along the first axis, in pixels; N, at least 0.
        sigma_y: standard deviations along the second axis; equal to ``sigma_x`` for isotropic kernels.
        theta: angles of the first axis, in radians; N.
        kernel_size: side of the kernels, odd.

    Returns:
        N x kernel_size x kernel_size, each kernel with sum 1.
    """
    radius = kernel_size // 2
    axis = torch.arange(-radius, radius + 1, device=theta.device, dtype=theta.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = theta.cos()[:, None, None], theta.sin()[:, None, None]
    along = (x * cos + y * sin) / sigma_x.clamp(min=_SMALLEST_SIGMA)[:, None, None]
    across = (y * cos - x * sin) / sigma_y.clamp(min=_SMALLEST_SIGMA)[:, None, None]
    kernels = torch.exp(-0.5 * (along.square() + across.square()))
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    return torch.where(kernels < SMALLEST_ENTRY, 0, kernels)
