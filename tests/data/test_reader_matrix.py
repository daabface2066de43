"""Every kind of picture, read for upscaling and for training, compared with known values or with Pillow's."""

import io
import itertools
import struct
import sys
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.data.reader import read_header, read_picture
from lightbsr_arch.data.reader.by_pillow import READS_HEIF
from tests.data.picture_makers import bmp, packed, png, tiff

HEIGHT, WIDTH = 37, 53  # not multiples of a tile, of a byte or of the 8 of Adam7
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]


def samples(bits: int, channels: int) -> np.ndarray:
    """Return H x W x C values of the whole range, which differ under rotation and between channels."""
    rng = np.random.default_rng(channels)
    values = rng.integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    values[:4, :4] = np.linspace(0, 2**bits - 1, 16).round().astype(int).reshape(4, 4, 1)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def full_range(values: np.ndarray, bits: int) -> np.ndarray:
    largest = 255 if bits <= 8 else 65535
    return np.round(values * (largest / (2**bits - 1))).astype(np.uint8 if bits <= 8 else np.uint16)


def fault(data: bytes, wanted: np.ndarray, tolerance: int = 0) -> str | None:
    """Return the difference of a reader's result from ``wanted``, H x W x C (grey or RGB, alpha optional), or None."""
    if wanted.ndim == 3 and wanted.shape[2] == 1:
        wanted = wanted[..., 0]
    try:
        pixels, header, image = read_picture(data).pixels, read_header(data), read_image(data)
    except UserError as error:
        return str(error)
    if pixels.dtype != wanted.dtype or pixels.shape != wanted.shape:
        return f"{pixels.dtype} {pixels.shape}, not {wanted.dtype} {wanted.shape}"
    if (header.height, header.width) != wanted.shape[:2]:
        return f"the header says {header}"
    if (worst := np.abs(pixels.astype(int) - wanted).max()) > tolerance:
        return f"off by {worst}"
    eight_bits = wanted if wanted.dtype == np.uint8 else (wanted >> 8).astype(np.uint8)
    colours = eight_bits.reshape(*wanted.shape[:2], -1)
    colours = colours[..., [2, 1, 0]] if colours.shape[2] >= 3 else colours[..., [0, 0, 0]]
    if image.dtype != np.uint8 or image.shape != colours.shape:
        return f"training: {image.dtype} {image.shape}"
    if (worst := np.abs(image.astype(int) - colours).max()) > max(
        tolerance, int(wanted.dtype == np.uint16 and tolerance)
    ):
        return f"training: off by {worst}"
    return None


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the stored pixels of an upright picture with this orientation."""
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(undo[orientation])


_EXTRA = {"none": None, "unspecified": 0, "associated": 1, "unassociated": 2}
_COMPRESSIONS = [(None, False), ("lzw", False), ("lzw", True), ("zlib", False), ("packbits", False), ("zstd", True)]
_LAYOUTS = [{}, {"rowsperstrip": 5}, {"tile": (16, 32)}]


def tiffs(photometric: str, bits: int) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """TIFFs of every planar configuration, extra sample, layout, compression and byte order, with all orientations."""
    colours = 3 if photometric == "rgb" else 1
    largest = 2**bits - 1
    orientations = itertools.cycle(range(1, 9))
    choices = itertools.product(("contig", "separate"), _EXTRA, _LAYOUTS, _COMPRESSIONS, "<>")
    for planar, extra, layout, (compression, predictor), order in choices:
        if planar == "separate" and colours == 1 and extra == "none":
            continue
        orientation = next(orientations)
        values = samples(bits, colours)
        wanted = largest - values if photometric == "miniswhite" else values
        alpha = samples(bits, 5)[..., 4:]
        if extra == "associated":
            alpha = alpha | 1  # colours are lost where alpha is 0
            values = np.round(values.astype(float) * alpha / largest).astype(values.dtype)
            colour = np.minimum(np.round(values.astype(float) * largest / alpha), largest).astype(values.dtype)
            wanted = largest - colour if photometric == "miniswhite" else colour
        if extra != "none":
            values = np.concatenate([values, alpha], axis=2)
        if extra in ("associated", "unassociated"):
            wanted = np.concatenate([wanted, alpha], axis=2)
        values = stored_as(values, orientation)
        if planar == "separate":
            values = np.moveaxis(values, -1, 0).copy()
        elif values.shape[2] == 1:
            values = values[..., 0]
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            values,
            photometric=photometric,
            planarconfig=planar if values.ndim == 3 else None,
            extrasamples=None if extra == "none" else [_EXTRA[extra]],
            compression=compression,
            predictor=predictor,
            byteorder=order,
            bigtiff=orientation == 8,
            metadata=None,
            extratags=[(274, "H", 1, orientation, True)],
            **layout,
        )
        name = f"{planar} {extra} {layout} {compression} {predictor} {order} orientation {orientation}"
        yield name, file.getvalue(), wanted


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_tiff(photometric: str, bits: int) -> None:
    cases = list(tiffs(photometric, bits))
    assert len(cases) == (288 if photometric == "rgb" else 252)
    assert {name: why for name, data, wanted in cases if (why := fault(data, wanted))} == {}


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15])
def test_tiff_of_other_depths(bits: int) -> None:
    faults = {}
    for channels, order, white_is_zero in itertools.product((1, 3), "<>", (False, True)):
        values = samples(bits, channels)
        if white_is_zero and channels == 3:
            continue
        tags = {
            258: ("H", [bits] * channels),
            262: ("H", [2 if channels == 3 else int(not white_is_zero)]),
            277: ("H", [channels]),
        }
        data = tiff(HEIGHT, WIDTH, packed(values.reshape(HEIGHT, -1), bits).tobytes(), tags, order)
        wanted = full_range(2**bits - 1 - values if white_is_zero else values, bits)
        faults[channels, order, white_is_zero] = fault(data, wanted)
    assert set(faults.values()) == {None}, faults


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("map_bits", [8, 16])
def test_tiff_palette(bits: int, map_bits: int) -> None:
    """Some programs write 8-bit palettes into the 16-bit tag."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 2**bits))
    colours[0, 0] = 255
    indices = samples(bits, 1)
    tags = {258: ("H", [bits]), 262: ("H", [3]), 320: ("H", (colours * 257 if map_bits == 16 else colours).ravel())}
    strip = packed(indices[..., 0], bits).tobytes()
    assert fault(tiff(HEIGHT, WIDTH, strip, tags, ">"), colours.T[indices[..., 0]].astype(np.uint8)) is None


