"""Odd and broken pictures, each with the outcome that reading it must have.

`CASES` contains the bytes. `write_corpus` writes them to a folder, and adds links, folders and permissions.
"""

import io
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 48, 72


@dataclass(frozen=True)
class Case:
    """A file in the corpus folder. Reading returns ``image`` (BGR), or an error whose message contains ``reason``."""

    name: str
    data: bytes
    image: NDArray[np.uint8] | None = None
    tolerance: int = 0
    reason: str = ""


@cache
def base() -> NDArray[np.uint8]:
    """Return a smooth picture, H x W x 3 BGR, that differs from all its flips and rotations."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = (3 * columns + rows, 200 - 2 * rows + columns // 2, 40 + 2 * rows + columns)
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def _pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _opencv(image: NDArray[np.generic], ending: str) -> bytes:
    return cv2.imencode(ending, image)[1].tobytes()


def _grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=-1)


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _flip_byte(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def _read_cases() -> list[Case]:
    bgr = base()
    rgb = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
    grey = np.ascontiguousarray(bgr[..., 0])
    alpha = Image.fromarray(grey)
    rgba, grey_alpha, cmyk = rgb.convert("RGBA"), Image.fromarray(grey).convert("LA"), rgb.convert("CMYK")
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    palette = rgb.quantize(16)
    expanded = np.asarray(palette.convert("RGB"))[..., ::-1]
    black_white = rgb.convert("1")
    deep = bgr.astype(np.uint16) * 256 + 77
    jpeg, png = _pillow(rgb, "JPEG", quality=95), _opencv(bgr, ".png")
    profile = b"not a real profile" * 8
    cases = [
        Case("rgb.png", png, bgr),
        Case("rgb.bmp", _opencv(bgr, ".bmp"), bgr),
        Case("rgb.ppm", _opencv(bgr, ".ppm"), bgr),
        Case("rgb.tiff", _pillow(rgb, "TIFF"), bgr),
        Case("lzw.tif", _pillow(rgb, "TIFF", compression="tiff_lzw"), bgr),
        Case("lossless.webp", _pillow(rgb, "WEBP", lossless=True), bgr),
        Case("lossy.webp", _pillow(rgb, "WEBP", quality=95), bgr, tolerance=12),
        Case("photo.jpg", jpeg, bgr, tolerance=8),
        Case("CAPITALS.JPEG", jpeg, bgr, tolerance=8),
        Case("grey.png", _opencv(grey, ".png"), _grey(grey)),
        Case("grey.jpg", _pillow(alpha, "JPEG", quality=95), _grey(grey), tolerance=8),
        Case("grey_alpha.png", _pillow(grey_alpha, "PNG"), _grey(grey)),
        Case("alpha.png", _pillow(rgba, "PNG"), bgr),
        Case("alpha.webp", _pillow(rgba, "WEBP", lossless=True, exact=True), bgr),
        Case("alpha.tiff", _pillow(rgba, "TIFF"), bgr),
        Case("palette.png", _pillow(palette, "PNG"), expanded),
        Case("palette_transparent.png", _pillow(palette, "PNG", transparency=3), expanded),
        Case("still.gif", _pillow(palette, "GIF"), expanded),
        Case("one_bit.png", _pillow(black_white, "PNG"), _grey(np.asarray(black_white.convert("L")))),
        Case("deep.png", _opencv(deep, ".png"), bgr),
        Case("deep_grey.png", _opencv(deep[..., 0], ".png"), _grey(grey)),
        Case("deep.tiff", _opencv(deep, ".tiff"), bgr, tolerance=1),
        Case("cmyk.jpg", _pillow(cmyk, "JPEG", quality=95), bgr, tolerance=8),
        Case("cmyk.tiff", _pillow(cmyk, "TIFF"), bgr),
        Case("profile.png", _pillow(rgb, "PNG", icc_profile=profile), bgr),
        Case("profile.jpg", _pillow(rgb, "JPEG", quality=95, icc_profile=profile), bgr, tolerance=8),
        Case("bytes_after_end.jpg", jpeg + bytes(500), bgr, tolerance=8),
        Case("camera_preview.jpg", _pillow(rgb, "MPO", save_all=True, append_images=[rgb], quality=95), bgr, 8),
        Case("jpeg_inside.png", jpeg, bgr, tolerance=8),
        Case("one_pixel.png", _opencv(bgr[:1, :1], ".png"), bgr[:1, :1]),
        Case("with space.png", png, bgr),
        Case("dots.in.name.png", png, bgr),
        Case("café 東京.png", png, bgr),
        Case("one/same.png", png, bgr),
        Case("two/same.png", _opencv(bgr[::-1], ".png"), bgr[::-1]),
        Case("folder.png/inside.png", png, bgr),
    ]
    undo = {  # inverse of each orientation, which returns the stored pixels
        1: bgr,
        2: bgr[:, ::-1],
        3: bgr[::-1, ::-1],
        4: bgr[::-1],
        5: bgr.transpose(1, 0, 2),
        6: np.rot90(bgr),
        7: bgr[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(bgr, -1),
    }
    for orientation, stored in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = Image.fromarray(np.ascontiguousarray(stored[..., ::-1]))
        data = _pillow(turned, "JPEG", quality=95, exif=exif)
        cases.append(Case(f"exif_{orientation}.jpg", data, bgr, tolerance=8))
    return cases


def _refused_cases() -> list[Case]:
    bgr = base()
    rgb = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
    frames = [rgb, rgb.rotate(90), rgb.rotate(180)]
    png, jpeg, bmp = _opencv(bgr, ".png"), _pillow(rgb, "JPEG", quality=95), _opencv(bgr, ".bmp")
    tiff, webp = _pillow(rgb, "TIFF"), _pillow(rgb, "WEBP", lossless=True)
    several = {"save_all": True, "append_images": frames[1:]}
    return [
        Case("empty.png", b"", reason="empty file"),
        Case("text.png", b"<html>404 Not Found</html>\n" * 9, reason="not a picture that can be read"),
        Case("._mac.png.jpg", b"\0\5\26\7\0\2\0\0Mac OS X", reason="not a picture that can be read"),
        Case("cut.png", png[: len(png) // 2], reason="cut short or damaged"),
        Case("cut.jpg", jpeg[: len(jpeg) * 9 // 10], reason="cut short"),
        Case("cut_last_bytes.jpg", jpeg[:-2], reason="cut short"),
        Case("cut.bmp", bmp[: len(bmp) // 2], reason="cut short or damaged"),
        Case("cut.webp", webp[: len(webp) // 2], reason="cut short or damaged"),
        Case("cut.tiff", tiff[: len(tiff) // 2], reason="cut short or damaged"),
        Case("cut_header.png", png[:20], reason="cut short or damaged"),
        Case("damaged.png", _flip_byte(png, len(png) // 2), reason="cut short or damaged"),
        Case("animated.gif", _pillow(frames[0], "GIF", **several), reason="3 frames or pages"),
        Case("animated.webp", _pillow(frames[0], "WEBP", lossless=True, **several), reason="3 frames or pages"),
        Case("animated.png", _pillow(frames[0], "PNG", **several), reason="3 frames or pages"),
        Case("pages.tiff", _pillow(frames[0], "TIFF", **several), reason="3 frames or pages"),
        Case("claims_60000x60000.png", _png_claiming(60000, 60000), reason="10800 MB; at most 1074 MB are read"),
        Case("float.tiff", _opencv(bgr.astype(np.float32), ".tiff"), reason="floating-point values of 32 bits"),
    ]


READ = _read_cases()
REFUSED = _refused_cases()
BROKEN_LINK = Case("link_to_nothing.png", b"", reason="a link to nothing")
UNREADABLE = Case("unreadable.png", _opencv(base(), ".png"), reason="no permission to read it")


def write_corpus(folder: Path) -> tuple[list[Case], list[Case]]:
    """Write all cases to ``folder``. Return the readable ones and the refused ones among the files that a scan finds.

    A scan skips a hidden file (``._mac``) and ``notes.txt``. The name of a folder may end with ``.png``.
    """
    for case in [*READ, *REFUSED]:
        path = folder / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.data)
    (folder / "notes.txt").write_text("no picture")
    (folder / BROKEN_LINK.name).symlink_to(folder / "gone.png")
    refused = [case for case in REFUSED if not case.name.startswith(".")] + [BROKEN_LINK]
    if os.geteuid() != 0:  # root may read anything
        (folder / UNREADABLE.name).write_bytes(UNREADABLE.data)
        (folder / UNREADABLE.name).chmod(0)
        refused.append(UNREADABLE)
    return READ, refused


def too_deep(folder: Path) -> None:
    """Nest folders until the path is too long for system calls, so that not even root can list the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=at)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
