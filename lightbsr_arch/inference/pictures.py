"""Writing of upscaled pictures in formats that differ in the parts of a picture that they can hold.

Grey, 16 bits, alpha, colour profile, EXIF, XMP, IPTC, density and texts are kept if the format can hold them. A notice
names each part that is lost.
"""

import io
import re
import struct
import zlib
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import encode_image
from lightbsr_arch.data.reader import Picture, Pixels, read_picture
from lightbsr_arch.data.reader.png import COLOUR_CHUNKS, TEXT_CHUNKS, XMP_KEYWORD, chunk
from lightbsr_arch.data.reader.tiff import TEXT_TAGS

__all__ = ["FORMATS", "Format", "Picture", "check_size", "encode", "fit", "read_picture"]


class Format(NamedTuple):
    """The parts of a picture that a file format can hold."""

    suffixes: tuple[str, ...]
    alpha: bool
    deep: bool
    """True if the format supports 16 bits per channel."""
    longest_side: int
    metadata: dict[str, int]
    """Names of attributes of `Picture` that the format holds, with the largest size in bytes of each."""
    most_bytes: float = float("inf")
    """Largest size of the pixels."""


_ANY = 2**30
_SEGMENT = 2**16 - 1 - 2  # largest content of a JPEG segment: its length field takes 2 bytes

FORMATS: Final = {
    "png": Format(
        (".png",), True, True, 2**31 - 1, dict.fromkeys(("icc", "exif", "xmp", "dpi", "comment", "png_chunks"), _ANY)
    ),
    "jpg": Format(
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        False,
        False,
        65500,
        {
            "icc": 255 * (_SEGMENT - 14),
            "exif": _SEGMENT,
            "xmp": _SEGMENT - 29,
            "iptc": _SEGMENT - 27,
            "dpi": _ANY,
            "comment": _SEGMENT,
        },
    ),
    "webp": Format((".webp",), True, False, 16383, dict.fromkeys(("icc", "exif", "xmp"), _ANY)),
    "tiff": Format((".tiff", ".tif"), True, True, 2**31 - 1, dict.fromkeys(("icc", "xmp", "iptc", "dpi"), _ANY)),
    "bmp": Format((".bmp",), False, False, 2**31 - 1, {"dpi": _ANY}, 2**32 - 2**24),  # the rest is padding of rows
}
"""The formats that can be written, by name."""

QUALITY = 95
"""Quality of JPEG and lossy WebP."""

_NAMES: Final = {
    "icc": "colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "density (DPI)",
    "comment": "comment",
}
_EXIF_DENSITY: Final = {282, 283, 296}
_TIFF_DATE: Final = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")
_SRGB_CHUNKS: Final = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
"""PNG chunks whose loss needs no notice, because other formats imply their content."""


def fit(picture: Picture, codec: str) -> Picture:
    """Reduce a picture to the parts that a format of `FORMATS` can hold. A notice names each lost part."""
    pixels, notices = picture.pixels, list(picture.notices)
    if not FORMATS[codec].deep and pixels.dtype == np.uint16:
        pixels = np.round(pixels / 257).astype(np.uint8)
        notices.append(f"{codec} holds only 8 of the 16 bits")
    if not FORMATS[codec].alpha and _has_alpha(pixels):
        pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3])
        notices.append(f"{codec} holds no alpha; it was left out")
    fitted = replace(picture, pixels=pixels, notices=notices)
    for attribute, name in _NAMES.items():
        value = getattr(picture, attribute)
        most = FORMATS[codec].metadata.get(attribute, 0)
        if value and len(value) > most and not (attribute == "exif" and codec == "tiff"):
            amount = f" of {len(value)} bytes" if most else ""
            notices.append(f"{codec} holds no {name}{amount}; it was left out")
            setattr(fitted, attribute, None)
    if picture.exif and codec == "tiff" and _has_more_than_texts(picture.exif):
        notices.append("tiff keeps only the texts of EXIF; the rest was left out")
    if "png_chunks" not in FORMATS[codec].metadata:
        lost = dict.fromkeys(_label(kind, content) for kind, content in picture.png_chunks if _says(kind, content))
        if lost:
            notices.append(f"{codec} holds no {', '.join(lost)} of a PNG; left out")
        fitted.png_chunks = []
    return fitted


def check_size(height: int, width: int, codec: str) -> None:
    """Raise `UserError` if a format cannot hold a picture of that size."""
    if max(height, width) > (limit := FORMATS[codec].longest_side):
        raise UserError(f"an output of {width}x{height} pixels, but {codec} allows {limit} per side; use --format png")


