"""The two forms of a degradation representation (IDR), and the way from each to the other.

An IDR describes a whole image with a vector, N x C (KDSR), or every place of it with a map, N x C x H/4 x W/4
(LightBSR). A vector is a map that is the same everywhere, and the mean of a map is a vector; so a restorer takes
either, provided that it has as many channels.
"""

import torch

MAP_STRIDE = 4
"""Pixels of the low-quality image, along a side, that one place of an IDR map stands for."""


def as_vector(idr: torch.Tensor) -> torch.Tensor:
    """N x C: an IDR map's mean; a vector passes unchanged."""
    return idr if idr.dim() == 2 else idr.mean(dim=(2, 3))


def as_map(idr: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """N x C x H/4 x W/4, rounded up: a vector repeated over an image of that size; a map passes unchanged."""
    if idr.dim() == 4:
        return idr
    rows, columns = (-(-side // MAP_STRIDE) for side in (height, width))
    return idr[:, :, None, None].expand(-1, -1, rows, columns)
