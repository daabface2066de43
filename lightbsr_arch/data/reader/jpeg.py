"""Decoding of JPEG. libjpeg only warns about missing pixels and fills them in. This decoder refuses such files."""

import io
import re
from typing import Any, Final

import numpy as np
import simplejpeg
from PIL import Image

from lightbsr_arch.data.reader.base import (
    Header,
    Picture,
    Pixels,
    RefusedError,
    check_budget,
    upright,
    upright_size,
)
from lightbsr_arch.data.reader.colour import set_rgb
from lightbsr_arch.data.reader.metadata import attach, orientation, parse_exif, valid_dpi

_SEGMENT: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_END, _START_OF_SCAN, _PROGRESSIVE = 0xD9, 0xDA, 0xC2
_READ_FRAMES: Final = (0xC0, 0xC1, _PROGRESSIVE)
_OTHER_FRAMES: Final = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded",
    0xCB: "lossless arithmetic-coded",
}
_MOST_SCANS: Final = 500  # each scan covers the whole picture; encoders write about ten
_COLOURS: Final = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_FEW_BYTES, _PADDING = 8, 512
_IPTC_RESOURCE: Final = 0x0404


class JpegDecoder:
    """Baseline and progressive JPEG of 8 bits and one, three or four components. The preview in an MPO is ignored."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        height, width, self._components = self._walk()
        self._notices: list[str] = []
        self._info: dict[str, Any] = {}
        kind = "JPEG"
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                self._info = dict(image.info)
                kind = image.format or kind
        except Image.DecompressionBombError:
            raise
        except Exception:  # damaged segments raise nearly anything in Pillow's parsers
            self._notices.append("its metadata are damaged and were left out")
        exif = self._info.get("exif")
        self._exif = parse_exif(exif)
        if exif and self._exif is None:
            self._notices.append("its EXIF is damaged and was left out")
        self._orientation = orientation(self._exif, self._info.get("xmp"))
        height, width = upright_size(height, width, self._orientation)
        self.header = Header(height, width, kind, self._components)

    def decode(self) -> Picture:
        check_budget(self.header)
        # Each block of 8 x 8 samples takes at least one bit, and the largest component has at least half as many
        # samples as the picture has pixels.
        if self.header.height * self.header.width > 64 * 8 * 2 * len(self._data):
            raise RefusedError(f"cut short or damaged ({len(self._data)} bytes cannot hold so many pixels)")
        info = self._info
        picture = Picture(np.empty((0, 0), np.uint8), info.get("icc_profile"), notices=self._notices)
        self._set_pixels(picture)
        attach(picture, self._exif, info.get("xmp"))
        picture.dpi = valid_dpi(info.get("dpi"))
        picture.comment = info.get("comment")
        resources = info.get("photoshop")
        iptc = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
        picture.iptc = iptc if isinstance(iptc, bytes) else None
        picture.pixels = upright(picture.pixels, self._orientation)
        return picture

    def _walk(self) -> tuple[int, int, int]:
        """Return height, width and components. Refuse a file that has no end marker."""
        position, scans = 2, 0
        frame: tuple[int, int, int] | None = None
        while match := _SEGMENT.search(self._data, position):
            marker = match[1][0]
            position = match.end()
            if marker == _END:
                self._end = match.start()
                if frame is None:
                    raise RefusedError("cut short or damaged (no header of the frame)")
                return frame
            if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
                continue
            length = int.from_bytes(self._data[position : position + 2], "big")
            if marker in _OTHER_FRAMES:
                raise RefusedError(f"a {_OTHER_FRAMES[marker]} JPEG, which is not read; save it as a usual one")
            if marker in _READ_FRAMES and frame is None:
                frame = self._frame(position)
                self._is_progressive = marker == _PROGRESSIVE
            if marker == _START_OF_SCAN:
                scans += 1
                if scans > _MOST_SCANS:
                    raise RefusedError(f"over {_MOST_SCANS} scans; save it as a usual JPEG")
            position += length
        raise RefusedError("cut short (no end of the JPEG)")

    def _frame(self, position: int) -> tuple[int, int, int]:
        if position + 8 > len(self._data):
            raise RefusedError("cut short (no end of the JPEG)")
        bits = self._data[position + 2]
        height = int.from_bytes(self._data[position + 3 : position + 5], "big")
        width = int.from_bytes(self._data[position + 5 : position + 7], "big")
        components = self._data[position + 7]
        if bits != 8:
            raise RefusedError(f"a JPEG of {bits} bits, which is not read; save it with 8")
        if components not in _COLOURS:
            raise RefusedError(f"a JPEG of {components} components; 1, 3 or 4 are read")
        return height, width, components

    def _set_pixels(self, picture: Picture) -> None:
        pixels = self._by_libjpeg()
        if pixels is not None and self._components != 4:
            picture.pixels = pixels[..., 0] if self._components == 1 else pixels
            return
        data = self._data
        if pixels is None and self._is_progressive:
            picture.notices.append("its sampling is unusual, so missing data cannot be detected")
        elif pixels is None:
            data = data[: self._end] + bytes(16)  # Pillow fails if libjpeg has to wait for more data
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.load()
            if self._components == 4:
                set_rgb(picture, image)  # Pillow detects inverted CMYK
            else:
                picture.pixels = np.asarray(image)

    def _by_libjpeg(self, strict: bool = True) -> Pixels | None:
        """Return the samples, or None if this interface to libjpeg does not support the sampling factors."""
        try:
            return np.asarray(simplejpeg.decode_jpeg(self._data, _COLOURS[self._components], strict=strict))
        except ValueError as error:
            if "Could not determine subsampling" in str(error):
                return None
            if strict and _loses_nothing(str(error), self._data[: self._end]):
                return self._by_libjpeg(strict=False)
            raise RefusedError(f"cut short or damaged ({error})") from None


def _loses_nothing(warning: str, data: bytes) -> bool:
    """Return whether libjpeg's first warning is harmless, because some cameras pad the end of the data.

    A larger surplus means that earlier data were lost or overwritten. ``data`` stops before the end marker.
    """
    if warning.startswith(("Warning: unknown JFIF revision", "Unknown Adobe color transform code")):
        return True
    surplus = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    if not surplus:
        return False
    count = int(surplus[1])
    return count <= _FEW_BYTES or (count <= _PADDING and not data[-count:].strip(b"\0\xff"))
