"""Pictures of the places whose IDR differs from that of the whole picture."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import to_bgr
from lightbsr_arch.data.picture_files import PictureFile
from lightbsr_arch.data.reader import Pixels
from lightbsr_arch.io import write_whole

MOST = 2.0
"""Distance from which on tiles have the brightest colour."""

LONGEST_SIDE = 800
"""Longest side of a photo in the map, in pixels. Larger photos are shrunk to it."""

SMALLEST_SIDE = 320
"""Smallest length of a photo's longest side in the map, in pixels. Smaller photos are enlarged to it."""

_LEGEND = 48
"""Rows of the legend."""


class MapWriter:
    """Writes a photo and its map side by side.

    Args:
        out: the PNG, or a folder for several maps.
        is_folder: whether ``out`` is a folder. A map in it has the photo's name followed by ``.png``.
    """

    def __init__(self, out: Path, is_folder: bool) -> None:
        self._out = out
        self._is_folder = is_folder

    def __call__(self, picture: PictureFile, pixels: Pixels, distances: NDArray[np.float64]) -> None:
        file = io.BytesIO()
        draw_map(pixels, distances).save(file, "PNG")
        write_whole(self._path(picture), file.getvalue(), make_folder=True)

    def refuse_inputs(self, pictures: Sequence[PictureFile]) -> None:
        """Raise `UserError` if a map would replace one of the pictures."""
        inputs = {os.path.realpath(picture.path) for picture in pictures}
        if self._is_folder and os.path.realpath(self._out) in {str(Path(path).parent) for path in inputs}:
            raise UserError(f"--map {self._out}: the folder of the photos; name another for the maps")
        for path in map(self._path, pictures):
            if os.path.realpath(path) in inputs:
                raise UserError(f"--map {self._out}: {path} is an input and would be written over; use another --map")

    def _path(self, picture: PictureFile) -> Path:
        return self._out / f"{picture.name}.png" if self._is_folder else self._out


def draw_map(pixels: Pixels, distances: NDArray[np.float64]) -> Image.Image:
    """Draw a photo, the map of its tiles beside it, and a legend below them.

    Args:
        pixels: the photo, in any form that the reader returns.
        distances: from `Inspector.tile_distances`.
    """
    photo = Image.fromarray(np.ascontiguousarray(to_bgr(pixels)[..., ::-1]))
    longest = max(photo.size)
    factor = min(LONGEST_SIDE / longest, max(1, SMALLEST_SIDE / longest))
    width, height = (max(1, round(side * factor)) for side in photo.size)
    photo = photo.resize((width, height), Image.Resampling.LANCZOS)
    heat = _coloured(np.minimum(distances / MOST, np.ones(1))).resize((width, height), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (2 * width + 8, height + _LEGEND), "white")
    sheet.paste(photo, (0, 0))
    sheet.paste(heat, (width + 8, 0))
    scale = _coloured(np.linspace(0, 1, width)[None]).resize((width, 12), Image.Resampling.NEAREST)
    sheet.paste(scale, (width + 8, height + 6))
    text = ImageDraw.Draw(sheet)
    for label, anchor, share in (("0", "la", 0.0), ("1", "ma", 1 / MOST), (f"{MOST:g} and more", "ra", 1.0)):
        text.text((width + 8 + share * (width - 1), height + 22), label, "black", anchor=anchor, font_size=14)
    text.text((0, height + 6), "distance of each tile's IDR from the photo's;", "black", font_size=14)
    text.text((0, height + 24), "below 1 in 95 % of equally degraded tiles", "black", font_size=14)
    return sheet


def _coloured(values: NDArray[np.float64]) -> Image.Image:
    """Return values in [0, 1] as colours from dark violet to yellow."""
    bgr = cv2.applyColorMap((values * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    return Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
