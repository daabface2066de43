"""Images of an LMDB or a folder, and crops of them, decoded as little as possible."""

import math
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import lmdb
import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import Picture, read_header, read_image
from lightbsr_arch.data.lmdb_reader import open_readonly
from lightbsr_arch.data.meta_info import read_meta_info
from lightbsr_arch.data.picture_files import PictureFile, find_pictures, outside

Box = tuple[int, int, int, int]
"""Top row, left column, height and width."""


class GTSource:
    """Random access to a set of images, with an optional cache of decoded ones.

    A crop of a BMP entry of an LMDB is copied out of the memory map. All other images are decoded as a whole. Objects
    can be forked, spawned and pickled, because an LMDB is opened at the first read. The cache is in shared memory.
    DataLoader workers fill it together, so each image is decoded about once.

    Args:
        root: an LMDB folder made by BasicSR or by ``photos_to_lmdb.py``, or a folder of pictures, which is searched
            with its subfolders.
        backend: ``"lmdb"`` or ``"disk"``.
        cache_gb: memory for decoded images, in GB (10^9 bytes), for all workers of a process together. Images are
            cached in their order until it is full. 0 means no cache.
        pictures: the pictures of the folder, if they are known. A picture with a problem then fails when it is read.

    Raises:
        UserError: the set is missing or empty, a folder in it cannot be listed, or there is less shared memory than
            ``cache_gb`` or the images need.
    """

    def __init__(
        self,
        root: str,
        backend: Literal["lmdb", "disk"],
        cache_gb: float = 0,
        pictures: Sequence[PictureFile] | None = None,
    ) -> None:
        if backend not in _BACKENDS:
            raise UserError(f"io_backend type {backend!r}: GTSource reads {' or '.join(map(repr, _BACKENDS))}")
        path = Path(root).expanduser()
        self._images: _Images = _LmdbImages(path) if backend == "lmdb" else _FolderImages(path, pictures)
        self._cache = _Cache([self.shape(i) for i in range(len(self))], int(cache_gb * 1e9)) if cache_gb else None

    def __len__(self) -> int:
        return len(self._images.keys)

    def keys(self) -> list[str]:
        """Return the LMDB keys, or the paths below the folder, in order."""
        return self._images.keys

    def shape(self, index: int) -> tuple[int, int]:
        """Return height and width, without decoding."""
        return self._images.shape(index)

    def read(self, index: int) -> Picture:
        """Return the whole image, H x W x 3 uint8, BGR."""
        return self._crops(index, [(0, 0, *self.shape(index))])[0]

    def read_crops(self, index: int, corners: Sequence[tuple[int, int]], size: int) -> list[Picture]:
        """Return squares of an image, which is decoded once.

        Args:
            index: number of the image.
            corners: row and column of the top left pixel of each square.
            size: side of the squares.

        Returns:
            One contiguous size x size x 3 uint8 array per square, BGR.

        Raises:
            UserError: a square is not inside the image, or the image cannot be read.
        """
        height, width = self.shape(index)
        for top, left in corners:
            if not (0 <= top <= height - size and 0 <= left <= width - size):
                name, where = self._images.keys[index], f"row {top}, column {left}"
                raise UserError(f"{name}: a {size}x{size} crop at {where} is not inside {width}x{height}")
        return self._crops(index, [(top, left, size, size) for top, left in corners])

    def _crops(self, index: int, boxes: Sequence[Box]) -> list[Picture]:
        if self._cache is None or not self._cache.holds(index):
            return self._images.crops(index, boxes)
        image = self._cache.get(index)
        if image is None:
            image = self._cache.fill(index, self._images.crops(index, [(0, 0, *self.shape(index))])[0])
        return _copies(image, boxes)


class _Images(Protocol):
    """Interface of the two backends."""

    keys: list[str]

    def shape(self, index: int) -> tuple[int, int]: ...

    def crops(self, index: int, boxes: Sequence[Box]) -> list[Picture]:
        """Return copies of boxes of an image."""


def _copies(image: Picture, boxes: Sequence[Box]) -> list[Picture]:
    return [image[top : top + height, left : left + width].copy() for top, left, height, width in boxes]


class _FolderImages:
    """Pictures of a folder. Sizes are read from their headers on demand."""

    def __init__(self, root: Path, pictures: Sequence[PictureFile] | None) -> None:
        if pictures is None:
            if not root.is_dir():
                raise UserError(f"{root}: no such folder")
            pictures = find_pictures([root])
            for picture in pictures:
                _refuse_problem(picture)
        self.keys = [picture.name for picture in pictures]
        self._pictures = pictures
        self._shapes: dict[int, tuple[int, int]] = {}

    def shape(self, index: int) -> tuple[int, int]:
        if index not in self._shapes:
            _refuse_problem(self._pictures[index])
            header = read_header(self._pictures[index].path)
            self._shapes[index] = (header.height, header.width)
        return self._shapes[index]

    def crops(self, index: int, boxes: Sequence[Box]) -> list[Picture]:
        return _copies(read_image(self._pictures[index].path), boxes)


def _refuse_problem(picture: PictureFile) -> None:
    if picture.problem:
        raise UserError(f"{picture.path}: {picture.problem}")


def io_type(root: str | Path) -> Literal["lmdb", "disk"]:
    """Return BasicSR's ``io_backend`` type of a data set: "lmdb" for NAME.lmdb, "disk" for a folder."""
    return "lmdb" if Path(root).suffix == ".lmdb" else "disk"