def test_tiff_with_bits_in_the_other_order() -> None:
    strip = np.unpackbits(packed(samples(1, 1)[..., 0], 1), axis=1, bitorder="little")
    strip = np.packbits(strip, axis=1).tobytes()
    assert fault(tiff(HEIGHT, WIDTH, strip, {258: ("H", [1]), 266: ("H", [2])}), samples(1, 1) * 255) is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the last tifffile for Python 3.10 does not decode fax")
@pytest.mark.parametrize("compression", [2, 3, 4])
def test_tiff_of_fax(compression: int) -> None:
    image = Image.fromarray(samples(1, 1)[..., 0] * 255).convert("1")
    file = io.BytesIO()
    image.save(file, "TIFF", compression={2: "tiff_ccitt", 3: "group3", 4: "group4"}[compression])
    assert fault(file.getvalue(), samples(1, 1) * 255) is None


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_tiff_of_jpeg_is_that_of_pillow(mode: str, subsampling: int) -> None:
    image = Image.fromarray(samples(8, 3)).resize((200, 150)).convert(mode)
    for orientation in range(1, 9):
        file = io.BytesIO()
        image.save(file, "TIFF", compression="jpeg", quality=90, tiffinfo={274: orientation})
        with Image.open(file) as stored:
            stored.load()
            wanted = np.asarray(ImageOps.exif_transpose(stored).convert("L" if mode == "L" else "RGB"))
        assert fault(file.getvalue(), wanted) is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the last Pillow for Python 3.10 does not decode it")
