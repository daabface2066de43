"""One process at a time: a lock on a file that ends with the process, however the process ends."""

import os
from contextlib import suppress
from pathlib import Path

from lightbsr.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two runs on one target at once are then the user's to avoid
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A POSIX record lock, which is gone with the process even on SIGKILL and is not inherited by worker processes."""

    def __init__(self, path: Path, refusal: str) -> None:
        """Take the lock and make its file if there is none.

        Args:
            path: the file; its folder exists.
            refusal: what to say where another process holds the lock.

        Raises:
            UserError: another process holds it.
            OSError: the file cannot be made.
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
            os.close(self._file)  # its holder removed the file meanwhile

    def release(self, *, remove: bool = False) -> None:
        """Let another process have it. ``remove`` deletes the file, which is safe only while the lock is held."""
        if self._file is None:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None
