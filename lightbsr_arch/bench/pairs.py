"""HR pictures and their LR images. They are the same for every model, on every machine and in every run."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.data.degraded_dataset import DegradedDataset, cut_to_multiples
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import open_pictures
from lightbsr_arch.data.image_io import Picture
from lightbsr_arch.data.pair_dataset import PicturePairs
from lightbsr_arch.degradations import Draws, Parameters, Setting, build_degradation
from lightbsr_arch.degradations.settings import SecondOrderSetting
from lightbsr_arch.seeds import derive_seed

GIVEN_LR = "given LR"
"""Name of the degradation of data sets with their own LR images."""


class Pair(NamedTuple):
    """One LR image with its ground truth and degradation.

    Attributes:
        lq: 1 x 3 x H x W, RGB in [0, 1].
        gt: 1 x 3 x H*scale x W*scale, RGB in [0, 1].
        prior: blur kernel and noise level, an extra input; None if a kernel does not describe the degradation.
    """

    lq: torch.Tensor
    gt: torch.Tensor
    prior: Parameters | None

    def to(self, device: torch.device) -> "Pair":
        prior = None if self.prior is None else self.prior.to(device)
        return Pair(self.lq.to(device), self.gt.to(device), prior)


@dataclass(frozen=True)
class Condition:
    """One of several settings of a degradation, such as sigma 1.8 of Gaussian8.

    Attributes:
        name: its name in tables.
        sigma: width of an isotropic blur without noise, for the axis of a plot; None for other settings.
        digest: digest of all parameters.
        random: whether the LR image also depends on the index of the image, which seeds the draws.
        noise: standard deviation of the noise on the 8-bit scale; None if it is drawn or unknown.
    """

    name: str
    sigma: float | None
    digest: str
    random: bool
    noise: float | None = None


class Pairs:
    """The HR images of one data set under one degradation.

    Args:
        dataset: name of the data set.
        root: its HR images: a folder, or NAME.lmdb.
        degradation: name of the degradation.
        how: a name from the published tables, a list of settings, or the options of a registered degradation, which is
            drawn once per image.
        scale: downsampling factor.
        downsample: method of downsampling for names and settings.
    """

    def __init__(
        self,
        dataset: str,
        root: str,
        degradation: str,
        how: str | list[Setting] | dict[str, Any],
        scale: int,
        downsample: str,
    ) -> None:
        self.dataset, self.degradation, self.scale, self.downsample = dataset, degradation, scale, downsample
        self.source = open_pictures(root)
        self.images = self.source.keys()
        if isinstance(how, dict):
            self._drawn = build_degradation(how, scale)
            if getattr(self._drawn, "num_version", 1) > 1:
                raise UserError(f"{how['type']} makes several versions of each picture; it is for training only")
            digest = _digest(json.dumps(how, sort_keys=True, default=str), scale)
            self.conditions = [Condition(degradation, None, digest, random=True)]
            return
        self._drawn = None
        settings = how if isinstance(how, str) else msgspec.to_builtins(how)
        self._degraded = DegradedDataset(
            {
                "name": dataset,
                "dataroot_gt": root,
                "scale": scale,
                "settings": settings,
                "downsample": downsample,
            },
            self.source,
        )
        self.conditions = [_condition(setting, scale, downsample) for setting in self._degraded.settings]

    def hr(self, index: int) -> Picture:
        """Return one HR picture, H x W x 3 uint8, BGR, cropped to multiples of the scale.

        Raises:
            UserError: the picture cannot be read, or is not larger than the border that metrics leave out.
        """
        return _with_inside(cut_to_multiples(self.source.read(index), self.scale), self.scale)

    def fingerprint(self, index: int, hr: Picture) -> str:
        """Return a digest of all pictures that a figure depends on."""
        return content(hr)

    def make(self, index: int, condition: Condition) -> Pair:
        """Degrade one picture."""
        if self._drawn is None:
            item = self._degraded[self.conditions.index(condition) * len(self.images) + index]
            known = item.get("degradation")
            prior = None if known is None else Parameters(*(part[None] for part in known))
            return Pair(item["lq"][None], item["gt"][None], prior)
        gt = to_tensor(self.hr(index))[None]
        seed = derive_seed(index, *condition.digest.encode())
        degraded = self._drawn(gt, Draws(torch.Generator().manual_seed(seed)))
        return Pair(degraded.lq, degraded.gt, degraded.parameters)


class RealPairs:
    """The images of a data set that has its own LR images. The interface is that of `Pairs`.

    Args:
        dataset: name of the data set.
        pictures: its images.
    """

    degradation = GIVEN_LR
    downsample = "bicubic"  # unused, because published figures have the same LR images

    def __init__(self, dataset: str, pictures: PicturePairs) -> None:
        self.dataset, self.scale, self.pictures = dataset, pictures.scale, pictures
        self.images = pictures.keys()
        self.conditions = [Condition(GIVEN_LR, None, _digest(GIVEN_LR), random=False)]

    def hr(self, index: int) -> Picture:
        """Return one HR picture as `Pairs.hr` does, cropped to ``scale`` times the size of the LR picture."""
        return _with_inside(self.pictures.read(index)[0], self.scale)

    def fingerprint(self, index: int, hr: Picture) -> str:
        return _digest(content(hr), content(self.pictures.read(index)[1]))

    def make(self, index: int, condition: Condition) -> Pair:
        """Read one pair."""
        gt, lq = self.pictures.read(index)
        return Pair(to_tensor(lq)[None], to_tensor(gt)[None], None)


def _with_inside(image: Picture, scale: int) -> Picture:
    """Return the picture. Raise `UserError` if it is not larger than the border that metrics leave out."""
    if min(image.shape[:2]) <= 2 * scale:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise UserError(f"{size} pixels, not larger than a border of {scale}; leave it out")
    return image


def content(picture: Picture) -> str:
    """Return a digest of a picture's pixels."""
    return _digest(picture.shape, np.ascontiguousarray(picture).tobytes())


def _condition(setting: Setting | SecondOrderSetting, scale: int, downsample: str) -> Condition:
    if isinstance(setting, SecondOrderSetting):
        return Condition(setting.name, None, _digest(setting.name, scale), setting.random)
    plain = not isinstance(setting.sigma, tuple) and not setting.noise
    digest = _digest(msgspec.json.encode(setting), scale, downsample)
    sigma = setting.sigma if plain else None
    return Condition(setting.name, sigma, digest, setting.random, setting.noise)  # type: ignore[arg-type]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(
        b"\0".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)
    ).hexdigest()
