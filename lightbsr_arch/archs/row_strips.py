"""Working through an image strip by strip, so that what becomes of a strip stays in the processor's cache."""

from dataclasses import dataclass
from itertools import pairwise

import torch

STRIP_BYTES = 2**23
"""Of the largest tensor that a strip becomes. With much more it leaves the cache; with much less, rows in common with
the neighbours take a large part of the work."""


@dataclass(frozen=True)
class RowStrip:
    """Rows ``start`` to ``stop`` of images N x C x H x W.

    A convolution that pads with zeros takes a strip with its halo for an image: the rows of the halo come out wrong,
    those of the strip right, also at the image's borders, where the halo ends with the image.
    """

    start: int = 0
    stop: int | None = None  # the last row

    def of(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :, self.start : self.stop]

    def with_halo(self, image: torch.Tensor, halo: int) -> torch.Tensor:
        return image[:, :, max(self.start - halo, 0) : self.stop and self.stop + halo]

    def without_halo(self, rows: torch.Tensor, halo: int, scale: int = 1) -> torch.Tensor:
        """The strip's rows out of what ``with_halo`` gave, or of what became of it, ``scale`` times larger."""
        above = min(self.start, halo)
        below = self.stop and above + self.stop - self.start
        return rows[:, :, above * scale : below and below * scale]


def row_strips(image: torch.Tensor, widest: int) -> list[RowStrip]:
    """Strips that cover an image, for work on it that has up to ``widest`` channels.

    A single one where strips would not help: on a GPU; where gradients keep all that is computed; in export, too.
    """
    if image.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return [RowStrip()]
    n, _, height, width = image.shape
    count = min(height, -(-n * widest * height * width * image.element_size() // STRIP_BYTES))
    edges = [height * i // count for i in range(count + 1)]
    return [RowStrip(start, stop) for start, stop in pairwise(edges)]
