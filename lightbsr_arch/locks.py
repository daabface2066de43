"""A lock on a file, which is released when its process ends, even if the process is killed."""

import os
from contextlib import suppress
from pathlib import Path

from lightbsr.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing prevents two runs on one target
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A POSIX record lock. It is released when the process ends, even by SIGKILL, and workers do not inherit it."""

    def __init__(self, path: Path, refusal: str) -> None:
        """Take the lock, and create its file if it does not exist.

        Args:
            path: the file. Its folder must exist.
            refusal: message if another process has the lock.

        Raises:
            UserError: another process has the lock.
            OSError: the file cannot be created.
        """
        self.path = path
        self._file: int | None = None
        while fcntl is not None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.close(self._file)
                raise UserError(refusal) from None
            except OSError:  # a file system without locks
                return
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file), path.stat()):
                    return
            os.close(self._file)  # the process that had the lock has removed the file

    def release(self, *, remove: bool = False) -> None:
        """Release the lock. ``remove`` deletes the file first, which is safe only while the lock is held."""
        if self._file is None:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None
