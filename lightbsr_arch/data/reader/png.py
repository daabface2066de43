"""Decoding of PNG. The chunks are parsed here, and a decoder receives only those with pixels.

Other chunks therefore need no memory, whatever size they claim, and no decoder applies gamma or orientation.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from lightbsr_arch.data.reader.base import (
    MAX_METADATA_BYTES,
    Header,
    Picture,
    Pixels,
    RefusedError,
    check_budget,
    refuse_frames,
    rescale,
    upright,
    upright_size,
)
from lightbsr_arch.data.reader.metadata import attach, orientation, parse_exif, valid_dpi

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOUR_CHUNKS: Final = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi")
TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_COPIED: Final = (*COLOUR_CHUNKS, *TEXT_CHUNKS, b"pHYs")
_CRITICAL: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CHANNELS: Final = {**_SAMPLES, 3: 3}
_MOST_COMPRESSION: Final = 1032  # largest ratio of Deflate
_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MOST_CHUNKS: Final = 10**6
_GREY, _RGB, _PALETTE, _GREY_ALPHA = 0, 2, 3, 4


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    """Offset of the content in the file."""
    end: int


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return the bytes of a chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


class PngDecoder:
    """A PNG file. Pillow decodes up to 8 bits. imagecodecs or OpenCV decodes 16 bits, of which Pillow would keep 8."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._notices: list[str] = []
        self._chunks = list(self._walk())
        first = self._chunks[0]
        if first.kind != b"IHDR" or first.end - first.start != 13:
            raise RefusedError("cut short or damaged (it does not begin with its header)")
        width, height, self._depth, self._colour, *methods = struct.unpack_from(">IIBBBBB", data, first.start)
        if self._depth not in _DEPTHS.get(self._colour, ()) or methods[:2] != [0, 0] or methods[2] > 1:
            raise RefusedError(
                f"cut short or damaged (no PNG has {self._depth} bits, colour type {self._colour}, methods {methods})"
            )
        self._is_interlaced = bool(methods[2])
        if frames := self._content(b"acTL"):
            refuse_frames(int.from_bytes(frames[:4], "big"))
        exif = self._content(b"eXIf") or self._raw_profile()
        self._exif = parse_exif(exif)
        if exif and self._exif is None:
            self._notices.append("its EXIF is damaged and was left out")
        self._xmp = self._text(XMP_KEYWORD)
        self._orientation = orientation(self._exif, self._xmp)
        has_alpha = self._colour in (_GREY, _RGB, _PALETTE) and self._content(b"tRNS") is not None
        height, width = upright_size(height, width, self._orientation)
        channels = _CHANNELS[self._colour] + has_alpha
        self.header = Header(height, width, "PNG", channels, 2 if self._depth == 16 else 1)

    def decode(self) -> Picture:
        check_budget(self.header)
        compressed = sum(end - start for kind, start, end in self._chunks if kind == b"IDAT")
        bits = self.header.height * self.header.width * self._depth * _SAMPLES[self._colour]
        if bits > 8 * _MOST_COMPRESSION * compressed:
            raise RefusedError(f"cut short or damaged ({compressed} bytes cannot hold so many pixels)")
        for kind, start, end in self._chunks:
            if kind in _CRITICAL and not self._is_sound(kind, start, end):
                raise RefusedError(f"cut short or damaged (the checksum of its {kind.decode()} chunk is wrong)")
        pixels = self._deep_pixels() if self._depth == 16 else self._pixels()
        if self._colour in (_GREY, _RGB) and (key := self._content(b"tRNS")) is not None:
            pixels = self._with_transparent_key(pixels, key)
        picture = Picture(upright(pixels, self._orientation), self._profile(), notices=self._notices)
        attach(picture, self._exif, self._xmp)
        for kind, start, end in self._chunks:
            content = self._data[start:end]
            is_carried = kind in TEXT_CHUNKS and content.startswith((XMP_KEYWORD, b"Raw profile type "))
            if kind in _COPIED and not is_carried:
                if self._is_sound(kind, start, end):
                    picture.png_chunks.append((kind, content))
                else:
                    picture.notices.append(f"its {kind.decode()} chunk is damaged and was left out")
        if (density := self._content(b"pHYs")) and len(density) == 9 and density[8] == 1:  # pixels per metre
            picture.dpi = valid_dpi(metre * 0.0254 for metre in struct.unpack(">II", density[:8]))
        return picture

    def _walk(self) -> Iterator[_Chunk]:
        position, count = len(SIGNATURE), 0
        while True:
            if position + 12 > len(self._data):
                raise RefusedError("cut short or damaged (no end of the PNG)")
            length, kind = struct.unpack_from(">I4s", self._data, position)
            start = position + 8
            position = start + length + 4
            if position > len(self._data):
                raise RefusedError(f"cut short or damaged (a chunk claims {length} bytes, more than there are)")
            if not kind.isalpha():
                raise RefusedError("cut short or damaged (a chunk has no name)")
            if kind[:1].isupper() and kind not in _CRITICAL:
                raise RefusedError(f"its critical chunk {kind.decode()} is not known")
            yield _Chunk(kind, start, start + length)
            if kind == b"IEND":
                return
            count += 1
            if count > _MOST_CHUNKS:
                raise RefusedError(f"over {_MOST_CHUNKS} chunks; save it as a usual PNG")

    def _is_sound(self, kind: bytes, start: int, end: int) -> bool:
        (stored,) = struct.unpack_from(">I", self._data, end)
        return bool(zlib.crc32(memoryview(self._data)[start:end], zlib.crc32(kind)) == stored)

    def _content(self, wanted: bytes) -> bytes | None:
        """Return the content of the first chunk of a kind."""
        return next((self._data[start:end] for kind, start, end in self._chunks if kind == wanted), None)

    def _slim(self, *kinds: bytes) -> bytes:
        parts = [SIGNATURE]
        parts += [self._data[start - 8 : end + 4] for kind, start, end in self._chunks if kind in kinds]
        return b"".join(parts)

    def _pixels(self) -> Pixels:
        kinds = [*_CRITICAL, b"tRNS"] if self._colour == _PALETTE else _CRITICAL
        with Image.open(io.BytesIO(self._slim(*kinds)), formats=("PNG",)) as image:
            image.load()
            if self._colour == _PALETTE:
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            elif image.mode == "1":
                image = image.convert("L")
            return np.asarray(image)

    def _deep_pixels(self) -> Pixels:
        data = self._slim(*_CRITICAL)
        if not self._is_interlaced:
            return imagecodecs.png_decode(data)
        # imagecodecs also decodes these, but libpng then prints warnings to standard error.
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise RefusedError("cut short or damaged (PNG header, but the pixels cannot be decoded)")
        if self._colour == _GREY_ALPHA:
            return pixels[..., [0, -1]]
        return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]

    def _with_transparent_key(self, pixels: Pixels, key: bytes) -> Pixels:
        count = 1 if self._colour == _GREY else 3
        if len(key) < 2 * count:
            raise RefusedError("cut short or damaged (its transparent colour is incomplete)")
        values = np.frombuffer(key, ">u2", count) & (2**self._depth - 1)
        values = rescale(values, 2**self._depth - 1)
        colours = pixels.reshape(*pixels.shape[:2], count)
        opaque = (colours != values).any(axis=2)
        alpha = opaque.astype(pixels.dtype) * np.iinfo(pixels.dtype).max
        return np.dstack([colours, alpha])

    def _profile(self) -> bytes | None:
        content = self._content(b"iCCP")
        if content is None:
            return None
        try:
            return _inflate(content[content.index(0) + 2 :])
        except (ValueError, zlib.error):
            self._notices.append("its colour profile is damaged or too large and was left out")
            return None

    def _text(self, keyword: bytes) -> bytes | None:
        """Return the text with a keyword, from any kind of text chunk."""
        for kind, start, end in self._chunks:
            if kind in TEXT_CHUNKS and self._data[start:end].startswith(keyword + b"\0"):
                content = self._data[start + len(keyword) + 1 : end]
                try:
                    if kind == b"tEXt":
                        return content
                    if kind == b"zTXt":
                        return _inflate(content[1:])
                    is_compressed, text = content[0], content[2:].split(b"\0", 2)[2]
                    return _inflate(text) if is_compressed else text
                except (ValueError, IndexError, zlib.error):
                    self._notices.append(f"its {keyword.decode('latin-1')} text is damaged and was left out")
        return None

    def _raw_profile(self) -> bytes | None:
        """Return EXIF as older versions of ImageMagick wrote it: its length and hexadecimal digits."""
        text = self._text(b"Raw profile type exif") or self._text(b"Raw profile type APP1")
        if text is None:
            return None
        try:
            return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        except ValueError:
            return None


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    content = inflater.decompress(data, MAX_METADATA_BYTES)
    if not inflater.eof:
        raise ValueError("cut short or too large")
    return content
