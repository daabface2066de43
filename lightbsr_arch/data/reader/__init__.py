"""The reader of picture files, for training and for upscaling.

The first bytes of a file determine its format. The decoder of the format parses the header first. The size of the
picture is compared with a limit in bytes before anything is decoded. Files that cannot be read are refused with a
reason.
"""

import logging
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from lightbsr.errors import UserError
from lightbsr_arch.data.reader.base import MAX_FILE_BYTES, Decoder, Header, Picture, Pixels, RefusedError
from lightbsr_arch.data.reader.by_pillow import READS_AVIF, READS_HEIF, PillowDecoder
from lightbsr_arch.data.reader.jpeg import JpegDecoder
from lightbsr_arch.data.reader.png import PngDecoder
from lightbsr_arch.data.reader.pnm import PnmDecoder
from lightbsr_arch.data.reader.tiff import TiffDecoder

__all__ = [
    "PASSED_OVER",
    "PICTURE_SUFFIXES",
    "STANDARD_STREAM",
    "Header",
    "Picture",
    "Pixels",
    "Source",
    "read_bytes",
    "read_header",
    "read_input",
    "read_picture",
]

for _library in ("PIL", "tifffile"):  # their warnings about odd files would go to standard error
    logging.getLogger(_library).addHandler(logging.NullHandler())

Source = str | PathLike[str] | bytes

STANDARD_STREAM = "-"
"""Name of standard input or standard output, instead of a file."""

_PNG: Final = {".png", ".apng"}
_JPEG: Final = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}
_HEIF: Final = {".heic", ".heif", ".hif"}
_AVIF: Final = {".avif"}
_OTHER: Final = {".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"}

PICTURE_SUFFIXES: Final = frozenset(
    _PNG | _JPEG | _OTHER | (_HEIF if READS_HEIF else set()) | (_AVIF if READS_AVIF else set())
)
"""Extensions of the files that are taken from a folder. A file that is given by name is read with any extension."""

_NEEDS_HEIF: Final = "pip install 'lightbsr-arch[heic]' reads it"
_NEEDS_AVIF: Final = "a newer Pillow reads it"
_NOT_READ_SUFFIXES: Final = """
    .jxl .jp2 .j2k .jpx .jpf .jxr .psd .psb .xcf .kra .exr .hdr .pfm .pam .tga .ico .cur .dds .pcx .svg .eps .ai
    .dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .orf .rw2 .raf .pef .srw .3fr .iiq .x3f .fits .dcm
"""
PASSED_OVER: Final = {
    **dict.fromkeys(() if READS_HEIF else sorted(_HEIF), _NEEDS_HEIF),
    **dict.fromkeys(() if READS_AVIF else sorted(_AVIF), _NEEDS_AVIF),
    **dict.fromkeys(_NOT_READ_SUFFIXES.split(), "not read"),
}
"""Extensions of pictures that are not read, with the reason."""

