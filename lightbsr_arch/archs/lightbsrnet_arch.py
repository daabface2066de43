"""The restorer of LightBSR (ICCV 2025), section 3.3."""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.exporting import is_exporting
from lightbsr_arch.archs.fast.idr_block import HALO, IDR_BLOCK_HALO, run_convnext_block, run_idr_block
from lightbsr_arch.archs.fast.row_streams import Strips
from lightbsr_arch.archs.groups_in_strips import groups_in_strips
from lightbsr_arch.archs.idr import MAP_STRIDE, as_map, as_vector
from lightbsr_arch.archs.idr_block import GROUP_NAMES, ConvNeXtBlock, IDRBlock, local_and_wide
from lightbsr_arch.archs.part import Advance, Arguments, Guides, State, count
from lightbsr_arch.archs.residual_restorer import SHELL_NAMES, ResidualRestorer


class IDRGroup(nn.Module):
    """Refines both guides, applies blocks with these guides and a 3x3 convolution, and adds the input.

    It also returns the refined guides, for the next group.
    """

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
        blocks: Any = self.body
        *idr_blocks, convnext = blocks
        y = x
        for block in idr_blocks:
            y = run_idr_block(block, y, channel, spatial, overwrite=y is not x)
        return x + self.conv(run_convnext_block(convnext, y, overwrite=y is not x)), channel, spatial


@ARCH_REGISTRY.register()
class LightBSRNet(ResidualRestorer):
    """Upscales an image under the guidance of its degradation map. A degradation vector is repeated as a map.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body, a multiple of 8.
        num_group: number of groups of blocks.
        num_block: number of IDR blocks per group.
        idr_ch: channels of the IDR, a multiple of 16. LightIDE has 4 * num_feat, KDIDE num_feat.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "LightBSR"
    published_names = (
        *SHELL_NAMES,
        (r"G\.compress\.0\.", "to_channel_guide."),
        (r"G\.afterpixshuffle\.0\.", "to_spatial_guide."),
        (r"G\.body\.(\d+)\.ca_change\.avgafter\.", r"body.\1.refine_channel."),
        (r"G\.body\.(\d+)\.xk_change\.sig1\.", r"body.\1.refine_spatial."),
        (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.loc\.avgafter\.", r"\1.channel_gate."),
        (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.spatial_attention\.", r"\1.spatial_gate."),
        (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.partial_conv3\.", r"\1.local_conv."),
        *GROUP_NAMES,
    )
    knows = ("channel_guide", "spatial_guide")
    to_channel_guide: nn.Linear
    to_spatial_guide: nn.Conv2d

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
        if num_feat % 8 or idr_ch % MAP_STRIDE**2:
            raise ValueError(f"num_feat must be a multiple of 8, not {num_feat}, idr_ch one of 16, not {idr_ch}")
        num_spatial = idr_ch // MAP_STRIDE**2
        body = (IDRGroup(num_feat, num_block, num_spatial) for _ in range(num_group))
        super().__init__(num_in_ch, num_out_ch, num_feat, idr_ch, scale, body)

    def make_converters(self, num_feat: int, idr_ch: int) -> dict[str, nn.Module]:
        num_spatial = idr_ch // MAP_STRIDE**2
        return {
            "to_channel_guide": nn.Linear(idr_ch, local_and_wide(num_feat)[1], bias=False),
            "to_spatial_guide": nn.Conv2d(num_spatial, num_spatial, 3, padding=1),
        }

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the initial guides, before the groups refine them. A student imitates its teacher's initial guides.

        Returns:
            ``channel_guide``, N x 3/4 num_feat, and ``spatial_guide``, N x idr_ch/16 x H x W.
        """
        spatial = crop(F.pixel_shuffle(as_map(idr, height, width), MAP_STRIDE), height, width)
        return {
            "channel_guide": F.gelu(self.to_channel_guide(as_vector(idr))),
            "spatial_guide": F.gelu(self.to_spatial_guide(spatial)),
        }

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        channel = guides["channel_guide"]
        spatial = guides["spatial_guide"].contiguous(memory_format=torch.channels_last)
        head = self.first_features(lq).contiguous(memory_format=torch.channels_last)
        x = head
        for group in self.body:
            x, channel, spatial = self.run_part(group, x, channel, spatial)
        return self.image(head + self.after_body(x))

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        return {
            "num_feat": state["head.weight"].shape[0],
            "num_group": count(state, r"body\.(\d+)\.conv\.weight"),
            "num_block": count(state, r"body\.0\.body\.(\d+)\.local_conv\.weight"),
            "idr_ch": state["to_channel_guide.weight"].shape[1],
            "scale": cls.scale_of(state),
        }

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        spatial = guides["spatial_guide"].contiguous(memory_format=torch.channels_last)
        guides = {**guides, "spatial_guide": spatial}
        halos = IDR_BLOCK_HALO, HALO
        return groups_in_strips(self, lq, guides, rows, advance, run_idr_block, run_convnext_block, halos)


def crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the top left part of N x C x H x W."""
    if is_exporting():  # a slice would restrict the exported network to multiples of 4
        rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
        return x.index_select(2, rows).index_select(3, columns)
    return x[:, :, :height, :width]
