"""CdCL: "Content-decoupled Contrastive Learning-based Implicit Degradation Modeling for Blind Image Super-Resolution"
(IEEE TIP 2025).
"""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.degradation_encoder import DegradationEncoder, map_in_strips
from lightbsr_arch.archs.estimator_init import Init
from lightbsr_arch.archs.fast.row_streams import Strips
from lightbsr_arch.archs.groups_in_strips import groups_in_strips
from lightbsr_arch.archs.idr import MAP_STRIDE, as_map, as_vector
from lightbsr_arch.archs.idr_block import GROUP_NAMES, ConvNeXtBlock
from lightbsr_arch.archs.lightbsrnet_arch import crop
from lightbsr_arch.archs.mean_shift import DF2K_MEAN
from lightbsr_arch.archs.part import Advance, Arguments, Guides, State, count, refuse_extra_input
from lightbsr_arch.archs.residual_restorer import GuidedRestorer

CONVNEXT_HALO = 3  # rows above and below that a depthwise 7x7 convolution depends on
BLOCK_HALO = 2 + CONVNEXT_HALO  # with the two 3x3 convolutions of the spatial gate
REDUCTION = 4  # reduction of channels in the gates, in the predictor, and from the IDR to the channel guide


@ARCH_REGISTRY.register()
class CdCLEncoder(DegradationEncoder):
    """Computes the IDR, a map, from the low-quality image.

    ``projector`` and ``predictor`` are for the contrast in training only; see ``losses/fast_moco_loss.py``.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x 4C x H/4 x W/4, rounded up).
    """

    knows = ("idr",)
    contrast_layers = ("projector", "predictor")

    published_names = (
        (r"E\.(?!encoder\.|predictor\.)", None),  # the momentum encoder of the contrast in training
        (r"E\.encoder\.0\.E\.", "features."),
        (r"E\.encoder\.1\.linear1\.", "projector.0."),
        (r"E\.encoder\.1\.bn1\.", "projector.1."),
        (r"E\.encoder\.1\.linear2\.", "projector.3."),
        (r"E\.encoder\.1\.bn2\.", "projector.4."),
        (r"E\.predictor\.linear1\.", "predictor.0."),
        (r"E\.predictor\.bn1\.", "predictor.1."),
        (r"E\.predictor\.layer2\.", "predictor.3."),
    )

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat, batch_norm=True)
        num_ch, narrow = self.idr_ch, self.idr_ch // REDUCTION
        self.projector = nn.Sequential(
            nn.Linear(num_ch, num_ch),
            nn.BatchNorm1d(num_ch),
            nn.GELU(),
            nn.Linear(num_ch, num_ch),
            nn.BatchNorm1d(num_ch),
        )
        self.predictor = nn.Sequential(
            nn.Linear(num_ch, narrow), nn.BatchNorm1d(narrow), nn.GELU(), nn.Linear(narrow, num_ch)
        )
        self.start(init)

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x 4C x H/4 x W/4 (rounded up), and ``{"idr": its mean, N x 4C}``."""
        refuse_extra_input(self, extra)
        idr = self.features(lq)
        return idr, {"idr": as_vector(idr)}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        return super().from_state(state) if "predictor.0.weight" in state else None

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        return map_in_strips(self.features, lq, rows, advance)


class DegradationConv(nn.Module):
    """Sums two branches. One is gated by the channel guide and then convolved, one is gated by the spatial guide."""

    def __init__(self, num_feat: int, num_spatial: int) -> None:
        super().__init__()
        hidden = max(num_feat // REDUCTION, 1)
        self.channel_gate = nn.Sequential(
            nn.Linear(num_feat, hidden, bias=False), nn.GELU(), nn.Linear(hidden, num_feat, bias=False)
        )
        self.conv = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 1), nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)
        )
        self.spatial_gate = nn.Sequential(
            nn.Conv2d(num_spatial, num_spatial, 3, padding=1), nn.GELU(), nn.Conv2d(num_spatial, 1, 3, padding=1)
        )

    def forward(
        self,
        x: torch.Tensor,
        channel_guide: torch.Tensor,
        spatial_guide: torch.Tensor,
        pooled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Gate features, N x C x H x W. If ``x`` is only a strip, ``pooled``, N x C, is the mean of the whole image."""
        pooled = x.mean(dim=(2, 3)) if pooled is None else pooled
        gate = (self.channel_gate(pooled) + self.channel_gate(channel_guide)).sigmoid()
        out: torch.Tensor = self.conv(x * gate[:, :, None, None]) + x * self.spatial_gate(spatial_guide).sigmoid()
        return out


