"""The folders ``experiments/NAME`` and ``results/NAME``. They are locked during a run and created once it works.

BasicSR creates the folders, and renames those of an older run, before it knows whether it can train.
"""

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger, logger

from lightbsr.errors import UserError
from lightbsr_arch.config.merge import self_contained_text
from lightbsr_arch.io import write_whole
from lightbsr_arch.locks import FileLock
from lightbsr_arch.training.options import run_folders


class RunFolder:
    """The folder of one run.

    ``claim`` locks it. ``create`` renames the folder of an older run of the same name and creates the new one. Before
    that, the older run is unchanged, and log lines are kept in memory. In all processes except the first, both do
    nothing.

    Attributes:
        tb_logger: TensorBoard's writer after ``create``, if the options request one.
    """

    def __init__(self, options_file: Path) -> None:
        self.tb_logger: Any = None
        self._options_file = options_file
        self._options_text = self_contained_text(options_file)
        self._opt: dict[str, Any] = {}
        self._lock: FileLock | None = None
        self._made_parent = False
        self._resumed_from: int | None = None
        self._created = False
        self._log_file: Path | None = None
        self._held_back: MemoryHandler | None = None

    def claim(self, opt: dict[str, Any]) -> None:
        """Lock the run of these options, and check that its folders can be created.

        Raises:
            UserError: another process has locked the run, or a folder cannot be created.
        """
        self._opt = opt
        if opt["rank"] != 0:
            return
        root = self._root
        self._made_parent = not os.path.lexists(root.parent)
        with _writing(root.parent):
            root.parent.mkdir(parents=True, exist_ok=True)
            what = "training" if opt["is_train"] else "testing"
            refusal = f"{root}: another process is {what} {opt['name']}; wait for its end, or choose another name"
            self._lock = FileLock(root.parent / f".{root.name}.lock", refusal)
        folders = [root, *self._folders()] if root.is_dir() else []
        for folder in [*folders, *([self._tensorboard.parent] if self._uses_tensorboard else [])]:
            _check_place(folder)

    def resume(self, iteration: int) -> None:
        """Keep the folder of the run, because the run continues in it.

        ``create`` moves the files of iterations after ``iteration`` away. Otherwise, the next resume would continue
        from them.
        """
        self._resumed_from = iteration

    def create(self) -> None:
        """Create the folder with its log and a copy of the options. Further calls do nothing.

        Raises:
            UserError: it cannot be created.
        """
        if self._created or self._opt["rank"] != 0:
            return
        self._created = True
        root = self._root
        self._start_wandb()
        with _writing(root):
            if self._resumed_from is None:
                for folder in [root, *([self._tensorboard] if self._uses_tensorboard else [])]:
                    _move_away(folder)
            elif self._opt["is_train"]:
                self._move_away_after(self._resumed_from)
            for folder in (root, *self._folders()):
                folder.mkdir(parents=True, exist_ok=True)
            if self._opt["is_train"]:
                self._copy_options()
            self._open_log()
            if self._uses_tensorboard:
                self.tb_logger = logger.init_tb_logger(str(self._tensorboard))

    def release(self) -> None:
        """Release the lock of the run."""
        if self._lock is None:
            return
        self._lock.release(remove=True)
        if self._made_parent:
            with suppress(OSError):  # the folder is not empty
                self._root.parent.rmdir()

    def start_log(self, file: Path) -> logging.Logger:
        """Return BasicSR's logger, which writes ``file`` once there is a folder for it."""
        log: logging.Logger = get_root_logger()
        for handler in log.handlers[:]:
            if isinstance(handler, logging.FileHandler | MemoryHandler):  # a handler of an earlier run of this process
                log.removeHandler(handler)
                handler.close()
        if self._opt["rank"] == 0:
            log.setLevel(logging.INFO)
            self._log_file = file
            self._held_back = MemoryHandler(10**6, flushLevel=logging.CRITICAL + 1)
            log.addHandler(self._held_back)
        return log

    @property
    def _root(self) -> Path:
        return Path(self._opt["path"]["experiments_root" if self._opt["is_train"] else "results_root"])

    def _folders(self) -> list[Path]:
        return [Path(self._opt["path"][name]) for name in run_folders(self._opt["is_train"])]

    @property
    def _tensorboard(self) -> Path:
        return Path(self._opt["root_path"], "tb_logger", self._opt["name"])

    @property
    def _uses_tensorboard(self) -> bool:
        opt = self._opt
        return opt["is_train"] and bool(opt["logger"].get("use_tb_logger")) and "debug" not in opt["name"]

    def _move_away_after(self, iteration: int) -> None:
        """Move the training states and networks of later iterations into a folder of their own."""
        path = self._opt["path"]
        files = [*Path(path["training_states"]).glob("*.state"), *Path(path["models"]).glob("net_*.pth")]
        numbers = {file: file.stem.rpartition("_")[2] for file in files}
        later = [file for file, number in numbers.items() if number.isdecimal() and int(number) > iteration]
        if not later:
            return
        archived = _archive_name(self._root / "later")
        for file in later:
            target = archived / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
        get_root_logger().info(f"The files of iterations after {iteration} are now in {archived}.")

    def _copy_options(self) -> None:
        """Write the options file in its state at the start of the command, with the command as a comment above it."""
        header = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {shlex.join(sys.argv)}\n\n"
        write_whole(self._root / self._options_file.name, (header + self._options_text).encode())

    def _start_wandb(self) -> None:
        """Start Weights & Biases. It reads TensorBoard's files and must be started before TensorBoard."""
        wandb = self._opt["logger"].get("wandb") if self._uses_tensorboard else None
        if wandb is None or wandb.get("project") is None:
            return
        try:
            logger.init_wandb_logger(self._opt)
        except Exception as error:  # not logged in, no network, ...
            raise UserError(f"logger.wandb: Weights & Biases cannot be started: {error}") from error

    def _open_log(self) -> None:
        if self._held_back is None or self._log_file is None:
            return
        log = logging.getLogger("basicsr")
        handler = logging.FileHandler(self._log_file, "w", encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        self._held_back.setTarget(handler)
        self._held_back.flush()
        log.removeHandler(self._held_back)
        log.addHandler(handler)


def _move_away(folder: Path) -> None:
    """Rename an existing folder, as BasicSR does."""
    if not os.path.lexists(folder):
        return
    archived = _archive_name(folder)
    folder.rename(archived)
    get_root_logger().info(f"{folder} exists already; it is now {archived.name}.")


def _archive_name(folder: Path) -> Path:
    archived = folder.with_name(f"{folder.name}_archived_{time.strftime('%Y%m%d_%H%M%S')}")
    while os.path.lexists(archived):
        archived = archived.with_name(f"{archived.name}_")
    return archived


def _check_place(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise UserError(f"{existing} is no folder, but {folder.name} is to be one: rename it")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{existing}: cannot write there")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be made: {error.strerror or error}") from error
