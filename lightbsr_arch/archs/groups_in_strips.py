"""Restoration in strips by a body whose blocks pool over the whole image."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lightbsr_arch.archs.fast.memory import feature_maps
from lightbsr_arch.archs.fast.row_streams import Strips, added, cut, streamed, write
from lightbsr_arch.archs.part import Advance, Guides
from lightbsr_arch.archs.residual_restorer import ResidualRestorer

RunBlock = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Applies a block to features, the channel guide, the spatial guide and the mean of the features of the whole image."""


def groups_in_strips(
    net: ResidualRestorer,
    lq: torch.Tensor,
    guides: Guides,
    rows: int,
    advance: Advance,
    run_block: RunBlock,
    run_convnext: Callable[[Any, torch.Tensor], torch.Tensor],
    halos: tuple[int, int],
) -> Strips:
    """Yield the SR image of 1 x 3 x H x W in strips. Each block needs the complete output of the block before.

    The features of the whole image are stored in two maps, which the blocks overwrite strip by strip. All other tensors
    are strips. The two maps need 512 bytes per pixel for 64 channels in fp32. If they do not fit on the device, they
    are in main memory. If they do not fit there, they are in a file.

    Args:
        net: a restorer with groups of blocks that end with a ConvNeXt block and a 3x3 convolution. A group may refine
            its guides first, with ``refine_channel`` and ``refine_spatial``.
        lq: the low-quality image.
        guides: ``channel_guide`` and ``spatial_guide``. The spatial guide is overwritten if the groups refine it.
        rows: rows that are processed at a time.
        advance: receives the share of the work that has been done since the last call.
        run_block: applies a block with guides.
        run_convnext: applies the ConvNeXt block.
        halos: number of rows above and below on which a row of the output depends, for a block with guides and for
            the ConvNeXt block.
    """
    channel, spatial = guides["channel_guide"], guides["spatial_guide"]
    groups: Any = net.body
    passes = 2 + sum(len(group.body) + 1 + hasattr(group, "refine_spatial") for group in groups)

    def done(count: int) -> None:
        advance(count / lq.shape[2] / passes)

    x, y = feature_maps(2, net.num_feat, lq).split(1)
    in_strips = partial(cut, rows=rows, device=lq.device)
    pooled = write(net.head_in_strips(lq, rows), x, done)
    for group in groups:
        if hasattr(group, "refine_spatial"):
            channel = channel + group.refine_channel(channel)
            refine = streamed(group.refine_spatial, in_strips(spatial), halo=2)
            write(added(refine, in_strips(spatial)), spatial, done)
        write(in_strips(x), y)
        *blocks, convnext = group.body
        for block in blocks:
            run = partial(_run_on_strip, run_block, block, channel, pooled)
            pooled = write(streamed(run, in_strips(y), in_strips(spatial), halo=halos[0]), y, done)
        write(streamed(partial(run_convnext, convnext), in_strips(y), halo=halos[1]), y, done)
        conv = streamed(group.conv, in_strips(y), halo=1)
        pooled = write(added(conv, in_strips(x)), x, done)
    features = added(streamed(net.after_body, in_strips(x), halo=1), net.head_in_strips(lq, rows))
    return net.image_in_strips(features, rows, done)


def _run_on_strip(
    run_block: RunBlock,
    block: Any,
    channel: torch.Tensor,
    pooled: torch.Tensor,
    x: torch.Tensor,
    spatial: torch.Tensor,
) -> torch.Tensor:
    return run_block(block, x, channel, spatial, pooled)
