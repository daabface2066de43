"""Classes and limits that all decoders share: the picture, its header and the error of a refusal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

MAX_PIXEL_BYTES: Final = 2**30
"""Limit of height x width x channels x bytes per sample, checked before anything is decoded."""

MAX_FILE_BYTES: Final = MAX_PIXEL_BYTES + 2**26

MAX_METADATA_BYTES: Final = 2**24
"""Limit of one profile or text after decompression, in bytes."""


class RefusedError(Exception):
    """The reason why a picture cannot be read. The reader adds the name of the picture in front."""


class Header(NamedTuple):
    """The values of a picture's header. Height and width are those of the upright picture."""

    height: int
    width: int
    format: str
    """Pillow's name of the format: PNG, JPEG, MPO, WEBP, TIFF, BMP, GIF, PPM, AVIF, HEIF or JXL."""
    channels: int
    bytes_per_sample: int = 1


@dataclass
class Picture:
    """An upright picture with its metadata.

    Attributes:
        pixels: uint8 or uint16; H x W grey, H x W x 2 grey and alpha, H x W x 3 RGB, H x W x 4 RGB and alpha. Alpha is
            not multiplied into the colours.
        icc: colour profile of the pixels.
        exif: EXIF without orientation and size.
        xmp: XMP without orientation and size.
        iptc: IPTC-IIM records.
        dpi: horizontal and vertical pixels per inch.
        comment: comment of JPEG or GIF.
        png_chunks: (kind, content) of PNG chunks that are copied unchanged to another PNG: texts, density, and
            chunks that define colours.
        lossless_webp: whether the file was lossless WebP, so that WebP output should be lossless too.
        notices: one line per part of the file that could not be kept.
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
    """A file whose header has been parsed. Any exception except `RefusedError` means that the file is damaged."""

    header: Header

    def decode(self) -> Picture: ...


def check_budget(header: Header) -> None:
    """Raise `RefusedError` if the decoded pixels would exceed `MAX_PIXEL_BYTES`."""
    height, width, _, channels, bytes_per_sample = header
    if height < 1 or width < 1:
        raise RefusedError(f"its header claims {width}x{height} pixels")
    if (size := height * width * channels * bytes_per_sample) > MAX_PIXEL_BYTES:
        raise RefusedError(
            f"its header claims {width}x{height} pixels of {channels} x {8 * bytes_per_sample} bits, "
            f"{size / 1e6:.0f} MB; at most {MAX_PIXEL_BYTES / 1e6:.0f} MB are read"
        )


def refuse_frames(count: int) -> None:
    """Raise `RefusedError` if a file holds several pictures."""
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
    """Turn and flip pixels by EXIF orientation. An unknown orientation leaves them unchanged."""
    turn = _TURNED.get(orientation)
    return stored if turn is None else turn(stored)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width after `upright`."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def rescale(values: Pixels, largest: int) -> Pixels:
    """Scale unsigned integers in [0, largest] to the full range of uint8 or, for largest > 255, uint16."""
    dtype, full = (np.uint8, 255) if largest <= 255 else (np.uint16, 65535)
    if largest == full:
        return values.astype(dtype, copy=False)
    table = (np.arange(largest + 1, dtype=np.uint32) * full + largest // 2) // largest
    pixels: Pixels = table.astype(dtype)[np.minimum(values, values.dtype.type(largest))]
    return pixels
