"""Writing pictures that are made here, not read, as a folder of PNGs or an LMDB; each appears when it is complete."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.data.image_io import CODECS, Picture, encode_image
from lightbsr_arch.data.lmdb_writer import LmdbWriter
from lightbsr_arch.data.meta_info import MetaLine
from lightbsr_arch.data.picture_files import lmdb_keys
from lightbsr_arch.errors import UserError


def write_folder(out: Path, names: Sequence[str], pictures: Iterable[Picture]) -> None:
    """Write H x W x 3 uint8 BGR pictures as ``out/NAME.png``; nothing is done if ``out`` exists.

    Names are made safe and unique as LMDB keys are, so that both forms have the same.

    Raises:
        UserError: it cannot be written.
    """
    if out.exists():
        return
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for key, picture in zip(_keys(names), pictures):
            path = partial / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_image(picture, "png"))
        partial.rename(out)
    except OSError as error:
        raise UserError(f"{out}: cannot write ({error})") from None


def write_lmdb(out: Path, names: Sequence[str], pictures: Iterable[Picture]) -> None:
    """Write H x W x 3 uint8 BGR pictures as PNG entries of an LMDB; nothing is done if ``out`` exists.

    Raises:
        UserError: it cannot be written.
    """
    if out.exists():
        return
    keys = _keys(names)
    # A recipe of its own each time: what an interrupted run left is discarded, not continued.
    with LmdbWriter(out, {"started": time.time_ns()}, overwrite=True) as writer:
        for key, picture in zip(keys, pictures):
            height, width = picture.shape[:2]
            writer.put(key, encode_image(picture, "png"))
            writer.finish_picture(key, [MetaLine(key, "png", height, width, 3, CODECS["png"].level)])
        writer.finish(keys)


def degraded_pictures(dataset: DegradedDataset, kind: str) -> Iterator[Picture]:
    """The pictures of a dataset of one setting, in the order of its keys; ``kind`` is "gt" or "lq"."""
    for index in range(len(dataset)):
        tensor = dataset[index][kind]  # multiples of 1/255
        yield (tensor * 255).round().byte().flip(0).permute(1, 2, 0).contiguous().numpy()


def _keys(names: Sequence[str]) -> list[str]:
    return lmdb_keys([PurePosixPath(name).with_suffix("").as_posix() for name in names], names)
