"""Atomic writing of files, files of arrays, and checksums."""

import hashlib
import io
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lightbsr.errors import UserError

_READ_AT_ONCE = 2**20
"""Bytes that are read at a time for a checksum."""

_KEPT_OF_THE_NAME = 40
"""Characters of a file's name in the name of its temporary file. Each needs up to 4 of the 255 bytes of a name."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is renamed to ``path`` after the block.

    After an error, ``path`` is unchanged and the temporary file is removed.

    Raises:
        UserError: the block or the renaming raised an OSError.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name[:_KEPT_OF_THE_NAME]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def write_whole(path: Path, data: bytes, *, make_folder: bool = False) -> None:
    """Write a file and, with ``make_folder``, create its folder. Raise `UserError` as `whole_file` does."""
    with whole_file(path) as unfinished:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a compressed ``.npz`` file, which appears whole or not at all."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_whole(path, file.getvalue())


@contextmanager
def open_arrays(path: Path, kind: str, advice: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the arrays of an ``.npz`` file. They can be read only within the block.

    Args:
        path: the file.
        kind: the content that is expected, for the message.
        advice: the way to make the file again, for the message.

    Raises:
        UserError: the file is missing or damaged, or the block fails.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {advice}") from None
    except Exception as error:  # damaged archives raise nearly anything
        raise UserError(f"{path}: no {kind} ({type(error).__name__}); {advice}") from None


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Shows a progress bar."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"check {path.name}") as bar,
    ):
        while chunk := file.read(_READ_AT_ONCE):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
