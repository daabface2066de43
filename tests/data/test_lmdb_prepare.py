import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.data_util import paths_from_lmdb
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import FileClient, imfrombytes
from tqdm import tqdm

from lightbsr.errors import UserError
from lightbsr_arch.data import lmdb_prepare, lmdb_writer
from lightbsr_arch.data.image_io import CODECS
from lightbsr_arch.data.lmdb_prepare import Report, prepare_lmdb
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.data.subimages import CropRule
from tests.corpus import too_deep, write_corpus
from tests.data.lmdb_files import content, make_photos

RULE = CropRule(32, 16, 0)


def prepare(source: Path, out: Path, rule: CropRule = RULE, codec: str = "png", **options: object) -> Report:
    return prepare_lmdb(find_pictures([source]), out, rule, codec, quiet=True, **{"workers": 2, **options})


@pytest.mark.parametrize("codec", CODECS)
def test_basicsr_reads_every_entry_as_the_source_crop(tmp_path: Path, codec: str) -> None:
    photos = make_photos(tmp_path / "in", 3)
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb", codec=codec)
    assert (len(report.entries), report.skipped) == (3 * 4 * 5, [])
    assert sorted(path.name for path in (tmp_path / "out.lmdb").iterdir()) == ["data.mdb", "lock.mdb", "meta_info.txt"]
    first = (tmp_path / "out.lmdb" / "meta_info.txt").read_text().splitlines()[0]
    assert first == f"p000_s001.{codec} (32,32,3) {CODECS[codec].level}"

    keys = paths_from_lmdb(str(tmp_path / "out.lmdb"))
    client = FileClient("lmdb", db_paths=[str(tmp_path / "out.lmdb")], client_keys=["gt"])
    expected = {
        f"{name}_s{number:03d}": photo[top : top + 32, left : left + 32]
        for name, photo in photos.items()
        for number, (top, left) in enumerate(product((0, 16, 32, 38), (0, 16, 32, 48, 58)), 1)
    }
    assert keys == list(expected)
    for key in keys:
        np.testing.assert_array_equal(imfrombytes(client.get(key, "gt")), expected[key])


