"""Lines of BasicSR's ``meta_info.txt``, such as ``key.png (480,480,3) 1``."""

import re
from pathlib import Path
from typing import NamedTuple

from lightbsr.errors import UserError
from lightbsr.names import unsafe_path

META_INFO = "meta_info.txt"
_NUMBER = r"\d{1,9}"
_LINE = re.compile(
    rf"(?P<key>[^.]+)\.(?P<codec>\w+) \((?P<h>{_NUMBER}),(?P<w>{_NUMBER}),(?P<c>{_NUMBER})\) (?P<level>{_NUMBER})"
)


class MetaLine(NamedTuple):
    """One entry: its LMDB key, the codec of its bytes, the image's size and channels, the compression level."""

    key: str
    codec: str
    height: int
    width: int
    channels: int
    level: int

    def __str__(self) -> str:
        return f"{self.key}.{self.codec} ({self.height},{self.width},{self.channels}) {self.level}"


def read_meta_info(lmdb_path: Path) -> list[MetaLine]:
    """Read the ``meta_info.txt`` of an LMDB folder.

    Raises:
        UserError: the file is missing, or a line has the wrong form or an unsafe key. The message names file and
            line.
    """
    path = lmdb_path / META_INFO
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise UserError(f"{lmdb_path}: not a BasicSR LMDB (no {META_INFO} in it)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return [_parse(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]


def _parse(line: str, where: str) -> MetaLine:
    match = _LINE.fullmatch(line)
    if match is None:
        raise UserError(f"{where}: expected 'key.png (height,width,channels) level', found {line[:200]!r}")
    fault = unsafe_path(match["key"])
    if fault is not None:
        raise UserError(f"{where}: the key {match['key'][:200]!r} {fault}; make the LMDB again")
    h, w, c, level = (int(match[name]) for name in ("h", "w", "c", "level"))
    return MetaLine(match["key"], match["codec"], h, w, c, level)
