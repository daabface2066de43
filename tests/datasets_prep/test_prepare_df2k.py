from pathlib import Path

import pytest

from lightbsr_arch.data.df2k import DF2K
from tests.data.lmdb_files import content, make_photos
from tests.datasets_prep.scripts import run_script


def test_packs_what_is_extracted_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "DIV2K_train_HR", 2)
    make_photos(tmp_path / "Flickr2K_HR", 1)
    options = ["--crop", 32, "--step", 32]
    assert run_script(monkeypatch, "prepare_df2k", tmp_path, tmp_path / "DF2K.lmdb", *options) == 0
    lines = content(tmp_path / "DF2K.lmdb")[1].decode().splitlines()
    assert len(lines) == 3 * 3 * 3
    assert lines[0] == "DIV2K_train_HR/p000_s001.png (32,32,3) 1"
    assert lines[-1] == "Flickr2K_HR/p000_s009.png (32,32,3) 1"


def test_a_missing_archive_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert run_script(monkeypatch, "prepare_df2k", tmp_path, tmp_path / "DF2K.lmdb") == 2
    assert capfd.readouterr().err == (
        f"prepare_df2k: {tmp_path}/DIV2K_train_HR.zip is missing; "
        "--download fetches it from https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip\n"
    )


def test_a_wrong_archive_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "DIV2K_train_HR.zip").write_bytes(b"<html>moved</html>")
    assert run_script(monkeypatch, "prepare_df2k", tmp_path, tmp_path / "DF2K.lmdb", "--download") == 2
    assert "18 bytes, expected 3530603713" in capfd.readouterr().err


def test_the_published_names() -> None:
    assert [(archive.name, archive.pictures) for archive in DF2K.values()] == [
        ("DIV2K_train_HR.zip", 800),
        ("Flickr2K.tar", 2650),
    ]
