"""Writing of generated pictures as a folder of PNGs or as an LMDB. Both appear when they are complete."""

import hashlib
import io
import posixpath
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.data.image_io import CODECS, Picture, encode_image, read_image
from lightbsr_arch.data.lmdb_writer import LmdbWriter
from lightbsr_arch.data.meta_info import MetaLine
from lightbsr_arch.data.picture_files import lmdb_keys
from lightbsr_arch.degradations import Setting
from lightbsr_arch.io import write_whole


def write_folder(out: Path, names: Sequence[str], pictures: Iterable[Picture]) -> None:
    """Write H x W x 3 uint8 BGR pictures as ``out/NAME.png``. Nothing is done if ``out`` exists.

    Names are made safe and unique like LMDB keys, so that both forms have the same names.

    Raises:
        UserError: the folder cannot be written.
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
    """Write H x W x 3 uint8 BGR pictures as PNG entries of an LMDB. Nothing is done if ``out`` exists.

    Raises:
        UserError: the LMDB cannot be written.
    """
    if out.exists():
        return
    keys = _keys(names)
    # The recipe is new each time, so that an interrupted run is discarded and not continued.
    with LmdbWriter(out, {"started": time.time_ns()}, overwrite=True) as writer:
        for key, picture in zip(keys, pictures):
            height, width = picture.shape[:2]
            writer.put(key, encode_image(picture, "png"))
            writer.finish_picture(key, [MetaLine(key, "png", height, width, 3, CODECS["png"].level)])
        writer.finish(keys)


def degraded_pictures(dataset: DegradedDataset, kind: str) -> Iterator[Picture]:
    """Yield the pictures of a data set with one setting, in the order of its keys; ``kind`` is "gt" or "lq"."""
    for index in range(len(dataset)):
        yield _to_picture(dataset[index][kind])


def _to_picture(image: torch.Tensor) -> Picture:
    """Convert 3 x H x W in RGB, multiples of 1/255, to H x W x 3 uint8 in BGR."""
    return (image * 255).round().byte().flip(0).permute(1, 2, 0).contiguous().numpy()


def _keys(names: Sequence[str]) -> list[str]:
    return lmdb_keys([posixpath.splitext(name)[0] for name in names], names)


class Degraded(NamedTuple):
    """The outcome for a picture: made, already there, or failed with a reason."""

    key: str
    status: Literal["made", "there", "failed"]
    reason: str = ""


class DegradedFolder:
    """A folder of low-quality pictures, ``out/NAME.png``, that can be updated when its source changes.

    Each PNG has a text chunk about its degradation and its source picture. A picture whose source and degradation are
    the same is left unchanged. New and changed source pictures are degraded. Pictures of another degradation are never
    replaced. Names are made safe and unique like LMDB keys.

    Args:
        dataset: data set with one setting.
        out: the folder to write.

    Raises:
        UserError: ``out`` is not a folder, or contains pictures of another degradation.
    """

    def __init__(self, dataset: DegradedDataset, out: Path) -> None:
        self.dataset, self.out = dataset, out
        (setting,) = dataset.settings
        settings = msgspec.json.encode(setting).decode() if isinstance(setting, Setting) else setting.name
        self._made_by = f"x{dataset.scale} {dataset.opt['downsample']} {settings}"
        self._random = setting.random
        self._paths = [out / f"{key}.png" for key in _keys(dataset.keys)]
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: a file, where a folder is to be written")
        for path in self._paths:
            made_by = _text(path).partition(" of ")[0]
            if made_by and made_by != self._made_by:
                raise UserError(f"{path}: is there, made with {made_by}, not {self._made_by}; name another folder")

    def write(self) -> Iterator[Degraded]:
        """Make the missing pictures in the order of the keys. A failure does not stop the others."""
        for index, key in enumerate(self.dataset.keys):
            try:
                yield Degraded(key, self._write(index))
            except Exception as error:  # no error of one picture may stop the others
                text = reason_of(error)
                yield Degraded(key, "failed", text if key in text else f"{key}: {text}")

    def _write(self, index: int) -> Literal["made", "there"]:
        path = self._paths[index]
        if self.out not in path.parents:
            raise UserError("its key is a path that leads elsewhere; pack the LMDB again")
        text = f"{self._made_by} of {self._source(index)}"
        there = _text(path)
        if there == text:
            return "there"
        picture = _to_picture(self.dataset[index]["lq"])
        if not there and path.exists():
            if np.array_equal(read_image(path), picture):
                return "there"
            raise UserError(f"{path} is there and holds another picture; delete it or name another folder")
        info = PngInfo()
        info.add_text(_KEYWORD, text)
        data = io.BytesIO()
        Image.fromarray(picture[..., ::-1]).save(data, "PNG", pnginfo=info, compress_level=1)
        write_whole(path, data.getvalue(), make_folder=True)
        return "made"

    def _source(self, index: int) -> str:
        """Return a digest of the pixels and, for random degradations, of the index that seeds the draws."""
        image = self.dataset.source.read(index)
        place = index if self._random else ""
        return hashlib.sha256(f"{image.shape} {place} ".encode() + image.tobytes()).hexdigest()


_KEYWORD = "degradation"


def _text(path: Path) -> str:
    """Return the text chunk of a PNG about its source, or an empty string if there is none."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return str(image.info.get(_KEYWORD, ""))
    except Exception:  # the file is missing, or Pillow cannot read it
        return ""
