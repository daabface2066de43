"""Decoding of TIFF. tifffile returns the stored samples, and this module interprets them.

JPEG compression and subsampled YCbCr are decoded by libtiff, through Pillow.
"""

import io
from typing import Final, NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageOps

from lightbsr_arch.data.reader.base import (
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
from lightbsr_arch.data.reader.colour import set_rgb
from lightbsr_arch.data.reader.metadata import ORIENTATION, attach, valid_dpi
from lightbsr_arch.data.reader.tiff_pages import check_sizes, further_pages

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS: Final = {
    _WHITE_IS_ZERO: 1,
    _BLACK_IS_ZERO: 1,
    _RGB: 3,
    _PALETTE: 1,
    _CMYK: 4,
    _YCBCR: 3,
    _LAB: 3,
}
_OTHER_PHOTOMETRIC: Final = {
    4: "a transparency mask",
    9: "ICC Lab colours",
    10: "ITU Lab colours",
    32803: "a camera's raw data",
    32844: "LogL values",
    32845: "LogLuv colours",
    34892: "a camera's raw data",
}
_UNSIGNED: Final = 1
_SAMPLE_FORMATS: Final = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_OLD_JPEG: Final = 6
_BY_LIBTIFF: Final = (_OLD_JPEG, 7)  # JPEG
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000, *_BY_LIBTIFF)
_PREDICTORS: Final = (1, 2)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_DPI_PER_UNIT: Final = {2: 1.0, 3: 2.54}
TEXT_TAGS: Final = (270, 271, 272, 305, 306, 315, 33432)
"""Tags whose texts are kept: description, make, model, software, date, artist, copyright."""
_DIRECTORIES: Final = (0x8769, 0x8825)  # EXIF and GPS


class _Alpha(NamedTuple):
    values: Pixels
    is_associated: bool
    """True if alpha is multiplied into the colours."""


