"""The folder of a run belongs to one run at a time, and is created late."""

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from lightbsr.errors import UserError
from lightbsr_arch.training.run_folder import RunFolder


def options(root: Path, *, is_train: bool = True, rank: int = 0, **logger: Any) -> dict[str, Any]:
    """Return options in the form that BasicSR completes."""
    place = root / ("experiments" if is_train else "results") / "run"
    path = {name: str(place / name) for name in ("models", "training_states", "visualization")}
    path["experiments_root" if is_train else "results_root"] = str(place)
    return {
        "name": "run", "is_train": is_train, "rank": rank, "root_path": str(root), "path": path, "logger": logger
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "o.yml").write_text("name: run\n")
    return RunFolder(tmp_path / "o.yml")


def in_another_process(action: Any) -> int:
    """Return the exit code of a function in another process: 0, or 2 for a ``UserError``."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except UserError:
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_second_process_is_refused_until_the_first_has_ended(folder: RunFolder, tmp_path: Path) -> None:
    opt = options(tmp_path)
    folder.claim(opt)
    assert in_another_process(lambda: RunFolder(tmp_path / "o.yml").claim(opt)) == 2
    folder.release()
    assert in_another_process(lambda: RunFolder(tmp_path / "o.yml").claim(opt)) == 0


def test_the_lock_of_a_killed_process_is_free(folder: RunFolder, tmp_path: Path) -> None:
    opt = options(tmp_path)
    assert in_another_process(lambda: folder.claim(opt)) == 0  # the file of the lock remains
    assert names(tmp_path / "experiments") == [".run.lock"]
    folder.claim(opt)
    folder.release()
    assert names(tmp_path / "experiments") == []


def test_nothing_is_left_of_a_run_that_never_began(folder: RunFolder, tmp_path: Path) -> None:
    folder.claim(options(tmp_path, use_tb_logger=True))
    folder.release()
    assert names(tmp_path) == ["o.yml"]


def test_folders_and_log_appear_together(folder: RunFolder, tmp_path: Path) -> None:
    opt = options(tmp_path)
    folder.claim(opt)
    log_file = tmp_path / "experiments/run/train.log"
    log = folder.start_log(log_file)
    log.info("early, größer")
    assert not log_file.exists()
    folder.create()
    log.info("late")
    logging.getLogger("basicsr").handlers[-1].close()
    assert [line.partition("INFO: ")[2] for line in log_file.read_text(encoding="utf-8").splitlines()] == [
        "early, größer",
        "late",
    ]
    assert names(tmp_path / "experiments/run") == ["models", "o.yml", "train.log", "training_states", "visualization"]
    folder.release()


@pytest.mark.parametrize("resumed", [False, True])
def test_an_older_run_is_moved_away_unless_it_goes_on(folder: RunFolder, tmp_path: Path, resumed: bool) -> None:
    kept = tmp_path / "experiments/run/models/net_g_5.pth"
    kept.parent.mkdir(parents=True)
    kept.touch()
    folder.claim(options(tmp_path))
    if resumed:
        folder.resume(5)
    folder.create()
    folder.create()
    folder.release()
    assert kept.exists() == resumed
    archived = [name for name in names(tmp_path / "experiments") if re.fullmatch(r"run_archived_\d{8}_\d{6}", name)]
    assert len(archived) == (0 if resumed else 1)


def test_files_after_the_resumed_iteration_are_moved_away(folder: RunFolder, tmp_path: Path) -> None:
    run = tmp_path / "experiments/run"
    files = [
        f"{place}{n}.{end}"
        for n in (2, 4, 6)
        for place, end in (("models/net_g_", "pth"), ("training_states/", "state"))
    ]
    for file in [*files, "models/net_g_latest.pth"]:
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).touch()
    folder.claim(options(tmp_path))
    folder.resume(2)
    folder.create()
    folder.release()
    assert names(run / "models") == ["net_g_2.pth", "net_g_latest.pth"]
    assert names(run / "training_states") == ["2.state"]
    (archived,) = run.glob("later_archived_*")
    assert names(archived / "models") == ["net_g_4.pth", "net_g_6.pth"]
    assert names(archived / "training_states") == ["4.state", "6.state"]


@pytest.mark.parametrize("is_train", [True, False])
def test_a_file_where_a_folder_is_to_be_is_named(folder: RunFolder, tmp_path: Path, is_train: bool) -> None:
    place = tmp_path / ("experiments" if is_train else "results")
    place.touch()
    with pytest.raises(UserError, match=f"{place}: cannot be made: File exists"):
        folder.claim(options(tmp_path, is_train=is_train))


def test_a_file_for_tensorboards_folder_is_named_first(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "tb_logger").touch()
    with pytest.raises(UserError, match="tb_logger is no folder, but tb_logger is to be one: rename it"):
        folder.claim(options(tmp_path, use_tb_logger=True))
    folder.release()
    assert names(tmp_path) == ["o.yml", "tb_logger"]


def test_other_processes_of_a_run_make_nothing(folder: RunFolder, tmp_path: Path) -> None:
    folder.claim(options(tmp_path, rank=1))
    folder.create()
    folder.release()
    assert names(tmp_path) == ["o.yml"]
