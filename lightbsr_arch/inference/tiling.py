"""A whole picture through a network in strips, with the result of running it at once.

The IDR is estimated once, from the whole picture, and then guides every strip; tiles that are run alone get a
degradation each, and seams. A strip is as wide as the picture, and nothing is computed twice but a few rows a layer:

- KDSR: estimator and restorer are chains of convolutions, so the strips flow through them (``row_streams``). Memory
  grows with the picture's width, not its height. A halo instead would have to be 110 rows for the full receptive field.
- LightBSR: its blocks pool over the whole picture, so none can start before the one before it has ended. The features
  of the whole picture are held, in two maps that the blocks overwrite strip by strip, and all else is in strips.
  Two maps are 512 bytes a pixel in fp32; where they do not fit on the device they are held in main memory, where not
  there either, in a file.

Both are exact: tiled and untiled differ by the rounding of floating-point sums alone (``docs/upscaling.md`` has the
measurements). A network that is not known here runs whole.
"""

from collections.abc import Callable, Iterator
from functools import partial, singledispatch
from typing import Any

import torch
from torch import nn

from lightbsr_arch.archs import BlindSR, IDRDCRBNet, KDIDEStudent, LightBSRNet, LightIDEStudent
from lightbsr_arch.archs.idr import MAP_STRIDE
from lightbsr_arch.archs.idr_block import HALO, IDRBlock
from lightbsr_arch.archs.upscale import upscale
from lightbsr_arch.inference.memory import feature_maps
from lightbsr_arch.inference.row_streams import Mean, Strips, added, cut, not_taller, streamed, write

Advance = Callable[[float], None]
"""Is told what share of a picture's work has been done since it was last told; they sum to about one."""

ESTIMATOR_SHARE = 0.3
"""Of the time, about, for the progress bar."""

IDR_BLOCK_HALO = 1 + 2 + HALO
"""Convolutions of 3x3, 5x5 and 7x7 follow one another."""


def sr_strips(
    model: BlindSR, lq: torch.Tensor, rows: int, advance: Advance = lambda share: None
) -> Iterator[torch.Tensor]:
    """The SR image, strip by strip from the top; gradients must be off.

    Args:
        model: a student in eval mode.
        lq: one low-quality image, 1 x 3 x H x W, RGB in [0, 1], where the model is and of its dtype.
        rows: of ``lq`` that are worked on at a time; 0 runs the whole image at once.
        advance: is told of the progress.

    Yields:
        1 x 3 x h x W*scale, not clamped; together they are ``model(lq)`` up to rounding.
    """
    if not rows:
        yield model(lq)
        advance(1.0)
        return
    idr = estimate(model.estimator, lq, rows, lambda share: advance(ESTIMATOR_SHARE * share))
    guides = model.restorer.guides(idr, *lq.shape[2:])
    for strip, _ in restore(model.restorer, lq, guides, rows, lambda share: advance((1 - ESTIMATOR_SHARE) * share)):
        yield strip