class CdCLBlock(ConvNeXtBlock):
    """A degradation convolution and a GELU, followed by a ConvNeXt block."""

    def __init__(self, num_feat: int, num_spatial: int) -> None:
        super().__init__(num_feat)
        self.da_conv = DegradationConv(num_feat, num_spatial)

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        channel_guide: torch.Tensor,
        spatial_guide: torch.Tensor,
        pooled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return x + self.residual(F.gelu(self.da_conv(x, channel_guide, spatial_guide, pooled)))


class CdCLGroup(nn.Module):
    """Blocks with guides, a block without guides, and a 3x3 convolution, plus the input."""

    def __init__(self, num_feat: int, num_block: int, num_spatial: int) -> None:
        super().__init__()
        blocks = [CdCLBlock(num_feat, num_spatial) for _ in range(num_block)]
        self.body = nn.ModuleList([*blocks, ConvNeXtBlock(num_feat)])
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: torch.Tensor, channel_guide: torch.Tensor, spatial_guide: torch.Tensor) -> torch.Tensor:
        *blocks, convnext = self.body
        y = x
        for block in blocks:
            y = block(y, channel_guide, spatial_guide)
        out: torch.Tensor = x + self.conv(convnext(y))
        return out


@ARCH_REGISTRY.register()
class CdCLNet(GuidedRestorer):
    """Upscales an image under the guidance of its degradation map. A degradation vector is used as a constant map.

    The published network, CdCL-S, has 6 groups of 6 blocks.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body.
        num_group: number of groups of blocks.
        num_block: number of blocks with guides per group. Each group also has a block without guides.
        idr_ch: channels of the IDR, a multiple of 16.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "CdCL"
    published_names = (
        *GuidedRestorer.published_names,
        (r"G\.afterpixshuffle\.", "refine."),
        (r"(G\..*\.da_conv)\.loc\.avgafter\.", r"\1.channel_gate."),
        (r"(G\..*\.da_conv)\.sig1\.", r"\1.spatial_gate."),
        *GROUP_NAMES,
    )
    knows = ("channel_guide", "spatial_guide")

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_group: int = 6,
        num_block: int = 6,
        idr_ch: int = 256,
        scale: int = 4,
    ) -> None:
        if idr_ch % MAP_STRIDE**2:
            raise ValueError(f"idr_ch must be a multiple of 16, not {idr_ch}")
        num_spatial = idr_ch // MAP_STRIDE**2
        groups = (CdCLGroup(num_feat, num_block, num_spatial) for _ in range(num_group))
        super().__init__(num_in_ch, num_out_ch, num_feat, idr_ch, scale, groups, mean=DF2K_MEAN)
        self.refine = nn.Sequential(
            nn.Conv2d(num_spatial, num_feat, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(num_feat, num_spatial, 3, padding=1),
            nn.GELU(),
        )

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, idr_ch = state["compress.weight"].shape
        return {
            "num_feat": num_feat,
            "num_group": count(state, r"body\.\d+\.conv\.weight"),
            "num_block": count(state, r"body\.0\.body\.\d+\.da_conv\.conv\.0\.weight"),
            "idr_ch": idr_ch,
            "scale": cls.scale_of(state),
        }

    @property
    def converters(self) -> tuple[nn.Module, ...]:  # type: ignore[override]
        return self.compress, self.refine

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the guides of every block for an image of that size.

        Returns:
            ``channel_guide``, N x num_feat, and ``spatial_guide``, N x idr_ch/16 x H x W.
        """
        spatial = self.refine(F.pixel_shuffle(as_map(idr, height, width), MAP_STRIDE))
        return {
            "channel_guide": F.gelu(self.compress(as_vector(idr))),
            "spatial_guide": crop(spatial, height, width),
        }

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        # Channels-last memory, so that the blocks can view tensors with the channels last without a copy.
        return super().forward(lq.contiguous(memory_format=torch.channels_last), guides)

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        halos = BLOCK_HALO, CONVNEXT_HALO
        return groups_in_strips(self, lq, guides, rows, advance, _run, _run, halos)


def _run(block: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = block(*inputs)
    return out
