"""Test images that are degraded on the fly with a list of settings, reproducibly."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Annotated, Any

import msgspec
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from lightbsr.defaults import NamedSetting
from lightbsr.errors import UserError
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.data.image_io import Picture
from lightbsr_arch.data.picture_files import flat_names
from lightbsr_arch.degradations.classical import Downsample, Parameters
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.settings import SecondOrderSetting, Setting, named_settings
from lightbsr_arch.option_types import DatasetOptions
from lightbsr_arch.seeds import derive_seed


@DATASET_REGISTRY.register()
class DegradedDataset(Dataset[dict[str, Any]]):
    """Every ground-truth image under every setting, as items that BasicSR's validation loop accepts.

    An item is ``{"lq", "gt": 3 x H x W float RGB in [0, 1], "lq_path": "NAME_SETTING.png", "gt_path": KEY,
    "degradation": its kernel and noise level}``. The last entry is missing if kernel and noise level do not describe
    the degradation. Images are cut to multiples of the scale. Random draws depend only on the image's index and the
    setting, so that every model on every machine sees the same pictures.
    """

    class Options(DatasetOptions, kw_only=True):
        settings: Annotated[
            NamedSetting | list[Setting],
            msgspec.Meta(
                description="test degradations: a name from the published tables, second-order (Real-ESRGAN's, drawn "
                "once per image), or a list of your own"
            ),
        ]
        downsample: Annotated[Downsample, msgspec.Meta(description="s-fold takes every scale-th pixel")] = "bicubic"
        cache_gb: Annotated[float, msgspec.Meta(ge=0, description="memory for decoded images in GB")] = 0.0

    def __init__(self, opt: dict[str, Any], source: GTSource | None = None) -> None:
        """Open the images of ``dataroot_gt``, unless ``source`` holds them already."""
        super().__init__()
        self.opt = opt
        self.scale: int = opt["scale"]
        settings = msgspec.convert(opt["settings"], str | list[Setting])
        self.settings: Sequence[Setting | SecondOrderSetting] = (
            [SecondOrderSetting()] if settings == SecondOrderSetting.name else named_settings(settings, self.scale)
        )
        if source is None:
            source = GTSource(opt["dataroot_gt"], opt["io_backend"]["type"], opt.get("cache_gb", 0.0))
        self.source = source
        self.keys = self.source.keys()
        self._saved_names = flat_names(self.keys)

    def by_setting(self) -> Iterator["DegradedDataset"]:
        """Return one data set per setting, named "NAME/SETTING", on the same images."""
        for setting in self.settings:
            view = copy(self)
            view.settings = [setting]
            view.opt = {**self.opt, "name": f"{self.opt['name']}/{setting.name}"}
            yield view

    def __len__(self) -> int:
        return len(self.source) * len(self.settings)

    def __getitem__(self, index: int) -> dict[str, Any]:
        which, setting = index % len(self.source), self.settings[index // len(self.source)]
        key = self.keys[which]
        image = self.source.read(which)
        draws = Draws(torch.Generator().manual_seed(derive_seed(which, *setting.name.encode())))
        try:
            gt = to_tensor(cut_to_multiples(image, self.scale))
            degraded = setting.degrade(gt[None], self.scale, self.opt.get("downsample", "bicubic"), draws)
        except UserError as error:
            raise UserError(f"{key} in {self.opt['dataroot_gt']}: {error}") from None
        # BasicSR names saved pictures after the last part of this path, without its extension.
        saved = f"{self._saved_names[which]}_{setting.name}.png"
        item = {"lq": degraded.lq[0], "gt": gt, "lq_path": saved, "gt_path": key}
        if degraded.parameters is not None:
            item["degradation"] = Parameters(*(of_batch[0] for of_batch in degraded.parameters))
        return item


def cut_to_multiples(image: Picture, scale: int) -> Picture:
    """Cut H x W x C to multiples of the scale, from the top left. Raise `UserError` if nothing is left."""
    height, width = (size - size % scale for size in image.shape[:2])
    if not height * width:
        raise UserError(f"{image.shape[1]}x{image.shape[0]} pixels, too small for x{scale}; leave it out")
    return image[:height, :width]
