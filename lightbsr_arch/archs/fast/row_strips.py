"""Processing of images strip by strip, so that the intermediate results of a strip stay in the processor's cache."""

from dataclasses import dataclass
from itertools import pairwise

import torch

STRIP_BYTES = 2**23
"""Size of the largest tensor of a strip. Much larger tensors leave the cache. With much smaller ones, a large part of
the work is on rows that neighbouring strips share."""


@dataclass(frozen=True)
class RowStrip:
    """Rows ``start`` to ``stop`` of one image in N x C x H x W.

    A convolution that pads with zeros can be applied to a strip with its halo. The output is wrong in the rows of the
    halo and correct in the rows of the strip. This is also true at the borders of the image, where the halo ends.
    """

    sample: int
    start: int
    stop: int

    def of(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_halo(images, 0)

    def with_halo(self, images: torch.Tensor, halo: int) -> torch.Tensor:
        return images[self.sample : self.sample + 1, :, max(self.start - halo, 0) : self.stop + halo]

    def without_halo(self, rows: torch.Tensor, halo: int) -> torch.Tensor:
        """Cut the strip's rows out of a tensor with the rows of ``with_halo``."""
        above = min(self.start, halo)
        return rows[:, :, above : above + self.stop - self.start]


def row_strips(images: torch.Tensor, widest: int, halo: int) -> list[RowStrip]:
    """Return strips that cover images, for tensors with up to ``widest`` channels.

    No halo reaches further than into the next strip.
    """
    n, _, height, width = images.shape
    size = widest * height * width * images.element_size()
    count = max(min(height // halo, -(-size // STRIP_BYTES)), 1)
    edges = [height * i // count for i in range(count + 1)]
    return [RowStrip(sample, start, stop) for sample in range(n) for start, stop in pairwise(edges)]


def is_inference_on_cpu(images: torch.Tensor) -> bool:
    """Return True for CPU inference outside tracing, compilation and export, where faster code may be used."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return images.device.type == "cpu" and not torch.is_grad_enabled() and not recorded
