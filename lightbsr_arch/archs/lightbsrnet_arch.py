"""The restorer of LightBSR (ICCV 2025), section 3.3."""

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.exporting import is_exporting
from lightbsr_arch.archs.idr import MAP_STRIDE, as_map, as_vector
from lightbsr_arch.archs.idr_block import ConvNeXtBlock, IDRBlock, local_and_wide
from lightbsr_arch.archs.mean_shift import RGBMean
from lightbsr_arch.archs.upscale import upscale


class IDRGroup(nn.Module):
    """Refines both guides and hands them on; blocks under them, then a 3x3 convolution, added to the input."""

    def __init__(self, num_feat: int, num_block: int, num_spatial: int) -> None:
        super().__init__()
        num_channel = local_and_wide(num_feat)[1]
        self.refine_channel = nn.Sequential(
            nn.Linear(num_channel, 2 * num_channel), nn.GELU(), nn.Linear(2 * num_channel, num_channel), nn.GELU()
        )
        self.refine_spatial = nn.Sequential(
            nn.Conv2d(num_spatial, 2 * num_spatial, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * num_spatial, num_spatial, 3, padding=1),
            nn.GELU(),
        )
        idr_blocks = [IDRBlock(num_feat, num_spatial) for _ in range(num_block)]
        self.body = nn.ModuleList([*idr_blocks, ConvNeXtBlock(num_feat)])
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(
        self, x: torch.Tensor, channel: torch.Tensor, spatial: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        channel = channel + self.refine_channel(channel)
        spatial = spatial + self.refine_spatial(spatial)
        *idr_blocks, convnext = self.body
        y = x
        for block in idr_blocks:
            y = block(y, channel, spatial, overwrite=y is not x)
        return x + self.conv(convnext(y, overwrite=y is not x)), channel, spatial


@ARCH_REGISTRY.register()
class LightBSRNet(nn.Module):
    """Upscales an image under the guidance of its degradation map, or of a vector, which is a map without detail.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body, a multiple of 8.
        num_group: groups of blocks.
        num_block: IDR blocks a group.
        idr_ch: channels of the IDR, a multiple of 16; LightIDE gives 4 * num_feat, KDIDE num_feat.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    knows = ("channel_guide", "spatial_guide")

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_group: int = 8,
        num_block: int = 8,
        idr_ch: int = 128,
        scale: int = 4,
    ) -> None:
        super().__init__()
        if num_feat % 8 or idr_ch % MAP_STRIDE**2:
            raise ValueError(f"num_feat must be a multiple of 8, not {num_feat}, idr_ch one of 16, not {idr_ch}")
        num_spatial = idr_ch // MAP_STRIDE**2
        self.mean_in, self.mean_out = RGBMean(num_in_ch), RGBMean(num_out_ch)
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.to_channel_guide = nn.Linear(idr_ch, local_and_wide(num_feat)[1], bias=False)
        self.to_spatial_guide = nn.Conv2d(num_spatial, num_spatial, 3, padding=1)
        self.body = nn.ModuleList(IDRGroup(num_feat, num_block, num_spatial) for _ in range(num_group))
        self.after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = Upsample(scale, num_feat)
        self.tail = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.scale = scale
        self.idr_ch = idr_ch

    @property
    def converters(self) -> tuple[nn.Module, ...]:
        """The layers that make the guides of an IDR."""
        return self.to_channel_guide, self.to_spatial_guide

    def guides(self, idr: torch.Tensor, height: int, width: int) -> dict[str, torch.Tensor]:
        """What an IDR means for an image of that size, before the groups refine it; a student imitates its teacher's.

        Returns:
            ``channel_guide``, N x 3/4 num_feat, and ``spatial_guide``, N x idr_ch/16 x H x W.
        """
        spatial = _crop(F.pixel_shuffle(as_map(idr, height, width), MAP_STRIDE), height, width)
        return {
            "channel_guide": F.gelu(self.to_channel_guide(as_vector(idr))),
            "spatial_guide": F.gelu(self.to_spatial_guide(spatial)),
        }

    def forward(self, lq: torch.Tensor, guides: dict[str, torch.Tensor]) -> torch.Tensor:
        channel = guides["channel_guide"]
        spatial = guides["spatial_guide"].contiguous(memory_format=torch.channels_last)
        head = self.head(self.mean_in.subtract(lq)).contiguous(memory_format=torch.channels_last)
        x = head
        for group in self.body:
            x, channel, spatial = group(x, channel, spatial)
        x = head + self.after_body(x)
        return self.mean_out.add(upscale(x, self.upsample, self.tail))


def _crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The top left part of N x C x H x W."""
    if is_exporting():  # a slice would bind the exported network to sizes that 4 divides
        rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
        return x.index_select(2, rows).index_select(3, columns)
    return x[:, :, :height, :width]
