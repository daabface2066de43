from pathlib import Path

import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset

from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.degradations.settings import named_settings
from tests.data.lmdb_files import content, make_photos
from tests.datasets_prep.scripts import run_script


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    make_photos(tmp_path / "Set2", 2, (50, 63))  # not multiples of 4
    return tmp_path / "Set2"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("as_lmdb", [False, True])
def test_files_equal_what_validation_sees(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_lmdb: bool
) -> None:
    out = tmp_path / "out" / "Set2" / "x4"
    options = ["--settings", "setting2", "--scale", "4", *(["--lmdb"] if as_lmdb else [])]
    assert run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / "out", *options) == 0
    settings = named_settings("setting2", 4)
    validation = DegradedDataset(
        {
            "name": "x",
            "dataroot_gt": str(hr),
            "io_backend": {"type": "disk"},
            "settings": "setting2",
            "scale": 4,
        }
    )
    assert len(settings) == 27
    for place, setting in enumerate(settings):
        ending = ".lmdb" if as_lmdb else ""
        pairs = PairedImageDataset(
            {
                "dataroot_gt": str(out / f"HR{ending}"),
                "dataroot_lq": str(out / "setting2" / f"{setting.name}{ending}"),
                "io_backend": {"type": "lmdb" if as_lmdb else "disk"},
                "scale": 4,
                "phase": "val",
            }
        )
        by_name = {Path(pair["gt_path"]).stem: pair for pair in (pairs[i] for i in range(len(pairs)))}
        assert by_name.keys() == {"p000", "p001"}
        for index in range(2):
            pair, seen = by_name[f"p{index:03d}"], validation[2 * place + index]
            assert pair["lq"].shape == (3, 12, 15)
            np.testing.assert_allclose(pair["lq"], seen["lq"], atol=1e-6)
            np.testing.assert_allclose(pair["gt"], seen["gt"], atol=1e-6)


def test_the_same_bytes_again_and_what_exists_is_left(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in ("one", "two"):
        assert run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / out, "--scale", 2) == 0
    one = tree(tmp_path / "one")
    assert one == tree(tmp_path / "two")
    folders = {name.rsplit("/", 1)[0] for name in one}
    assert len(folders) == 1 + 8 + 4 + 27
    assert {"Set2/x2/HR", "Set2/x2/gaussian8/sigma0.9", "Set2/x2/setting1/sigma1.8"} < folders

    kept = tmp_path / "two/Set2/x2/HR/p000.png"
    kept.write_bytes(b"mine")
    assert run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / "two", "--scale", 2) == 0
    assert kept.read_bytes() == b"mine"


def test_lmdb_entries_are_the_folders_files(hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--settings", "setting1"]
    run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / "out", *options)
    run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / "out", *options, "--lmdb")
    folder = tmp_path / "out/Set2/x4/setting1/sigma2.4"
    entries, meta = content(folder.with_name("sigma2.4.lmdb"))
    assert entries == {path.stem.encode(): path.read_bytes() for path in folder.iterdir()}
    assert meta == b"p000.png (12,15,3) 1\np001.png (12,15,3) 1\n"


def test_no_pictures_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert run_script(monkeypatch, "prepare_benchmarks", tmp_path / "gone", tmp_path / "out") == 2
    assert capfd.readouterr().err == f"prepare_benchmarks: {tmp_path}/gone: no such folder\n"


def test_the_end_is_told_and_the_source_is_no_target(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert run_script(monkeypatch, "prepare_benchmarks", hr, hr) == 2
    assert (
        capfd.readouterr().err
        == f"prepare_benchmarks: {hr}: the folder of the HR pictures; name another for the pairs\n"
    )
    out = tmp_path / "out"
    assert run_script(monkeypatch, "prepare_benchmarks", hr, out, "--settings", "setting1", "gaussian8") == 0
    assert capfd.readouterr().out == f"{out}: 13 folders, complete\n"  # HR, 4 and 8


def test_two_benchmarks_of_one_name_are_not_mixed(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    make_photos(tmp_path / "other" / "Set2", 1)
    assert run_script(monkeypatch, "prepare_benchmarks", hr, tmp_path / "other" / "Set2", tmp_path / "out") == 2
    assert capfd.readouterr().err == (
        f"prepare_benchmarks: {hr} and {tmp_path}/other/Set2 have the same name; give each its own OUT\n"
    )
    assert not (tmp_path / "out").exists()
