"""Opening an LMDB for reading, in a way that survives datasets of one file, forks and half-copied files."""

import os
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from lightbsr.errors import UserError

# One process may open an LMDB once only; its users (training and validation sets, say) share it. A forked child goes
# on using its parent's, which is sound for read-only use without a lock table.
_open: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()


def open_readonly(path: Path) -> lmdb.Environment:
    """Open an LMDB folder, or give the environment that this process has open already.

    Raises:
        UserError: there is none (its preparation being unfinished is said), or ``data.mdb`` is damaged or cut short.
    """
    real = os.path.realpath(path)
    environment = _open.get(real)
    if environment is None:
        environment = _open[real] = _open_new(path)
    return environment


def _open_new(path: Path) -> lmdb.Environment:
    if not (path / "data.mdb").is_file():
        unfinished = path.with_name(path.name + ".partial").exists()
        hint = " (its preparation is unfinished; the command that began it continues it)" if unfinished else ""
        raise UserError(f"{path}: no LMDB here{hint}")
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: cannot be opened as an LMDB ({error})") from None
    # Reading a map beyond the end of its file would kill the process with SIGBUS.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (path / "data.mdb").stat().st_size
    if size < needed:
        environment.close()
        raise UserError(f"{path}: data.mdb is cut short ({size} of {needed} bytes); copy or prepare it again")
    return environment
