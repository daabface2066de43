"""EXIF and XMP: reading the orientation, and removing entries that are wrong for an upright, resized picture."""

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
    """Return EXIF, or None if it is missing or damaged."""
    if not data:
        return None
    exif = Image.Exif()
    try:
        exif.load(data)
        dict(exif)  # values are parsed on access
    except Exception:  # damaged entries raise nearly anything
        return None
    return exif


def orientation(exif: Image.Exif | None, xmp: bytes | None) -> int:
    """Return the orientation, 1 to 8, of EXIF or, if EXIF has none, of XMP."""
    value: Any = None if exif is None else exif.get(ORIENTATION)
    if value is None and xmp and (match := _XMP_ORIENTATION.search(xmp)):
        value = int(match[1])
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def attach(picture: Picture, exif: Image.Exif | None, xmp: bytes | None) -> None:
    """Set EXIF and XMP of an upright picture, without orientation and size. A notice names parts that are lost."""
    picture.xmp = _XMP_STALE.sub(b"", xmp) if xmp else None
    if exif is None:
        return
    try:
        exif.pop(ORIENTATION, None)
        details = exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {}
        for tag in _EXIF_SIZE:
            details.pop(tag, None)
        picture.exif = exif.tobytes() if len(exif) else None
    except Exception:  # cameras write entries outside the standard, which Pillow cannot write
        picture.notices.append("its EXIF has entries that cannot be written, and was left out")


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Return a pair of densities, or None if no format can hold it."""
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if all(math.isfinite(value) and 1 <= value <= 65535 for value in (x, y)) else None
