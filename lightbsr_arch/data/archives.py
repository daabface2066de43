"""Published archives of pictures: resumable download, checks, and extraction of selected pictures."""

import http.client
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from lightbsr.errors import UserError
from lightbsr.names import unsafe_name
from lightbsr_arch.io import sha256, write_whole

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A published ZIP or tar file.

    Attributes:
        url: address of the file. Its last part is the name of the file.
        members: pattern that matches the whole path of each selected picture inside the archive.
        pictures: number of these pictures.
        size: size in bytes, if published.
        sha256: digest, if published. Otherwise, the digest of the first complete file is stored as NAME.sha256.
    """

    url: str
    members: str
    pictures: int
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def download(archive: Archive, folder: Path, timeout: float = 30) -> None:
    """Download an archive into ``folder`` if it is not there. An interrupted download is continued.

    Raises:
        UserError: the server cannot be reached, refuses, or ends early. The same call continues the download.
    """
    target = folder / archive.name
    if target.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    part, tag = folder / f"{archive.name}.part", folder / f"{archive.name}.part.tag"
    try:
        total = _receive(archive, part, tag, timeout)
    except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and refused connections are OSErrors
        raise UserError(
            f"{archive.url} cannot be downloaded ({_reason(error)}); try again, which continues, or put {archive.name} "
            f"into {folder} yourself"
        ) from None
    size = part.stat().st_size
    if total is not None and size != total:
        raise UserError(f"{archive.url}: ended after {size} of {total} bytes; the same command continues")
    part.rename(target)
    tag.unlink(missing_ok=True)


def check(archive: Archive, folder: Path) -> None:
    """Compare an archive's size and SHA-256 with the published ones, or else with those stored at the first check.

    Raises:
        UserError: it is missing or differs.
    """
    target, kept = folder / archive.name, folder / f"{archive.name}.sha256"
    if not target.exists():
        raise UserError(f"{target} is missing; --download fetches it from {archive.url}")
    size = target.stat().st_size
    if archive.size is not None and size != archive.size:
        raise UserError(f"{target}: {size} bytes, expected {archive.size}; delete it and download it again")
    found = sha256(target)
    expected = archive.sha256 or (kept.read_text().split()[0] if kept.exists() else None)
    if expected is None:
        write_whole(kept, f"{found}  {archive.name}\n".encode())
    elif found != expected:
        raise UserError(f"{target}: SHA-256 {found}, expected {expected}; delete it and download it again")


def extract(archive: Archive, folder: Path, out: Path) -> None:
    """Extract the selected pictures into ``out``, without their folders. Nothing is done if ``out`` exists.

    Paths inside an archive only select members, so no member can be written outside ``out``.

    Raises:
        UserError: the archive is damaged, or its pictures differ from the published ones.
    """
    if out.exists():
        return
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    wanted = re.compile(archive.members)
    count = 0
    try:
        with _members(folder / archive.name) as members:
            for path, file in tqdm(members, desc=f"extract {archive.name}", unit="file"):
                if wanted.fullmatch(path):
                    name = path.rsplit("/", 1)[-1]
                    fault = unsafe_name(name)
                    if fault is not None:
                        raise UserError(f"{folder / archive.name}: a picture's name, {name[:200]!r}, {fault}")
                    with file, (partial / name).open("xb") as target:
                        shutil.copyfileobj(file, target, _CHUNK)
                    count += 1
    except FileExistsError as error:
        raise UserError(f"{folder / archive.name}: two pictures are named {Path(error.filename).name}") from None
    except (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder / archive.name}: cannot be extracted ({error})") from None
    if count != archive.pictures:
        raise UserError(f"{folder / archive.name}: {count} pictures {archive.members!r}, expected {archive.pictures}")
    partial.rename(out)


def _receive(archive: Archive, part: Path, tag: Path, timeout: float) -> int | None:
    """Append the missing bytes to ``part``. Return the size of the whole file that the server states."""
    start = part.stat().st_size if part.exists() and tag.exists() else 0
    request = urllib.request.Request(archive.url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", tag.read_text())  # a changed file is sent from its beginning
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if error.code == 416 and total and int(total[1]) == start:  # nothing is missing
            return start
        raise
    with response:
        if response.status != 206:
            start = 0
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator)
        length = response.headers.get("Content-Length")
        total_size = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(total=total_size, initial=start, unit="B", unit_scale=True, desc=archive.name) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total_size


def _reason(error: Exception) -> str:
    """Return the reason of a failure. A URLError wraps it, and an HTTPError is the reason itself."""
    return str(getattr(error, "reason", None) or error or type(error).__name__)


@contextmanager
def _members(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Yield the regular files of a ZIP or tar file in its order: (path inside, open file)."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield ((info.filename, archive.open(info)) for info in archive.infolist() if not info.is_dir())
    else:
        with tarfile.open(path) as tar:
            files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
            yield ((name, file) for name, file in files if file is not None)
