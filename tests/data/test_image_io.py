import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import CODECS, encode_image, read_header, read_image
from tests.corpus import BROKEN_LINK, READ, REFUSED, UNREADABLE, Case, base, write_corpus
from tests.data.picture_makers import png, png_chunk, tiff


def by_name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", READ, ids=by_name)
def test_reads_from_bytes(case: Case) -> None:
    image = read_image(case.data)
    assert image.dtype == np.uint8
    assert image.shape == case.image.shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - case.image).max() <= case.tolerance


@pytest.mark.parametrize("case", READ, ids=by_name)
def test_header_agrees_with_the_pixels(case: Case) -> None:
    header = read_header(case.data)
    assert (header.height, header.width) == read_image(case.data).shape[:2]


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_refuses_in_one_line_that_names_the_picture(case: Case) -> None:
    with pytest.raises(UserError) as caught:
        read_image(case.data, "holiday.png")
    assert str(caught.value).startswith("holiday.png: ")
    assert case.reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["café 東京.png", "dots.in.name.png", "with space.png"])
def test_reads_any_file_name(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / name), base())


def test_names_what_is_no_file(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    reasons = {BROKEN_LINK.name: BROKEN_LINK.reason, "folder.png": "a folder, not a picture", "gone": "no such file"}
    for name, reason in reasons.items():
        with pytest.raises(UserError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_names_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / UNREADABLE.name).write_bytes(UNREADABLE.data)

    def refuse(path: Path) -> bytes:  # root may read every file, so the error of the system is simulated
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / UNREADABLE.name)
    assert str(caught.value) == f"{tmp_path / UNREADABLE.name}: {UNREADABLE.reason}"


def test_every_jpeg_cut_anywhere_is_refused() -> None:
    data = next(case for case in READ if case.name == "camera_preview.jpg").data
    end_of_photo = data.index(b"\xff\xd9", data.index(b"\xff\xda")) + 2
    for length in range(400, end_of_photo, 97):
        with pytest.raises(UserError):
            read_image(data[:length])


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_are_lossless(codec: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    data = encode_image(noise, codec)
    np.testing.assert_array_equal(read_image(data), noise)
    assert read_header(data).format.lower() == codec


USUAL = [
    "rgb.png",
    "rgb.bmp",
    "rgb.ppm",
    "rgb.tiff",
    "lossless.webp",
    "lossy.webp",
    "photo.jpg",
    "grey.jpg",
    "alpha.png",
]


@pytest.mark.parametrize("name", USUAL)
def test_usual_pictures_are_those_of_opencv_which_basicsr_reads_with(name: str) -> None:
    data = next(case.data for case in READ if case.name == name)
    np.testing.assert_array_equal(read_image(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
    for name, kind in {"pipe": "a named pipe", "device": "a device", "socket": "a socket"}.items():
        with pytest.raises(UserError, match=f"{name}.png: {kind}, not a picture"):
            read_image(tmp_path / f"{name}.png")


def test_a_file_beyond_the_budget_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(2**31)  # a sparse file needs no space
    with pytest.raises(UserError, match=r"large\.png: a file of 2147 MB; at most 1141 MB are read"):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("size", "bits", "colour", "megabytes"),
    [(18919, 8, 2, 1074), (32768, 8, 0, 1074), (23171, 8, 4, 1074), (13378, 16, 2, 1074), (11586, 16, 6, 1074)],
)
def test_the_budget_counts_channels_and_depth(size: int, bits: int, colour: int, megabytes: int) -> None:
    def claiming(side: int) -> bytes:
        data = bytearray(png(np.zeros((1, 1, {0: 1, 2: 3, 4: 2, 6: 4}[colour]), int), bits, colour))
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    with pytest.raises(UserError) as caught:
        read_image(claiming(size + 1))
    assert f"{size + 1}x{size + 1} pixels of {channels} x {bits} bits" in str(caught.value)
    assert f"at most {megabytes} MB are read" in str(caught.value)
    assert read_header(claiming(size)).width == size


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
        (b"\xff\x0a\xfa", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"v/1\x01", "an OpenEXR file"),
        (b"Pf\n1 1\n", "a PFM file of floating-point values"),
        (b"P7\nWIDTH 1", "a PAM file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "an SVG drawing"),
        (b"%PDF-1.7", "a PDF or PostScript file"),
    ],
)
def test_formats_that_are_not_read_are_named(start: bytes, kind: str) -> None:
    with pytest.raises(UserError, match=f"a.png: {kind}, which is not read; save it as PNG or TIFF"):
        read_image(start + bytes(100), "a.png")


def test_pixels_of_a_png_that_do_not_fit_their_own_sum_are_refused() -> None:
    """The checksum of the chunk is correct, but the one of its content is not."""
    for bits in (8, 16):
        data = png(np.random.default_rng(0).integers(0, 2**bits, (9, 9, 3)), bits, 2)
        start = data.index(b"IDAT") + 4
        pixels = bytearray(data[start : start + int.from_bytes(data[start - 8 : start - 4], "big")])
        pixels[-1] ^= 1
        wrong = data[: start - 8] + png_chunk(b"IDAT", bytes(pixels)) + png_chunk(b"IEND", b"")
        with pytest.raises(UserError, match="cut short or damaged"):
            read_image(wrong)


def claiming_much() -> dict[str, bytes]:
    """Files of a few hundred bytes claim 13000 x 13000 pixels, which is below the limit."""
    made = {"tiff": tiff(13000, 13000, zlib.compress(bytes(100)), {259: ("H", [8])})}
    for bits in (8, 16):
        data = bytearray(png(np.zeros((1, 1, 3), int), bits, 2))
        data[16:24] = struct.pack(">II", 13000, 13000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        made[f"{bits}.png"] = bytes(data)
    for kind, form in {"JPEG": ">HH", "BMP": "<II"}.items():
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        data = bytearray(file.getvalue())
        where = data.index(b"\xff\xc0") + 5 if kind == "JPEG" else 18
        data[where : where + struct.calcsize(form)] = struct.pack(form, 13000, 13000)
        made[kind] = bytes(data)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux alone")
def test_small_files_that_claim_much_take_no_memory(tmp_path: Path) -> None:
    for name, data in claiming_much().items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import resource, sys\n"
        "from lightbsr_arch.data.image_io import read_image\n"
        "from lightbsr.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_image(name)\n"
        "    except UserError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)\n"
    )
    command = [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))]
    growth = [int(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.split()]
    assert len(growth) == 5
    assert max(growth) < 150
