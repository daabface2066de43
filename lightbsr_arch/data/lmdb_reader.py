"""Opening of LMDBs for reading. It is safe for several readers of a file, forked processes and incomplete files."""

import os
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from lightbsr.errors import UserError

# A process may open an LMDB only once. All readers in a process, such as training and validation sets, therefore share
# one environment. A forked child uses its parent's, which is safe for read-only use without a lock table.
_open: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()


def open_readonly(path: Path) -> lmdb.Environment:
    """Open an LMDB folder, or return the environment if this process has it open already.

    Raises:
        UserError: the LMDB is missing or unfinished, or ``data.mdb`` is damaged or cut short.
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
    # Reading a memory map beyond the end of its file would kill the process with SIGBUS.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (path / "data.mdb").stat().st_size
    if size < needed:
        environment.close()
        raise UserError(f"{path}: data.mdb is cut short ({size} of {needed} bytes); copy or prepare it again")
    return environment