class TiffDecoder:
    """One picture of 1 to 16 bits. Reduced versions and masks are ignored."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        check_sizes(data)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = [file.pages[0], *further_pages(file)]
            if file.is_imagej:  # tifffile lists only one page of ImageJ files whose pages are contiguous
                refuse_frames(int((file.imagej_metadata or {}).get("images", 1)))
        page = pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if 50706 in page.tags or (page.is_reduced and len(pages) > 1):
            raise RefusedError("a camera's raw data; develop it and save a TIFF or PNG")
        refuse_frames(1 + sum(not (other.is_reduced or other.is_mask) for other in pages[1:]))
        self._page = page
        self._orientation = _number(page, ORIENTATION, 1)
        self._photometric, self._colours, self._bits = self._layout()
        height, width = upright_size(page.imagelength, page.imagewidth, self._orientation)
        samples = max(page.samplesperpixel, 3 if self._photometric == _PALETTE else 1)
        self.header = Header(height, width, "TIFF", samples, 1 if self._bits <= 8 else 2)

    def decode(self) -> Picture:
        page = self._page
        check_budget(self.header)
        if page.is_tiled:  # a tile may be larger than the picture
            check_budget(self.header._replace(height=page.tilelength, width=page.tilewidth))
        if page.compression != _OLD_JPEG:  # old JPEG can also list its parts in other ways
            self._check_parts()
        samples = self._by_libtiff() if self._needs_libtiff() else self._samples()
        picture = Picture(samples, _bytes(page, 34675), iptc=_bytes(page, 33723), dpi=self._dpi())
        attach(picture, self._exif(), _bytes(page, 700))
        self._interpret(picture)
        picture.pixels = upright(picture.pixels, self._orientation)
        return picture

    def _layout(self) -> tuple[int, int, int]:
        """Return photometric interpretation, number of colour samples and bits of each. Refuse unsupported kinds."""
        page = self._page
        photometric = int(page.photometric)
        if photometric in _OTHER_PHOTOMETRIC:
            raise RefusedError(f"holds {_OTHER_PHOTOMETRIC[photometric]}; save it as RGB or grey")
        if photometric not in _COLOURS:
            raise RefusedError(f"its photometric interpretation {photometric} is not known")
        colours = _COLOURS[photometric]
        if page.imagedepth != 1:
            raise RefusedError(f"a volume of {page.imagedepth} slices; save the one wanted as a still picture")
        compression = int(page.compression)
        if compression not in _COMPRESSIONS:
            name = getattr(page.compression, "name", compression)
            raise RefusedError(f"its compression {name} is not read; save it with LZW, Deflate or none")
        bits = page.bitspersample
        if not isinstance(bits, int):
            raise RefusedError(f"{', '.join(map(str, bits))} bits per channel; save it with 8 or 16")
        sample_format = page.sampleformat if isinstance(page.sampleformat, int) else page.sampleformat[0]
        if int(sample_format) != _UNSIGNED:
            kind = _SAMPLE_FORMATS.get(int(sample_format), "undefined")
            raise RefusedError(f"{kind} values of {bits} bits; save it with unsigned values of 8 or 16")
        if not 1 <= bits <= 16:
            raise RefusedError(f"{bits} bits a channel; save it with 8 or 16")
        if photometric == _LAB and bits != 8:
            raise RefusedError(f"Lab colours of {bits} bits; save it as RGB")
        if photometric == _CMYK and (_number(page, 332, 1) != 1 or page.samplesperpixel < 4):
            raise RefusedError("inks other than cyan, magenta, yellow and black; save it as RGB")
        if int(page.predictor) not in _PREDICTORS:
            raise RefusedError(f"its predictor {int(page.predictor)} is not read for integers")
        if page.samplesperpixel < colours:
            raise RefusedError(f"cut short or damaged ({page.samplesperpixel} channels of {colours})")
        return photometric, colours, bits

    def _needs_libtiff(self) -> bool:
        return self._page.compression in _BY_LIBTIFF or self._photometric == _YCBCR

    def _by_libtiff(self) -> Pixels:
        """Return the stored samples, except that YCbCr is converted to RGB."""
        with Image.open(io.BytesIO(self._data), formats=("TIFF",)) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode == "YCbCr" or (self._photometric == _YCBCR and image.mode not in ("RGB", "RGBX")):
                image = image.convert("RGB")
            samples = np.asarray(image)
        self._orientation = 1
        if samples.dtype != np.uint8:
            raise RefusedError(f"JPEG compression with {self._bits} bits is not read")
        return samples.reshape(*samples.shape[:2], -1)[..., : max(self._colours, self._page.samplesperpixel)]

    def _check_parts(self) -> None:
        """Raise `RefusedError` if strips or tiles are missing."""
        page = self._page
        expected = int(np.prod(page.chunked))
        if len(page.dataoffsets) != expected or len(page.databytecounts) != expected:
            raise RefusedError(f"cut short or damaged ({len(page.dataoffsets)} of {expected} parts are listed)")
        for offset, count in zip(page.dataoffsets, page.databytecounts):
            if not offset or not count or offset + count > len(self._data):
                raise RefusedError("cut short or damaged (pixels are missing or lie beyond the end of the file)")

    def _samples(self) -> Pixels:
        """Return the stored samples, H x W x S."""
        with tifffile.TiffFile(io.BytesIO(self._data)) as file:
            samples: Pixels = file.pages[0].asarray(squeeze=False, maxworkers=1)
        if samples.dtype == bool:
            samples = samples.view(np.uint8)
        planes, _, height, width, contiguous = samples.shape
        samples = samples.reshape(planes, height, width, contiguous)
        return np.moveaxis(samples, 0, -1)[..., 0, :] if planes > 1 else samples[0]

    def _interpret(self, picture: Picture) -> None:
        """Convert samples to grey or RGB, with alpha if there is one, in the full range of 8 or 16 bits."""
        samples, largest = picture.pixels, 2**self._bits - 1
        colours = samples[..., : self._colours]
        is_palette = self._photometric == _PALETTE
        colours = self._palette()[colours[..., 0]] if is_palette else rescale(colours, largest)
        alpha: Pixels | None = None
        if (found := self._alpha(samples, picture)) is not None:
            alpha = rescale(found.values, largest)
            if is_palette:
                alpha = _to_8_bits(alpha)
            elif found.is_associated:
                colours = _unassociate(colours, alpha)
        if self._photometric == _WHITE_IS_ZERO:
            colours = np.iinfo(colours.dtype).max - colours
        if self._photometric in (_CMYK, _LAB):
            if colours.dtype == np.uint16:
                picture.notices.append("of the 16 bits of CMYK 8 were kept")
            mode = "CMYK" if self._photometric == _CMYK else "LAB"
            stored = _to_8_bits(colours).tobytes()
            set_rgb(picture, Image.frombytes(mode, colours.shape[1::-1], stored, "raw", mode))
            colours = picture.pixels
            alpha = None if alpha is None else _to_8_bits(alpha)
        if alpha is not None:
            picture.pixels = np.dstack([colours, alpha])
        else:
            picture.pixels = colours[..., 0] if colours.shape[2] == 1 else colours

    def _alpha(self, samples: Pixels, picture: Picture) -> _Alpha | None:
        """Return the alpha channel and whether it is multiplied into the colours. A notice names other channels."""
        extra = samples.shape[2] - self._colours
        if extra < 1:
            return None
        tag = self._page.tags.get(338)
        kinds = [int(kind) for kind in self._page.extrasamples] if tag else [_UNASSOCIATED]  # as in Pillow
        found = next((i for i, kind in enumerate(kinds[:extra]) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
        if (left_out := extra - (found is not None)) > 0:
            picture.notices.append(f"{left_out} channel(s) besides the colours and alpha were left out")
        if found is None:
            return None
        return _Alpha(samples[..., self._colours + found], kinds[found] == _ASSOCIATED)

    def _palette(self) -> Pixels:
        colormap = self._page.colormap
        if colormap is None or colormap.ndim != 2 or len(colormap) != 3 or colormap.shape[1] < 2**self._bits:
            raise RefusedError("cut short or damaged (its palette is incomplete)")
        shift = 8 if colormap.max() > 255 else 0  # some programs write 8 bits
        return np.ascontiguousarray((colormap.T >> shift).astype(np.uint8))

    def _dpi(self) -> tuple[float, float] | None:
        factor = _DPI_PER_UNIT.get(_number(self._page, 296, 2))
        values = [self._page.tags.valueof(code) for code in (282, 283)]
        if factor is None or not all(isinstance(value, tuple) and len(value) == 2 and value[1] for value in values):
            return None
        return valid_dpi(factor * value[0] / value[1] for value in values)

    def _exif(self) -> Image.Exif | None:
        """Return the texts of the first directory and the EXIF and GPS directories, without tags about storage."""
        exif = Image.Exif()
        for code in TEXT_TAGS:
            text = self._page.tags.valueof(code)
            if isinstance(text, str) and text and not text.startswith(("ImageJ=", '{"shape"', "tifffile.py")):
                exif[code] = text
        try:
            with Image.open(io.BytesIO(self._data), formats=("TIFF",)) as image:
                for code in _DIRECTORIES:
                    if entries := image.getexif().get_ifd(code):
                        directory = exif.get_ifd(code)
                        directory.update(entries)
                        exif[code] = directory
        except Exception:  # Pillow supports fewer kinds of TIFF
            pass
        return exif if len(exif) else None


def _number(page: tifffile.TiffPage, code: int, default: int) -> int:
    value = page.tags.valueof(code)
    return int(value) if isinstance(value, int) else default


def _bytes(page: tifffile.TiffPage, code: int) -> bytes | None:
    value = page.tags.valueof(code)
    return value if isinstance(value, bytes) and value else None


def _to_8_bits(values: Pixels) -> Pixels:
    return values if values.dtype == np.uint8 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _unassociate(colours: Pixels, alpha: Pixels) -> Pixels:
    full = np.iinfo(colours.dtype).max
    opacity = (alpha + (alpha == 0))[..., None].astype(np.uint32)
    quotient = (colours.astype(np.uint32) * full + opacity // 2) // opacity
    pixels: Pixels = quotient.clip(max=full).astype(colours.dtype)
    return pixels