_READ: Final = "PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF, HEIC"
_DECODERS: Final[list[tuple[re.Pattern[bytes], Callable[[bytes], Decoder]]]] = [
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngDecoder),
    (re.compile(rb"\xff\xd8\xff"), JpegDecoder),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+", re.DOTALL), TiffDecoder),
    (re.compile(rb"P[1-6][\s#]"), PnmDecoder),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), lambda data: PillowDecoder(data, "WEBP")),
    (re.compile(rb"BM"), lambda data: PillowDecoder(data, "BMP")),
    (re.compile(rb"GIF8[79]a"), lambda data: PillowDecoder(data, "GIF")),
    (re.compile(rb"....ftyp(?:avif|avis)", re.DOTALL), lambda data: _if_there(data, "AVIF", READS_AVIF, _NEEDS_AVIF)),
    (
        re.compile(rb"....ftyp(?:heic|heix|hevc|hevx|heim|heis|mif1|msf1)", re.DOTALL),
        lambda data: _if_there(data, "HEIF", READS_HEIF, _NEEDS_HEIF),
    ),
]
_NOT_READ: Final = [
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ", re.DOTALL), "a JPEG XL file"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", re.DOTALL), "a JPEG 2000 file"),
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"v/1\x01"), "an OpenEXR file"),
    (re.compile(rb"#\?(?:RADIANCE|RGBE)"), "a Radiance HDR file"),
    (re.compile(rb"P[Ff][\s]"), "a PFM file of floating-point values"),
    (re.compile(rb"P7\s"), "a PAM file"),
    (re.compile(rb"%PDF|%!PS"), "a PDF or PostScript file"),
    (re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<svg"), "an SVG drawing"),
    (re.compile(rb"FUJIFILMCCD-RAW|....ftypcrx|IIRO|IIU\0", re.DOTALL), "a camera's raw file"),
]
_SPECIAL: Final = [
    (stat.S_ISDIR, "a folder, not a picture"),
    (stat.S_ISFIFO, "a named pipe, not a picture file; pipe into - instead"),
    (stat.S_ISSOCK, "a socket, not a picture"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device, not a picture"),
]


def read_picture(source: Source, name: str | None = None) -> Picture:
    """Read a picture file, or its bytes, upright and with its metadata.

    Palettes become RGB, with alpha where they have transparent entries. Black and white becomes grey. 1 to 7 bits
    become 8 and 9 to 15 bits become 16, over the full range. CMYK and other colour spaces become RGB, with a notice.
    The conversion of CMYK uses the colour profile if there is one.

    Args:
        source: a path or the bytes of a file.
        name: name of the picture in errors; the path by default.

    Raises:
        UserError: the file is missing, empty, not a regular file, not a supported picture, cut short, damaged or
            animated. It has several pages, or values that are not unsigned integers of 1 to 16 bits. Its pixels exceed
            `base.MAX_PIXEL_BYTES`. The message starts with the name.
    """
    name, data = read_bytes(source, name)
    with _refusals(name):
        decoder = _decoder(data)
        picture = decoder.decode()
        height, width = picture.pixels.shape[:2]
        if (height, width) != decoder.header[:2]:
            claimed = f"{decoder.header.width}x{decoder.header.height}"
            raise RefusedError(f"cut short or damaged (its header claims {claimed} pixels, there are {width}x{height})")
        picture.pixels = np.ascontiguousarray(picture.pixels)
        return picture


def read_header(source: Source, name: str | None = None) -> Header:
    """Return size and kind of a picture without decoding its pixels. Raise `UserError` as `read_picture` does."""
    name, data = read_bytes(source, name)
    with _refusals(name):
        return _decoder(data).header


def read_bytes(source: Source, name: str | None) -> tuple[str, bytes]:
    """Return the name of a picture for errors, and the bytes of its file. Raise `UserError` if it cannot be read."""
    if isinstance(source, bytes):
        return name or "picture", source
    path = Path(source)
    name = name or str(path)
    try:
        status = path.stat()  # before the file is opened, because opening a pipe waits for a writer
        for is_kind, reason in _SPECIAL:
            if is_kind(status.st_mode):
                raise UserError(f"{name}: {reason}")
        if status.st_size <= MAX_FILE_BYTES:
            return name, path.read_bytes()
        reason = f"a file of {status.st_size / 1e6:.0f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} MB are read"
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
    except PermissionError:
        reason = "no permission to read it"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(f"{name}: {reason}")


def read_input(path: str | PathLike[str]) -> tuple[str, bytes]:
    """Return the name for errors and the bytes of a file, or of standard input for the path ``STANDARD_STREAM``.

    Longer input is cut, and refused when decoded.

    Raises:
        UserError: the file cannot be read, or standard input is closed or cannot be read, as one opened for writing.
    """
    if fspath(path) != STANDARD_STREAM:
        return read_bytes(path, None)
    if sys.stdin is None:
        raise UserError("standard input: closed; redirect a picture to it")
    try:
        return "standard input", sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"standard input: cannot be read: {error.strerror or error}; redirect a picture to it"
        ) from None


def _decoder(data: bytes) -> Decoder:
    if not data:
        raise RefusedError("empty file")
    if len(data) > MAX_FILE_BYTES:
        raise RefusedError(f"over {MAX_FILE_BYTES / 1e6:.0f} MB of file")
    for start, decoder in _DECODERS:
        if start.match(data):
            return decoder(data)
    for start, kind in _NOT_READ:
        if start.match(data):
            raise RefusedError(f"{kind}, which is not read; save it as PNG or TIFF")
    raise RefusedError(f"not a picture that can be read ({_READ})")


def _if_there(data: bytes, kind: str, is_there: bool, needs: str) -> Decoder:
    if not is_there:
        raise RefusedError(f"a picture of format {kind}; {needs}")
    return PillowDecoder(data, kind)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn any exception of reading into one line that names the picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, and above half its pixel limit
            yield
            return
    except RefusedError as error:
        reason = str(error)
    except Image.DecompressionBombError:
        reason = f"its header claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels"
    except MemoryError:
        reason = "memory does not suffice to read it"
    except Exception as error:  # damaged files raise nearly anything in the decoders
        reason = f"cut short or damaged ({' '.join(str(error).split()) or type(error).__name__})"
    raise UserError(f"{name}: {reason}") from None
