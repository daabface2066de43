"""Padding for BasicSR's SwinIR, which accepts only images whose sides are multiples of its window."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def upscale_any_size(net: nn.Module, lq: torch.Tensor, *extra: Any) -> torch.Tensor:
    """Run a network. For one that works in windows, the image is padded and the padding cut off the result.

    Args:
        net: upscales N x 3 x H x W by a whole number.
        lq: N x 3 x H x W; the right and bottom are reflected, as BasicSR's SwinIRModel does, and repeated at the edge
            where an image is too small for that.
        extra: the extra input, if the network has one.
    """
    height, width = lq.shape[-2:]
    window = _window_size(net)
    bottom, right = -height % window, -width % window
    if not (bottom or right):
        out: torch.Tensor = net(lq, *extra)
        return out
    mode = "reflect" if bottom < height and right < width else "replicate"
    sr: torch.Tensor = net(F.pad(lq, (0, right, 0, bottom), mode), *extra)
    scale = sr.shape[-2] // (height + bottom)
    return sr[..., : height * scale, : width * scale]


def _window_size(net: nn.Module) -> int:
    """Return the size of a network's windows, which SwinIR keeps in its layers; 1 for networks without windows."""
    sizes = (getattr(module, "window_size", None) for module in net.modules())
    return max((size for size in sizes if isinstance(size, int)), default=1)
