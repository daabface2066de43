from pathlib import Path

import numpy as np
import pytest

from lightbsr_arch.data.image_io import CODECS, encode_image, read_header, read_image
from lightbsr_arch.errors import UserError
from tests.corpus import BROKEN_LINK, READ, REFUSED, UNREADABLE, Case, base, write_corpus


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

    def refuse(path: Path) -> bytes:  # root may read anything, so the system's refusal is played
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
