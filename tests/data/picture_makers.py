"""Picture files that are written byte by byte, for kinds that no library writes."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

Pixels = np.ndarray

_ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed(rows: Pixels, bits: int) -> Pixels:
    """Return rows of samples, H x N, as bytes, H x M. Rows are padded to whole bytes, and 16 bits are big-endian."""
    if bits == 16:
        return rows.astype(">u2").view(np.uint8)
    if bits == 8:
        return rows.astype(np.uint8)
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1)


def png(
    samples: Pixels,
    bits: int,
    colour: int,
    *,
    interlaced: bool = False,
    before: Sequence[tuple[bytes, bytes]] = (),
    behind: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return a PNG of H x W x S samples, with further chunks ``before`` and ``behind`` the pixels."""
    height, width, _ = samples.shape
    passes = [samples[r::dr, c::dc] for r, c, dr, dc in _ADAM7] if interlaced else [samples]
    raw = b"".join(
        b"\0" + row.tobytes() for one in passes if one.size for row in packed(one.reshape(len(one), -1), bits)
    )
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw)), *behind, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def tiff(height: int, width: int, strip: bytes, tags: dict[int, tuple[str, Sequence[int]]], order: str = "<") -> bytes:
    """Return a TIFF of one strip. ``tags`` adds or replaces tags, as {code: ("H" or "I", values)}."""
    entries: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8]),
        259: ("H", [1]),
        262: ("H", [1]),
        277: ("H", [1]),
        278: ("I", [height]),
        279: ("I", [len(strip)]),
        **tags,
        273: ("I", [8]),
    }
    ifd = 8 + len(strip) + len(strip) % 2
    end = ifd + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(order + "H", len(entries)), b""
    for code, (kind, numbers) in sorted(entries.items()):
        content = struct.pack(order + kind * len(numbers), *numbers)
        directory += struct.pack(order + "HHI", code, {"H": 3, "I": 4}[kind], len(numbers))
        if len(content) > 4:
            directory += struct.pack(order + "I", end + len(values))
            values += content
        else:
            directory += content.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    body = strip + bytes(len(strip) % 2) + directory + bytes(4) + values
    return magic + struct.pack(order + "I", ifd) + body


def bmp(rows: Pixels, bits: int, height: int, width: int, palette: bytes = b"", masks: Sequence[int] = ()) -> bytes:
    """Return a BMP of rows of bytes from bottom to top or, with a negative ``height``, from top to bottom."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    behind = struct.pack(f"<{len(masks)}I", *masks) + palette
    start = 54 + len(behind)
    information = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, 3 if masks else 0, 0, 0, 0, len(palette) // 4, 0
    )
    return b"BM" + struct.pack("<IHHI", start + padded.size, 0, 0, start) + information + behind + padded.tobytes()
