"""Positions of the sub-images of a picture, as in BasicSR's ``extract_subimages.py``."""

from collections.abc import Iterator
from dataclasses import dataclass

from lightbsr.errors import UserError


@dataclass(frozen=True)
class CropRule:
    """Square crops of ``crop`` pixels every ``step`` pixels, and one at the far edge if over ``thresh`` are left.

    ``crop=0`` keeps whole pictures.
    """

    crop: int = 480
    step: int = 240
    thresh: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0 or self.thresh < 0 or (self.crop and self.step < 1):
            raise UserError(f"crop {self.crop}, step {self.step}, thresh {self.thresh}: at least 0, 1 and 0 are needed")

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