def test_tiff_of_ycbcr_without_jpeg() -> None:
    ycbcr = Image.fromarray(samples(8, 3)).convert("YCbCr")
    tags = {258: ("H", [8, 8, 8]), 262: ("H", [6]), 277: ("H", [3]), 530: ("H", [1, 1])}
    data = tiff(HEIGHT, WIDTH, ycbcr.tobytes(), tags)
    assert fault(data, np.asarray(ycbcr.convert("RGB")), tolerance=2) is None


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_of_cmyk(bits: int) -> None:
    cmyk = np.stack([COLUMNS * 4, ROWS * 6, COLUMNS + ROWS, ROWS * 2], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    stored = cmyk if bits == 8 else cmyk.astype(np.uint16) * 257
    tifffile.imwrite(file, stored, photometric="separated", metadata=None)
    assert fault(file.getvalue(), np.asarray(Image.fromarray(cmyk, "CMYK").convert("RGB"))) is None


def test_tiff_of_lab_is_srgb() -> None:
    """Grey of L* 53.4 is 127 to 128 in sRGB; a* = 60, b* = 40 is a red."""
    lab = np.zeros((HEIGHT, WIDTH, 3), np.int8).view(np.uint8)
    lab[..., 0] = 136
    grey = tiff(HEIGHT, WIDTH, lab.tobytes(), {258: ("H", [8, 8, 8]), 262: ("H", [8]), 277: ("H", [3])})
    assert np.abs(read_picture(grey).pixels.astype(int) - 127).max() <= 2
    lab[..., 1:] = 60, 40
    red = tiff(HEIGHT, WIDTH, lab.tobytes(), {258: ("H", [8, 8, 8]), 262: ("H", [8]), 277: ("H", [3])})
    np.testing.assert_allclose(read_picture(red).pixels[0, 0], [226, 67, 59], atol=6)


def refused_tiffs() -> dict[str, tuple[bytes, str]]:
    def written(values: np.ndarray, **options: object) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, values, metadata=None, **{"photometric": "minisblack", **options})
        return file.getvalue()

    grey = samples(8, 1)[..., 0]
    made = {
        "int8": (written(grey.view(np.int8)), "signed values of 8 bits"),
        "int16": (written(grey.astype(np.int16)), "signed values of 16 bits"),
        "int32": (written(grey.astype(np.int32)), "signed values of 32 bits"),
        "uint32": (written(grey.astype(np.uint32)), "32 bits a channel; save it with 8 or 16"),
        "uint64": (written(grey.astype(np.uint64)), "64 bits a channel"),
        "float16": (written(grey.astype(np.float16)), "floating-point values of 16 bits"),
        "float32": (written(grey.astype(np.float32)), "floating-point values of 32 bits"),
        "float64": (written(grey.astype(np.float64)), "floating-point values of 64 bits"),
        "complex64": (written(grey.astype(np.complex64)), "complex values"),
        "void": (tiff(HEIGHT, WIDTH, grey.tobytes(), {339: ("H", [4])}), "undefined values of 8 bits"),
        "large tile": (_with_tile(2**16, 2**16), "its header claims 65536x65536 pixels"),
        "imagej stack": (_imagej(np.stack([grey] * 3)), "3 frames or pages"),
        "float predictor": (written(grey.astype(np.float32), compression="zlib", predictor=3), "floating-point"),
        "volume": (written(np.stack([grey] * 3), volumetric=True, tile=(16, 16, 16)), "a volume of 3 slices"),
        "two pages": (written(np.stack([grey] * 2), photometric="minisblack"), "2 frames or pages"),
        "jpeg 2000": (written(grey, compression="jpeg2000"), "its compression JPEG2000 is not read"),
        "inks": (tiff(HEIGHT, WIDTH, bytes(HEIGHT * WIDTH * 4), _cmyk_tags(332, 2)), "inks other than cyan"),
    }
    for code, name in {4: "transparency mask", 9: "ICC Lab", 32803: "camera's raw", 32844: "LogL", 77: "77"}.items():
        made[name] = (tiff(HEIGHT, WIDTH, bytes(HEIGHT * WIDTH), {262: ("H", [code])}), name)
    for name, bits in {"565": [5, 6, 5], "8, 8, 16": [8, 8, 16]}.items():
        tags = {258: ("H", bits), 262: ("H", [2]), 277: ("H", [3])}
        made[name] = (tiff(HEIGHT, WIDTH, bytes(HEIGHT * WIDTH * 4), tags), f"{', '.join(map(str, bits))} bits")
    return made


