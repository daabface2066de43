"""The two forms of a degradation representation (IDR), and the conversions between them.

An IDR is a vector for the whole image, N x C (KDSR), or a map, N x C x H/4 x W/4 (LightBSR). A vector is converted to a
constant map, and a map to the vector of its means. A restorer therefore accepts both forms with the right number of
channels.
"""

import torch

MAP_STRIDE = 4
"""Pixels of the low-quality image per element of an IDR map, along each axis."""


def as_vector(idr: torch.Tensor) -> torch.Tensor:
    """Return the mean of an IDR map, N x C. A vector is returned unchanged."""
    return idr if idr.dim() == 2 else idr.mean(dim=(2, 3))


def as_map(idr: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Repeat a vector for an image of that size, N x C x H/4 x W/4, rounded up. A map is returned unchanged."""
    if idr.dim() == 4:
        return idr
    rows, columns = ((side + MAP_STRIDE - 1) // MAP_STRIDE for side in (height, width))  # ONNX rounds towards zero
    return idr[:, :, None, None].expand(-1, -1, rows, columns)
