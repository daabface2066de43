"""Padding for BasicSR's SwinIR, which accepts only images whose sides are multiples of its window."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def upscale_any_size(net: nn.Module, lq: torch.Tensor, *extra: Any) -> torch.Tensor:
    """Run a network. For a network with windows, pad the image and remove the padding from the result.

    Args:
        net: network that upscales N x 3 x H x W by a whole number.
        lq: N x 3 x H x W. It is padded at the right and bottom by reflection, as in BasicSR's SwinIRModel, or by
            repetition of the edge if it is too small for that.
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
    """Return the size of a network's windows, which is an attribute of SwinIR's layers, or 1 without windows."""
    sizes = (getattr(module, "window_size", None) for module in net.modules())
    return max((size for size in sizes if isinstance(size, int)), default=1)
