"""What every decoder gives and obeys: the picture, its header, the limits, and how a refusal is raised."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

MAX_PIXEL_BYTES: Final = 2**30
"""Decoded pixels: height x width x channels x bytes per sample, checked before anything is decoded."""

MAX_FILE_BYTES: Final = MAX_PIXEL_BYTES + 2**26

MAX_METADATA_BYTES: Final = 2**24
"""One profile or text after decompression."""


class RefusedError(Exception):
    """Why a picture cannot be read; the reader puts its name in front."""


class Header(NamedTuple):
    """What a picture's header says. Height and width are those of the upright picture."""

    height: int
    width: int
    format: str
    """As Pillow names it: PNG, JPEG, MPO, WEBP, TIFF, BMP, GIF, PPM, AVIF, HEIF, JXL."""
    channels: int
    bytes_per_sample: int = 1


@dataclass
class Picture:
    """An upright picture and what goes with it.

    Attributes:
        pixels: uint8 or uint16; H x W grey, H x W x 2 grey and alpha, H x W x 3 RGB, H x W x 4 RGB and alpha. Alpha is
            not multiplied into the colours.
        icc: colour profile that the pixels are in.
        exif: without orientation and size.
        xmp: without orientation and size.
        iptc: IPTC-IIM records.
        dpi: horizontal and vertical pixels per inch.
        comment: of JPEG or GIF.
        png_chunks: (kind, content) of PNG chunks that are copied to another PNG as they are: texts, density, and
            those that define colours.
        lossless_webp: whether WebP is to be lossless, as the file was.
        notices: what of the file could not be kept, a line each.
    """

    pixels: Pixels
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    png_chunks: list[tuple[bytes, bytes]] = field(default_factory=list)
    lossless_webp: bool = False
    notices: list[str] = field(default_factory=list)


class Decoder(Protocol):
    """A file whose header has been parsed. Anything but `RefusedError` that is raised means a damaged file."""

    header: Header

    def decode(self) -> Picture: ...


def check_budget(header: Header) -> None:
    """Raises `RefusedError` where the decoded pixels would exceed `MAX_PIXEL_BYTES`."""
    height, width, _, channels, bytes_per_sample = header
    if height < 1 or width < 1:
        raise RefusedError(f"its header claims {width}x{height} pixels")
    if (size := height * width * channels * bytes_per_sample) > MAX_PIXEL_BYTES:
        raise RefusedError(
            f"its header claims {width}x{height} pixels of {channels} x {8 * bytes_per_sample} bits, "
            f"{size / 1e6:.0f} MB; at most {MAX_PIXEL_BYTES / 1e6:.0f} MB are read"
        )


def refuse_frames(count: int) -> None:
    """Raises `RefusedError` where a file holds several pictures."""
    if count > 1:
        raise RefusedError(f"{count} frames or pages in one file; save the one wanted as a still picture")


_TURNED: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def upright(stored: Pixels, orientation: int) -> Pixels:
    """The pixels as they are to be shown, by EXIF orientation; an unknown one leaves them as they are."""
    return _TURNED.get(orientation, lambda stored: stored)(stored)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Height and width after `upright`."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def rescale(values: Pixels, largest: int) -> Pixels:
    """Unsigned integers in [0, largest] to the full range of uint8 or, where largest > 255, uint16."""
    dtype, full = (np.uint8, 255) if largest <= 255 else (np.uint16, 65535)
    if largest == full:
        return values.astype(dtype, copy=False)
    table = (np.arange(largest + 1, dtype=np.uint32) * full + largest // 2) // largest
    return table.astype(dtype)[np.minimum(values, values.dtype.type(largest))]
