"""Sub-images of a picture, at the positions of BasicSR's ``extract_subimages.py``."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightbsr.errors import UserError


@dataclass(frozen=True)
class CropRule:
    """Square crops of ``crop`` pixels every ``step`` pixels, and one at the far edge if over ``thresh`` are left.

    ``crop=0`` keeps whole pictures. ``shrink`` holds factors below 1. The picture shrunk by each of them is cut too.
    """

    crop: int = 480
    step: int = 240
    thresh: int = 0
    shrink: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for factor in self.shrink:
            if not 0 < factor < 1:
                raise UserError(f"--shrink {factor:g}: expected a factor between 0 and 1")
        if len(set(self.shrink)) < len(self.shrink):
            raise UserError(f"--shrink {' '.join(f'{factor:g}' for factor in self.shrink)}: a factor is given twice")
        if self.crop < 0 or self.thresh < 0 or (self.crop and self.step < 1):
            raise UserError(f"crop {self.crop}, step {self.step}, thresh {self.thresh}: at least 0, 1 and 0 are needed")

    @property
    def suffixes(self) -> list[str]:
        """What the keys of the picture itself and of its shrunk versions end with, such as ``_x0_75``."""
        return ["", *("_x" + f"{factor:g}".replace(".", "_") for factor in self.shrink)]

    def cut(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the suffix of the key and the pixels of each sub-image.

        Shrunk versions that are smaller than a crop are passed over.

        Args:
            image: H x W x C.

        Raises:
            UserError: the picture itself is smaller than one crop.
        """
        for version, factor in zip(self.suffixes, (1.0, *self.shrink)):
            resized = image if factor == 1 else _shrunk(image, factor)
            if factor < 1 and min(resized.shape[:2]) < self.crop:
                continue
            for suffix, top, left, height, width in self.boxes(*resized.shape[:2]):
                yield version + suffix, np.ascontiguousarray(resized[top : top + height, left : left + width])

    def boxes(self, height: int, width: int) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield (key suffix, top, left, height, width) in BasicSR's order: row by row, counted from ``_s001``.

        Raises:
            UserError: the picture is smaller than one crop.
        """
        if self.crop == 0:
            yield "", 0, 0, height, width
            return
        if min(height, width) < self.crop:
            raise UserError(f"too small: {width}x{height} pixels, the crop is {self.crop}")
        lefts = self._starts(width)
        for row, top in enumerate(self._starts(height)):
            for column, left in enumerate(lefts):
                yield f"_s{row * len(lefts) + column + 1:03d}", top, left, self.crop, self.crop

    def _starts(self, length: int) -> list[int]:
        last = length - self.crop
        starts = list(range(0, last + 1, self.step))
        if last - starts[-1] > self.thresh:
            starts.append(last)
        return starts


def _shrunk(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Resize with Pillow's Lanczos filter, like Real-ESRGAN's ``generate_multiscale_DF2K.py``."""
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