def test_basicsrs_paired_dataset_reads_our_pair(tmp_path: Path) -> None:
    hr = make_photos(tmp_path / "hr", 2, (64, 96))
    lr = make_photos(tmp_path / "lr", 2, (16, 24))
    prepare(tmp_path / "hr", tmp_path / "hr.lmdb", CropRule(32, 16, 0), "bmp")
    prepare(tmp_path / "lr", tmp_path / "lr.lmdb", CropRule(8, 4, 0), "png")
    dataset = PairedImageDataset(
        {
            "dataroot_gt": str(tmp_path / "hr.lmdb"),
            "dataroot_lq": str(tmp_path / "lr.lmdb"),
            "io_backend": {"type": "lmdb"},
            "scale": 4,
            "phase": "val",
        }
    )
    assert len(dataset) == 2 * 3 * 5
    for index, (name, top, left) in enumerate(product(hr, (0, 16, 32), (0, 16, 32, 48, 64))):
        sample = dataset[index]
        assert sample["gt_path"] == sample["lq_path"] == f"{name}_s{index % 15 + 1:03d}"
        gt = (sample["gt"].numpy().transpose(1, 2, 0)[..., ::-1] * 255).round()
        lq = (sample["lq"].numpy().transpose(1, 2, 0)[..., ::-1] * 255).round()
        np.testing.assert_array_equal(gt, hr[name][top : top + 32, left : left + 32])
        np.testing.assert_array_equal(lq, lr[name][top // 4 : top // 4 + 8, left // 4 : left // 4 + 8])


def test_the_corpus_of_odd_files(tmp_path: Path) -> None:
    """The LMDB contains the expected pixels of each odd file, and the report has a reason for each broken one."""
    readable, refused = write_corpus(tmp_path / "in")
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(0))
    reasons = {path.relative_to(tmp_path / "in").as_posix(): reason for path, reason in report.skipped}
    assert reasons.keys() == {case.name for case in refused}
    assert [case.name for case in refused if case.reason not in reasons[case.name]] == []

    pictures = {picture.name: picture for picture in find_pictures([tmp_path / "in"])}
    entries, _ = content(tmp_path / "out.lmdb")
    assert len(entries) == len(report.entries) == len(readable)
    for case in readable:
        image = cv2.imdecode(np.frombuffer(entries[pictures[case.name].key.encode()], np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == case.image.shape, case.name
        assert np.abs(image.astype(int) - case.image).max() <= case.tolerance, case.name


def test_too_small_pictures_are_left_out_with_their_size(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    cv2.imwrite(str(tmp_path / "in" / "tiny.png"), np.zeros((31, 200, 3), np.uint8))
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb")
    assert report.skipped == [(tmp_path / "in" / "tiny.png", "too small: 200x31 pixels, the crop is 32")]
    assert len(content(tmp_path / "out.lmdb")[0]) == len(report.entries) == 2 * 20


def test_an_interrupted_run_with_shrunk_versions_continues(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "broken.png").write_text("no picture")
    rule = CropRule(32, 32, 0, (0.5,))
    with pytest.raises(UserError, match="not a picture"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb", rule, strict=True)
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb", rule)
    suffixes = [*(f"_s{number:03d}" for number in range(1, 10)), *(f"_x0_5_s{number:03d}" for number in range(1, 5))]
    assert [line.key for line in report.entries] == [
        f"p00{number}{suffix}" for number in range(2) for suffix in suffixes
    ]


def test_a_picture_with_the_key_of_a_shrunk_version_is_named(tmp_path: Path) -> None:
    (photo,) = make_photos(tmp_path / "in", 1)
    other = shutil.copy(tmp_path / "in" / f"{photo}.png", tmp_path / "in" / f"{photo}_x0_5.png")
    with pytest.raises(UserError, match=rf"{other} has the key of a version of .*{photo}\.png that --shrink makes"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(32, 16, 0, (0.5,)))
    assert not (tmp_path / "out.lmdb.partial").exists()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="workers inherit a broken reader")
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("what"), OSError("what"), EOFError("what"), RecursionError("what")]
)
def test_whatever_a_picture_raises_leaves_out_that_picture(tmp_path: Path, monkeypatch, error: Exception) -> None:
    make_photos(tmp_path / "in", 4)
    read_image = lmdb_prepare.read_image

    def raise_for_two(path: Path) -> np.ndarray:
        if path.stem in ("p001", "p002"):
            raise error
        return read_image(path)

    monkeypatch.setattr(lmdb_prepare, "read_image", raise_for_two)
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb", start_method="fork")
    said = f"{type(error).__name__}: what"
    assert report.skipped == [(tmp_path / "in" / name, said) for name in ("p001.png", "p002.png")]
    assert len(content(tmp_path / "out.lmdb")[0]) == 2 * 20


def test_a_folder_that_cannot_be_listed_is_left_out_with_its_reason(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    too_deep(tmp_path / "in" / "deep")
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb")
    ((path, reason),) = report.skipped
    assert path.parts[-1] == "d" * 250
    assert reason == "cannot be listed (File name too long)"
    assert len(content(tmp_path / "out.lmdb")[0]) == 2 * 20


def test_strict_stops_at_the_first_and_can_be_continued(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 3)
    broken = tmp_path / "in" / "a_broken.png"
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=r"a_broken.png: empty file \(--strict stops here\)"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb", strict=True)
    assert not (tmp_path / "out.lmdb").exists()
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb")
    assert [path for path, _ in report.skipped] == [broken]
    assert len(report.entries) == 60


def test_nothing_usable_leaves_no_target(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 pictures can be used; the first, .*a.png: empty file"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(sys.platform != "linux", reason="the worker's replacement is inherited by fork")
def test_a_worker_that_ignores_sigterm_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stubborn(pipe: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pipe.send("ready")
        time.sleep(5)
        (tmp_path / "survived").touch()

    monkeypatch.setattr(lmdb_prepare, "_work", stubborn)
    with lmdb_prepare._workers(1, RULE, "png", "fork") as (pipe,):
        assert pipe.recv() == "ready"
    assert not (tmp_path / "survived").exists()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_under_fork_and_spawn_give_the_same(tmp_path: Path, start_method: str) -> None:
    make_photos(tmp_path / "in", 4)
    prepare(tmp_path / "in", tmp_path / "one.lmdb", workers=1)
    prepare(tmp_path / "in", tmp_path / "two.lmdb", workers=2, start_method=start_method)
    assert content(tmp_path / "one.lmdb") == content(tmp_path / "two.lmdb")


def test_the_map_grows_from_a_small_first_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BasicSR's writer reserves ten times the size of the first image per entry and overflows (MapFullError)."""
    monkeypatch.setattr(lmdb_writer, "_FIRST_MAP", 1 << 14)
    photos = make_photos(tmp_path / "in", 8, (200, 200))
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((1, 1, 3), np.uint8))
    prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(0), "bmp")
    entries, _ = content(tmp_path / "out.lmdb")
    assert len(entries) == 9
    np.testing.assert_array_equal(imfrombytes(entries[b"p007"]), photos["p007"])


def test_a_complete_target_is_not_touched_without_overwrite(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    prepare(tmp_path / "in", tmp_path / "out.lmdb")
    before = content(tmp_path / "out.lmdb")
    with pytest.raises(UserError, match=r"out.lmdb exists and is left as it is; --overwrite replaces it"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb", codec="bmp")
    assert content(tmp_path / "out.lmdb") == before
    prepare(tmp_path / "in", tmp_path / "out.lmdb", codec="bmp", overwrite=True)
    assert content(tmp_path / "out.lmdb")[1].startswith(b"p000_s001.bmp ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.lmdb"]


def test_the_target_needs_basicsrs_ending(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 1)
    with pytest.raises(UserError, match=r"must end with \.lmdb"):
        prepare(tmp_path / "in", tmp_path / "out")


def interrupt(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, after: int, **options: object) -> None:
    """Prepare until ``after`` entries have been put, then raise the exception of Ctrl-C."""
    monkeypatch.setattr(lmdb_writer, "_BATCH_BYTES", 1 << 14)
    put = lmdb_writer.LmdbWriter.put
    count = 0

    def counting_put(self: lmdb_writer.LmdbWriter, key: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_writer.LmdbWriter, "put", counting_put)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, **options)


def test_an_unfinished_run_is_marked_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "in", 6)
    prepare(tmp_path / "in", tmp_path / "whole.lmdb")
    interrupt(monkeypatch, tmp_path / "in", tmp_path / "out.lmdb", after=70, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.lmdb.partial", "whole.lmdb"]

    finished = (tmp_path / "out.lmdb.partial" / "done.jsonl").read_text().count("\n")
    assert 0 < finished < 6
    for number in range(finished):  # what is done is not read again
        spoil(tmp_path / "in" / f"p{number:03d}.png")
    report = prepare(tmp_path / "in", tmp_path / "out.lmdb")
    assert len(report.entries) == 6 * 20
    assert content(tmp_path / "out.lmdb") == content(tmp_path / "whole.lmdb")


def spoil(path: Path) -> None:
    """Overwrite a file with zeros, and keep its size and its time."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_another_recipe_does_not_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "in", 4)
    interrupt(monkeypatch, tmp_path / "in", tmp_path / "out.lmdb", after=30)
    with pytest.raises(UserError, match=r"unfinished run with other settings \(differing: codec, step\)"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(32, 8, 0), "bmp")
    os.utime(tmp_path / "in" / "p001.png", (1, 1))
    with pytest.raises(UserError, match=r"\(differing: sources\).*--overwrite"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb")
    prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(32, 8, 0), overwrite=True)
    prepare(tmp_path / "in", tmp_path / "whole.lmdb", CropRule(32, 8, 0))
    assert content(tmp_path / "out.lmdb") == content(tmp_path / "whole.lmdb")


def test_overwrite_keeps_the_old_target_until_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "in", 4)
    prepare(tmp_path / "in", tmp_path / "out.lmdb", codec="bmp")
    before = content(tmp_path / "out.lmdb")
    interrupt(monkeypatch, tmp_path / "in", tmp_path / "out.lmdb", after=30, overwrite=True)
    assert content(tmp_path / "out.lmdb") == before
    prepare(tmp_path / "in", tmp_path / "out.lmdb", overwrite=True)
    assert content(tmp_path / "out.lmdb")[1].startswith(b"p000_s001.png ")


def stop_before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wanted: str) -> None:
    """Make a function fail once, as after a kill, when its path has this end."""
    function = getattr(owner, name)

    def stopping(path: Path, *args: object, **kwargs: object) -> object:
        if str(path).endswith(wanted):
            monkeypatch.setattr(owner, name, function)
            raise KeyboardInterrupt
        return function(path, *args, **kwargs)

    monkeypatch.setattr(owner, name, stopping)


def test_stopped_between_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is complete, and the files beside it do not count as an unfinished run."""
    make_photos(tmp_path / "in", 2)
    out, partial = tmp_path / "out.lmdb", tmp_path / "out.lmdb.partial"
    for delete_target in (False, True):
        shutil.rmtree(out, ignore_errors=True)
        stop_before(monkeypatch, lmdb_writer.shutil, "rmtree", "out.lmdb.partial")
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "in", out)
        whole = content(out)
        assert len(whole[0]) == 40
        assert partial.exists()
        if delete_target:
            shutil.rmtree(out)
            prepare(tmp_path / "in", out)
        else:
            with pytest.raises(UserError, match="exists and is left as it is"):
                prepare(tmp_path / "in", out)
        assert content(out) == whole
        assert not partial.exists()


def test_stopped_while_the_old_target_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "in", 2)
    out = tmp_path / "out.lmdb"
    prepare(tmp_path / "in", out, codec="bmp")
    stop_before(monkeypatch, Path, "rename", "partial/lmdb")
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", out, overwrite=True)
    assert not out.exists()
    prepare(tmp_path / "in", out)
    assert content(out)[1].startswith(b"p000_s001.png ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.lmdb"]


def test_two_processes_on_one_target(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def hold_the_target() -> None:
        with lmdb_writer.LmdbWriter(tmp_path / "out.lmdb", {}):
            theirs.send("held")
            theirs.recv()

    other = context.Process(target=hold_the_target)
    other.start()
    assert ours.recv() == "held"
    with pytest.raises(UserError, match=r"out.lmdb is being prepared by another process"):
        prepare(tmp_path / "in", tmp_path / "out.lmdb")
    ours.send("leave")
    other.join()


def test_a_write_that_fails_is_said_in_one_line_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on file sizes simulates a full disk. LMDB reports both as an error of writing."""
    import resource

    monkeypatch.setattr(lmdb_writer, "_BATCH_BYTES", 1 << 16)
    make_photos(tmp_path / "in", 8, (120, 120))
    prepare(tmp_path / "in", tmp_path / "whole.lmdb", CropRule(0))

    def prepare_on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))
        with pytest.raises(
            UserError,
            match=r"out.lmdb: cannot write \(.*; \d+ MB free there\); finished pictures are kept in out.lmdb.partial",
        ):
            prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(0), workers=1)

    child = multiprocessing.get_context("fork").Process(target=prepare_on_a_full_disk)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (tmp_path / "out.lmdb.partial" / "done.jsonl").read_bytes().count(b"\n") in range(1, 8)
    prepare(tmp_path / "in", tmp_path / "out.lmdb", CropRule(0))
    assert content(tmp_path / "out.lmdb") == content(tmp_path / "whole.lmdb")


def test_a_killed_worker_is_said_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "in", 4)
    read_image = lmdb_prepare.read_image

    def die_on_p002(path: Path) -> np.ndarray:
        if path.name == "p002.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_prepare, "read_image", die_on_p002)
        with pytest.raises(UserError, match=r"p002.png: the process reading it was killed"):
            prepare(tmp_path / "in", tmp_path / "out.lmdb")
    assert len(prepare(tmp_path / "in", tmp_path / "out.lmdb").entries) == 80


@pytest.mark.slow
def test_kills_at_random_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGKILL, the same call completes the LMDB of an uninterrupted run."""
    monkeypatch.setattr(lmdb_writer, "_BATCH_BYTES", 1 << 19)
    make_photos(tmp_path / "in", 12, (160, 160))
    (tmp_path / "in" / "broken.png").write_bytes(b"")
    start = time.perf_counter()
    prepare(tmp_path / "in", tmp_path / "whole.lmdb")
    duration = time.perf_counter() - start
    whole = content(tmp_path / "whole.lmdb")

    def run_in_a_group_of_its_own() -> None:
        os.setpgrp()
        # Forked processes share tqdm's default lock. If one is killed while holding the lock, the others wait for ever.
        tqdm.set_lock(threading.RLock())
        prepare(tmp_path / "in", tmp_path / "out.lmdb")

    rng = random.Random(0)
    states = []
    for _ in range(12):
        child = multiprocessing.get_context("fork").Process(target=run_in_a_group_of_its_own)
        child.start()
        time.sleep(rng.uniform(0, 1.1 * duration))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        wait_for_group_to_end(child.pid)
        complete, unfinished = ((tmp_path / name).exists() for name in ("out.lmdb", "out.lmdb.partial"))
        states.append("complete" if complete else "unfinished" if unfinished else "absent")
        if not complete:
            report = prepare(tmp_path / "in", tmp_path / "out.lmdb")
            assert [path.name for path, _ in report.skipped] == ["broken.png"]
        assert content(tmp_path / "out.lmdb") == whole
        shutil.rmtree(tmp_path / "out.lmdb")
        shutil.rmtree(tmp_path / "out.lmdb.partial", ignore_errors=True)
    assert states.count("unfinished") >= 3, states


def wait_for_group_to_end(group: int) -> None:
    """Workers end with the main process, because their pipe ends."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("workers are still there 10 s after the main process was killed")


def test_entries_are_never_more_than_meta_info(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 3)
    prepare(tmp_path / "in", tmp_path / "out.lmdb")
    with lmdb.open(str(tmp_path / "out.lmdb"), readonly=True, lock=False) as env:
        assert env.stat()["entries"] == (tmp_path / "out.lmdb" / "meta_info.txt").read_text().count("\n") == 60
