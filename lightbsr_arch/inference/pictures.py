"""A picture file as it is, for upscaling: grey stays grey, 16 bits stay 16 bits, and alpha, profile and EXIF stay.

(Training reads every picture as 8-bit colour: ``data/image_io.py``, which this extends.)
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from lightbsr_arch.data.image_io import (
    Header,
    Source,
    check_jpeg_is_whole,
    decode,
    encode_image,
    read_bytes,
    read_header,
)
from lightbsr_arch.errors import UserError

Pixels = NDArray[Any]


class Format(NamedTuple):
    """What a file format can hold."""

    suffixes: tuple[str, ...]
    alpha: bool
    deep: bool
    """16 bits."""
    longest_side: int


FORMATS: Final = {
    "png": Format((".png",), alpha=True, deep=True, longest_side=2**31 - 1),
    "jpg": Format((".jpg", ".jpeg"), alpha=False, deep=False, longest_side=65500),
    "webp": Format((".webp",), alpha=True, deep=False, longest_side=16383),
    "tiff": Format((".tiff", ".tif"), alpha=True, deep=True, longest_side=2**31 - 1),
    "bmp": Format((".bmp",), alpha=False, deep=False, longest_side=2**31 - 1),
}
"""That are written."""

QUALITY = 95
"""Of JPEG and lossy WebP."""

_ORIENTATION: Final = 0x0112
_EXIF_IFD: Final = 0x8769
_EXIF_SIZE: Final = (0xA002, 0xA003)
_TURNED: Final = {  # what shows a picture upright, by EXIF orientation
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@dataclass
class Picture:
    """An upright picture and what goes with it.

    Attributes:
        pixels: uint8 or uint16; H x W grey, H x W x 2 grey and alpha, H x W x 3 RGB, H x W x 4 RGB and alpha.
        icc: colour profile that the pixels are in.
        exif: without orientation and size.
        lossless_webp: whether WebP is to be lossless, as the file was.
        notices: what of the file could not be kept, a line each.
    """

    pixels: Pixels
    icc: bytes | None = None
    exif: bytes | None = None
    lossless_webp: bool = False
    notices: list[str] = field(default_factory=list)


def read_picture(source: Source, name: str | None = None) -> Picture:
    """Read a picture file, or its bytes.

    Palettes become RGB, with alpha where they have transparent entries; black and white becomes grey; CMYK and other
    colour spaces become RGB, by the profile if there is one, and a notice says so.

    Raises:
        UserError: as `data.image_io.read_image`; or 32 bits a channel. The message starts with the name.
    """
    name, data = read_bytes(source, name)
    header = read_header(data, name)
    check_jpeg_is_whole(data, name, header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and from half its pixel limit on
            kind = "JPEG" if header.format == "MPO" else header.format  # MPO: with a preview behind the photo
            with Image.open(io.BytesIO(data), formats=(kind,)) as image:
                return _from_pillow(image, data, name, header)
    except UserError:
        raise
    except Exception as error:  # damaged files raise nearly anything in Pillow's decoders
        raise UserError(f"{name}: cut short or damaged ({error})") from None


def _from_pillow(image: Image.Image, data: bytes, name: str, header: Header) -> Picture:
    icc = image.info.get("icc_profile")
    notices = []
    if _is_deep(image, data):
        pixels = _deep_pixels(data, name, header)
    else:
        image.load()
        if image.mode in ("I", "F"):
            raise UserError(f"{name}: 32 bits a channel; save it with 8 or 16")
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            notices.append(f"{image.mode} was converted to RGB")
            image, icc = _to_rgb(image, icc), None
        kind = "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"
        pixels = np.asarray(image.convert(kind if image.has_transparency_data else kind[:-1]))
    exif = Image.Exif()
    if header.format != "TIFF":  # there the tags say how the pixels are laid out
        exif = image.getexif()
    if not (header.format == "TIFF" and _is_deep(image, data)):  # that OpenCV has turned
        pixels = _TURNED.get(image.getexif().get(_ORIENTATION, 1), lambda stored: stored)(pixels)
    lossless_webp = header.format == "WEBP" and _has_chunk(data, b"VP8L")
    return Picture(np.ascontiguousarray(pixels), icc, _without_size(exif), lossless_webp, notices)


def _has_chunk(webp: bytes, kind: bytes) -> bool:
    position = 12  # "RIFF", its size, "WEBP"
    while (found := webp[position : position + 4]) and found != kind:
        size = int.from_bytes(webp[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return found == kind


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """16 bits a channel, of which Pillow keeps 8 where there is more than one channel."""
    if image.format == "PNG":
        return data[24] == 16
    if image.format == "TIFF":
        bits: tuple[int, ...] = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return set(bits) == {16} and image.mode not in ("CMYK", "LAB")
    return image.mode.startswith("I;16")


def _deep_pixels(data: bytes, name: str, header: Header) -> Pixels:
    pixels = decode(data, name, header, cv2.IMREAD_UNCHANGED)
    return pixels[..., [0, 3]] if header.bands == ("L", "A") else _bgr(pixels)


def _to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc and image.mode == "CMYK":
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):  # a broken profile is as good as none
            pass
    return image.convert("RGB")


def _without_size(exif: Image.Exif) -> bytes | None:
    exif.pop(_ORIENTATION, None)
    details = exif.get_ifd(_EXIF_IFD)
    for tag in _EXIF_SIZE:
        details.pop(tag, None)
    try:
        return exif.tobytes() if len(exif) else None
    except Exception:  # entries that no standard knows: cameras write them, Pillow cannot
        return None


def fit(picture: Picture, codec: str) -> Picture:
    """What a format, one of `FORMATS`, can hold of a picture; a notice says what it cannot."""
    pixels, notices = picture.pixels, list(picture.notices)
    if not FORMATS[codec].deep and pixels.dtype == np.uint16:
        pixels = np.round(pixels / 257).astype(np.uint8)
        notices.append(f"{codec} holds 8 bits of the 16")
    if not FORMATS[codec].alpha and _has_alpha(pixels):
        pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3])
        notices.append(f"{codec} holds no alpha; it was left out")
    return replace(picture, pixels=pixels, notices=notices)


def check_size(height: int, width: int, codec: str) -> None:
    """Raises `UserError` where a format cannot hold a picture of that size."""
    if max(height, width) > (limit := FORMATS[codec].longest_side):
        raise UserError(f"{width}x{height} pixels would come out, {codec} holds {limit} a side; use --format png")


def encode(picture: Picture, codec: str) -> bytes:
    """The bytes of a file in one of `FORMATS`, which can hold the picture (`fit`, `check_size`).

    PNG, TIFF and BMP are lossless; JPEG (4:4:4) is of quality 95, WebP too unless it comes of a lossless one. TIFF and
    BMP hold no EXIF here, BMP no profile. 16-bit grey with alpha is written as RGBA: few programs read anything else.
    """
    pixels, icc = picture.pixels, picture.icc
    if pixels.dtype == np.uint16 and pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if codec == "png" and pixels.dtype == np.uint16:
        return _with_png_chunks(encode_image(_bgr(pixels), "png"), picture)
    file = io.BytesIO()
    if codec == "tiff":
        tifffile.imwrite(
            file,
            pixels,
            photometric="rgb" if pixels.ndim == 3 and pixels.shape[2] >= 3 else "minisblack",
            planarconfig="contig" if pixels.ndim == 3 else None,
            extrasamples=["unassalpha"] if _has_alpha(pixels) else None,
            compression="zlib",
            predictor=True,
            iccprofile=icc,
            metadata=None,
        )
        return file.getvalue()
    extras: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if picture.exif:
        extras["exif"] = picture.exif
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "png": ("PNG", {"compress_level": 3, **extras}),
        "jpg": ("JPEG", {"quality": QUALITY, "subsampling": "4:4:4", **extras}),
        "webp": ("WEBP", {"quality": QUALITY, "lossless": picture.lossless_webp, "exact": True, **extras}),
        "bmp": ("BMP", {}),
    }
    kind, arguments = options[codec]
    Image.fromarray(pixels).save(file, kind, **arguments)
    return file.getvalue()


def _has_alpha(pixels: Pixels) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] in (2, 4)


def _bgr(pixels: Pixels) -> Pixels:
    """In OpenCV's order, from or to Pillow's."""
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _with_png_chunks(png: bytes, picture: Picture) -> bytes:
    """Profile and EXIF behind the header, which OpenCV does not write."""
    chunks = []
    if picture.icc:
        chunks.append(b"iCCP" + b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        chunks.append(b"eXIf" + picture.exif.removeprefix(b"Exif\0\0"))
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    end_of_header = 33
    return png[:end_of_header] + b"".join(framed) + png[end_of_header:]
