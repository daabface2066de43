import pickle
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from lightbsr.errors import UserError
from lightbsr_arch.data import gt_source, lmdb_reader
from lightbsr_arch.data.gt_source import GTSource, open_pictures
from lightbsr_arch.data.image_io import CODECS, read_image
from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.data.subimages import CropRule
from tests.corpus import too_deep
from tests.data.lmdb_files import change, make_photos
from tests.data.picture_makers import bmp, png

HEIGHT, WIDTH = 37, 53  # rows of 53 * 3 bytes need the padding of a BMP to four bytes
KINDS = [*CODECS, "disk"]


def make_source(folder: Path, kind: str, count: int = 4, cache_gb: float = 0) -> tuple[GTSource, list[np.ndarray]]:
    """Return a source of noise pictures, in an LMDB with a codec or in the folder itself."""
    photos = make_photos(folder / "in", count, (HEIGHT, WIDTH))
    if kind == "disk":
        return GTSource(str(folder / "in"), "disk", cache_gb), list(photos.values())
    out = folder / f"{kind}.lmdb"
    prepare_lmdb(find_pictures([folder / "in"]), out, CropRule(0), kind, workers=1, quiet=True)
    return GTSource(str(out), "lmdb", cache_gb), list(photos.values())


@pytest.mark.parametrize("cache_gb", [0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_crops_equal_the_pictures(tmp_path: Path, kind: str, cache_gb: float) -> None:
    source, photos = make_source(tmp_path, kind, cache_gb=cache_gb)
    assert len(source) == 4
    assert source.keys() == [f"p{i:03d}" + (".png" if kind == "disk" else "") for i in range(4)]
    for index, photo in enumerate(photos):
        assert source.shape(index) == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(source.read(index), photo)
        for top, left in [(0, 0), (5, 7), (HEIGHT - 16, WIDTH - 16)]:
            crop = source.read_crops(index, [(top, left)], 16)[0]
            np.testing.assert_array_equal(crop, photo[top : top + 16, left : left + 16])
            assert crop.flags.c_contiguous
            assert crop.flags.writeable


def test_bmp_crops_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, photos = make_source(tmp_path, "bmp")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    np.testing.assert_array_equal(source.read_crops(2, [(3, 4)], 20)[0], photos[2][3:23, 4:24])


def test_bmp_view_shares_memory_and_leaves_other_bmps_to_opencv() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    data = cv2.imencode(".bmp", photo)[1].tobytes()
    view = gt_source._bmp_view(memoryview(data))
    assert np.shares_memory(view, np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(view, photo)
    grey = cv2.imencode(".bmp", photo[..., 0])[1].tobytes()
    assert gt_source._bmp_view(memoryview(grey)) is None
    assert gt_source._bmp_view(memoryview(data[:-1])) is None
    assert gt_source._bmp_view(memoryview(data[:20])) is None


def odd_entries() -> dict[str, bytes]:
    """Other programs may have written such entries to an LMDB."""
    deep = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 1), dtype=np.uint16)
    return {
        "grey with a transparent value": png(deep, 16, 0, before=[(b"tRNS", b"\0\1")]),
        "PNG with a profile": png(np.repeat(deep >> 8, 3, axis=2), 8, 2, before=[(b"iCCP", b"x\0\0")]),
        "PPM": b"P6 %d %d 1023\n" % (WIDTH, HEIGHT) + np.repeat(deep % 1024, 3, axis=2).astype(">u2").tobytes(),
        "top-down BMP": bmp(np.repeat(deep[..., 0] >> 8, 3, axis=1).astype(np.uint8), 24, -HEIGHT, WIDTH),
    }


@pytest.mark.parametrize("name", odd_entries())
def test_odd_entries_of_an_lmdb_are_read_as_files_are(tmp_path: Path, name: str) -> None:
    make_source(tmp_path, "png")
    data = odd_entries()[name]
    change(tmp_path / "png.lmdb", "p000", data)
    source = GTSource(str(tmp_path / "png.lmdb"), "lmdb")
    image = read_image(data)
    assert image.std() > 50
    np.testing.assert_array_equal(source.read(0), image)


def test_a_png_entry_whose_chunk_claims_too_much_is_not_left_to_opencv(tmp_path: Path) -> None:
    make_source(tmp_path, "png")
    data = bytearray(png(np.zeros((HEIGHT, WIDTH, 3), int), 8, 2))
    data[-12:-8] = (300_000_000).to_bytes(4, "big")
    change(tmp_path / "png.lmdb", "p000", bytes(data))
    source = GTSource(str(tmp_path / "png.lmdb"), "lmdb")
    with pytest.raises(UserError, match=r"entry 'p000': cut short or damaged \(a chunk claims 300000000 bytes"):
        source.read(0)


@pytest.mark.parametrize("codec", ["png", "webp"])
def test_entries_as_we_write_them_are_left_to_opencv(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, photos = make_source(tmp_path, codec)
    monkeypatch.setattr(gt_source, "read_image", lambda *_: pytest.fail("parsed"))
    np.testing.assert_array_equal(source.read(1), photos[1])


def test_a_view_of_the_map_is_never_given_away(tmp_path: Path) -> None:
    source, photos = make_source(tmp_path, "bmp")
    crop = source.read_crops(0, [(0, 0)], 16)[0]
    crop[:] = 0
    np.testing.assert_array_equal(source.read(0), photos[0])


def test_the_cache_holds_the_first_that_fit_and_is_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * HEIGHT * WIDTH
    source, photos = make_source(tmp_path, "png", cache_gb=2.5 * size / 1e9)
    decoded = []
    imdecode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: decoded.append(1) or imdecode(*args))
    for _ in range(3):
        for index, photo in enumerate(photos):
            np.testing.assert_array_equal(source.read_crops(index, [(1, 2)], 8)[0], photo[1:9, 2:10])
    assert len(decoded) == 2 * 1 + 2 * 3


def test_too_little_shared_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_source(tmp_path, "png")
    status = type("Status", (), {"f_bavail": 1, "f_frsize": 4096})
    monkeypatch.setattr(gt_source.os, "statvfs", lambda _: status)
    with pytest.raises(UserError, match=r"^cache_gb: the cache needs 0.00 GB of shared memory"):
        GTSource(str(tmp_path / "png.lmdb"), "lmdb", 1)


class _Crops(Dataset[Any]):
    def __init__(self, source: GTSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source.read_crops(index, [(index, 2 * index)], 16)[0]


@pytest.mark.parametrize(("method", "cache_gb"), [("fork", 0), ("fork", 1e-3), ("spawn", 1e-3)])
def test_workers_read_the_same_and_share_the_cache(
    tmp_path: Path, method: Literal["fork", "spawn"], cache_gb: float
) -> None:
    source, photos = make_source(tmp_path, "bmp", count=6, cache_gb=cache_gb)
    source.read(5)  # the LMDB is already open in this process, which must not affect workers
    loader = DataLoader(_Crops(source), batch_size=2, num_workers=2, multiprocessing_context=method)
    crops = np.concatenate([batch.numpy() for batch in loader])
    expected = [photo[i : i + 16, 2 * i : 2 * i + 16] for i, photo in enumerate(photos)]
    np.testing.assert_array_equal(crops, expected)
    if source._cache is not None:
        assert source._cache._filled.tolist() == [1] * 6


def test_pickles_and_shares_an_open_lmdb(tmp_path: Path) -> None:
    source, photos = make_source(tmp_path, "webp")
    source.read(0)
    copy = pickle.loads(pickle.dumps(source))
    again = GTSource(str(tmp_path / "webp.lmdb"), "lmdb")  # a process may open an LMDB only once
    np.testing.assert_array_equal(copy.read(1), photos[1])
    np.testing.assert_array_equal(again.read(2), photos[2])


def test_the_lmdb_is_closed_with_its_last_user(tmp_path: Path) -> None:
    source, _ = make_source(tmp_path, "png")
    source.read(0)
    assert str(tmp_path / "png.lmdb") in lmdb_reader._open
    del source
    assert str(tmp_path / "png.lmdb") not in lmdb_reader._open


def test_a_folder_that_cannot_be_listed_is_refused_or_fails_when_it_is_read(tmp_path: Path) -> None:
    make_source(tmp_path, "disk")
    too_deep(tmp_path / "in" / "deep")
    said = r"^/.*/deep/d.*/d+: cannot be listed \(File name too long\)$"
    with pytest.raises(UserError, match=said):
        GTSource(str(tmp_path / "in"), "disk")
    source = open_pictures(str(tmp_path / "in"))
    assert [key[:5] for key in sorted(source.keys())][:2] == ["deep/", "p000."]
    with pytest.raises(UserError, match=said):
        source.read(0)
    assert source.read(1).shape == (*source.shape(1), 3)
    assert open_pictures(str(tmp_path / "in"), without=tmp_path / "in/deep").keys() == source.keys()[1:]
    with pytest.raises(UserError, match=r"/in: no pictures but those in "):
        open_pictures(str(tmp_path / "in"), without=tmp_path)


def test_errors_name_file_and_key(tmp_path: Path) -> None:
    source, _ = make_source(tmp_path, "png")
    with pytest.raises(UserError, match=r"^p001: a 40x40 crop at row 0, column 0 is not inside 53x37$"):
        source.read_crops(1, [(0, 0)], 40)
    with pytest.raises(UserError, match=r"^p001: a 8x8 crop at row -1"):
        source.read_crops(1, [(-1, 0)], 8)
    with pytest.raises(UserError, match=r"gone.lmdb: no LMDB here"):
        GTSource(str(tmp_path / "gone.lmdb"), "lmdb")
    with pytest.raises(UserError, match=r"gone: no such folder"):
        GTSource(str(tmp_path / "gone"), "disk")
    with pytest.raises(UserError, match=r"io_backend type 'petrel': GTSource reads 'lmdb' or 'disk'"):
        GTSource(str(tmp_path), "petrel")  # type: ignore[arg-type]
    meta = tmp_path / "png.lmdb" / "meta_info.txt"
    meta.write_text("p000.png (9,9,3) 1\np009.png (37,53,3) 1\n")
    wrong = GTSource(str(tmp_path / "png.lmdb"), "lmdb")
    with pytest.raises(UserError, match=r"entry 'p000' is not an image of the size meta_info.txt states"):
        wrong.read(0)
    with pytest.raises(UserError, match=r"no entry 'p009', though meta_info.txt lists it"):
        wrong.read(1)
