"""Quality of JPEG files by their quantisation tables."""

import io
from functools import lru_cache

from PIL import Image


def file_quality(data: bytes) -> int | None:
    """Return the quality of a JPEG file on libjpeg's scale, 1 to 100, by its table for brightness.

    None for other formats, and for tables that are not libjpeg's.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            table = image.quantization[0]
    except Exception:  # damaged segments raise nearly anything in Pillow's parsers
        return None
    return _tables().get(tuple(table))


@lru_cache(maxsize=1)
def _tables() -> dict[tuple[int, ...], int]:
    """Return the qualities of libjpeg by its table for brightness, which Pillow writes."""
    qualities = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            qualities[tuple(image.quantization[0])] = quality
    return qualities
