"""Training images for models that degrade on the fly: random crops of ground truth."""

import random
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from basicsr.data.transforms import augment
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from lightbsr.errors import UserError
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.data.image_io import Picture
from lightbsr_arch.option_types import DatasetOptions

CHECKED = 10_000
"""Number of pictures whose size is checked before training. Checking more takes too long on some disks."""


def to_tensor(image: Picture) -> torch.Tensor:
    """Convert H x W x 3 uint8 in BGR to 3 x H x W float in RGB, [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).float().div_(255)


@DATASET_REGISTRY.register()
class GTDataset(Dataset[dict[str, Any]]):
    """Random crops, flips and quarter turns of ground-truth images from a folder or BasicSR's LMDB.

    An item is ``{"gt": 3 x gt_size x gt_size float RGB in [0, 1], "gt_path": key}``. With several patches per item,
    ``gt`` is P x 3 x gt_size x gt_size, and models treat the patches as P samples. Random numbers come from Python's
    ``random``. ``basicsr train`` seeds it for every sample by the position of the sample in the run.
    """

    class Options(DatasetOptions, kw_only=True):
        gt_size: Annotated[int, msgspec.Meta(ge=8, description="side of the crop in ground-truth pixels")]
        use_hflip: Annotated[bool, msgspec.Meta(description="flip half of the crops left to right")] = True
        use_rot: Annotated[bool, msgspec.Meta(description="turn crops by a random multiple of 90 degrees")] = True
        patches_per_item: Annotated[
            int, msgspec.Meta(ge=1, description="crops per image; they are neighbours in the batch, which grows")
        ] = 1
        cache_gb: Annotated[
            float, msgspec.Meta(ge=0, description="memory for decoded images, shared by all workers, in GB")
        ] = 0.0

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.gt_size: int = opt["gt_size"]
        self.patches_per_item: int = opt.get("patches_per_item", 1)
        self.source = GTSource(opt["dataroot_gt"], opt["io_backend"]["type"], opt.get("cache_gb", 0.0))
        self.keys = self.source.keys()
        for index in range(min(len(self), CHECKED)):
            self._check_size(index)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        height, width = self._check_size(index)
        size = self.gt_size
        corners = [
            (random.randint(0, height - size), random.randint(0, width - size)) for _ in range(self.patches_per_item)
        ]
        flip, rotate = self.opt.get("use_hflip", True), self.opt.get("use_rot", True)
        crops = [to_tensor(augment(crop, flip, rotate)) for crop in self.source.read_crops(index, corners, size)]
        return {"gt": crops[0] if len(crops) == 1 else torch.stack(crops), "gt_path": self.keys[index]}

    def _check_size(self, index: int) -> tuple[int, int]:
        height, width = self.source.shape(index)
        if min(height, width) < self.gt_size:
            raise UserError(
                f"{self.keys[index]} in {self.opt['dataroot_gt']} has {width}x{height} pixels, "
                f"gt_size is {self.gt_size}: leave the image out or lower gt_size"
            )
        return height, width
