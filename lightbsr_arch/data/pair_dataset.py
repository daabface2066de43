"""Pairs of LR and HR pictures of real data sets: RealSR, DRealSR, DIV2KRK, NTIRE2020, AIM2019."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from lightbsr.errors import UserError
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.data.image_io import Picture
from lightbsr_arch.data.picture_files import PictureFile, find_pictures, flat_names
from lightbsr_arch.option_types import DatasetOptions

NAMED = 3
"""Number of mismatches that an error lists. It states the number of the others."""

TEMPLATE = re.compile(r"[^{}/]*\{\}[^{}/]*")


class PicturePairs:
    """Pairs of an HR and an LR picture, matched by name as BasicSR's ``PairedImageDataset`` does.

    The LR picture of the HR picture ``FOLDER/NAME.png`` is ``FOLDER/LR_NAME.png`` below the LR root. LR_NAME is
    ``filename_tmpl`` with NAME in place of ``{}``. With a ``gt_tmpl``, NAME is the part of the HR name in the position
    of ``{}``. If both roots are the same folder, each uses the pictures that match its template. Entries of two LMDBs
    must have equal keys.

    Args:
        gt: HR pictures: a folder, or NAME.lmdb.
        lq: LR pictures: a folder, or NAME.lmdb.
        scale: HR size divided by LR size. HR pictures may be larger by less than ``scale`` pixels; these are cropped.
        filename_tmpl: LR name without extension, such as "{}x4".
        gt_tmpl: HR name without extension, such as "{}_HR".

    Raises:
        UserError: a root holds no pictures, a picture has no partner, a pair has another scale (the message names the
            first few), or a template has no ``{}``.
    """

    def __init__(self, gt: str, lq: str, scale: int, filename_tmpl: str = "{}", gt_tmpl: str = "{}") -> None:
        self.scale = scale
        for key, template in (("filename_tmpl", filename_tmpl), ("gt_tmpl", gt_tmpl)):
            if not TEMPLATE.fullmatch(template):
                raise UserError(
                    f"{key}: expected a file name with one {{}} for its stem, such as {{}}x4, found {template!r}"
                )
        if _is_lmdb(gt) != _is_lmdb(lq):
            raise UserError(f"{gt} and {lq}: HR and LR pictures are two folders or two LMDBs")
        if _is_lmdb(gt):
            self.gt, self.lq = GTSource(gt, "lmdb"), GTSource(lq, "lmdb")
            gt_tmpl = filename_tmpl = "{}"
        else:
            share = Path(gt).expanduser().resolve() == Path(lq).expanduser().resolve()
            self.gt, self.lq = _folder(gt, gt_tmpl, only=share), _folder(lq, filename_tmpl, only=share)
        self._partners = list(_match(self.gt.keys(), self.lq.keys(), gt_tmpl, filename_tmpl, (gt, lq)))
        self._check_scales()

    def __len__(self) -> int:
        return len(self._partners)

    def keys(self) -> list[str]:
        """Return the names of the HR pictures, in order."""
        return self.gt.keys()

    def read(self, index: int) -> tuple[Picture, Picture]:
        """Return one HR and one LR picture, H x W x 3 uint8, BGR. HR is cropped to ``scale`` times the size of LR.

        Raises:
            UserError: a picture cannot be read, or their sizes have another ratio.
        """
        gt, lq = self.gt.read(index), self.lq.read(self._partners[index])
        fault = self._fault(index, gt.shape[:2], lq.shape[:2])
        if fault:
            raise UserError(fault)
        height, width = (side * self.scale for side in lq.shape[:2])
        return gt[:height, :width], lq

    def _check_scales(self) -> None:
        faults: list[str] = []
        for index, partner in enumerate(self._partners):
            try:
                shapes = self.gt.shape(index), self.lq.shape(partner)
            except UserError:
                continue  # reading reports a damaged picture
            faults += filter(None, [self._fault(index, *shapes)])
        if faults:
            raise UserError(_first(faults))

    def _fault(self, index: int, gt: Sequence[int], lq: Sequence[int]) -> str | None:
        expected = [side // self.scale for side in gt]
        if list(lq) == expected:
            return None
        (high, wide), (lq_high, lq_wide), (height, width) = gt, lq, expected
        name = self.gt.keys()[index]
        return f"{name}: HR {wide}x{high} and LR {lq_wide}x{lq_high}, expected LR {width}x{height} for x{self.scale}"


@DATASET_REGISTRY.register()
class PairDataset(Dataset[dict[str, Any]]):
    """Pairs of HR and LR pictures for validation and testing, with their names and sizes checked.

    An item is ``{"lq": 3 x H x W, "gt": 3 x scale*H x scale*W, float RGB in [0, 1], "lq_path", "gt_path": names}``.
    """

    class Options(DatasetOptions, kw_only=True):
        dataroot_lq: Annotated[str, msgspec.Meta(description="low-resolution images: a folder, or NAME.lmdb")]
        filename_tmpl: Annotated[
            str, msgspec.Meta(description="LR file name, such as `{}x4`; `{}` is the name of the HR picture")
        ] = "{}"
        gt_tmpl: Annotated[
            str, msgspec.Meta(description="HR file name, such as `{}_HR`; `{}` is the part that both names share")
        ] = "{}"

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.pairs = PicturePairs(
            opt["dataroot_gt"],
            opt["dataroot_lq"],
            opt["scale"],
            opt.get("filename_tmpl", "{}"),
            opt.get("gt_tmpl", "{}"),
        )
        self._saved_names = flat_names(self.pairs.keys())

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        gt, lq = self.pairs.read(index)
        # BasicSR names saved pictures after the last part of this path, without its extension.
        saved = f"{self._saved_names[index]}.png"
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "lq_path": saved, "gt_path": self.pairs.keys()[index]}


def _is_lmdb(root: str) -> bool:
    return root.rstrip("/").endswith(".lmdb")


def _folder(root: str, template: str, *, only: bool) -> GTSource:
    """List the pictures of a folder; with ``only``, those that the template describes."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise UserError(f"{root}: no such folder")
    pictures: list[PictureFile] = find_pictures([path])
    for picture in pictures:
        if picture.problem:
            raise UserError(f"{picture.path}: {picture.problem}")
    if only:
        pictures = [picture for picture in pictures if _shared(picture.name, template) is not None]
        if not pictures:
            raise UserError(f"{root}: no picture matches the template {template}")
    return GTSource(str(path), "disk", pictures=pictures)


