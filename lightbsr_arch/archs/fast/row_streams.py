"""Layers that process an image strip by strip, from top to bottom.

A layer outputs each row as soon as it has the rows below that the row depends on, and keeps the rows that later rows
depend on. A chain of layers of any length therefore computes every row once. The result does not depend on the height
of the strips, and there is no halo that grows with the receptive field. Memory is one strip and a few rows per layer,
independent of the height of the image.
"""

from collections.abc import Callable, Iterator

import torch

Layer = Callable[..., torch.Tensor]
Strips = Iterator[tuple[torch.Tensor, bool]]
"""Consecutive rows of an image, N x C x h x W with h >= 1, and whether they are the last ones."""


def cut(image: torch.Tensor, rows: int, device: torch.device | None = None) -> Strips:
    """Yield an image in strips of ``rows`` rows, moved to ``device``."""
    strips = image.split(rows, dim=2)
    for number, strip in enumerate(strips, 1):
        yield strip.to(device or image.device), number == len(strips)


def not_taller(strips: Strips, rows: int) -> Strips:
    """Split strips into ones of at most ``rows`` rows."""
    for strip, last in strips:
        for part, last_part in cut(strip, rows):
            yield part, last and last_part


def streamed(layer: Layer, *images: Strips, halo: int, scale: int = 1, stride: int = 1) -> Strips:
    """Yield a layer's output in strips.

    Args:
        layer: function from images N x C x H x W of any height to N x C' x H*scale/stride x W'. It may pad. Rows of its
            output that depend on padding inside the image are left out.
        images: its inputs, cut into strips of equal heights. The height of all strips except the last is a multiple of
            ``stride``.
        halo: rows above and below a row that its output depends on, a multiple of ``stride``.
        scale: factor by which the layer multiplies the number of rows.
        stride: factor by which the layer divides the number of rows.
    """
    layer_in_strips = _LayerInStrips(layer, halo, scale, stride)
    # This is not a generator, because its suspended frame would keep one strip per layer alive.
    return filter(None, map(layer_in_strips.push, *images))


class _LayerInStrips:
    def __init__(self, layer: Layer, halo: int, scale: int, stride: int) -> None:
        self.layer, self.halo, self.scale, self.stride = layer, halo, scale, stride
        self.inputs: list[torch.Tensor] = []
        self.above = 0  # processed rows of the inputs that later rows depend on

    def push(self, *strips: tuple[torch.Tensor, bool]) -> tuple[torch.Tensor, bool] | None:
        """Add a strip. Return the output rows that are then ready, or None."""
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
        # A view would keep the whole strip alive, and would change if the output overwrites the input.
        self.inputs = [] if last else [image[:, :, ready - self.above :].clone() for image in inputs]
        return out, last


def added(strips: Strips, others: Strips) -> Strips:
    """Yield the sum of two images of the same size that are cut into different strips."""
    waiting: torch.Tensor | None = None
    for strip, last in strips:
        height = strip.shape[2]
        while waiting is None or waiting.shape[2] < height:
            more = next(others)[0]
            waiting = more if waiting is None else torch.cat([waiting, more], dim=2)
        yield strip + waiting[:, :, :height], last
        waiting = waiting[:, :, height:]


def write(strips: Strips, image: torch.Tensor, done: Callable[[int], None] = lambda rows: None) -> torch.Tensor:
    """Fill an image from the top. ``strips`` may be computed from the same image by ``streamed``.

    Args:
        done: receives the number of rows after each strip.

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
    """Computes the mean over an image, N x C, from strips. The sums of the strips are added in double precision."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum = torch.zeros((), dtype=torch.float64)
        self.kind: tuple[torch.device, torch.dtype]

    def add(self, strip: torch.Tensor) -> None:
        # Within a strip, fp32 is precise enough; MPS has no double precision.
        self.sum = self.sum + strip.shape[2] * strip.mean(dim=(2, 3), dtype=torch.float32).to("cpu", torch.float64)
        self.rows += strip.shape[2]
        self.kind = strip.device, strip.dtype

    @property
    def value(self) -> torch.Tensor:
        return (self.sum / self.rows).to(*self.kind)
