"""Verification of an LMDB: every entry exists, decodes, and agrees with ``meta_info.txt``."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
from tqdm import tqdm

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import read_header, read_image
from lightbsr_arch.data.lmdb_reader import open_readonly
from lightbsr_arch.data.meta_info import MetaLine, read_meta_info


def verify_lmdb(path: Path, *, workers: int | None = None, quiet: bool = False) -> tuple[int, list[str]]:
    """Decode all entries of an LMDB and compare them with its ``meta_info.txt``.

    Returns:
        The number of listed entries, and one line per fault.

    Raises:
        UserError: the LMDB is missing or cannot be opened.
    """
    environment = open_readonly(path)
    lines = read_meta_info(path)
    try:
        faults = list(_key_faults(lines, environment))
    except lmdb.Error as error:
        raise UserError(f"{path}: data.mdb is damaged ({error})") from None

    if not lines:
        faults.append("no entries")

    def check(line: MetaLine) -> str | None:
        return _entry_fault(line, environment)

    with ThreadPoolExecutor(workers) as pool:  # OpenCV decodes without holding Python's lock
        for fault in tqdm(pool.map(check, lines), total=len(lines), unit="entry", disable=quiet, desc=path.name):
            if fault is not None:
                faults.append(fault)
    return len(lines), faults


def _key_faults(lines: list[MetaLine], environment: lmdb.Environment) -> Iterator[str]:
    count = Counter(line.key for line in lines)
    yield from (f"{key}: listed {times} times in meta_info.txt" for key, times in count.items() if times > 1)
    with environment.begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            if key.decode("ascii", "replace") not in count:
                yield f"{key.decode('ascii', 'backslashreplace')}: an entry that meta_info.txt does not list"


def _entry_fault(line: MetaLine, environment: lmdb.Environment) -> str | None:
    try:
        with environment.begin() as transaction:
            data = transaction.get(line.key.encode("ascii"))
        if data is None:
            return f"{line.key}: listed in meta_info.txt, but there is no such entry"
        height, width = read_image(data, line.key).shape[:2]
        header = read_header(data, line.key)
    except (UserError, lmdb.Error) as error:
        return str(error)
    found = MetaLine(line.key, header.format.lower(), height, width, header.channels, line.level)
    if found != line:
        return f"{line.key}: meta_info.txt says '{line}', the entry is '{found}'"
    return None
