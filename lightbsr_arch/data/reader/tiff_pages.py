"""The pages of a TIFF file and their sizes, before anything is decoded."""

import struct
from collections.abc import Iterator
from typing import Any, Final

import tifffile

from lightbsr_arch.data.reader.base import RefusedError

_MOST_PAGES: Final = 1000
_ROWS_PER_STRIP: Final = 278
_SIZES: Final = (256, 257, 277, _ROWS_PER_STRIP, 284, 322, 323)
"""Tags with one number: width, length, samples per pixel, rows per strip, planar configuration, size of tiles."""
_WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""``struct`` formats of the integer types."""
_LARGEST_SIDE: Final = 2**24


def check_sizes(data: bytes) -> None:
    """Refuse absurd sizes, for which tifffile would build lists of billions of strips.

    The function follows the chain of image file directories (TIFF 6.0, section 2, and BigTIFF). An entry has a tag, a
    type, a count and a value.
    """
    order = ">" if data[:2] == b"MM" else "<"
    is_big = data[2:4] in (b"+\0", b"\0+")
    start, number, entry = (8, "Q", "HHQ8s") if is_big else (4, "H", "HHI4s")
    offset = "Q" if is_big else "I"
    entry_size = struct.calcsize(order + entry)
    try:
        (place,) = struct.unpack_from(order + offset, data, start)
        for _ in range(_MOST_PAGES):
            if not place:
                return
            (entries,) = struct.unpack_from(order + number, data, place)
            place += struct.calcsize(order + number)
            for tag, kind, count, value in struct.iter_unpack(
                order + entry, data[place : place + entries * entry_size]
            ):
                if tag not in _SIZES or kind not in _WHOLE_NUMBERS:
                    continue
                if count != 1:
                    raise RefusedError(f"damaged: TIFF tag {tag} has {count} values, expected 1")
                (side,) = struct.unpack_from(order + _WHOLE_NUMBERS[kind], value)
                if tag != _ROWS_PER_STRIP and side > _LARGEST_SIDE:  # 2**32 - 1 means one strip with all rows
                    raise RefusedError(f"damaged: {side} pixels, rows or samples of a picture (TIFF tag {tag})")
            (place,) = struct.unpack_from(order + offset, data, place + entries * entry_size)
    except struct.error:
        return  # tifffile names what is missing


def further_pages(file: tifffile.TiffFile) -> Iterator[Any]:
    """Yield the pages after the first one."""
    for number in range(1, _MOST_PAGES):
        try:
            page = file.pages[number]
        except IndexError:
            return
        yield page.aspage() if isinstance(page, tifffile.TiffFrame) else page
