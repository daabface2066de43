"""Search of folders, globs and files for pictures, sorted and with keys for BasicSR's LMDB."""

import glob
import hashlib
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lightbsr.errors import UserError, one_line
from lightbsr.names import LONGEST_NAME
from lightbsr_arch.data.reader import PASSED_OVER, PICTURE_SUFFIXES

_LONGEST_KEY = 400  # LMDB allows 511 bytes; the rest is for a digest and the number of the sub-image
_UNSAFE = re.compile(r"[^A-Za-z0-9_/-]+")


class PictureFile(NamedTuple):
    """A picture to read: its path, its path relative to the common folder of all sources, and its LMDB key.

    A folder that cannot be searched is listed like a picture, with the reason as its ``problem``. It is then reported
    like a picture that cannot be read.
    """

    path: Path
    name: str
    key: str
    problem: str | None = None


def find_pictures(sources: Sequence[str | Path], drop_suffix: str = "") -> list[PictureFile]:
    """List the pictures of folders with their subfolders, globs and single files, sorted by name.

    Names are relative to the deepest folder that contains all sources, so that files with equal names in different
    folders have different names. In folders, hidden files and files without the extension of a picture are skipped.
    Pictures in unsupported formats are skipped too, and a line on standard error gives their number.

    Args:
        sources: folders, globs and files; ``**`` in a glob matches any subfolders.
        drop_suffix: a suffix to remove from every name, such as ``x4`` in ``0001x4.png``, so that LR keys equal HR
            keys.

    Raises:
        UserError: a source does not exist or contains no picture.
    """
    found: dict[Path, str | None] = {}  # ordered and without repeats
    roots = set()
    passed_over: dict[Path, None] = {}
    for source in (path for text in sources for path in _expand(text)):
        if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered
            files = dict(_walk(source))
            pictures = {path: files[path] for path in files if files[path] or path.suffix.lower() in PICTURE_SUFFIXES}
            others = [path for path in files if path not in pictures and path.suffix.lower() in PASSED_OVER]
            if not pictures:
                also = f"; {_count(others)}" if others else ""
                raise UserError(f"{source}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))}){also}")
            passed_over.update(dict.fromkeys(others))
            found.update(pictures)
            roots.add(source.parent if source in pictures else source)
        else:
            found[source] = None
            roots.add(source.parent)
    if passed_over:
        print(one_line(_count(list(passed_over))), file=sys.stderr)
    root = os.path.commonpath(roots)
    by_name = {Path(os.path.relpath(path, root)).as_posix(): path for path in found}
    names = sorted(by_name)
    stems = [Path(name).with_suffix("").as_posix().removesuffix(drop_suffix) for name in names]
    keys = lmdb_keys(stems, names)
    return [PictureFile(by_name[name], name, key, found[by_name[name]]) for name, key in zip(names, keys)]


def outside(pictures: Sequence[PictureFile], folder: Path) -> list[PictureFile]:
    """Return the pictures that are not inside a folder, with links resolved."""
    real = Path(os.path.realpath(folder))
    return [picture for picture in pictures if real not in Path(os.path.realpath(picture.path)).parents]


def find_pictures_outside(sources: Sequence[str | Path], out: Path) -> list[PictureFile]:
    """List the pictures as `find_pictures` does, without those in ``out`` if ``out`` lies inside a source.

    Pictures in ``out`` come from an earlier run. ``out`` is also left out if it is one of several sources, such as one
    match of ``photos/*``.

    Raises:
        UserError: see `find_pictures`, or no other picture is left.
    """
    real = Path(os.path.realpath(out))
    paths = [path for source in sources for path in _expand(source)]
    others = [path for path in paths if Path(os.path.realpath(path)) != real]
    pictures = find_pictures(others or paths)
    if any(Path(os.path.realpath(path)) in real.parents for path in others):
        pictures = outside(pictures, out)
    if not pictures:
        raise UserError(f"{', '.join(map(str, sources))}: no pictures but those in {out}")
    return pictures


def without(pictures: Sequence[PictureFile], held_back: Sequence[PictureFile]) -> list[PictureFile]:
    """Return the pictures except those with the name of a held-out picture. File extensions are ignored.

    Raises:
        UserError: no picture has such a name, all pictures have one, or the folder of held-out pictures is unreadable.
    """
    for picture in held_back:
        if picture.problem:
            raise UserError(f"--exclude: {picture.path}: {picture.problem}")
    names = {picture.path.stem for picture in held_back}
    kept = [picture for picture in pictures if picture.path.stem not in names]
    if len(kept) == len(pictures):
        raise UserError(f"--exclude: no picture has the name of {held_back[0].path.name} or another held-out picture")
    if not kept:
        raise UserError("--exclude leaves no picture")
    return kept


def lmdb_keys(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """Make keys safe for BasicSR and unique: ASCII letters, digits, ``_``, ``-`` and the folder's ``/``.

    BasicSR cuts keys at the first dot and encodes them as ASCII. All other characters become ``_``, and accents are
    dropped. If two keys would be equal, or a key is too long, a digest of the full name is appended. All keys are paths
    to files below a folder.
    """
    keys = [_safe(key) for key in wanted]
    for digits in (8, 40):
        count = Counter(keys)
        keys = [
            f"{key[:_LONGEST_KEY]}-{hashlib.sha1(os.fsencode(name)).hexdigest()[:digits]}"
            if count[key] > 1 or len(key) > _LONGEST_KEY + digits + 1
            else key
            for key, name in zip(keys, names)
        ]
    return keys


def flat_names(keys: Sequence[str]) -> list[str]:
    """Return a file name without extension for each key. If two would be equal, a digest of the key is appended."""
    names = [PurePosixPath(key).with_suffix("").as_posix().replace("/", "_") for key in keys]
    count = Counter(names)
    return [
        f"{name}-{hashlib.sha1(os.fsencode(key)).hexdigest()[:8]}" if count[name] > 1 else name
        for name, key in zip(names, keys)
    ]


def _expand(source: str | Path) -> list[Path]:
    """Return a path, or the sorted matches of a glob, made absolute without resolving links."""
    matches = [source] if os.path.lexists(source) else sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207
    if not matches:
        raise UserError(f"{source}: no such file or folder, and nothing matches it as a pattern")
    return [Path(os.path.abspath(match)) for match in matches]  # noqa: PTH100


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield files below a folder, and folders that cannot be listed with the reason.

    Linked folders are followed, each real folder once.
    """
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"cannot be listed ({error.strerror})"
            continue
        folders = []
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(path)
            else:
                yield path, None
        waiting += reversed(folders)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a folder without permission
        return False


def _count(passed_over: Sequence[Path]) -> str:
    """Return a line with the extensions, the number of files with each, and the first file."""
    count = Counter(path.suffix.lower() for path in passed_over)
    kinds = ", ".join(f"{number} {suffix} ({PASSED_OVER[suffix]})" for suffix, number in sorted(count.items()))
    return f"passed over: {kinds}; the first is {passed_over[0]}"


def _safe(key: str) -> str:
    ascii_key = unicodedata.normalize("NFKD", key)
    cleaned = _UNSAFE.sub("_", "".join(c for c in ascii_key if not unicodedata.combining(c)))
    return "/".join(part[:LONGEST_NAME] for part in cleaned.split("/") if part) or "_"
