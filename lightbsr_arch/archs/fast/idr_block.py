"""The blocks of LightBSR's restorer on the CPU, where memory access takes more time than arithmetic.

Images and features are in channels-last memory, so that views with the channels last need no copy. If no gradient is
needed, a block processes the image in strips of rows, so that the intermediate results of a strip stay in the cache of
the processor. In all other cases, the ``forward`` of the block runs.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from lightbsr_arch.archs.fast.fused import add_conv1x1_, conv_gelu, gated_gelu
from lightbsr_arch.archs.fast.row_strips import RowStrip, is_inference_on_cpu, row_strips
from lightbsr_arch.archs.idr_block import ConvNeXtBlock, IDRBlock, local_and_wide

HALO = 3
"""Rows above and below that the depthwise 7x7 convolution depends on."""

IDR_BLOCK_HALO = 1 + 2 + HALO
"""Rows above and below that an IDR block depends on. It has convolutions of 3x3, 5x5 and 7x7 in turn."""


def run_convnext_block(block: ConvNeXtBlock, x: torch.Tensor, overwrite: bool = False) -> torch.Tensor:
    """Return ``block(x)``. With ``overwrite``, the result may be stored in the memory of ``x``."""
    if not is_inference_on_cpu(x):
        out: torch.Tensor = block(x)
        return out
    return _add_residual(block, x, lambda strip: strip.with_halo(x, HALO), overwrite)


def run_idr_block(
    block: IDRBlock,
    x: torch.Tensor,
    channel: torch.Tensor,
    spatial: torch.Tensor,
    pooled: torch.Tensor | None = None,
    overwrite: bool = False,
) -> torch.Tensor:
    """Return ``block(x, channel, spatial, pooled)``. With ``overwrite``, it may be stored in the memory of ``x``."""
    if not is_inference_on_cpu(x):
        out: torch.Tensor = block(x, channel, spatial, pooled)
        return out
    num_local, num_wide = local_and_wide(x.shape[1])
    local, wide = x.split((num_local, num_wide), dim=1)
    gate = conv_gelu(torch.cat([spatial, local], dim=1), block.spatial_gate[0].get_parameter("weight"))
    local = conv_gelu(local * block.spatial_gate[2](gate).sigmoid(), block.local_conv.weight, padding=2)
    pooled = wide.mean(dim=(2, 3)) if pooled is None else pooled
    gates = F.pad(block.wide_gate(pooled, channel), (num_local, 0))

    def modulated(strip: RowStrip) -> torch.Tensor:
        y = gated_gelu(strip.with_halo(x, HALO), gates[strip.sample])
        y[:, :num_local] = strip.with_halo(local, HALO)
        return y

    return _add_residual(block, x, modulated, overwrite)


def _add_residual(
    block: ConvNeXtBlock, x: torch.Tensor, mixed: Callable[[RowStrip], torch.Tensor], overwrite: bool
) -> torch.Tensor:
    """Add to ``x`` the block's residual of ``mixed``. ``mixed`` returns the rows of a strip and its halo."""
    out = x if overwrite else x.clone()
    weight, bias = block.scaled_reduction()
    strips = row_strips(x, block.expand.out_features, HALO)
    convolved = (strip.without_halo(block.dwconv(mixed(strip)), HALO) for strip in strips)
    ahead = next(convolved)
    for strip in strips:
        y, ahead = ahead, next(convolved, ahead)  # the next strip's halo is overwritten here
        y = block.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = conv_gelu(y, block.expand.weight[:, :, None, None], block.expand.bias)
        add_conv1x1_(strip.of(out), y, weight[:, :, None, None], bias)
    return out
