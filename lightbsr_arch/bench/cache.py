"""A cache of results on disk. Its keys are digests of everything that a result depends on."""

import hashlib
import json
import sqlite3
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.distribution import basicsr_distribution

LIBRARIES = ("lightbsr-arch", basicsr_distribution(), "torch", "numpy", "opencv-python")
"""Libraries whose version may change the figures."""


class Cache:
    """A file of values by key. It stays valid if the program is interrupted at any moment.

    Raises:
        UserError: the file cannot be created, or is not a cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value)")
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made: {error.strerror}") from None
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot be used as a cache ({error}); delete it") from None

    def get(self, key: str) -> Any:
        """Return a value, or None if it is missing."""
        row = self._database.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Store bytes, or a value that JSON can hold."""
        stored = value if isinstance(value, bytes) else json.dumps(value)
        try:
            self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, stored))
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: cannot be written: {error}") from None

    def close(self) -> None:
        self._database.close()


def cache_key(*parts: Any) -> str:
    """Return a digest of plain values and of the libraries' versions."""
    return hashlib.sha256(json.dumps([*parts, versions()]).encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries."""
    return {library: version(library) for library in LIBRARIES}
