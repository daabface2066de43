"""Decoding of WebP, BMP, GIF and AVIF by Pillow, and of HEIC if pillow-heif is installed."""

import io
import re
from typing import Any, Final

import numpy as np
from PIL import Image, features

from lightbsr_arch.data.reader.base import (
    Header,
    Picture,
    RefusedError,
    check_budget,
    refuse_frames,
    upright,
    upright_size,
)
from lightbsr_arch.data.reader.colour import set_rgb
from lightbsr_arch.data.reader.metadata import attach, orientation, parse_exif, valid_dpi

try:
    import pillow_heif
except ImportError:
    READS_HEIF = False
else:
    pillow_heif.register_heif_opener()
    READS_HEIF = True
READS_AVIF: Final = bool(features.check("avif"))

_AVIF_BITS: Final = re.compile(rb"pixi....[\x01-\x04](.)", re.DOTALL)
_GREYS: Final = ("1", "L", "LA", "La")
_COLOUR_SPACES: Final = ("CMYK", "YCbCr", "LAB", "HSV")
_DEEP: Final = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class PillowDecoder:
    """A file that Pillow decodes; ``kind`` is Pillow's name of the format."""

    def __init__(self, data: bytes, kind: str) -> None:
        self._data, self._kind = data, kind
        with self._open() as image:
            refuse_frames(getattr(image, "n_frames", 1))
            if image.mode in _DEEP:
                raise RefusedError(f"values of Pillow's mode {image.mode}; save it with 8 bits a channel")
            self._info: dict[str, Any] = dict(image.info)
            height, width, channels = image.height, image.width, max(len(image.getbands()), 3 if image.palette else 1)
        exif = self._info.get("exif")
        self._exif = parse_exif(exif)
        self._notices = ["its EXIF is damaged and was left out"] if exif and self._exif is None else []
        self._orientation = orientation(self._exif, self._info.get("xmp"))
        height, width = upright_size(height, width, self._orientation)
        self.header = Header(height, width, kind, channels)

    def decode(self) -> Picture:
        check_budget(self.header)
        info = self._info
        with self._open() as image:
            image.load()
            picture = Picture(np.empty((0, 0), np.uint8), info.get("icc_profile"))
            if image.mode in _COLOUR_SPACES:
                set_rgb(picture, image)
            else:
                kind = "LA" if image.mode in _GREYS else "RGBA"
                picture.pixels = np.asarray(image.convert(kind if image.has_transparency_data else kind[:-1]))
        picture.pixels = upright(picture.pixels, self._orientation)
        picture.notices += self._notices
        attach(picture, self._exif, info.get("xmp"))
        picture.dpi = valid_dpi(info.get("dpi"))
        comment = info.get("comment")
        picture.comment = comment if isinstance(comment, bytes) else None
        if (bits := self._bits()) > 8:
            picture.notices.append(f"of its {bits} bits 8 were read")
        picture.lossless_webp = self._kind == "WEBP" and _has_chunk(self._data, b"VP8L")
        return picture

    def _open(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=(self._kind,))

    def _bits(self) -> int:
        if self._kind == "HEIF":
            return int(self._info.get("bit_depth") or 8)
        if self._kind == "AVIF" and (found := _AVIF_BITS.search(self._data, 0, 2**16)):
            return found[1][0]
        return 8


def _has_chunk(webp: bytes, kind: bytes) -> bool:
    position = 12  # "RIFF", its size, "WEBP"
    while (found := webp[position : position + 4]) and found != kind:
        size = int.from_bytes(webp[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return found == kind
