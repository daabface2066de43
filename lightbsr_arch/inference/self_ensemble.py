"""The x8 self-ensemble of EDSR (CVPRW 2017). Papers mark it with a plus after the name of the method."""

from collections.abc import Callable
from itertools import product

import torch

TURNS = tuple(product((False, True), repeat=3))
"""The symmetries of a square. Each states whether an image is transposed, flipped vertically, flipped horizontally."""


def self_ensemble(upscale: Callable[[torch.Tensor], torch.Tensor], lq: torch.Tensor) -> torch.Tensor:
    """Upscale the eight flips and transposes of an image, undo them, and average the results.

    Args:
        upscale: takes N x 3 x H x W, also with H and W exchanged, and returns N x 3 x H*scale x W*scale.
        lq: N x 3 x H x W.

    Returns:
        The mean, N x 3 x H*scale x W*scale in fp32, neither clamped nor rounded.
    """
    total: torch.Tensor | None = None
    for transposed, top, left in TURNS:
        flips = [axis for axis, is_flipped in ((-2, top), (-1, left)) if is_flipped]
        turned = (lq.transpose(-1, -2) if transposed else lq).flip(flips)
        sr = upscale(turned.contiguous()).float().flip(flips)
        sr = sr.transpose(-1, -2) if transposed else sr
        total = sr.clone() if total is None else total.add_(sr)
    assert total is not None
    return total.div_(len(TURNS))