@singledispatch
def estimate(estimator: Any, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
    """The IDR of a whole image."""
    idr: torch.Tensor = estimator.estimate(lq)[0]
    advance(1.0)
    return idr


@estimate.register
def _(estimator: KDIDEStudent, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
    *layers, _pool, _flatten = estimator.features
    strips = cut(lq, rows)
    for layer in layers:
        strips = streamed(layer, strips, halo=_halo(layer))
    mean = Mean()
    for strip, _ in strips:
        mean.add(strip)
        advance(strip.shape[2] / lq.shape[2])
    return estimator.to_idr(estimator.mlp(mean.value))


@estimate.register
def _(estimator: LightIDEStudent, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
    rows = -(-rows // MAP_STRIDE) * MAP_STRIDE
    halo = 12  # the receptive field reaches 11 pixels
    parts = []
    for part, _ in streamed(estimator.features, cut(lq, rows), halo=halo, stride=MAP_STRIDE):
        parts.append(part)
        advance(part.shape[2] / -(-lq.shape[2] // MAP_STRIDE))
    return torch.cat(parts, dim=2)


def _halo(layer: nn.Module) -> int:
    """Of a module whose convolutions, which have stride 1, follow one another."""
    return sum(module.padding[0] for module in layer.modules() if isinstance(module, nn.Conv2d))  # type: ignore[misc]


@singledispatch
def restore(restorer: Any, lq: torch.Tensor, guides: dict[str, torch.Tensor], rows: int, advance: Advance) -> Strips:
    """The SR image in strips."""
    yield restorer(lq, guides), True
    advance(1.0)


@restore.register
def _(restorer: IDRDCRBNet, lq: torch.Tensor, guides: dict[str, torch.Tensor], rows: int, advance: Advance) -> Strips:
    body = _head(restorer, lq, rows)
    for block in restorer.body:
        body = streamed(partial(block, idr=guides["vector"]), body, halo=2)
    body = streamed(restorer.after_body, body, halo=1)
    # The head is run twice, as `itertools.tee` would keep the strips of the whole picture.
    whole = added(body, _head(restorer, lq, rows))
    return _tail(restorer, whole, rows, lambda done: advance(done / lq.shape[2]))


@restore.register
def _(restorer: LightBSRNet, lq: torch.Tensor, guides: dict[str, torch.Tensor], rows: int, advance: Advance) -> Strips:
    channel, spatial = guides["channel_guide"], guides["spatial_guide"]
    spatial = spatial.contiguous(memory_format=torch.channels_last)
    groups: Any = restorer.body
    passes = 2 + sum(len(group.body) + 2 for group in groups)

    def done(count: int) -> None:
        advance(count / lq.shape[2] / passes)

    x, y = feature_maps(2, restorer.head.out_channels, lq).split(1)
    in_strips = partial(cut, rows=rows, device=lq.device)
    pooled = write(_head(restorer, lq, rows), x, done)
    for group in groups:
        channel = channel + group.refine_channel(channel)
        refine = streamed(group.refine_spatial, in_strips(spatial), halo=2)
        write(added(refine, in_strips(spatial)), spatial, done)
        write(in_strips(x), y)
        *idr_blocks, convnext = group.body
        for block in idr_blocks:
            run = partial(_run_idr_block, block, channel, pooled)
            pooled = write(streamed(run, in_strips(y), in_strips(spatial), halo=IDR_BLOCK_HALO), y, done)
        write(streamed(convnext, in_strips(y), halo=HALO), y, done)
        conv = streamed(group.conv, in_strips(y), halo=1)
        pooled = write(added(conv, in_strips(x)), x, done)
    body = streamed(restorer.after_body, in_strips(x), halo=1)
    return _tail(restorer, added(body, _head(restorer, lq, rows)), rows, done)


def _run_idr_block(
    block: IDRBlock, channel: torch.Tensor, pooled: torch.Tensor, x: torch.Tensor, spatial: torch.Tensor
) -> torch.Tensor:
    return block(x, channel, spatial, pooled)


def _head(restorer: IDRDCRBNet | LightBSRNet, lq: torch.Tensor, rows: int) -> Strips:
    return streamed(lambda strip: restorer.head(restorer.mean_in.subtract(strip)), cut(lq, rows), halo=1)


def _tail(restorer: IDRDCRBNet | LightBSRNet, body: Strips, rows: int, done: Callable[[int], None]) -> Strips:
    """From the features of the body to the image."""

    def upscaled(strip: torch.Tensor) -> torch.Tensor:
        return restorer.mean_out.add(upscale(strip, restorer.upsample, restorer.tail))

    # The last strip holds all that the layers of the body had kept back.
    for strip, last in streamed(upscaled, not_taller(body, rows), halo=2, scale=restorer.scale):
        yield strip, last
        done(strip.shape[2] // restorer.scale)