def _with_tile(height: int, width: int) -> bytes:
    tags = {322: ("I", [width]), 323: ("I", [height]), 324: ("I", [8]), 325: ("I", [100])}
    return tiff(10, 10, bytes(100), tags)


def _imagej(stack: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, stack, imagej=True)
    return file.getvalue()


def _cmyk_tags(code: int, value: int) -> dict[int, tuple[str, list[int]]]:
    return {258: ("H", [8] * 4), 262: ("H", [5]), 277: ("H", [4]), code: ("H", [value])}


@pytest.mark.parametrize("name", refused_tiffs())
def test_refused_tiffs_say_the_true_reason(name: str) -> None:
    data, reason = refused_tiffs()[name]
    for read in (read_picture, read_image):
        with pytest.raises(UserError) as caught:
            read(data, "a.tif")
        assert str(caught.value).startswith("a.tif: ")
        assert reason in str(caught.value)
        assert "damaged" not in str(caught.value)


def test_reduced_versions_and_masks_beside_a_tiff_are_ignored() -> None:
    values = samples(8, 3)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(values, photometric="rgb", metadata=None, tile=(16, 16))
        writer.write(values[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
        writer.write(values[..., 0] > 99, photometric="minisblack", metadata=None, subfiletype=4)
    assert fault(file.getvalue(), values) is None


@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}, {"compression": "zlib"}])
def test_tiffs_cut_anywhere_are_refused(layout: dict) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, samples(16, 3), photometric="rgb", metadata=None, **layout)
    data = file.getvalue()
    for length in range(9, len(data) - 8, len(data) // 40):
        with pytest.raises(UserError):
            read_picture(data[:length])


_COLOUR_CHUNKS = {
    "none": [],
    "gAMA": [(b"gAMA", struct.pack(">I", 100000))],
    "cICP": [(b"cICP", bytes([9, 16, 0, 1]))],
    "sRGB": [(b"sRGB", b"\0")],
    "profile": [(b"iCCP", b"x\0\0" + zlib.compress(b"no profile" * 20))],
}


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_png(colour: int) -> None:
    """All depths are read, with and without tRNS, colour chunks and interlacing. Colour chunks change no value."""
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}[colour]
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    faults, count = {}, 0
    choices = itertools.product(depths, (False, True), (False, True), _COLOUR_CHUNKS)
    for bits, interlaced, transparent, chunks in choices:
        if transparent and colour >= 4:
            continue
        values = samples(bits, channels)
        wanted = full_range(values, bits)
        before = list(_COLOUR_CHUNKS[chunks])
        if colour == 3:
            palette = np.random.default_rng(1).integers(0, 256, (2**bits, 4)).astype(np.uint8)
            before.append((b"PLTE", palette[:, :3].tobytes()))
            wanted = palette[values[..., 0]][..., : 4 if transparent else 3]
            if transparent:
                before.append((b"tRNS", palette[:, 3].tobytes()))
        elif transparent:
            key = values[1, 1]
            before.append((b"tRNS", key.astype(">u2").tobytes()))
            alpha = (values != key).any(axis=2, keepdims=True) * np.iinfo(wanted.dtype).max
            wanted = np.concatenate([wanted, alpha.astype(wanted.dtype)], axis=2)
        data = png(values, bits, colour, interlaced=interlaced, before=before)
        faults[bits, interlaced, transparent, chunks] = fault(data, wanted)
        count += 1
    assert {name: why for name, why in faults.items() if why} == {}
    assert count == len(depths) * 2 * (1 if colour >= 4 else 2) * 5


def test_png_in_many_small_parts_and_with_chunks_behind_the_pixels() -> None:
    values = samples(16, 3)
    data = png(values, 16, 2, behind=[(b"tEXt", b"a\0b"), (b"eXIf", _exif(3))])
    assert fault(data, values[::-1, ::-1]) is None


