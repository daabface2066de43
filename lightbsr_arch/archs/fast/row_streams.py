"""Layers over an image that comes strip by strip, from top to bottom.

A layer gives each row as soon as the rows below it that it looks at are in, and keeps those that it will look at again.
So a chain of any length computes every row once: exact, whatever the height of the strips, without a halo that grows
with the receptive field. What is held is a strip and a few rows a layer, however tall the image.
"""

from collections.abc import Callable, Iterator

import torch

Layer = Callable[..., torch.Tensor]
Strips = Iterator[tuple[torch.Tensor, bool]]
"""Consecutive rows of an image, N x C x h x W, h >= 1, and whether they are its last."""


def cut(image: torch.Tensor, rows: int, device: torch.device | None = None) -> Strips:
    """An image in strips of so many rows, moved to ``device``."""
    strips = image.split(rows, dim=2)
    for number, strip in enumerate(strips, 1):
        yield strip.to(device or image.device), number == len(strips)


def not_taller(strips: Strips, rows: int) -> Strips:
    """Strips of at most so many rows."""
    for strip, last in strips:
        for part, last_part in cut(strip, rows):
            yield part, last and last_part


def streamed(layer: Layer, *images: Strips, halo: int, scale: int = 1, stride: int = 1) -> Strips:
    """A layer's output in strips.

    Args:
        layer: takes images N x C x H x W of any height and gives one, N x C' x H*scale/stride x W'. Where it pads, it
            does so at the images' border: it may take a strip for an image, as rows that come out wrong are left out.
        images: its inputs, cut alike; ``stride`` divides the height of all strips but the last.
        halo: rows above and below a row that its output depends on, a multiple of ``stride``.
        scale: how many times more rows come out,
        stride: or fewer.
    """
    layer_in_strips = _LayerInStrips(layer, halo, scale, stride)
    # Not a generator: a frame that waits at its `yield` holds on to a strip, and there is one a layer.
    return filter(None, map(layer_in_strips.push, *images))


class _LayerInStrips:
    def __init__(self, layer: Layer, halo: int, scale: int, stride: int) -> None:
        self.layer, self.halo, self.scale, self.stride = layer, halo, scale, stride
        self.inputs: list[torch.Tensor] = []
        self.above = 0  # rows of the inputs that are done and are there to be looked at

    def push(self, *strips: tuple[torch.Tensor, bool]) -> tuple[torch.Tensor, bool] | None:
        """The rows that are ready once these are in, if any."""
        last = strips[0][1]
        inputs = [strip for strip, _ in strips]
        if self.inputs:
            inputs = [torch.cat([kept, strip], dim=2) for kept, strip in zip(self.inputs, inputs)]
        ready = inputs[0].shape[2] if last else inputs[0].shape[2] - self.halo
        if ready <= self.above:
            self.inputs = inputs
            return None
        first, end = (rows * self.scale // self.stride for rows in (self.above, ready))
        out = self.layer(*inputs)[:, :, first : None if last else end]
        self.above = min(ready, self.halo)
        # A view would hold on to the whole strip, and would change where the output is written over the input.
        self.inputs = [] if last else [image[:, :, ready - self.above :].clone() for image in inputs]
        return out, last


def added(strips: Strips, others: Strips) -> Strips:
    """The sum of two images of one size that are cut differently; what there is of ``others`` may come earlier."""
    waiting: torch.Tensor | None = None
    for strip, last in strips:
        height = strip.shape[2]
        while waiting is None or waiting.shape[2] < height:
            more = next(others)[0]
            waiting = more if waiting is None else torch.cat([waiting, more], dim=2)
        yield strip + waiting[:, :, :height], last
        waiting = waiting[:, :, height:]


def write(strips: Strips, image: torch.Tensor, done: Callable[[int], None] = lambda rows: None) -> torch.Tensor:
    """Fill an image from the top; ``strips`` may be computed from that very image by ``streamed``.

    Args:
        done: told the number of rows after each strip.

    Returns:
        The mean over the image, N x C.
    """
    mean = Mean()
    top = 0
    for strip, _ in strips:
        bottom = top + strip.shape[2]
        image[:, :, top:bottom] = strip
        mean.add(strip)
        done(bottom - top)
        top = bottom
    return mean.value


class Mean:
    """The mean over an image, N x C, summed in double precision strip by strip."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum = torch.zeros((), dtype=torch.float64)
        self.kind: tuple[torch.device, torch.dtype]

    def add(self, strip: torch.Tensor) -> None:
        # A strip's own mean is precise enough in fp32; MPS has no double precision.
        self.sum = self.sum + strip.shape[2] * strip.mean(dim=(2, 3), dtype=torch.float32).to("cpu", torch.float64)
        self.rows += strip.shape[2]
        self.kind = strip.device, strip.dtype

    @property
    def value(self) -> torch.Tensor:
        return (self.sum / self.rows).to(*self.kind)
