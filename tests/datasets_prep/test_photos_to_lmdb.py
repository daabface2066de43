import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.lmdb_files import content, make_photos
from tests.datasets_prep.scripts import FOLDER, run_script


def test_exit_0_and_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    make_photos(tmp_path / "in", 2)
    out = tmp_path / "out.lmdb"
    status = run_script(
        monkeypatch, "photos_to_lmdb", tmp_path / "in", out, "--crop", 32, "--step", 16, "--codec", "bmp"
    )
    stdout, stderr = capfd.readouterr()
    assert status == 0
    assert stdout.startswith(f"{out}: 40 entries, ")
    assert "B/s" in stderr  # the progress bar
    assert len(content(out)[0]) == 40
    assert run_script(monkeypatch, "verify_lmdb", out) == 0
    assert capfd.readouterr().out == f"{out}: 40 entries, 0 faults\n"


def test_exit_1_lists_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    make_photos(tmp_path / "in", 1)
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "b.png").write_text("text")
    assert run_script(monkeypatch, "photos_to_lmdb", tmp_path / "in", tmp_path / "out.lmdb", "--crop", 0) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-3:] == [
        "2 left out:",
        f"  {tmp_path}/in/a.png: empty file",
        f"  {tmp_path}/in/b.png: not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF, HEIC)",
    ]
    assert run_script(monkeypatch, "photos_to_lmdb", tmp_path / "in", tmp_path / "o.lmdb", "--crop", 0, "--strict") == 2


def test_held_back_pictures_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "in", 3)
    make_photos(tmp_path / "back", 1)
    out = tmp_path / "out.lmdb"
    arguments = [tmp_path / "in", out, "--crop", 0, "--exclude", tmp_path / "back"]
    assert run_script(monkeypatch, "photos_to_lmdb", *arguments) == 0
    assert sorted(content(out)[0]) == [b"p001", b"p002"]


def test_exit_2_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert run_script(monkeypatch, "photos_to_lmdb", tmp_path / "gone", tmp_path / "out.lmdb") == 2
    assert capfd.readouterr().err == (
        f"photos_to_lmdb: {tmp_path}/gone: no such file or folder, and nothing matches it as a pattern\n"
    )
    assert run_script(monkeypatch, "verify_lmdb", tmp_path / "out.lmdb") == 2
    assert capfd.readouterr().err == f"verify_lmdb: {tmp_path}/out.lmdb: no LMDB here\n"


def test_ctrl_c_is_one_line_and_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    make_photos(tmp_path / "in", 30, (120, 160))
    out = tmp_path / "out.lmdb"
    args = [str(tmp_path / "in"), str(out), "--crop", "64", "--step", "32", "--codec", "webp"]
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "photos_to_lmdb.py"), *args],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.lmdb.partial" / "lmdb").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # also to the workers, as a terminal does
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.splitlines()[-1] == f"photos_to_lmdb: interrupted; the same command continues {out}"
    assert "Traceback" not in stderr
    assert not out.exists()
    assert run_script(monkeypatch, "photos_to_lmdb", *args) == 0
    assert len(content(out)[0]) == 30 * 3 * 4
