"""Picture files with every kind of pixels and metadata."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lightbsr.errors import UserError
from lightbsr_arch.inference.pictures import FORMATS, Picture, check_size, encode, fit, read_picture
from tests.corpus import READ, REFUSED, Case, base
from tests.data.picture_makers import png

RGB = np.ascontiguousarray(base()[..., ::-1])
GREY = np.ascontiguousarray(base()[..., 0])
DEEP = base().astype(np.uint16)[..., ::-1] * 256 + 77
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

WITH_ALPHA = {"alpha.png", "alpha.webp", "alpha.tiff", "grey_alpha.png"}
GREYS = {"grey.png", "grey.jpg", "grey_alpha.png", "one_bit.png", "deep_grey.png"}


def by_name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", READ, ids=by_name)
def test_reads(case):
    """The reader for upscaling returns the colours of the reader for training, and the parts that this drops."""
    picture = read_picture(case.data, case.name)
    pixels = picture.pixels
    assert pixels.flags.c_contiguous
    deep = case.name.startswith("deep")
    assert pixels.dtype == (np.uint16 if deep else np.uint8)
    channels = (1 if case.name in GREYS else 3) + (case.name in WITH_ALPHA or case.name == "palette_transparent.png")
    assert pixels.shape == case.image.shape[:2] + ((channels,) if channels > 1 else ())
    colours = np.atleast_3d(pixels)[..., : 1 if case.name in GREYS else 3]
    if deep:
        assert (colours % 256 == 77).all()
        colours = colours >> 8
    wanted = case.image[..., ::-1]
    assert np.abs(colours.astype(int) - wanted).max() <= case.tolerance
    if case.name in WITH_ALPHA:
        np.testing.assert_array_equal(pixels[..., -1], GREY)
    assert (picture.icc is not None) == case.name.startswith("profile")
    assert picture.notices == (["CMYK was converted to RGB"] if case.name.startswith("cmyk") else [])


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_refuses_in_one_line_that_names_the_picture(case):
    with pytest.raises(UserError) as caught:
        read_picture(case.data, "holiday.png")
    assert str(caught.value).startswith("holiday.png: ")
    assert case.reason in str(caught.value)
    assert "\n" not in str(caught.value)


def pixels_of(kind: str, dtype: type) -> np.ndarray:
    values = (DEEP if dtype == np.uint16 else RGB).astype(dtype)
    alpha = values[::-1, :, :1]
    return {
        "grey": values[..., 0],
        "grey and alpha": np.concatenate([values[..., :1], alpha], axis=2),
        "RGB": values,
        "RGB and alpha": np.concatenate([values, alpha], axis=2),
    }[kind]


@pytest.mark.parametrize("kind", ["grey", "grey and alpha", "RGB", "RGB and alpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("codec", FORMATS)
def test_there_and_back(codec, dtype, kind):
    """Parts that a format cannot hold are dropped with a notice. Others are preserved, exactly if it is lossless."""
    pixels = pixels_of(kind, dtype)
    picture = fit(Picture(pixels, icc=PROFILE), codec)
    back = read_picture(encode(picture, codec))
    wanted = pixels
    lost = []
    if dtype == np.uint16 and codec not in ("png", "tiff"):
        wanted = np.round(wanted / 257)
        lost.append(f"{codec} holds only 8 of the 16 bits")
    if "alpha" in kind and codec in ("jpg", "bmp"):
        wanted = wanted[..., 0] if kind.startswith("grey") else wanted[..., :3]
        lost.append(f"{codec} holds no alpha; it was left out")
    if codec == "bmp":
        lost.append("bmp holds no colour profile; it was left out")
    if codec == "webp" and kind.startswith("grey"):  # WebP has no grey
        wanted = np.dstack([wanted[..., 0]] * 3 + [wanted[..., 1]]) if kind != "grey" else np.dstack([wanted] * 3)
    if kind == "grey and alpha" and dtype == np.uint16 and codec in ("png", "tiff"):
        wanted = wanted[..., [0, 0, 0, 1]]
    assert picture.notices == lost
    assert back.pixels.dtype == picture.pixels.dtype
    assert back.pixels.shape == wanted.shape
    assert np.abs(back.pixels.astype(int) - wanted).max() <= {"jpg": 8, "webp": 16}.get(codec, 0)
    assert back.icc == (None if codec == "bmp" else PROFILE)


def jpeg(exif: Image.Exif | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", quality=95, **({"exif": exif} if exif else {}), **options)
    return file.getvalue()


@pytest.mark.parametrize("codec", ["png", "jpg", "webp"])
def test_exif_goes_along_without_orientation_and_size(codec):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0xA002] = 72
    exif.get_ifd(0x8769)[0x829A] = 0.125
    picture = read_picture(jpeg(exif))
    np.testing.assert_allclose(picture.pixels, np.rot90(RGB, -1), atol=8)
    for deep in (False, True):
        if deep:
            picture.pixels = picture.pixels.astype(np.uint16)
        kept = Image.open(io.BytesIO(encode(fit(picture, codec), codec))).getexif()
        assert 0x0112 not in kept
        assert kept[0x010F] == "maker"
        assert kept.get_ifd(0x8769) == {0x829A: 0.125}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_pictures_are_turned(orientation):
    turned = {6: 8, 8: 6}.get(orientation, orientation)
    stored = read_picture(_with_orientation(DEEP, turned)).pixels  # rotated in the opposite direction
    np.testing.assert_array_equal(read_picture(_with_orientation(stored, orientation)).pixels, DEEP)
    file = io.BytesIO()
    tifffile.imwrite(file, stored, photometric="rgb", metadata=None, extratags=[(0x0112, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_picture(file.getvalue()).pixels, DEEP)


def _with_orientation(pixels: np.ndarray, orientation: int) -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    return encode(Picture(np.ascontiguousarray(pixels), exif=exif), "png")


def test_cmyk_goes_by_its_profile_and_drops_it():
    file = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(file, "JPEG", quality=95, icc_profile=b"broken" * 40)
    picture = read_picture(file.getvalue())
    np.testing.assert_allclose(picture.pixels, RGB, atol=8)
    assert picture.icc is None


def test_32_bits_are_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, GREY.astype(np.float32))
    with pytest.raises(UserError, match=r"x\.tiff: floating-point values of 32 bits; save it"):
        read_picture(file.getvalue(), "x.tiff")


def test_a_png_of_16_bits_is_one_for_opencv_too():
    data = encode(Picture(np.ascontiguousarray(DEEP), icc=PROFILE), "png")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1], DEEP)


def test_a_picture_that_a_format_cannot_hold():
    check_size(16383, 16383, "webp")
    with pytest.raises(UserError, match=r"16384x9 pixels, but webp allows 16383 per side; use --format png"):
        check_size(9, 16384, "webp")


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
KEPT_XMP = XMP.replace(b' tiff:Orientation="6"', b"")
IPTC = b"\x1c\x02\x05\x00\x05title"


def everything() -> Picture:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    return Picture(
        RGB, PROFILE, exif.tobytes(), KEPT_XMP, IPTC, (300.0, 150.0), b"made by hand", [(b"tEXt", b"prompt\0a dome")]
    )


KEPT = {
    "png": {"icc", "exif", "xmp", "dpi", "png_chunks"},  # in a PNG, a comment is a text chunk
    "jpg": {"icc", "exif", "xmp", "iptc", "dpi", "comment"},
    "webp": {"icc", "exif", "xmp"},
    "tiff": {"icc", "exif", "xmp", "iptc", "dpi"},
    "bmp": {"dpi"},
}
NAMES = {
    "icc": "colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "density (DPI)",
    "comment": "comment",
}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("codec", FORMATS)
def test_what_a_format_can_hold_is_kept_and_the_rest_is_said(codec, deep):
    picture = everything()
    if deep:
        picture.pixels = np.ascontiguousarray(DEEP)
    fitted = fit(picture, codec)
    back = read_picture(encode(fitted, codec))
    kept = {name for name in KEPT["png"] | KEPT["jpg"] if getattr(back, name)}
    assert kept == KEPT[codec]
    for name in KEPT[codec] - {"exif", "dpi", "comment", "png_chunks"}:
        assert getattr(back, name) == getattr(picture, name), name
    if "dpi" in kept:
        np.testing.assert_allclose(back.dpi, picture.dpi, rtol=1e-3)
    if "exif" in kept:
        exif = Image.Exif()
        exif.load(back.exif)
        assert exif[0x010F] == "maker"
    lost = [f"{codec} holds no {NAMES[name]}; it was left out" for name in NAMES if name not in KEPT[codec]]
    if codec == "png":
        assert {b"prompt\0a dome", b"Comment\0made by hand"} <= {content for _, content in back.png_chunks}
        lost = ["png holds no IPTC; it was left out"]
    else:
        lost.append(f"{codec} holds no text 'prompt' of a PNG; left out")
    assert [line for line in fitted.notices if "16 bits" not in line] == lost


def test_what_is_too_long_for_a_jpeg_is_left_out_with_a_notice():
    picture = everything()
    picture.png_chunks = []
    exif = Image.Exif()
    exif[0x010E] = "x" * 100_000
    picture.exif = exif.tobytes()
    picture.xmp, picture.iptc, picture.comment = b"x" * 65_505, b"i" * 65_507, b"c" * 65_534
    fitted = fit(picture, "jpg")
    assert fitted.notices == [
        f"jpg holds no EXIF of {len(picture.exif)} bytes; it was left out",
        "jpg holds no XMP of 65505 bytes; it was left out",
        "jpg holds no IPTC of 65507 bytes; it was left out",
        "jpg holds no comment of 65534 bytes; it was left out",
    ]
    back = read_picture(encode(fitted, "jpg"))
    assert (back.exif, back.xmp, back.iptc, back.comment) == (None, None, None, None)
    picture.xmp, picture.iptc, picture.comment = b"x" * 65_504, b"i" * 65_506, b"c" * 65_533
    back = read_picture(encode(fit(picture, "jpg"), "jpg"))
    assert (back.xmp, back.iptc, back.comment) == (picture.xmp, picture.iptc, picture.comment)


def test_xmp_goes_along_without_its_orientation():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", quality=95, xmp=XMP)
    picture = read_picture(file.getvalue())
    assert picture.pixels.shape == (RGB.shape[1], RGB.shape[0], 3)
    assert picture.xmp == KEPT_XMP


@pytest.mark.parametrize("deep", [False, True])
def test_a_png_keeps_what_says_its_colours_and_its_texts(deep):
    colours = [(b"gAMA", struct.pack(">I", 100000)), (b"cICP", bytes([9, 16, 0, 1])), (b"sRGB", b"\0")]
    texts = [(b"tEXt", b"workflow\0{}"), (b"zTXt", b"prompt\0\0x"), (b"pHYs", struct.pack(">IIB", 2835, 2835, 1))]
    values = np.ascontiguousarray(DEEP if deep else RGB)
    picture = read_picture(png(values, 16 if deep else 8, 2, before=colours, behind=texts))
    assert picture.png_chunks == colours + texts
    np.testing.assert_allclose(picture.dpi, [72, 72], atol=0.01)
    assert read_picture(encode(fit(picture, "png"), "png")).png_chunks == colours + texts
    assert (
        fit(picture, "jpg").notices[-1] == "jpg holds no gAMA, cICP, text 'workflow', text 'prompt' of a PNG; left out"
    )


def test_chunks_of_plain_srgb_are_left_out_without_a_notice():
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    chunks = [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", srgb), (b"sRGB", b"\0")]
    assert fit(read_picture(png(RGB, 8, 2, before=chunks)), "jpg").notices == []


def test_long_profiles_and_texts_of_a_png_do_no_harm():
    profile = np.random.default_rng(0).integers(0, 256, 1_200_000, dtype=np.uint8).tobytes()
    text = b"workflow\0\0" + zlib.compress(b"x" * 50_000_000)
    data = png(RGB, 8, 2, before=[(b"iCCP", b"p\0\0" + zlib.compress(profile)), (b"zTXt", text)])
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.icc == profile
    assert picture.png_chunks == [(b"zTXt", text)]
    bomb = zlib.compress(bytes(20_000_000))
    picture = read_picture(png(RGB, 8, 2, before=[(b"iCCP", b"p\0\0" + bomb)]))
    assert picture.icc is None
    assert picture.notices == ["its colour profile is damaged or too large and was left out"]


def test_damaged_exif_costs_the_exif_alone():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    picture = read_picture(file.getvalue())
    assert picture.pixels.shape == RGB.shape
    assert picture.exif is None


def test_exif_of_a_tiff_goes_along_without_what_describes_its_pixels():
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769).update({0x829A: 0.125, 0xA002: 72})
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", exif=exif.tobytes(), dpi=(300, 300))
    picture = read_picture(file.getvalue())
    assert picture.dpi == (300, 300)
    kept = Image.open(io.BytesIO(encode(fit(picture, "jpg"), "jpg"))).getexif()
    assert set(kept) == {0x010F, 0x8769}
    assert kept.get_ifd(0x8769) == {0x829A: 0.125}
    fitted = fit(picture, "tiff")
    assert fitted.notices == ["tiff keeps only the texts of EXIF; the rest was left out"]
    assert Image.open(io.BytesIO(encode(fitted, "tiff"))).getexif()[0x010F] == "maker"
