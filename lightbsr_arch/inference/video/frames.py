"""Colours and orientation of the frames of PyAV."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from lightbsr.errors import UserError
from lightbsr_arch.data.reader import Pixels

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""swscale's matrices by the numbers of ITU-T H.273, which tag videos."""
_RGB, _UNKNOWN = 0, 2
_BT709, _BT601 = 1, 6
_LIMITED, _FULL = 1, 2

_SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000
"""swscale's flags: bicubic interpolation of chroma, full chroma on both sides, accurate rounding."""

_SD_HEIGHT = 576
"""Largest height of a video without a tagged matrix that counts as BT.601. Players decide in the same way."""


@dataclass(frozen=True)
class Colours:
    """Coding of the colours of a video.

    Attributes:
        deep: whether it has more than 8 bits per channel.
        matrix: number of the matrix between RGB and YUV in ITU-T H.273, or None if the frames are RGB.
        tags: ``color_range``, ``colorspace``, ``color_primaries`` and ``color_trc`` of the output.
    """

    deep: bool
    matrix: int | None
    tags: dict[str, int]

    @classmethod
    def of(cls, frame: Any) -> "Colours":
        """Return the coding of a frame.

        Raises:
            UserError: the matrix is not supported.
        """
        is_rgb = frame.format.is_rgb
        matrix = int(frame.colorspace)
        if is_rgb or matrix in (_RGB, _UNKNOWN):
            matrix = _BT601 if frame.height <= _SD_HEIGHT else _BT709
        if matrix not in _MATRICES:
            raise UserError(f"its colours use matrix {matrix} of ITU-T H.273, which is not supported; convert it")
        is_full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
        tags = {
            "color_range": _FULL if is_full and not is_rgb else _LIMITED,
            "colorspace": matrix,
            "color_primaries": int(frame.color_primaries),
            "color_trc": int(frame.color_trc),
        }
        deep = any(component.bits > 8 for component in frame.format.components)
        return cls(deep, None if is_rgb else matrix, tags)

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pixel format of the output."""
        return "yuv420p10le" if self.deep else "yuv420p"

    @property
    def _rgb_format(self) -> str:
        return "rgb48le" if self.deep else "rgb24"

    def to_rgb(self, frame: Any) -> Pixels:
        """Return a frame upright as H x W x 3, uint8, or uint16 if the video is deep."""
        rgb = frame.reformat(
            format=self._rgb_format,
            interpolation=_SCALING,
            src_colorspace=None if self.matrix is None else _MATRICES[self.matrix],
            src_color_range=None if self.matrix is None else self.tags["color_range"],
            dst_color_range=_FULL,
        )
        pixels: Pixels = rgb.to_ndarray()
        a, b, c, d = _display_matrix(frame)
        if _is_transposed(frame):
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def to_yuv(self, rgb: Pixels) -> Any:
        """Return pixels, H x W x 3, as a frame of the output with its tags."""
        made = av.VideoFrame.from_ndarray(rgb, format=self._rgb_format).reformat(
            format=self.pixel_format,
            interpolation=_SCALING,
            src_color_range=_FULL,
            dst_colorspace=_MATRICES[self.tags["colorspace"]],
            dst_color_range=self.tags["color_range"],
        )
        for name, value in self.tags.items():
            setattr(made, name, value)
        return made


def upright_shape(frame: Any, ratio: Fraction) -> tuple[int, int, Fraction]:
    """Return height, width and pixel aspect ratio of a frame after turning. ``ratio`` is that of the stored pixels."""
    return (frame.width, frame.height, 1 / ratio) if _is_transposed(frame) else (frame.height, frame.width, ratio)


def _is_transposed(frame: Any) -> bool:
    """Return whether turning by the display matrix, to the nearest quarter turn, swaps height and width."""
    a, b, c, d = _display_matrix(frame)
    return abs(a) + abs(d) < abs(b) + abs(c)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c and d of the matrix that turns and flips the stored pixels."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d