def open_pictures(root: str, without: Path | None = None) -> GTSource:
    """Open the images of NAME.lmdb or of a folder, for callers that report unreadable images and continue.

    Args:
        root: the LMDB or the folder.
        without: a folder below ``root`` whose pictures are left out.

    Raises:
        UserError: there are no images.
    """
    if io_type(root) == "lmdb":
        return GTSource(root, "lmdb")
    if not Path(root).expanduser().is_dir():
        raise UserError(f"{root}: no such folder")
    pictures = find_pictures([Path(root).expanduser()])
    if without is not None:
        pictures = outside(pictures, without)
        if not pictures:
            raise UserError(f"{root}: no pictures but those in {without}")
    return GTSource(root, "disk", pictures=pictures)


class _LmdbImages:
    """Entries of a BasicSR LMDB; sizes come from its ``meta_info.txt``."""

    def __init__(self, root: Path) -> None:
        open_readonly(root)  # raises errors at the start
        lines = read_meta_info(root)
        if not lines:
            raise UserError(f"{root}: its meta_info.txt lists no entries")
        self.keys = [line.key for line in lines]
        self._path = root
        self._shapes = [(line.height, line.width) for line in lines]
        self._environment: lmdb.Environment | None = None

    def shape(self, index: int) -> tuple[int, int]:
        return self._shapes[index]

    def crops(self, index: int, boxes: Sequence[Box]) -> list[Picture]:
        key = self.keys[index]
        if self._environment is None:
            self._environment = open_readonly(self._path)
        with self._environment.begin(buffers=True) as transaction:  # the bytes are valid only inside it
            data = transaction.get(key.encode("ascii"))
            if data is None:
                raise UserError(f"{self._path}: no entry {key!r}, though meta_info.txt lists it")
            image = _bmp_view(data)
            if image is None:
                image = self._decoded(data, index)
            if image is None or image.shape[:2] != self._shapes[index]:
                raise UserError(f"{self._path}: entry {key!r} is not an image of the size meta_info.txt states")
            return _copies(image, boxes)

    def _decoded(self, data: memoryview, index: int) -> Picture | None:
        """Read an entry as `read_image` does. OpenCV decodes usual entries to the same pixels in less time."""
        if _is_usual(data, self._shapes[index]):
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return read_image(bytes(data), f"{self._path}: entry {self.keys[index]!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}  # an open LMDB cannot be pickled; each process opens its own


_BACKENDS = ("lmdb", "disk")


def _bmp_view(data: memoryview) -> Picture | None:
    """Return the pixels of a 24-bit uncompressed BMP, as OpenCV writes it, as a view; None for other files."""
    if len(data) < 54 or bytes(data[:2]) != b"BM":
        return None
    start, width, height, bits, compression = struct.unpack_from("<10xI4xii2xHI", data)
    stride = -(-3 * width // 4) * 4  # rows are padded to four bytes
    if bits != 24 or compression or width <= 0 or height <= 0 or len(data) < start + stride * height:
        return None
    rows = np.frombuffer(data, np.uint8, count=stride * height, offset=start).reshape(height, stride)
    return rows[::-1, : 3 * width].reshape(height, width, 3)  # stored from the bottom row up


def _is_usual(data: memoryview, shape: tuple[int, int]) -> bool:
    """Return whether an entry has the form that this package and BasicSR write, with the stated height and width.

    This form is an 8-bit RGB PNG or a lossless WebP, without further chunks.
    """
    height, width = shape
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    if bytes(data[: len(header)]) != header:
        return bytes(data[:4]) == b"RIFF" and bytes(data[8:16]) == b"WEBPVP8L"
    position = len(header) + 4
    while bytes(data[position + 4 : position + 8]) == b"IDAT":
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return len(data) == position + 12 and bytes(data[position:]) == b"\0\0\0\0IEND\xaeB\x60\x82"


class _Cache:
    """The first images of a set, decoded, in shared memory, as many as fit. The first reader of an image stores it."""

    def __init__(self, shapes: list[tuple[int, int]], limit: int) -> None:
        self._shapes = shapes
        ends = list(accumulate(3 * height * width for height, width in shapes))
        count = bisect_right(ends, limit)
        self._starts = [0, *ends[:count]]
        size = self._starts[-1]
        _check_shared_memory(size)
        self._pixels = torch.empty(size, dtype=torch.uint8).share_memory_()
        self._filled = torch.zeros(count, dtype=torch.uint8).share_memory_()

    def holds(self, index: int) -> bool:
        return index < len(self._filled)

    def get(self, index: int) -> Picture | None:
        return self._view(index) if self._filled[index] else None

    def fill(self, index: int, image: Picture) -> Picture:
        """Store an image. If two workers do so at once, they write the same bytes."""
        self._view(index)[:] = image
        self._filled[index] = 1
        return image

    def _view(self, index: int) -> Picture:
        height, width = self._shapes[index]
        start = self._starts[index]
        pixels: Picture = self._pixels[start : start + math.prod((height, width, 3))].numpy().reshape(height, width, 3)
        return pixels


def _check_shared_memory(size: int) -> None:
    """Check the size of the shared memory. If it is too small, SIGBUS would end the process when the cache fills."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if size > free:
        raise UserError(
            f"cache_gb: the cache needs {size / 1e9:.2f} GB of shared memory and {folder} has {free / 1e9:.2f} GB "
            "free; lower cache_gb or enlarge it (docker: --shm-size)"
        )
