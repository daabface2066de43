"""EXIF and XMP: the orientation out of them, and what of them still holds of an upright picture of another size."""

import math
import re
from typing import Any, Final

from PIL import Image

from lightbsr_arch.data.reader.base import Picture

ORIENTATION: Final = 0x0112
_EXIF_IFD: Final = 0x8769
_EXIF_SIZE: Final = (0xA002, 0xA003)
_XMP_ORIENTATION: Final = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|\s*>)\s*([0-9])""")
_XMP_STALE: Final = re.compile(
    rb"""\s(tiff:(?:Orientation|ImageWidth|ImageLength)|exif:PixelXDimension|exif:PixelYDimension)\s*=\s*(["'])[^"'<>]*\2"""
    rb"""|<(tiff:(?:Orientation|ImageWidth|ImageLength)|exif:PixelXDimension|exif:PixelYDimension)>[^<>]*</\3>"""
)


def parse_exif(data: bytes | None) -> Image.Exif | None:
    """EXIF, or None where there is none or it is damaged."""
    if not data:
        return None
    exif = Image.Exif()
    try:
        exif.load(data)
        dict(exif)  # values are parsed when they are asked for
    except Exception:  # damaged entries raise nearly anything
        return None
    return exif


def orientation(exif: Image.Exif | None, xmp: bytes | None) -> int:
    """1 to 8; EXIF's, or XMP's where EXIF has none."""
    value: Any = None if exif is None else exif.get(ORIENTATION)
    if value is None and xmp and (match := _XMP_ORIENTATION.search(xmp)):
        value = int(match[1])
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def attach(picture: Picture, exif: Image.Exif | None, xmp: bytes | None) -> None:
    """Give an upright picture EXIF and XMP, without orientation and size; a notice says what cannot be kept."""
    picture.xmp = _XMP_STALE.sub(b"", xmp) if xmp else None
    if exif is None:
        return
    try:
        exif.pop(ORIENTATION, None)
        details = exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {}
        for tag in _EXIF_SIZE:
            details.pop(tag, None)
        picture.exif = exif.tobytes() if len(exif) else None
    except Exception:  # entries that no standard knows: cameras write them, Pillow cannot
        picture.notices.append("its EXIF has entries that cannot be written, and was left out")


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """A pair of densities, or None where it is none that a format can hold."""
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if all(math.isfinite(value) and 1 <= value <= 65535 for value in (x, y)) else None
