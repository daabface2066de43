"""Decoding of PBM, PGM and PPM with any maxval, plain and raw."""

import re
from typing import Final

import numpy as np

from lightbsr_arch.data.reader.base import Header, Picture, Pixels, RefusedError, check_budget, rescale

_NUMBER: Final = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([0-9]{1,9})(?=[\s#])")
_COMMENT: Final = re.compile(rb"#[^\r\n]*")


class PnmDecoder:
    """A file of ``P1`` to ``P6``. Bytes after the first picture are ignored."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._kind = int(data[1:2])
        position, numbers = 2, []
        for _ in range(2 if self._bits else 3):
            match = _NUMBER.match(data, position)
            if not match:
                raise RefusedError("cut short or damaged (its header misses a number)")
            numbers.append(int(match[1]))
            position = match.end()
        width, height = numbers[:2]
        self._maxval = 1 if self._bits else numbers[2]
        if not 1 <= self._maxval <= 65535:
            raise RefusedError(f"its maxval is {self._maxval}; PNM allows 1 to 65535")
        self._start = position + 1  # one white space
        channels = 3 if self._kind in (3, 6) else 1
        self.header = Header(height, width, "PPM", channels, 1 if self._maxval <= 255 else 2)

    @property
    def _bits(self) -> bool:
        return self._kind in (1, 4)

    def decode(self) -> Picture:
        height, width, _, channels, _ = self.header
        check_budget(self.header)
        values = self._plain() if self._kind <= 3 else self._raw()
        row = width * channels
        if len(values) < height * row:
            raise RefusedError(f"cut short or damaged ({height * row} values expected, {len(values)} found)")
        values = values[: height * row].reshape((height, width, channels)[: 2 if channels == 1 else 3])
        if self._bits:
            return Picture(rescale(1 - values, 1))  # 1 is black
        return Picture(rescale(values, self._maxval))

    def _plain(self) -> Pixels:
        text = _COMMENT.sub(b" ", self._data[self._start - 1 :])
        if self._bits:  # digits that need no space between them
            digits = np.frombuffer(text, np.uint8)
            pixels: Pixels = digits[(digits == ord("0")) | (digits == ord("1"))] - ord("0")
            return pixels
        numbers = re.match(rb"[0-9\s]*", text)
        assert numbers
        return np.fromstring(numbers[0], np.int64, sep=" ")

    def _raw(self) -> Pixels:
        height, width = self.header.height, self.header.width
        if self._kind == 4:  # rows are padded to bytes
            stride = -(-width // 8)
            packed = np.frombuffer(self._data, np.uint8, offset=min(self._start, len(self._data)))
            if len(packed) < height * stride:
                return packed[:0]
            return np.unpackbits(packed[: height * stride].reshape(height, stride), axis=1)[:, :width].ravel()
        dtype = np.dtype(np.uint8 if self._maxval <= 255 else ">u2")
        count = max(len(self._data) - self._start, 0) // dtype.itemsize
        return np.frombuffer(self._data, dtype, count, min(self._start, len(self._data)))