def _shared(name: str, template: str) -> str | None:
    """Return a name whose stem is reduced to the part for ``{}``, or None if the name does not match the template."""
    path = PurePosixPath(name)
    before, _, after = template.partition("{}")
    stem = path.stem
    if len(stem) <= len(before) + len(after) or not (stem.startswith(before) and stem.endswith(after)):
        return None
    return path.with_name(stem[len(before) : len(stem) - len(after)] + path.suffix).as_posix()


def _match(gt: Sequence[str], lq: Sequence[str], gt_tmpl: str, lq_tmpl: str, roots: tuple[str, str]) -> Iterator[int]:
    """Return the index of the LR name of each HR name."""
    places = {name: place for place, name in enumerate(lq)}
    partners: list[int] = []
    faults: list[str] = []
    for name in gt:
        shared = _shared(name, gt_tmpl)
        if shared is None:
            faults.append(f"{name} in {roots[0]} does not match the template {gt_tmpl}")
            continue
        path = PurePosixPath(shared)
        wanted = path.with_name(lq_tmpl.replace("{}", path.stem) + path.suffix).as_posix()
        if wanted in places:
            partners.append(places.pop(wanted))
        else:
            faults.append(f"{name} has no LR picture {wanted} in {roots[1]}")
    faults += [f"{name} in {roots[1]} has no HR picture in {roots[0]}" for name in places]
    if faults:
        raise UserError(_first(faults))
    yield from partners


def _first(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return "; ".join(faults[:NAMED]) + more
