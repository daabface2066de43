from pathlib import Path

import cv2
import numpy as np
import pytest

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import encode_image
from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
from lightbsr_arch.data.lmdb_verify import verify_lmdb
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.data.subimages import CropRule
from tests.data.lmdb_files import change, make_photos


@pytest.fixture
def good(tmp_path: Path) -> Path:
    make_photos(tmp_path / "in", 3, (40, 50))
    prepare_lmdb(find_pictures([tmp_path / "in"]), tmp_path / "good.lmdb", CropRule(0), workers=1, quiet=True)
    return tmp_path / "good.lmdb"


def faults(path: Path) -> list[str]:
    return verify_lmdb(path, workers=2, quiet=True)[1]


def test_a_good_one(good: Path) -> None:
    assert verify_lmdb(good, quiet=True) == (3, [])


def test_no_entries_are_a_fault(good: Path) -> None:
    (good / "meta_info.txt").write_text("")
    assert faults(good)[-1] == "no entries"


def test_names_each_fault(good: Path) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    change(good, "p000", encode_image(image, "bmp"))
    change(good, "p001", encode_image(image[:30], "png"))
    change(good, "p002", encode_image(image, "png")[:-40])
    change(good, "p003", encode_image(image, "png"))
    assert faults(good) == [
        "p003: an entry that meta_info.txt does not list",
        "p000: meta_info.txt says 'p000.png (40,50,3) 1', the entry is 'p000.bmp (40,50,3) 1'",
        "p001: meta_info.txt says 'p001.png (40,50,3) 1', the entry is 'p001.png (30,50,3) 1'",
        "p002: cut short or damaged (a chunk claims 81 bytes, more than there are)",
    ]


def test_missing_and_repeated_lines(good: Path) -> None:
    change(good, "p001", None)
    with (good / "meta_info.txt").open("a") as file:
        file.write("p000.png (40,50,3) 1\n")
    assert faults(good) == [
        "p000: listed 2 times in meta_info.txt",
        "p001: listed in meta_info.txt, but there is no such entry",
    ]


def test_grey_entries_of_basicsrs_own_writer(good: Path) -> None:
    change(good, "p001", cv2.imencode(".png", np.zeros((40, 50), np.uint8))[1].tobytes())
    lines = (good / "meta_info.txt").read_text().replace("p001.png (40,50,3)", "p001.png (40,50,1)")
    (good / "meta_info.txt").write_text(lines)
    assert faults(good) == []


def test_a_cut_data_file_is_refused_before_it_is_read(good: Path) -> None:
    """Reading it would kill the process, because the memory map is longer than the file."""
    data = (good / "data.mdb").read_bytes()
    (good / "data.mdb").write_bytes(data[:-4096])
    with pytest.raises(UserError, match=rf"data.mdb is cut short \({len(data) - 4096} of {len(data)} bytes\)"):
        verify_lmdb(good, quiet=True)


def test_what_is_no_lmdb_is_named(good: Path, tmp_path: Path) -> None:
    (tmp_path / "a.lmdb.partial").mkdir()
    with pytest.raises(UserError, match=r"a.lmdb: no LMDB here \(its preparation is unfinished"):
        verify_lmdb(tmp_path / "a.lmdb")
    with pytest.raises(UserError, match=r"b.lmdb: no LMDB here$"):
        verify_lmdb(tmp_path / "b.lmdb")
    (good / "data.mdb").write_bytes(b"nonsense" * 2000)
    with pytest.raises(UserError, match=r"good.lmdb: cannot be opened as an LMDB"):
        verify_lmdb(good)


def test_a_foreign_meta_info_line_is_named(good: Path) -> None:
    (good / "meta_info.txt").write_text("p000.png (40,50,3) 1\np001.png 40x50\n")
    with pytest.raises(UserError, match=r"meta_info.txt line 2: expected 'key.png .*', found 'p001.png 40x50'"):
        verify_lmdb(good)
    (good / "meta_info.txt").unlink()
    with pytest.raises(UserError, match=r"not a BasicSR LMDB \(no meta_info.txt in it\)"):
        verify_lmdb(good)


@pytest.mark.parametrize("key", ["/etc/x", "a//b", "a/", "-/\\x", "a/\x01", "x" * 251])
def test_keys_that_lead_out_of_a_folder_are_refused(good: Path, key: str) -> None:
    (good / "meta_info.txt").write_text(f"p000.png (40,50,3) 1\n{key}.png (40,50,3) 1\n")
    with pytest.raises(UserError, match=r"meta_info.txt line 2: "):
        verify_lmdb(good, quiet=True)
