"""Upscaling in strips, with the result of processing the whole image at once.

The IDR is estimated once, from the whole image, and then guides every strip. If tiles are processed independently, each
has its own IDR, and the result shows seams. A strip is as wide as the image, and only a few rows per layer are
computed twice. Architectures without ``estimate_in_strips`` or ``restore_in_strips`` process the image as a whole.

Strips and the whole image differ only by the rounding of floating-point sums; ``docs/upscaling.md`` has measurements.
"""

from collections.abc import Iterator

import torch

from lightbsr_arch.archs.part import Advance, Network


def sr_strips(
    model: Network, lq: torch.Tensor, rows: int, advance: Advance = lambda share: None
) -> Iterator[torch.Tensor]:
    """Compute the SR image strip by strip from the top. Gradients must be disabled.

    Args:
        model: a network without extra input, in eval mode.
        lq: one low-quality image, 1 x 3 x H x W, RGB in [0, 1], on the device and of the dtype of the model.
        rows: rows of ``lq`` that are processed at a time; 0 processes the whole image at once.
        advance: receives the progress.

    Yields:
        Strips, 1 x 3 x h x W*scale, not clamped. Together they equal ``model(lq)`` up to rounding.
    """
    if rows:
        yield from model.sr_in_strips(lq, rows, advance)
    else:
        yield model(lq)
        advance(1.0)
