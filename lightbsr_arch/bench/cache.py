"""Results on disk by what they were computed from, each there as soon as it is known."""

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
"""Another version of one of these may give other figures."""


class Cache:
    """A file of values by key, which survives being interrupted at any moment.

    Raises:
        UserError: the file cannot be made, or is something else.
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
        """A value, or None."""
        row = self._database.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Keep bytes, or what JSON can hold."""
        stored = value if isinstance(value, bytes) else json.dumps(value)
        try:
            self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, stored))
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: cannot be written: {error}") from None

    def close(self) -> None:
        self._database.close()


def cache_key(*parts: Any) -> str:
    """A digest of plain values, and of the versions of the libraries that compute."""
    return hashlib.sha256(json.dumps([*parts, versions()]).encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Of the libraries that compute."""
    return {library: version(library) for library in LIBRARIES}
