"""The last stage of a restorer: upsampler and tail."""

import torch
from basicsr.archs.arch_util import Upsample
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.row_strips import RowStrip, row_strips


def upscale(x: torch.Tensor, upsample: Upsample, tail: nn.Conv2d) -> torch.Tensor:
    """``tail(upsample(x))``, which may be the largest part of a restorer's memory and a fifth of its time.

    What the last pixel shuffle would give is never made: the tail comes before it, and both work strip by strip.
    """
    *before, widen, shuffle = upsample
    for layer in before:
        x = layer(x)

    def restored(strip: RowStrip) -> torch.Tensor:
        wide = widen(strip.with_halo(x, 2))
        image = conv_of_shuffled(wide, shuffle.upscale_factor, tail)
        return strip.without_halo(image, 2, shuffle.upscale_factor)

    return torch.cat([restored(strip) for strip in row_strips(x, widen.out_channels)], dim=2)


def conv_of_shuffled(x: torch.Tensor, scale: int, conv: nn.Conv2d) -> torch.Tensor:
    """``conv(F.pixel_shuffle(x, scale))`` for a 3x3 convolution that pads, without the shuffled tensor.

    A block of scale x scale pixels that lies one pixel above and left of a shuffled pixel's own block depends on 2x2
    places of ``x``. So one 2x2 convolution, with an output for each pixel of the block, comes first and its outputs are
    shuffled.
    """
    spare = 2 * scale - 3
    shifted = [
        F.pixel_unshuffle(F.pad(conv.weight, (left, spare - left, above, spare - above)), scale)
        for above in range(scale - 2, 2 * scale - 2)
        for left in range(scale - 2, 2 * scale - 2)
    ]
    weight = torch.stack(shifted, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(scale**2)
    blocks = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), scale)
    return blocks[:, :, 1 : 1 - scale or None, 1 : 1 - scale or None]