@pytest.mark.parametrize("maxval", [1, 2, 7, 100, 254, 255, 256, 1000, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pnm(kind: int, maxval: int) -> None:
    values = np.random.default_rng(maxval).integers(0, maxval + 1, (HEIGHT, WIDTH, 3 if kind in (3, 6) else 1))
    values[0, 0] = maxval
    header = f"P{kind} # a comment\n{WIDTH}\n# another\n{HEIGHT} {maxval}\n".encode()
    raw = values.astype(np.uint8 if maxval < 256 else ">u2").tobytes()
    plain = " ".join(map(str, values.ravel())).encode()
    largest, dtype = (255, np.uint8) if maxval < 256 else (65535, np.uint16)
    wanted = np.floor(values * largest / maxval + 0.5).astype(dtype)
    assert fault(header + (plain if kind <= 3 else raw), wanted) is None


def test_pbm() -> None:
    values = samples(1, 1)
    header = f"{WIDTH} {HEIGHT}\n".encode()
    for data in (
        b"P4\n" + header + packed(values[..., 0], 1).tobytes(),
        b"P1\n" + header + b" ".join(b"%d" % value for value in values.ravel()),
        b"P1\n" + header + b"".join(b"%d" % value for value in values.ravel()),
    ):
        assert fault(data, (1 - values) * 255) is None


@pytest.mark.parametrize("data", [b"P5 4 4 255\n123", b"P2 4 4 255\n1 2 3 x", b"P1 4 4\n0101", b"P4 40 4\n1", b"P6 4"])
def test_cut_pnm(data: bytes) -> None:
    with pytest.raises(UserError, match="cut short or damaged"):
        read_picture(data)


def test_pnm_without_a_maxval_that_exists() -> None:
    for maxval in (0, 65536):
        with pytest.raises(UserError, match=f"its maxval is {maxval}; PNM allows 1 to 65535"):
            read_picture(b"P5 1 1 %d\n\0\0\0" % maxval)


PHOTO = Image.fromarray(np.stack([COLUMNS * 4, ROWS * 6, 100 + COLUMNS + ROWS], axis=-1).astype(np.uint8))


def jpegs() -> dict[str, bytes]:
    made = {}
    for mode, subsampling, progressive, restart in itertools.product(
        ("L", "RGB", "CMYK"), (0, 1, 2), (False, True), (0, 2)
    ):
        file = io.BytesIO()
        PHOTO.convert(mode).save(
            file,
            "JPEG",
            quality=92,
            subsampling=subsampling,
            progressive=progressive,
            restart_marker_blocks=restart,
        )
        made[f"{mode} {subsampling} {progressive} {restart}"] = file.getvalue()
    cmyk = np.asarray(PHOTO.convert("CMYK"))
    made["YCCK"] = imagecodecs.jpeg8_encode(255 - cmyk, level=95, colorspace="CMYK", outcolorspace="YCCK")
    made["stored as RGB"] = imagecodecs.jpeg8_encode(np.asarray(PHOTO), level=95, colorspace="RGB", outcolorspace="RGB")
    return made


@pytest.mark.parametrize("name", jpegs())
def test_jpeg_is_that_of_pillow(name: str) -> None:
    data = jpegs()[name]
    image = Image.open(io.BytesIO(data))
    wanted = np.asarray(image.convert("L" if image.mode == "L" else "RGB"))
    assert fault(data, wanted) is None
    photo = np.asarray(PHOTO.convert("L") if image.mode == "L" else PHOTO)
    assert np.abs(wanted.astype(int) - photo).mean() < 6  # no channel is swapped or inverted


@pytest.mark.parametrize("name", [name for name in jpegs() if not name.startswith("CMYK")])
def test_jpegs_with_an_end_but_without_some_data_are_refused(name: str) -> None:
    data = jpegs()[name]
    start = data.rindex(b"\xff\xda") + 12
    for share in (0.1, 0.5, 0.9):
        cut = data[: start + int(share * (len(data) - start))].rstrip(b"\xff") + b"\xff\xd9"
        for read in (read_picture, read_image):
            with pytest.raises(UserError, match="cut short or damaged"):
                read(cut)


def test_bytes_between_the_data_and_the_end_of_a_jpeg_lose_nothing() -> None:
    data = jpegs()["RGB 0 False 0"]
    wanted = read_picture(data).pixels
    for padding in (b"\0\0", b"\7\7", bytes(500)):
        assert fault(data[:-2] + padding + data[-2:], wanted) is None


@pytest.mark.parametrize("name", ["RGB 0 False 0", "RGB 2 False 0", "RGB 2 True 0", "L 0 False 0"])
def test_jpegs_overwritten_with_zeros_are_refused(name: str) -> None:
    """A bad sector leaves such a file, with its full length and its end."""
    file = io.BytesIO()
    mode, subsampling, progressive, _ = name.split()
    image = PHOTO.resize((400, 300)).convert(mode)
    image.save(file, "JPEG", quality=95, subsampling=int(subsampling), progressive=progressive == "True")
    data = file.getvalue()
    for start, end in ((len(data) // 2, len(data) - 2), (len(data) // 2, len(data) // 2 + 2048)):
        with pytest.raises(UserError, match="cut short or damaged"):
            read_picture(data[:start] + bytes(end - start) + data[end:])


def _exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def _xmp(orientation: int, element: bool) -> bytes:
    attribute = b"" if element else b' tiff:Orientation="%d"' % orientation
    inner = b"<tiff:Orientation>%d</tiff:Orientation>" % orientation if element else b""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
        + attribute
        + b">"
        + inner
        + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("where", ["EXIF", "XMP attribute", "XMP element", "both"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_orientation(kind: str, where: str, orientation: int) -> None:
    """The orientation is that of EXIF or, if EXIF has none, of XMP, as in Pillow."""
    exif = b"Exif\0\0" + _exif(orientation) if where in ("EXIF", "both") else b""
    xmp = b"" if where == "EXIF" else _xmp(3 if where == "both" else orientation, where == "XMP element")
    if kind == "PNG":
        chunks = [(b"eXIf", exif[6:])] if exif else []
        chunks += [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)] if xmp else []
        data = png(np.asarray(PHOTO), 8, 2, before=chunks)
    else:
        file = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
        PHOTO.save(file, kind, **options, **({"exif": exif} if exif else {}), **({"xmp": xmp} if xmp else {}))
        data = file.getvalue()
    image = Image.open(io.BytesIO(data))
    wanted = np.asarray(ImageOps.exif_transpose(image))
    assert wanted.shape[:2] == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))
    assert fault(data, wanted) is None
    picture = read_picture(data)
    assert not picture.xmp or b"Orientation" not in picture.xmp
    assert picture.exif is None


def test_bmp() -> None:
    """BMPs have 24 and 32 bits, 16 bits with masks, or palettes, from bottom to top or from top to bottom."""
    rgb = samples(8, 3)
    bgr = rgb[..., ::-1]
    palette = np.random.default_rng(2).integers(0, 256, (256, 4)).astype(np.uint8)
    faults = {}
    for flip in (1, -1):
        made = {
            "24": (bmp(bgr[::-1][::flip].reshape(HEIGHT, -1), 24, flip * HEIGHT, WIDTH), rgb),
            "32": (
                bmp(np.dstack([bgr, bgr[..., :1]])[::-1][::flip].reshape(HEIGHT, -1), 32, flip * HEIGHT, WIDTH),
                rgb,
            ),
        }
        packed_565 = (rgb[..., 0] >> 3).astype("<u2") << 11 | (rgb[..., 1] >> 2).astype("<u2") << 5 | rgb[..., 2] >> 3
        rows = packed_565.astype("<u2")[::-1][::flip].copy().view(np.uint8)
        wanted = np.stack([rgb[..., 0] >> 3, rgb[..., 1] >> 2, rgb[..., 2] >> 3], -1) / [31, 63, 31] * 255
        masks = (0xF800, 0x07E0, 0x001F)
        made["16"] = (bmp(rows, 16, flip * HEIGHT, WIDTH, masks=masks), wanted.astype(np.uint8))
        for bits in (1, 4, 8):
            indices = samples(bits, 1)[..., 0]
            colours = palette[: 2**bits].copy()
            colours[:, 3] = 0
            data = bmp(packed(indices[::-1][::flip], bits), bits, flip * HEIGHT, WIDTH, palette=colours.tobytes())
            made[str(bits)] = (data, colours[indices][..., [2, 1, 0]])
        for name, (data, wanted) in made.items():
            faults[name, flip] = fault(data, wanted, tolerance=1 if name == "16" else 0)
    assert set(faults.values()) == {None}, faults


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_that_of_pillow(mode: str, lossless: bool) -> None:
    image = Image.fromarray(samples(8, len(mode)), mode)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, exact=True, quality=90)
    wanted = np.asarray(image if lossless else Image.open(file))
    assert fault(file.getvalue(), wanted) is None
    assert read_picture(file.getvalue()).lossless_webp is lossless


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_are_those_of_pillow(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not Image.registered_extensions().get(".avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PHOTO.save(file, kind, quality=95, exif=exif.tobytes())
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert wanted.shape == (WIDTH, HEIGHT, 3)
    assert fault(file.getvalue(), wanted) is None
    assert np.abs(wanted.astype(int) - np.rot90(np.asarray(PHOTO), -1)).mean() < 6


def test_avif_of_ten_bits_says_that_eight_were_read() -> None:
    data = imagecodecs.avif_encode(samples(10, 3), level=100, bitspersample=10)
    assert read_picture(data).notices == ["of its 10 bits 8 were read"]


def example(kind: str) -> bytes:
    """Return a picture of one of `EXAMPLES`."""
    values = samples(8, 3)
    header = f"{WIDTH} {HEIGHT} 255\n".encode()
    if kind in ("AVIF", "HEIF", "GIF", "WEBP"):
        file = io.BytesIO()
        PHOTO.save(file, kind)
        return file.getvalue()
    return {
        "PPM": b"P6 " + header + values.tobytes(),
        "plain PPM": b"P3 " + header + " ".join(map(str, values.ravel())).encode(),
        "interlaced PNG": png(samples(16, 4), 16, 6, interlaced=True, before=_COLOUR_CHUNKS["profile"]),
        "PNG with tRNS": png(samples(4, 1), 4, 0, before=[(b"tRNS", b"\0\3"), (b"eXIf", _exif(6))]),
        "JPEG with XMP": _jpeg_with(xmp=_xmp(6, False), comment=b"a", dpi=(300, 300)),
        "JPEG with EXIF": _jpeg_with(exif=b"Exif\0\0" + _exif(6)),
        "BMP": bmp(samples(4, 1)[..., 0] * 17, 8, HEIGHT, WIDTH, palette=bytes(range(256)) * 4),
        "Lab": tiff(HEIGHT, WIDTH, values.tobytes(), {258: ("H", [8, 8, 8]), 262: ("H", [8]), 277: ("H", [3])}),
    }[kind]


EXAMPLES = ["AVIF", "GIF", "WEBP", "PPM", "plain PPM", "interlaced PNG", "PNG with tRNS", "JPEG with XMP"]
EXAMPLES += ["JPEG with EXIF", "BMP", "Lab", *(["HEIF"] if READS_HEIF else [])]


def _jpeg_with(**options: object) -> bytes:
    file = io.BytesIO()
    PHOTO.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize(("tag", "line"), [(257, "pixels, rows or samples"), (277, "has 3 values, expected 1")])
def test_absurd_sizes_of_a_tiff_are_refused_at_once(tag: int, line: str, is_big: bool) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((32, 32, 3), np.uint8), bigtiff=is_big, byteorder="<")
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        entry = file.pages[0].tags[tag].offset
    if tag == 257:
        kind, value = (4, struct.pack("<I", 4_000_000_000))
        place = entry + (12 if is_big else 8)
        data[entry + 2 : entry + 4] = struct.pack("<H", kind)
        data[place : place + 4] = value
    else:
        data[entry + 4 : entry + 8] = struct.pack("<I", 3)
    with pytest.raises(UserError, match=line):
        read_picture(bytes(data), "p.tif")
