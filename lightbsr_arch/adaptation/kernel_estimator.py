"""The network that estimates the blur kernel of a low-quality image."""

from pathlib import Path

import torch
from torch import nn

from lightbsr.shipped import folder
from lightbsr_arch.archs.kdide_arch import KDIDEStudent
from lightbsr_arch.io import open_arrays, write_arrays

FILE = "kernel_estimator.npz"
SCALE = 4
"""The scale of the low-quality images that the shipped weights were trained on."""
KERNEL_SIZE = 21


def sigmas(kernels: torch.Tensor) -> torch.Tensor:
    """Return the widths of kernels, N x 21 x 21, along their two axes: N x 2, in pixels, the smaller first."""
    position = torch.arange(KERNEL_SIZE, device=kernels.device) - KERNEL_SIZE // 2.0
    y, x = torch.meshgrid(position, position, indexing="ij")
    xx, xy, yy = ((kernels * product).sum(dim=(1, 2)) for product in (x * x, x * y, y * y))
    covariance = torch.stack([xx, xy, xy, yy], dim=1).view(-1, 2, 2)
    widths: torch.Tensor = torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt()
    return widths


class KernelEstimator(KDIDEStudent):
    """KDIDE's layers, with a blur kernel in place of the IDR.

    Args:
        num_feat: channels of the first convolution.
        num_block: number of residual blocks.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to kernels (N x 441), which are positive and have the sum 1. They blur the
    ground truth, so their pixels are those of the SR image.
    """

    def __init__(self, num_feat: int = 32, num_block: int = 2) -> None:
        super().__init__(num_feat=num_feat, num_block=num_block)
        self.to_idr = nn.Sequential(nn.Linear(4 * num_feat, KERNEL_SIZE**2), nn.Softmax(dim=1))

    @torch.no_grad()
    def kernel(self, lq: torch.Tensor, rows: int = 256) -> torch.Tensor:
        """Return the kernel of an image of any size, 1 x 3 x H x W, as 21 x 21. ``rows`` limits the memory."""
        kernel = self.estimate_in_strips(lq, min(rows, lq.shape[2]), lambda share: None)
        return kernel.reshape(KERNEL_SIZE, KERNEL_SIZE)

    def save(self, path: Path) -> None:
        """Write the weights in half precision; the file appears whole or not at all."""
        write_arrays(path, {key: value.half().numpy() for key, value in self.state_dict().items()})

    @classmethod
    def load(cls, path: Path | None = None) -> "KernelEstimator":
        """Read a file of `save`, by default the shipped one.

        Raises:
            UserError: the file is missing or damaged.
        """
        model = cls()
        advice = "benchmarks/fit_kernel_estimator.py makes it"
        with open_arrays(path or folder() / FILE, "kernel estimator", advice) as arrays:
            model.load_state_dict({key: torch.from_numpy(value).float() for key, value in arrays.items()})
        return model.eval()