def encode(picture: Picture, codec: str) -> bytes:
    """Encode a picture in one of `FORMATS`, after `fit` and `check_size`.

    PNG, TIFF and BMP are lossless. JPEG (4:4:4) has quality 95. WebP also has quality 95, unless the input was lossless
    WebP. 16-bit grey with alpha is written as RGBA, because few programs can read it.
    """
    pixels = picture.pixels
    if pixels.dtype == np.uint16 and pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if codec == "tiff":
        return _tiff(pixels, picture)
    if codec == "png" and pixels.dtype == np.uint16:
        return _with_png_chunks(encode_image(_bgr(pixels), "png"), picture)
    given = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    extras: dict[str, Any] = {key: value for key, value in given.items() if value}
    density = {"dpi": picture.dpi} if picture.dpi else {}
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "png": ("PNG", {"compress_level": 3}),
        "jpg": ("JPEG", {"quality": QUALITY, "subsampling": "4:4:4", **extras, **density}),
        "webp": ("WEBP", {"quality": QUALITY, "lossless": picture.lossless_webp, "exact": True, **extras}),
        "bmp": ("BMP", density),
    }
    kind, arguments = options[codec]
    if codec == "jpg" and picture.comment:
        arguments["comment"] = picture.comment
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **arguments)
    if codec == "png":
        return _with_png_chunks(file.getvalue(), picture)
    return _with_iptc(file.getvalue(), picture.iptc) if codec == "jpg" and picture.iptc else file.getvalue()


def _tiff(pixels: Pixels, picture: Picture) -> bytes:
    tags: list[tuple[int, int | str, int, bytes | str, bool]] = []
    if picture.xmp:
        tags.append((700, "B", len(picture.xmp), picture.xmp, True))
    if picture.iptc:
        tags.append((33723, "B", len(picture.iptc), picture.iptc, True))
    texts = _exif_texts(picture.exif)
    tags += [(tag, "s", 0, text, True) for tag, text in texts.items() if tag not in (270, 305, 306)]
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb" if pixels.ndim == 3 and pixels.shape[2] >= 3 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=["unassalpha"] if _has_alpha(pixels) else None,
        compression="zlib",
        predictor=True,
        iccprofile=picture.icc,
        resolution=picture.dpi,
        resolutionunit="INCH" if picture.dpi else None,
        description=texts.get(270),
        software=texts.get(305, False),
        datetime=texts.get(306),
        extratags=tags,
        metadata=None,
    )
    return file.getvalue()


def _exif_texts(data: bytes | None) -> dict[int, str]:
    """Return the ASCII texts of EXIF that are written to TIFF."""
    if not data:
        return {}
    exif = Image.Exif()
    exif.load(data)
    values = {tag: exif.get(tag) for tag in TEXT_TAGS}
    texts = {tag: text.rstrip("\0") for tag, text in values.items() if isinstance(text, str) and text.isascii()}
    if not _TIFF_DATE.fullmatch(texts.get(306, "")):
        texts.pop(306, None)
    return {tag: text for tag, text in texts.items() if text}


def _has_more_than_texts(data: bytes) -> bool:
    exif = Image.Exif()
    exif.load(data)
    return bool(set(exif) - set(_exif_texts(data)) - _EXIF_DENSITY)


def _says(kind: bytes, content: bytes) -> bool:
    """Return whether a format that drops this PNG chunk loses information."""
    return kind not in (b"pHYs", b"sRGB") and _SRGB_CHUNKS.get(kind) != content


def _label(kind: bytes, content: bytes) -> str:
    if kind not in TEXT_CHUNKS:
        return kind.decode()
    keyword = content.split(b"\0")[0][:40].decode("latin-1")
    return f"text {keyword!r}"


def _has_alpha(pixels: Pixels) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] in (2, 4)


def _bgr(pixels: Pixels) -> Pixels:
    """Swap red and blue, which converts between the channel orders of OpenCV and Pillow."""
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _with_png_chunks(png: bytes, picture: Picture) -> bytes:
    """Return a PNG file with the picture's further chunks inserted after the header."""
    chunks = [chunk(kind, content) for kind, content in picture.png_chunks if kind in COLOUR_CHUNKS]
    if picture.icc:
        chunks.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)))
    if picture.exif:
        chunks.append(chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    chunks += [chunk(kind, content) for kind, content in picture.png_chunks if kind not in COLOUR_CHUNKS]
    if picture.dpi and all(kind != b"pHYs" for kind, _ in picture.png_chunks):
        chunks.append(chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in picture.dpi), 1)))
    if picture.xmp:
        chunks.append(chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + picture.xmp))
    if picture.comment:
        chunks.append(chunk(b"tEXt", b"Comment\0" + picture.comment.replace(b"\0", b"")))
    end_of_header = 33
    return png[:end_of_header] + b"".join(chunks) + png[end_of_header:]


def _with_iptc(jpeg: bytes, iptc: bytes) -> bytes:
    """Return a JPEG file with IPTC as a Photoshop segment after the first segment (JFIF). Pillow does not write it."""
    padded = iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + padded
    end_of_first = 4 + struct.unpack_from(">H", jpeg, 4)[0]
    return jpeg[:end_of_first] + b"\xff\xed" + struct.pack(">H", len(content) + 2) + content + jpeg[end_of_first:]
