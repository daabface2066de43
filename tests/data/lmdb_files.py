"""Functions that the tests of the LMDB tools share."""

from pathlib import Path

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray


def make_photos(folder: Path, count: int, size: tuple[int, int] = (70, 90)) -> dict[str, NDArray[np.uint8]]:
    """Write ``count`` different PNGs and return them by name. They are noise, which codecs hardly compress."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    photos = {f"p{i:03d}": rng.integers(0, 256, (*size, 3), dtype=np.uint8) for i in range(count)}
    for name, photo in photos.items():
        cv2.imwrite(str(folder / f"{name}.png"), photo)
    return photos


def content(path: Path) -> tuple[dict[bytes, bytes], bytes]:
    """Return all entries, and the bytes of meta_info.txt."""
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return dict(transaction.cursor()), (path / "meta_info.txt").read_bytes()


def change(path: Path, key: str, data: bytes | None) -> None:
    """Put an entry, or delete it."""
    with lmdb.open(str(path)) as env, env.begin(write=True) as transaction:
        if data is None:
            transaction.delete(key.encode())
        else:
            transaction.put(key.encode(), data)
