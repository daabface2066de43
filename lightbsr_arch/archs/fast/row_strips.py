"""Working through images strip by strip, so that what becomes of a strip stays in the processor's cache."""

from dataclasses import dataclass
from itertools import pairwise

import torch

STRIP_BYTES = 2**23
"""Of the largest tensor that a strip becomes. With much more it leaves the cache; with much less, rows in common with
the neighbours take a large part of the work."""


@dataclass(frozen=True)
class RowStrip:
    """Rows ``start`` to ``stop`` of one image out of N x C x H x W.

    A convolution that pads with zeros takes a strip with its halo for an image: the rows of the halo come out wrong,
    those of the strip right, also at the image's borders, where the halo ends with the image.
    """

    sample: int
    start: int
    stop: int

    def of(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_halo(images, 0)

    def with_halo(self, images: torch.Tensor, halo: int) -> torch.Tensor:
        return images[self.sample : self.sample + 1, :, max(self.start - halo, 0) : self.stop + halo]

    def without_halo(self, rows: torch.Tensor, halo: int) -> torch.Tensor:
        """The strip's rows out of what ``with_halo`` gave, or of what became of it."""
        above = min(self.start, halo)
        return rows[:, :, above : above + self.stop - self.start]


def row_strips(images: torch.Tensor, widest: int, halo: int) -> list[RowStrip]:
    """Strips that cover images, for work on them that has up to ``widest`` channels.

    No halo reaches further than into the next strip.
    """
    n, _, height, width = images.shape
    size = widest * height * width * images.element_size()
    count = max(min(height // halo, -(-size // STRIP_BYTES)), 1)
    edges = [height * i // count for i in range(count + 1)]
    return [RowStrip(sample, start, stop) for sample in range(n) for start, stop in pairwise(edges)]


def is_inference_on_cpu(images: torch.Tensor) -> bool:
    """Whether work on them may take another way to the same numbers: no gradient needs what is on the way, and nobody
    records it, to compile or to export it.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return images.device.type == "cpu" and not torch.is_grad_enabled() and not recorded
