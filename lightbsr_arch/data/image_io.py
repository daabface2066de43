"""Reading any picture to one form (8-bit BGR), and writing losslessly; what cannot be read is said in one line.

OpenCV decodes, so that pixels are those BasicSR sees. Pillow reads the header first: it knows the number of frames and
guards against headers that claim billions of pixels. Decoding works on bytes, because ``cv2.imread`` fails without a
word on non-ASCII names on some systems.
"""

import io
import re
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lightbsr_arch.errors import UserError

PICTURE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"})
"""Files with these endings are taken from a folder; a file that is named itself is tried whatever its ending."""

Image.init()  # loads the readers of every format; Image.open(formats=...) knows only those loaded
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
_EXIF_ORIENTATION: Final = 0x0112
_JPEG_SEGMENT: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)

Picture = NDArray[np.uint8]
Source = str | PathLike[str] | bytes


class Header(NamedTuple):
    """What a picture's header says; height and width are those after EXIF rotation, bands as Pillow names them."""

    height: int
    width: int
    format: str
    bands: tuple[str, ...]


def read_image(source: Source, name: str | None = None) -> Picture:
    """Read a picture file, or its bytes, as H x W x 3 uint8 in BGR order, upright.

    Grey becomes three equal channels and palettes are expanded; alpha is dropped and the colours under it kept; of 16
    bits the upper 8 are kept; EXIF orientation is applied; CMYK is converted; colour profiles are ignored, as BasicSR
    does.

    Args:
        source: a path or the bytes of a file.
        name: how to call the picture in errors; the path unless given.

    Raises:
        UserError: the file is missing, empty, no picture, cut short, damaged, animated, has several pages, or is larger
            than Pillow's limit (179 million pixels). The message starts with the name.
    """
    name, data = read_bytes(source, name)
    header = _header(data, name)
    if header.format == "TIFF" and "A" in header.bands:
        return _decode_tiff_with_alpha(data, name)
    return decode(data, name, header, cv2.IMREAD_COLOR)


def decode(data: bytes, name: str, header: Header, mode: int) -> NDArray[Any]:
    """What ``cv2.imdecode`` makes of a picture's bytes; raises `UserError` where they are not whole."""
    check_jpeg_is_whole(data, name, header)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise UserError(f"{name}: cannot be decoded ({error.err})") from None
    if image is None:
        raise UserError(f"{name}: cut short or damaged ({header.format} header, but the pixels cannot be decoded)")
    return image


def check_jpeg_is_whole(data: bytes, name: str, header: Header) -> None:
    """Decoders fill in what a JPEG misses and say nothing."""
    if header.format in ("JPEG", "MPO") and not _jpeg_is_whole(data):
        raise UserError(f"{name}: cut short (no end of the JPEG)")


def read_bytes(source: Source, name: str | None) -> tuple[str, bytes]:
    """What to call a picture in errors, and the bytes of its file; raises `UserError` where it cannot be read."""
    if isinstance(source, bytes):
        return name or "picture", source
    path = Path(source)
    name = name or str(path)
    try:
        return name, path.read_bytes()
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
    except IsADirectoryError:
        reason = "a folder, not a picture"
    except PermissionError:
        reason = "no permission to read it"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(f"{name}: {reason}")


def read_header(source: Source, name: str | None = None) -> Header:
    """Size and kind of a picture without decoding its pixels; raises `UserError` as `read_image` does."""
    name, data = read_bytes(source, name)
    return _header(data, name)


def encode_image(image: NDArray[Any], codec: str) -> bytes:
    """Encode an H x W x 3 uint8 BGR image losslessly; ``codec`` is a key of `CODECS`.

    PNG also takes grey (H x W), alpha (H x W x 4) and uint16.
    """
    ok, data = cv2.imencode(f".{codec}", image, CODECS[codec].parameters)
    if not ok:
        raise UserError(f"OpenCV cannot write {codec} here (image {image.shape}, {image.dtype})")
    return data.tobytes()


class Codec(NamedTuple):
    """A lossless codec: parameters for ``cv2.imencode`` and the level that ``meta_info.txt`` records."""

    parameters: list[int]
    level: int


# Level 1, as BasicSR's LMDB writer. With one fixed filter and run lengths, photos take half the time to encode, three
# quarters to decode and 2 % fewer bytes than with OpenCV's own choice of filters (older OpenCV lets nobody choose).
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]

CODECS: Final[dict[str, Codec]] = {
    "png": Codec(_PNG, 1),
    "bmp": Codec([], 0),
    "webp": Codec([cv2.IMWRITE_WEBP_QUALITY, 101], 1),  # above 100 means lossless
}


def _header(data: bytes, name: str) -> Header:
    if not data:
        raise UserError(f"{name}: empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and from half its pixel limit on
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
                frames = getattr(image, "n_frames", 1)
                # The base class's method: the PNG reader's own decodes the whole picture to find late metadata.
                orientation = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)
                kind, bands = image.format or "", image.getbands()
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(f"{name}: its header claims more than {limit} million pixels") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF, PPM)") from None
    except Exception as error:  # damaged headers raise nearly anything in Pillow's parsers
        raise UserError(f"{name}: cut short or damaged ({error})") from None
    if frames > 1 and kind != "MPO":  # MPO: a camera's JPEG with a preview behind the photo
        raise UserError(f"{name}: {frames} frames or pages in one file; save the one wanted as a still picture")
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    return Header(height, width, kind, bands)


def _decode_tiff_with_alpha(data: bytes, name: str) -> Picture:
    """OpenCV multiplies a TIFF's alpha into its colours; Pillow does not."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name}: cut short or damaged ({error})") from None
    return np.ascontiguousarray(rgb[..., ::-1])


def _jpeg_is_whole(data: bytes) -> bool:
    """Walk the segments to the end-of-image marker: OpenCV 4 fills a missing tail with grey and says nothing."""
    position = 2
    while match := _JPEG_SEGMENT.search(data, position):
        marker = match[1][0]
        position = match.end()
        if marker == 0xD9:
            return True
        standalone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        if not standalone:
            position += int.from_bytes(data[position : position + 2], "big")
    return False
